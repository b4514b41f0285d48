"""A cart: a guest's belongs to his visitor, a member's to the customer. Prices and stock are those of now, never stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.errors import CheckViolation

from ballast.mall import deeds, queries
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import CartRemoved, CartSet
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.round_trips import ending, gather
from ballast.mall.rules.refused import Refused

MOST_PIECES = 999
"""Of one SKU in a cart."""


class CartLine(msgspec.Struct, frozen=True):
    """Pieces of a SKU, as a page shows them."""

    sku_id: UUID
    quantity: int
    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    price_fen: int
    """List price of one piece; what the order costs says `checkout.quote`."""
    free: int
    """Pieces that can be bought now."""
    on_sale: bool

    @property
    def buyable(self) -> bool:
        """Whether so many can be ordered now."""
        return self.on_sale and self.quantity <= self.free


async def lines(connection: Connection, owner: Owner) -> tuple[CartLine, ...]:
    """What is in the cart, in the order in which it was put there; also what cannot be bought any more."""
    cursor = await connection.execute(queries.load("cart").lines, {"owner_id": owner.id})
    return tuple(CartLine(**row) for row in await cursor.fetchall())


async def count(connection: Connection, owner: Owner) -> int:
    """How many pieces are in the cart."""
    row = await (await connection.execute(queries.load("cart").count, {"owner_id": owner.id})).fetchone()
    return int(row["pieces"]) if row else 0


async def add(
    connection: Connection, owner: Owner, sku_id: UUID, quantity: int, now: datetime, key: UUID | None = None
) -> int:
    """Put pieces into the cart, to those of the SKU that are there.

    Args:
        key: names the request; made again it adds nothing. Default: a new one.

    Returns:
        How many of the SKU are in the cart now, `MOST_PIECES` at most.

    Raises:
        Refused: `cart.quantity` (less than one), `cart.not_on_sale` (no such SKU, or not offered any more).
    """
    _check(quantity)
    wanted = CartSet(owner.id, sku_id, quantity, now, key or new_id())
    row = await (await connection.execute(queries.load("cart").add, _given(wanted))).fetchone()
    if row is None:
        raise _not_on_sale(sku_id)
    held = int(row["quantity"])
    if row["done"]:
        deeds.of_no_weight(connection)
    else:
        deeds.note(connection, "cart_set", msgspec.structs.replace(wanted, quantity=held), key=str(wanted.key))
    return held


async def put(connection: Connection, owner: Owner, sku_id: UUID, quantity: int, now: datetime) -> tuple[CartLine, ...]:
    """So many pieces of a SKU in the cart, whether or not it was there: the last thing that is done in its transaction.

    Returns:
        What is in the cart then.

    Raises:
        Refused: as `add`. Then the transaction has to be left.
    """
    _check(quantity)
    wanted = CartSet(owner.id, sku_id, quantity, now)
    text = queries.load("cart")
    ending(connection)
    try:
        _, found = await gather(connection, (text.put, _given(wanted)), (text.lines, {"owner_id": owner.id}))
    except CheckViolation as error:
        raise _not_on_sale(sku_id) from error
    deeds.note(connection, "cart_set", wanted)
    return tuple(CartLine(**row) for row in await found.fetchall())


async def set_quantity(connection: Connection, owner: Owner, sku_id: UUID, quantity: int, now: datetime) -> None:
    """So many pieces of a SKU in the cart; 0 takes it out. A SKU that is not there stays away.

    Raises:
        Refused: `cart.quantity` (negative, or more than `MOST_PIECES`).
    """
    if quantity == 0:
        await remove(connection, owner, [sku_id])
        return
    _check(quantity)
    cursor = await connection.execute(
        queries.load("cart").set_quantity, {"owner_id": owner.id, "sku_id": sku_id, "quantity": quantity}
    )
    if await cursor.fetchone() is not None:
        deeds.note(connection, "cart_set", CartSet(owner.id, sku_id, quantity, now))


async def remove(connection: Connection, owner: Owner, skus: Sequence[UUID]) -> None:
    """Take SKUs out of the cart."""
    await remove_from(connection, CartRemoved(owner.id, tuple(skus)))


async def set_again(connection: Connection, deed: CartSet) -> None:
    """What is in a cart elsewhere is in this one, on sale or not; of a SKU that the shop does not have nothing."""
    await connection.execute(queries.load("cart").set_again, _given(deed))


def _given(deed: CartSet) -> dict[str, object]:
    return {
        "owner_id": deed.owner_id,
        "sku_id": deed.sku_id,
        "quantity": deed.quantity,
        "now": deed.at,
        "key": deed.key,
    }


async def remove_from(connection: Connection, deed: CartRemoved) -> None:
    """Take SKUs out of a cart."""
    await connection.execute(queries.load("cart").remove, {"owner_id": deed.owner_id, "skus": list(deed.skus)})
    deeds.note(connection, "cart_removed", deed)


async def forget_ordered(connection: Connection, owner_id: UUID, skus: Sequence[UUID], at: datetime) -> None:
    """What was ordered at this moment and lay in the cart before is not in it any more."""
    given = {"owner_id": owner_id, "skus": list(skus), "at": at}
    await connection.execute(queries.load("cart").forget_ordered, given)


async def merge(connection: Connection, guest_id: UUID, customer_id: UUID) -> None:
    """What a guest had in his cart comes into the member's; `visitors.login` does it."""
    await connection.execute(queries.load("cart").merge, {"guest": guest_id, "member": customer_id})


def _not_on_sale(sku_id: UUID) -> Refused:
    return Refused("cart.not_on_sale", f"SKU {sku_id} is not on sale in this shop.", "Choose another.")


def _check(quantity: int) -> None:
    if not 1 <= quantity <= MOST_PIECES:
        raise Refused(
            "cart.quantity",
            f"{quantity} pieces cannot be in a cart.",
            f"Take 1 to {MOST_PIECES}.",
            most=MOST_PIECES,
        )
