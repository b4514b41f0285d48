"""Entering from many tasks at once: one thread writes what has come together, with one fsync for all of it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from ballast.continuity.entries import Offered, Taken
from ballast.continuity.intake import Intake
from ballast.continuity.room import RESERVE_BYTES

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
        is_last = False
        while not is_last:
            together, is_last = self._next()
            # Who waits no longer is let go before anything is written: of such a one nothing is kept, and no other suffers.
            together = [one for one in together if one[1].set_running_or_notify_cancel()]
            try:
                self._write(together)
            except Exception as error:  # whatever it was: those who come next are written
                for _, done in together:
                    if not done.done():
                        done.set_exception(error)

    def _next(self) -> tuple[list[_Waiting], bool]:
        """What has come together, after waiting for the first; whether it is the last."""
        together: list[_Waiting] = []
        while not together or (len(together) < _MOST_TOGETHER and not self._waiting.empty()):
            one = self._waiting.get()
            if one is None:
                return together, True
            together.append(one)
        return together, False

    def _write(self, together: Sequence[_Waiting]) -> None:
        # What is urgent may use the reserve, and must not be kept out by what is not.
        urgent = [one for one in together if any(offer.urgent for offer in one[0])]
        for some in (urgent, [one for one in together if one not in urgent]):
            try:
                self._write_at_once(some)
            except OSError as error:
                for _, done in some:
                    done.set_exception(error)
            except Exception:  # no room, a tenant that went home, something that is no JSON: it is told to whose it is
                for one in some:
                    self._write_alone(one)

    def _write_at_once(self, some: Sequence[_Waiting]) -> None:
        taken = iter(self._intake.take([offer for offers, _ in some for offer in offers]) if some else ())
        for offers, done in some:
            done.set_result([next(taken) for _ in offers])

    def _write_alone(self, one: _Waiting) -> None:
        offers, done = one
        try:
            taken = self._intake.take(offers)
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(taken)
