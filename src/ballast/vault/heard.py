"""What the stream itself says of tables: the explanation of what the guardian sees in the catalog a moment later.

The receiver hands in every batch as it came; of each message it costs one look at one byte. What was heard is kept for
a while and not used up: the catalog may show a change before the stream tells of it, or (where the commit waits for
another standby) after.

A TRUNCATE cannot be made up, and what is announced as rewritten is imaged by the sealer. That a table was altered
explains no new file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Literal

import msgspec

from ballast.postgres import pgoutput
from ballast.postgres.replication import HEADER_BYTES
from ballast.vault.differences import Told
from ballast.vault.token import is_ours, taken_apart

_KEPT_S = 60.0
_MOST = 100_000
_DDL = b"ballast.ddl"  # registry.PREFIX, whose module is too heavy for this process
_TOLD_OF = b"TM"
_MESSAGE = ord("M")
_LONGEST = 64 << 20
"""A longer message explains nothing: commits wait for this thread."""


class _Table(msgspec.Struct, frozen=True):
    oid: int
    persistence: str = "p"


class _Ddl(msgspec.Struct, frozen=True):
    """The few fields of registry.DdlMessage that matter here."""

    event: Literal["ddl", "drop", "rewrite"]
    relations: tuple[_Table, ...] = ()
    dropped: tuple[int, ...] = ()
    rewritten: tuple[int, ...] = ()


class Heard:
    """Filled by the receiver's thread, read by the guardian's."""

    def __init__(self) -> None:
        self.tokens: tuple[str, ...] = ()
        """Only messages with one of them are believed (token.py)."""
        self._lock = threading.Lock()
        self._rewritten: dict[str, float] = {}
        self._described: dict[str, float] = {}
        self._unlogged: dict[str, float] = {}
        self.messages = 0
        """DDL messages so far: when it grows, somebody has changed the structure."""

    def hear(self, messages: Sequence[bytes]) -> None:
        """A batch (XLogData with its header)."""
        for data in [m for m in messages if m[HEADER_BYTES] in _TOLD_OF]:
            if data[HEADER_BYTES] == _MESSAGE:
                told = taken_apart(data, HEADER_BYTES, (_DDL,)) if len(data) <= _LONGEST else None
                if told is not None and is_ours(told[1], self.tokens):
                    self._take(told[1])
                continue
            message = pgoutput.decode(data[HEADER_BYTES:])
            if isinstance(message, pgoutput.Truncate):
                self._note(self._rewritten, message.oids)

    def told(self) -> Told:
        """What was heard of late. That a table became UNLOGGED explains nothing of its file, whatever else was said."""
        self._forget(time.monotonic() - _KEPT_S)
        with self._lock:
            return Told(frozenset(self._rewritten.keys() - self._unlogged.keys()), frozenset(self._described))

    def _take(self, content: bytes) -> None:
        self.messages += 1
        try:
            ddl = msgspec.json.decode(content, type=_Ddl)
        except (msgspec.MsgspecError, UnicodeError):
            return  # it explains nothing
        self._note(self._described, [t.oid for t in ddl.relations])
        self._note(self._described, ddl.dropped)
        self._note(self._rewritten, ddl.rewritten)
        self._note(self._unlogged, [t.oid for t in ddl.relations if t.persistence == "u"])

    def _note(self, where: dict[str, float], oids: Sequence[int]) -> None:
        now = time.monotonic()
        with self._lock:
            for oid in oids:
                if len(where) < _MOST:
                    where[str(oid)] = now

    def _forget(self, before: float) -> None:
        with self._lock:
            for kept in (self._rewritten, self._described, self._unlogged):
                for oid in [oid for oid, at in kept.items() if at < before]:
                    del kept[oid]
