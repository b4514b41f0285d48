"""Nobody who must not be held up waits longer than he said, and what takes longer is not begun twice."""

from __future__ import annotations

import threading

import pytest

from ballast.continuity.patience import Busy, Patience


def test_an_answer_or_a_failure_in_time_is_what_the_work_gave() -> None:
    patience = Patience()
    assert patience("counting", lambda: 7, 10) == 7
    with pytest.raises(ZeroDivisionError):
        patience("dividing", lambda: 1 // 0, 10)
    assert patience("counting", lambda: 8, 10) == 8


def test_what_takes_too_long_is_begun_once_and_whoever_waits_sees_what_goes_on_meanwhile() -> None:
    seen, begun, may_end = [0], [0], threading.Event()
    patience = Patience(lambda: seen.__setitem__(0, seen[0] + 1))

    def work() -> int:
        begun[0] += 1
        may_end.wait(30)
        return begun[0]

    with pytest.raises(Busy, match="reading takes longer"):
        patience("reading", work, 0.3, keep=True)
    assert seen[0]
    for _ in range(3):
        with pytest.raises(Busy):
            patience("reading", work, 30, keep=True)  # at once
    may_end.set()
    while True:
        try:
            assert patience("reading", work, 30, keep=True) == 1
        except Busy:
            continue
        break
    assert begun == [1]
    assert patience("reading", work, 30, keep=True) == 2


@pytest.mark.parametrize("is_late", [False, True])
def test_what_nobody_asks_for_any_more_is_handed_over_when_it_has_come(is_late: bool) -> None:
    may_end, handed, answers = threading.Event(), threading.Event(), list[int | None]()
    patience = Patience()

    def work() -> int:
        may_end.wait(30)
        return 7

    def over(answer: int | None) -> None:
        answers.append(answer)
        handed.set()

    with pytest.raises(Busy):
        patience("launching", work, 30, so_long=lambda: False)
    if not is_late:
        may_end.set()
        next(one for one in threading.enumerate() if one.name == "launching").join(30)
    patience.give_up("launching", over)
    may_end.set()
    assert handed.wait(30)
    assert answers == [7]
    assert patience("launching", lambda: 8, 30) == 8, "and is begun anew"
    patience.give_up("launching", over)
    assert answers == [7]
