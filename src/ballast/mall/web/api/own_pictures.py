"""For a shop's own software: pictures sent, and those that the shop has. A product names them in its `pictures`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.di import NamedDependency

from ballast.mall import pictures as kept
from ballast.mall import products
from ballast.mall.db import Database
from ballast.mall.pictures import Picture, Pictures
from ballast.mall.product_record import Deed
from ballast.mall.rules.pictures import FORMATS, MOST_BYTES
from ballast.mall.web.api.answers import cursor_of, cut, next_link, read_cursor
from ballast.mall.web.api.calls import Cursor, KeyCall, Limit
from ballast.mall.web.api.own_shapes import PictureInfo, PicturePage

TAKES = tuple(f"image/{one.lower()}" for one in FORMATS)


@post("/pictures", opt={"scope": "products.write", "takes": TAKES}, request_max_body_size=MOST_BYTES)
async def send_picture(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    pictures: NamedDependency[Pictures],
) -> PictureInfo:
    """A JPEG, PNG, WebP or GIF as the body, 10 MB and 40 million pixels at most. It is turned as it was taken, made smaller and
    stripped of all that is not picture; its name follows from that, so that the same file sent twice is one picture."""
    shop_id = call.holder.shop_id
    async with db.shop(shop_id) as connection:
        await kept.room(connection)
    made = await pictures.keep(shop_id, request.body)
    async with db.shop(shop_id) as connection:
        await kept.room(connection, made.size_bytes)
        await kept.note(connection, made)
        deed = Deed(shop_id, call.holder.by(call.address), call.now)
        await products.note(connection, deed, "pictures.added", "", pictures=1)
    return _shown(shop_id, made)


@get("/pictures", opt={"scope": "products.read"})
async def list_own_pictures(
    request: Request[Any, Any, Any],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    cursor: Cursor = None,
    limit: Limit = 20,
) -> PicturePage:
    """The shop's pictures, the newest first."""
    place = read_cursor(cursor, tuple[str])
    async with db.shop(call.holder.shop_id) as connection:
        found = await kept.listed(connection, place[0] if place else "", limit + 1)
    page, last = cut(found, limit)
    shown = tuple(_shown(call.holder.shop_id, one) for one in page)
    return PicturePage(shown, next_link(request, cursor_of(last.picture) if last else None))


def _shown(shop_id: UUID, one: Picture) -> PictureInfo:
    return PictureInfo(one.picture, f"/pictures/{shop_id}/{one.picture}", one.width, one.height, one.size_bytes)


HANDLERS = [send_picture, list_own_pictures]
