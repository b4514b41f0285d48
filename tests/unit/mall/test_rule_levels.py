"""Levels by what was spent; points that end at nothing when everything went back."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.levels import Level, level_at, next_level, points, points_to_settle

PLAIN, SILVER, GOLD = (
    Level(UUID(int=n), str(n), at, bp) for n, at, bp in ((1, 0, 0), (2, 10_000, 200), (3, 50_000, 500))
)


def test_the_level_is_the_highest_that_is_reached() -> None:
    levels = [GOLD, PLAIN, SILVER]
    assert [level_at(levels, spent) for spent in (0, 9_999, 10_000, 49_999, 50_000)] == [
        PLAIN,
        PLAIN,
        SILVER,
        SILVER,
        GOLD,
    ]
    assert level_at([GOLD], 0) is None
    assert next_level(levels, 9_000) == (SILVER, 1_000)
    assert next_level(levels, 50_000) is None


def test_points_are_rounded_down() -> None:
    assert points(199, 0, 100) == 1
    assert points(10_000, 0, 150) == 150
    assert points(10_000, 1, 100) == 99


@given(st.integers(0, 10**8), st.integers(0, 1000), st.lists(st.integers(0, 10**8), max_size=6))
def test_an_order_refunded_whole_in_any_steps_has_earned_nothing(paid: int, rate: int, steps: list[int]) -> None:
    refunded, settled = 0, points(paid, 0, rate)
    for step in [*steps, paid]:
        refunded = min(paid, refunded + step)
        change = points_to_settle(paid, refunded, rate, settled)
        assert change <= 0
        settled += change
        assert settled == points(paid, refunded, rate) >= 0
    assert settled == 0


def test_more_than_was_paid_cannot_have_gone_back() -> None:
    with pytest.raises(ValueError, match="refunded"):
        points(100, 101, 1)
    with pytest.raises(ValueError, match="10001"):
        Level(UUID(int=1), "x", 0, 10_001)
