"""A shop's customers, for its people: who they are, what they bought, their points.

A level follows from what somebody has spent and is worked out anew with every order (`rules.levels`): it is not set by hand.
Points can be given and taken by hand, with a reason.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import queries, terms
from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused

Sort = Literal["new", "spent", "points"]
MOST_POINTS = 10_000_000
"""More at once is a mistake."""


class Customer(msgspec.Struct, frozen=True):
    """One in the list."""

    customer_id: UUID
    name: str
    phone: str | None
    email: str | None
    level: int
    """Counted from 1; 0: none."""
    points: int
    spent_fen: int
    """Of orders that were received, less what went back."""
    orders: int
    created_at: datetime
    disabled_at: datetime | None
    key: int = 0
    """By what the list is sorted."""
    note: str = ""


class Cursor(msgspec.Struct, frozen=True):
    """The last customer of the page before."""

    key: int
    customer_id: UUID


class SavedAddress(msgspec.Struct, frozen=True):
    """Where a customer has things sent."""

    name: str
    phone: str
    province: str
    city: str
    district: str
    street: str
    is_default: bool


class Points(msgspec.Struct, frozen=True):
    """Points that came or went. `reason`: the order's state that brought them, or what somebody wrote."""

    entry_id: UUID
    points: int
    reason: str
    order_id: UUID | None
    number: str | None
    at: datetime


class UnknownCustomer(Refused):
    """The shop has no such customer."""

    def __init__(self, customer_id: UUID) -> None:
        super().__init__("customer.unknown", f"There is no customer {customer_id}.", "Look at the list.")


async def page(
    connection: Connection,
    *,
    text: str = "",
    level: int | None = None,
    sort: Sort = "new",
    before: Cursor | None = None,
    most: int = 50,
) -> tuple[Customer, ...]:
    """A page of customers, those with the most first. `text`: a whole phone number, a part of a name or an address."""
    cursor = await connection.execute(
        queries.load("customers").page,
        {
            "text": text.strip().lower() or None,
            "level": level,
            "sort": sort,
            "before": before.customer_id if before else None,
            "before_key": before.key if before else None,
            "most": most,
        },
    )
    return tuple(msgspec.convert(row, Customer) for row in await cursor.fetchall())


async def one(connection: Connection, customer_id: UUID) -> Customer:
    """A customer. Raises UnknownCustomer."""
    row = await (await connection.execute(queries.load("customers").one, {"customer_id": customer_id})).fetchone()
    if row is None:
        raise UnknownCustomer(customer_id)
    return msgspec.convert(row, Customer)


async def levels(connection: Connection) -> tuple[terms.StoredLevel, ...]:
    """The shop's levels, lowest first: the n-th, counted from 1, is level n of a customer."""
    row = await (await connection.execute(queries.load("customers").levels)).fetchone()
    stored = msgspec.json.decode(row["levels"], type=list[terms.StoredLevel]) if row else []
    return tuple(sorted(stored, key=lambda level: level.from_fen))


async def addresses(connection: Connection, customer_id: UUID) -> tuple[SavedAddress, ...]:
    """Where a customer has things sent, the usual place first."""
    cursor = await connection.execute(queries.load("customers").addresses, {"customer_id": customer_id})
    return tuple(msgspec.convert(row, SavedAddress) for row in await cursor.fetchall())


async def points(connection: Connection, customer_id: UUID, *, most: int = 50) -> tuple[Points, ...]:
    """The latest that came and went of a customer's points."""
    cursor = await connection.execute(queries.load("customers").points, {"customer_id": customer_id, "most": most})
    return tuple(msgspec.convert(row, Points) for row in await cursor.fetchall())


async def adjust_points(
    connection: Connection, customer_id: UUID, change: int, reason: str, *, entry_id: UUID, now: datetime
) -> bool:
    """Give (or, negative, take) points. False where this entry was made before: it is made once.

    Raises:
        UnknownCustomer; Refused: `points.reason` (none), `points.number` (nothing, or far too many), `points.short` (he has
            not so many).
    """
    text = queries.load("customers")
    row = await (await connection.execute(text.hold, {"customer_id": customer_id})).fetchone()
    if row is None:
        raise UnknownCustomer(customer_id)
    if not reason.strip():
        raise Refused("points.reason", "Points are not given or taken without a reason.", "Write one.")
    if not 0 < abs(change) <= MOST_POINTS:
        raise Refused("points.number", f"{change} points cannot be given.", f"At most {MOST_POINTS} at once.")
    values = {
        "entry_id": entry_id,
        "customer_id": customer_id,
        "points": change,
        "reason": reason.strip()[:200],
        "now": now,
    }
    if await (await connection.execute(text.add_points, values)).fetchone() is None:
        return False
    if row["points"] + change < 0:
        raise Refused("points.short", f"The customer has {row['points']} points.", "Take fewer.", points=row["points"])
    await connection.execute(text.count_points, {"customer_id": customer_id, "points": change})
    return True


async def set_note(connection: Connection, customer_id: UUID, note: str) -> None:
    """What the shop's people write about a customer. Raises UnknownCustomer."""
    cursor = await connection.execute(
        queries.load("customers").note, {"customer_id": customer_id, "note": note.strip()[:2000]}
    )
    if await cursor.fetchone() is None:
        raise UnknownCustomer(customer_id)
