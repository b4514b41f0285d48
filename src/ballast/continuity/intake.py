"""The intake: what tenants accepted while their database was away, on this machine's disk before anybody is told so.

    <folder>/intake.jsonl               entries in the order of acceptance (`entries`), only ever added to
    <folder>/<first>-<last>.jsonl       files that were closed: all of it was merged; kept for a while (`outlived`)
    <folder>/reserve                    room that is given up, piece by piece, where the disk is full and it must go on

All processes of a machine write to the same file, one after the other under its lock; whoever adds reads first what others
have added, so that a key is taken once on the whole machine. Several machines have an intake each. A line without its end is
of a writer that died before it could tell anybody: the next one cuts it off. An entry of the sentinel closes the file for a
tenant that goes home; whoever comes after it is sent there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ballast.continuity.entries import (
    AWAY,
    BEGINNING,
    HOME,
    MERGED,
    Closed,
    Entry,
    IntakeFull,
    Offered,
    Taken,
    chained,
    read_chain,
)
from ballast.continuity.room import FULL, RESERVE_BYTES, Reserve
from ballast.errors import IntegrityError
from ballast.vault.durable import make_folder, sync_folder
from ballast.vault.failpoints import reach

_CLOSED = re.compile(r"(\d{12})-(\d{12})\.jsonl")
_OURS = frozenset((HOME, MERGED, AWAY))


class Intake:
    """One process's hold of the intake. Of one thread at a time.

    IntegrityError at opening, or when it reads on: the file is not what was written."""

    def __init__(self, folder: Path, *, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self._path = folder / "intake.jsonl"
        self._reserve = Reserve(folder / "reserve")
        make_folder(folder)
        self._file = -1
        self._held: dict[tuple[str, str], Entry] = {}
        self._home: set[str] = set()
        self._open()
        with self._locked():
            self._reserve.fill(reserve_bytes)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def take(self, offers: Sequence[Offered]) -> list[Taken]:
        """Accept all of `offers`, durably when this returns; one whose key is held already is answered with what is held.

        IntakeFull, Closed: none of them is kept. OSError: the disk failed; none can be told to be kept."""
        with self._locked(believe=False):
            self._refuse_closed(offers)
            new: dict[tuple[str, str], Entry] = {}
            taken = []
            number, before = self._number, self._last
            for offer in offers:
                at = (offer.tenant, offer.key)
                held = self._held.get(at) or new.get(at)
                taken.append(Taken(held or chained(offer, number + 1, before), repeated=held is not None))
                if held is None:
                    new[at] = taken[-1].entry
                    number, before = new[at].number, new[at].hash
            if new:
                urgent = any(offer.urgent for offer in offers)
                self._add(b"".join(entry.line() for entry in new.values()), urgent=urgent)
                self._keep(list(new.values()))
            else:
                self._make_durable()
            return taken

    def find(self, tenant: str, key: str) -> Entry | None:
        """What is held under this key, by whichever process of this machine it was taken."""
        with self._locked():
            return self._held.get((tenant, key))

    def entries(self) -> list[Entry]:
        """All that is held, in the order of acceptance."""
        with self._locked():
            return sorted(self._held.values(), key=lambda entry: entry.number)

    def closed(self) -> frozenset[str]:
        """Tenants that have gone home."""
        with self._locked():
            return frozenset(self._home)

    def retire(self, last: int) -> bool:
        """Close the file when all entries up to `last` are merged; False, and nothing is done, where more have come since."""
        with self._locked():
            if not self._held or self._number != last:
                return False
            first = last - len(self._held) + 1
            self._path.rename(self.folder / f"{first:012}-{last:012}.jsonl")
            sync_folder(self.folder)
            return True

    @contextlib.contextmanager
    def _locked(self, *, believe: bool = True) -> Iterator[None]:
        """Alone with the file, knowing all that is in it. `believe`: durably; who adds something sees to that at the end."""
        while True:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if self._is_current():
                break
            self.close()  # another process has retired it
            self._open()
        try:
            self._read_on()
            if believe:
                self._make_durable()
            yield
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _refuse_closed(self, offers: Sequence[Offered]) -> None:
        closed = sorted({o.tenant for o in offers if o.tenant in self._home and o.kind not in _OURS})
        if closed:
            self._make_durable()
            raise Closed(
                f"{', '.join(closed)} has gone home: nothing more is accepted here in its place",
                "Do it there, as soon as the course says that it is at home.",
            )

    def _is_current(self) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        ours = os.fstat(self._file)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        sync_folder(self.folder)
        self._size = self._durable = 0
        self._held.clear()
        self._home.clear()
        self._number, self._last = self._end_of_closed()

    def _end_of_closed(self) -> tuple[int, str]:
        """Number and hash of the last entry of the last file that was closed."""
        closed = closed_files(self.folder)
        if not closed:
            return 0, BEGINNING
        # Its chain was read when it was the current one, and is read again by whoever verifies the copy.
        last = msgspec.json.decode(closed[-1].read_bytes().splitlines()[-1], type=Entry)
        return last.number, last.hash

    def _read_on(self) -> None:
        """Learn what others have added, and cut off what was never finished."""
        size = os.fstat(self._file).st_size
        if size < self._size:
            raise IntegrityError(
                f"{self._path} is shorter than it was: accepted entries have been cut off",
                "Take the file from the store's copy before anything else is accepted.",
            )
        if size == self._size:
            return
        data = _read(self._file, self._size, size)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, self._size + whole)
            os.fsync(self._file)
        self._keep(list(read_chain(data[:whole], self._number + 1, self._last, str(self._path))))
        self._size += whole

    def _make_durable(self) -> None:
        """What others have added: one who was killed may have written and not synced."""
        if self._durable < self._size:
            os.fdatasync(self._file)
            self._durable = self._size

    def _keep(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._held[entry.tenant, entry.key] = entry
            if entry.kind == HOME:
                self._home.add(entry.tenant)
            elif entry.kind == AWAY:
                self._home.discard(entry.tenant)
            self._number, self._last = entry.number, entry.hash

    def _add(self, data: bytes, *, urgent: bool) -> None:
        while True:
            try:
                _write(self._file, self._size, data)
                reach("intake.written")
                os.fdatasync(self._file)
                reach("intake.durable")
                break
            except OSError as error:
                # What the kernel may still hold of it is not to be found by the next reader.
                os.ftruncate(self._file, self._size)
                if error.errno not in FULL:
                    raise
                if not (urgent and self._reserve.give_up()):
                    raise IntakeFull(
                        f"the disk of {self.folder} is full: nothing more can be accepted",
                        "Make room on it; what was accepted before is safe.",
                    ) from error
        self._size += len(data)
        self._durable = self._size


def closed_files(folder: Path) -> list[Path]:
    """The oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if _CLOSED.fullmatch(path.name))


def _read(file: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(file, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _write(file: int, start: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written
