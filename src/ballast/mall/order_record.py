"""Writing an order that was agreed on: its promises used, its rows made, its goods reserved, all or nothing.

`checkout` decides whether it may be; here it is done, with the price that stands in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from psycopg import IntegrityError
from psycopg.errors import CheckViolation

from ballast.mall import effects, queries, stock
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Checkout, PaymentBegun
from ballast.mall.ids import new_id
from ballast.mall.order_life import Locked
from ballast.mall.payments import gift_card
from ballast.mall.payments.gift_card import Presented
from ballast.mall.payments.received import pay_nothing
from ballast.mall.payments.start import beginning
from ballast.mall.quoting import Claim, QuotedLine, Read
from ballast.mall.round_trips import ending, gather, later
from ballast.mall.rules.breakdown import LinePrice
from ballast.mall.rules.numbers import order_number
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import RefundStatus, Status

_CHINA = ZoneInfo("Asia/Shanghai")
_ATTEMPTS = 2


def claim(owner_id: UUID, key: str, request_hash: bytes, order_id: UUID) -> Claim:
    """The idempotency key of an order: the same request sent again leads to it."""
    return Claim(_scope(owner_id), key, request_hash, f'{{"order_id":"{order_id}"}}')


def _scope(owner_id: UUID) -> str:
    return f"order:{owner_id}"


def claim_of(order: Checkout) -> Claim:
    """That of an order that was accepted."""
    return claim(order.owner.id, order.key, order.request_hash, order.order_id)


def numbers_of(order_id: UUID, now: datetime) -> list[str]:
    """Numbers that it can have; the first that is free is its own."""
    day = now.astimezone(_CHINA).date()
    return [order_number(order_id, day, attempt) for attempt in range(_ATTEMPTS)]


async def adopt_claims(connection: Connection, guest: UUID, member: UUID) -> None:
    """The keys that the guest used are the member's: what he sends again is what he had sent."""
    given = {"guest": _scope(guest), "member": _scope(member)}
    await connection.execute(queries.load("idempotency").adopt, given)


async def use_promises(connection: Connection, order: Checkout) -> None:
    """Count it against quotas, use its coupon. Refused: `checkout.gone_meanwhile`."""
    text = queries.load("checkout")
    breakdown = order.quote.breakdown
    if uses := effects.limited_uses(breakdown):
        cursor = await connection.execute(text.use_limited, {"promotions": list(uses), "pieces": list(uses.values())})
        if len(await cursor.fetchall()) < len(uses):
            raise Refused("checkout.gone_meanwhile", "A limited-time price has run out just now.", "Look again.")
    if order.claim_id and breakdown.coupon_id:
        cursor = await connection.execute(
            text.use_coupon,
            {"claim_id": order.claim_id, "owners": [order.owner.id], "order_id": order.order_id, "now": order.at},
        )
        if await cursor.fetchone() is None:
            raise Refused("checkout.gone_meanwhile", "Another order has just used the coupon.", "Look again.")


async def write(
    connection: Connection, order: Checkout, payment: PaymentBegun | None = None, *, last: bool = False
) -> None:
    """The order, its goods out of the cart and reserved. Raises stock.OutOfStock: then the transaction has to be left.

    Args:
        payment: begun with it.
        last: nothing else is done in this transaction.
    """
    free = order.quote.total_fen == 0
    whole = last and not free and ending(connection)
    given = _given(order, whole=whole)
    begun = [beginning(payment)] if payment else []
    try:
        changed, *_ = await gather(connection, (queries.load("checkout").record, given), *begun)
    except CheckViolation as error:
        if not whole:
            raise
        await stock.short_of(connection, order.pieces, error)
    if not whole:
        await stock.all_changed(connection, order.pieces, changed)
    if free:
        await pay_nothing(connection, order.order_id, order.at)


