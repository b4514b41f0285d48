"""The mall's own asynchronous functions over a plain connection, as merging calls them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import psycopg
import pytest
from psycopg.rows import dict_row

from ballast.continuity.asyncface import AsyncFace, run_through
from ballast.mall import cart, orders
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.rules.refused import Refused
from tests.fix_mall import OpenShop
from tests.integration.mall.ordering import NOW, buy, guest, stock_of


def test_an_order_is_placed_and_read_through_it_and_a_refused_one_leaves_nothing(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku, owner = shop.goods[0].sku_ids[0], guest()
    order_id = new_id()
    with psycopg.connect(shop.database.settings().app_dsn, row_factory=dict_row) as plain:
        plain.execute("SELECT set_config('mall.shop', %s, true)", (str(shop.shop_id),))
        face = cast(Connection, AsyncFace(plain))

        async def meanwhile() -> str:
            await cart.add(face, owner, sku, 2, NOW)
            placed = await buy(face, owner, sku, 2, order_id=order_id, source="intake")
            return (await orders.get(face, placed.order_id, owner=owner)).number

        number = run_through(meanwhile())
        with pytest.raises(Refused), plain.transaction():
            run_through(buy(face, owner, sku, 500, key="too many"))
    assert shop.database.run("SELECT number, source FROM mall.orders WHERE order_id = %s", order_id) == [
        (number, "intake")
    ]
    assert stock_of(shop, sku) == (100, 2)


def test_what_waits_for_something_else_is_refused() -> None:
    async def sleeps() -> None:
        await asyncio.sleep(0.01)

    async def waits_for_nothing() -> Any:
        await asyncio.sleep(0)

    for work in (sleeps, waits_for_nothing):
        with pytest.raises(RuntimeError):
            run_through(work())
