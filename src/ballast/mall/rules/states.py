"""An order's life: which event may happen in which state, and what must be done then.

Two dimensions, two columns. `status` says how far the order has come; `refund_status` how much of the money went back.
Kept in one they would multiply (shipped and partly refunded, received and partly refunded, …).

    pending_payment ─pay─► paid ─ship_part─► partly_shipped ─ship─► shipped ─receive─► received ─close─► closed
          │                 │ └─────────────────ship──────────────────▲                                   ▲
          │ cancel          │ refund_full                                                                │
          └───────────────► cancelled ◄┘          refund_full from partly_shipped, shipped, received ────┘

A paid order is cancelled by refunding all of it, never by a mere change of status. Where goods have left the house the
order is not cancelled any more: it is closed, refunded. A refund of good will after closing changes only `refund_status`.

Money that comes where none is due goes back by itself: a payment after the cancellation, or a second one for an order that
is paid. It is an outcome of the rule, not an error: the provider's callback must be acknowledged. (The same callback once
more is no second payment; whoever takes callbacks tells them apart by the provider's payment number.)
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from ballast.mall.rules.machine import IllegalTransition, Machine


class Status(StrEnum):
    """How far an order has come."""

    PENDING_PAYMENT = "pending_payment"
    PAID = "paid"
    PARTLY_SHIPPED = "partly_shipped"
    SHIPPED = "shipped"
    RECEIVED = "received"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class RefundStatus(StrEnum):
    """How much of an order's money went back. What is merely asked for is a refund's own state, not the order's."""

    NONE = "none"
    PARTLY_REFUNDED = "partly_refunded"
    REFUNDED = "refunded"


class Event(StrEnum):
    """What happens to an order."""

    PAY = "pay"
    SHIP_PART = "ship_part"
    """Something was sent, something else is still to be sent."""
    SHIP = "ship"
    """Nothing is left to be sent: the rest went out, was picked up, or what was left of it is refunded."""
    RECEIVE = "receive"
    AUTO_RECEIVE = "auto_receive"
    """The time in which the shopper could have confirmed receipt is over."""
    CLOSE = "close"
    """The time for after-sales is over. Not to be sent while a refund is open."""
    CANCEL_BY_SHOPPER = "cancel_by_shopper"
    CANCEL_BY_MERCHANT = "cancel_by_merchant"
    CANCEL_BY_TIMEOUT = "cancel_by_timeout"
    REFUND_PART = "refund_part"
    """The provider has paid something back, not yet all."""
    REFUND_FULL = "refund_full"
    """… and with it all that was paid is back (`refunding.Plan.full`)."""


class Effect(StrEnum):
    """What the caller has to do in the same transaction as the change of state."""

    SELL_STOCK = "sell_stock"
    """Reserved pieces become sold ones."""
    RELEASE_STOCK = "release_stock"
    """Reserved pieces are free again."""
    RESTOCK = "restock"
    """Pieces whose money went back and that never left are free again."""
    RETURN_COUPON = "return_coupon"
    SETTLE_POINTS = "settle_points"
    """Give or take points until the order has earned what `levels.points` says."""
    REFUND_PAYMENT = "refund_payment"
    """Send this payment back whole: it was not due."""


class Life(msgspec.Struct, frozen=True):
    """Where an order stands."""

    status: Status = Status.PENDING_PAYMENT
    refund_status: RefundStatus = RefundStatus.NONE


class Outcome(msgspec.Struct, frozen=True):
    """Where it stands after an event, and what must be done. `life` may be unchanged."""

    life: Life
    effects: tuple[Effect, ...] = ()


_S, _E, _F, _R = Status, Event, Effect, RefundStatus
_CANCELLATIONS = (_E.CANCEL_BY_SHOPPER, _E.CANCEL_BY_MERCHANT, _E.CANCEL_BY_TIMEOUT)

_Next = tuple[Status, tuple[Effect, ...]]


def _table() -> Iterator[tuple[tuple[Status, Event], _Next]]:
    yield (_S.PENDING_PAYMENT, _E.PAY), (_S.PAID, (_F.SELL_STOCK,))
    for event in _CANCELLATIONS:
        yield (_S.PENDING_PAYMENT, event), (_S.CANCELLED, (_F.RELEASE_STOCK, _F.RETURN_COUPON))
    for status in (_S.PAID, _S.PARTLY_SHIPPED):
        yield (status, _E.SHIP_PART), (_S.PARTLY_SHIPPED, ())
        yield (status, _E.SHIP), (_S.SHIPPED, ())
    yield (_S.SHIPPED, _E.RECEIVE), (_S.RECEIVED, (_F.SETTLE_POINTS,))
    yield (_S.SHIPPED, _E.AUTO_RECEIVE), (_S.RECEIVED, (_F.SETTLE_POINTS,))
    yield (_S.RECEIVED, _E.CLOSE), (_S.CLOSED, ())
    for status in (_S.PAID, _S.PARTLY_SHIPPED):
        yield (status, _E.REFUND_PART), (status, (_F.RESTOCK,))
    yield (_S.SHIPPED, _E.REFUND_PART), (_S.SHIPPED, ())
    for status in (_S.RECEIVED, _S.CLOSED):
        yield (status, _E.REFUND_PART), (status, (_F.SETTLE_POINTS,))
    yield (_S.PAID, _E.REFUND_FULL), (_S.CANCELLED, (_F.RESTOCK, _F.RETURN_COUPON))
    yield (_S.PARTLY_SHIPPED, _E.REFUND_FULL), (_S.CLOSED, (_F.RESTOCK,))
    yield (_S.SHIPPED, _E.REFUND_FULL), (_S.CLOSED, ())
    for status in (_S.RECEIVED, _S.CLOSED):
        yield (status, _E.REFUND_FULL), (_S.CLOSED, (_F.SETTLE_POINTS,))
    for status in _S:
        if status != _S.PENDING_PAYMENT:
            yield (status, _E.PAY), (status, (_F.REFUND_PAYMENT,))


ORDER = Machine("order", dict(_table()))
_REFUNDS = (_E.REFUND_PART, _E.REFUND_FULL)


def allowed(life: Life) -> tuple[Event, ...]:
    """What may happen to an order that stands so. A payment always may: at worst it goes back."""
    events = ORDER.allowed(life.status)
    return tuple(e for e in events if e not in _REFUNDS) if life.refund_status == _R.REFUNDED else events


def after(life: Life, event: Event) -> Outcome:
    """Where the order stands after `event`, and what must be done. IllegalTransition where it may not happen."""
    if event not in allowed(life):
        stand = life.status if life.refund_status == _R.NONE else f"{life.status} and {life.refund_status}"
        raise IllegalTransition("order", stand, event, allowed(life))
    status, effects = ORDER.step(life.status, event)
    refunds = {_E.REFUND_PART: _R.PARTLY_REFUNDED, _E.REFUND_FULL: _R.REFUNDED}
    return Outcome(Life(status, refunds.get(event, life.refund_status)), effects)
