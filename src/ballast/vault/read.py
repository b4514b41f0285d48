"""Rows as they were at a cut: of one tenant, or of a whole bucket, as buffers that COPY takes as they are.

One tenant's read opens the runs of its bucket's plan, takes from each the row groups that can hold it, and folds.
Footers stay in memory with the vault, and row groups that are read again (`hot.py`), so that the next tenant finds
them there. Reading bucket by bucket, runs that hold all buckets are taken apart once (`partition.py`).
"""

from __future__ import annotations

import heapq
import shutil
import tempfile
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from ballast.postgres.checksum import checksum_sum, row_checksums
from ballast.vault import bulk, layout
from ballast.vault.blocks import TURN, merged
from ballast.vault.buckets import bucket_of
from ballast.vault.fold import Lookup, Patches, Structure, Version, Wanted, fold
from ballast.vault.hot import HotGroups
from ballast.vault.moment import Resolved
from ballast.vault.order import bytes_of
from ballast.vault.partition import Partitions
from ballast.vault.plan import Plan, may_hold
from ballast.vault.records import Cut, Relation, RunRef
from ballast.vault.replay import State, in_order, replay
from ballast.vault.run import Run, open_run
from ballast.vault.sources import Slices, sources, versions_in
from ballast.vault.vault import Vault

CHUNK_BYTES = 8 << 20
_HELD_BYTES = 96 << 20
"""Reading a bucket, so much is gathered to give each relation in few chunks."""
_RUNS_KEPT = 512
_READERS = 8


class _Any(Enum):
    TENANT = 0


ANY = _Any.TENANT
"""Not one tenant: with `bucket`, or everything. (None is a tenant: that of the shared rows.)"""


class RowChunk(msgspec.Struct, frozen=True):
    """Rows of one relation as COPY lines."""

    relation: Relation
    """As at the cut: the lines have the columns of its `row_columns`."""
    lines: pa.LargeBinaryArray
    rows: int
    checksum: int
    """Sum modulo 2^64 of XXH64 (seed 0) over each line with its newline."""

    @property
    def buffer(self) -> memoryview:
        """All lines, one after another, without a copy."""
        data, offsets = bytes_of(self.lines)
        return data[offsets[0] : offsets[-1]].data


Progress = Callable[[int, int], None]
"""Called with the rows and bytes of each chunk as it is handed out."""


