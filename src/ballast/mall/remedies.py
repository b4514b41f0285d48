"""What a shop does about an exception: keep the order after all, send other goods, give the money back, or say what was done.

An order that is kept has the id, number, time and price with which it was accepted; what came for it meanwhile, its payment above
all, is done after it in its order. One that is not kept is there as cancelled, and its payment goes back by itself, as money does
that comes for a cancelled order. Whoever calls writes the record of who decided (`audit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import aftersales, again, checkout, deeds, effects, exceptions, order_record, queries, stock
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Callback, Cancelled, Checkout, PaymentBegun
from ballast.mall.exceptions import Kept
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.payments.start import begin_again
from ballast.mall.quoting import QuotedLine
from ballast.mall.rules.breakdown import Breakdown, LinePrice
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.replacing import Replaced, goes_back_fen

_OF_MONEY = frozenset({"payment_begun", "payment_opened", "callback"})
MOST_OFFERED = 20
REASON = "exception"
"""Why such an order is cancelled."""
_FOR_ORDER = "例外订单 Exception"
_DIFFERENCE = "换货差价 Price difference of the goods sent instead"


class Goods(msgspec.Struct, frozen=True):
    """A SKU as it is offered now."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    price_fen: int
    free: int
    on_sale: bool


class LineNow(msgspec.Struct, frozen=True):
    """A line of an order that is kept apart, and what could be sent."""

    number: int
    """From 1 on."""
    line: QuotedLine
    price: LinePrice
    now: Goods | None
    """None: the shop does not have it any more."""
    others: tuple[Goods, ...]
    """What could be sent in its place."""

    @property
    def missing(self) -> int:
        """Pieces."""
        return max(0, self.line.quantity - (max(0, self.now.free) if self.now else 0))


async def lines_now(connection: Connection, kept: Kept) -> tuple[LineNow, ...]:
    """The lines of its order as they could be sent today; none where it is about something else."""
    order = kept.order
    if order is None:
        return ()
    there = await goods(connection, list(order.pieces))
    found = []
    for number, (line, price) in enumerate(zip(order.quote.lines, order.quote.breakdown.lines, strict=True), 1):
        now = there.get(line.sku_id)
        others = await _in_place_of(connection, line, price, paid=kept.is_paid)
        found.append(LineNow(number, line, price, now, others))
    return tuple(found)


async def goods(connection: Connection, skus: Sequence[UUID]) -> dict[UUID, Goods]:
    """These SKUs, as far as the shop has them."""
    cursor = await connection.execute(queries.load("exceptions").goods, {"skus": list(skus)})
    return {row["sku_id"]: msgspec.convert(row, Goods) for row in await cursor.fetchall()}


async def accept(connection: Connection, exception_id: UUID, *, actor: str, now: datetime) -> Checkout:
    """Keep the order as it was accepted. What is missing of its goods is taken into stock first: the shop says that it has it.

    Raises:
        Refused: `exception.goods_gone` (the shop does not have the product any more), `exception.no_order`,
            `exception.settled`; UnknownException; what a deed that came for it raises.
    """
    kept = await exceptions.held(connection, exception_id)
    order = _order_of(kept)
    await _place(connection, kept, order, actor, now)
    await exceptions.settle(connection, exception_id, "accept", actor=actor, now=now)
    return order


async def do_again(connection: Connection, exception_id: UUID, *, now: datetime) -> None:
    """What could not be done for want of what is there by now: by today's rules, with all that came for it, and it is over.

    Raises:
        Refused: it still cannot be done, or is no order and no money (something newer may have taken its place); then what this
            did must be rolled back.
    """
    kept = await exceptions.held(connection, exception_id)
    if not kept.is_order:
        raise _no_order()
    order = kept.order
    await again.do(connection, kept.deeds[0].deed if order is None else await _of_now(connection, kept, order, now))
    for one in kept.deeds[1:]:
        await again.do(connection, one.deed)
    await exceptions.settle(connection, exception_id, "accept", actor="system", now=now)


