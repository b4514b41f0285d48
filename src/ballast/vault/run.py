"""Runs: Parquet files of rows, sorted by tenant, relation, key and position; so one tenant is read alone.

A row group holds about `GROUP_ROWS` rows or `GROUP_BYTES`, and ends at a tenant's end where one is near; so a
tenant costs its own rows and at most a row group. For each row group the footer has the smallest and largest
tenant and relation; every page has a checksum. A slice of the `row` column is one buffer of COPY lines.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ballast.errors import FormatError, IntegrityError
from ballast.vault.buckets import bucket_of
from ballast.vault.order import PATCH, bytes_of, ints_of, op_column, ops_of, ranks_of, sort_order
from ballast.vault.records import FORMAT_VERSION, ObjectRef, RunRef
from ballast.vault.store import Ahead, Store

RUN_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.string()),
        pa.field("relation", pa.int32(), nullable=False),
        pa.field("key", pa.large_binary(), nullable=False),
        pa.field("timeline", pa.int32(), nullable=False),
        pa.field("lsn", pa.int64(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("op", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("committed_at", pa.timestamp("us", tz="UTC")),
        pa.field("schema", pa.int32(), nullable=False),
        pa.field("row", pa.large_binary(), nullable=False),
        pa.field("missing", pa.list_(pa.int16())),
        pa.field("before_key", pa.large_binary()),
        pa.field("before_tenant", pa.string()),
    ]
)
"""Fields: see `Op` and `RunRef` in records.py. In tables `tenant` and `op` may be strings or dictionaries."""

GROUP_ROWS = 16_384
GROUP_BYTES = 8 << 20
_ZSTD_LEVEL = 1
_FORMAT_KEY = "ballast.format"
_FACTS_KEY = "ballast.facts"
_DELTA = ("relation", "timeline", "lsn", "seq", "committed_at", "schema")
# Rows stand by key, so a line begins as the one before it does; that alone saves a tenth.
_ENCODINGS = dict.fromkeys(_DELTA, "DELTA_BINARY_PACKED") | dict.fromkeys(("key", "row"), "DELTA_BYTE_ARRAY")


class RunFacts(msgspec.Struct, frozen=True):
    """What a `RunRef` says of a file's content."""

    rows: int
    min_tenant: str | None
    max_tenant: str | None
    relations: tuple[int, ...]
    versions: tuple[tuple[int, int], ...] = ()
    """Every (relation, schema version) among the rows."""
    patches: int = 0
    """Rows with op P: without any, nobody needs to read what patches lack."""

    def ref(self, stored: ObjectRef, bucket: int | None) -> RunRef:
        """The reference for the ledger, once the file is in the store as `stored`."""
        return RunRef(stored, self.rows, bucket, self.min_tenant, self.max_tenant, self.relations)


def sort_rows(rows: pa.Table) -> pa.Table:
    """The same rows in the order of runs (see order.py); equal input gives equal output, byte by byte."""
    rows = rows.combine_chunks()
    order = sort_order(rows)
    return rows if order is None else rows.take(pa.array(order))


def write_run(path: Path | str, rows: pa.Table) -> RunFacts:
    """Write sorted `rows` as a run; ValueError if they are not in order. Equal rows give equal bytes."""
    with RunWriter(path) as writer:
        writer.write(rows)
    return writer.facts


