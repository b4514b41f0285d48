"""The API's buckets: as much at once as in a minute, filled evenly, each name for itself, and a bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.web.api.limits import Buckets


def test_a_full_bucket_lets_a_minutes_worth_through_and_then_one_at_a_time() -> None:
    buckets = Buckets(60)
    taken = [buckets.take("a", 0.0) for _ in range(61)]
    assert [rate.remaining for rate in taken[:60]] == list(range(59, -1, -1))
    assert [rate.wait_s for rate in taken] == [0] * 60 + [1]
    assert buckets.take("b", 0.0).remaining == 59
    assert buckets.take("a", 0.5).wait_s == 1
    assert buckets.take("a", 1.0).wait_s == 0
    assert buckets.take("a", 1.0).wait_s == 1
    assert buckets.take("a", 1000.0).remaining == 59


@given(st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_in_no_time_more_than_a_bucket_and_what_filled_it_goes_through(waits: list[float]) -> None:
    buckets, now, through = Buckets(30), 0.0, 0
    for wait in waits:
        now += wait
        rate = buckets.take("a", now)
        through += rate.wait_s == 0
        assert 0 <= rate.remaining < 30
    assert through <= 30 + now * 0.5 + 1e-6


def test_names_that_nobody_uses_any_more_are_forgotten_first() -> None:
    buckets = Buckets(60, most_known=3)
    for _ in range(60):
        buckets.take("busy", 0.0)
    for name in ("a", "b", "c", "d"):  # each is full again when the next comes
        buckets.take(name, 10.0 * (ord(name) - 96))
    assert buckets.take("busy", 40.0).remaining == 39
    assert len(buckets._levels) <= 3
