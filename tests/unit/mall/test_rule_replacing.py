"""Other goods in the place of those that were ordered: never dearer, and what they are worth less goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.refused import Refused
from ballast.mall.rules.replacing import Replaced, goes_back_fen


def test_goods_of_the_same_price_change_nothing() -> None:
    assert goes_back_fen(Replaced(2, 1000, 2000), 1000, paid=False) == 0


def test_cheaper_goods_give_back_the_difference_where_it_was_paid() -> None:
    assert goes_back_fen(Replaced(2, 1000, 2000), 800, paid=True) == 400
    with pytest.raises(Refused) as refused:
        goes_back_fen(Replaced(2, 1000, 2000), 800, paid=False)
    assert refused.value.key == "replace.unpaid"


def test_what_was_bought_with_a_discount_gives_back_nothing_while_the_goods_are_worth_what_was_paid() -> None:
    assert goes_back_fen(Replaced(2, 1000, 1500), 750, paid=False) == 0
    assert goes_back_fen(Replaced(2, 1000, 1500), 700, paid=True) == 100


def test_dearer_goods_are_refused() -> None:
    with pytest.raises(Refused) as refused:
        goes_back_fen(Replaced(1, 1000, 500), 1001, paid=True)
    assert refused.value.key == "replace.dearer"


@given(st.integers(1, 999), st.integers(0, 10**6), st.integers(0, 10**6), st.data())
def test_never_more_goes_back_than_was_paid(quantity: int, each: int, off: int, data: st.DataObject) -> None:
    total = max(0, each * quantity - off)
    price = data.draw(st.integers(0, each))
    back = goes_back_fen(Replaced(quantity, each, total), price, paid=True)
    assert 0 <= back <= total
    assert total - back <= max(price * quantity, 0) or back == 0
