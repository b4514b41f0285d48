"""``/merchant``: the shops in which one works; ``/merchant/<slug>``: one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Redirect

from ballast.mall import dashboard, staff
from ballast.mall.db import Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.web.guard import ShopVisit, Visit, needs
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.shell import Entry, Menu, admin_page, spoken
from ballast.mall.web.texts import translator


@get("/")
async def my_shops(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[Any]:
    """Which of them; straight to the only one."""
    async with db.identity() as connection:
        shops = await staff.memberships(connection, visit.session.account_id)
    if len(shops) == 1:
        return Redirect(f"/merchant/{shops[0].slug}", status_code=303)
    return admin_page(
        request,
        "merchant/shops.html",
        menu=Menu(visit.session.name, "/merchant", (Entry("admin.menu.my_shops", "/merchant", "shopping-bag"),)),
        session=visit.session,
        shops=[(one, one.standing(visit.now).value) for one in shops],
    )


@get("/", opt=needs(Permission.SEE_DASHBOARD))
async def shop_home(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """How the shop is doing, over 7 days or, with ``?days=30``, over 30; and what waits to be done."""
    days = 30 if request.query_params.get("days") == "30" else 7
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await dashboard.read(connection, shop_visit.visit.now, days)
    t = translator(spoken(request, shop_visit.visit.session))
    by_day = _chart(t, [f"{one.day:%m-%d}" for one in found.days], [one.figures for one in found.days])
    by_hour = _chart(t, [f"{one.hour:02}:00" for one in found.hours], [one.today for one in found.hours])
    return merchant_page(
        request,
        "home.html",
        shop_visit,
        found=found,
        days=days,
        by_day=by_day,
        by_hour=by_hour,
        few=dashboard.FEW,
        counted=dashboard.COUNTED,
        sees_orders=shop_visit.may(Permission.SEE_ORDERS),
        # An address may hold a secret of who listens there: shown to who manages the shop, mended by who may.
        stopped=found.stopped_webhooks if shop_visit.may(Permission.SEE_AUDIT) else (),
        may_mend=shop_visit.may(Permission.EDIT_KEYS),
    )


def _chart(t: Callable[..., str], labels: list[str], figures: Sequence[dashboard.Figures]) -> str:
    chart = {
        "labels": labels,
        "bars": {"label": t("trade.dash.sales_yuan"), "values": [one.sales_fen / 100 for one in figures]},
        "line": {"label": t("trade.dash.orders"), "values": [one.orders for one in figures]},
    }
    return msgspec.json.encode(chart).decode()