async def substitute(
    connection: Connection, exception_id: UUID, instead: Mapping[int, UUID], *, actor: str, now: datetime
) -> tuple[Checkout, int]:
    """Keep the order with other goods in some lines (number → SKU), for the price that was accepted.

    Returns:
        The order, and what goes back since the other goods cost less.

    Raises:
        Refused: `exception.nothing_chosen`, `replace.*`, `checkout.not_on_sale`; as `accept`.
    """
    kept = await exceptions.held(connection, exception_id)
    order, back = await _with_others(connection, kept, instead)
    await _place(connection, kept, order, actor, now)
    if back:
        refund = await aftersales.request(
            connection,
            order.order_id,
            [aftersales.Asked(number, 0, fen) for number, fen in back.items()],
            with_return=False,
            reason=_DIFFERENCE,
            actor=actor,
            now=now,
        )
        await aftersales.approve(connection, refund, actor=actor, now=now)
    await exceptions.settle(connection, exception_id, "substitute", actor=actor, now=now)
    return order, sum(back.values())


async def refund(connection: Connection, exception_id: UUID, *, actor: str, now: datetime, answer: str = "") -> int:
    """The order is not kept: it is there as cancelled, and what was paid goes back through the provider.

    Returns:
        What goes back now. Money that comes later goes back as well.
    """
    kept = await exceptions.held(connection, exception_id)
    if not kept.is_order or kept.order_id is None:
        raise _no_order()
    await _write_cancelled(connection, kept, actor, now, answer)
    first = kept.deeds[0].deed
    if isinstance(first, Callback):
        begun = PaymentBegun(kept.order_id, kept.order_id, first.reference, first.provider, first.amount_fen, first.at)
        await begin_again(connection, begun)
    for one in kept.deeds:
        if one.kind in _OF_MONEY:
            await again.do(connection, one.deed)
    await exceptions.settle(connection, exception_id, "refund", actor=actor, now=now, answer=answer)
    return kept.paid_fen


async def give_up(connection: Connection, owner: Owner, order_id: UUID, *, now: datetime) -> bool:
    """The shopper does not want to wait for the shop's decision: as `refund`. False where no order of his waits.

    Raises:
        Refused: `exception.settled`.
    """
    for kept in await exceptions.of_shopper(connection, owner, order_id):
        await refund(connection, kept.exception_id, actor=owner.actor, now=now)
        deed = Cancelled(order_id, "shopper", owner.actor, "", now)
        deeds.note(connection, "cancelled", deed, key=str(order_id))
        return True
    return False


async def note(connection: Connection, exception_id: UUID, *, actor: str, now: datetime, answer: str) -> None:
    """What is no order is settled by saying what was done. Refused: `exception.no_answer`, `exception.is_order`."""
    kept = await exceptions.held(connection, exception_id)
    if kept.is_order or kept.questioned:
        raise Refused("exception.is_order", "Somebody waits for this order or his money.", "Keep it, or pay it back.")
    if not answer.strip():
        raise Refused("exception.no_answer", "Nothing is written about it.", "Write what was done.")
    await exceptions.settle(connection, exception_id, "note", actor=actor, now=now, answer=answer.strip()[:500])


