"""Books that balance: each transaction, each day, and an order that was paid and refunded."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.books import (
    Account,
    Entry,
    Transaction,
    balances,
    by_day,
    holder,
    paid,
    paid_undue,
    refunded,
    sent_back,
)

DAY = date(2026, 11, 27)
ORDER = UUID(int=7)


def number(n: int) -> UUID:
    return UUID(int=n)


def test_an_order_refunded_whole_leaves_no_income_and_nothing_owed() -> None:
    book = [
        paid(number(1), ORDER, DAY, list_fen=10_000, discount_fen=1_500, shipping_fen=800),
        refunded(number(2), ORDER, DAY + timedelta(1), goods_fen=3_000, shipping_fen=0),
        refunded(number(3), ORDER, DAY + timedelta(2), goods_fen=5_500, shipping_fen=800),
    ]
    stand = balances(book)
    assert stand[DAY] == {
        "provider": 9300,
        "gift_cards": 0,
        "sales": -10_000,
        "discounts": 1500,
        "shipping": -800,
        "refunds": 0,
        "undue": 0,
    }
    last = stand[DAY + timedelta(2)]
    assert last[Account.PROVIDER] == last[Account.SHIPPING] == 0
    assert last[Account.SALES] + last[Account.DISCOUNTS] + last[Account.REFUNDS] == 0


def test_what_gift_cards_paid_is_owed_by_no_provider() -> None:
    held = holder("gift_card")
    assert (held, holder("sandbox"), holder("import")) == (Account.GIFT_CARDS, Account.PROVIDER, Account.PROVIDER)
    book = [
        paid(number(1), ORDER, DAY, list_fen=1_000, discount_fen=0, shipping_fen=500, held=held),
        refunded(number(2), ORDER, DAY, goods_fen=300, shipping_fen=0, held=held),
    ]
    stand = balances(book)[DAY]
    assert (stand[Account.GIFT_CARDS], stand[Account.PROVIDER]) == (1_200, 0)


def test_a_payment_that_was_not_due_is_no_income() -> None:
    book = [paid_undue(number(1), ORDER, DAY, 500), sent_back(number(2), ORDER, DAY + timedelta(1), 500)]
    stand = balances(book)
    assert stand[DAY] == {**dict.fromkeys(Account, 0), "provider": 500, "undue": -500}
    assert not any(stand[DAY + timedelta(1)].values())


def test_what_does_not_add_up_is_not_booked() -> None:
    with pytest.raises(ValueError, match="5 fen"):
        Transaction(number(1), ORDER, DAY, (Entry(Account.PROVIDER, 10), Entry(Account.SALES, -5)))


amount = st.integers(0, 10**6)


@given(st.lists(st.tuples(st.integers(0, 6), amount, amount, amount, amount), max_size=20))
def test_every_day_balances_and_the_provider_owes_what_is_left(orders: list[tuple[int, int, int, int, int]]) -> None:
    book, left = [], 0
    for n, (day, net, discount, shipping, back) in enumerate(orders):
        at = DAY + timedelta(day)
        book.append(
            paid(number(2 * n), ORDER, at, list_fen=net + discount, discount_fen=discount, shipping_fen=shipping)
        )
        goods = min(back, net)
        book.append(refunded(number(2 * n + 1), ORDER, at + timedelta(1), goods_fen=goods, shipping_fen=shipping))
        left += net - goods
    days, stand = by_day(book), balances(book)
    assert list(days) == sorted(days) == list(stand)
    assert all(sum(moved.values()) == 0 for moved in [*days.values(), *stand.values()])
    if stand:
        assert list(stand.values())[-1][Account.PROVIDER] == left