class RunWriter:
    """Writes a run piece by piece; the file does not depend on how its rows were cut into pieces."""

    facts: RunFacts
    """There after `close`."""

    def __init__(self, path: Path | str) -> None:
        self.rows = 0
        self.bytes = 0
        """Keys and rows, before compression."""
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._last: pa.Table | None = None
        self._first_tenant: str | None = None
        self._versions: set[tuple[int, int]] = set()
        self._patches = 0
        self._writer = pq.ParquetWriter(
            path,
            RUN_SCHEMA,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            use_dictionary=["tenant", "op"],
            write_statistics=["tenant", "relation"],
            column_encoding=_ENCODINGS,
            write_page_checksum=True,
        )

    def write(self, rows: pa.Table) -> None:
        """Add rows that are sorted and come after all that were added before; ValueError if not."""
        if rows.num_rows == 0:
            return
        rows = conform(rows)
        edge = rows if self._last is None else pa.concat_tables([self._last, rows])
        if sort_order(edge.combine_chunks()) is not None:
            raise ValueError("the rows of a run must be in order")
        self._last = rows.slice(rows.num_rows - 1)
        if not self.rows:
            self._first_tenant = rows["tenant"][0].as_py()
        versions = (ints_of(rows["relation"]) << 32) | ints_of(rows["schema"])
        self._versions.update((v >> 32, v & 0xFFFFFFFF) for v in np.unique(versions).tolist())
        self._patches += int(np.count_nonzero(ops_of(rows["op"]) == PATCH))
        self.rows += rows.num_rows
        size = _bytes_in(rows)
        self.bytes += size
        self._pending.append(rows)
        self._pending_rows += rows.num_rows
        self._pending_bytes += size
        if self._pending_rows >= GROUP_ROWS or self._pending_bytes >= GROUP_BYTES:
            self._flush(last=False)

    def close(self) -> RunFacts:
        """Write the rest and the footer. Not synced: what becomes durable is the object in the store."""
        self._flush(last=True)
        last = self._last["tenant"][0].as_py() if self._last is not None else None
        versions = tuple(sorted(self._versions))
        relations = tuple(dict.fromkeys(relation for relation, _ in versions))
        self.facts = RunFacts(self.rows, self._first_tenant, last, relations, versions, self._patches)
        self._writer.add_key_value_metadata(
            {
                _FORMAT_KEY: str(FORMAT_VERSION),
                _FACTS_KEY: msgspec.json.encode(self.facts).decode(),
            }
        )
        self._writer.close()
        return self.facts

    def _flush(self, *, last: bool) -> None:
        if not self._pending:
            return
        rows = pa.concat_tables(self._pending).combine_chunks()
        start = 0
        for end in group_ends(rows, last=last):
            self._writer.write_table(rows.slice(start, end - start), row_group_size=end - start)
            start = end
        rest = rows.slice(start)
        self._pending = [rest] if rest.num_rows else []
        self._pending_rows, self._pending_bytes = rest.num_rows, _bytes_in(rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._writer.close()


def conform(rows: pa.Table) -> pa.Table:
    """`rows` with the types of RUN_SCHEMA and one dictionary of ops, columns in its order."""
    columns = []
    for field in RUN_SCHEMA:
        column = rows[field.name]
        if field.name == "op":
            column = op_column(ops_of(column))
        elif column.type != field.type:
            column = column.cast(field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=RUN_SCHEMA)


def group_ends(rows: pa.Table, *, last: bool) -> list[int]:
    """Where the row groups of sorted `rows` end. Rows after the last end wait for more, unless `last`."""
    count = rows.num_rows
    sizes = bytes_of(rows["key"])[1] - bytes_of(rows["key"])[1][0]
    sizes = sizes + bytes_of(rows["row"])[1] - bytes_of(rows["row"])[1][0]
    ranks, _ = ranks_of(rows["tenant"])
    changes = np.flatnonzero(np.diff(ranks)) + 1
    ends: list[int] = []
    start = 0
    while start < count:
        by_bytes = int(np.searchsorted(sizes, sizes[start] + GROUP_BYTES))
        end = max(start + 1, min(start + GROUP_ROWS, by_bytes))
        if end > count or (end == count and not last):
            if last:
                ends.append(count)
            break
        # A tenant's end in the second half of the group is worth a smaller group.
        at = int(np.searchsorted(changes, end, side="right")) - 1
        if at >= 0 and changes[at] > start + (end - start) // 2:
            end = int(changes[at])
        ends.append(end)
        start = end
    return ends


def _bytes_in(rows: pa.Table) -> int:
    return sum(int(offsets[-1] - offsets[0]) for offsets in (bytes_of(rows[name])[1] for name in ("key", "row")))


class Run:
    """A run in a store, opened for reading. One `Run` serves many reads, also from several threads."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        with self._explained():
            self._metadata = self._file(None).metadata
        stored = (self._metadata.metadata or {}).get(_FORMAT_KEY.encode())
        if stored is None or int(stored) > FORMAT_VERSION:
            raise FormatError(
                f"{name} is not a run that this version of Ballast reads (format {stored!r}).",
                "Update Ballast.",
            )
        self.facts = msgspec.json.decode(self._metadata.metadata[_FACTS_KEY.encode()], type=RunFacts)
        self._tenants: list[str | None] | None = None
        self._bounds = [_bounds(self._metadata.row_group(i)) for i in range(self._metadata.num_row_groups)]

    @property
    def rows(self) -> int:
        """Rows in the run."""
        return int(self._metadata.num_rows)

    def tenants(self) -> list[str | None]:
        """Every tenant in the run, once, in order. Read once."""
        if self._tenants is None:
            self._tenants = self._read_tenants()
        return self._tenants

    def _read_tenants(self) -> list[str | None]:
        found: dict[str | None, None] = {}
        for index in range(len(self._bounds)):
            low, high, shared = self._bounds[index].tenants
            if shared:
                found[None] = None
            if low == high and low is not None:
                found[low] = None
            elif low is not None:
                _, names = ranks_of(self._read(index, ["tenant"])["tenant"])
                found.update(dict.fromkeys(names[1:]))
        return list(found)

    def slices(
        self,
        tenants: Collection[str | None] | None = None,
        relations: Collection[int] | None = None,
        *,
        buckets: Collection[int] | None = None,
        bucket_count: int = 0,
        columns: Sequence[str] | None = None,
        groups: Collection[int] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of these tenants, relations and tenant buckets of `bucket_count` (None: all), in order.

        `groups`: of these row groups alone. A table for each row group that has any. `tenant` comes dictionary-encoded.
        `tenant` and `relation` are always among the columns. StoreError, IntegrityError (a page's checksum is wrong)."""
        wanted = list(dict.fromkeys(("tenant", "relation", *(columns or RUN_SCHEMA.names))))
        rest = [name for name in wanted if name not in ("tenant", "relation")]
        for index in self.groups(tenants, relations) if groups is None else groups:
            if tenants is None and relations is None and buckets is None:
                yield self._read(index, wanted)
                continue
            head = self._read(index, ["tenant", "relation"])
            mask = _matches(head, tenants, relations, buckets, bucket_count)
            picked = np.flatnonzero(mask)
            if not len(picked):
                continue
            rows = self._read(index, rest)
            rows = pa.Table.from_arrays(
                [head[name] if name in ("tenant", "relation") else rows[name] for name in wanted],
                names=wanted,
            )
            first, last = int(picked[0]), int(picked[-1])
            # Most of a row group in one stretch is a view; anything less is copied, so as not to hold all of it.
            if last - first + 1 == len(picked) and 2 * len(picked) >= head.num_rows:
                yield rows.slice(first, len(picked))
            else:
                yield rows.take(pa.array(picked))

    def groups(
        self, tenants: Collection[str | None] | None = None, relations: Collection[int] | None = None
    ) -> Iterator[int]:
        """The row groups that may hold rows of these tenants and relations (None: all), in order."""
        named = None if tenants is None else [t.encode() for t in tenants if t is not None]
        for index, bounds in enumerate(self._bounds):
            if bounds.may_hold(tenants, named, relations):
                yield index

    def group(self, index: int) -> pa.Table:
        """All of one row group, with `tenant` dictionary-encoded. StoreError, IntegrityError."""
        return self._read(index, RUN_SCHEMA.names)

    def group_bytes(self, index: int) -> int:
        """About what a row group takes when it is decoded."""
        return int(self._metadata.row_group(index).total_byte_size)

    def batches(self, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """All rows in order, `rows` at a time, without ever decoding a whole row group."""
        with self._explained():
            file = self._file(self._metadata, buffered=True)
            for batch in file.iter_batches(rows, columns=None if columns is None else list(columns), use_threads=False):
                yield pa.Table.from_batches([batch])

    def pieces(self, size: int) -> Iterator[pa.Table]:
        """All rows in order, about `size` bytes at a time however large the rows are: for many runs side by side."""
        with self._explained():
            file = self._file(self._metadata, buffered=True)
            for index in range(self._metadata.num_row_groups):
                group = self._metadata.row_group(index)
                rows = max(1, group.num_rows * size // max(1, group.total_byte_size))
                for batch in file.iter_batches(min(rows, GROUP_ROWS), row_groups=[index], use_threads=False):
                    yield pa.Table.from_batches([batch])

    def _read(self, index: int, columns: Sequence[str]) -> pa.Table:
        with self._explained():
            # One request a row group, not one a column: each costs a round trip to the store.
            file = self._file(self._metadata, ahead=lambda: _ranges(self._metadata.row_group(index), columns))
            return file.read_row_group(index, columns=columns, use_threads=False)

    def _file(
        self, metadata: pq.FileMetaData | None, *, buffered: bool = False, ahead: Ahead | None = None
    ) -> pq.ParquetFile:
        source = self._store.open(self._name, self._size, ahead)
        return pq.ParquetFile(
            source,
            metadata=metadata,
            read_dictionary=["tenant"],
            # Arrow reads ahead with threads of its own, which must not come into Python (`Store.open`).
            pre_buffer=not buffered and not isinstance(source, pa.PythonFile),
            buffer_size=(256 << 10) if buffered else 0,
            page_checksum_verification=True,
        )

    def _explained(self) -> _Explained:
        return _Explained(self._name)


class _Explained:
    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (pa.ArrowException, OSError)):
            raise IntegrityError(
                f"{self._name} cannot be read as it was written: {str(error).splitlines()[0]}.",
                "Run `ballast verify` to learn what else is damaged; take it from a copy of the vault.",
            ) from error


class _Bounds(msgspec.Struct, frozen=True):
    tenants: tuple[str | None, str | None, bool]
    """Smallest, largest (None, None: no statistics can tell), whether shared rows are among them."""
    relations: tuple[int, int]
    known: bool

    def may_hold(
        self,
        tenants: Collection[str | None] | None,
        named: Sequence[bytes] | None,
        relations: Collection[int] | None,
    ) -> bool:
        """`named`: those of `tenants` that are not None, in UTF-8."""
        if relations is not None and not any(self.relations[0] <= r <= self.relations[1] for r in relations):
            return False
        if tenants is None or named is None or not self.known:
            return True
        low, high, shared = self.tenants
        if shared and None in tenants:
            return True
        if low is None or high is None:
            return False
        least, most = low.encode(), high.encode()
        return any(least <= name <= most for name in named)


def _ranges(group: pq.RowGroupMetaData, columns: Collection[str]) -> list[tuple[int, int]]:
    """Where these columns of a row group stand in the file."""
    found = []
    for column in map(group.column, range(group.num_columns)):
        if column.path_in_schema.partition(".")[0] in columns:
            start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            found.append((start, start + column.total_compressed_size))
    return found


def _bounds(group: pq.RowGroupMetaData) -> _Bounds:
    tenant, relation = group.column(0).statistics, group.column(1).statistics
    relations = (relation.min, relation.max)
    nulls = tenant.null_count if tenant is not None and tenant.has_null_count else None
    if nulls is None or (nulls < group.num_rows and not tenant.has_min_max):
        return _Bounds((None, None, True), relations, known=False)
    if nulls == group.num_rows:
        return _Bounds((None, None, True), relations, known=True)
    return _Bounds((tenant.min, tenant.max, nulls > 0), relations, known=True)


def _matches(
    head: pa.Table,
    tenants: Collection[str | None] | None,
    relations: Collection[int] | None,
    buckets: Collection[int] | None,
    bucket_count: int,
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.ones(head.num_rows, np.bool_)
    if tenants is not None or buckets is not None:
        ranks, names = ranks_of(head["tenant"])
        of_tenant = [
            (tenants is None or name in tenants) and (buckets is None or bucket_of(name, bucket_count) in buckets)
            for name in names
        ]
        mask &= np.array(of_tenant)[ranks]
    if relations is not None:
        mask &= np.isin(ints_of(head["relation"]), list(relations))
    return mask


def open_run(store: Store, run: RunRef) -> Run:
    """Open a run: one or two small requests for its footer. StoreError, IntegrityError, FormatError."""
    return Run(store, run.object.name, run.object.bytes)


def read_slices(
    run: Run,
    tenants: Collection[str | None] | None = None,
    relations: Collection[int] | None = None,
) -> Iterator[pa.Table]:
    """`run.slices`, for those who want a function."""
    return run.slices(tenants, relations)
