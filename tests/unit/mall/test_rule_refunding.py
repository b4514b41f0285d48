"""What may go back: never more than was paid, and all of it when all comes back."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ballast.mall.rules.machine import IllegalTransition
from ballast.mall.rules.refunding import (
    OPEN,
    REFUND,
    PaidLine,
    PaidOrder,
    Plan,
    RefundEvent,
    RefundItem,
    RefundState,
    everything,
    plan,
    worth_fen,
)
from ballast.mall.rules.refused import Refused

A, B = UUID(int=1), UUID(int=2)


def done(order: PaidOrder, refund: Plan) -> PaidOrder:
    back = {item.sku_id: item for item in refund.items}
    lines = tuple(
        replace(
            line,
            refunded_quantity=line.refunded_quantity + back[line.sku_id].quantity,
            refunded_fen=line.refunded_fen + back[line.sku_id].amount_fen,
        )
        if line.sku_id in back
        else line
        for line in order.lines
    )
    return PaidOrder(lines, order.shipping_fen, order.shipping_refunded_fen + refund.shipping_fen)


def test_piece_by_piece_makes_the_whole() -> None:
    order = PaidOrder((PaidLine(A, 3, 1000),))
    amounts = []
    for _ in range(3):
        refund = plan(order, [RefundItem(A, 1)])
        amounts.append(refund.total_fen)
        order = done(order, refund)
    assert amounts == [333, 333, 334]
    assert refund.full


@given(st.integers(1, 40), st.integers(0, 10**7), st.lists(st.integers(0, 40), max_size=12))
def test_in_whatever_steps_pieces_come_back_they_are_worth_what_was_paid(
    quantity: int, paid: int, steps: list[int]
) -> None:
    line = PaidLine(A, quantity, paid)
    for step in [*steps, quantity]:
        pieces = min(step, line.left_quantity)
        worth = worth_fen(line, pieces)
        assert abs(worth * quantity - pieces * paid) < quantity
        line = replace(line, refunded_quantity=line.refunded_quantity + pieces, refunded_fen=line.refunded_fen + worth)
    assert (line.left_quantity, line.left_fen) == (0, 0)


asks = st.lists(
    st.tuples(st.sampled_from([A, B]), st.integers(-1, 5), st.none() | st.integers(-1, 3000), st.integers(-1, 900)),
    max_size=12,
)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 800), asks)
def test_no_refunds_together_exceed_what_was_paid(
    paid_a: int, paid_b: int, shipping: int, asked: list[tuple[UUID, int, int | None, int]]
) -> None:
    order = PaidOrder((PaidLine(A, 3, paid_a), PaidLine(B, 4, paid_b)), shipping)
    back, full = 0, False
    for sku, quantity, amount, shipping_fen in asked:
        try:
            refund = plan(order, [RefundItem(sku, quantity, amount)], shipping_fen)
        except Refused:
            continue
        assert refund.total_fen == sum(item.amount_fen for item in refund.items) + refund.shipping_fen >= 0
        order = done(order, refund)
        back += refund.total_fen
        full = refund.full
        assert full == (back == paid_a + paid_b + shipping)
    assert back <= paid_a + paid_b + shipping
    rest = everything(order)
    assert back + rest.total_fen == paid_a + paid_b + shipping
    assert done(order, rest).left_fen == 0
    assert all(line.left_quantity == 0 for line in done(order, rest).lines)


def test_a_refund_of_good_will_makes_the_last_pieces_worth_less() -> None:
    order = done(PaidOrder((PaidLine(A, 2, 1000),)), plan(PaidOrder((PaidLine(A, 2, 1000),)), [RefundItem(A, 0, 300)]))
    refund = plan(order, [RefundItem(A, 2)])
    assert (refund.total_fen, refund.full) == (700, True)


@pytest.mark.parametrize(
    ("items", "shipping", "key"),
    [
        ([RefundItem(A, 4)], 0, "refund.too_many_pieces"),
        ([RefundItem(A, -1)], 0, "refund.too_many_pieces"),
        ([RefundItem(A, 1, 1001)], 0, "refund.too_much"),
        ([RefundItem(A, 1, -1)], 0, "refund.too_much"),
        ([], 501, "refund.too_much_shipping"),
        ([], -1, "refund.too_much_shipping"),
        ([], 0, "refund.nothing"),
        ([RefundItem(A, 0)], 0, "refund.nothing"),
        ([RefundItem(B, 1)], 0, "refund.unknown_line"),
        ([RefundItem(A, 1), RefundItem(A, 1)], 0, "refund.line_twice"),
    ],
)
def test_what_cannot_go_back_is_refused(items: list[RefundItem], shipping: int, key: str) -> None:
    with pytest.raises(Refused) as refused:
        plan(PaidOrder((PaidLine(A, 3, 1000),), 500), items, shipping)
    assert refused.value.key == key


LIFE = """
requested approve approved
requested ask_return awaiting_return
requested refuse refused
requested withdraw withdrawn
awaiting_return goods_back returned
awaiting_return withdraw withdrawn
awaiting_return expire withdrawn
returned send processing
returned refuse refused
approved send processing
processing succeed succeeded
processing fail failed
failed send processing
failed succeed succeeded
"""


def test_every_event_in_every_state_of_a_refund() -> None:
    expected = {(row.split()[0], row.split()[1]): row.split()[2] for row in LIFE.strip().splitlines()}
    for state in RefundState:
        for event in RefundEvent:
            if (state, event) in expected:
                assert REFUND.step(state, event) == expected[state, event]
            else:
                with pytest.raises(IllegalTransition) as illegal:
                    REFUND.step(state, event)
                assert set(illegal.value.allowed) == {e for s, e in expected if s == state}
    ends = {state for state in RefundState if not REFUND.allowed(state)}
    assert set(RefundState) - OPEN == ends == {"refused", "withdrawn", "succeeded"}
