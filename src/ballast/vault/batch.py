"""The objects that one ledger entry will name, put before the entry is, and accounted for if the writer dies between.

Before its first object a batch leaves its name in `<state>/intents/`. A writer that finds such a note after
a crash looks what was put under that name and tells the ledger (`Abandoned`). So every object is either
vouched for or known to be waste, and any other is a fault that `verify` names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ballast.errors import AlreadyExists
from ballast.vault.durable import make_folder, remove_file, sync_folder
from ballast.vault.index import objects_of
from ballast.vault.ledger import Ledger
from ballast.vault.records import Abandoned, ObjectRef
from ballast.vault.store import Store

PREFIX = "data/"
_INTENTS = "intents"


class Batch:
    """Puts objects for the stretch `first`..`last` of a timeline under one fresh name.

    `done()` after the ledger entry is there. A batch that is closed without it is left to `recover_batches`."""

    def __init__(self, store: Store, state_dir: Path | str, kind: str, timeline: int, first: int, last: int) -> None:
        self.name = f"{timeline}-{first:016X}-{last:016X}-{kind}-{secrets.token_hex(4)}"
        self._store = store
        self._intent = Path(state_dir) / _INTENTS / f"{self.name}.json"
        self._held = _leave_note(self._intent)
        self._count = 0

    def put(self, kind: str, ext: str, content: bytes | bytearray | memoryview | Path) -> ObjectRef:
        """Add one object (bytes, or a local file by its path); durable when this returns."""
        if isinstance(content, Path):
            with content.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = content.stat().st_size
        else:
            content = bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            size = len(content)
        name = f"{PREFIX}{self.name}/{self._count}-{kind}-{digest[:16]}.{ext}"
        try:
            if isinstance(content, Path):
                self._store.put_file(name, content)
            else:
                self._store.put(name, content)
        except AlreadyExists:
            # The name is ours alone: an earlier attempt got through and its answer was lost.
            if _describe(self._store, name) != ObjectRef(name, size, digest):
                raise
        self._count += 1
        return ObjectRef(name, size, digest)

    def done(self) -> None:
        """The ledger names these objects now: forget the note."""
        remove_file(self._intent)
        self.close()

    def close(self) -> None:
        """Let go of the note without removing it."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def recover_batches(
    ledger: Ledger, store: Store, state_dir: Path | str, *, known: Collection[str] | None = None
) -> list[ObjectRef]:
    """Tell the ledger what interrupted batches left behind; the objects told of.

    Batches that a living process still holds are left alone. `known` names the objects that the ledger holds
    already (`VaultIndex.objects`); without it the ledger is read if there is anything to recover."""
    intents = Path(state_dir) / _INTENTS
    abandoned: list[ObjectRef] = []
    for intent in sorted(intents.glob("*.json")) if intents.is_dir() else ():
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(intent.open("rb"))
            except FileNotFoundError:  # done, or recovered by another process, since we looked
                continue
            if not _take(held):
                continue
            if known is None:
                known = {ref.name for entry in ledger.read() for ref in objects_of(entry.body)}
            strays = tuple(
                _describe(store, name) for name, _ in store.list(f"{PREFIX}{intent.stem}/") if name not in known
            )
            if strays:
                ledger.append(Abandoned(strays))
                abandoned.extend(strays)
            remove_file(intent)
    store.sweep()
    return abandoned


def intended(state_dir: Path | str) -> set[str]:
    """Names of the batches that are not done: under way, or interrupted and not yet recovered."""
    intents = Path(state_dir) / _INTENTS
    return {intent.stem for intent in intents.glob("*.json")} if intents.is_dir() else set()


def _leave_note(intent: Path) -> IO[bytes]:
    make_folder(intent.parent)
    staged = intent.with_suffix(f".{os.getpid()}")
    # The lock is taken before the note has its name: nobody sees it unheld while its batch lives.
    held = staged.open("xb")
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(b"{}")
        held.flush()
        os.fsync(held.fileno())
        staged.rename(intent)
        sync_folder(intent.parent)
    except BaseException:
        held.close()
        staged.unlink(missing_ok=True)
        raise
    return held


def _take(held: IO[bytes]) -> bool:
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(store: Store, name: str) -> ObjectRef:
    digest, size = hashlib.sha256(), 0
    for piece in store.stream(name):
        digest.update(piece)
        size += len(piece)
    return ObjectRef(name, size, digest.hexdigest())
