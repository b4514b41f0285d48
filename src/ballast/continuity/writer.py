"""Entering from many tasks at once: one thread writes what has come together, with one fsync for all of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from ballast.continuity.entries import Closed, IntakeFull, Offered, Taken
from ballast.continuity.intake import RESERVE_BYTES, Intake
from ballast.errors import BallastError

_MOST_TOGETHER = 256

_Waiting = tuple[Sequence[Offered], Future[list[Taken]]]


class Writer:
    """One process's way into the intake; any thread may use it."""

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self._intake = Intake(folder, reserve_bytes=reserve_bytes)
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def take(self, offers: Sequence[Offered]) -> Future[list[Taken]]:
        """Done when all of `offers` are durable: together or not at all. It fails as `Intake.take` does."""
        done: Future[list[Taken]] = Future()
        self._waiting.put((offers, done))
        return done

    def close(self) -> None:
        """What has come is written, then the file is let go."""
        self._waiting.put(None)
        self._thread.join()
        self._intake.close()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            together, is_last = [first], False
            while len(together) < _MOST_TOGETHER and not self._waiting.empty():
                more = self._waiting.get()
                if more is None:
                    is_last = True
                    break
                together.append(more)
            self._write(together)
            if is_last:
                return

    def _write(self, together: Sequence[_Waiting]) -> None:
        # What is urgent may use the reserve, and must not be kept out by what is not.
        urgent = [one for one in together if any(offer.urgent for offer in one[0])]
        for some in (urgent, [one for one in together if one not in urgent]):
            try:
                self._write_at_once(some)
            except (IntakeFull, Closed):
                for one in some:
                    self._write_alone(one)
            except Exception as error:
                for _, done in some:
                    done.set_exception(error)

    def _write_at_once(self, some: Sequence[_Waiting]) -> None:
        taken = iter(self._intake.take([offer for offers, _ in some for offer in offers]) if some else ())
        for offers, done in some:
            done.set_result([next(taken) for _ in offers])

    def _write_alone(self, one: _Waiting) -> None:
        offers, done = one
        try:
            done.set_result(self._intake.take(offers))
        except (BallastError, OSError) as error:
            done.set_exception(error)
