"""A shop's pages in the admin frame."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Standing
from ballast.mall.web.guard import ShopVisit
from ballast.mall.web.render import when
from ballast.mall.web.shell import Entry, Menu, admin_page, spoken
from ballast.mall.web.texts import translator

# Text, path below the shop's, icon, and what one must be allowed so that it is shown.
_ENTRIES: tuple[tuple[str, str, str, Permission], ...] = (
    ("merchant.menu.home", "", "layout-dashboard", Permission.SEE_DASHBOARD),
    ("keys.menu", "/keys", "key", Permission.EDIT_KEYS),
    ("trade.menu.orders", "/orders", "receipt", Permission.SEE_ORDERS),
    ("trade.menu.refunds", "/refunds", "receipt-refund", Permission.SEE_ORDERS),
    ("trade.menu.customers", "/customers", "users", Permission.SEE_CUSTOMERS),
    ("trade.menu.books", "/books", "report-money", Permission.SEE_BOOKS),
    ("goods.menu.products", "/products", "package", Permission.SEE_PRODUCTS),
    ("goods.menu.categories", "/categories", "sitemap", Permission.SEE_PRODUCTS),
    ("goods.menu.stock", "/stock", "building-warehouse", Permission.SEE_PRODUCTS),
    ("goods.menu.pictures", "/pictures", "photo", Permission.SEE_PRODUCTS),
)


def merchant_page(
    request: Request[Any, Any, Any],
    template: str,
    shop_visit: ShopVisit,
    refused: Refused | None = None,
    **context: Any,
) -> Response[str]:
    """A page of a shop. Above it stands what the shop may not do just now, and why."""
    shop, standing = shop_visit.shop, shop_visit.standing
    t = translator(spoken(request, shop_visit.visit.session))
    root = f"/merchant/{shop.slug}"
    entries = tuple(
        Entry(text, root + below, icon) for text, below, icon, permission in _ENTRIES if shop_visit.may(permission)
    )
    warning = ""
    if standing is not Standing.OPEN:
        warning = t(
            f"merchant.standing.{standing.value}",
            reason=shop.status_reason or "",
            until=when(shop.closing_at, "%Y-%m-%d"),
        )
    return admin_page(
        request,
        f"merchant/{template}",
        menu=Menu(shop.name, root, entries),
        session=shop_visit.visit.session,
        refused=refused,
        warning=warning,
        shop=shop,
        standing=standing.value,
        shop_visit=shop_visit,
        **context,
    )
