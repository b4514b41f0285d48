"""Orders, for shoppers and for the shop's people: to look at, to cancel, to send, to receive, to close.

What may happen when says `rules.states`; what was not foreseen raises `IllegalTransition`. A paid order is cancelled by
refunding it (`aftersales`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import deeds, effects, queries
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Cancelled, Received
from ballast.mall.ids import new_id
from ballast.mall.order_life import Locked, Unknown, lock, step
from ballast.mall.owner import Owner
from ballast.mall.quoting import Address
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Life, RefundStatus, Status, allowed

__all__ = [
    "AFTER_SALES",
    "Cursor",
    "Happened",
    "Order",
    "OrderLine",
    "Shipment",
    "Summary",
    "Unknown",
    "auto_receive",
    "cancel",
    "close",
    "expire",
    "get",
    "list_of",
    "receive",
    "set_merchant_note",
    "ship",
]

AFTER_SALES = timedelta(days=7)
"""So long after receipt an order is closed."""


class OrderLine(msgspec.Struct, frozen=True):
    """Pieces of a SKU as they were sold. Amounts of one piece (`list_fen`, `price_fen`) and of the whole line."""

    line: int
    product_id: UUID | None
    sku_id: UUID | None
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    list_fen: int
    price_fen: int
    quantity: int
    discount_fen: int
    total_fen: int
    """What was paid for it, without shipping."""
    shipped_quantity: int
    dropped_quantity: int
    """Their money went back, or goes, before they left: they are not sent."""
    refunded_quantity: int
    refunded_fen: int

    @property
    def to_send(self) -> int:
        """Pieces that still have to leave."""
        return self.quantity - self.shipped_quantity - self.dropped_quantity


class Happened(msgspec.Struct, frozen=True):
    """One event of an order's life."""

    event: str
    status: Status
    actor: str
    detail: dict[str, Any]
    at: datetime


class Sent(msgspec.Struct, frozen=True):
    """Pieces of a line in a parcel."""

    line: int
    quantity: int


class Shipment(msgspec.Struct, frozen=True):
    """A parcel."""

    shipment_id: UUID
    carrier: str
    tracking: str
    lines: tuple[Sent, ...]
    shipped_at: datetime


class Summary(msgspec.Struct, frozen=True):
    """An order in a list."""

    order_id: UUID
    number: str
    status: Status
    refund_status: RefundStatus
    customer_id: UUID | None
    owner_id: UUID
    buyer_name: str
    buyer_phone: str
    delivery: Literal["ship", "pickup"]
    total_fen: int
    paid_fen: int
    refunded_fen: int
    placed_at: datetime
    pay_by: datetime
    lines: tuple[OrderLine, ...] = ()


class Order(msgspec.Struct, frozen=True):
    """An order with all that happened to it."""

    order_id: UUID
    number: str
    status: Status
    refund_status: RefundStatus
    customer_id: UUID | None
    owner_id: UUID
    buyer_name: str
    buyer_phone: str
    delivery: Literal["ship", "pickup"]
    address: Address | None
    items_fen: int
    discount_fen: int
    shipping_fen: int
    total_fen: int
    paid_fen: int
    refunded_fen: int
    breakdown: Breakdown | None
    """As it was shown when the order was placed; None for an imported order."""
    note: str
    merchant_note: str
    source: Literal["web", "api", "import", "intake"]
    placed_at: datetime
    pay_by: datetime
    paid_at: datetime | None
    shipped_at: datetime | None
    received_at: datetime | None
    closed_at: datetime | None
    cancelled_at: datetime | None
    cancel_reason: str | None
    version: int
    """For ETags: changes with every change."""
    lines: tuple[OrderLine, ...]
    events: tuple[Happened, ...]
    shipments: tuple[Shipment, ...]

    @property
    def possible(self) -> tuple[Event, ...]:
        """What may happen to it now: which buttons a page shows."""
        return allowed(Life(self.status, self.refund_status))


class Cursor(msgspec.Struct, frozen=True):
    """The last order of the page before."""

    placed_at: datetime
    order_id: UUID


