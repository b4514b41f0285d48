"""The rows that the life of an order (`past.Past`) has left.

Its events go through `rules.states`, its payment and refunds through `rules.books`, its points through `rules.levels`: a life
that the mall would not have allowed is refused, whoever tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.bookkeeping import day_of
from ballast.mall.ids import part_of
from ballast.mall.past import EVENT, POINTS, REFUND, SHIPMENT, GoneBack, Past, happenings, payment_of
from ballast.mall.rules import books, levels, states
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Life, Status

Stage = tuple[datetime, Event, int, Life]
"""When, what, of several refunds which, and where the order stood then."""


class Told(msgspec.Struct, frozen=True):
    """What an order has left: its rows, where it stands, and what it did to its buyer and to the stock."""

    rows: list[tables.Row]
    life: Life
    points: int
    spent_fen: int
    """What counts for a level: of a received order what was paid less what went back."""
    reserved: bool
    """Its goods wait for the payment."""
    sold: bool
    """Its goods were sold."""
    never_left: dict[int, int]
    """Pieces that were sold and can be sold again, by line."""


def tell(order: Past) -> Told:
    """The rows of an order's life.

    Raises:
        Refused: it cannot have been so: moments out of their order, a step that the rules do not allow, more back than paid.
    """
    life = Life()
    stages: list[Stage] = []
    for at, event, which in happenings(order):
        life = states.after(life, event).life
        stages.append((at, event, which, life))
    went_back = [one for one in order.back if one.status == RefundState.SUCCEEDED]
    refunded_fen = sum(one.amount_fen for one in went_back)
    if refunded_fen > (order.total_fen if order.paid_at else 0):
        raise Refused("past.refunded", "More went back than was paid.", "Correct the amount that went back.")
    rows: list[tables.Row] = [_order_row(order, life, stages, refunded_fen)]
    never_left = _never_left(order, went_back)
    rows += _lines(order, went_back, never_left)
    rows += _events(order, stages)
    rows += _money(order)
    entries = list(_points(order, stages))
    rows += entries
    received = order.received_at is not None
    return Told(
        rows,
        life,
        points=sum(one.points for one in entries),
        spent_fen=order.total_fen - refunded_fen if received and order.paid_at else 0,
        reserved=life.status == Status.PENDING_PAYMENT,
        sold=order.paid_at is not None,
        never_left=never_left,
    )


def _order_row(order: Past, life: Life, stages: list[Stage], refunded_fen: int) -> tables.Order:
    def first(status: Status) -> datetime | None:
        return next((at for at, _, _, life in stages if life.status == status), None)

    cancelled = first(Status.CANCELLED)
    reason = order.cancel_reason or next((e.value for _, e, _, at in stages if at.status == Status.CANCELLED), "")
    return tables.Order(
        order_id=order.order_id,
        number=order.number,
        status=life.status.value,
        refund_status=life.refund_status.value,
        customer_id=order.customer_id,
        owner_id=order.owner_id,
        buyer_name=order.buyer_name,
        buyer_phone=order.buyer_phone,
        delivery="ship" if order.address else "pickup",
        address=order.address,
        items_fen=order.items_fen,
        discount_fen=order.items_fen - order.goods_fen,
        shipping_fen=order.shipping_fen,
        total_fen=order.total_fen,
        paid_fen=order.total_fen if order.paid_at else 0,
        refunded_fen=refunded_fen,
        breakdown=order.breakdown or {},
        coupon_claim_id=order.coupon_claim_id,
        note=order.note,
        source=order.source,
        external_code=order.external_code,
        placed_at=order.placed_at,
        pay_by=order.pay_by,
        paid_at=order.paid_at,
        shipped_at=order.shipped_at,
        received_at=order.received_at,
        closed_at=first(Status.CLOSED),
        cancelled_at=cancelled,
        cancel_reason=reason if cancelled else None,
        version=len(stages) + 1,
    )


def _before_it_left(order: Past, one: GoneBack) -> bool:
    """Whether it was agreed on before anything was sent: its pieces then never are."""
    return order.shipped_at is None or (one.decided_at or one.asked_at) < order.shipped_at


def _never_left(order: Past, went_back: list[GoneBack]) -> dict[int, int]:
    """Pieces whose money went back before anything was sent."""
    found: dict[int, int] = {}
    for one in went_back:
        if _before_it_left(order, one):
            for line, pieces, _ in one.lines:
                if pieces:
                    found[line] = found.get(line, 0) + pieces
    return found


def _lines(order: Past, went_back: list[GoneBack], never_left: dict[int, int]) -> Iterator[tables.OrderLine]:
    pieces: dict[int, int] = {}
    amounts: dict[int, int] = {}
    for one in went_back:
        for line, count, fen in one.lines:
            pieces[line] = pieces.get(line, 0) + count
            amounts[line] = amounts.get(line, 0) + fen
    for n, goods in enumerate(order.goods, 1):
        dropped = never_left.get(n, 0)
        yield tables.OrderLine(
            order_id=order.order_id,
            line=n,
            product_id=goods.product_id,
            sku_id=goods.sku_id,
            title=goods.title,
            title_en=goods.title_en,
            options=goods.options,
            picture=goods.picture,
            list_fen=goods.list_fen,
            price_fen=goods.price_fen,
            quantity=goods.quantity,
            discount_fen=goods.discount_fen,
            total_fen=goods.total_fen,
            shipped_quantity=goods.quantity - dropped if order.shipped_at else 0,
            dropped_quantity=dropped,
            refunded_quantity=pieces.get(n, 0),
            refunded_fen=amounts.get(n, 0),
        )


def _events(order: Past, stages: list[Stage]) -> Iterator[tables.OrderEvent]:
    buyer = f"customer:{order.customer_id}" if order.customer_id else f"visitor:{order.owner_id}"
    provider = f"provider:{order.provider}"
    shop = "import" if order.source == "import" else "shop"
    details: dict[Event, tuple[str, dict[str, Any]]] = {
        Event.PAY: (
            provider,
            {
                "payment_id": str(payment_of(order)),
                "points_per_100_yuan": order.points_per_yuan * 100,
            },
        ),
        Event.SHIP: (
            shop,
            {
                "shipment_id": str(part_of(order.order_id, SHIPMENT)),
                "carrier": order.carrier,
                "tracking": order.tracking,
            },
        ),
        Event.RECEIVE: (buyer, {}),
        Event.CANCEL_BY_SHOPPER: (buyer, {}),
        Event.CANCEL_BY_MERCHANT: (shop, {}),
    }

    def event_id(n: int) -> UUID:
        return part_of(order.order_id, EVENT + n)

    yield tables.OrderEvent(
        order.order_id, event_id(0), "place", Status.PENDING_PAYMENT.value, buyer, {}, order.placed_at
    )
    for n, (at, event, which, life) in enumerate(stages, 1):
        actor, detail = details.get(event, ("job", {}))
        if event in (Event.REFUND_PART, Event.REFUND_FULL):
            refund = str(part_of(order.order_id, REFUND + which))
            actor, detail = provider, {"refund_id": refund, "amount_fen": order.back[which].amount_fen}
        yield tables.OrderEvent(order.order_id, event_id(n), event.value, life.status.value, actor, detail, at)


def _money(order: Past) -> Iterator[tables.Row]:
    if order.paid_at is None:
        return
    payment_id = payment_of(order)
    yield tables.Payment(
        payment_id,
        order.order_id,
        order.provider,
        order.provider_code,
        order.total_fen,
        "succeeded",
        order.placed_at,
        order.paid_at,
    )
    discount_fen = order.items_fen - order.goods_fen
    yield from _posted(
        books.paid(
            payment_id,
            order.order_id,
            day_of(order.paid_at),
            list_fen=order.items_fen,
            discount_fen=discount_fen,
            shipping_fen=order.shipping_fen,
        ),
        order.paid_at,
    )
    never_left = _never_left(order, [one for one in order.back if one.status == RefundState.SUCCEEDED])
    for n, one in enumerate(order.back):
        refund_id = part_of(order.order_id, REFUND + n)
        yield _refund_row(order, one, refund_id, payment_id)
        if one.succeeded_at is not None:
            yield from _posted(
                books.refunded(
                    refund_id,
                    order.order_id,
                    day_of(one.succeeded_at),
                    goods_fen=one.amount_fen - one.shipping_fen,
                    shipping_fen=one.shipping_fen,
                ),
                one.succeeded_at,
            )
    if order.shipped_at is not None:
        sent = [
            {"line": n, "quantity": goods.quantity - never_left.get(n, 0)}
            for n, goods in enumerate(order.goods, 1)
            if goods.quantity > never_left.get(n, 0)
        ]
        yield tables.Shipment(
            part_of(order.order_id, SHIPMENT),
            order.order_id,
            order.carrier or ("pickup" if order.address is None else ""),
            order.tracking,
            sent,
            order.shipped_at,
        )


def _refund_row(order: Past, one: GoneBack, refund_id: UUID, payment_id: UUID) -> tables.Refund:
    early = one.succeeded_at is not None and _before_it_left(order, one)
    lines = [
        {"line": line, "quantity": pieces, "amount_fen": fen, "dropped": pieces if early else 0}
        for line, pieces, fen in one.lines
    ]
    decided = one.decided_at
    return tables.Refund(
        refund_id=refund_id,
        order_id=order.order_id,
        payment_id=payment_id,
        status=one.status.value,
        with_return=one.with_return,
        lines=lines,
        shipping_fen=one.shipping_fen,
        amount_fen=one.amount_fen,
        reason=one.reason,
        answer=one.answer,
        provider_code=f"{order.provider_code}-r" if one.succeeded_at and order.provider_code else None,
        requested_by="import" if order.source == "import" else f"customer:{order.owner_id}",
        decided_by=("import" if order.source == "import" else "shop") if decided else None,
        created_at=one.asked_at,
        decided_at=decided,
        sent_at=decided if one.succeeded_at else None,
        succeeded_at=one.succeeded_at,
    )


def _posted(transaction: books.Transaction, at: datetime) -> Iterator[tables.Posting]:
    for entry in transaction.entries:
        yield tables.Posting(
            transaction.source_id,
            entry.account.value,
            entry.amount_fen,
            transaction.order_id,
            transaction.day,
            at,
        )


def _points(order: Past, stages: list[Stage]) -> Iterator[tables.PointsEntry]:
    """As `effects.settle_member` would have: on receipt, and anew at every refund after it."""
    if order.customer_id is None:
        return
    back = settled = 0
    received = False
    for at, event, which, life in stages:
        if event in (Event.REFUND_PART, Event.REFUND_FULL):
            back += order.back[which].amount_fen
        received = received or life.status == Status.RECEIVED
        if not received:
            continue
        change = levels.points_to_settle(order.total_fen, back, order.points_per_yuan * 100, settled)
        if change:
            settled += change
            entry_id = part_of(order.order_id, POINTS + which if back else POINTS - 1)
            yield tables.PointsEntry(entry_id, order.customer_id, change, life.status.value, order.order_id, at)
