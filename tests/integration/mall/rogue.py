"""Somebody with the owner's rights who changes data instead of deleting it, and shoppers who go on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from ballast.mall import checkout, fulfilment
from ballast.mall.checkout import Address, Wanted
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from tests.fix_mall import MallDatabase, Shop
from tests.integration.mall.paying import Till, at_till

ELSEWHERE = Address("Mallory", "13900000000", "海南省", "三亚市", "", "Back door 1")
_ROW = "name = %(name)s, phone = %(phone)s, province = %(province)s, city = %(city)s, district = %(district)s, street = %(street)s"
PRICES = "UPDATE mall.sku SET price_fen = 1 WHERE shop_id = ANY(%(shops)s)"
ADDRESSES = (
    f"UPDATE mall.address SET {_ROW} WHERE shop_id = ANY(%(shops)s)",
    "UPDATE mall.orders SET address = %(json)s WHERE shop_id = ANY(%(shops)s) AND status = 'paid'",
)
BALANCES = (
    "UPDATE mall.stock SET on_hand = on_hand + 500 WHERE shop_id = ANY(%(shops)s)",
    "UPDATE mall.customer SET points = points + 100000 WHERE shop_id = ANY(%(shops)s)",
)


def at_once(database: MallDatabase, shops: Sequence[Shop], *statements: str) -> None:
    """In one transaction, over all of these shops, and without saying who."""
    given = {
        "shops": [shop.shop_id for shop in shops],
        "json": msgspec.json.encode(ELSEWHERE).decode(),
        **msgspec.structs.asdict(ELSEWHERE),
    }
    with psycopg.connect(database.dsn) as connection:
        for statement in statements:
            connection.execute(statement.encode(), given)


@dataclass(frozen=True)
class Member:
    """A seeded customer, and the address that the shop has of him."""

    shop: Shop
    customer_id: UUID

    @classmethod
    def of(cls, shop: Shop) -> Member:
        """One who has an address."""
        [(found,)] = shop.database.run("SELECT customer_id FROM mall.address WHERE shop_id = %s LIMIT 1", shop.shop_id)
        return cls(shop, found)

    @property
    def address(self) -> Address:
        """As it stands."""
        [row] = self.shop.database.run(
            "SELECT name, phone, province, city, district, street FROM mall.address WHERE customer_id = %s",
            self.customer_id,
        )
        return Address(*row)

    def pays_for(self, pieces: int = 1) -> UUID:
        """An order to his saved address, paid; its id."""

        async def story(till: Till) -> UUID:
            now = datetime.now(UTC)
            wanted = [Wanted(self.shop.goods[0].sku_ids[0], pieces)]
            placed = await till.act(
                lambda c: checkout.place(
                    c,
                    Owner(customer_id=self.customer_id),
                    wanted,
                    key=str(new_id()),
                    address=self.address,
                    shown_fen=None,
                    now=now,
                )
            )
            payment = await till.begin(placed.order_id, now)
            assert await till.told("payment.succeeded", payment, placed.total_fen, now=now) == "paid"
            return placed.order_id

        return at_till(self.shop, story)


def parcel_leaves(shop: Shop, order_id: UUID, pieces: int) -> None:
    """With so many pieces of the first line."""

    async def send(till: Till) -> Any:
        return await till.act(
            lambda c: fulfilment.ship(
                c, order_id, carrier="shunfeng", named="", tracking="SF1234567890", pieces={1: pieces},
                actor="account:x", now=datetime.now(UTC), shipment_id=new_id(),
            )
        )  # fmt: skip

    at_till(shop, send)