async def _with_others(
    connection: Connection, kept: Kept, instead: Mapping[int, UUID]
) -> tuple[Checkout, dict[int, int]]:
    order = _order_of(kept)
    chosen = await goods(connection, list(instead.values()))
    if not instead:
        raise Refused("exception.nothing_chosen", "No other goods are chosen.", "Choose them, line by line.")
    lines, prices, back = list(order.quote.lines), list(order.quote.breakdown.lines), dict[int, int]()
    for number, sku_id in instead.items():
        if not 1 <= number <= len(lines):
            raise Refused("exception.nothing_chosen", f"The order has no line {number}.", "Look at it again.")
        other = chosen.get(sku_id)
        if other is None or not other.on_sale:
            raise Refused("checkout.not_on_sale", f"SKU {sku_id} is not on sale.", "Choose another.", count=1)
        line, price = lines[number - 1], prices[number - 1]
        if fen := goes_back_fen(_replaced(line, price), other.price_fen, paid=kept.is_paid):
            back[number] = fen
        lines[number - 1] = msgspec.structs.replace(
            line,
            sku_id=other.sku_id,
            product_id=other.product_id,
            title=other.title,
            title_en=other.title_en,
            options=other.options,
            picture=other.picture,
        )
        prices[number - 1] = msgspec.structs.replace(price, sku_id=other.sku_id)
    breakdown = msgspec.structs.replace(order.quote.breakdown, lines=tuple(prices))
    return _with(order, tuple(lines), breakdown), back


async def _place(connection: Connection, kept: Kept, order: Checkout, actor: str, now: datetime) -> None:
    """Whatever the rules say of it today: it was accepted. What came for it is done after it."""
    order = await _of_now(connection, kept, order, now)
    order = msgspec.structs.replace(order, number=await _free_number(connection, order))
    order = await _with_promises(connection, order)
    await _fill_up(connection, order, actor, now)
    await order_record.write(connection, order)
    for one in kept.deeds[1:]:
        await again.do(connection, one.deed)


async def _of_now(connection: Connection, kept: Kept, order: Checkout, now: datetime) -> Checkout:
    """Whose it is now, and until when it may be paid."""
    row = await (await connection.execute(queries.load("exceptions").pay_within)).fetchone()
    return msgspec.structs.replace(
        order,
        owner=await _owner(connection, kept),
        # Who has not paid yet gets the usual time from now on.
        pay_by=order.pay_by if kept.is_paid or row is None else now + timedelta(seconds=row["pay_within_s"]),
    )


async def _with_promises(connection: Connection, order: Checkout) -> Checkout:
    """Quotas and the coupon count as far as they are still there. Where not, the price holds all the same."""
    text = queries.load("checkout")
    breakdown, claim_id = order.quote.breakdown, order.claim_id
    if uses := effects.limited_uses(breakdown):
        cursor = await connection.execute(text.use_limited, {"promotions": list(uses), "pieces": list(uses.values())})
        counted = {row["promotion_id"] for row in await cursor.fetchall()}
        # What is not counted must not be given back either.
        lines = tuple(
            msgspec.structs.replace(one, limited=tuple(use for use in one.limited if use.promotion_id in counted))
            for one in breakdown.lines
        )
        breakdown = msgspec.structs.replace(breakdown, lines=lines)
    if claim_id and breakdown.coupon_id:
        owners = [order.owner.id]
        given = {"claim_id": claim_id, "owners": owners, "order_id": order.order_id, "now": order.at}
        if await (await connection.execute(text.use_coupon, given)).fetchone() is None:
            claim_id = None
    return msgspec.structs.replace(_with(order, order.quote.lines, breakdown), claim_id=claim_id)


async def _fill_up(connection: Connection, order: Checkout, actor: str, now: datetime) -> None:
    pieces = order.pieces
    there = await goods(connection, list(pieces))
    for sku_id in sorted(pieces):
        if sku_id not in there:
            raise Refused(
                "exception.goods_gone", "The shop does not have some of it any more.", "Send other goods, or pay back."
            )
        missing = pieces[sku_id] - (await stock.hold(connection, sku_id)).free
        if missing > 0:
            reason = f"{_FOR_ORDER} {order.number}"
            await stock.receive(connection, {sku_id: missing}, actor=actor, now=now, reason=reason)


