"""``/platform``: how the whole is doing."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency

from ballast.mall import figures, platform
from ballast.mall.db import Database
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page
from ballast.mall.web.shell import spoken
from ballast.mall.web.texts import translator


@get("/")
async def overview(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[str]:
    """Figures, and a chart of the last thirty days."""
    async with db.platform() as connection:
        found = await figures.overview(connection, visit.now)
        ending, _ = await platform.shops(connection, platform.Wanted(status="open", ending_days=30), 1, visit.now)
    t = translator(spoken(request, visit.session))
    chart = {
        "labels": [f"{one.day:%m-%d}" for one in found.days],
        "bars": {"label": t("platform.figure.gmv_yuan"), "values": [one.gmv_fen / 100 for one in found.days]},
        "line": {"label": t("platform.figure.orders"), "values": [one.orders for one in found.days]},
    }
    return platform_page(
        request,
        "overview.html",
        visit,
        figures=found,
        total_shops=sum(found.shops.values()),
        gmv_30=sum(one.gmv_fen for one in found.days),
        orders_30=sum(one.orders for one in found.days),
        ending=ending[:8],
        chart=msgspec.json.encode(chart).decode(),
    )


HANDLERS = [overview]
