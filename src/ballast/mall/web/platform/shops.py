"""``/platform/shops``: found by name, address, id or an order's number; filtered; page by page."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from ballast.mall import platform
from ballast.mall.db import Database
from ballast.mall.rules.standing import Standing
from ballast.mall.web.address import with_query
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page, terms

_Text = Annotated[str, QueryParameter(max_length=100)]


@get("/shops")
async def list_shops(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
    q: _Text = "",
    status: _Text = "",
    plan: _Text = "",
    industry: _Text = "",
    ending: FromQuery[bool] = False,
    page: Annotated[int, QueryParameter(ge=1, le=100_000)] = 1,
) -> Response[str]:
    """The list."""
    wanted = platform.Wanted(q, status, plan, industry, 30 if ending else None)
    async with db.platform() as connection:
        found, matching = await platform.shops(connection, wanted, page, visit.now)
        orders = await platform.orders_by_number(connection, q) if q else []
        plans, industries = await terms(connection)
    pages = max(1, -(-matching // platform.A_PAGE))
    return platform_page(
        request,
        "shops.html",
        visit,
        wanted=wanted,
        shops=found,
        orders=orders,
        matching=matching,
        page=page,
        pages=pages,
        earlier=with_query(request, page=page - 1, said=None) if page > 1 else "",
        later=with_query(request, page=page + 1, said=None) if page < pages else "",
        plans=plans,
        industries=industries,
        statuses=[one.value for one in Standing if one is not Standing.LAPSED],
    )


HANDLERS = [list_shops]
