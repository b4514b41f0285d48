"""Money goes back: somebody asks, the shop decides, the goods come back where they must, the provider pays.

The order's row is locked before the refund's, always. What may be asked for is what was paid less all that came back or is
asked for already (`rules.refunding`), so that never more goes back than was paid. Pieces that have not left when a refund is
approved are not sent any more (`dropped`), and can be sold again once the money is back.

Approving only marks the refund as to be paid; `payments.sending` asks the provider afterwards, as often as it takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import bookkeeping, deeds, effects, orders, outbox, queries
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import AskedBack, GoodsSentBack, RefundAsked, RefundWithdrawn
from ballast.mall.ids import new_id
from ballast.mall.order_life import Locked, lock, step
from ballast.mall.owner import Owner
from ballast.mall.rules import books, refunding, states
from ballast.mall.rules.money import allocate, plain_yuan
from ballast.mall.rules.refunding import OPEN, RefundEvent, RefundItem, RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event

Asked = AskedBack
"""Pieces of a line of the order, by its number, and/or an amount (None: what these pieces are worth)."""


class Back(msgspec.Struct, frozen=True):
    """What of a line goes back. `dropped`: pieces that had not left when it was approved."""

    line: int
    quantity: int
    amount_fen: int
    dropped: int = 0


class Refund(msgspec.Struct, frozen=True):
    """A refund as pages show it."""

    refund_id: UUID
    order_id: UUID
    payment_id: UUID
    status: RefundState
    with_return: bool
    lines: tuple[Back, ...]
    """Empty for a payment that was not due."""
    shipping_fen: int
    amount_fen: int
    """All that goes back, shipping with it."""
    reason: str
    answer: str
    return_carrier: str
    return_code: str
    provider_code: str | None
    requested_by: str
    decided_by: str | None
    created_at: datetime
    decided_at: datetime | None
    sent_at: datetime | None
    succeeded_at: datetime | None
    version: int
    undue: bool
    """It sends back a payment that was not due."""
    provider: str


class UnknownRefund(Refused):
    """There is no such refund, or it is of somebody else's order."""

    def __init__(self, refund_id: UUID) -> None:
        super().__init__("refund.unknown", f"There is no refund {refund_id}.", "Look at the order.")


async def refundable(connection: Connection, order_id: UUID, owner: Owner | None = None) -> refunding.PaidOrder:
    """What of an order may still be asked back; `sku_id` of a line there is `UUID(int=line number)`."""
    order = await lock(connection, order_id, owner)
    deeds.of_no_weight(connection)
    return await _paid(connection, order)


async def request(
    connection: Connection,
    order_id: UUID,
    items: Sequence[Asked] | None,
    *,
    shipping_fen: int = 0,
    with_return: bool,
    reason: str,
    actor: str,
    now: datetime,
    owner: Owner | None = None,
    refund_id: UUID | None = None,
) -> UUID:
    """Ask for money back.

    Args:
        items: of which lines; None: all that is left of the order, with shipping.
        owner: whose order it must be; None for the shop's people.
        refund_id: made by the form, so that asking twice is one refund.

    Returns:
        The refund's id.

    Raises:
        Refused: `refund.*` (more than is left, or nothing); order_life.Unknown; IllegalTransition (not paid, all refunded).
    """
    order = await lock(connection, order_id, owner)
    made = refund_id or new_id()
    text = queries.load("aftersales")
    cursor = await connection.execute(text.order_of, {"refund_id": made})
    if earlier := await cursor.fetchone():
        if earlier["order_id"] != order_id:
            raise UnknownRefund(made)
        deeds.of_no_weight(connection)
        return made
    states.after(order.life, Event.REFUND_FULL)
    paid = await _paid(connection, order)
    plan = (
        refunding.everything(paid)
        if items is None
        else refunding.plan(paid, [RefundItem(UUID(int=x.line), x.quantity, x.amount_fen) for x in items], shipping_fen)
    )
    if plan.total_fen <= 0:
        raise Refused("refund.nothing", "Nothing is left that could go back.", "Look at the order's refunds.")
    payment = await (await connection.execute(text.due_payment, {"order_id": order_id})).fetchone()
    if payment is None:
        raise Refused(
            "refund.no_payment", "The order was not paid through a provider of ours.", "Pay it back where it was paid."
        )
    lines = [Back(item.sku_id.int, item.quantity, item.amount_fen) for item in plan.items]
    await connection.execute(
        text.request,
        {
            "refund_id": made,
            "order_id": order_id,
            "payment_id": payment["payment_id"],
            "with_return": with_return,
            "lines": msgspec.json.encode(lines).decode(),
            "shipping_fen": plan.shipping_fen,
            "amount_fen": plan.total_fen,
            "reason": reason.strip()[:500],
            "actor": actor,
            "now": now,
        },
    )
    await _tell(connection, "refund.requested", order, made, plan.total_fen, now)
    if owner is not None:  # what the shop's people do away from home is refused, and not noted by half
        asked = tuple(items) if items is not None else None
        deed = RefundAsked(order_id, made, asked, shipping_fen, with_return, reason, actor, now)
        deeds.note(connection, "refund_asked", deed, key=str(made))
    return made


