"""From a cart to an order, on a real server: what is reserved, what it costs, what happens when it is asked twice or at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

import pytest

from ballast.mall import cart, checkout, orders, stock
from ballast.mall.checkout import Address, Placed, PriceChanged, Wanted
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.rules.machine import IllegalTransition
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status
from tests.fix_mall import MallDatabase, OpenShop, Shop

T = TypeVar("T")
NOW = datetime(2026, 11, 11, 4, tzinfo=UTC)
HOME = Address("Lin", "13800000000", "广东省", "深圳市", "南山区", "1 Road")


def in_shop(shop: Shop, act: Callable[[Connection], Awaitable[T]], *, pipelined: bool = True) -> T:
    """What `act` gives, in a transaction of the shop."""

    async def run() -> T:
        db = Database(shop.database.settings())
        await db.open()
        try:
            async with db.shop(shop.shop_id, pipelined=pipelined) as connection:
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


def test_an_order_reserves_its_goods_and_empties_the_cart(open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    one, two = (goods.sku_ids[0] for goods in shop.goods)
    owner = guest()

    async def act(connection: Connection) -> Placed:
        await cart.add(connection, owner, one, 2, NOW)
        await cart.add(connection, owner, two, 1, NOW)
        wanted = [Wanted(line.sku_id, line.quantity) for line in await cart.lines(connection, owner)]
        quote = await checkout.quote(connection, owner, wanted, address=HOME, now=NOW)
        assert (quote.total_fen, quote.short) == (3000, {})
        return await checkout.place(
            connection, owner, wanted, key="k", address=HOME, shown_fen=quote.total_fen, now=NOW
        )

    placed = in_shop(shop, act)
    order = in_shop(shop, lambda c: orders.get(c, placed.order_id, owner=owner))
    assert (order.status, order.total_fen, order.number) == (Status.PENDING_PAYMENT, 3000, placed.number)
    assert [(line.sku_id, line.quantity, line.total_fen) for line in order.lines] == [(one, 2, 2000), (two, 1, 1000)]
    assert [event.event for event in order.events] == ["place"]
    assert stock_of(shop, one) == (100, 2)
    assert in_shop(shop, lambda c: cart.count(c, owner)) == 0
    assert shop.database.run("SELECT kind FROM mall.outbox WHERE shop_id = %s", shop.shop_id) == [("order.placed",)]


def test_the_same_key_is_the_same_order_and_another_request_with_it_is_refused(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku, owner = shop.goods[0].sku_ids[0], guest()
    first = in_shop(shop, lambda c: buy(c, owner, sku, 60))
    again = in_shop(shop, lambda c: buy(c, owner, sku, 60))
    assert (again.order_id, again.repeated, first.repeated) == (first.order_id, True, False)
    with pytest.raises(Refused, match="another request"):
        in_shop(shop, lambda c: buy(c, owner, sku, 61))
    assert stock_of(shop, sku) == (100, 60)
