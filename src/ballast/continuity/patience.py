"""Work that may take long, or for ever where a store hangs: it is done in a thread of its own, and waited for so long only.

Whoever waits goes on seeing and telling meanwhile. What is not done in time goes on by itself; asked for again, it is not begun a
second time, and nobody waits for it any more: its answer is there when it has come.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ballast.errors import BallastError

_LOOK_S = 0.1


def _ever() -> bool:
    return True


T = TypeVar("T")


class Busy(BallastError):
    """It is still under way."""


class Patience:
    """Of one thread, which must not be held up."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """`meanwhile`: what else there is to be done, about ten times a second, and quickly."""
        self._meanwhile = meanwhile
        self._under_way: dict[str, _Work] = {}
        self._is_waiting = False

    def __call__(
        self,
        what: str,
        work: Callable[[], T],
        seconds: float,
        *,
        keep: bool = False,
        so_long: Callable[[], bool] = _ever,
    ) -> T:
        """The answer of `work`, or what it raises. Busy: it has not come in time.

        Args:
            what: names it, for people and so that it is not begun twice.
            keep: an answer that comes too late is good for the next who asks; else it is passed over.
            so_long: as this is so it is waited for, for `seconds` at most.
        """
        under_way = self._under_way.pop(what, None)
        if under_way is not None:
            if not under_way.is_over:
                self._under_way[what] = under_way
                raise _busy(what)
            if keep:
                return cast(T, under_way.answer())
        started = _Work(what, work)
        self._wait(started, seconds, so_long)
        if not started.is_over:  # asked once: it may be over in the next moment
            self._under_way[what] = started
            raise _busy(what)
        return cast(T, started.answer())

    def give_up(self, what: str, then: Callable[[Any], object]) -> None:
        """Nobody asks for that any more. If it is under way or has come too late, `then` gets its answer (None: it raised) when
        that is there, at once or in its thread."""
        under_way = self._under_way.pop(what, None)
        if under_way is not None:
            under_way.leave(then)

    def _wait(self, work: _Work, seconds: float, so_long: Callable[[], bool]) -> None:
        if self._is_waiting:  # what is done meanwhile has work of its own
            work.over.wait(seconds)
            return
        self._is_waiting = True
        try:
            until = time.monotonic() + seconds
            while not work.over.wait(_LOOK_S) and time.monotonic() < until and so_long():
                self._meanwhile()
        finally:
            self._is_waiting = False


class _Work:
    def __init__(self, what: str, work: Callable[[], Any]) -> None:
        self.over = threading.Event()
        self._work = work
        self._value: Any = None
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._then: Callable[[Any], object] | None = None
        threading.Thread(target=self._run, name=what, daemon=True).start()

    @property
    def is_over(self) -> bool:
        return self.over.is_set()

    def answer(self) -> Any:
        """When it is over: what it gave, or raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def leave(self, then: Callable[[Any], object]) -> None:
        """See `Patience.give_up`."""
        with self._lock:
            if not self.is_over:
                self._then = then
                return
        then(self._value)

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self.over.set()
        if self._then is not None:
            self._then(self._value)


def _busy(what: str) -> Busy:
    return Busy(f"{what} takes longer than it may, and goes on by itself", "It is looked at again in a moment.")
