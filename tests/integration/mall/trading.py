"""A shop's people and its orders in the tests' words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from ballast.mall import aftersales, fulfilment, links
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.rules.numbers import order_number
from tests.fix_mall import MallDatabase, Shop
from tests.fix_people import NewVisitor, Visitor, with_database
from tests.integration.mall.ordering import NOW, buy, guest
from tests.integration.mall.paying import Till, at_till


@dataclass(frozen=True)
class Sold:
    """An order as a test made it up."""

    order_id: UUID
    number: str
    placed_at: datetime
    total_fen: int
    paid: bool
    refunded_fen: int
    pieces: int
    product: int
    source: str


def staff(database: MallDatabase, visitor: NewVisitor, shop: Shop, role: str) -> Visitor:
    """Somebody who works in the shop in that role, signed in."""

    async def invite(db: Database) -> str:
        async with db.identity() as connection:
            return await links.invite(connection, shop.shop_id, role, datetime.now(UTC))

    browser = visitor()
    answer = browser.make_account(with_database(database, invite), f"{role}-{shop.slug}")
    assert answer.status_code == 303, answer.text
    return browser


def paid_order(shop: Shop, quantity: int = 3, *, now: datetime = NOW, delivery: str = "ship", goods: int = 0) -> UUID:
    """A guest's order of the shop's first goods, paid."""

    async def story(till: Till) -> UUID:
        sku = shop.goods[goods].sku_ids[0]
        placed = await till.act(lambda c: buy(c, guest(), sku, quantity, str(new_id()), now=now, delivery=delivery))
        payment = await till.begin(placed.order_id, now)
        assert await till.told("payment.succeeded", payment, placed.total_fen, now=now) == "paid"
        return placed.order_id

    return at_till(shop, story)


def refund_asked(shop: Shop, order_id: UUID, pieces: int, *, with_return: bool = False) -> UUID:
    """The buyer wants money back for some pieces of the first line."""

    async def ask(connection: Connection) -> UUID:
        return await aftersales.request(
            connection,
            order_id,
            [aftersales.Asked(1, pieces)],
            with_return=with_return,
            reason="Broken",
            actor="visitor:x",
            now=NOW,
        )

    return at_till(shop, lambda till: till.act(ask))


def shipped(shop: Shop, order_id: UUID, pieces: int) -> None:
    """So many pieces of the first line have left."""

    async def send(connection: Connection) -> None:
        await fulfilment.ship(
            connection,
            order_id,
            carrier="shunfeng",
            named="",
            tracking="SF1234567890",
            pieces={1: pieces},
            actor="account:x",
            now=NOW,
            shipment_id=new_id(),
        )

    at_till(shop, lambda till: till.act(send))


def history(shop: Shop, sold: list[tuple[datetime, int, bool, int, int, int, str]]) -> list[Sold]:
    """Orders of the past: (placed, total in fen, whether paid, refunded, pieces, which of the shop's goods, source)."""
    made = []
    with psycopg.connect(shop.database.dsn) as connection:
        for placed_at, total, paid, refunded, pieces, product, source in sold:
            order_id = new_id()
            one = Sold(
                order_id,
                order_number(order_id, placed_at.date()),
                placed_at,
                total,
                paid,
                refunded,
                pieces,
                product,
                source,
            )
            made.append(one)
            connection.execute(
                "INSERT INTO mall.orders (shop_id, order_id, number, status, refund_status, owner_id, buyer_name, buyer_phone, delivery, address,"
                " items_fen, discount_fen, shipping_fen, total_fen, paid_fen, refunded_fen, source, placed_at, pay_by, paid_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, '王大明', '13900001234', 'ship', %s, %s, 0, 0, %s, %s, %s, %s, %s, %s, %s)",
                (
                    shop.shop_id, order_id, one.number, "closed" if paid else "cancelled", "refunded" if refunded else "none", new_id(),
                    json.dumps({"name": "王大明", "phone": "13900001234", "province": "浙江省", "city": "杭州市", "district": "", "street": "龙井路 1 号"}),
                    total, total, total if paid else 0, refunded, source, placed_at, placed_at, placed_at if paid else None,
                ),
            )  # fmt: skip
            connection.execute(
                "INSERT INTO mall.order_line (shop_id, order_id, line, product_id, sku_id, title, list_fen, price_fen, quantity, discount_fen, total_fen)"
                " VALUES (%s, %s, 1, %s, %s, %s, %s, %s, %s, %s, %s)",
                (
                    shop.shop_id, order_id, shop.goods[product].product_id, shop.goods[product].sku_ids[0], f"商品{product} Product {product}",
                    total, total, pieces, total * pieces - total, total,
                ),
            )  # fmt: skip
    return made


def many(shop: Shop, count: int) -> None:
    """So many closed orders, one a minute, made on the server."""
    shop.database.run(
        "INSERT INTO mall.orders (shop_id, order_id, number, status, owner_id, buyer_name, buyer_phone, delivery, items_fen, discount_fen, shipping_fen,"
        " total_fen, paid_fen, source, placed_at, pay_by, paid_at) SELECT %s, gen_random_uuid(), '2' || lpad(n::text, 17, '0'), 'closed', gen_random_uuid(),"
        " 'Buyer ' || n, '1380000' || lpad((n %% 10000)::text, 4, '0'), 'ship', 1000, 0, 0, 1000, 1000, 'import', t, t, t"
        " FROM generate_series(1, %s) n, LATERAL (SELECT timestamptz '2026-10-01' + n * interval '1 minute' AS t) x",
        shop.shop_id,
        count,
    )
    shop.database.run(
        "INSERT INTO mall.order_line (shop_id, order_id, line, product_id, title, list_fen, price_fen, quantity, discount_fen, total_fen)"
        " SELECT shop_id, order_id, l, NULL, '=HYPERLINK(\"http://x\")', 500, 500, 1, 0, 500 FROM mall.orders, generate_series(1, 2) l WHERE shop_id = %s",
        shop.shop_id,
    )