async def approve(
    connection: Connection,
    refund_id: UUID,
    *,
    actor: str,
    now: datetime,
    answer: str = "",
    amount_fen: int | None = None,
) -> None:
    """The shop agrees: the goods have to come back first, or the money goes back at once.

    Args:
        amount_fen: so much goes back, less than was asked for; None: all of it. What is not given can be asked for again.

    Raises:
        Refused: `refund.amount` (nothing, or more than was asked for); UnknownRefund; IllegalTransition.
    """
    order, refund = await _lock(connection, refund_id)
    refund = _lowered(refund, amount_fen)
    if refund.with_return:
        state = refunding.REFUND.step(refund.status, RefundEvent.ASK_RETURN)
        await _change(connection, refund, state, now, actor=actor, answer=answer, lines=refund.lines)
        await _tell(connection, "refund.approved", order, refund_id, refund.amount_fen, now)
        return
    state = refunding.REFUND.step(refund.status, RefundEvent.APPROVE)
    state = refunding.REFUND.step(state, RefundEvent.SEND)
    back = await _drop(connection, refund, {one.line: one.quantity for one in refund.lines})
    await _change(connection, refund, state, now, actor=actor, answer=answer, lines=back)
    await _tell(connection, "refund.approved", order, refund_id, refund.amount_fen, now)


async def refuse(connection: Connection, refund_id: UUID, *, actor: str, now: datetime, answer: str) -> None:
    """The shop does not agree, and says why; also when goods that came back are not as they must be.

    Raises:
        Refused: `refund.answer` (no reason given); UnknownRefund; IllegalTransition.
    """
    order, refund = await _lock(connection, refund_id)
    if not answer.strip():
        raise Refused("refund.answer", "A refund is not refused without a reason.", "Write one.")
    state = refunding.REFUND.step(refund.status, RefundEvent.REFUSE)
    await _change(connection, refund, state, now, actor=actor, answer=answer)
    await _tell(connection, "refund.refused", order, refund_id, refund.amount_fen, now)


async def withdraw(
    connection: Connection, refund_id: UUID, *, actor: str, now: datetime, owner: Owner | None = None
) -> None:
    """Who asked does not want it any more. Raises UnknownRefund, IllegalTransition."""
    order, refund = await _lock(connection, refund_id, owner)
    state = refunding.REFUND.step(refund.status, RefundEvent.WITHDRAW)
    await _change(connection, refund, state, now, actor=actor)
    await _tell(connection, "refund.withdrawn", order, refund_id, refund.amount_fen, now)
    deed = RefundWithdrawn(order.order_id, refund_id, actor, now)
    deeds.note(connection, "refund_withdrawn", deed, key=str(refund_id))


