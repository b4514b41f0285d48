"""Who does the work of a restore that falls into independent pieces: threads of this process, or others (`dask_crew`).

A job is a frozen record that can be sent anywhere; the function that does it opens its own connection. It must be one that
may be done twice: a worker that is lost after its commit has told nobody, and another one does the same job again. So every
job notes in the target, in the transaction of its rows, that it is done, and looks for that note first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Protocol, TypeVar

import msgspec

from ballast.vault import Vault

Job = TypeVar("Job")
Result = TypeVar("Result")


class Seat(msgspec.Struct, frozen=True):
    """What a job finds where it is done."""

    vault: Vault | None
    """None: the work reads no record."""
    dsn: str
    """The target's."""
    advance: Callable[[int], None]
    """Told how many rows, or items, more are done."""


class Hands(Protocol):
    """Those who do jobs."""

    @property
    def count(self) -> int:
        """How many jobs are done side by side: work is cut by it."""

    def map(self, work: Callable[[Seat, Job], Result], jobs: Sequence[Job], seat: Seat) -> Iterator[Result]:
        """`work` done for every job; results as they come, in no order. May be called by several threads.

        The first failure is raised; no further job is begun then, and those under way end with their commit."""


class Threads:
    """Of this process."""

    def __init__(self, count: int) -> None:
        self.count = count

    def map(self, work: Callable[[Seat, Job], Result], jobs: Sequence[Job], seat: Seat) -> Iterator[Result]:
        """See `Hands`."""
        if not jobs:
            return
        with ThreadPoolExecutor(min(self.count, len(jobs))) as pool:
            begun = [pool.submit(work, seat, job) for job in jobs]
            try:
                for one in as_completed(begun):
                    yield one.result()
            finally:
                for one in begun:
                    one.cancel()
