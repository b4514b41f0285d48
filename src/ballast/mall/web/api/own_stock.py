"""For a shop's own software: what its key opens, and the stock of its SKUs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from ballast.mall import idempotency, stock
from ballast.mall.db import Connection, Database
from ballast.mall.rules.refused import Refused
from ballast.mall.web.api.answers import Moment, cursor_of, cut, if_match, needs_match, next_link, read_cursor
from ballast.mall.web.api.calls import ANY_SCOPE, Cursor, Key, KeyCall, Limit
from ballast.mall.web.api.own_shapes import (
    KeyInfo,
    MovementInfo,
    MovementPage,
    StockChange,
    StockCount,
    StockInfo,
)
from ballast.mall.web.api.shapes import shaped


@get("/key", opt={"scope": ANY_SCOPE})
async def get_key(call: NamedDependency[KeyCall]) -> KeyInfo:
    """Which shop the key is for, what it is good for, and how the shop stands."""
    holder = call.holder
    return KeyInfo(holder.slug, holder.name, sorted(holder.scopes), holder.standing.value)


@get("/stock/{sku_id:uuid}", opt={"scope": "stock.read"})
async def get_stock(
    sku_id: FromPath[UUID], call: NamedDependency[KeyCall], db: NamedDependency[Database]
) -> Response[StockInfo]:
    """Pieces of a SKU."""
    async with db.shop(call.holder.shop_id) as connection:
        return _stock(await _level(connection, sku_id))


@put("/stock/{sku_id:uuid}", opt={"scope": "stock.write"})
async def count_stock(
    request: Request[Any, Any, Any],
    sku_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[StockCount],
) -> Response[StockInfo]:
    """So many are on hand, as counted. Needs If-Match: the ETag that was read, or ``*``. An order that came in between
    would be counted twice. Who knows only what moved adds a movement instead."""
    needs_match(request)
    async with db.shop(call.holder.shop_id) as connection:
        if_match(request, _stock_etag(await stock.hold(connection, sku_id)))
        await stock.adjust(connection, sku_id, data.on_hand, actor=call.holder.actor, now=call.now, reason=data.reason)
        await call.note(connection, "stock.counted", sku_id, on_hand=data.on_hand)
        return _stock(await _level(connection, sku_id))


@post("/stock/{sku_id:uuid}/movements", opt={"scope": "stock.write"})
async def move_stock(
    sku_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    data: JSONBody[StockChange],
    key: Key,
) -> StockInfo:
    """So many pieces more, or (negative) fewer."""
    async with db.shop(call.holder.shop_id) as connection:

        async def move() -> StockInfo:
            level = await stock.change_by(
                connection, sku_id, data.pieces, actor=call.holder.actor, now=call.now, reason=data.reason
            )
            await call.note(connection, "stock.moved", sku_id, pieces=data.pieces)
            return shaped(level, StockInfo)

        return await idempotency.once(
            connection, call.holder.actor, key, ("move", sku_id, data), StockInfo, move, call.now
        )


@get("/stock/{sku_id:uuid}/movements", opt={"scope": "stock.read"})
async def list_movements(
    request: Request[Any, Any, Any],
    sku_id: FromPath[UUID],
    call: NamedDependency[KeyCall],
    db: NamedDependency[Database],
    cursor: Cursor = None,
    limit: Limit = 50,
) -> MovementPage:
    """How a SKU's stock came about, the newest first."""
    place = read_cursor(cursor, tuple[Moment])
    async with db.shop(call.holder.shop_id) as connection:
        await _level(connection, sku_id)
        found = await stock.movements(connection, sku_id, before=place[0] if place else None, most=limit + 1)
    page, last = cut(found, limit)
    return MovementPage(
        tuple(shaped(one, MovementInfo) for one in page), next_link(request, cursor_of(last.at) if last else None)
    )


async def _level(connection: Connection, sku_id: UUID) -> stock.Level:
    found = (await stock.levels(connection, [sku_id])).get(sku_id)
    if found is None:
        raise Refused("stock.unknown_sku", f"The shop has no stock of SKU {sku_id}.", "Choose one of its SKUs.")
    return found


def _stock(level: stock.Level) -> Response[StockInfo]:
    return Response(shaped(level, StockInfo), headers={"ETag": _stock_etag(level)})


def _stock_etag(level: stock.Level) -> str:
    return f'"s{level.on_hand}.{level.reserved}"'


HANDLERS = [
    get_key,
    get_stock,
    count_stock,
    move_stock,
    list_movements,
]
