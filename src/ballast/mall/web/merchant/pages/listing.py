"""``/merchant/<slug>/pages``: which pages there are; another one."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency

from ballast.mall import pages
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.typed import filled, whole_or_none


@get("/pages", opt=needs(Permission.EDIT_PAGES))
async def pages_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """All of them, and the form of a new one."""
    return await _list(request, shop_visit, db, filled({}))


@post("/pages", opt=needs(Permission.EDIT_PAGES))
async def add_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new one, empty; on to its editor."""
    sent = await form(request)

    async def work(connection: Connection) -> object:
        # The home page has no address of its own; a shop without one makes it by this form's other button.
        slug = "" if sent.text("act") == "home" else (sent.text("slug", 100) or " ")
        return await pages.add(
            connection, shop_visit.shop.shop_id, slug, about(sent), shop_visit.by, shop_visit.visit.now
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _list(request, shop_visit, db, sent, error),
        lambda page_id: f"{root(shop_visit)}/pages/{page_id}",
    )


def about(sent: Form) -> pages.About:
    """What the form says of a page."""
    return pages.About(
        sent.text("title", 100),
        sent.text("title_en", 100),
        bool(sent.text("in_menu")),
        whole_or_none(sent, "position") or 0,
    )


async def _list(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, sent: Form, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await pages.pages(connection)
    has_home = any(not one.slug for one in found)
    return merchant_page(request, "pages/list.html", shop_visit, refused, pages=found, sent=sent, has_home=has_home)


HANDLERS = [pages_page, add_page]
