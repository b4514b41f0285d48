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
