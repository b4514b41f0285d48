"""The objects' part of `verify`: each is there, is byte for byte what was put, and holds what its entry says.

Content is looked at only where the bytes are right, so that damage is named once. What is wrong with right
bytes is a mistake of whoever wrote them: rows out of order, of another bucket, outside the stretch.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ballast.errors import BallastError, NotFound, StoreError
from ballast.vault.audit_ledger import harm_of
from ballast.vault.buckets import bucket_of
from ballast.vault.fault import Fault, Harm, Kind, fault
from ballast.vault.index import objects_of
from ballast.vault.order import ints_of, ops_of, ranks_of, sort_order
from ballast.vault.records import (
    Abandoned,
    Body,
    Entry,
    Image,
    Merge,
    ObjectRef,
    Relation,
    RunRef,
    SchemaVersion,
    Segment,
)
from ballast.vault.run import RUN_SCHEMA, open_run
from ballast.vault.store import Ahead, Store
from ballast.vault.sums import Sums, row_sums, tally

_HELD_BYTES = 64 << 20
"""Objects up to this size are fetched once and read from memory; larger ones are streamed, then read by ranges."""
_BATCH_ROWS = 16_384
_WORKERS = 4
_SHALLOW = ("tenant", "relation", "timeline", "lsn")

Progress = Callable[[int, int], None]
"""Bytes looked at, bytes of all."""
OnTally = Callable[[Entry, RunRef, Sums], None]
"""Given, for each sound run with changes, its rows by bucket and relation."""


class Owned(msgspec.Struct, frozen=True):
    """An object with the entry that names it, and the run that it is (None: another object)."""

    ref: ObjectRef
    entry: Entry
    run: RunRef | None

    @property
    def harm(self) -> Harm:
        """What depends on the object."""
        if isinstance(self.entry.body, Abandoned):
            return Harm()
        harm = harm_of(self.entry.body)
        return harm.of(self.run) if self.run is not None else harm


def owned(entries: Iterable[Entry]) -> dict[str, Owned]:
    """Every object that the entries name, by name."""
    found: dict[str, Owned] = {}
    for entry in entries:
        runs = {run.object.name: run for run in getattr(entry.body, "runs", ())}
        for ref in objects_of(entry.body):
            found[ref.name] = Owned(ref, entry, runs.get(ref.name))
    return found


class ObjectAudit:
    """Looks at all objects, several at a time; `faults` and `counts` grow while `run` works."""

    def __init__(
        self,
        store: Store,
        objects: dict[str, Owned],
        listed: dict[str, int],
        buckets: int | None,
        *,
        deep: bool,
        on_tally: OnTally,
        progress: Progress | None,
    ) -> None:
        self._store, self._objects, self._listed, self._buckets = store, objects, listed, buckets
        self._deep, self._on_tally, self._progress = deep, on_tally, progress
        self._by_hash = {owned.ref.sha256: owned.ref.name for owned in objects.values()}
        self._total = sum(owned.ref.bytes for owned in objects.values())
        self._lock = threading.Lock()
        self._done = 0
        self.faults: list[Fault] = []
        self.sound: set[str] = set()
        """Objects that have nothing wrong."""
        self.rows = 0

    def run(self) -> None:
        """Look at everything."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            for faults in pool.map(self._look, self._objects.values()):
                self.faults += faults

    def _look(self, owned: Owned) -> list[Fault]:
        faults = list(self._faults(owned))
        with self._lock:
            self._done += owned.ref.bytes
            if not faults:
                self.sound.add(owned.ref.name)
            if self._progress is not None:
                self._progress(self._done, self._total)
        return faults

    def _faults(self, owned: Owned) -> Iterator[Fault]:
        ref = owned.ref
        if ref.name not in self._listed:
            yield fault(Kind.MISSING, ref.name, f"{self._whose(owned)} is not in the store.", owned.harm)
            return
        try:
            digest, size, held = self._read(ref)
        except NotFound:
            yield fault(Kind.MISSING, ref.name, f"{self._whose(owned)} is listed but cannot be had.", owned.harm)
            return
        except StoreError as error:
            yield fault(Kind.UNREACHABLE, ref.name, f"not looked at: {error.what}", owned.harm)
            return
        if digest != ref.sha256:
            yield self._changed(owned, digest, size)
            return
        try:
            for why in self._content(owned, held):
                yield fault(Kind.CONTENT, ref.name, why, owned.harm)
        except (BallastError, pa.ArrowException, msgspec.DecodeError, KeyError, ValueError) as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            yield fault(Kind.CONTENT, ref.name, f"cannot be read, though its bytes are right: {why}", owned.harm)

    def _read(self, ref: ObjectRef) -> tuple[str, int, bytes | None]:
        digest, size, pieces = hashlib.sha256(), 0, []
        hold = self._listed[ref.name] <= _HELD_BYTES
        for piece in self._store.stream(ref.name):
            digest.update(piece)
            size += len(piece)
            if hold:
                pieces.append(piece)
        return digest.hexdigest(), size, b"".join(pieces) if hold else None

    def _changed(self, owned: Owned, digest: str, size: int) -> Fault:
        ref, whose = owned.ref, self._whose(owned)
        if digest in self._by_hash:
            why = f"{whose} is not here: this is the content of {self._by_hash[digest]}."
            return fault(Kind.MISPLACED, ref.name, why, owned.harm)
        if size < ref.bytes:
            why = f"{whose} has {size} bytes of {ref.bytes}."
            return fault(Kind.CUT_SHORT, ref.name, why, owned.harm)
        longer = f" ({size} bytes instead of {ref.bytes})" if size != ref.bytes else ""
        return fault(Kind.CHANGED, ref.name, f"{whose} is not as it was put{longer}.", owned.harm)

    def _whose(self, owned: Owned) -> str:
        body = owned.entry.body
        kind = "an abandoned object" if isinstance(body, Abandoned) else f"an object of a {_noun(body)}"
        return f"{kind} (entry {owned.entry.number})"

    def _content(self, owned: Owned, held: bytes | None) -> Iterator[str]:
        body = owned.entry.body
        if owned.run is not None:
            store = self._store if held is None else _Held(held)
            yield from self._run_content(store, owned.run, owned.entry)
        elif isinstance(body, Segment) and body.transactions == owned.ref:
            source = self._store.open(owned.ref.name, owned.ref.bytes) if held is None else pa.BufferReader(held)
            yield from _transactions_content(source, body)
        elif isinstance(body, SchemaVersion):
            assert held is not None or owned.ref.bytes > _HELD_BYTES
            msgspec.json.decode(held or self._store.get(owned.ref.name), type=tuple[Relation, ...])

    def _run_content(self, store: Store, ref: RunRef, entry: Entry) -> Iterator[str]:
        run = open_run(store, ref)
        limits = _limits(entry.body)
        allowed = _buckets_in(ref, entry.body)
        tallied = self._buckets is not None and _is_rearranged(entry.body)
        columns = RUN_SCHEMA.names if self._deep else _SHALLOW
        rows, relations, sums = 0, set(), Sums()
        first, last, edge = None, None, None
        problems: dict[str, None] = {}
        for batch in run.batches(_BATCH_ROWS, columns):
            ranks, names = ranks_of(batch["tenant"])
            buckets = self._bucket_numbers(names)[ranks]
            numbers = ints_of(batch["relation"])
            first = batch["tenant"][0].as_py() if rows == 0 else first
            last = batch["tenant"][batch.num_rows - 1].as_py()
            rows += batch.num_rows
            relations.update(np.unique(numbers).tolist())
            problems.update(dict.fromkeys(limits.broken_by(ints_of(batch["timeline"]), ints_of(batch["lsn"]))))
            if self._buckets is not None and allowed is not None and not np.isin(buckets, allowed).all():
                problems[f"it has rows of other buckets than {', '.join(map(str, allowed))}."] = None
            if self._deep:
                joined = batch if edge is None else pa.concat_tables([edge, batch], promote_options="permissive")
                if sort_order(joined.unify_dictionaries().combine_chunks()) is not None:
                    problems["its rows are not in order."] = None
                edge = batch.slice(batch.num_rows - 1)
                if isinstance(entry.body, Image) and (ops_of(batch["op"]) != _INSERT).any():
                    problems["an image has rows that are no inserts."] = None
            if tallied:
                tally(sums, buckets, numbers, row_sums(batch) if self._deep else None)
        if rows != ref.rows:
            problems[f"it has {rows} rows, and the ledger says {ref.rows}."] = None
        if rows and (first, last) != (ref.min_tenant, ref.max_tenant):
            problems["its smallest and largest tenant are not those that the ledger names."] = None
        if tuple(sorted(relations)) != tuple(sorted(ref.relations)):
            problems["its relations are not those that the ledger names."] = None
        yield from problems
        with self._lock:
            self.rows += rows
            if tallied and not problems:
                self._on_tally(entry, ref, sums)

    def _bucket_numbers(self, tenants: list[str | None]) -> Any:
        count = self._buckets or 1
        return np.array([bucket_of(tenant, count) for tenant in tenants], np.int64)


