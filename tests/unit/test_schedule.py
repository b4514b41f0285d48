"""Tasks spread over connections: no two that lock each other out at a time, the largest first, failures told."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ballast.recovery.schedule import Task, work_off


@contextmanager
def nobody() -> Iterator[Any]:
    yield None


def test_a_table_that_is_locked_is_left_for_later() -> None:
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = threading.Lock()
    ran = []

    def task(table: str, alone: bool) -> Task:
        def run(_: Any) -> None:
            with lock:
                assert not now[table] or not alone
                assert now[table] < 100
                now[table] += 100 if alone else 1
                most[table] = max(most[table], now[table])
                ran.append(table)
            time.sleep(0.002)
            with lock:
                now[table] -= 100 if alone else 1

        return Task(table, alone, run)

    tasks = [task(table, alone) for table in "abc" for alone in (True, False, False, True, False)]
    work_off(tasks, 4, nobody)
    assert Counter(ran) == {"a": 5, "b": 5, "c": 5}
    assert max(most.values()) == 100


def test_the_first_failure_ends_the_rest() -> None:
    ran = []

    def fail(_: Any) -> None:
        raise ValueError("the cause")

    def run(_: Any) -> None:
        time.sleep(0.01)
        ran.append(1)

    with pytest.raises(ValueError, match="the cause"):
        work_off([Task("a", True, fail), *(Task("a", True, run) for _ in range(50))], 2, nobody)
    assert len(ran) < 3


def test_nothing_to_do() -> None:
    work_off([], 2, nobody)
