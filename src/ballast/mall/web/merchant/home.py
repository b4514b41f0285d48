"""``/merchant``: the shops in which one works; ``/merchant/<slug>``: one of them."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.response import Redirect

from ballast.mall import staff
from ballast.mall.db import Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.web.guard import ShopVisit, Visit, needs
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.shell import Entry, Menu, admin_page


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
async def shop_home(request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit]) -> Response[str]:
    """What the shop is, and how it stands."""
    return merchant_page(request, "home.html", shop_visit)
