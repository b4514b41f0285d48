"""Buying in the tests' words: a transaction of a shop, a guest, an order, its payment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from ballast.mall import checkout
from ballast.mall.checkout import Address, Placed, Wanted
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from tests.fix_mall import Shop

T = TypeVar("T")
NOW = datetime(2026, 11, 11, 4, tzinfo=UTC)
HOME = Address("Lin", "13800000000", "广东省", "深圳市", "南山区", "1 Road")


def in_shop(shop: Shop, act: Callable[[Connection], Awaitable[T]]) -> T:
    """What `act` gives, in a transaction of the shop."""

    async def run() -> T:
        db = Database(shop.database.settings())
        await db.open()
        try:
            async with db.shop(shop.shop_id) as connection:
                return await act(connection)
        finally:
            await db.close()

    return asyncio.run(run())


def guest() -> Owner:
    return Owner(visitor_id=new_id())


async def buy(
    connection: Connection, owner: Owner, sku: UUID, quantity: int = 1, key: str = "k", **more: object
) -> Placed:
    arguments: dict[str, object] = {"shown_fen": None, "now": NOW, **more}
    return await checkout.place(
        connection,
        owner,
        [Wanted(sku, quantity)],
        key=key,
        address=HOME,
        **arguments,  # type: ignore[arg-type]
    )


def stock_of(shop: Shop, sku: UUID) -> tuple[int, int]:
    return shop.database.run("SELECT on_hand, reserved FROM mall.stock WHERE sku_id = %s", sku)[0]  # type: ignore[return-value]