class _Limits(msgspec.Struct, frozen=True):
    """Where the rows of a run may stand."""

    timeline: int
    from_lsn: int | None
    """None: whole rows, from any time up to `to_lsn`, or of an ancestor timeline."""
    to_lsn: int

    def broken_by(self, timelines: Any, lsns: Any) -> Iterator[str]:
        if self.from_lsn is None:
            here = timelines == self.timeline
            if (timelines > self.timeline).any() or (lsns[here] > self.to_lsn).any():
                yield "it has rows from after its position."
        elif (timelines != self.timeline).any():
            yield f"it has rows of other timelines than {self.timeline}."
        elif (lsns < self.from_lsn).any() or (lsns >= self.to_lsn).any():
            yield "it has rows from outside its stretch."


class _Held(Store):
    """An object's bytes, where a store is asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__("", None)
        self._data = data

    def open(self, name: str, size: int | None = None, ahead: Ahead | None = None) -> pa.NativeFile:
        return pa.BufferReader(self._data)


_INSERT = 1  # order.INSERT


def _is_rearranged(body: Body) -> bool:
    """Whether merges of changes hold rows of this entry, or it is one."""
    return isinstance(body, Segment) or (isinstance(body, Merge) and body.kind == "changes")


def _buckets_in(ref: RunRef, body: Body) -> tuple[int, ...] | None:
    """The buckets that may be in a run; None: all."""
    if ref.bucket is not None:
        return (ref.bucket,)
    return body.buckets if isinstance(body, Merge) else None


def _limits(body: Body) -> _Limits:
    match body:
        case Segment():
            return _Limits(body.timeline, body.first_lsn, body.last_lsn)
        case Merge(kind="changes"):
            return _Limits(body.timeline, body.first_lsn, body.last_lsn)
        case Merge():
            return _Limits(body.timeline, None, body.last_lsn)
        case Image():
            return _Limits(body.timeline, None, body.lsn)
        case _:
            raise ValueError("this entry has no runs")


def _transactions_content(source: Any, segment: Segment) -> Iterator[str]:
    table = pq.ParquetFile(source).read(columns=["lsn", "committed_at"], use_threads=False)
    lsns = ints_of(table["lsn"])
    if len(lsns) and ((lsns < segment.first_lsn).any() or (lsns >= segment.last_lsn).any()):
        yield "it lists transactions from outside its stretch."
    if (np.diff(lsns) <= 0).any():
        yield "its transactions are not in order."
    if len(lsns) and segment.last_committed_at is not None:
        latest = pc.max(table["committed_at"]).as_py()
        if latest.isoformat() != _moment(segment.last_committed_at).isoformat():
            yield "its latest commit is not the one that the ledger names."


def _moment(text: str) -> Any:
    from datetime import UTC, datetime

    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _noun(body: Body) -> str:
    nouns = {"SchemaVersion": "schema version", "SchemaDump": "schema dump"}
    return nouns.get(type(body).__name__, type(body).__name__.lower())