async def get(
    connection: Connection, order_id: UUID | None = None, *, number: str | None = None, owner: Owner | None = None
) -> Order:
    """An order, by its id or its number (18 digits).

    Args:
        owner: whose it must be; None for the shop's people.

    Raises:
        Unknown: it is not there, or somebody else's.
    """
    cursor = await connection.execute(
        queries.load("orders").order,
        {"order_id": order_id, "number": number, "owner_id": owner.id if owner else None},
    )
    row = await cursor.fetchone()
    if row is None:
        raise Unknown(order_id or number)
    return msgspec.json.decode(row["found"], type=Order)


async def list_of(
    connection: Connection,
    *,
    owner: Owner | None = None,
    statuses: Sequence[Status] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    ids: Sequence[UUID] | None = None,
    before: Cursor | None = None,
    most: int = 20,
) -> tuple[Summary, ...]:
    """A page of orders with their lines, newest first.

    Args:
        owner: whose; None: the whole shop's, for its people.
        statuses: only these.
        since, until: placed in this time, `until` not included.
        ids: only these, as `fulfilment.searched` found them.
        before: the last order of the page before (`Cursor(o.placed_at, o.order_id)`).
    """
    text = queries.load("orders")
    cursor = await connection.execute(
        text.page,
        {
            "owner_id": owner.id if owner else None,
            "statuses": [status.value for status in statuses] if statuses is not None else None,
            "since": since,
            "until": until,
            "ids": list(ids) if ids is not None else None,
            "before_at": before.placed_at if before else None,
            "before_id": before.order_id if before else None,
            "most": most,
        },
        prepare=None if ids is None else False,  # planned for these: see `fulfilment.page`
    )
    rows = await cursor.fetchall()
    found: dict[UUID, list[dict[str, Any]]] = {row["order_id"]: [] for row in rows}
    if found:
        lines = await connection.execute(text.lines, {"orders": list(found)})
        for line in await lines.fetchall():
            found[line["order_id"]].append(_line(line))
    return tuple(msgspec.convert({**row, "lines": found[row["order_id"]]}, Summary) for row in rows)


async def cancel(
    connection: Connection,
    order_id: UUID,
    *,
    by: Literal["shopper", "merchant"],
    actor: str,
    now: datetime,
    reason: str = "",
    owner: Owner | None = None,
) -> None:
    """Cancel an order that is not paid; its goods are free again, its coupon too. One that is cancelled stays so.

    Raises:
        Unknown, IllegalTransition (a paid one: refund it).
    """
    order = await lock(connection, order_id, owner)
    if order.status == Status.CANCELLED:
        deeds.of_no_weight(connection)
        return
    event = Event.CANCEL_BY_SHOPPER if by == "shopper" else Event.CANCEL_BY_MERCHANT
    await step(connection, order, event, actor=actor, now=now, reason=reason)
    deeds.note(connection, "cancelled", Cancelled(order_id, by, actor, reason, now), key=str(order_id))


async def expire(connection: Connection, order_id: UUID, now: datetime) -> bool:
    """Cancel the order if its time of payment is over. False where it is not, or was paid or cancelled meanwhile."""
    order = await lock(connection, order_id)
    if order.status != Status.PENDING_PAYMENT or order.pay_by > now:
        return False
    await step(connection, order, Event.CANCEL_BY_TIMEOUT, actor="job", now=now)
    return True


