"""What a shop accepted and could not keep: kept apart, with the reason, until somebody of the shop has decided (`remedies`).

Goods that were sold meanwhile, a product that is gone, a price that is another now: what was accepted while the database was
away is done again by today's rules, and they may say no. Nothing of it is lost: the deed is kept as it was accepted, and with an
order all that comes for it afterwards, its payment above all. The shopper sees it at the address of the order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import deeds, idempotency, order_record, outbox, queries
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import KINDS, Answered, Callback, Checkout, PaymentBegun
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.reviewing import Questioned

Remedy = Literal["accept", "substitute", "refund", "note", "ask", "address"]
QUESTIONED = "questioned"
"""Of no deed that could not be done: an order stands, and came about by rows that were wrong (`review`)."""
_KINDS: dict[str, type[msgspec.Struct]] = {**KINDS, QUESTIONED: Questioned}
COUNTED = 1_000
"""They are counted so far."""


class UnknownException(Refused):
    """The shop has no such exception."""

    def __init__(self, exception_id: UUID) -> None:
        super().__init__("exception.unknown", f"There is no exception {exception_id}.", "Look at the list.")


class Excepted(Refused):
    """The order was accepted, and the shop has to decide about it first."""

    def __init__(self, order_id: object) -> None:
        super().__init__(
            "order.excepted",
            f"Order {order_id} was accepted while the shop's database was away and cannot be kept as it is.",
            "The shop keeps it, offers other goods, or pays back. Look again later.",
        )


class KeptDeed(msgspec.Struct, frozen=True):
    """A deed as it was accepted."""

    key: str
    kind: str
    payload: Any
    at: datetime

    @property
    def deed(self) -> msgspec.Struct:
        """To be done."""
        return msgspec.convert(self.payload, _KINDS[self.kind])


class Kept(msgspec.Struct, frozen=True):
    """An exception."""

    exception_id: UUID
    kind: str
    """Of the deed that could not be done."""
    order_id: UUID | None
    """What it is about."""
    owner_id: UUID | None
    customer_id: UUID | None
    reason: str
    params: dict[str, Any]
    kept_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    remedy: Remedy | None
    answer: str
    deeds: tuple[KeptDeed, ...]
    """The first one could not be done; the others came for its order afterwards."""

    @property
    def is_order(self) -> bool:
        """Whether an order, or money that came for one, waits for a decision."""
        first = self.deeds[0].deed
        return isinstance(first, Checkout | PaymentBegun) or (
            isinstance(first, Callback) and first.kind.startswith("payment.")
        )

    @property
    def order(self) -> Checkout | None:
        """As it was accepted; None where it is about something else."""
        first = self.deeds[0].deed
        return first if isinstance(first, Checkout) else None

    @property
    def questioned(self) -> Questioned | None:
        """The order that stands and is to be looked at; None where it is about something else."""
        first = self.deeds[0].deed
        return first if isinstance(first, Questioned) else None

    @property
    def owner(self) -> Owner | None:
        """Whose it is now: a guest may have become a member since."""
        if self.owner_id is None:
            return None
        return Owner(customer_id=self.customer_id) if self.customer_id else Owner(visitor_id=self.owner_id)

    @property
    def paid_fen(self) -> int:
        """What came for it, and waits."""
        told = [one.deed for one in self.deeds if one.kind == "callback"]
        came = {one.reference: one for one in told if isinstance(one, Callback) and one.kind == "payment.succeeded"}
        return sum(one.amount_fen for one in came.values())

    @property
    def amount_fen(self) -> int:
        """What it is about; 0 where it is not about money."""
        first = self.deeds[0].deed
        if isinstance(first, Checkout):
            return first.quote.total_fen
        return first.amount_fen if isinstance(first, PaymentBegun | Callback) else 0

    @property
    def is_paid(self) -> bool:
        """Whether all of it was paid."""
        return self.paid_fen >= self.amount_fen > 0


class OfDeed(msgspec.Struct, frozen=True):
    """Where a deed is kept."""

    exception_id: UUID
    is_open: bool
    is_first: bool
    """It is the one that could not be done; else it came for the same order."""


class Cursor(msgspec.Struct, frozen=True):
    """The last one of the page before."""

    kept_at: datetime
    exception_id: UUID


async def keep(
    connection: Connection, key: str, kind: str, deed: msgspec.Struct, error: Refused, now: datetime
) -> bool:
    """The deed cannot be done. One that is kept already stays as it is. Returns whether it is kept only now."""
    if await of_deed(connection, key) is not None:
        return False
    owner = _owner_of(deed)
    given = {
        "exception_id": new_id(),
        "kind": kind,
        "order_id": getattr(deed, "order_id", None),
        "owner_id": owner.id if owner else None,
        "customer_id": owner.customer_id if owner else None,
        "reason": error.key,
        "params": msgspec.json.encode(error.params).decode(),
        "now": now,
    }
    text = queries.load("exceptions")
    if await (await connection.execute(text.keep, given)).fetchone() is None:
        return False
    await _add(connection, given["exception_id"], key, kind, deed, now)
    if isinstance(deed, Checkout):
        told = {
            "order_id": deed.order_id,
            "number": deed.number,
            "total_fen": deed.quote.total_fen,
            "exception_id": given["exception_id"],
            "reason": error.key,
        }
        await outbox.write(connection, "order.excepted", told, now)
        # The same form sent again is this order, not another one.
        claim = order_record.claim_of(deed)
        answered = Answered(claim.scope, claim.key, claim.request_hash, claim.answer, now)
        await idempotency.answer_again(connection, answered)
    return True


async def follow(connection: Connection, key: str, kind: str, deed: msgspec.Struct, now: datetime) -> UUID | None:
    """Keep a deed with the order that it is about, where that is kept apart: which exception it is. None: it is not."""
    order_id = getattr(deed, "order_id", None)
    if order_id is None or isinstance(deed, Checkout):
        return None
    cursor = await connection.execute(queries.load("exceptions").open_of_order, {"order_id": order_id})
    row = await cursor.fetchone()
    if row is None:
        return None
    await _add(connection, row["exception_id"], key, kind, deed, now)
    found: UUID = row["exception_id"]
    return found


async def order_of_payment(connection: Connection, payment_id: UUID, provider: str) -> UUID | None:
    """The order for which this payment was begun, where it is kept apart."""
    given = {"payment_id": str(payment_id), "provider": provider}
    row = await (await connection.execute(queries.load("exceptions").open_of_payment, given)).fetchone()
    return row["order_id"] if row else None


async def page(
    connection: Connection, *, settled: bool, before: Cursor | None = None, most: int = 50
) -> tuple[Kept, ...]:
    """Open ones, or settled ones, the newest first."""
    return await _read(connection, settled=settled, before=before, most=most)


async def counts(connection: Connection) -> dict[str, int]:
    """How many are `open` and `settled`; `COUNTED` stands for that many or more."""
    cursor = await connection.execute(queries.load("exceptions").counts, {"most": COUNTED})
    row = await cursor.fetchone()
    assert row is not None
    return {"open": row["open"], "settled": row["settled"]}


async def one(connection: Connection, exception_id: UUID) -> Kept:
    """One of them. Raises UnknownException."""
    found = await _read(connection, exception_id=exception_id)
    if not found:
        raise UnknownException(exception_id)
    return found[0]


async def held(connection: Connection, exception_id: UUID) -> Kept:
    """One that is open, until the transaction's end nobody else's to settle. UnknownException; Refused (`exception.settled`)."""
    given = {"exception_id": exception_id}
    if await (await connection.execute(queries.load("exceptions").lock, given)).fetchone() is None:
        raise UnknownException(exception_id)
    found = await one(connection, exception_id)
    if found.settled_at is not None:
        raise Refused("exception.settled", "Somebody has decided about this already.", "Look at it again.")
    return found


async def of_shopper(connection: Connection, owner: Owner, order_id: UUID | None = None) -> tuple[Kept, ...]:
    """His orders that wait for a decision of the shop; `order_id`: just this one."""
    return await _read(connection, settled=False, owner_id=owner.id, order_id=order_id, orders=True)


async def settle(
    connection: Connection, exception_id: UUID, remedy: Remedy, *, actor: str, now: datetime, answer: str = ""
) -> None:
    """It is over."""
    deeds.for_home_alone(connection)
    given = {"exception_id": exception_id, "remedy": remedy, "actor": actor, "now": now, "answer": answer}
    await connection.execute(queries.load("exceptions").settle, given)


async def adopt(connection: Connection, guest_id: UUID, customer_id: UUID) -> None:
    """What a guest ordered is the member's; `visitors.login` does it."""
    await connection.execute(queries.load("exceptions").adopt, {"guest": guest_id, "member": customer_id})


