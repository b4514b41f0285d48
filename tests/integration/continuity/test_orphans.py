"""Lifeboats do not outlive those who look after them: real servers, SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ballast.postgres import EmbeddedServer
from tests.folders import a_folder

_SENTINEL = """
import sys, time
from pathlib import Path
from ballast.continuity.boats import Boats
from ballast.postgres import EmbeddedServer
from ballast.vault.logbook import Logbook
folder = Path(sys.argv[1])
boats = Boats(folder, 18, Logbook("sentinel"))
server = EmbeddedServer(folder / "lifeboat" / "1", settings={"fsync": "off"})
server.start()
print(server.pid, boats._watcher.pid, flush=True)
time.sleep(600)
"""
_STARTER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]])
print(child.pid, flush=True)
child.wait()
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_folder() as made:
        try:
            yield made
        finally:
            EmbeddedServer(made / "lifeboat" / "1").discard()


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 25  # less than a sentinel has for taking over
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_lifeboat_ends_when_its_sentinel_and_who_started_that_are_killed_and_not_before(folder: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(folder), _SENTINEL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert starter.stdout is not None
    sentinel = int(starter.stdout.readline())
    pid, watcher = (int(word) for word in starter.stdout.readline().split())
    boat = EmbeddedServer(folder / "lifeboat" / "1")
    os.kill(sentinel, signal.SIGKILL)
    until(lambda: not boat.has_owner, "the sentinel to be gone")
    time.sleep(1.0)
    assert boat.pid == pid, "who starts the sentinel again lives: it serves on until that has happened"
    starter.kill()
    starter.wait()
    until(lambda: not boat.running(), "the lifeboat to end")
    until(lambda: not os.path.exists(f"/proc/{watcher}") or _is_zombie(watcher), "the watcher to end")
    assert (boat.pgdata / "PG_VERSION").exists(), "what is in it is there for who goes on"


def _is_zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