def rows(
    vault: Vault,
    resolved: Resolved | Cut,
    *,
    tenant: str | Literal[_Any.TENANT] | None = ANY,
    bucket: int | None = None,
    buckets: Collection[int] | None = None,
    tenants: Collection[str] | None = None,
    relations: Collection[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[RowChunk]:
    """The rows at the cut, of one `tenant` (None: the shared rows), of all tenants of one `bucket`, of several
    `buckets` that `bucket_groups` has put together, or of some `tenants` of those buckets.

    In order of relation; chunks of up to 8 MB. Of a bucket with more than about 100 MB of rows a relation may come in
    several places. `relations`: only these numbers. GapError, IntegrityError, StoreError."""
    cut = resolved.cut if isinstance(resolved, Resolved) else resolved
    if not isinstance(tenant, _Any):
        scope = Scope.of_tenant(vault, cut, tenant)
    elif tenants is not None:
        scope = Scope.of_tenants(vault, cut, tenants)
    elif buckets is not None:
        scope = Scope.of_buckets(vault, cut, buckets)
    else:
        scope = Scope.of_bucket(vault, cut, bucket)
    for chunk in scope.chunks(relations):
        if progress is not None:
            progress(chunk.rows, len(chunk.buffer))
        yield chunk


def without_columns(chunk: RowChunk, positions: Collection[int]) -> RowChunk:
    """The chunk without the columns at these positions of `relation.row_columns`."""
    kept = [i for i in range(len(chunk.relation.row_columns)) if i not in positions]
    gather = layout.Gather([layout.Mapping(tuple(kept))])
    count = len(chunk.lines)
    lines = gather.lines(bytes_of(chunk.lines), layout.packed([]), np.arange(count), np.zeros(count, np.int64))
    columns = tuple(chunk.relation.row_columns[i] for i in kept)
    return _chunk(msgspec.structs.replace(chunk.relation, row_columns=columns), lines)


def bucket_groups(
    vault: Vault, resolved: Resolved | Cut, buckets: Collection[int], least: int
) -> list[tuple[int, ...]]:
    """`buckets` in groups for `rows`, at least `least` if there are so many, each about an image's run."""
    cut = resolved.cut if isinstance(resolved, Resolved) else resolved
    plans = {bucket: vault.plan(cut, bucket) for bucket in buckets}
    runs = max(1, len(bulk.image_runs(plans)))
    return bulk.groups(plans, runs * -(-least // runs))


def tenants(vault: Vault, resolved: Resolved | Cut) -> list[str]:
    """Every tenant that has rows, or had some since the last image, at the cut; by bytes of UTF-8."""
    cut = resolved.cut if isinstance(resolved, Resolved) else resolved
    runs = {
        run.object.name: run
        for bucket in range(vault.index.genesis.buckets)
        for run in vault.plan(cut, bucket).runs
        if run.max_tenant is not None
    }
    found = warm(vault).readers.map(warm(vault).tenants, runs.values())
    names = {name for known in found for name in known if name is not None}
    return sorted(names, key=str.encode)


def tenant_known(vault: Vault, tenant: str) -> bool:
    """Whether any row of `tenant` was ever recorded, as far back as the vault goes."""
    seen: set[str] = set()
    for run in _newest_first(vault, bucket_of(tenant, vault.index.genesis.buckets)):
        if run.object.name not in seen and may_hold(run, tenant):
            seen.add(run.object.name)
            if any(True for _ in warm(vault).open(run).slices({tenant}, columns=())):
                return True
    return False


def _newest_first(vault: Vault, bucket: int) -> Iterator[RunRef]:
    index = vault.index
    timeline = index.newest_timeline
    if index.recorded_from(timeline) is not None:
        yield from vault.plan(Cut(timeline, index.recorded_until(timeline)), bucket).runs
    merged_runs = [run for merge in index.merges if merge.holds(bucket) for run in merge.runs]
    yield from reversed(merged_runs)
    runs = [run for segment in index.segments for run in segment.runs]
    runs += [run for image in index.images for run in image.runs]
    yield from (run for run in reversed(runs) if run.bucket in (None, bucket))


class Scope:
    """One tenant's or one bucket's rows at a cut: the plan, the structure, and how its runs are read."""

    def __init__(self, vault: Vault, plan: Plan, slices: Slices) -> None:
        self._vault, self.plan, self._slices = vault, plan, slices
        self.target = vault.relations_at(plan.cut)
        opened = warm(vault).open_all(plan.runs)
        self._versions = versions_in(opened)
        self.lookup: Lookup = partial(_look_up, vault)

    @classmethod
    def of_tenant(cls, vault: Vault, cut: Cut, tenant: str | None) -> Scope:
        """Of one tenant; None: the shared rows."""
        plan = vault.plan(cut, bucket_of(tenant, vault.index.genesis.buckets)).for_tenant(tenant)

        return cls(vault, plan, warm(vault).tenant_slices(frozenset((tenant,))))

    @classmethod
    def of_tenants(cls, vault: Vault, cut: Cut, tenants: Collection[str]) -> Scope:
        """Of several, whose buckets can be read together. Neighbours by name share row groups, which are read once."""
        wanted = frozenset(tenants)
        buckets = sorted({bucket_of(tenant, vault.index.genesis.buckets) for tenant in wanted})
        plan = bulk.joint([vault.plan(cut, bucket) for bucket in buckets]).for_tenants(wanted)
        return cls(vault, plan, warm(vault).tenant_slices(wanted))

    @classmethod
    def of_bucket(cls, vault: Vault, cut: Cut, bucket: int | None) -> Scope:
        """Of one bucket."""
        if bucket is None:
            raise ValueError("neither a tenant nor a bucket is named")
        return cls(vault, vault.plan(cut, bucket), warm(vault).bucket_slices(bucket))

    @classmethod
    def of_buckets(cls, vault: Vault, cut: Cut, buckets: Collection[int]) -> Scope:
        """Of several, which can be read together."""
        plan = bulk.joint([vault.plan(cut, bucket) for bucket in sorted(buckets)])
        return cls(vault, plan, warm(vault).buckets_slices(frozenset(buckets)))

    def structure(self, target: Mapping[int, Relation] | None = None) -> Structure:
        """What a fold of this scope knows."""
        return Structure(target or self.target, self._vault.schema, self._versions.keyless(self._vault.schema))

    def exact(self, keyed_as: Mapping[int, Relation] | None = None) -> frozenset[int]:
        """Relations to be replayed; with `keyed_as` also those whose rows stand under other keys than it says."""
        return self._versions.exact(self._vault.schema, keyed_as)

    def sources(self, relations: Collection[int]) -> list[Iterator[pa.Table]]:
        """The sources of a fold of these relations."""
        return sources(self.plan, relations, self._slices, patches=self._versions.patches)

    def chunks(self, relations: Collection[int] | None) -> Iterator[RowChunk]:
        """The rows as chunks, in order of relation."""
        wanted = self.target.keys() if relations is None else self.target.keys() & set(relations)
        exact = self.exact() & wanted
        structure = self.structure()
        if not exact and not self.plan.changes and not self.plan.truncations:
            return gathered(bulk.as_imaged(self.plan, wanted, self._slices, structure), self.target)
        plain = self.sources(wanted - exact)
        folds = fold(merged(plain, warm(self._vault).readers), structure, self.lookup)
        parts = (part for folded in folds for part in folded.parts())
        if exact:
            replayed = (
                (table["relation"][0].as_py(), table["row"].chunk(0))
                for table in replay(merged(self.sources(exact)), structure, self.lookup)
            )
            parts = heapq.merge(parts, replayed, key=lambda part: part[0])
        return gathered(parts, self.target)


def gathered(
    parts: Iterable[tuple[int, pa.LargeBinaryArray]],
    target: Mapping[int, Relation],
    held_bytes: int = _HELD_BYTES,
) -> Iterator[RowChunk]:
    """Parts of relations as chunks: small ones together, large ones cut; in order of relation up to `held_bytes`."""
    held: dict[int, list[pa.LargeBinaryArray]] = {}
    sizes: Counter[int] = Counter()
    for relation, lines in parts:
        held.setdefault(relation, []).append(lines)
        sizes[relation] += _size(lines)
        while sizes.total() > held_bytes:
            largest = max(sizes, key=lambda number: sizes[number])
            del sizes[largest]
            yield from _cut(target[largest], held.pop(largest))
    for relation in sorted(held):
        yield from _cut(target[relation], held[relation])


def _cut(relation: Relation, parts: list[pa.LargeBinaryArray]) -> Iterator[RowChunk]:
    pending: list[pa.LargeBinaryArray] = []
    size = 0
    for part in parts:
        for lines in _pieces(part):
            if pending and size + _size(lines) > CHUNK_BYTES:
                yield _chunk(relation, pa.concat_arrays(pending))
                pending, size = [], 0
            pending.append(lines)
            size += _size(lines)
    if pending:
        yield _chunk(relation, pending[0] if len(pending) == 1 else pa.concat_arrays(pending))


def _pieces(lines: pa.LargeBinaryArray) -> Iterator[pa.LargeBinaryArray]:
    _, offsets = bytes_of(lines)
    start = 0
    while start < len(lines):
        end = int(np.searchsorted(offsets, offsets[start] + CHUNK_BYTES, side="right")) - 1
        end = min(max(end, start + 1), len(lines))
        yield lines.slice(start, end - start)
        start = end


def _size(lines: pa.LargeBinaryArray) -> int:
    _, offsets = bytes_of(lines)
    return int(offsets[-1] - offsets[0])


def _chunk(relation: Relation, lines: pa.LargeBinaryArray) -> RowChunk:
    return RowChunk(relation, lines, len(lines), checksum_sum(row_checksums(*bytes_of(lines))))


class Warm:
    """What reads of a vault keep for the next ones: opened runs, and runs taken apart by bucket."""

    def __init__(self, vault: Vault) -> None:
        self._vault = weakref.ref(vault)
        self._store = vault.store
        self._buckets = vault.index.genesis.buckets
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._hot = HotGroups()
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._partitions = Partitions(self._make_folder, self._buckets)
        self._bucket_reads: Counter[str] = Counter()
        self._held_buckets: dict[str, frozenset[int]] = {}
        self.readers = ThreadPoolExecutor(_READERS, "ballast-reader")
        weakref.finalize(self, self.readers.shutdown, wait=False)

    def open(self, ref: RunRef) -> Run:
        """The run, from memory if it was opened before; else held against the ledger first."""
        name = ref.object.name
        with self._lock:
            run = self._runs.get(name)
            if run is not None:
                self._runs.move_to_end(name)
                return run
        if (vault := self._vault()) is not None:
            vault.check_object(ref.object)
        run = open_run(self._store, ref)
        with self._lock:
            self._runs[name] = run
            while len(self._runs) > _RUNS_KEPT:
                self._runs.popitem(last=False)
        return run

    def open_all(self, refs: Sequence[RunRef]) -> list[Run]:
        """Several at the same time: each is checked, and in a remote store a round trip."""
        with self._lock:
            new = [ref for ref in refs if ref.object.name not in self._runs]
        if len(new) > 1:
            list(self.readers.map(self.open, new))
        return [self.open(ref) for ref in refs]

    def tenants(self, ref: RunRef) -> list[str | None]:
        """Every tenant in the run; which buckets that makes is remembered."""
        found = self.open(ref).tenants()
        self._held_buckets[ref.object.name] = frozenset(bucket_of(tenant, self._buckets) for tenant in found)
        return found

    def tenant_slices(self, tenants: frozenset[str | None] | frozenset[str]) -> Slices:
        """How the rows of some tenants are read. Runs that are known to hold none of their buckets are not looked into:
        by the names at its ends alone, nearly each run of an image might hold nearly each tenant."""
        buckets = frozenset(bucket_of(tenant, self._buckets) for tenant in tenants)

        def slices(ref: RunRef, relations: Collection[int], columns: Sequence[str]) -> Iterator[pa.Table]:
            if buckets.isdisjoint(self._held_buckets.get(ref.object.name, buckets)):
                return iter(())
            wanted = None if frozenset(ref.relations) <= frozenset(relations) else relations
            return self._hot.slices(ref.object.name, self.open(ref), tenants, wanted, columns)

        return slices

    def bucket_slices(self, bucket: int) -> Slices:
        """How the rows of one bucket are read: runs of all buckets are taken apart when they are read again."""

        def slices(ref: RunRef, relations: Collection[int], columns: Sequence[str]) -> Iterator[pa.Table]:
            run = self.open(ref)
            if ref.bucket is not None:
                return run.slices(None, relations, columns=columns)
            with self._lock:
                self._bucket_reads[ref.object.name] += 1
                again = self._bucket_reads[ref.object.name] > 1
            if not again:
                return run.slices(None, relations, buckets={bucket}, bucket_count=self._buckets, columns=columns)
            return self._partitions.of(ref.object.name, run).slices(bucket, relations, columns)

        return slices

    def buckets_slices(self, buckets: frozenset[int]) -> Slices:
        """How the rows of several buckets are read. Runs that hold no others are read as they lie."""

        def slices(ref: RunRef, relations: Collection[int], columns: Sequence[str]) -> Iterator[pa.Table]:
            run = self.open(ref)
            held = frozenset((ref.bucket,)) if ref.bucket is not None else self._held(ref.object.name, run)
            wanted = None if frozenset(ref.relations) <= frozenset(relations) else relations
            if held <= buckets:
                return run.slices(None, wanted, columns=columns)
            if held.isdisjoint(buckets):
                return iter(())
            return run.slices(None, wanted, buckets=held & buckets, bucket_count=self._buckets, columns=columns)

        return slices

    def _held(self, name: str, run: Run) -> frozenset[int]:
        """The buckets of a run that may hold all."""
        if name not in self._held_buckets:
            self._held_buckets[name] = frozenset(bucket_of(tenant, self._buckets) for tenant in run.tenants())
        return self._held_buckets[name]

    def _make_folder(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="ballast-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return self._folder


_warm: weakref.WeakKeyDictionary[Vault, Warm] = weakref.WeakKeyDictionary()
_warm_lock = threading.Lock()


def warm(vault: Vault) -> Warm:
    """What is kept for this vault as long as it is open."""
    with _warm_lock:
        if vault not in _warm:
            _warm[vault] = Warm(vault)
        return _warm[vault]


def _look_up(vault: Vault, wanted: Sequence[Wanted]) -> dict[Wanted, Version]:
    """What patches build on whose key or tenant changed: each row as it was just before that change."""
    found: dict[Wanted, Version] = {}
    groups: dict[tuple[int, int, str | None, int, int], list[Wanted]] = {}
    for w in wanted:
        groups.setdefault((w.timeline, w.lsn, w.tenant, w.relation, w.schema), []).append(w)
    for (timeline, lsn, tenant, relation, schema), group in groups.items():
        # One past the commit: its own earlier changes count, and no base lies in between.
        scope = Scope.of_tenant(vault, Cut(timeline, lsn + 1), tenant)
        exact = relation in scope.exact(vault.schema(schema))
        keys = None if exact else pa.array({w.key for w in group}, pa.large_binary())
        pieces = [
            rows if keys is None else rows.filter(pa.compute.is_in(rows["key"], keys))
            for source in scope.sources([relation])
            for rows in source
        ]
        if not pieces:
            continue
        versions = in_order(pa.concat_tables(pieces))
        for w in group:
            if (version := _before(versions, w, scope, exact=exact)) is not None:
                found[w] = version
    return found


def _before(versions: pa.Table, wanted: Wanted, scope: Scope, *, exact: bool) -> Version | None:
    structure = scope.structure()
    keys, ops = versions["key"].combine_chunks(), versions["op"].combine_chunks()
    turns, lsns, seqs = (versions[name].to_numpy() for name in (TURN, "lsn", "seq"))
    same_commit = (turns == wanted.timeline) & (lsns == wanted.lsn)
    mine = np.array(pa.compute.equal(keys, pa.scalar(wanted.key, pa.large_binary())))
    deletes = np.array(pa.compute.equal(ops.cast(pa.string()), "D"))
    # The delete that came with the patch itself is no obstacle.
    own = same_commit & mine & deletes & ((seqs == wanted.seq) | (seqs == wanted.seq - 1))
    earlier = np.flatnonzero((~same_commit | (seqs < wanted.seq)) & ~own & (mine | exact))
    if not len(earlier):
        return None
    if exact:
        state = State(wanted.tenant, wanted.relation, structure, scope.lookup)
        for row in versions.take(pa.array(earlier)).to_pylist():
            state.apply(row)
        return state.find(wanted.key, wanted.schema)
    last = int(earlier[-1])
    match ops[last].as_py():
        case "D":
            return None
        case "P":
            line = Patches(versions, structure, scope.lookup).lines([earlier])[0]
        case _:
            line = versions["row"][last].as_py()
    return Version(versions["schema"][last].as_py(), line)
