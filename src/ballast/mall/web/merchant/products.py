"""``/merchant/<slug>/products``: the list, and many products changed at once."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from ballast.mall import categories, product_list
from ballast.mall.db import Connection, Database
from ballast.mall.product_list import LOW, SORTS, Wanted
from ballast.mall.product_record import STATUSES
from ballast.mall.rules import repricing
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import inside, with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, ids, optional_id, root
from ballast.mall.web.merchant.frame import merchant_page

_Text = Annotated[str, QueryParameter(max_length=100)]


@get("/products", opt=needs(Permission.SEE_PRODUCTS))
async def list_products(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    q: _Text = "",
    status: _Text = "",
    category: _Text = "",
    low: FromQuery[bool] = False,
    sort: _Text = "",
    after: _Text = "",
) -> Response[str]:
    """The list."""
    return await _list(request, shop_visit, db, wanted_of(q, status, category, low, sort), after)


@post("/products/bulk", opt=needs(Permission.EDIT_PRODUCTS))
async def change_many(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """What is chosen of a page's products."""
    sent = await form(request)
    back = inside(sent.text("back", 1000), f"{root(shop_visit)}/products")

    async def work(connection: Connection) -> None:
        await _change(connection, sent, ids(sent.texts("product")), shop_visit)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _list(request, shop_visit, db, Wanted(), "", error),
        f"{back}{'&' if '?' in back else '?'}said=saved",
    )


def wanted_of(q: str, status: str, category: str, low: bool, sort: str) -> Wanted:
    """What the list is asked for by its address; what it does not know is left out."""
    return Wanted(
        q,
        status if status in STATUSES else "",
        optional_id(category),
        LOW if low else None,
        sort if sort in SORTS else "newest",
    )


async def _change(connection: Connection, sent: Form, chosen: list[UUID], shop_visit: ShopVisit) -> None:
    by, act = deed_of(shop_visit), sent.text("act")
    match act:
        case "into" | "out_of":
            category = optional_id(sent.text("category"))
            if category is None:
                raise Refused("category.unknown", "No category is chosen.", "Choose one.")
            await product_list.categorise(connection, chosen, category, by, take_out=act == "out_of")
        case "percent" | "yuan":
            await product_list.reprice(connection, chosen, repricing.read(act, sent.text("amount")), by)
        case _:
            await product_list.set_status(connection, chosen, act, by)


async def _list(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    wanted: Wanted,
    after: str,
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        page = await product_list.listed(connection, wanted, after)
        found = await categories.all_of(connection)
    return merchant_page(
        request,
        "products.html",
        shop_visit,
        refused,
        wanted=wanted,
        page=page,
        low=LOW,
        sorts=SORTS,
        statuses=STATUSES,
        tree=categories.tree(found),
        filtered=wanted != Wanted(sort=wanted.sort),
        back=with_query(request, said=None) if request.method == "GET" else f"{root(shop_visit)}/products",
        first=with_query(request, after=None, said=None) if after else "",
        later=with_query(request, after=page.after, said=None) if page.after else "",
        export=with_query(request, after=None, said=None).partition("?")[2],
        may_edit=shop_visit.may(Permission.EDIT_PRODUCTS),
    )


HANDLERS = [list_products, change_many]
