"""The pictures of a product: sent, put into order, taken out."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, post
from litestar.datastructures import UploadFile
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ballast.mall import pictures as kept
from ballast.mall import products
from ballast.mall.db import Connection, Database
from ballast.mall.pictures import Picture, Pictures
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.pictures import MOST_BYTES, MOST_OF_PRODUCT
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.desk import deed_of, files, root
from ballast.mall.web.merchant.product import show

MOST_BODY = 24 << 20
"""Of a form with pictures; all others stay at the application's limit."""


@post("/products/{product_id:uuid}/pictures", opt=needs(Permission.EDIT_PRODUCTS), request_max_body_size=MOST_BODY)
async def send(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
    pictures: NamedDependency[Pictures],
) -> Response[Any]:
    """More pictures, after those that it has. No connection is held while they are worked on."""
    shop_id = shop_visit.shop.shop_id
    try:
        async with db.shop(shop_id) as connection:
            if await products.get(connection, product_id) is None:
                raise NotFoundException
            await kept.room(connection)
        sent = files((await request.form()).getall("file", []))
        if len(sent) > MOST_OF_PRODUCT:
            raise Refused("product.pictures", "Too many pictures.", "Send fewer.", most=MOST_OF_PRODUCT)
        made = await keep_all(pictures, shop_id, sent)
    except Refused as error:
        return await show(request, shop_visit, db, product_id, error)

    async def work(connection: Connection) -> None:
        await products.hold(connection, product_id, None)
        await kept.room(connection, sum(one.size_bytes for one in made))
        for one in made:
            await kept.note(connection, one)
        product = await products.get(connection, product_id)
        before = product.pictures if product else ()
        await products.set_pictures(
            connection, product_id, None, [*before, *(one.picture for one in made)], deed_of(shop_visit)
        )

    return await deed(
        db.shop(shop_id),
        work,
        lambda error: show(request, shop_visit, db, product_id, error),
        f"{root(shop_visit)}/products/{product_id}?said=saved#pictures",
    )


async def keep_all(pictures: Pictures, shop_id: UUID, sent: list[UploadFile]) -> list[Picture]:
    """The files of a form into the store, one after the other. Refused: none, or one that is no picture."""
    if not sent:
        raise Refused("picture.none", "No file was chosen.", "Choose one.")
    return [await pictures.keep(shop_id, partial(one.read, MOST_BYTES + 1)) for one in sent]


@post("/products/{product_id:uuid}/pictures/order", opt=needs(Permission.EDIT_PRODUCTS))
async def order(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    product_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """``picture``: all of them in their order; ``first`` puts one in front, ``remove`` takes one out."""
    sent = await form(request)
    wanted = sent.texts("picture")
    if (first := sent.text("first")) in wanted:
        wanted = [first, *(one for one in wanted if one != first)]
    if (gone := sent.text("remove")) in wanted:
        wanted = [one for one in wanted if one != gone]
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        lambda c: products.set_pictures(c, product_id, sent.number("version"), wanted, deed_of(shop_visit)),
        lambda error: show(request, shop_visit, db, product_id, error),
        f"{root(shop_visit)}/products/{product_id}?said=saved#pictures",
    )


HANDLERS = [send, order]
