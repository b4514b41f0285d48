"""What a shop's people do with orders: look for them, send them, hand them over, give money back of their own accord.

What may happen to an order, and what follows, is in `orders` and `aftersales`; here is what only the shop's own people ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import aftersales, orders, queries
from ballast.mall.db import Connection
from ballast.mall.orders import Cursor, OrderLine
from ballast.mall.rules import carriers
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import RefundStatus, Status

NEWEST = 20_000
"""Among so many orders parts of names and titles are looked for: of a shop that has a million, days lead to the older ones."""
COUNTED = 10_000
"""Counts go so far: a number that nobody reads to its end is not worth reading every row."""
MOST_SLIPS = 100
"""So many orders are printed at once."""
_NUMBER = frozenset("0123456789- ")
_LEAST_DIGITS = 4


class Filter(msgspec.Struct, frozen=True):
    """Which orders. `since` and `until` (not included): when they were placed. `text`: the beginning of a number, a whole
    phone number, a part of the buyer's name or of a product's title; `searched` makes `ids` of it."""

    statuses: tuple[Status, ...] = ()
    delivery: Literal["ship", "pickup"] | None = None
    since: datetime | None = None
    until: datetime | None = None
    customer_id: UUID | None = None
    text: str = ""
    ids: tuple[UUID, ...] | None = None
    partly: bool = False
    """There were more than `NEWEST` orders in which names and titles could have been looked for."""

    def parameters(self) -> dict[str, object]:
        """As the statements of `sql/fulfilment.sql` take them."""
        return {
            "statuses": [one.value for one in self.statuses] or None,
            "delivery": self.delivery,
            "since": self.since,
            "until": self.until,
            "customer_id": self.customer_id,
            "ids": list(self.ids) if self.ids is not None else None,
        }


class Listed(msgspec.Struct, frozen=True):
    """An order in the list."""

    order_id: UUID
    number: str
    status: Status
    refund_status: RefundStatus
    customer_id: UUID | None
    buyer_name: str
    buyer_phone: str
    delivery: Literal["ship", "pickup"]
    total_fen: int
    paid_fen: int
    refunded_fen: int
    source: str
    note: str
    merchant_note: str
    placed_at: datetime
    paid_at: datetime | None
    refund_open: bool
    """Somebody asked for money back, and that is not over."""
    lines: tuple[OrderLine, ...] = ()


async def searched(connection: Connection, wanted: Filter) -> Filter:
    """The same orders, without a text to look for: looked for once, for the list and its counts."""
    text = wanted.text.strip().lower()
    if not text:
        return wanted
    digits = "".join(one for one in text if one.isdigit()) if set(text) <= _NUMBER else ""
    given = {
        **wanted.parameters(),
        "text": text,
        "digits": digits if len(digits) >= _LEAST_DIGITS else None,
        "newest": NEWEST,
    }
    row = await (await connection.execute(queries.load("fulfilment").found, given)).fetchone()
    ids, partly = (row["ids"], row["partly"]) if row else ([], False)
    return msgspec.structs.replace(wanted, text="", ids=tuple(ids), partly=partly)


async def page(
    connection: Connection, wanted: Filter, *, before: Cursor | None = None, most: int = 50
) -> tuple[Listed, ...]:
    """A page of the orders that are looked for, newest first."""
    wanted = await searched(connection, wanted)
    cursor = await connection.execute(
        queries.load("fulfilment").page,
        {
            **wanted.parameters(),
            "before_at": before.placed_at if before else None,
            "before_id": before.order_id if before else None,
            "most": most,
        },
        # Planned for what is asked: a plan for anything would go through all orders where a text has found a few.
        prepare=None if wanted.ids is None else False,
    )
    rows = await cursor.fetchall()
    lines: dict[UUID, list[dict[str, Any]]] = {row["order_id"]: [] for row in rows}
    if lines:
        for line in await (await connection.execute(queries.load("orders").lines, {"orders": list(lines)})).fetchall():
            lines[line["order_id"]].append(line)
    return tuple(msgspec.convert({**row, "lines": lines[row["order_id"]]}, Listed) for row in rows)


async def counts(connection: Connection, wanted: Filter) -> dict[Status, int]:
    """How many of them are in each state, whatever states are wanted; `COUNTED` stands for that many or more."""
    wanted = await searched(connection, wanted)
    text = queries.load("fulfilment")
    if wanted.ids is not None:
        cursor = await connection.execute(text.counts_among, wanted.parameters())
    else:
        given = {**wanted.parameters(), "each": [one.value for one in Status], "most": COUNTED}
        cursor = await connection.execute(text.counts, given)
    found = {Status(row["status"]): row["orders"] for row in await cursor.fetchall()}
    return {one: min(found.get(one, 0), COUNTED) for one in Status}


async def ship(
    connection: Connection,
    order_id: UUID,
    *,
    carrier: str,
    named: str,
    tracking: str,
    pieces: dict[int, int],
    actor: str,
    now: datetime,
    shipment_id: UUID,
) -> UUID:
    """A parcel leaves, with so many pieces of each line.

    Raises:
        Refused: `ship.carrier`, `ship.tracking`, `order.pickup` (nothing is sent), and what `orders.ship` refuses.
    """
    kept, number = carriers.chosen(carrier, named, tracking)
    order = await orders.get(connection, order_id)
    if order.delivery == "pickup":
        raise Refused("order.pickup", f"Order {order.number} is picked up, not sent.", "Hand it over.")
    return await orders.ship(
        connection,
        order_id,
        carrier=kept,
        tracking=number,
        pieces=pieces,
        actor=actor,
        now=now,
        shipment_id=shipment_id,
    )


async def hand_over(connection: Connection, order_id: UUID, *, actor: str, now: datetime, shipment_id: UUID) -> None:
    """Somebody picked all of it up: it is sent and received in one. The same `shipment_id` once more does nothing.

    Raises:
        Refused: `order.no_pickup` (it is to be sent); Unknown; IllegalTransition.
    """
    order = await orders.get(connection, order_id)
    if order.delivery != "pickup":
        raise Refused("order.no_pickup", f"Order {order.number} is sent, not picked up.", "Enter its parcel.")
    if shipment_id in {one.shipment_id for one in order.shipments}:
        return
    await orders.ship(connection, order_id, carrier=carriers.PICKUP, actor=actor, now=now, shipment_id=shipment_id)
    await orders.receive(connection, order_id, actor=actor, now=now)


async def give_back(
    connection: Connection,
    order_id: UUID,
    items: Sequence[aftersales.Asked] | None,
    *,
    shipping_fen: int,
    with_return: bool,
    reason: str,
    actor: str,
    now: datetime,
    refund_id: UUID,
) -> UUID:
    """The shop gives money back of its own accord: asked for and approved in one. `items` None: all that is left.

    Raises:
        Refused: `refund.reason` (none given), and what `aftersales.request` refuses.
    """
    if not reason.strip():
        raise Refused("refund.reason", "Money is not given back without a reason.", "Write one.")
    made = await aftersales.request(
        connection,
        order_id,
        items,
        shipping_fen=shipping_fen,
        with_return=with_return,
        reason=reason,
        actor=actor,
        now=now,
        refund_id=refund_id,
    )
    if (await aftersales.get(connection, made)).status == RefundState.REQUESTED:
        await aftersales.approve(connection, made, actor=actor, now=now)
    return made


async def several(connection: Connection, order_ids: Sequence[UUID]) -> tuple[orders.Order, ...]:
    """Some orders with all that belongs to them, in the order asked, `MOST_SLIPS` at most. Unknown where one is not there."""
    return tuple([await orders.get(connection, one) for one in dict.fromkeys(order_ids[:MOST_SLIPS])])
