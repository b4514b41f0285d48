"""From a cart to an order: what it costs (`quote`), and placing it (`place`), once however often it is asked.

`place` is one transaction of its caller (`Database.shop`) and two statements: the first takes the idempotency key and reads
goods and promises, the second writes the order with its lines and its event, the outbox, and reserves the stock (its payment's
row and COMMIT may go with it); quotas and the coupon, where there are any, one each in between. Whoever catches an error does so
outside of the transaction: what was done before it must not be kept.

Rows that many want are taken in the last statement, so that they are held for as short as can be; always quotas, then coupon,
then stock, as everywhere, so that no two transactions wait for each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import cart, deeds, order_record, queries, stock
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Checkout, PaymentBegun
from ballast.mall.ids import derived
from ballast.mall.order_life import Unknown
from ballast.mall.owner import Owner
from ballast.mall.payments import gift_card as gift_cards
from ballast.mall.placed import Placed
from ballast.mall.quoting import Address, Claim, Delivery, Quote, QuotedLine, Read, Room, Used, Wanted, read
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status

__all__ = [
    "Address",
    "Delivery",
    "Placed",
    "PriceChanged",
    "Quote",
    "QuotedLine",
    "Room",
    "Wanted",
    "place",
    "quote",
]

Source = Literal["web", "api", "intake"]


class PriceChanged(Refused):
    """The order costs something else than what the shopper saw. `quote`: what it costs now; show it and ask again."""

    def __init__(self, quote: Quote, shown_fen: int) -> None:
        super().__init__(
            "checkout.price_changed",
            f"The order costs {quote.total_fen} fen, not {shown_fen} fen.",
            "Look at the new price and order again.",
            total_fen=quote.total_fen,
            shown_fen=shown_fen,
        )
        self.quote = quote


async def quote(
    connection: Connection,
    owner: Owner,
    lines: Sequence[Wanted],
    *,
    address: Address | None = None,
    delivery: Delivery = "ship",
    claim_id: UUID | None = None,
    now: datetime,
) -> Quote:
    """What these goods cost this shopper now, with all promotions, and what is short.

    Args:
        address: None while it is not known: then `breakdown.shipping.known` may be false.
        claim_id: the coupon that he chose.

    Raises:
        Refused: `checkout.lines`, `checkout.quantity`, `checkout.not_on_sale`, `shop.not_open`.
    """
    found = await read(connection, owner, lines, address=address, delivery=delivery, claim_id=claim_id, now=now)
    return found.quote


async def place(
    connection: Connection,
    owner: Owner,
    lines: Sequence[Wanted],
    *,
    key: str,
    address: Address,
    delivery: Delivery = "ship",
    claim_id: UUID | None = None,
    note: str = "",
    shown_fen: int | None,
    now: datetime,
    order_id: UUID | None = None,
    source: Source = "web",
    room: Room | None = None,
    begin: Callable[[Placed], PaymentBegun] | None = None,
    gift_card: str | None = None,
    last: bool = False,
) -> Placed:
    """Place an order: its goods are reserved until `pay_by`. The same key with the same request gives the same order.

    Args:
        key: the idempotency key, of this shopper (1 to 200 characters).
        shown_fen: the total that the shopper agreed to; None accepts any.
        order_id: where it was made before, as for an order taken while the database was away.
        now: when it was placed; `pay_by` counts from it.
        room: how many orders may wait for payment; None: any number.
        begin: makes the payment that is written with it, where something is to be paid. Called when all is decided but whether
            the goods are there still, and it is about to be written.
        gift_card: the code of a card that pays it, all of it and at once: the order is paid, or is not there.
        last: nothing else is done in this transaction: it is committed with what is written.

    Raises:
        PriceChanged: with the new quote.
        stock.OutOfStock: with what is left.
        Refused: as `quote`; `checkout.address`, `checkout.unserved`, `checkout.coupon` (the reason in its params),
            `checkout.many_unpaid`, `checkout.many_unpaid_here`, `checkout.gone_meanwhile` (a quota or the coupon was used up by
            another order at this moment: quote again), `gift_card.afloat`, `gift_card.unusable`, `gift_card.short`,
            `idempotency.differs` (the key was used for something else).
    """
    _check(address, delivery)
    card = gift_cards.present(gift_card) if gift_card is not None else None
    shown = [card.code_hash] if card else []
    asked = _hash(lines, address, delivery, claim_id, note, order_id, *shown)
    # Where the end of the first try was not heard of, the second makes the same order, wherever it is made. It is named by the
    # visitor, before the customer: the lifeboat may not know yet that he has logged in.
    made = order_id or derived(_day_of(now), owner.visitor_id or owner.id, key, asked.hex(), "order")
    numbers = order_record.numbers_of(made, now)
    claim = order_record.claim(owner.id, key, asked, made)
    try:
        found = await read(
            connection,
            owner,
            lines,
            address=address,
            delivery=delivery,
            claim_id=claim_id,
            now=now,
            numbers=numbers,
            claim=claim,
            room=room,
            also=card.look(now) if card else None,
        )
    except Used:
        return await _earlier(connection, claim)
    _accept(found.quote, shown_fen)
    order = Checkout(
        order_id=made,
        number=free_number(numbers, found.taken),
        owner=owner,
        lines=tuple(lines),
        key=key,
        request_hash=asked,
        address=address,
        delivery=delivery,
        claim_id=claim_id,
        note=note,
        source=source,
        at=now,
        pay_by=now + timedelta(seconds=found.pay_within_s),
        quote=found.quote,
        placed_from=room.placed_from if room else None,
    )
    card_id = gift_cards.cover(connection, found.also, order.quote.total_fen) if card else None
    await order_record.use_promises(connection, order)
    status = Status.PAID if card or not order.quote.total_fen else Status.PENDING_PAYMENT
    placed = Placed(made, order.number, order.quote.total_fen, order.pay_by, status)
    payment = begin(placed) if begin and status == Status.PENDING_PAYMENT else None
    if card and card_id and placed.total_fen:
        await order_record.write_paid(connection, order, found, card, card_id, last=last)
    else:
        await order_record.write(connection, order, payment, last=last)
    deeds.note(connection, "checkout", order, key=f"{owner.id}:{key}")
    if payment:
        deeds.note(connection, "payment_begun", payment, key=str(payment.payment_id))
    return placed


async def place_accepted(connection: Connection, order: Checkout) -> None:
    """Place an order that was accepted elsewhere as it was accepted: its id, number, price, time and key. One that is there
    already stays as it is.

    Raises:
        As `place`: PriceChanged where today's rules come to another price.
    """
    if await is_there(connection, order.order_id):
        await cart.forget_ordered(connection, order.owner.id, list(order.pieces), order.at)
        return
    numbers = list(dict.fromkeys([order.number, *order_record.numbers_of(order.order_id, order.at)]))
    claim = order_record.claim_of(order)
    try:
        found = await _read_accepted(connection, order, numbers, claim)
    except Used:
        if await _order_of(connection, claim) != order.order_id:
            raise Refused("idempotency.differs", "This key was used for another order.", "Look at that one.") from None
        found = await _read_accepted(connection, order, numbers, None)
    _accept(found.quote, order.quote.total_fen)
    order = msgspec.structs.replace(order, number=free_number(numbers, found.taken))
    await order_record.use_promises(connection, order)
    await order_record.write(connection, order)
    deeds.note(connection, "checkout", order, key=f"{order.owner.id}:{order.key}")


async def is_there(connection: Connection, order_id: UUID) -> bool:
    """Whether the shop has this order."""
    cursor = await connection.execute(queries.load("orders").placed, {"order_id": order_id})
    return await cursor.fetchone() is not None


async def _read_accepted(connection: Connection, order: Checkout, numbers: Sequence[str], claim: Claim | None) -> Read:
    return await read(
        connection,
        order.owner,
        order.lines,
        address=order.address,
        delivery=order.delivery,
        claim_id=order.claim_id,
        now=order.at,
        numbers=numbers,
        claim=claim,
    )


def free_number(numbers: Sequence[str], taken: Sequence[str]) -> str:
    """The first that is not taken; where all are, the first."""
    return next((one for one in numbers if one not in taken), numbers[0])


def _check(address: Address, delivery: Delivery) -> None:
    needed = [address.name, address.phone]
    if delivery == "ship":
        needed += [address.province, address.street]
    if not all(one.strip() for one in needed):
        raise Refused("checkout.address", "Something of the address is missing.", "Fill it in.")


def _accept(found: Quote, shown_fen: int | None) -> None:
    if found.coupon_reason:
        raise Refused(
            "checkout.coupon",
            f"The coupon cannot be used: {found.coupon_reason}.",
            "Choose another or none.",
            reason=found.coupon_reason,
        )
    if not found.breakdown.orderable:
        raise Refused("checkout.unserved", "Some of it is not sent to there.", "Choose another address or pick it up.")
    if shown_fen is not None and shown_fen != found.total_fen:
        raise PriceChanged(found, shown_fen)
    if found.short:
        raise stock.OutOfStock(found.short)


async def _earlier(connection: Connection, claim: Claim) -> Placed:
    order_id = await _order_of(connection, claim)
    cursor = await connection.execute(queries.load("orders").placed, {"order_id": order_id})
    placed = await cursor.fetchone()
    if placed is None:  # it is kept apart: `exceptions`
        raise Unknown(order_id)
    deeds.of_no_weight(connection)
    status = Status(placed["status"])
    return Placed(order_id, placed["number"], placed["total_fen"], placed["pay_by"], status, repeated=True)


async def _order_of(connection: Connection, claim: Claim) -> UUID:
    cursor = await connection.execute(queries.load("checkout").answered, {"scope": claim.scope, "key": claim.key})
    row = await cursor.fetchone()
    if row is None or row["request_hash"] != claim.request_hash:
        raise Refused("idempotency.differs", "This key was used for another request.", "Take a new key.")
    return UUID(msgspec.json.decode(row["answer"])["order_id"])


def _day_of(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _hash(*asked: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(asked)).digest()
