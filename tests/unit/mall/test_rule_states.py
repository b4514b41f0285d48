"""Every event in every state an order can be in: what follows is written here once more, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.machine import IllegalTransition
from ballast.mall.rules.states import Effect, Event, Life, RefundStatus, Status, after, allowed

# status: event → status, effects. What is not named is illegal.
TABLE = """
pending_payment  pay                 paid            sell_stock
pending_payment  cancel_by_shopper   cancelled       release_stock return_coupon
pending_payment  cancel_by_merchant  cancelled       release_stock return_coupon
pending_payment  cancel_by_timeout   cancelled       release_stock return_coupon
paid             pay                 paid            refund_payment
paid             ship_part           partly_shipped
paid             ship                shipped
paid             refund_part         paid            restock
paid             refund_full         cancelled       restock return_coupon
partly_shipped   pay                 partly_shipped  refund_payment
partly_shipped   ship_part           partly_shipped
partly_shipped   ship                shipped
partly_shipped   refund_part         partly_shipped  restock
partly_shipped   refund_full         closed          restock
shipped          pay                 shipped         refund_payment
shipped          receive             received        settle_points
shipped          auto_receive        received        settle_points
shipped          refund_part         shipped
shipped          refund_full         closed
received         pay                 received        refund_payment
received         close               closed
received         refund_part         received        settle_points
received         refund_full         closed          settle_points
closed           pay                 closed          refund_payment
closed           refund_part         closed          settle_points
closed           refund_full         closed          settle_points
cancelled        pay                 cancelled       refund_payment
"""
EXPECTED = {
    (row.split()[0], row.split()[1]): (row.split()[2], tuple(row.split()[3:])) for row in TABLE.strip().splitlines()
}


@pytest.mark.parametrize("refund_status", list(RefundStatus))
@pytest.mark.parametrize("status", list(Status))
def test_every_event_in_every_state(status: Status, refund_status: RefundStatus) -> None:
    life = Life(status, refund_status)
    for event in Event:
        is_refund = event in (Event.REFUND_PART, Event.REFUND_FULL)
        expected = EXPECTED.get((status, event))
        if expected is None or (is_refund and refund_status == RefundStatus.REFUNDED):
            with pytest.raises(IllegalTransition) as illegal:
                after(life, event)
            assert event not in allowed(life)
            assert illegal.value.allowed == allowed(life)
            assert all(name in str(illegal.value) for name in (*illegal.value.allowed, status, event))
        else:
            outcome = after(life, event)
            assert event in allowed(life)
            assert (outcome.life.status, outcome.effects) == expected
            refunded = {Event.REFUND_PART: "partly_refunded", Event.REFUND_FULL: "refunded"}
            assert outcome.life.refund_status == refunded.get(event, refund_status)


def test_a_payment_that_comes_after_the_cancellation_goes_back() -> None:
    cancelled = after(Life(), Event.CANCEL_BY_TIMEOUT)
    late = after(cancelled.life, Event.PAY)
    assert late.life == cancelled.life
    assert late.effects == (Effect.REFUND_PAYMENT,)


@given(st.lists(st.sampled_from(Event), max_size=25))
def test_stock_is_let_go_once_and_an_end_is_an_end(events: list[Event]) -> None:
    life, effects = Life(), []
    for event in events:
        before = life
        try:
            outcome = after(life, event)
        except IllegalTransition:
            continue
        life = outcome.life
        effects += outcome.effects
        if before.status in (Status.CANCELLED, Status.CLOSED):
            assert life.status == before.status
    assert effects.count(Effect.SELL_STOCK) + effects.count(Effect.RELEASE_STOCK) <= 1
    assert effects.count(Effect.RETURN_COUPON) <= 1
    if Effect.RESTOCK in effects:
        assert Effect.SELL_STOCK in effects
    if life.status == Status.CANCELLED and Effect.SELL_STOCK in effects:
        assert life.refund_status == RefundStatus.REFUNDED
