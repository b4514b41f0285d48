"""What follows from many requests: paces, errors, closed minutes, first visits."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.demo import visits as of
from tests.unit.demo.replayed import view


def test_what_is_done_counts_in_the_second_of_its_answer() -> None:
    seen = [view("tea", 0.95, took_s=0.2), view("tea", 1.0), view("tea", 2.5, good=False), view("tea", 9.0)]
    assert of.per_second(seen, "view", 0.0, 3.0) == [0, 2, 0]


def test_counted_as_they_come_they_are_as_many() -> None:
    seen = [view("tea", 0.95, took_s=0.2), view("tea", 1.0), view("tea", 2.5, good=False), view("tea", 9.0)]
    pulse = of.Pulse()
    for one in seen:
        pulse.count(one)
    assert pulse.done("view", 3.4, 3) == of.per_second(seen, "view", 0.0, 3.0) == [0, 2, 0]
    assert pulse.wrong(3.4, 3) == [0, 0, 1]
    assert pulse.done("order", 3.4, 3) == [0, 0, 0]


def test_a_refusal_is_an_answer_and_is_not_what_was_wanted() -> None:
    refused = view("tea", 1.0, kind="order", status=409, done=False)
    assert of.per_second([refused], "order", 0.0, 3.0) == [0, 0, 0]
    assert of.errors([refused], (0.0, 3.0)) == []


def test_a_pace_leaves_out_what_is_excused() -> None:
    seen = [view("tea", s + 0.5) for s in range(10)]
    assert of.rate(seen, "view", (0.0, 10.0)) == pytest.approx(1.0)
    fewer = [one for one in seen if not 3 < one.at < 6]
    assert of.rate(fewer, "view", (0.0, 10.0)) == pytest.approx(0.7)
    assert of.rate(fewer, "view", (0.0, 10.0), [(3.0, 6.0)]) == pytest.approx(1.0)


def test_a_shop_is_closed_from_its_failure_to_its_next_answer() -> None:
    seen = [view("tea", 1.0), view("tea", 2.0, good=False, took_s=0.0), view("wear", 3.0), view("tea", 7.0, took_s=0.0)]
    assert of.closed(seen, 20.0) == {"tea": [(2.0, 7.0)]}
    assert of.closed_minutes(of.closed(seen, 20.0)) == pytest.approx(5 / 60)


def test_a_shop_that_never_answers_again_is_closed_to_the_end() -> None:
    assert of.closed([view("tea", 2.0, good=False, took_s=0.0)], 20.0) == {"tea": [(2.0, 20.0)]}


def test_a_failure_that_is_mended_at_once_closes_a_second() -> None:
    seen = [view("tea", 2.0, good=False, took_s=0.0), view("tea", 2.1, took_s=0.0)]
    assert of.closed_minutes(of.closed(seen, 20.0)) == pytest.approx(1 / 60)


def test_merchants_and_the_provider_close_no_shop() -> None:
    away = [view("tea", 1.0, good=False, kind=kind) for kind in ("merchant", "payment")]
    assert of.closed(away, 20.0) == {}


def test_the_first_page_of_a_shop_after_the_loss_is_the_first_that_came() -> None:
    seen = [
        view("tea", 9.0),
        view("tea", 10.5, good=False),
        view("tea", 11.0, took_s=0.4),
        view("tea", 12.0),
        view("wear", 13.0),
    ]
    assert [(one.shop, one.took_s) for one in of.first_visits(seen, 10.0)] == [("tea", 0.4), ("wear", 0.03)]


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100)).map(lambda pair: (min(pair), max(pair))), max_size=8))
def test_windows_without_overlaps_cover_the_same_time(windows: list[of.Window]) -> None:
    merged = of.merged(windows)
    assert all(one[1] < other[0] for one, other in pairwise(merged))
    for at in (n / 2 for n in range(200)):
        assert any(a <= at <= b for a, b in windows) == any(a <= at <= b for a, b in merged)


def test_a_quantile_is_a_value_that_was_there() -> None:
    assert of.quantile([], 0.5) is None
    assert of.quantile([3.0], 0.99) == 3.0
    assert of.quantile(range(1, 101), 0.5) == 50
    assert of.quantile(range(1, 101), 0.99) == 99