async def send_goods_back(
    connection: Connection, refund_id: UUID, *, carrier: str, code: str, owner: Owner | None = None
) -> None:
    """With what the shopper sent the goods. Raises UnknownRefund; Refused (`refund.no_return`) where none are awaited."""
    order, refund = await _lock(connection, refund_id, owner)
    if refund.status != RefundState.AWAITING_RETURN:
        raise Refused("refund.no_return", "No goods are awaited for this refund.", "Look at the refund.")
    deed = GoodsSentBack(order.order_id, refund_id, carrier.strip()[:60], code.strip()[:80])
    await connection.execute(
        queries.load("aftersales").parcel, {"refund_id": refund_id, "carrier": deed.carrier, "code": deed.code}
    )
    deeds.note(connection, "goods_sent_back", deed)


async def goods_back(connection: Connection, refund_id: UUID, *, restock: bool, actor: str, now: datetime) -> None:
    """The goods are back in the house. `restock`: they can be sold again. Raises UnknownRefund, IllegalTransition."""
    order, refund = await _lock(connection, refund_id)
    state = refunding.REFUND.step(refund.status, RefundEvent.GOODS_BACK)
    if restock:
        pieces = await _that_left(connection, refund)
        await effects.restock(connection, order.order_id, pieces, actor=actor, now=now)
    await _change(connection, refund, state, now, actor=actor)
    await _tell(connection, "refund.returned", order, refund_id, refund.amount_fen, now)


async def pay_back(
    connection: Connection, refund_id: UUID, *, actor: str, now: datetime, amount_fen: int | None = None
) -> None:
    """The provider is to be asked: after goods came back, or once more after it failed.

    Args:
        amount_fen: so much goes back, less than was approved, for goods that came back and are not as they were. A provider
            that was asked once is never asked for another amount.

    Raises:
        Refused: `refund.amount`; UnknownRefund; IllegalTransition.
    """
    _, refund = await _lock(connection, refund_id)
    state = refunding.REFUND.step(refund.status, RefundEvent.SEND)
    back = refund.lines
    if refund.status == RefundState.RETURNED:
        refund = _lowered(refund, amount_fen)
        left = await _that_left(connection, refund)
        back = await _drop(connection, refund, {one.line: one.quantity - left[one.line] for one in refund.lines})
    await _change(connection, refund, state, now, actor=actor, lines=back)


async def cancel_paid(
    connection: Connection, order_id: UUID, *, actor: str, reason: str, now: datetime, refund_id: UUID | None = None
) -> UUID:
    """The shop gives all of it back: a paid order that cannot be sent. It is cancelled once the money is back."""
    made = await request(
        connection, order_id, None, with_return=False, reason=reason, actor=actor, now=now, refund_id=refund_id
    )
    _, refund = await _lock(connection, made)
    if refund.status == RefundState.REQUESTED:
        await approve(connection, made, actor=actor, now=now)
    return made


