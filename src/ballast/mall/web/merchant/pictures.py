"""``/merchant/<slug>/pictures``: the shop's pictures, those of no product too: for its pages, its logo."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from ballast.mall import pictures as kept
from ballast.mall import products
from ballast.mall.db import Connection, Database
from ballast.mall.pictures import Pictures
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.pictures import MOST_BYTES, MOST_OF_PRODUCT
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, files, root
from ballast.mall.web.merchant.frame import merchant_page
from ballast.mall.web.merchant.product_pictures import MOST_BODY, keep_all

_A_PAGE = 48


@get("/pictures", opt=needs(Permission.SEE_PRODUCTS))
async def list_pictures(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    before: Annotated[str, QueryParameter(max_length=64)] = "",
) -> Response[str]:
    """The newest first."""
    return await _list(request, shop_visit, db, before)


@post("/pictures", opt=needs(Permission.EDIT_PRODUCTS), request_max_body_size=MOST_BODY)
async def send(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    pictures: NamedDependency[Pictures],
) -> Response[Any]:
    """More of them."""
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            await kept.room(connection)
        sent = files((await request.form()).getall("file", []))
        made = await keep_all(pictures, shop_visit.shop.shop_id, sent)
    except Refused as error:
        return await _list(request, shop_visit, db, "", error)

    async def work(connection: Connection) -> None:
        await kept.room(connection, sum(one.size_bytes for one in made))
        for one in made:
            await kept.note(connection, one)
        await products.note(connection, deed_of(shop_visit), "pictures.added", "", pictures=len(made))

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _list(request, shop_visit, db, "", error),
        f"{root(shop_visit)}/pictures?said=saved",
    )


async def _list(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    before: str,
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await kept.listed(connection, before, _A_PAGE + 1)
    return merchant_page(
        request,
        "pictures.html",
        shop_visit,
        refused,
        pictures=found[:_A_PAGE],
        first=with_query(request, before=None, said=None) if before else "",
        later=with_query(request, before=found[_A_PAGE - 1].picture, said=None) if len(found) > _A_PAGE else "",
        most_megabytes=MOST_BYTES >> 20,
        most_pictures=MOST_OF_PRODUCT,
        most_together=MOST_BODY >> 20,
        may_edit=shop_visit.may(Permission.EDIT_PRODUCTS),
    )


HANDLERS = [list_pictures, send]
