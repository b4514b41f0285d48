"""Where the servers of tests, and what is recorded of them, have their folders: in memory where there is much room, else on disk.

A test makes and removes a database of 300 files, a scratch server one of 1,000. ext4 takes a tenth of a second of a processor
for the former once many were removed (it looks for numbers that were not in use lately), tmpfs a hundredth. What tests kill are
processes, never the machine. pytest's own `tmp_path` and the replay stay on disk; BALLAST_TEST_FOLDERS=/tmp has all of it there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

_ON_DISK = Path("/tmp")  # short, and open to the server's account
_IN_MEMORY = Path("/dev/shm")
_MUCH_BYTES = 8 << 30
"""Of free memory, and of room in the folder: four servers with all the WAL that each may keep (2 GB)."""
_PREFIX = "ballast-test-"


def _chosen() -> Path:
    if "BALLAST_TEST_FOLDERS" in os.environ:
        return Path(os.environ["BALLAST_TEST_FOLDERS"])
    with contextlib.suppress(OSError):
        room = shutil.disk_usage(_IN_MEMORY).free
        if min(room, psutil.virtual_memory().available) >= _MUCH_BYTES and os.access(_IN_MEMORY, os.W_OK | os.X_OK):
            return _IN_MEMORY
    return _ON_DISK


FOLDERS = _chosen()


def new_folder() -> Path:
    """An empty folder with a short path that the server's account can enter; `sweep` finds it should this process be killed."""
    folder = Path(tempfile.mkdtemp(dir=FOLDERS, prefix=f"{_PREFIX}{os.getpid()}-"))
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def a_folder() -> Iterator[Path]:
    """`new_folder`, removed at the end; who starts a server in it ends it."""
    folder = new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def left_behind() -> Iterator[Path]:
    """The folders of runs of this account that were killed."""
    for folder in (path for place in {_ON_DISK, _IN_MEMORY, FOLDERS} for path in place.glob(f"{_PREFIX}*")):
        runner = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        with contextlib.suppress(FileNotFoundError):  # another run may be sweeping as well
            if runner and os.geteuid() in (0, folder.stat().st_uid) and not psutil.pid_exists(int(runner[1])):
                yield folder