async def _read(
    connection: Connection,
    *,
    settled: bool | None = None,
    exception_id: UUID | None = None,
    order_id: UUID | None = None,
    owner_id: UUID | None = None,
    orders: bool | None = None,
    before: Cursor | None = None,
    most: int = 50,
) -> tuple[Kept, ...]:
    cursor = await connection.execute(
        queries.load("exceptions").page,
        {
            "settled": settled,
            "exception_id": exception_id,
            "order_id": order_id,
            "owner_id": owner_id,
            "orders": orders,
            "before_at": before.kept_at if before else None,
            "before_id": before.exception_id if before else None,
            "most": most,
        },
    )
    return tuple(_kept(row) for row in await cursor.fetchall())


def _kept(row: Mapping[str, Any]) -> Kept:
    read: Sequence[str] = ("params", "deeds")
    return msgspec.convert({**row, **{name: msgspec.json.decode(row[name]) for name in read}}, Kept)


def _owner_of(deed: msgspec.Struct) -> Owner | None:
    owner = getattr(deed, "owner", None)
    if isinstance(owner, Owner):
        return owner
    owner_id = getattr(deed, "owner_id", None)
    return Owner(visitor_id=owner_id) if owner_id else None


async def of_deed(connection: Connection, key: str) -> OfDeed | None:
    """The exception that a deed is kept with, until the transaction's end nobody else's to settle; None: it is not kept."""
    row = await (await connection.execute(queries.load("exceptions").of_deed, {"key": key})).fetchone()
    return None if row is None else msgspec.convert(row, OfDeed)


async def _add(
    connection: Connection, exception_id: object, key: str, kind: str, deed: msgspec.Struct, now: datetime
) -> None:
    given = {
        "exception_id": exception_id,
        "key": key,
        "kind": kind,
        "payload": msgspec.json.encode(deed).decode(),
        "now": now,
    }
    await connection.execute(queries.load("exceptions").add_deed, given)
