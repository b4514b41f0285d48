"""Which promises of a replay were kept."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ballast.demo.killer import Killed, planned
from ballast.demo.ledger import Ordered
from ballast.demo.outcome import Drilled, Outcome, all_kept, claims, compared, excused, figures
from ballast.demo.undoing import Undone
from ballast.demo.wanted import Victim, Wanted
from ballast.demo.watching import Log
from tests.unit.demo.replayed import LOST, START, a_log, a_replay, an_id, changed_end, course, undone, view

GOOD = a_replay()


def _broken(outcome: Outcome) -> set[str]:
    judged = claims(outcome, figures(outcome), compared(outcome))
    broken = {one.name for one in judged if one.kept is False}
    assert all_kept(judged) == (not broken)
    return broken


def _with_visits(*more: object) -> Outcome:
    return msgspec.structs.replace(GOOD, visits=(*GOOD.visits, *more))


def _without(kind: str, share: int) -> Outcome:
    """Every so many-th is missing after the loss."""
    kept = [one for n, one in enumerate(GOOD.visits) if one.kind != kind or one.at < LOST or n % share]
    return msgspec.structs.replace(GOOD, visits=tuple(kept))


def _log(**late: float | None) -> Outcome:
    log = a_log()
    for moment, at in late.items():
        if at is None:
            log.at.pop(moment)  # type: ignore[call-overload]
        else:
            log.at[moment] = LOST + at  # type: ignore[index]
    return msgspec.structs.replace(GOOD, log=log)


def test_all_that_was_promised_is_kept() -> None:
    assert _broken(GOOD) == set()
    found = figures(GOOD)
    assert (found.orders_before, found.orders_during) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.away_orders == found.away_kept == 39  # one a second, until its shop was home
    assert found.closed_minutes == 0


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        (lambda: changed_end(GOOD, orders=GOOD.end.orders[1:]), {"lost"}),  # type: ignore[union-attr]
        (lambda: changed_end(GOOD, orders=(*GOOD.end.orders, GOOD.end.orders[0])), {"doubled"}),  # type: ignore[union-attr]
        (lambda: changed_end(GOOD, unbooked=(an_id(7),)), {"money"}),
        (lambda: changed_end(GOOD, codes={}), {"edits"}),
        (lambda: changed_end(GOOD, stock_wrong=1), {"books"}),
        (lambda: changed_end(GOOD, books_wrong=1), {"books"}),
        (lambda: changed_end(GOOD, standing={}), {"whole"}),
        (lambda: msgspec.structs.replace(GOOD, stood={}), {"whole"}),
        (lambda: _with_visits(view("tea", LOST + 5, good=False)), {"errors", "closed"}),
        (lambda: _without("view", 4), {"views"}),
        (lambda: _without("order", 4), {"orders"}),
        (lambda: _log(all_home=None), {"all_home"}),
        (lambda: msgspec.structs.replace(GOOD, drilled=Drilled(False, shops=3)), {"equal"}),
        (lambda: msgspec.structs.replace(GOOD, drilled=Drilled(True, shops=2)), {"equal"}),
    ],
)
def test_each_of_them_can_be_broken(what: Callable[[], Outcome], broken: set[str]) -> None:
    assert _broken(what()) == broken


def test_a_database_that_cannot_be_asked_keeps_nothing() -> None:
    gone = msgspec.structs.replace(GOOD, end=None, end_problem="refused", drilled=Drilled(False))
    assert {"unasked", "equal", "whole"} <= _broken(gone)


def test_without_a_single_order_nothing_is_proven() -> None:
    nothing = changed_end(msgspec.structs.replace(GOOD, promises=()), orders=())
    assert "lost" in _broken(nothing)
    assert "lost" not in _broken(msgspec.structs.replace(nothing, killed=(Killed(Victim.WEB, 1, LOST + 1),)))


def test_an_error_within_the_first_second_closes_no_shop() -> None:
    outcome = _with_visits(view("tea", LOST + 0.2, good=False))
    assert _broken(outcome) == set()
    assert figures(outcome).errors_at_first == 1


def test_an_order_that_waits_for_the_lifeboat_is_in_time_or_not() -> None:
    late = [one for one in GOOD.promises if not isinstance(one, Ordered) or not LOST <= one.sent_at < LOST + 2]
    assert _broken(msgspec.structs.replace(GOOD, promises=tuple(late))) >= {"first_order"}


def test_who_comes_home_later_breaks_a_promise() -> None:
    assert "all_home" in _broken(_log(all_home=61.0))


def test_sixty_seconds_are_promised_for_three_hundred_shops() -> None:
    many = msgspec.structs.replace(
        _log(all_home=200.0), wanted=Wanted(shops=301), drilled=Drilled(True, shops=301), until=LOST + 210
    )
    assert "all_home" not in _broken(many)


def _killed(victim: Victim, at: float) -> Outcome:
    wrong = view("tea", LOST + at + 0.2, good=False)
    return msgspec.structs.replace(
        _with_visits(wrong), killed=(Killed(victim, 1, LOST + at),), not_up=((LOST + at + 0.1, LOST + at + 3.0),)
    )


def test_who_kills_the_web_face_meets_errors_until_it_is_back() -> None:
    assert excused(_killed(Victim.WEB, 5.0)) == [(LOST + 4.5, LOST + 10.0)]
    assert figures(_killed(Victim.WEB, 5.0)).errors == 0


def test_who_kills_another_excuses_nothing() -> None:
    assert excused(_killed(Victim.SENTINEL, 5.0)) == []
    assert figures(_killed(Victim.SENTINEL, 5.0)).errors == 1


def test_what_is_about_speed_is_not_judged_while_somebody_kills_and_all_else_is() -> None:
    slow = msgspec.structs.replace(
        _killed(Victim.SENTINEL, 5.0), visits=(*_without("view", 3).visits, view("tea", LOST + 5, good=False))
    )
    judged = {one.name: one.kept for one in claims(slow, figures(slow), compared(slow))}
    shown = {"views", "orders", "errors", "closed", "first_order"}
    assert {name for name, kept in judged.items() if kept is None} == shown
    assert {name for name, kept in judged.items() if kept} == judged.keys() - shown
    assert _broken(changed_end(slow, orders=slow.end.orders[1:])) == {"lost"}  # type: ignore[union-attr]
    assert _broken(msgspec.structs.replace(_log(all_home=None), killed=slow.killed)) == {"all_home"}


def test_kills_are_the_same_for_the_same_seed() -> None:
    victims = (Victim.WEB, Victim.SENTINEL)
    plan = planned(7, victims, 5)
    assert plan == planned(7, victims, 5) == sorted(plan)
    assert plan != planned(8, victims, 5)
    assert planned(7, (), 5) == []


UNDONE = undone()


@pytest.mark.parametrize(
    ("what", "broken"),
    [
        (lambda: UNDONE, set()),
        (lambda: changed_end(UNDONE, excepted=frozenset()), {"reviewed"}),
        (lambda: changed_end(UNDONE, standing={}), {"whole"}),
        (lambda: changed_end(UNDONE, orders=UNDONE.end.orders[1:]), {"lost"}),  # type: ignore[union-attr]
        (lambda: msgspec.structs.replace(UNDONE, undone=Undone(problem="refused")), {"undone", "reviewed"}),
        (lambda: msgspec.structs.replace(UNDONE, hit=2), {"undone"}),
    ],
)
def test_what_was_changed_is_undone_and_what_it_led_to_is_told(what: Callable[[], Outcome], broken: set[str]) -> None:
    assert _broken(what()) == broken
    assert not {"first_order", "all_home"} & {one.name for one in claims(what(), figures(what()), compared(what()))}


def test_a_second_loss_sends_shops_back_into_the_lifeboat() -> None:
    log = Log()
    log.note("lost", LOST)
    log.follow(course(mode="returning", lifeboat="b", back=frozenset({"1"})), LOST + 10)
    assert not log.was_away("1", LOST + 11)
    assert log.was_away("2", LOST + 11)
    log.follow(course(mode="afloat", lifeboat="b"), LOST + 12)
    assert log.was_away("1", LOST + 13)
    assert "first_home" not in log.at
    log.follow(course(mode="returning", lifeboat="b", back=frozenset({"1"})), LOST + 20)
    log.follow(course(mode="home"), LOST + 25)
    assert (log.since_loss("first_home"), log.since_loss("all_home")) == (20, 25)


def test_before_the_loss_nobody_is_away_and_nothing_is_noted() -> None:
    log = Log()
    log.follow(course(mode="launching"), START)
    assert log.at == {}
    assert not log.was_away("1", START)


def test_where_nobody_notices_nobody_is_away() -> None:
    log = Log()
    log.note("lost", LOST)
    log.follow(course(), LOST + 5)
    assert not log.was_away("1", LOST + 5)
