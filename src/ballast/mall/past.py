"""An order of the past, and the rows that its life would have left: of an imported order, or of a seeded one.

What happened when is told by its moments. The events are put in their order and go through `rules.states`, payments and
refunds through `rules.books`: a life that the mall would not have allowed is refused, whoever tells of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.bookkeeping import day_of
from ballast.mall.ids import part_of
from ballast.mall.quoting import Address
from ballast.mall.rules import books, levels, states
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Life, Status

_PAYMENT, _SHIPMENT, _REFUND, _POINTS, _EVENT = 1, 2, 16, 256, 1024
"""Numbers of what belongs to an order, for `ids.part_of`; of refunds, entries and events several follow."""


class Goods(msgspec.Struct, frozen=True):
    """A line, as it was sold. `list_fen` and `price_fen` of one piece, before and after a limited or member price."""

    title: str
    quantity: int
    list_fen: int
    price_fen: int
    discount_fen: int = 0
    """Taken off the whole line."""
    title_en: str = ""
    options: tuple[str, ...] = ()
    picture: str | None = None
    product_id: UUID | None = None
    sku_id: UUID | None = None

    @property
    def total_fen(self) -> int:
        """What was paid for it, without shipping."""
        return self.price_fen * self.quantity - self.discount_fen


class GoneBack(msgspec.Struct, frozen=True):
    """Money that went back or was asked back. `lines`: (line, pieces, fen)."""

    asked_at: datetime
    lines: tuple[tuple[int, int, int], ...]
    shipping_fen: int = 0
    status: RefundState = RefundState.SUCCEEDED
    decided_at: datetime | None = None
    succeeded_at: datetime | None = None
    with_return: bool = False
    reason: str = ""
    answer: str = ""

    @property
    def amount_fen(self) -> int:
        """All of it."""
        return sum(fen for _, _, fen in self.lines) + self.shipping_fen


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """An order as somebody tells of it. Moments that did not come are None."""

    order_id: UUID
    """derived (`ids.derived`): the ids of what belongs to it come from it"""
    number: str
    source: Literal["web", "import"]
    owner_id: UUID
    goods: tuple[Goods, ...]
    placed_at: datetime
    pay_by: datetime
    customer_id: UUID | None = None
    external_code: str | None = None
    buyer_name: str = ""
    buyer_phone: str = ""
    address: Address | None = None
    """None: it is picked up"""
    shipping_fen: int = 0
    breakdown: Breakdown | None = None
    coupon_claim_id: UUID | None = None
    note: str = ""
    paid_at: datetime | None = None
    shipped_at: datetime | None = None
    received_at: datetime | None = None
    closed_at: datetime | None = None
    """by the passing of time; one that is refunded whole closes by that"""
    cancelled_at: datetime | None = None
    """while it was not paid; one that is refunded whole before it left is cancelled by that"""
    cancelled_by: Event = Event.CANCEL_BY_TIMEOUT
    cancel_reason: str = ""
    provider: str = "import"
    provider_code: str | None = None
    carrier: str = ""
    tracking: str = ""
    back: tuple[GoneBack, ...] = ()
    points_per_yuan: int = 0
    by_hand: bool = True
    """received by the shopper himself, not by the passing of time"""

    @property
    def items_fen(self) -> int:
        """At list prices."""
        return sum(one.list_fen * one.quantity for one in self.goods)

    @property
    def goods_fen(self) -> int:
        """After all discounts."""
        return sum(one.total_fen for one in self.goods)

    @property
    def total_fen(self) -> int:
        """What was to be paid."""
        return self.goods_fen + self.shipping_fen


def payment_of(order: Past) -> UUID:
    """The id of its payment."""
    return part_of(order.order_id, _PAYMENT)


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
    stages: list[tuple[datetime, Event, int, Life]] = []
    for at, event, which in _happenings(order):
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


def _happenings(order: Past) -> Iterator[tuple[datetime, Event, int]]:
    """What happened to it, in order; things of one moment in the order of a life. `which`: of several refunds."""
    found: list[tuple[datetime, Event, int]] = []

    def note(at: datetime | None, event: Event, which: int = 0) -> None:
        if at is not None:
            found.append((at, event, which))

    note(order.paid_at, Event.PAY)
    note(order.cancelled_at, order.cancelled_by)
    note(order.shipped_at, Event.SHIP)
    note(order.received_at, Event.RECEIVE if order.by_hand else Event.AUTO_RECEIVE)
    note(order.closed_at, Event.CLOSE)
    paid, back = order.total_fen, 0
    for which, one in enumerate(order.back):
        if one.status == RefundState.SUCCEEDED:
            back += one.amount_fen
            note(one.succeeded_at, Event.REFUND_FULL if back >= paid else Event.REFUND_PART, which)
    if any(at < order.placed_at for at, _, _ in found):
        raise Refused("past.order", "Something happened before it was placed.", "Correct its moments.")
    return iter(sorted(found, key=lambda one: one[0]))


def _order_row(
    order: Past, life: Life, stages: list[tuple[datetime, Event, int, Life]], refunded_fen: int
) -> tables.Order:
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


def _never_left(order: Past, went_back: list[GoneBack]) -> dict[int, int]:
    """Pieces whose money went back before anything was sent."""
    found: dict[int, int] = {}
    for one in went_back:
        decided = one.decided_at or one.asked_at
        if order.shipped_at is None or decided < order.shipped_at:
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


def _events(order: Past, stages: list[tuple[datetime, Event, int, Life]]) -> Iterator[tables.OrderEvent]:
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
                "shipment_id": str(part_of(order.order_id, _SHIPMENT)),
                "carrier": order.carrier,
                "tracking": order.tracking,
            },
        ),
        Event.RECEIVE: (buyer, {}),
        Event.CANCEL_BY_SHOPPER: (buyer, {}),
        Event.CANCEL_BY_MERCHANT: (shop, {}),
    }

    def event_id(n: int) -> UUID:
        return part_of(order.order_id, _EVENT + n)

    yield tables.OrderEvent(
        order.order_id, event_id(0), "place", Status.PENDING_PAYMENT.value, buyer, {}, order.placed_at
    )
    for n, (at, event, which, life) in enumerate(stages, 1):
        actor, detail = details.get(event, ("job", {}))
        if event in (Event.REFUND_PART, Event.REFUND_FULL):
            refund = str(part_of(order.order_id, _REFUND + which))
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
        refund_id = part_of(order.order_id, _REFUND + n)
        yield _refund_row(order, one, refund_id, payment_id, never_left)
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
            part_of(order.order_id, _SHIPMENT),
            order.order_id,
            order.carrier or ("pickup" if order.address is None else ""),
            order.tracking,
            sent,
            order.shipped_at,
        )


def _refund_row(
    order: Past, one: GoneBack, refund_id: UUID, payment_id: UUID, never_left: dict[int, int]
) -> tables.Refund:
    early = one.succeeded_at is not None and never_left
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


def _points(order: Past, stages: list[tuple[datetime, Event, int, Life]]) -> Iterator[tables.PointsEntry]:
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
            entry_id = part_of(order.order_id, _POINTS + which if back else _POINTS - 1)
            yield tables.PointsEntry(entry_id, order.customer_id, change, life.status.value, order.order_id, at)
