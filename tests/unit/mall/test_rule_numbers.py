"""Order numbers that survive being read out and typed."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.numbers import LENGTH, check_digit, order_number, parse_order_number, spoken
from ballast.mall.rules.refused import Refused

DAY = date(2026, 11, 27)
NUMBER = "261127482910375626"


def test_the_check_digit_is_that_of_the_thesis() -> None:
    assert check_digit("572") == 4
    assert check_digit("5724") == 0
    assert check_digit("") == 0


@given(st.uuids(), st.dates(date(2020, 1, 1), date(2068, 12, 31)), st.integers(0, 9))
def test_a_number_is_read_again_and_says_its_day(order_id: UUID, day: date, attempt: int) -> None:
    number = order_number(order_id, day, attempt)
    assert len(number) == LENGTH
    assert number == order_number(order_id, day, attempt)
    assert number.startswith(day.strftime("%y%m%d"))
    assert parse_order_number(spoken(number)) == number


def test_another_order_and_another_attempt_have_another_number() -> None:
    numbers = {order_number(UUID(int=n), DAY, attempt) for n in range(2000) for attempt in range(2)}
    assert len(numbers) == 4000


@pytest.mark.parametrize(
    "typed",
    [
        "261127-482910-375626",
        " 261127 482910\t375626\n",
        "２６１１２７－４８２９１０－３７５６２６",
        "261127—482910–375626",
        "261127　482910　375626",
        "26ll27.4829lO.375626",
        "#261127_482910_375626",
        "261127ー482910−375626",
    ],
)
def test_what_a_person_types_is_understood(typed: str) -> None:
    assert parse_order_number(typed) == NUMBER
    assert spoken(NUMBER) == "261127-482910-375626"


@given(st.integers(0, LENGTH - 1), st.integers(1, 9))
def test_any_wrong_digit_is_noticed(at: int, by: int) -> None:
    wrong = NUMBER[:at] + str((int(NUMBER[at]) + by) % 10) + NUMBER[at + 1 :]
    with pytest.raises(Refused) as refused:
        parse_order_number(wrong)
    assert refused.value.key == "number.mistyped"


@given(st.uuids(), st.integers(0, LENGTH - 2))
def test_any_swapped_neighbours_are_noticed(order_id: UUID, at: int) -> None:
    number = order_number(order_id, DAY)
    swapped = number[:at] + number[at + 1] + number[at] + number[at + 2 :]
    if swapped != number:
        with pytest.raises(Refused, match="wrong"):
            parse_order_number(swapped)


def test_a_day_that_there_is_not_is_noticed_though_the_check_digit_fits() -> None:
    digits = "26133100000000000"
    with pytest.raises(Refused) as refused:
        parse_order_number(f"{digits}{check_digit(digits)}")
    assert refused.value.key == "number.mistyped"


@pytest.mark.parametrize(
    "typed", ["", "12345", NUMBER + "0", NUMBER[:-1], NUMBER[:-1] + "x", "²" * 17 + "x", "9" * 10**6]
)
def test_what_is_no_number_is_told_as_such(typed: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_order_number(typed)
    assert refused.value.key == "number.not_18_digits"
    assert len(str(refused.value)) < 400


@given(st.text(max_size=60))
def test_whatever_is_typed_is_a_number_or_refused(typed: str) -> None:
    try:
        number = parse_order_number(typed)
    except Refused:
        return
    assert number.isascii()
    assert len(number) == LENGTH
