"""`new_dask`: a real Dask scheduler and real worker processes, ended by their process numbers.

`dask_pair` is one with two workers that the tests of a module share; `dask_one` one with a single worker, to which a test
adds those that it kills.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_START_S = 40.0
_ROOT = Path(__file__).parents[1]


class DaskProcesses:
    """A scheduler, and the workers that were started for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[subprocess.Popen[bytes]] = []
        self._file = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(self._file))
        deadline = time.monotonic() + _START_S
        while not self._file.exists() or not self._file.read_text().strip():
            assert self.scheduler.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.address: str = json.loads(self._file.read_text())["address"]

    def worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start one, with this in its environment; `joined` waits for it."""
        options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(self._folder))
        return self._start("worker", self.address, *options, **environment)

    def joined(self, count: int) -> None:
        """Until so many workers are there."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=_START_S)

    def log(self) -> str:
        """What all have said."""
        return "".join(path.read_text(errors="replace") for path in sorted(self._folder.glob("*.log")))

    def end(self) -> None:
        """All of them."""
        for process in reversed(self._all):
            process.kill()
            process.wait(30)

    def _start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        # A worker loads what a job names, also where that is a function of a test.
        paths = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
        with (self._folder / f"{len(self._all)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", command[0], "--host", "127.0.0.1", *command[1:]],
                env={**os.environ, "PYTHONPATH": paths, **environment}, cwd=self._folder, stdout=log, stderr=log,
            )  # fmt: skip
        self._all.append(process)
        return process


@contextlib.contextmanager
def _made() -> Iterator[DaskProcesses]:
    folder = Path(tempfile.mkdtemp(prefix="ballast-dask-"))
    processes = DaskProcesses(folder)
    try:
        yield processes
    finally:
        processes.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def dask_pair() -> Iterator[DaskProcesses]:
    with _made() as processes:
        for _ in range(2):
            processes.worker()
        processes.joined(2)
        yield processes


@pytest.fixture(scope="module")
def dask_one() -> Iterator[DaskProcesses]:
    with _made() as processes:
        processes.worker()
        processes.joined(1)
        yield processes


@pytest.fixture
def new_dask() -> Iterator[Callable[[], DaskProcesses]]:
    """Makes a scheduler that no other test uses, without workers."""
    with contextlib.ExitStack() as undo:
        yield lambda: undo.enter_context(_made())
