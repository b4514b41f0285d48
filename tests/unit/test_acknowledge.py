"""What may be acknowledged, over all orders in which messages and disks can come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.postgres.acknowledge import AckTracker


def test_a_commit_is_acknowledged_by_its_end_and_only_when_durable() -> None:
    tracker = AckTracker(100)
    tracker.begin()
    tracker.commit(230)

    assert tracker.flush_lsn == 100
    assert tracker.durable(230) == 230


def test_a_keepalive_with_nothing_outstanding_is_acknowledged_at_once() -> None:
    tracker = AckTracker(100)
    tracker.keepalive(500)

    assert tracker.flush_lsn == 500


def test_a_keepalive_waits_for_the_commits_before_it_and_for_no_other() -> None:
    tracker = AckTracker(0)
    tracker.begin()
    tracker.commit(10)
    tracker.keepalive(15)
    tracker.begin()
    tracker.commit(20)
    tracker.keepalive(25)

    assert tracker.flush_lsn == 0
    assert tracker.durable(10) == 15
    assert tracker.durable(20) == 25


def test_a_keepalive_inside_a_transaction_is_passed_over() -> None:
    tracker = AckTracker(0)
    tracker.begin()
    tracker.keepalive(15)
    assert tracker.flush_lsn == 0
    tracker.commit(20)

    assert tracker.flush_lsn == 0
    assert tracker.durable(20) == 20


def test_nothing_is_durable_that_did_not_arrive() -> None:
    tracker = AckTracker(100)
    tracker.begin()

    with pytest.raises(ValueError, match="arrived only"):
        tracker.durable(101)


@st.composite
def a_history(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What a server may send, positions ascending, mixed with what the disk says."""
    events: list[tuple[str, int]] = []
    lsn, ends, open_ = 0, [0], False
    for _ in range(draw(st.integers(0, 40))):
        lsn += draw(st.integers(1, 5))
        what = draw(st.sampled_from(["begin/commit", "keepalive", "durable"]))
        if what == "begin/commit":
            events.append(("commit" if open_ else "begin", lsn))
            if open_:
                ends.append(lsn)
            open_ = not open_
        elif what == "keepalive":
            events.append(("keepalive", lsn))
        else:
            events.append(("durable", draw(st.sampled_from(ends))))
    return events


@given(a_history())
def test_never_past_a_commit_that_is_not_durable_and_never_short_of_what_is_safe(
    history: list[tuple[str, int]],
) -> None:
    tracker = AckTracker(0)
    not_durable: list[int] = []
    open_since: int | None = None
    last = 0
    last_seen = 0
    for what, lsn in history:
        if what == "begin":
            tracker.begin()
            open_since = lsn
        elif what == "commit":
            tracker.commit(lsn)
            not_durable.append(lsn)
            open_since = None
        elif what == "keepalive":
            tracker.keepalive(lsn)
        else:
            tracker.durable(lsn)
            not_durable = [end for end in not_durable if end > lsn]

        assert tracker.flush_lsn >= last, "it goes back"
        assert all(tracker.flush_lsn < end for end in not_durable)
        assert open_since is None or tracker.flush_lsn < open_since
        if what != "durable":
            last_seen = lsn
        if what == "keepalive" and not not_durable and open_since is None:
            assert tracker.flush_lsn == lsn == last_seen
        last = tracker.flush_lsn
