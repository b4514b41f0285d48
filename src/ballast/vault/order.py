"""The order of rows in a run: tenant by bytes (shared first), relation, key by bytes, lsn, seq, deletes.

Deletes come first because an update that changes a key or a tenant is a delete and an insert of one message:
where both fall on one key after all, the insert is what stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ballast.postgres.compiled import compiled, inner

Ints = NDArray[np.int64]
Bytes = tuple[NDArray[np.uint8], Ints]
"""Data and offsets of a binary column: value i is data[offsets[i]:offsets[i + 1]]."""

OP_NAMES = ("D", "I", "P", "U")
"""In this order they stand where everything else is equal."""
DELETE, INSERT, PATCH, UPDATE = (np.uint8(code) for code in range(4))
_NO_BYTES = np.zeros(0, np.uint8)
_NONE = np.zeros(0, np.int64)


def bytes_of(column: pa.Array | pa.ChunkedArray) -> Bytes:
    """Views of a binary column's buffers (nulls show as empty); copied only if it has several chunks."""
    array = _one(column)
    _, offsets, data = array.buffers()
    if len(array) == 0 or offsets is None:
        return _NO_BYTES, np.zeros(len(array) + 1, np.int64)
    starts = np.frombuffer(offsets, np.int64, len(array) + 1, array.offset * 8)
    return (np.frombuffer(data, np.uint8) if data is not None else _NO_BYTES), starts


def ints_of(column: pa.Array | pa.ChunkedArray, kind: Any = np.int64) -> NDArray[Any]:
    """An integer column without nulls as numbers of `kind`."""
    numbers: NDArray[Any] = _one(column).to_numpy(zero_copy_only=False).astype(kind, copy=False)
    return numbers


def ops_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """The `op` column as codes, see OP_NAMES."""
    array = _one(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = np.array([OP_NAMES.index(name) for name in array.dictionary.to_pylist()] or [0], np.uint8)
    picked: NDArray[np.uint8] = codes[array.indices.to_numpy(zero_copy_only=False)]
    return picked


def op_column(codes: NDArray[np.uint8]) -> pa.DictionaryArray:
    """Codes (see OP_NAMES) as the column of a run."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.view(np.int8)), pa.array(OP_NAMES))


def ranks_of(tenants: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str | None]]:
    """A number for each row that sorts as the tenants do, and each number's tenant; 0: shared (None)."""
    array = _one(tenants)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    names = array.dictionary
    order = pc.array_sort_indices(names).to_numpy()
    ranks = np.empty(len(names) + 1, np.int64)
    ranks[order] = np.arange(1, len(names) + 1)
    ranks[-1] = 0
    indices = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return ranks[indices], [None, *names.take(pa.array(order)).to_pylist()]


def groups_of(ranks: Ints, relations: NDArray[Any]) -> Ints:
    """Tenant rank and relation in one number that sorts as both do."""
    return (ranks << 32) | relations.astype(np.int64)


def sort_order(rows: pa.Table) -> Ints | None:
    """The permutation that puts `rows` (RUN_SCHEMA) in order; None if they are. Stable."""
    ranks, _ = ranks_of(rows["tenant"])
    groups = groups_of(ranks, ints_of(rows["relation"]))
    data, offsets = bytes_of(rows["key"])
    timelines, lsns, seqs = (ints_of(rows[name]) for name in ("timeline", "lsn", "seq"))
    order = merge_sorted(groups, data, offsets, timelines, lsns, seqs, ops_of(rows["op"]))
    return order if len(order) else None


@inner
def _prefixes(data: Any, offsets: Any, prefixes: Any) -> None:
    """The first eight bytes of each key as a number that sorts as they do."""
    count = len(offsets) - 1
    for i in range(count):
        start, end = offsets[i], offsets[i + 1]
        value = np.uint64(0)
        for j in range(8):
            value <<= np.uint64(8)
            if start + j < end:
                value |= np.uint64(data[start + j])
        prefixes[i] = value


@inner
def _compare_keys(prefixes: Any, data: Any, offsets: Any, a: int, b: int) -> int:
    """Below, at or above zero as key a sorts before, with or after key b."""
    if prefixes[a] != prefixes[b]:
        return -1 if prefixes[a] < prefixes[b] else 1
    start_a, start_b = offsets[a], offsets[b]
    length_a, length_b = offsets[a + 1] - start_a, offsets[b + 1] - start_b
    for j in range(8, min(length_a, length_b)):
        byte_a, byte_b = data[start_a + j], data[start_b + j]
        if byte_a != byte_b:
            return -1 if byte_a < byte_b else 1
    return int(length_a - length_b)


def merge_sorted(
    groups: Ints, data: NDArray[np.uint8], offsets: Ints, turn: Ints, lsn: Ints, seq: Ints, op: NDArray[np.uint8]
) -> Ints:
    """The stable permutation into the order of runs; empty if the rows are in order already.

    `turn` comes before `lsn`: the timeline, or what else says which of two LSNs is later."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    keys = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    columns = {"group": groups, "key": keys, "turn": turn, "lsn": lsn, "seq": seq, "op": op}
    order = pc.sort_indices(pa.table(columns), sort_keys=[(name, "ascending") for name in columns])
    indices: Ints = order.to_numpy().astype(np.int64)
    return _NONE if np.array_equal(indices, np.arange(len(indices))) else indices


def last_versions(
    order: Ints,
    groups: Ints,
    data: NDArray[np.uint8],
    offsets: Ints,
    ops: NDArray[np.uint8],
    keyless: NDArray[np.bool_],
) -> tuple[Ints, Ints, int]:
    """The rows that stay, in order; for each where in `order` its key's versions begin; and -1, or the row that
    is deleted more often than it is there. `keyless` says of each row whether its key is to be counted."""
    picks, firsts = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    prefixes = np.empty(max(0, len(offsets) - 1), np.uint64)
    kept = _last_versions(order, groups, data, offsets, ops, keyless, prefixes, picks, firsts)
    if kept < 0:
        return picks[:0], firsts[:0], -1 - kept
    return picks[:kept], firsts[:kept], -1


@compiled("int64, int64, uint8, int64, uint8, bool, out uint64, out int64, out int64")
def _last_versions(
    order: Any,
    groups: Any,
    data: Any,
    offsets: Any,
    ops: Any,
    keyless: Any,
    prefixes: Any,
    picks: Any,
    firsts: Any,
) -> int:
    """How many stay; or -1 - the row that is deleted too often."""
    count = len(order)
    _prefixes(data, offsets, prefixes)
    kept = 0
    first = 0
    while first < count:
        row = order[first]
        end = first + 1
        while end < count:
            other = order[end]
            if groups[other] != groups[row] or _compare_keys(prefixes, data, offsets, row, other) != 0:
                break
            end += 1
        if keyless[row]:
            copies = 0
            example = row
            for at in range(first, end):
                if ops[order[at]] == 0:
                    copies -= 1
                else:
                    copies += 1
                    example = order[at]
            if copies < 0:
                return int(-1 - row)
            # Never more than the versions at hand, so `picks` is long enough.
            for _ in range(copies):
                picks[kept] = example
                firsts[kept] = first
                kept += 1
        else:
            last = order[end - 1]
            if ops[last] != 0:
                picks[kept] = last
                firsts[kept] = first
                kept += 1
        first = end
    return kept


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
