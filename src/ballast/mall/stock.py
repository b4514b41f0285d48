"""Pieces of a SKU: on hand, and of these reserved for orders that wait for their payment.

Nobody changes `mall.stock` but `change` (and `checkout.record`, which has a copy of it inside), which writes a movement for
every change: the movements of a SKU add up to its stock. It takes only what is there, by a condition in the UPDATE itself, or
(where COMMIT goes with it) by the table's CHECK (`reserved <= on_hand`). Rows are locked in the order of their SKUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NoReturn
from uuid import UUID

import msgspec
from psycopg import AsyncCursor, IntegrityError
from psycopg.rows import DictRow

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.round_trips import begin_anew, later
from ballast.mall.rules.refused import Refused

MOST_PIECES = 100_000_000
"""Of one SKU; far below what the column holds."""
_NOT_OVERSOLD = "stock_not_oversold"
Kind = Literal["receive", "adjust", "reserve", "release", "sell", "return", "import"]


class OutOfStock(Refused):
    """Fewer pieces are free than asked. `free`: SKU → how many can be bought now, of those that are short."""

    def __init__(self, free: Mapping[UUID, int]) -> None:
        named = ", ".join(f"{sku} ({left} left)" for sku, left in free.items())
        super().__init__("stock.short", f"Not enough is in stock of SKU {named}.", "Take fewer.", count=len(free))
        self.free = dict(free)


def too_many() -> Refused:
    """No SKU has so many pieces, or fewer than none."""
    return Refused(
        "stock.range",
        f"A SKU has 0 to {MOST_PIECES} pieces.",
        "Write the number of pieces.",
        most=MOST_PIECES,
    )


class Level(msgspec.Struct, frozen=True):
    """Stock of a SKU, in pieces."""

    sku_id: UUID
    on_hand: int
    reserved: int

    @property
    def free(self) -> int:
        """What can be bought."""
        return self.on_hand - self.reserved


class Movement(msgspec.Struct, frozen=True):
    """One change of a SKU's stock: by how much."""

    movement_id: UUID
    sku_id: UUID
    kind: Kind
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    at: datetime


async def release(
    connection: Connection, pieces: Mapping[UUID, int], order_id: UUID, *, actor: str, now: datetime
) -> None:
    """Give back what was reserved for an order."""
    await _change(connection, "release", pieces, 0, -1, order_id=order_id, actor=actor, now=now, whole=True)


async def sell(
    connection: Connection, pieces: Mapping[UUID, int], order_id: UUID, *, actor: str, now: datetime
) -> None:
    """What was reserved belongs to the shopper now."""
    await _change(connection, "sell", pieces, -1, -1, order_id=order_id, actor=actor, now=now, whole=True)


async def take_back(
    connection: Connection, pieces: Mapping[UUID, int], order_id: UUID, *, actor: str, now: datetime, reason: str = ""
) -> None:
    """Sold pieces that can be sold again: they never left, or came back."""
    await _change(connection, "return", pieces, 1, 0, order_id=order_id, actor=actor, now=now, reason=reason)


async def receive(
    connection: Connection, pieces: Mapping[UUID, int], *, actor: str, now: datetime, reason: str = ""
) -> None:
    """New goods came into the house."""
    if any(count < 1 for count in pieces.values()):
        raise Refused("stock.receive_nothing", "Less than one piece cannot be received.", "Adjust the stock instead.")
    if any(count > MOST_PIECES for count in pieces.values()):
        raise too_many()
    await _change(connection, "receive", pieces, 1, 0, actor=actor, now=now, reason=reason)


async def adjust(
    connection: Connection, sku_id: UUID, on_hand: int, *, actor: str, now: datetime, reason: str = ""
) -> int:
    """So many are on hand, as counted; what is reserved stays.

    Returns:
        By how much it changed.

    Raises:
        OutOfStock: fewer than what orders have reserved.
    """
    if not 0 <= on_hand <= MOST_PIECES:
        raise too_many()
    row = await (
        await connection.execute(queries.load("stock").set_to, {"sku_id": sku_id, "on_hand": on_hand})
    ).fetchone()
    if row is None:
        raise Refused("stock.unknown_sku", f"The shop has no stock of SKU {sku_id}.", "Choose one of its SKUs.")
    if change := int(row["change"]):
        await _change(connection, "adjust", {sku_id: change}, 1, 0, actor=actor, now=now, reason=reason)
    return change