async def succeeded(
    connection: Connection,
    refund_id: UUID,
    *,
    actor: str,
    now: datetime,
    pay: Callable[[], Awaitable[None]] | None = None,
) -> str:
    """The provider has paid back.

    Args:
        pay: pays it back, where that is done in this transaction: called when its turn in the order of locks has come.

    Returns:
        What was made of it: `refunded` or `known`.

    Raises:
        UnknownRefund; IllegalTransition (nobody had asked it to); what `pay` raises.
    """
    order, refund = await _lock(connection, refund_id)
    if refund.status == RefundState.SUCCEEDED:
        return "known"
    await _change(connection, refund, refunding.REFUND.step(refund.status, RefundEvent.SUCCEED), now)
    day = bookkeeping.day_of(now)
    if refund.undue:
        if pay:
            await pay()
        await bookkeeping.book(connection, books.sent_back(refund_id, order.order_id, day, refund.amount_fen), now)
        await _tell(connection, "refund.succeeded", order, refund_id, refund.amount_fen, now)
        return "refunded"
    await connection.execute(
        queries.load("aftersales").count_refunded,
        {
            "order_id": order.order_id,
            "lines": [one.line for one in refund.lines],
            "pieces": [one.quantity for one in refund.lines],
            "amounts": [one.amount_fen for one in refund.lines],
        },
    )
    full = order.refunded_fen + refund.amount_fen == order.paid_fen
    order = await step(
        connection,
        order,
        Event.REFUND_FULL if full else Event.REFUND_PART,
        actor=actor,
        now=now,
        refunded_fen=refund.amount_fen,
        detail={"refund_id": str(refund_id), "amount_fen": refund.amount_fen},
    )
    if pay:
        await pay()
    never_left = {one.line: one.dropped for one in refund.lines if one.dropped}
    await effects.restock(connection, order.order_id, never_left, actor=actor, now=now)
    await bookkeeping.book(
        connection,
        books.refunded(
            refund_id,
            order.order_id,
            day,
            goods_fen=refund.amount_fen - refund.shipping_fen,
            shipping_fen=refund.shipping_fen,
            held=books.holder(refund.provider),
        ),
        now,
    )
    await orders.nothing_left(connection, order, actor=actor, now=now)
    await _tell(connection, "refund.succeeded", order, refund_id, refund.amount_fen, now)
    return "refunded"


async def failed(connection: Connection, refund_id: UUID, *, now: datetime, answer: str = "") -> str:
    """The provider could not pay back; it is asked again later. Returns `failed`, or `overtaken` where it has paid since."""
    order, refund = await _lock(connection, refund_id)
    if refund.status != RefundState.PROCESSING:
        return "overtaken"
    await _change(connection, refund, refunding.REFUND.step(refund.status, RefundEvent.FAIL), now, answer=answer)
    await _tell(connection, "refund.failed", order, refund_id, refund.amount_fen, now)
    return "failed"


async def get(connection: Connection, refund_id: UUID, owner: Owner | None = None) -> Refund:
    """A refund. Raises UnknownRefund."""
    found = (await _lock(connection, refund_id, owner))[1]
    deeds.of_no_weight(connection)
    return found


async def list_of(
    connection: Connection,
    *,
    order_id: UUID | None = None,
    statuses: Sequence[RefundState] | None = None,
    before: datetime | None = None,
    most: int = 50,
) -> tuple[Refund, ...]:
    """Refunds of an order, or of the shop in some states, newest first. Whose order it is looks the caller after."""
    cursor = await connection.execute(
        queries.load("aftersales").list_of,
        {
            "order_id": order_id,
            "statuses": [one.value for one in statuses] if statuses is not None else None,
            "before": before,
            "most": most,
        },
    )
    return tuple(_refund(row) for row in await cursor.fetchall())


async def _lock(connection: Connection, refund_id: UUID, owner: Owner | None = None) -> tuple[Locked, Refund]:
    text = queries.load("aftersales")
    row = await (await connection.execute(text.order_of, {"refund_id": refund_id})).fetchone()
    if row is None:
        raise UnknownRefund(refund_id)
    order = await lock(connection, row["order_id"], owner)
    found = await (await connection.execute(text.lock, {"refund_id": refund_id})).fetchone()
    if found is None:
        raise UnknownRefund(refund_id)
    return order, _refund(found)


async def _drop(connection: Connection, refund: Refund, most: Mapping[int, int]) -> tuple[Back, ...]:
    """Pieces whose money goes back and that have not left, `most` of each line, are not sent any more."""
    to_send = {line.line: line.to_send for line in await effects.pieces(connection, refund.order_id)}
    dropped = {one.line: min(most[one.line], to_send.get(one.line, 0)) for one in refund.lines}
    if any(dropped.values()):
        await connection.execute(
            queries.load("aftersales").drop_pieces,
            {"order_id": refund.order_id, "lines": list(dropped), "pieces": list(dropped.values())},
        )
    return tuple(msgspec.structs.replace(one, dropped=dropped[one.line]) for one in refund.lines)


