"""Gift cards in the tests' words: one of a shop, what is on it, and that every balance is the sum of its movements."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from ballast.mall import gift_cards
from ballast.mall.audit import By
from ballast.mall.gift_cards import Issued, Terms
from ballast.mall.ids import new_id
from tests.fix_mall import Shop
from tests.integration.mall.ordering import NOW, buy, guest, in_shop

BY = By(None, "owner")


def gift_card(shop: Shop, fen: int = 10_000, *, until: datetime | None = None, now: datetime = NOW) -> Issued:
    """A new card of the shop."""
    made = in_shop(
        shop,
        lambda connection: gift_cards.issue(
            connection, shop.shop_id, Terms(1, fen, until), key=str(new_id()), by=BY, actor="account:x", now=now
        ),
    )
    return made[0]


def void(shop: Shop, card_id: UUID, reason: str = "lost") -> int:
    """Make it void; what was taken off."""
    return in_shop(
        shop,
        lambda connection: gift_cards.void(
            connection, shop.shop_id, card_id, reason, by=BY, actor="account:x", now=NOW
        ),
    )


def card_order(shop: Shop, code: str, quantity: int = 1) -> UUID:
    """A guest's order of the shop's first goods, paid with the card."""
    sku = shop.goods[0].sku_ids[0]
    placed = in_shop(shop, lambda c: buy(c, guest(), sku, quantity, str(new_id()), gift_card=code, last=True))
    return placed.order_id


def balance(shop: Shop, card_id: UUID) -> int:
    """What is on it, which is what its movements add up to."""
    found = shop.database.run(
        "SELECT c.balance_fen, sum(m.amount_fen)::bigint FROM mall.gift_card c JOIN mall.gift_card_movement m USING (shop_id, card_id)"
        " WHERE c.shop_id = %s AND c.card_id = %s GROUP BY 1",
        shop.shop_id,
        card_id,
    )
    assert found[0][0] == found[0][1], found
    return int(found[0][0])


def moves(shop: Shop, card_id: UUID) -> list[tuple[str, int]]:
    """Its movements, as they came."""
    found = shop.database.run(
        "SELECT kind, amount_fen FROM mall.gift_card_movement WHERE shop_id = %s AND card_id = %s ORDER BY at, movement_id",
        shop.shop_id,
        card_id,
    )
    return [(str(kind), int(amount)) for kind, amount in found]
