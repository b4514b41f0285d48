"""More rows than fit into memory, sorted as runs want them: by tenant across all tables, bucket by bucket.

Buckets that are small together make a group. Rows gather until they make a piece; a piece is sorted by group, tenant,
relation and key, and goes to a file, in slices of one group each. At the end each group is its slices of every piece: what
fits into memory is sorted at once, what does not is merged from its slices, which are sorted already.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.vault.blocks import merged
from ballast.vault.buckets import bucket_of
from ballast.vault.order import INSERT, bytes_of, groups_of, ints_of, merge_sorted, op_column, ranks_of
from ballast.vault.records import SHARED_BUCKET
from ballast.vault.run import RUN_SCHEMA

PIECE_BYTES = 12 << 20
"""Sorted at once, and there a few times over while it is: more would break what `take_image` promises."""
GROUP_BYTES = 64 << 20
SLICE_BYTES = 512 << 10
FAN_IN = 12
"""Slices that are in memory at the same time while a group is merged."""
_ROW_COST = 48
"""Bytes that a row costs beside its text: offsets, ranks, the permutation."""

SPILL_SCHEMA = pa.schema(
    [
        pa.field("tenant", pa.large_string()),
        pa.field("relation", pa.int32(), nullable=False),
        pa.field("key", pa.large_binary(), nullable=False),
        pa.field("row", pa.large_binary(), nullable=False),
    ]
)


class Constants(msgspec.Struct, frozen=True):
    """What all rows of an image have in common."""

    timeline: int
    lsn: int
    schema: int

    def shape(self, rows: pa.Table) -> pa.Table:
        """Rows of SPILL_SCHEMA as those of a run."""
        count = rows.num_rows
        added = {
            "timeline": pa.array(np.full(count, self.timeline, np.int32)),
            "lsn": pa.array(np.full(count, self.lsn, np.int64)),
            "seq": pa.array(np.zeros(count, np.int64)),
            "op": op_column(np.full(count, INSERT)),
            "schema": pa.array(np.full(count, self.schema, np.int32)),
        }
        columns = []
        for field in RUN_SCHEMA:
            if field.name in added:
                column = added[field.name]
            elif field.name in SPILL_SCHEMA.names:
                column = rows[field.name]
            else:
                column = pa.nulls(count, field.type)
            columns.append(column if column.type == field.type else column.cast(field.type))
        return pa.Table.from_arrays(columns, schema=RUN_SCHEMA)


class Group(msgspec.Struct, frozen=True):
    """Buckets whose rows go into runs together."""

    first: int
    last: int

    @property
    def bucket(self) -> int | None:
        """For `RunRef.bucket`."""
        return self.first if self.first == self.last else None


class Spill:
    """Takes rows in any order, gives them back sorted, group by group. `folder` is its own, and not cleaned up here."""

    def __init__(self, folder: Path, bucket_count: int, expected_bytes: int, constants: Constants) -> None:
        """`expected_bytes` may be wrong: it decides how many buckets come together, not what works."""
        self._folder, self._bucket_count, self._constants = folder, bucket_count, constants
        self._group_count = min(bucket_count, max(1, round(expected_bytes / GROUP_BYTES)))
        self._pending: list[pa.Table] = []
        self._pending_cost = 0
        self._files = 0
        self._slices: defaultdict[int, list[_Slices]] = defaultdict(list)
        self._costs: Counter[int] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Add rows of SPILL_SCHEMA."""
        self._pending.append(rows)
        self._pending_cost += _cost(rows)
        if self._pending_cost >= PIECE_BYTES:
            self._flush()

    def groups(self) -> Iterator[Group]:
        """All that have rows, the shared one first."""
        self._flush()
        count = self._group_count
        for number in sorted(self._costs):
            if number == SHARED_BUCKET:
                yield Group(SHARED_BUCKET, SHARED_BUCKET)
            else:
                # The buckets b with b * count // buckets == number.
                first, after = (-(-n * self._bucket_count // count) for n in (number, number + 1))
                yield Group(first, after - 1)

    def rows(self, group: Group) -> Iterator[pa.Table]:
        """The group's rows as those of a run, in order, a few MB at a time."""
        number = self._group_of(group.first)
        in_order = self._sorted if self._costs[number] <= PIECE_BYTES else self._merged
        for rows in in_order(self._slices[number]):
            yield rows
            pa.default_memory_pool().release_unused()

    def _group_of(self, bucket: int) -> int:
        return bucket if bucket == SHARED_BUCKET else bucket * self._group_count // self._bucket_count

    def _flush(self) -> None:
        """Write what is in memory as a piece."""
        if not self._pending:
            return
        rows = pa.concat_tables(self._pending).combine_chunks()
        self._pending, self._pending_cost = [], 0
        ranks, tenants = ranks_of(rows["tenant"])
        groups = np.array([self._group_of(bucket_of(tenant, self._bucket_count)) for tenant in tenants])
        # `ranks_of` numbers tenants as they sort; numbered by group first, a group's rows come together.
        by_group = np.argsort(groups, kind="stable")
        renumbered = np.empty(len(tenants), np.int64)
        renumbered[by_group] = np.arange(len(tenants))
        order = _order(rows, renumbered[ranks])
        of_row = groups[ranks]
        if order is not None:
            rows, of_row = rows.take(pa.array(order)), of_row[order]
        self._write(rows, of_row)
        del rows
        pa.default_memory_pool().release_unused()

    def _write(self, rows: pa.Table, groups: NDArray[np.int64]) -> None:
        path = self._new_file()
        numbers: defaultdict[int, list[int]] = defaultdict(list)
        with _Writer(path) as writer:
            ends = [*(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
            start = 0
            for end in ends:
                group, stretch = int(groups[start]), rows.slice(start, end - start)
                self._costs[group] += _cost(stretch)
                numbers[group] += [writer.write(piece) for piece in sliced(stretch, SLICE_BYTES)]
                start = end
        for group, batches in numbers.items():
            self._slices[group].append(_Slices(path, tuple(batches)))

    def _sorted(self, sources: list[_Slices]) -> Iterator[pa.Table]:
        parts = [rows for source in sources for rows in source.read()]
        rows = pa.concat_tables(parts).combine_chunks()
        parts.clear()
        order = _order(rows, ranks_of(rows["tenant"])[0])
        if order is not None:
            rows = rows.take(pa.array(order))
        for piece in sliced(rows, 4 << 20):
            yield self._constants.shape(piece)

    def _merged(self, sources: list[_Slices]) -> Iterator[pa.Table]:
        while len(sources) > FAN_IN:
            sources = [self._rewritten(sources[i : i + FAN_IN]) for i in range(0, len(sources), FAN_IN)]
        blocks = merged([(self._constants.shape(rows) for rows in source.read()) for source in sources])
        for block in blocks:
            yield block.sorted_rows()

    def _rewritten(self, sources: list[_Slices]) -> _Slices:
        """Several sorted sources as one."""
        path = self._new_file()
        numbers = []
        with _Writer(path) as writer:
            for rows in self._merged(sources):
                plain = rows.select(SPILL_SCHEMA.names).cast(SPILL_SCHEMA)
                numbers += [writer.write(piece) for piece in sliced(plain, SLICE_BYTES)]
        return _Slices(path, tuple(numbers))

    def _new_file(self) -> Path:
        self._files += 1
        return self._folder / f"{self._files}.arrow"


class _Slices(msgspec.Struct, frozen=True):
    """Sorted rows in a file of several."""

    path: Path
    numbers: tuple[int, ...]

    def read(self) -> Iterator[pa.Table]:
        # Not memory-mapped: pages of a mapped file would count as memory of this process.
        with pa.OSFile(str(self.path), "rb") as source:
            file = pa.ipc.open_file(source)
            for number in self.numbers:
                yield pa.Table.from_batches([file.get_batch(number)])


class _Writer:
    """An Arrow file whose batches are numbered."""

    def __init__(self, path: Path) -> None:
        self._sink = pa.OSFile(str(path), "wb")
        self._file = pa.ipc.new_file(self._sink, SPILL_SCHEMA, options=pa.ipc.IpcWriteOptions(compression="lz4"))
        self._written = 0

    def write(self, rows: pa.Table) -> int:
        self._file.write_batch(rows.combine_chunks().to_batches()[0])
        self._written += 1
        return self._written - 1

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._sink.close()


def sliced(rows: pa.Table, size: int) -> Iterable[pa.Table]:
    """Views of about `size` bytes (key and row)."""
    ends = _text_ends(rows)
    start = 0
    while start < rows.num_rows:
        base = int(ends[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(ends, base + size, side="right")))
        yield rows.slice(start, end - start)
        start = end


def _text_ends(rows: pa.Table) -> NDArray[np.int64]:
    """Bytes of keys and rows up to and with each row, and a little for the row as such."""
    ends = np.arange(1, rows.num_rows + 1) * _ROW_COST
    for name in ("key", "row"):
        offsets = bytes_of(rows[name])[1]
        ends = ends + (offsets[1:] - offsets[0])
    return ends


def _cost(rows: pa.Table) -> int:
    if not rows.num_rows:
        return 0
    return int(_text_ends(rows)[-1])


def _order(rows: pa.Table, ranks: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The permutation that sorts by rank, relation and key; None if they are sorted."""
    data, offsets = bytes_of(rows["key"])
    same = np.zeros(rows.num_rows, np.int64)
    order = merge_sorted(
        groups_of(ranks, ints_of(rows["relation"])), data, offsets, same, same, same, same.astype(np.uint8)
    )
    return order if len(order) else None