async def _that_left(connection: Connection, refund: Refund) -> dict[int, int]:
    """Line → how many of the refund's pieces were sent, and so can have come back. Of what is asked back those that left
    come first; pieces of earlier refunds are with us already, or never left."""
    lines = {line.line: line for line in await effects.pieces(connection, refund.order_id)}
    out = {n: x.shipped_quantity - max(0, x.refunded_quantity - x.dropped_quantity) for n, x in lines.items()}
    return {one.line: max(0, min(one.quantity, out.get(one.line, 0))) for one in refund.lines}


def _lowered(refund: Refund, amount_fen: int | None) -> Refund:
    """It gives back so much, each of its parts in proportion and none more than before."""
    if amount_fen is None or amount_fen == refund.amount_fen:
        return refund
    if not 0 < amount_fen < refund.amount_fen:
        raise Refused(
            "refund.amount",
            f"{amount_fen} fen cannot go back by a refund of {refund.amount_fen} fen.",
            "Take an amount up to what is asked for; for more, make another refund.",
            asked=plain_yuan(refund.amount_fen),
        )
    *amounts, shipping = allocate(amount_fen, [*(one.amount_fen for one in refund.lines), refund.shipping_fen])
    lines = tuple(
        msgspec.structs.replace(one, amount_fen=amount) for one, amount in zip(refund.lines, amounts, strict=True)
    )
    return msgspec.structs.replace(refund, amount_fen=amount_fen, shipping_fen=shipping, lines=lines)


def _refund(row: Mapping[str, object]) -> Refund:
    return msgspec.convert({**row, "lines": msgspec.json.decode(str(row["lines"]))}, Refund)


async def _paid(connection: Connection, order: Locked) -> refunding.PaidOrder:
    cursor = await connection.execute(queries.load("aftersales").claims, {"order_id": order.order_id})
    pieces: dict[int, int] = {}
    amounts: dict[int, int] = {}
    shipping = 0
    for row in await cursor.fetchall():
        shipping += row["shipping_fen"]
        if row["status"] in OPEN:
            for one in msgspec.json.decode(row["lines"], type=tuple[Back, ...]):
                pieces[one.line] = pieces.get(one.line, 0) + one.quantity
                amounts[one.line] = amounts.get(one.line, 0) + one.amount_fen
    lines = tuple(
        refunding.PaidLine(
            UUID(int=line.line),
            line.quantity,
            line.total_fen,
            line.refunded_quantity + pieces.get(line.line, 0),
            line.refunded_fen + amounts.get(line.line, 0),
        )
        for line in await effects.pieces(connection, order.order_id)
    )
    return refunding.PaidOrder(lines, order.shipping_fen, shipping)


async def _change(
    connection: Connection,
    refund: Refund,
    state: RefundState,
    now: datetime,
    *,
    actor: str | None = None,
    answer: str = "",
    lines: Sequence[Back] | None = None,
) -> None:
    await connection.execute(
        queries.load("aftersales").change,
        {
            "refund_id": refund.refund_id,
            "status": state.value,
            "answer": answer.strip()[:500] or None,
            "lines": msgspec.json.encode(lines).decode() if lines is not None else None,
            "amount_fen": refund.amount_fen,
            "shipping_fen": refund.shipping_fen,
            "decided_by": actor,
            "now": now,
        },
    )


async def _tell(
    connection: Connection, kind: str, order: Locked, refund_id: UUID, amount_fen: int, now: datetime
) -> None:
    body = {"order_id": order.order_id, "number": order.number, "refund_id": refund_id, "amount_fen": amount_fen}
    await outbox.write(connection, kind, body, now)
