"""One step of an order's life: its row locked, the rule asked, the row changed, the event recorded, the effects done.

Whoever changes an order locks it first (`lock`), and only then anything that belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import effects, queries
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.round_trips import later
from ballast.mall.rules import states
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Effect, Event, Life, RefundStatus, Status

_KINDS = {
    Event.PAY: "order.paid",
    Event.SHIP_PART: "order.partly_shipped",
    Event.SHIP: "order.shipped",
    Event.RECEIVE: "order.received",
    Event.AUTO_RECEIVE: "order.received",
    Event.CLOSE: "order.closed",
    Event.CANCEL_BY_SHOPPER: "order.cancelled",
    Event.CANCEL_BY_MERCHANT: "order.cancelled",
    Event.CANCEL_BY_TIMEOUT: "order.cancelled",
    Event.REFUND_PART: "order.refunded",
    Event.REFUND_FULL: "order.refunded",
}


class Unknown(Refused):
    """There is no such order, or it is somebody else's: the two look the same."""

    def __init__(self, order_id: object) -> None:
        super().__init__("order.unknown", f"There is no order {order_id}.", "Look at the list of orders.")
        self.order_id = order_id


class Locked(msgspec.Struct, frozen=True):
    """Where an order stands, while this transaction holds it."""

    order_id: UUID
    number: str
    status: Status
    refund_status: RefundStatus
    customer_id: UUID | None
    owner_id: UUID
    items_fen: int
    discount_fen: int
    shipping_fen: int
    total_fen: int
    paid_fen: int
    refunded_fen: int
    coupon_claim_id: UUID | None
    pay_by: datetime
    shipped_at: datetime | None
    received_at: datetime | None
    breakdown: str
    goods: str
    """JSON, for `effects`: what was ordered, which never changes."""
    points_per_yuan: int
    receive_within_s: int

    @property
    def life(self) -> Life:
        """For the rules."""
        return Life(self.status, self.refund_status)


async def lock(connection: Connection, order_id: UUID, owner: Owner | None = None) -> Locked:
    """Lock an order's row. `owner`: whose it must be; None: whoever's, for the shop's people and jobs.

    Raises:
        Unknown: it is not there, or somebody else's.
    """
    row = await (await connection.execute(queries.load("orders").lock, {"order_id": order_id})).fetchone()
    if row is None or (owner is not None and row["owner_id"] != owner.id):
        raise Unknown(order_id)
    return msgspec.convert(row, Locked)


def locking(reference: UUID, provider: str, *, of_refund: bool) -> tuple[str, dict[str, Any]]:
    """The statement that locks the order of a payment, or of a refund, at a provider; it gives a `Locked`."""
    given = {"reference": reference, "provider": provider, "of_refund": of_refund}
    return queries.load("orders").lock_of_provider, given


async def step(
    connection: Connection,
    order: Locked,
    event: Event,
    *,
    actor: str,
    now: datetime,
    reason: str = "",
    refunded_fen: int = 0,
    detail: Mapping[str, object] | None = None,
    written: bool = False,
) -> Locked:
    """Let `event` happen to an order that is locked.

    Args:
        written: the order's row and its stock say so already (`checkout.record`, with `paid`).
        actor: who did it, as events name him ("customer:…", "account:…", "job", "provider:…").
        refunded_fen: what went back with this event.

    Returns:
        The order as it stands now. Two effects are not done here: `REFUND_PAYMENT` (a payment that is not due never comes so
        far) and `RESTOCK` (`aftersales` knows which pieces never left).

    Raises:
        IllegalTransition: it may not happen.
    """
    outcome = states.after(order.life, event)
    paid = event == Event.PAY
    event_id = new_id()
    body = {
        "order_id": order.order_id,
        "number": order.number,
        "status": outcome.life.status,
        "refund_status": outcome.life.refund_status,
        "total_fen": order.total_fen,
    }
    if paid:
        detail = {**(detail or {}), "points_per_100_yuan": order.points_per_yuan * 100}
    await later(
        connection,
        queries.load("orders").told if written else queries.load("orders").step,
        {
            "order_id": order.order_id,
            "status": outcome.life.status.value,
            "refund_status": outcome.life.refund_status.value,
            "paid": paid,
            "refunded_fen": refunded_fen,
            "reason": reason or event.value,
            "event_id": event_id,
            "event": event.value,
            "actor": actor,
            "detail": msgspec.json.encode({**(detail or {}), **({"reason": reason} if reason else {})}).decode(),
            "kind": _KINDS[event],
            "body": msgspec.json.encode(body).decode(),
            "now": now,
        },
    )
    moved = msgspec.structs.replace(
        order,
        status=outcome.life.status,
        refund_status=outcome.life.refund_status,
        paid_fen=order.total_fen if paid else order.paid_fen,
        refunded_fen=order.refunded_fen + refunded_fen,
        shipped_at=order.shipped_at or (now if outcome.life.status == Status.SHIPPED else None),
        received_at=order.received_at or (now if outcome.life.status == Status.RECEIVED else None),
    )
    await _follow(connection, order, moved, outcome.effects, actor, now, refunded_fen, written)
    return moved


async def _follow(
    connection: Connection,
    before: Locked,
    order: Locked,
    wanted: tuple[Effect, ...],
    actor: str,
    now: datetime,
    refunded_fen: int,
    written: bool,
) -> None:
    if order.status == Status.CANCELLED and before.status != Status.CANCELLED:
        await connection.execute(queries.load("orders").close_payments, {"order_id": order.order_id})
        await effects.release_limited(connection, order.breakdown)
    if Effect.RETURN_COUPON in wanted:
        await effects.return_coupon(connection, order.order_id, order.coupon_claim_id)
    if Effect.SELL_STOCK in wanted:
        await effects.sell_stock(connection, order.order_id, order.goods, actor=actor, now=now, moved=written)
    if Effect.RELEASE_STOCK in wanted:
        await effects.release(connection, order.order_id, order.goods, actor=actor, now=now)
    if Effect.SETTLE_POINTS in wanted:
        first = before.status != order.status and order.status == Status.RECEIVED
        await effects.settle_member(
            connection,
            order.customer_id,
            order.order_id,
            paid_fen=order.paid_fen,
            refunded_fen=order.refunded_fen,
            spent_change_fen=order.paid_fen - order.refunded_fen if first else -refunded_fen,
            reason=order.status.value,
            now=now,
        )
