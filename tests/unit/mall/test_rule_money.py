"""Money divided to the fen, and written as people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.money import allocate, format_fen, parse_yuan, plain_yuan, share_fen
from ballast.mall.rules.refused import Refused

weights = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any)


@given(st.integers(0, 10**12), weights)
def test_parts_add_up_and_each_is_within_a_fen_of_its_share(total: int, by: list[int]) -> None:
    parts = allocate(total, by)
    assert sum(parts) == total
    for part, weight in zip(parts, by, strict=True):
        assert abs(part * sum(by) - total * weight) < sum(by)
        assert part == 0 or weight > 0


@given(weights, st.data())
def test_a_total_within_the_weights_takes_no_weight_beyond_itself(by: list[int], data: st.DataObject) -> None:
    parts = allocate(data.draw(st.integers(0, sum(by))), by)
    assert all(0 <= part <= weight for part, weight in zip(parts, by, strict=True))


def test_fen_left_over_go_to_the_largest_remainders_and_of_equal_ones_to_the_first() -> None:
    assert allocate(100, [1, 1, 1]) == (34, 33, 33)
    assert allocate(10, [1, 3, 3]) == (2, 4, 4)
    assert allocate(0, [0, 0]) == (0, 0)
    assert allocate(0, []) == ()


@pytest.mark.parametrize(("total", "by"), [(-1, [1]), (1, [-1, 3]), (1, []), (1, [0])])
def test_what_cannot_be_split_is_refused(total: int, by: list[int]) -> None:
    with pytest.raises(ValueError, match="fen"):
        allocate(total, by)


def test_half_a_fen_goes_to_the_shopper() -> None:
    assert share_fen(10, 2500) == 3  # 2.5 fen are taken off as 3
    assert share_fen(1, 4999) == 0
    assert share_fen(1, 5000) == 1
    assert share_fen(999, 10_000) == 999
    assert share_fen(0, 10_000) == 0


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10_000))
def test_a_share_grows_with_the_amount_and_never_faster(amount: int, more: int, bp: int) -> None:
    assert 0 <= share_fen(amount + more, bp) - share_fen(amount, bp) <= more


def test_amounts_are_written_after_the_language() -> None:
    assert format_fen(123450, "zh") == "¥1,234.50"
    assert format_fen(123450, "en") == "CN¥1,234.50"
    assert format_fen(-5, "zh") == "-¥0.05"
    assert plain_yuan(-123405) == "-1234.05"


@given(st.integers(0, 10**12 - 1))
def test_what_is_written_plainly_is_read_again(amount: int) -> None:
    assert parse_yuan(plain_yuan(amount)) == amount


@pytest.mark.parametrize(
    ("text", "fen"), [("12.34", 1234), ("0.5", 50), ("7", 700), ("0", 0), ("9999999999.99", 10**12 - 1)]
)
def test_amounts_are_read(text: str, fen: int) -> None:
    assert parse_yuan(text) == fen


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "+1",
        "1.",
        ".5",
        "1.234",
        "1,000",
        "1e3",
        " 1",
        "1\n",
        "01",
        "１２",
        "¥1",
        "NaN",
        "0x1",
        "10000000000",
        "1_0",
    ],
)
def test_whatever_else_is_asked_for_again(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_yuan(text)
    assert refused.value.key == "money.unreadable"
