r"""Lines of one layout of a table as lines of another: columns are found by attnum, which survives renaming.

A column that the new layout lacks is left out. One that the old layout lacks is filled with what the server
itself shows in rows older than the column (`Column.missing`), or with `\N`. Fields are moved as they stand: a tab
in a line always separates, since COPY text escapes those in values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.postgres.compiled import compiled, inner
from ballast.postgres.copytext import NULL, escape
from ballast.vault.order import Bytes, Ints
from ballast.vault.records import Relation

_MOST_FIELDS = 1700
"""PostgreSQL has no table of more columns than 1,600."""


class Mapping(msgspec.Struct, frozen=True):
    """How a line is put together from an old one; `fields` None: it stays as it is."""

    fields: tuple[int | bytes, ...] | None
    """In the order of the new line: the position in the old line, or the field itself."""

    def apply(self, line: bytes) -> bytes:
        """One line, with its newline."""
        if self.fields is None:
            return line
        old = line.removesuffix(b"\n").split(b"\t")
        return b"\t".join(old[f] if isinstance(f, int) else f for f in self.fields) + b"\n"


SAME = Mapping(None)


def mapping(old: Relation, new: Relation) -> Mapping:
    """From lines in the layout of `old` to lines in that of `new` (two versions of one relation)."""
    if old.row_columns == new.row_columns:
        return SAME
    at = {attnum: position for position, attnum in enumerate(old.row_columns)}
    return Mapping(tuple(at[a] if a in at else absent(new, a) for a in new.row_columns))


def absent(relation: Relation, attnum: int) -> bytes:
    """The field that rows older than this column have there."""
    for column in relation.columns:
        if column.attnum == attnum and column.has_missing and column.missing is not None:
            return escape(column.missing.encode())
    return NULL


def key_positions(relation: Relation) -> tuple[int, ...]:
    """Where the key's columns stand in a line; empty without a key."""
    return tuple(relation.row_columns.index(attnum) for attnum in relation.key)


def key_of(line: bytes, positions: Sequence[int]) -> bytes:
    """The `key` of a line (see `key_positions`): its fields, or the whole line without its newline."""
    line = line.removesuffix(b"\n")
    if not positions:
        return line
    fields = line.split(b"\t")
    return b"\t".join(fields[position] for position in positions)


def patched(fields: Sequence[bytes], previous: Sequence[bytes], missing: Sequence[int]) -> list[bytes]:
    """`fields` with those at the positions `missing` taken from `previous` (same layout)."""
    whole = list(fields)
    for position in missing:
        whole[position] = previous[position]
    return whole


class Gather:
    """Collects lines from a block, each by its own mapping, into one buffer."""

    def __init__(self, mappings: Sequence[Mapping]) -> None:
        """`mappings`: what the numbers given to `lines` mean."""
        constants: list[bytes] = []
        entries: list[int] = []
        starts = [0]
        self._copies = np.array([m.fields is None for m in mappings] or [True])
        for m in mappings:
            for field in m.fields or ():
                if isinstance(field, int):
                    entries.append(field)
                else:
                    constants.append(field)
                    entries.append(-len(constants))
            starts.append(len(entries))
        self._starts = np.array(starts, np.int64)
        self._entries = np.array(entries or [0], np.int64)
        self._constants = packed(constants)
        self._only_copies = bool(self._copies.all())

    def lines(self, rows: Bytes, extra: Bytes, picks: Ints, by: NDArray[np.int64]) -> pa.LargeBinaryArray:
        """Line `picks[i]` by mapping `by[i]`, in order. Picks past the last of `rows` count on in `extra`."""
        offsets = np.empty(len(picks) + 1, np.int64)
        if self._only_copies:
            size = _measure(rows[1], extra[1], picks, offsets)
            data = np.empty(size, np.uint8)
            _copy(*rows, *extra, picks, offsets, data)
        else:
            fields = np.empty(_MOST_FIELDS, np.int64)
            tables = (self._copies, self._starts, self._entries, *self._constants, fields)
            nothing = np.empty(0, np.uint8)
            size = _arrange(*rows, *extra, picks, by, *tables, offsets, nothing)
            data = np.empty(size, np.uint8)
            _arrange(*rows, *extra, picks, by, *tables, offsets, data)
        return line_array(data, offsets)