async def ship(
    connection: Connection,
    order_id: UUID,
    *,
    carrier: str,
    tracking: str = "",
    pieces: Mapping[int, int] | None = None,
    actor: str,
    now: datetime,
    shipment_id: UUID | None = None,
) -> UUID:
    """A parcel leaves (or was picked up: carrier "pickup").

    Args:
        pieces: line → how many; None: all that is still to be sent.
        shipment_id: made by the form, so that sending it twice is one parcel.

    Returns:
        The shipment's id.

    Raises:
        Refused: `order.ship_nothing`, `order.ship_too_many`; Unknown; IllegalTransition.
    """
    order = await lock(connection, order_id)
    shipment = shipment_id or new_id()
    lines = {line.line: line for line in await effects.pieces(connection, order_id)}
    sent = {n: count for n, count in (pieces or {n: x.to_send for n, x in lines.items()}).items() if count}
    text = queries.load("orders")
    cursor = await connection.execute(
        text.shipment,
        {
            "shipment_id": shipment,
            "order_id": order_id,
            "carrier": carrier.strip()[:60],
            "tracking": tracking.strip()[:80],
            "lines": msgspec.json.encode([Sent(n, count) for n, count in sorted(sent.items())]).decode(),
            "now": now,
        },
    )
    if await cursor.fetchone() is None:
        return shipment
    left = {n: line.to_send - sent.get(n, 0) for n, line in lines.items()}
    event = Event.SHIP_PART if any(left.values()) else Event.SHIP
    if order.status in (Status.PAID, Status.PARTLY_SHIPPED):
        if not sent or any(count < 0 for count in sent.values()):
            raise Refused("order.ship_nothing", "Nothing of the order is in this parcel.", "Choose what is sent.")
        if unknown := [n for n in sent if n not in lines or sent[n] > lines[n].to_send]:
            raise Refused(
                "order.ship_too_many",
                f"More of line {unknown[0]} was to be sent than is left.",
                "Look at the order again.",
                line=unknown[0],
            )
    moved = {"shipment_id": str(shipment), "carrier": carrier, "tracking": tracking}
    await step(connection, order, event, actor=actor, now=now, detail=moved)
    await connection.execute(
        text.count_shipped, {"order_id": order_id, "lines": list(sent), "pieces": list(sent.values())}
    )
    return shipment


async def nothing_left(connection: Connection, order: Locked, *, actor: str, now: datetime) -> Locked:
    """After a refund: where nothing is left to be sent, the order is shipped."""
    if order.status not in (Status.PAID, Status.PARTLY_SHIPPED):
        return order
    if any(line.to_send for line in await effects.pieces(connection, order.order_id)):
        return order
    return await step(connection, order, Event.SHIP, actor=actor, now=now)


async def receive(
    connection: Connection, order_id: UUID, *, actor: str, now: datetime, owner: Owner | None = None
) -> None:
    """The shopper has it; points and level follow. One that is received already stays so.

    Raises:
        Unknown, IllegalTransition.
    """
    order = await lock(connection, order_id, owner)
    if order.status == Status.RECEIVED:
        deeds.of_no_weight(connection)
        return
    await step(connection, order, Event.RECEIVE, actor=actor, now=now)
    deeds.note(connection, "received", Received(order_id, actor, now), key=str(order_id))


async def auto_receive(connection: Connection, order_id: UUID, now: datetime) -> bool:
    """Received by the passing of time. False where it is not yet time, or it stands elsewhere meanwhile."""
    order = await lock(connection, order_id)
    if order.status != Status.SHIPPED or order.shipped_at is None:
        return False
    if order.shipped_at + timedelta(seconds=order.receive_within_s) > now:
        return False
    await step(connection, order, Event.AUTO_RECEIVE, actor="job", now=now)
    return True


async def close(connection: Connection, order_id: UUID, *, actor: str, now: datetime) -> bool:
    """The time for after-sales is over. False while a refund is open, or before `AFTER_SALES` is over.

    Raises:
        Unknown, IllegalTransition (not received).
    """
    order = await lock(connection, order_id)
    row = await (await connection.execute(queries.load("orders").open_refunds, {"order_id": order_id})).fetchone()
    if order.received_at is not None and (order.received_at + AFTER_SALES > now or (row and row["open"])):
        return False
    await step(connection, order, Event.CLOSE, actor=actor, now=now)
    return True


async def set_merchant_note(connection: Connection, order_id: UUID, note: str) -> None:
    """What the shop's people write about an order. Unknown where it is not there."""
    cursor = await connection.execute(queries.load("orders").merchant_note, {"order_id": order_id, "note": note[:2000]})
    if await cursor.fetchone() is None:
        raise Unknown(order_id)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "order_id"}