async def change_by(
    connection: Connection, sku_id: UUID, pieces: int, *, actor: str, now: datetime, reason: str = ""
) -> Level:
    """So many pieces more than there are, or (negative) fewer: for who counts what moved and not what is there.

    Returns:
        The stock now.

    Raises:
        Refused: `stock.unknown_sku`, `stock.receive_nothing` (0 pieces).
        OutOfStock: fewer would be left than what orders have reserved.
    """
    if pieces == 0:
        raise Refused("stock.receive_nothing", "No pieces are no change.", "Say how many.")
    await hold(connection, sku_id)
    kind: Kind = "receive" if pieces > 0 else "adjust"
    await _change(connection, kind, {sku_id: pieces}, 1, 0, actor=actor, now=now, reason=reason)
    return (await levels(connection, [sku_id]))[sku_id]


async def hold(connection: Connection, sku_id: UUID) -> Level:
    """A SKU's stock, which nobody else changes until the transaction ends. Refused (`stock.unknown_sku`)."""
    row = await (await connection.execute(queries.load("stock").hold, {"sku_id": sku_id})).fetchone()
    if row is None:
        raise Refused("stock.unknown_sku", f"The shop has no stock of SKU {sku_id}.", "Choose one of its SKUs.")
    return Level(**row)


async def levels(connection: Connection, skus: Sequence[UUID]) -> dict[UUID, Level]:
    """Stock of these SKUs; one that the shop does not have is missing."""
    cursor = await connection.execute(queries.load("stock").levels, {"skus": list(skus)})
    return {row["sku_id"]: Level(**row) for row in await cursor.fetchall()}


async def movements(
    connection: Connection, sku_id: UUID, *, before: datetime | None = None, most: int = 50
) -> tuple[Movement, ...]:
    """The latest movements of a SKU, newest first; `before`: the moment of the last one of the page before."""
    cursor = await connection.execute(
        queries.load("stock").movements, {"sku_id": sku_id, "before": before, "most": most}
    )
    return tuple(Movement(**row) for row in await cursor.fetchall())


async def _change(
    connection: Connection,
    kind: Kind,
    pieces: Mapping[UUID, int],
    on_hand: int,
    reserved: int,
    *,
    actor: str,
    now: datetime,
    order_id: UUID | None = None,
    reason: str = "",
    whole: bool = False,
) -> None:
    """`whole`: where one of them cannot be, something is broken: an error of the database then. So nobody waits for it here."""
    if not pieces:
        return
    text = queries.load("stock").change
    given = {
        "skus": list(pieces),
        "on_hand": [on_hand * count for count in pieces.values()],
        "reserved": [reserved * count for count in pieces.values()],
        "movements": [new_id() for _ in pieces],
        "kind": kind,
        "order_id": order_id,
        "actor": actor,
        "reason": reason,
        "now": now,
        "whole": whole,
    }
    if whole:
        await later(connection, text, given)
    else:
        await all_changed(connection, pieces, await connection.execute(text, given))


async def short_of(connection: Connection, pieces: Mapping[UUID, int], error: IntegrityError) -> NoReturn:
    """What the database refused since fewer are there than should be reserved: OutOfStock, with what is left. What it refused for
    another reason is raised as it is."""
    if error.diag.constraint_name != _NOT_OVERSOLD:
        raise error
    await begin_anew(connection)
    there = await levels(connection, list(pieces))
    left = {sku: there[sku].free if sku in there else 0 for sku in pieces}
    # Somebody may have given his back meanwhile.
    short = {sku: free for sku, free in left.items() if free < pieces[sku]}
    raise OutOfStock(short or left) from error


async def all_changed(connection: Connection, pieces: Mapping[UUID, int], changed: AsyncCursor[DictRow]) -> None:
    """Look at what a change returned. OutOfStock where one SKU had too few: then the transaction has to be left."""
    there = {row["sku_id"] for row in await changed.fetchall()}
    if short := [sku for sku in pieces if sku not in there]:
        found = await (await connection.execute(queries.load("stock").free, {"skus": short})).fetchall()
        raise OutOfStock(dict.fromkeys(short, 0) | {row["sku_id"]: row["free"] for row in found})
