"""An order that is told leaves the rows that the same order has left when it was lived."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ballast.mall import aftersales, orders, tables
from ballast.mall.aftersales import Asked
from ballast.mall.db import Connection
from ballast.mall.ids import derived, new_id
from ballast.mall.owner import Owner
from ballast.mall.past import GoneBack, Goods, Past
from ballast.mall.rules.states import Event
from ballast.mall.told import tell
from tests.fix_mall import OpenShop, Shop
from tests.integration.mall.ordering import HOME, NOW, buy, in_shop
from tests.integration.mall.paying import Till, at_till, books_of

PRICE = 1999
HOUR = timedelta(hours=1)
_LEFT = {
    "orders": "status, refund_status, buyer_name, delivery, address, items_fen, discount_fen, shipping_fen, total_fen, paid_fen,"
    " refunded_fen, placed_at, pay_by, paid_at, shipped_at, received_at, closed_at, cancelled_at, cancel_reason, version",
    "order_line": "line, title, list_fen, price_fen, quantity, discount_fen, total_fen, shipped_quantity, dropped_quantity,"
    " refunded_quantity, refunded_fen",
    "order_event": "event, status, at",
    "payment": "provider, amount_fen, status, undue, succeeded_at",
    "refund": "status, with_return, lines, shipping_fen, amount_fen, created_at, decided_at, succeeded_at",
    "shipment": "carrier, tracking, lines, shipped_at",
    "posting": "account, amount_fen, day, at",
    "points_entry": "points, reason, at",
    "customer": "spent_fen, points, level",
}

Lived = Callable[[Till, UUID], Awaitable[None]]


def _left(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: shop.database.run(
            f"SELECT {columns} FROM mall.{table} WHERE shop_id = %s ORDER BY {columns}", shop.shop_id
        )
        for table, columns in _LEFT.items()
    }


def _member(shop: Shop) -> Owner:
    owner = Owner(customer_id=new_id())
    shop.database.run(
        "INSERT INTO mall.customer (shop_id, customer_id) VALUES (%s, %s)", shop.shop_id, owner.customer_id
    )
    return owner


async def _paid(till: Till, order_id: UUID) -> None:
    payment = await till.begin(order_id, NOW)
    assert await till.told("payment.succeeded", payment, 3 * PRICE, now=NOW + HOUR) == "paid"


async def _part_back_after_receipt(till: Till, order_id: UUID) -> None:
    await _paid(till, order_id)
    await till.act(lambda c: orders.ship(c, order_id, carrier="SF", tracking="1", actor="t", now=NOW + 2 * HOUR))
    await till.act(lambda c: orders.receive(c, order_id, actor="t", now=NOW + 3 * HOUR))
    back = await till.act(
        lambda c: aftersales.request(
            c, order_id, [Asked(1, 1)], with_return=False, reason="", actor="t", now=NOW + 4 * HOUR
        )
    )
    await till.act(lambda c: aftersales.approve(c, back, actor="t", now=NOW + 5 * HOUR))
    assert await till.told("refund.succeeded", back, PRICE, now=NOW + 6 * HOUR) == "refunded"
    assert await till.act(lambda c: orders.close(c, order_id, actor="job", now=NOW + 300 * HOUR))


async def _all_back_before_it_left(till: Till, order_id: UUID) -> None:
    await _paid(till, order_id)
    back = await till.act(
        lambda c: aftersales.request(c, order_id, None, with_return=False, reason="", actor="t", now=NOW + 4 * HOUR)
    )
    await till.act(lambda c: aftersales.approve(c, back, actor="t", now=NOW + 5 * HOUR))
    assert await till.told("refund.succeeded", back, 3 * PRICE, now=NOW + 6 * HOUR) == "refunded"


async def _cancelled(till: Till, order_id: UUID) -> None:
    await till.act(lambda c: orders.cancel(c, order_id, by="shopper", actor="t", now=NOW + HOUR))


async def _waits(till: Till, order_id: UUID) -> None:
    return


_PART = GoneBack(NOW + 4 * HOUR, ((1, 1, PRICE),), decided_at=NOW + 5 * HOUR, succeeded_at=NOW + 6 * HOUR)
_ALL = GoneBack(NOW + 4 * HOUR, ((1, 3, 3 * PRICE),), decided_at=NOW + 5 * HOUR, succeeded_at=NOW + 6 * HOUR)


@pytest.mark.parametrize(
    ("lived", "moments"),
    [
        (
            _part_back_after_receipt,
            {
                "paid_at": NOW + HOUR,
                "shipped_at": NOW + 2 * HOUR,
                "received_at": NOW + 3 * HOUR,
                "closed_at": NOW + 300 * HOUR,
                "carrier": "SF",
                "tracking": "1",
                "back": (_PART,),
            },
        ),
        (_all_back_before_it_left, {"paid_at": NOW + HOUR, "back": (_ALL,)}),
        (_cancelled, {"cancelled_at": NOW + HOUR, "cancelled_by": Event.CANCEL_BY_SHOPPER}),
        (_waits, {}),
    ],
)
def test_told_as_it_was_lived(open_shop: OpenShop, lived: Lived, moments: dict[str, Any]) -> None:
    here, there = open_shop(), open_shop()
    for shop in (here, there):
        shop.add_product(price_fen=PRICE)
    owner, teller = _member(here), _member(there)

    async def story(till: Till) -> None:
        order = await till.act(lambda c: buy(c, owner, here.goods[0].sku_ids[0], 3))
        await lived(till, order.order_id)

    at_till(here, story)

    goods = Goods("茶 Tea", 3, PRICE, PRICE, product_id=there.goods[0].product_id, sku_id=there.goods[0].sku_ids[0])
    order_id = derived(NOW, "told", there.shop_id)
    told = tell(
        Past(
            order_id=order_id,
            number="261111000000000000",
            source="web",
            owner_id=teller.id,
            customer_id=teller.customer_id,
            goods=(goods,),
            placed_at=NOW,
            pay_by=NOW + timedelta(minutes=30),
            buyer_name=HOME.name,
            buyer_phone=HOME.phone,
            address=HOME,
            provider="sandbox",
            points_per_yuan=1,
            **moments,
        )
    )

    async def write(connection: Connection) -> None:
        await tables.Rows(told.rows).write(connection)
        await connection.execute("UPDATE mall.customer SET spent_fen = %s, points = %s", (told.spent_fen, told.points))

    in_shop(there, write)
    lived_rows, told_rows = _left(here), _left(there)
    for table in _LEFT:
        assert told_rows[table] == lived_rows[table], table
    assert books_of(there) == books_of(here)