async def write_paid(
    connection: Connection, order: Checkout, read: Read, card: Presented, card_id: UUID, *, last: bool = False
) -> None:
    """The order and its payment by a gift card, on one way: paid, or not there. Raises stock.OutOfStock, gift_card.Unusable;
    Refused (`gift_card.short`): then the transaction has to be left.

    Args:
        read: what it was made of.
        last: nothing else is done in this transaction.
    """
    total = order.quote.total_fen
    given = _given(order, whole=True, paid=True)
    if last:
        ending(connection)
    try:
        payment_id = await gift_card.charge(connection, card_id, order.order_id, total, order.owner, order.at)
        await later(connection, queries.load("checkout").record, given)
        # Nobody else knows of it: it is as good as locked.
        locked = _as_locked(order, read, given)
        await gift_card.settle(connection, locked, card_id, payment_id, order.at, written=True)
    except IntegrityError as error:
        await gift_card.refuse(connection, card, total, error, order.at)
        await stock.short_of(connection, order.pieces, error)


def _given(order: Checkout, *, whole: bool, paid: bool = False) -> dict[str, Any]:
    """For `record`."""
    return {
        **row_of(order, order.at, "order.placed", "pending_payment"),
        "pay_by": order.pay_by,
        "placed_from": order.placed_from,
        "skus": list(order.pieces),
        "pieces": list(order.pieces.values()),
        "movements": [new_id() for _ in order.pieces],
        "whole": whole,
        "paid": paid,
    }


def _as_locked(order: Checkout, read: Read, given: dict[str, Any]) -> Locked:
    goods = [effects.Ordered(line.product_id, line.sku_id, line.quantity) for line in order.quote.lines]
    return Locked(
        order.order_id,
        order.number,
        Status.PENDING_PAYMENT,
        RefundStatus.NONE,
        order.owner.customer_id,
        order.owner.id,
        given["items_fen"],
        given["discount_fen"],
        given["shipping_fen"],
        given["total_fen"],
        0,
        0,
        given["claim_id"],
        order.pay_by,
        None,
        None,
        given["breakdown"],
        msgspec.json.encode(goods).decode(),
        read.points_per_yuan,
        read.receive_within_s,
    )


def row_of(order: Checkout, now: datetime, kind: str, status: str) -> dict[str, object]:
    """The order's row, its lines as JSON, and its event of the outbox."""
    breakdown = order.quote.breakdown
    lines = [
        _order_line(n, line, price)
        for n, (line, price) in enumerate(zip(order.quote.lines, breakdown.lines, strict=True), 1)
    ]
    told = {"order_id": order.order_id, "number": order.number, "status": status, "total_fen": breakdown.total_fen}
    return {
        "order_id": order.order_id,
        "number": order.number,
        "customer_id": order.owner.customer_id,
        "owner_id": order.owner.id,
        "buyer_name": order.address.name,
        "buyer_phone": order.address.phone,
        "delivery": order.delivery,
        "address": msgspec.json.encode(order.address).decode() if order.delivery == "ship" else None,
        "items_fen": breakdown.list_fen,
        "discount_fen": breakdown.discount_fen,
        "shipping_fen": breakdown.shipping.fee_fen,
        "total_fen": breakdown.total_fen,
        "breakdown": msgspec.json.encode(breakdown).decode(),
        "claim_id": order.claim_id if breakdown.coupon_id else None,
        "note": order.note[:500],
        "source": order.source,
        "now": order.at,
        "lines": msgspec.json.encode(lines).decode(),
        "event_id": new_id(),
        "actor": order.owner.actor,
        "kind": kind,
        "body": msgspec.json.encode(told).decode(),
    }


def _order_line(n: int, line: QuotedLine, price: LinePrice) -> dict[str, object]:
    """A price of one piece that is whole fen: what cannot be divided is in the line's discount."""
    reduced = price.list_fen - price.limited_off_fen - price.member_off_fen
    each = -(-reduced // line.quantity)
    return {
        "line": n,
        "product_id": line.product_id,
        "sku_id": line.sku_id,
        "title": line.title,
        "title_en": line.title_en,
        "options": line.options,
        "picture": line.picture,
        "list_fen": line.price_fen,
        "price_fen": each,
        "quantity": line.quantity,
        "discount_fen": each * line.quantity - price.total_fen,
        "total_fen": price.total_fen,
        "limited_price_id": price.limited[0].promotion_id if price.limited else None,
    }
