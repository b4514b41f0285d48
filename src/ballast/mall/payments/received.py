"""Money that came: for an order that waits for it, or for one that does not, and then it goes back."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ballast.mall import bookkeeping, outbox, queries
from ballast.mall.db import Connection
from ballast.mall.ids import derived, new_id
from ballast.mall.order_life import Locked, lock, step
from ballast.mall.round_trips import later
from ballast.mall.rules import books, states
from ballast.mall.rules.states import Effect, Event


async def pay_nothing(connection: Connection, order_id: UUID, now: datetime) -> None:
    """An order that costs nothing is paid by its being placed."""
    order = await lock(connection, order_id)
    await _settled(connection, order, new_id(), provider="none", code=None, actor="system", now=now)


async def settled(
    connection: Connection,
    order: Locked,
    payment_id: UUID,
    *,
    provider: str,
    code: str,
    now: datetime,
    written: bool = False,
) -> None:
    """A payment of all of an order that waits for it, begun and done at once. `order` is locked; nothing is waited for.

    Args:
        written: its row and its stock say already that it is paid.
    """
    actor = f"provider:{provider}"
    await _settled(connection, order, payment_id, provider=provider, code=code, actor=actor, now=now, written=written)


async def succeeded(connection: Connection, order: Locked, payment: dict[str, Any], *, code: str, now: datetime) -> str:
    """A payment came. `order` is locked, `payment` its row.

    Returns:
        What was made of it: `paid`, `sent_back` (it was not due) or `known`.
    """
    if payment["status"] == "succeeded":
        return "known"
    payment_id: UUID = payment["payment_id"]
    undue = Effect.REFUND_PAYMENT in states.after(order.life, Event.PAY).effects
    text = queries.load("payments")
    await later(connection, text.succeeded, {"payment_id": payment_id, "undue": undue, "code": code, "now": now})
    if not undue:
        provider: str = payment["provider"]
        await _due(connection, order, payment_id, provider=provider, actor=f"provider:{provider}", now=now)
        return "paid"
    amount: int = payment["amount_fen"]
    day = bookkeeping.day_of(now)
    await bookkeeping.book(connection, books.paid_undue(payment_id, order.order_id, day, amount), now)
    # The same one wherever this payment is heard of.
    refund_id = derived(now, "sent_back", payment_id)
    await connection.execute(
        text.send_back,
        {
            "refund_id": refund_id,
            "order_id": order.order_id,
            "payment_id": payment_id,
            "amount_fen": amount,
            "now": now,
        },
    )
    body = {"order_id": order.order_id, "number": order.number, "refund_id": refund_id, "amount_fen": amount}
    await outbox.write(connection, "payment.sent_back", body, now)
    return "sent_back"


async def _settled(
    connection: Connection,
    order: Locked,
    payment_id: UUID,
    *,
    provider: str,
    code: str | None,
    actor: str,
    now: datetime,
    written: bool = False,
) -> None:
    await later(
        connection,
        queries.load("payments").settled,
        {
            "payment_id": payment_id,
            "order_id": order.order_id,
            "provider": provider,
            "code": code,
            "amount_fen": order.total_fen,
            "now": now,
        },
    )
    await _due(connection, order, payment_id, provider=provider, actor=actor, now=now, written=written)


async def _due(
    connection: Connection,
    order: Locked,
    payment_id: UUID,
    *,
    provider: str,
    actor: str,
    now: datetime,
    written: bool = False,
) -> None:
    detail = {"payment_id": str(payment_id)}
    await step(connection, order, Event.PAY, actor=actor, now=now, detail=detail, written=written)
    transaction = books.paid(
        payment_id,
        order.order_id,
        bookkeeping.day_of(now),
        list_fen=order.items_fen,
        discount_fen=order.discount_fen,
        shipping_fen=order.shipping_fen,
        held=books.holder(provider),
    )
    await bookkeeping.book(connection, transaction, now)
