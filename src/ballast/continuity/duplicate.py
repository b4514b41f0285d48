"""A copy of the intake in the vault's store: what was accepted outlives this machine's disk as well.

    intake/<node>-<incarnation>/<first>-<last>.jsonl    entries, 12 digits each; put once, never replaced

As soon as can be and as well as can be: whoever accepts does not wait for it, since while the database is away the store may
be, too; `copied` says how far it is. An incarnation is one folder of an intake, from its first entry on; within it the chain of
hashes is unbroken, so that a chunk that is missing or was changed is found by reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ballast.continuity.entries import BEGINNING, Entry, read_chain
from ballast.continuity.intake import closed_files
from ballast.errors import AlreadyExists
from ballast.vault.durable import make_folder, replace_file
from ballast.vault.store import Store
from ballast.vault.verify import OF_CONTINUITY

PREFIX = OF_CONTINUITY.rstrip("/")
_MOST_BYTES = 8 << 20
_NAME = re.compile(r"(\d{12})-(\d{12})\.jsonl")
_NUMBER = re.compile(rb'"number":(\d+)')


class Duplicate:
    """Of the intake in `folder`. One process of a machine has one."""

    def __init__(self, store: Store, folder: Path, node: int) -> None:
        make_folder(folder)
        self._store, self._folder = store, folder
        self._note = folder / "copied"
        self._name = f"{PREFIX}/{node}-{self._incarnation()}"
        with contextlib.suppress(OSError, ValueError):
            self.copied = int(self._note.read_text())

    copied: int = 0
    """Number of the last entry that is in the store."""

    def bring(self) -> int:
        """Put what is not there yet; how many entries. StoreError: the store is away, call again later."""
        before = self.copied
        for first, last, data in list(_chunks(self._folder, self.copied)):
            with contextlib.suppress(AlreadyExists):  # put by a process that died before it noted so
                self._store.put(f"{self._name}/{first:012}-{last:012}.jsonl", data)
            self.copied = last
            replace_file(self._note, str(last).encode())
        return self.copied - before

    def holds(self, data: bytes) -> bool:
        """Whether these lines, read back from the store, are the same. StoreError: it cannot be told."""
        lines = data.splitlines(keepends=True)
        first, last = _number(lines[0]), _number(lines[-1])
        there: dict[int, bytes] = {}
        for path, _ in self._store.list(self._name):
            span = _NAME.fullmatch(path.rpartition("/")[2])
            if span is not None and int(span[1]) <= last and int(span[2]) >= first:
                for line in self._store.get(path).splitlines(keepends=True):
                    there.setdefault(_number(line), line)
        return [there.get(number) for number in range(first, last + 1)] == lines

    def _incarnation(self) -> str:
        path = self._folder / "incarnation"
        if not path.exists():
            replace_file(path, secrets.token_hex(8).encode())
        return path.read_text().strip()


def incarnations(store: Store) -> tuple[str, ...]:
    """`<node>-<incarnation>` of every intake that is in the store."""
    return store.folders(PREFIX)


def read(store: Store, name: str) -> list[Entry]:
    """All entries of the copy `name`, as they were accepted. IntegrityError names the first that is missing or changed."""
    held: dict[int, bytes] = {}
    for path, _ in store.list(f"{PREFIX}/{name}"):
        for line in store.get(path).splitlines(keepends=True):
            held.setdefault(_number(line), line)
    data = b"".join(held[number] for number in sorted(held))
    return list(read_chain(data, 1, BEGINNING, f"{store.url}/{PREFIX}/{name}"))


def _chunks(folder: Path, after: int) -> Iterator[tuple[int, int, bytes]]:
    """What comes after the entry `after`: first and last number, and the lines."""
    # The current file before the list of those that were closed: one that is closed in between is read twice, not left out.
    current = _durable(folder / "intake.jsonl")
    closed = closed_files(folder)
    for data in chain((p.read_bytes() for p in closed if int(p.stem[13:]) > after), [current]):
        lines = [line for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True) if _number(line) > after]
        while lines:
            taken, size = 0, 0
            while taken < len(lines) and (not taken or size + len(lines[taken]) <= _MOST_BYTES):
                size += len(lines[taken])
                taken += 1
            last = _number(lines[taken - 1])
            yield _number(lines[0]), last, b"".join(lines[:taken])
            after, lines = last, lines[taken:]


def _durable(path: Path) -> bytes:
    """What the current file holds for good: nobody is in the middle of writing, or of taking back what could not be written."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return b""
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        os.fdatasync(file.fileno())  # of a writer that was killed
        fcntl.flock(file, fcntl.LOCK_UN)
        return file.read(size)  # whole lines do not change any more


def _number(line: bytes) -> int:
    found = _NUMBER.search(line)
    return int(found[1]) if found else 0
