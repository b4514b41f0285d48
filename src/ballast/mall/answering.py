"""What a shop does about an order that came about by what was wrong (`review`): let it stand, put its address right, or give the
money back, with or without asking for the right price. Whoever calls writes the record of who decided (`audit`).

Nobody can be charged more for an order that he has agreed to. So to ask for the right price is to give the money back with a
message, and to leave it to him to order again.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import aftersales, exceptions, orders, queries
from ballast.mall.db import Connection
from ballast.mall.order_life import lock
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.reviewing import Questioned
from ballast.mall.rules.states import RefundStatus, Status

_REASON = "订单信息有误 The order came about by an error"


async def let_stand(connection: Connection, exception_id: UUID, *, actor: str, now: datetime) -> Questioned:
    """The order is kept as it is. UnknownException; Refused (`exception.settled`, `exception.no_order`)."""
    found = await _held(connection, exception_id)
    await exceptions.settle(connection, exception_id, "accept", actor=actor, now=now)
    return found


async def put_address_right(connection: Connection, exception_id: UUID, *, actor: str, now: datetime) -> Questioned:
    """The order goes where it was to go.

    Refused: `exception.no_address` (not known), `exception.sent` (a parcel left already); as `let_stand`."""
    found = await _held(connection, exception_id)
    right = found.right_address
    if right is None:
        raise Refused("exception.no_address", "The right address is not known.", "Ask the shopper.")
    await lock(connection, found.order_id)
    text = queries.load("review")
    row = await (await connection.execute(text.shipped, {"order_id": found.order_id})).fetchone()
    if row is None or row["shipped"]:
        raise Refused("exception.sent", "A parcel of this order has left already.", "Ask the carrier to turn it back.")
    await connection.execute(
        text.readdress,
        {
            "order_id": found.order_id,
            "address": msgspec.json.encode(right).decode(),
            "name": right["name"],
            "phone": right["phone"],
        },
    )
    await exceptions.settle(connection, exception_id, "address", actor=actor, now=now)
    return found


async def give_back(
    connection: Connection,
    exception_id: UUID,
    remedy: Literal["ask", "refund"],
    *,
    actor: str,
    now: datetime,
    answer: str = "",
) -> tuple[Questioned, int]:
    """The order is cancelled or, where it is paid, its money goes back; of what has left the goods have to come back first.

    Args:
        remedy: "ask": the shopper may order again at the right price, and `answer` tells him so.

    Returns:
        The order, and what goes back (fen).

    Raises:
        Refused: `exception.no_answer` (asked for the price without a word), as `let_stand`, and what a refund refuses.
    """
    found = await _held(connection, exception_id)
    if remedy == "ask" and not answer.strip():
        raise Refused("exception.no_answer", "Nothing is written for the shopper.", "Write what the right price is.")
    order = await lock(connection, found.order_id)
    back = 0
    if order.status == Status.PENDING_PAYMENT:
        await orders.cancel(connection, found.order_id, by="merchant", actor=actor, now=now, reason=answer or _REASON)
    elif order.status != Status.CANCELLED and order.refund_status != RefundStatus.REFUNDED:
        row = await (await connection.execute(queries.load("review").shipped, {"order_id": found.order_id})).fetchone()
        made = await aftersales.request(
            connection,
            found.order_id,
            None,
            with_return=bool(row and row["shipped"]),
            reason=answer or _REASON,
            actor=actor,
            now=now,
        )
        await aftersales.approve(connection, made, actor=actor, now=now, answer=answer)
        back = (await aftersales.get(connection, made)).amount_fen
    await exceptions.settle(connection, exception_id, remedy, actor=actor, now=now, answer=answer.strip()[:500])
    return found, back


async def _held(connection: Connection, exception_id: UUID) -> Questioned:
    kept = await exceptions.held(connection, exception_id)
    if kept.questioned is None:
        raise Refused("exception.no_order", "This is about no order that stands.", "Look at it again.")
    return kept.questioned
