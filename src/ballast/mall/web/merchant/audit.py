"""``/merchant/<slug>/audit``: who did what in the shop."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from ballast.mall import audit
from ballast.mall.db import Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.web.address import with_query
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page

_A_PAGE = 50
KINDS = (
    "product",
    "stock",
    "order",
    "refund",
    "coupon",
    "reduction",
    "limited",
    "page",
    "shipping",
    "settings",
    "staff",
    "webhook",
    "key",
    "shop",
)
"""What actions begin with."""


@get("/audit", opt=needs(Permission.SEE_AUDIT))
async def audit_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    kind: Annotated[str, QueryParameter(max_length=20)] = "",
    actor: Annotated[str, QueryParameter(max_length=200)] = "",
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """The newest first; of one kind, by one person, or both."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        lines = await audit.shop_lines(
            connection,
            shop_visit.shop.shop_id,
            action=kind if kind in KINDS else "",
            actor=actor.strip(),
            before=before,
            most=_A_PAGE + 1,
        )
    return merchant_page(
        request,
        "shop/audit.html",
        shop_visit,
        lines=lines[:_A_PAGE],
        kind=kind,
        kinds=KINDS,
        actor=actor,
        older=with_query(request, before=str(lines[_A_PAGE - 1].audit_id)) if len(lines) > _A_PAGE else "",
    )


HANDLERS = [audit_page]
