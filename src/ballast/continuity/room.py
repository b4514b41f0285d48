"""Room on a disk: what a folder takes of it, and some that is kept so that it can be given up when there is none left."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg

from ballast.vault.health import NO_ROOM

RESERVE_BYTES = 16 << 20
FULL = (*NO_ROOM, errno.EFBIG)
"""Of an OSError that says that there is none."""
_PIECE_BYTES = 1 << 20


class Reserve:
    """A file that holds room for what must be written even where the disk is full."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self, wanted: int = RESERVE_BYTES) -> None:
        """As much as the disk has; less room is no reason not to go on."""
        with self._opened() as descriptor, contextlib.suppress(OSError):
            have = os.fstat(descriptor).st_size
            while have < wanted:
                piece = min(_PIECE_BYTES, wanted - have)
                os.posix_fallocate(descriptor, have, piece)
                have += piece

    def give_up(self) -> bool:
        """A piece of it. False where none is left."""
        with self._opened() as descriptor:
            have = os.fstat(descriptor).st_size
            if have:
                os.ftruncate(descriptor, max(0, have - _PIECE_BYTES))
                os.fsync(descriptor)
            return have > 0

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


ENOUGH_BYTES = 64 << 20
"""With less than this left a disk counts as full for a server that has just said so."""


def left(folders: Iterable[Path]) -> int | None:
    """Bytes that can be written in the fullest of these folders, 0 where it is read-only; None: it cannot be told."""
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):
            of = os.statvfs(folder)
            found.append(0 if of.f_flag & os.ST_RDONLY else of.f_bavail * of.f_frsize)
    return min(found, default=None)


def is_full(error: BaseException | None) -> bool:
    """Whether it was for want of room, here or at a server of ours, that something failed."""
    while error is not None:
        if (isinstance(error, OSError) and error.errno in FULL) or isinstance(error, psycopg.errors.DiskFull):
            return True
        error = error.__cause__
    return False


def taken(folder: Path) -> int:
    """Bytes of the disk that `folder` takes with all that is in it; what goes meanwhile is not counted."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_blocks * 512
    return total


def free(folder: Path) -> int:
    """Bytes that the disk of `folder` has left for accounts like ours."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
