"""An order of the past, as somebody tells of it: an imported one, or a seeded one. What happened is told by its moments.

`told` makes of it the rows that its life would have left.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall.ids import part_of
from ballast.mall.quoting import Address
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event

PAYMENT, SHIPMENT, REFUND, POINTS, EVENT = 1, 2, 16, 256, 1024
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
    return part_of(order.order_id, PAYMENT)


def happenings(order: Past) -> Iterator[tuple[datetime, Event, int]]:
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
