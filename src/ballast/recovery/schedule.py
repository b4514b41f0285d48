"""Work on many tables spread over a few connections, so that none waits for a lock that another one holds."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import msgspec
import psycopg

Connection = psycopg.Connection[Any]


class Task(msgspec.Struct, frozen=True):
    """Something to do on one connection."""

    table: str
    alone: bool
    """It locks its table against all others that are scheduled for it."""
    run: Callable[[Connection], None]


def work_off(
    tasks: Sequence[Task], jobs: int, open_connection: Callable[[], AbstractContextManager[Connection]]
) -> None:
    """Runs all, earlier ones first where locks allow. The first failure is raised once what is under way has ended."""
    schedule = _Schedule(tasks)

    def work() -> None:
        with open_connection() as conn:
            while (task := schedule.take()) is not None:
                try:
                    task.run(conn)
                except BaseException:
                    schedule.stop()
                    raise
                finally:
                    schedule.release(task)

    workers = min(jobs, len(tasks))
    if workers:
        with ThreadPoolExecutor(workers) as pool:
            running = [pool.submit(work) for _ in range(workers)]
        for worker in running:
            worker.result()


class _Schedule:
    def __init__(self, tasks: Sequence[Task]) -> None:
        self._left = list(tasks)
        self._shared: Counter[str] = Counter()
        self._alone: set[str] = set()
        self._changed = threading.Condition()

    def take(self) -> Task | None:
        """The next one that can run now; waits for one. None: nothing is left."""
        with self._changed:
            while self._left:
                task = next((task for task in self._left if self._is_free(task)), None)
                if task is not None:
                    self._left.remove(task)
                    if task.alone:
                        self._alone.add(task.table)
                    else:
                        self._shared[task.table] += 1
                    return task
                self._changed.wait()
            return None

    def release(self, task: Task) -> None:
        """It has ended."""
        with self._changed:
            if task.alone:
                self._alone.discard(task.table)
            else:
                self._shared[task.table] -= 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._left.clear()
            self._changed.notify_all()

    def _is_free(self, task: Task) -> bool:
        return task.table not in self._alone and not (task.alone and self._shared[task.table])