async def _write_cancelled(connection: Connection, kept: Kept, actor: str, now: datetime, answer: str) -> None:
    order = kept.order
    if order is not None:
        order = msgspec.structs.replace(
            order, number=await _free_number(connection, order), owner=await _owner(connection, kept)
        )
        row = order_record.row_of(order, order.at, "order.cancelled", "cancelled")
    else:
        row = await _row_of_payment_alone(connection, kept)
    await connection.execute(
        queries.load("exceptions").record_cancelled,
        {
            **row,
            "pay_by": order.pay_by if order else row["now"],
            "placed_event_id": new_id(),
            "canceller": actor,
            "cancelled_at": now,
            "reason": REASON,
            "detail": msgspec.json.encode({"reason": answer or REASON}).decode(),
        },
    )


async def _row_of_payment_alone(connection: Connection, kept: Kept) -> dict[str, object]:
    """Money came for an order that is not known here: an order of this amount and of nothing else, so that it can go back."""
    assert kept.order_id is not None
    first = kept.deeds[0].deed
    assert isinstance(first, PaymentBegun | Callback)
    numbers = order_record.numbers_of(kept.order_id, first.at)
    number = await _first_free(connection, numbers)
    told = {"order_id": kept.order_id, "number": number, "status": "cancelled", "total_fen": first.amount_fen}
    return {
        "order_id": kept.order_id,
        "number": number,
        "customer_id": None,
        "owner_id": kept.owner_id or kept.order_id,
        "buyer_name": "",
        "buyer_phone": "",
        "delivery": "pickup",
        "address": None,
        "items_fen": first.amount_fen,
        "discount_fen": 0,
        "shipping_fen": 0,
        "total_fen": first.amount_fen,
        "breakdown": "{}",
        "note": "",
        "source": "intake",
        "now": first.at,
        "lines": "[]",
        "event_id": new_id(),
        "actor": "system",
        "kind": "order.cancelled",
        "body": msgspec.json.encode(told).decode(),
    }


async def _in_place_of(connection: Connection, line: QuotedLine, price: LinePrice, *, paid: bool) -> tuple[Goods, ...]:
    least = 0 if paid else -(-price.total_fen // line.quantity)
    cursor = await connection.execute(
        queries.load("exceptions").in_place_of,
        {
            "sku_id": line.sku_id,
            "product_id": line.product_id,
            "quantity": line.quantity,
            "most_fen": line.price_fen,
            "least_fen": least,
            "most": MOST_OFFERED,
        },
    )
    return tuple(msgspec.convert(row, Goods) for row in await cursor.fetchall())


async def _owner(connection: Connection, kept: Kept) -> Owner:
    """Who may look at it. A member whom the shop does not know any more is a guest."""
    owner = kept.owner
    assert owner is not None
    if owner.customer_id is None:
        return owner
    given = {"customer_id": owner.customer_id}
    row = await (await connection.execute(queries.load("exceptions").is_customer, given)).fetchone()
    return owner if row else Owner(visitor_id=owner.customer_id)


async def _free_number(connection: Connection, order: Checkout) -> str:
    return await _first_free(connection, [order.number, *order_record.numbers_of(order.order_id, order.at)])


async def _first_free(connection: Connection, numbers: Sequence[str]) -> str:
    cursor = await connection.execute(queries.load("exceptions").numbers_taken, {"numbers": list(numbers)})
    return checkout.free_number(numbers, [row["number"] for row in await cursor.fetchall()])


def _replaced(line: QuotedLine, price: LinePrice) -> Replaced:
    return Replaced(line.quantity, line.price_fen, price.total_fen)


def _with(order: Checkout, lines: tuple[QuotedLine, ...], breakdown: Breakdown) -> Checkout:
    quote = msgspec.structs.replace(order.quote, lines=lines, breakdown=breakdown)
    return msgspec.structs.replace(order, quote=quote)


def _order_of(kept: Kept) -> Checkout:
    order = kept.order
    if order is None:
        raise _no_order()
    return order


def _no_order() -> Refused:
    return Refused("exception.no_order", "There is no order in this.", "Say what was done about it.")
