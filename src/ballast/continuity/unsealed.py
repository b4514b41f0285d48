"""What the recorder's spool holds that is not in the vault yet, transaction by transaction: how many rows each added and took.

Read beside a recorder, without taking any row apart: it must be quick, since a platform may be lost just now. What was received
of a transaction whose commit did not come is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import BallastError
from ballast.postgres import pgoutput
from ballast.postgres.tuples import Layouts, RowLayout, decode_rows, split_messages
from ballast.vault.frames import read_frames, read_header
from ballast.vault.records import ByColumn, Relation
from ballast.vault.registry import PREFIX
from ballast.vault.segment import layout_of, numbers_at
from ballast.vault.spoolfiles import listed
from ballast.vault.tables import UNRECORDED

_MOST_BYTES = 64 << 20
"""More is not held in memory for this."""
_SAMPLE_ROWS, _PER_TENANT = 20_000, 4
_HEAD_BYTES = 80
"""Of a logical message: its prefix is in it."""
_DDL = PREFIX.encode()
_B, _C, _I, _D, _R, _M, _T = b"BCIDRMT"
_LOOKED_AT = np.isin(np.arange(256), [_R, _M, _T])


class Unsealed(msgspec.Struct, frozen=True):
    """A transaction of the spool. Tables by their oids."""

    lsn: int
    """Of its commit."""
    at: datetime
    since: int
    """The cut before it."""
    is_apart: bool
    """It begins a file: what comes before it is sealed without it."""
    added: Mapping[int, int]
    taken: Mapping[int, int]
    unclear: str = ""
    """What else it did, of which numbers of rows do not tell."""

    def grown(self, oids: frozenset[int]) -> int:
        """Rows that it added to these tables less those that it took."""
        return sum(
            self.added.get(oid, 0) - self.taken.get(oid, 0)
            for oid in self.added.keys() | self.taken.keys()
            if oid in oids
        )


class Tail:
    """All that is not sealed, as far as it is whole."""

    def __init__(self, transactions: Sequence[Unsealed], payloads: Mapping[int, Any]) -> None:
        """`payloads`: of each transaction by its LSN, where its messages are."""
        self.transactions = transactions
        self._payloads = payloads

    def hit(self, lsn: int, relations: Sequence[Relation], tenants: int) -> int:
        """How many tenants at least had rows taken from one of these tables by that transaction, of `tenants` that there are: by
        a sample of its rows, if it took many."""
        buffer, starts, ends = self._payloads[lsn]
        known = [relation for relation in relations if isinstance(relation.tenant, ByColumn)]
        oids = numbers_at(buffer, starts + 1, ">u4")
        of_known = np.flatnonzero(np.isin(oids, [relation.oid for relation in known]))
        # Not every tenth or so: tenants' rows may come in turn.
        share = max(_SAMPLE_ROWS, _PER_TENANT * tenants) / max(len(of_known), 1)
        picked = of_known[np.random.default_rng(len(of_known)).random(len(of_known)) < share]
        if not len(picked):
            return 0
        batch = decode_rows(buffer, starts[picked], ends[picked], Layouts([layout_of(relation) for relation in known]))
        rows = pa.table({"relation": pa.array(batch.layout), "tenant": batch.partition.to_text()})
        counted = rows.group_by("relation").aggregate([("tenant", "count_distinct")])
        return int(pc.max(counted["tenant_count_distinct"]).as_py())


def make_ready() -> None:
    """Have what reads it in memory."""
    nothing = np.zeros(0, np.int64)
    split_messages(b"")
    decode_rows(b"", nothing, nothing, [RowLayout(1, 1, (0,))])


def read(spool: Path, timeline: int, until: int, oids: frozenset[int]) -> Tail | None:
    """The transactions from the cut `until` on, up to which the vault has everything; None: that cannot be told just now (a file
    was sealed meanwhile, or is damaged, or there is too much). `oids`: the tables that are known."""
    try:
        files = _files(spool, timeline, until)
    except (BallastError, OSError):
        return None
    if files is None:
        return None
    found: list[Unsealed] = []
    payloads: dict[int, Any] = {}
    for start_lsn, is_apart, payload in files:
        for one, where in _transactions(start_lsn, is_apart, payload, oids):
            if one.lsn >= until:
                found.append(one)
                payloads[one.lsn] = where
    return Tail(found, payloads)


def _files(spool: Path, timeline: int, until: int) -> list[tuple[int, bool, bytes]] | None:
    """(cut that it begins at, whether a large transaction begins it, messages) of each file that has something, in order."""
    paths = [
        path for kind in ("spool", "open") for _, path in listed(spool, kind) if path.name.startswith(f"{timeline}-")
    ]
    found: list[tuple[int, bool, bytes]] = []
    at = size = 0
    for path in paths:
        with path.open("rb") as file:
            header, start, seed = read_header(file)
            if (header.start_lsn != at if at else header.start_lsn > until) or header.gap_from is not None:
                return None
            parts: list[bytes] = []
            whole, at = 0, header.start_lsn
            for frame in read_frames(file, start, seed, path.stat().st_size):
                parts.append(frame.payload)
                size += len(frame.payload)
                if frame.committed:
                    whole, at = len(parts), frame.end_lsn
                if size > _MOST_BYTES:
                    return None
        payload = b"".join(parts[:whole])
        if payload and at > until:
            found.append((header.start_lsn, header.apart, payload))
        else:
            size -= len(payload)
    return found if paths else None


def _transactions(start_lsn: int, is_apart: bool, payload: bytes, oids: frozenset[int]) -> list[tuple[Unsealed, Any]]:
    starts, ends, kinds = split_messages(payload)
    buffer = np.frombuffer(payload, np.uint8)
    begins, commits = np.flatnonzero(kinds == _B), np.flatnonzero(kinds == _C)
    lsns = numbers_at(buffer, starts[begins] + 1, ">i8").tolist()
    times = numbers_at(buffer, starts[begins] + 9, ">i8").tolist()
    cuts = numbers_at(buffer, starts[commits] + 10, ">i8").tolist()
    of = np.cumsum(kinds == _B) - 1
    counts: dict[int, list[dict[int, int]]] = {_I: [{} for _ in lsns], _D: [{} for _ in lsns]}
    for kind, of_kind in counts.items():
        rows = np.flatnonzero(kinds == kind)
        together = (of[rows] << 32) | numbers_at(buffer, starts[rows] + 1, ">u4")
        for both, count in zip(*(x.tolist() for x in np.unique(together, return_counts=True)), strict=True):
            of_kind[both >> 32][both & 0xFFFFFFFF] = count
    unclear: dict[int, str] = {}
    for at in np.flatnonzero(_LOOKED_AT[kinds]).tolist():
        end = min(ends[at], starts[at] + _HEAD_BYTES) if kinds[at] == _M else ends[at]
        if what := _unclear(int(kinds[at]), buffer[starts[at] : end].tobytes(), oids):
            unclear[int(of[at])] = what
    found = []
    for place, (lsn, time) in enumerate(zip(lsns, times, strict=True)):
        since = cuts[place - 1] if place else start_lsn
        one = Unsealed(
            lsn, datetime.fromtimestamp((time + pgoutput.EPOCH_US) / 1e6, UTC), since, is_apart and not place,
            counts[_I][place], counts[_D][place], unclear.get(place, unclear.get(-1, "")),
        )  # fmt: skip
        first, last = int(begins[place]), int(commits[place])
        deletions = first + np.flatnonzero(kinds[first:last] == _D)
        found.append((one, (buffer, starts[deletions], ends[deletions])))
    return found


def _unclear(kind: int, message: bytes, oids: frozenset[int]) -> str:
    if kind == _T:
        return "it truncated tables"
    if kind == _M:
        return "it changed the structure" if _DDL in message else ""
    told = pgoutput.decode(message)
    assert isinstance(told, pgoutput.Relation)
    return "" if told.oid in oids or told.schema in UNRECORDED else f"{told.schema}.{told.name} is not known"
