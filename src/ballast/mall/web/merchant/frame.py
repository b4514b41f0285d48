"""A shop's pages in the admin frame."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Standing
from ballast.mall.web.guard import ShopVisit
from ballast.mall.web.render import page, when
from ballast.mall.web.shell import Entry, Menu, admin_page, spoken
from ballast.mall.web.texts import translator

# Groups in the order of a merchant's day; of each line its text, path below the shop's, icon, and what one must be allowed.
_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str, Permission], ...]], ...] = (
    ("", (("merchant.menu.home", "", "layout-dashboard", Permission.SEE_DASHBOARD),)),
    (
        "merchant.menu.trade",
        (
            ("trade.menu.orders", "/orders", "receipt", Permission.SEE_ORDERS),
            ("trade.menu.refunds", "/refunds", "receipt-refund", Permission.SEE_ORDERS),
            ("exceptions.menu", "/exceptions", "lifebuoy", Permission.SEE_ORDERS),
            ("trade.menu.books", "/books", "report-money", Permission.SEE_BOOKS),
        ),
    ),
    (
        "merchant.menu.goods",
        (
            ("goods.menu.products", "/products", "package", Permission.SEE_PRODUCTS),
            ("goods.menu.categories", "/categories", "sitemap", Permission.SEE_PRODUCTS),
            ("goods.menu.stock", "/stock", "building-warehouse", Permission.SEE_PRODUCTS),
            ("goods.menu.pictures", "/pictures", "photo", Permission.SEE_PRODUCTS),
        ),
    ),
    (
        "merchant.menu.sales",
        (
            ("trade.menu.customers", "/customers", "user-heart", Permission.SEE_CUSTOMERS),
            ("selling.menu", "/promotions", "discount", Permission.EDIT_PROMOTIONS),
            ("gift.menu", "/gift-cards", "gift-card", Permission.SEE_GIFT_CARDS),
            ("decor.menu", "/pages", "layout", Permission.EDIT_PAGES),
        ),
    ),
    (
        "merchant.menu.shop",
        (
            ("shop.menu.settings", "/settings", "settings", Permission.EDIT_SETTINGS),
            ("shop.menu.shipping", "/shipping", "truck-delivery", Permission.EDIT_SETTINGS),
            ("shop.menu.staff", "/staff", "users", Permission.EDIT_STAFF),
            ("shop.menu.audit", "/audit", "history", Permission.SEE_AUDIT),
            ("keys.menu", "/keys", "key", Permission.EDIT_KEYS),
            ("shop.menu.webhooks", "/webhooks", "webhook", Permission.EDIT_KEYS),
        ),
    ),
)


def root(shop_visit: ShopVisit) -> str:
    """Where the shop's admin begins."""
    return f"/merchant/{shop_visit.shop.slug}"


def refused_page(request: Request[Any, Any, Any], error: Refused) -> Response[str]:
    """For refusals that no form shows itself: what a page is about is not there, or not this shop's, which is the same."""
    return page(request, "common/error.html", status=404, name="common.error.missing", code=404)


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
    home = root(shop_visit)
    entries = tuple(
        Entry(text, home + below, icon, group)
        for group, lines in _GROUPS
        for text, below, icon, permission in lines
        if shop_visit.may(permission)
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
        menu=Menu(shop.name, home, entries),
        session=shop_visit.visit.session,
        refused=refused,
        warning=warning,
        shop=shop,
        standing=standing.value,
        shop_visit=shop_visit,
        **context,
    )
