"""The state of a supervisor as others see it: `up.json` in its folder, replaced whole, and a lock that tells whether it lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ballast.errors import ConfigError

NOTE_FILE, LOCK_FILE = "up.json", "up.lock"


class PartNote(msgspec.Struct, frozen=True):
    """One part. Times are ISO, UTC."""

    name: str
    phase: str
    since: str
    pid: int | None
    restarts: int
    ended: str
    """How it ended the last time; "": it never did."""
    address: str
    log: str


class Note(msgspec.Struct, frozen=True):
    """All of them."""

    pid: int
    since: str
    stopping: bool
    parts: tuple[PartNote, ...]

    @property
    def all_up(self) -> bool:
        """Whether every part is there."""
        return bool(self.parts) and not self.stopping and all(part.phase in ("ready", "done") for part in self.parts)


def write(folder: Path, note: Note) -> None:
    """Replaces the note. It is not worth a sync: after a power cut nothing runs."""
    new = folder / f"{NOTE_FILE}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(note)))
    new.replace(folder / NOTE_FILE)


def look(folder: Path) -> Note | None:
    """What runs there now; None: nothing does."""
    try:
        with _locked(folder):
            return None
    except BlockingIOError:
        return _read(folder)
    except OSError:
        return None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Be the only supervisor of this folder; ConfigError if another one lives."""
    try:
        holding = _locked(folder, make=True)
        with holding:
            # What the one before left there must not be taken for ours.
            write(folder, Note(os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"), False, ()))
            yield
    except BlockingIOError:
        other = _read(folder)
        who = f" (process {other.pid}, since {other.since})" if other is not None else ""
        raise ConfigError(
            f"`ballast up` runs on the folder {folder} already{who}.",
            "Look at it with `ballast up --status`, end it with Ctrl-C there or SIGTERM, or choose another --folder.",
        ) from None


@contextlib.contextmanager
def _locked(folder: Path, *, make: bool = False) -> Iterator[None]:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
    lock = os.open(folder / LOCK_FILE, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _read(folder: Path) -> Note | None:
    try:
        return msgspec.json.decode((folder / NOTE_FILE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError):
        return None