def line_array(data: NDArray[np.uint8], offsets: Ints) -> pa.LargeBinaryArray:
    """Data and offsets as an Arrow array, without a copy."""
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


def packed(values: Sequence[bytes]) -> Bytes:
    """Byte strings as data and offsets."""
    offsets = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(value) for value in values], out=offsets[1:])
    return np.frombuffer(b"".join(values) or b"\0", np.uint8), offsets


@inner
def _put(target: Any, at: int, source: Any, start: int, size: int) -> None:
    # Slices indexed from 0 need no look at negative indexes, so that this becomes vector code.
    to, what = target[at : at + size], source[start : start + size]
    for i in range(size):
        to[i] = what[i]


@compiled("int64, int64, int64, out int64")
def _measure(offsets: Any, extra_offsets: Any, picks: Any, out: Any) -> int:
    rows = len(offsets) - 1
    size = 0
    for i in range(len(picks)):
        out[i] = size
        p = picks[i]
        if p < rows:
            size += offsets[p + 1] - offsets[p]
        else:
            size += extra_offsets[p - rows + 1] - extra_offsets[p - rows]
    out[len(picks)] = size
    return size


@compiled("uint8, int64, uint8, int64, int64, int64, out uint8")
def _copy(data: Any, offsets: Any, extra: Any, extra_offsets: Any, picks: Any, out: Any, target: Any) -> int:
    rows = len(offsets) - 1
    count = len(picks)
    i = 0
    while i < count:
        p = picks[i]
        # Neighbours that are picked one after another are copied in one go.
        last = i
        if p < rows:
            while last + 1 < count and picks[last + 1] == picks[last] + 1 and picks[last + 1] < rows:
                last += 1
            _put(target, out[i], data, offsets[p], out[last + 1] - out[i])
        else:
            _put(target, out[i], extra, extra_offsets[p - rows], out[i + 1] - out[i])
        i = last + 1
    return count


@compiled("uint8, int64, uint8, int64, int64, int64, bool, int64, int64, uint8, int64, out int64, out int64, out uint8")
def _arrange(
    data: Any,
    offsets: Any,
    extra: Any,
    extra_offsets: Any,
    picks: Any,
    by: Any,
    copies: Any,
    starts: Any,
    entries: Any,
    constants: Any,
    constant_offsets: Any,
    fields: Any,
    out: Any,
    target: Any,
) -> int:
    """Put the lines together in `target`; with an empty target only `out` is filled and the size returned."""
    rows = len(offsets) - 1
    write = len(target) > 0
    size = 0
    for i in range(len(picks)):
        out[i] = size
        p = picks[i]
        if p < rows:
            source, start, end = data, offsets[p], offsets[p + 1]
        else:
            source, start, end = extra, extra_offsets[p - rows], extra_offsets[p - rows + 1]
        m = by[i]
        if copies[m]:
            if write:
                _put(target, size, source, start, end - start)
            size += end - start
            continue
        # fields[f] is where field f begins, and one past it the newline or tab that ends it.
        count = 1
        fields[0] = start
        for at in range(start, end - 1):
            if source[at] == 9:
                fields[count] = at + 1
                count += 1
        fields[count] = end
        for e in range(starts[m], starts[m + 1]):
            if e > starts[m]:
                if write:
                    target[size] = 9
                size += 1
            f = entries[e]
            if f >= 0:
                a, b = fields[f], fields[f + 1] - 1
                if write:
                    _put(target, size, source, a, b - a)
                size += b - a
            else:
                a, b = constant_offsets[-f - 1], constant_offsets[-f]
                if write:
                    _put(target, size, constants, a, b - a)
                size += b - a
        if write:
            target[size] = 10
        size += 1
    out[len(picks)] = size
    return size
