"""One process of the application: where a tenant's next transaction belongs, and the way into the intake.

The application asks `course` before each transaction, tells what failed at home (`failed`), and has what it accepted in the
lifeboat taken in (`take`) before it commits there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from ballast.continuity.board import Board
from ballast.continuity.course import Course
from ballast.continuity.entries import Entry, Offered, Taken, open_entries
from ballast.continuity.intake import Intake
from ballast.continuity.signs import Failure, Sign, sign_of
from ballast.continuity.writer import Writer

BOARD, INTAKE = "board", "intake"
"""Folders in that of continuity."""
_LOOK_S = 0.01
_RING_EVERY_S = 0.05
_VISIT_EVERY_S = 5.0
_MOST_VISITED = 20_000


class Helm:
    """Of one process and its event loop."""

    def __init__(self, folder: Path) -> None:
        """`folder`: continuity's, of this machine."""
        self._folder = folder
        self._board = Board(folder / BOARD)
        self._writer: Writer | None = None
        self._rung = 0.0
        self._visited: dict[str, float] = {}

    @property
    def course(self) -> Course:
        """As the sentinel told it last; everybody at home where there is none."""
        return self._board.course()

    def failed(self, error: psycopg.Error) -> bool:
        """A transaction at home failed: whether that says that the database may be lost. The sentinel looks at once then, and
        the same is to be tried again, where the course then says."""
        sign = sign_of_error(error)
        if sign in (Sign.NONE, Sign.SLOW):
            return False
        self.ring(f"lost {sign}")
        return True

    def missing(self, tenant: str) -> None:
        """A tenant that was there is not."""
        self.ring(f"empty {tenant}")

    def visited(self, tenant: str) -> None:
        """Somebody is with a tenant that is away: it is one of the next to come home."""
        now = time.monotonic()
        if self._visited.get(tenant, 0.0) > now:
            return
        if len(self._visited) >= _MOST_VISITED:
            self._visited.clear()
        self._visited[tenant] = now + _VISIT_EVERY_S
        self._board.ring(f"visited {tenant}")

    def ring(self, what: str) -> None:
        """Tell the sentinel, not more often than it can use."""
        now = time.monotonic()
        if now >= self._rung + _RING_EVERY_S and self._board.ring(what):
            self._rung = now

    async def turned(self, number: int, timeout_s: float) -> bool:
        """Returns when the course is another than that of `number`, or after so long (False)."""
        until = time.monotonic() + timeout_s
        while self.course.number == number:
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def take(self, offers: Sequence[Offered]) -> list[Taken]:
        """Accepts all of `offers`, or none; durable when it returns. Raises as `Intake.take`."""
        if self._writer is None:
            self._writer = Writer(self._folder / INTAKE)
        return await asyncio.wrap_future(self._writer.take(offers))

    def open_entries(self, tenant: str) -> list[Entry]:
        """What was accepted of a tenant and is not at home yet, in order. Reads the file: not in the event loop's thread."""
        intake = Intake(self._folder / INTAKE, reserve_bytes=0)
        try:
            return open_entries(intake.entries()).get(tenant, [])
        finally:
            intake.close()

    def close(self) -> None:
        """What was offered is written, then the intake is let go."""
        if self._writer is not None:
            self._writer.close()


def sign_of_error(error: psycopg.Error) -> Sign:
    """What a driver's error says of the database."""
    if error.sqlstate:
        return sign_of(Failure(error.sqlstate, str(error)))
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        timed_out = isinstance(error, psycopg.errors.ConnectionTimeout)
        return sign_of(Failure("", str(error), timed_out=timed_out))
    return Sign.NONE  # the driver's own, such as a value that cannot be sent
