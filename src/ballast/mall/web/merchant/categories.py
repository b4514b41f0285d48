"""``/merchant/<slug>/categories``: the tree, and its categories changed and moved."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import categories
from ballast.mall.categories import Written
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, optional_id, root
from ballast.mall.web.merchant.frame import merchant_page

_EDIT = needs(Permission.EDIT_PRODUCTS)


@get("/categories", opt=needs(Permission.SEE_PRODUCTS))
async def tree_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """The tree."""
    return await _tree(request, shop_visit, db)


@post("/categories", opt=_EDIT)
async def add(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new one."""
    sent = await form(request)
    category_id = sent.id("category_id")
    written = _written(sent)
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        lambda c: categories.add(c, category_id, written, deed_of(shop_visit)),
        lambda error: _tree(request, shop_visit, db, error, written),
        f"{root(shop_visit)}/categories?said=saved",
    )


@post("/categories/{category_id:uuid}", opt=_EDIT)
async def change(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    category_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """``act``: save, up, down or remove."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        by = deed_of(shop_visit)
        match sent.text("act"):
            case "up" | "down" as way:
                await categories.move(connection, category_id, -1 if way == "up" else 1, by)
            case "remove":
                await categories.remove(connection, category_id, by)
            case _:
                await categories.change(connection, category_id, _written(sent), by)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _tree(request, shop_visit, db, error),
        f"{root(shop_visit)}/categories?said=saved",
    )


async def _tree(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    written: Written | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await categories.all_of(connection)
    return merchant_page(
        request,
        "categories.html",
        shop_visit,
        refused,
        tree=categories.tree(found),
        written=written or Written(""),
        category_id=new_id(),
        may_edit=shop_visit.may(Permission.EDIT_PRODUCTS),
    )


def _written(sent: Form) -> Written:
    return Written(
        sent.text("name"), sent.text("name_en"), optional_id(sent.text("parent")), sent.text("visible") == "true"
    )


HANDLERS = [tree_page, add, change]
