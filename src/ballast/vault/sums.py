"""Rows counted and summed by bucket and relation, so that two arrangements of the same rows can be compared."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from ballast.postgres.checksum import row_checksums
from ballast.vault.order import bytes_of, ints_of, ops_of

MASK = (1 << 64) - 1
# Odd constants (of XXH64 and splitmix64) keep the fields of a row apart.
_MIX = tuple(
    np.uint64(c)
    for c in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
        0xBF58476D1CE4E5B9,
        0x94D049BB133111EB,
    )
)


class Sums(defaultdict[tuple[int, int], list[int]]):
    """(bucket, relation) to [rows, sum of their checksums modulo 2^64]."""

    def __init__(self) -> None:
        super().__init__(lambda: [0, 0])

    def add(self, other: Sums, bucket: int | None = None) -> None:
        """Add what `other` has (of one bucket)."""
        for (its_bucket, relation), (rows, checksum) in other.items():
            if bucket is None or its_bucket == bucket:
                mine = self[its_bucket, relation]
                mine[0] += rows
                mine[1] = (mine[1] + checksum) & MASK


def row_sums(rows: pa.Table) -> NDArray[np.uint64]:
    """A checksum of each row over every field of RUN_SCHEMA but the tenant's name."""
    sums: NDArray[np.uint64] = row_checksums(*bytes_of(rows["row"])) * _MIX[0]
    sums ^= row_checksums(*bytes_of(rows["key"])) * _MIX[1]
    numbers = [ops_of(rows["op"]), *(ints_of(rows[name]) for name in ("timeline", "lsn", "seq", "schema"))]
    for mix, values in zip(_MIX[2:], numbers, strict=True):
        sums = _scramble(sums + values.astype(np.uint64) * mix)
    patched = np.flatnonzero(
        pc.or_(pc.is_valid(rows["missing"]), pc.is_valid(rows["before_key"])).to_numpy(zero_copy_only=False)
    )
    if len(patched):
        names = ["missing", "before_key", "before_tenant"]
        fields = rows.select(names).take(pa.array(patched)).to_pylist()
        sums[patched] += np.array(
            [xxhash.xxh64_intdigest(repr([row[n] for n in names]).encode()) for row in fields], np.uint64
        )
    return sums


def tally(sums: Sums, buckets: Any, relations: Any, checksums: NDArray[np.uint64] | None) -> None:
    """Count rows (and add their checksums) under their bucket and relation."""
    groups = (buckets << 32) | relations
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order][:1] - 1))
    counts = np.diff(starts, append=len(order))
    added = np.add.reduceat(checksums[order], starts) if checksums is not None and len(order) else [0] * len(starts)
    for start, count, checksum in zip(starts, counts, added, strict=True):
        group = int(groups[order[start]])
        mine = sums[group >> 32, group & 0xFFFFFFFF]
        mine[0] += int(count)
        mine[1] = (mine[1] + int(checksum)) & MASK


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _MIX[5]
    return values ^ (values >> np.uint64(27))
