r"""Row messages in bulk: a chunk of pgoutput's Insert, Update and Delete becomes columns of COPY lines.

What comes out is what is kept: for each row the line that COPY … TO would print, its key, its partition (the text of
one column, from which the caller finds to whom the row belongs), and what to do with it:

    I   the row is here from now on
    U   the row at this key is now this
    P   as U, but the columns in `missing` were not sent (large values that the update did not touch) and stand as \N
    D   no row at this key any more; the line is empty

An unsent value is filled in from the old row where the message carries it (identity FULL, or the column is in the key).
An update that shows another key or another partition than the old row had is a D of the old and an I of the new, in
this order, both with the same `source`. If the new row is still not complete it is a P in place of the I, and
`before_key` and `before_partition` say where the earlier version lies. In a layout without a key every update is a D of
the whole old row and an I of the new.

`partition_state` tells a null from a value that was not sent: without FULL, an old row shows a partition column only
if it is in the key.

The plain reading of the same rules is in the tests, on top of `pgoutput` and `copytext`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ballast.errors import FormatError
from ballast.postgres import rowkernel
from ballast.postgres.bytecolumn import ByteColumn, Bytes, Ints
from ballast.postgres.copylines import CopyLines, scan_copy_lines
from ballast.postgres.rowkernel import NULL, TEXT, UNKNOWN

__all__ = [
    "NULL",
    "TEXT",
    "UNKNOWN",
    "CopyLines",
    "Layouts",
    "RowBatch",
    "RowLayout",
    "decode_rows",
    "scan_copy_lines",
    "split_messages",
]

_REASONS = {
    rowkernel.CUT_SHORT: "is cut short",
    rowkernel.OTHER_COLUMNS: "has another number of columns than its relation",
    rowkernel.BINARY: "holds a value in binary format; only text was asked for",
    rowkernel.UNKNOWN_VALUE: "holds a value of an unknown kind",
    rowkernel.UNKNOWN_MESSAGE: "is no Insert, Update or Delete as pgoutput sends them",
    rowkernel.TRAILING: "has bytes after its end",
    rowkernel.UNKNOWN_RELATION: "belongs to a relation that was not announced",
    rowkernel.NO_OLD_ROW: "does not show the old row, which a relation without a key must (REPLICA IDENTITY FULL)",
    rowkernel.NO_KEY: "does not show the columns of the key; the relation's replica identity is another",
    rowkernel.NOT_SENT: "leaves out a value that nothing else tells",
}


class RowLayout(msgspec.Struct, frozen=True):
    """How the tuples of a relation are to be read. Columns are numbered from 0 as they come in its tuples."""

    oid: int
    ncols: int
    key: tuple[int, ...]
    """The columns of the identity; empty: the whole row is the key."""
    partition: int = -1
    """The column that says to whom the row belongs, or -1."""


class Layouts:
    """Layouts of several relations, prepared for the kernel. Make it once for as long as they hold.

    ValueError for two of one relation, or a column that is not there.
    """

    def __init__(self, layouts: Sequence[RowLayout]) -> None:
        self.layouts = tuple(layouts)
        for layout in self.layouts:
            columns = (*layout.key, layout.partition)
            if any(not -1 <= c < layout.ncols for c in columns) or -1 in layout.key or layout.ncols > 1664:
                raise ValueError(f"no such columns: {layout}")
        by_oid = sorted(range(len(self.layouts)), key=lambda i: self.layouts[i].oid)
        ordered = [self.layouts[i] for i in by_oid]
        if len({layout.oid for layout in ordered}) < len(ordered):
            raise ValueError("two layouts for one relation")
        self._given = np.array(by_oid, np.int32)
        self._arrays = (
            np.array([layout.oid for layout in ordered], np.int64),
            np.array([layout.ncols for layout in ordered], np.int64),
            np.cumsum([0, *(len(layout.key) for layout in ordered)], dtype=np.int64),
            np.array([c for layout in ordered for c in layout.key], np.int64),
            np.array([layout.partition for layout in ordered], np.int64),
        )


class RowBatch(msgspec.Struct, frozen=True):
    """Rows, column by column; all of one length."""

    op: NDArray[np.uint8]
    """`I`, `U`, `P`, `D` as ASCII codes."""
    source: Ints
    """Index of the message that the row comes from, ascending."""
    layout: NDArray[np.int32]
    """Index into the layouts as they were given."""
    row: ByteColumn
    """COPY lines with newline; empty for D."""
    key: ByteColumn
    """Key columns as COPY text, joined by tabs; without key columns the line without its newline."""
    partition: ByteColumn
    """Text of the partition column, not escaped; valid where `partition_state` is TEXT."""
    partition_state: NDArray[np.uint8]
    """NULL (also without a partition column), TEXT, or UNKNOWN: the stream did not carry it."""
    missing: NDArray[np.int16]
    """Columns not sent, of all P rows together …"""
    missing_offsets: Ints
    """… those of row i: missing[missing_offsets[i]:missing_offsets[i + 1]]."""
    before_key: ByteColumn
    """Valid for a P that moved."""
    before_partition: ByteColumn
    before_partition_state: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.op)

    def to_arrow(self) -> dict[str, pa.Array]:
        """The columns as Arrow arrays over the same memory, by these names; `op` as codes, `missing` as lists."""
        return {
            "op": pa.array(self.op),
            "source": pa.array(self.source),
            "layout": pa.array(self.layout),
            "row": self.row.to_arrow(),
            "key": self.key.to_arrow(),
            "partition": self.partition.to_text(),
            "missing": self.missing_lists(self.missing),
            "before_key": self.before_key.to_arrow(),
            "before_partition": self.before_partition.to_text(),
        }

    def missing_lists(self, values: NDArray[np.int16]) -> pa.ListArray:
        """`values`, one for each of `missing` (these, or their attnums), as a list a row; null unless it is a P."""
        absent = pa.array(np.diff(self.missing_offsets) == 0)
        return pa.ListArray.from_arrays(pa.array(self.missing_offsets.astype(np.int32)), pa.array(values), mask=absent)


def decode_rows(
    buffer: Bytes | bytes | memoryview, starts: Ints, ends: Ints, layouts: Layouts | Sequence[RowLayout]
) -> RowBatch:
    """The rows of the messages buffer[starts[i]:ends[i]], each an Insert, Update or Delete in text format.

    A Relation message between them that changes a layout ends a chunk: rows before it and after it are decoded with
    their own layouts. FormatError names the first message that is not as it should be; nothing is returned then.
    """
    layouts = layouts if isinstance(layouts, Layouts) else Layouts(layouts)
    error, at, n, op, source, layout, *columns = rowkernel.decode(
        _bytes(buffer), _ints(starts), _ints(ends), *layouts._arrays
    )
    if error != rowkernel.OK:
        raise _broken(int(error), int(at), buffer, starts, ends)
    row, row_ends, key, key_ends, part, part_ends, part_state = columns[:7]
    missing, missing_ends, before_key, before_key_ends, before_part, before_part_ends = columns[7:13]
    before_state, has_before = columns[13][:n], columns[14][:n] != 0
    return RowBatch(
        op=op[:n],
        source=source[:n],
        layout=layouts._given[layout[:n]] if n else layout[:0],
        row=_column(row, row_ends, n),
        key=_column(key, key_ends, n),
        partition=_column(part, part_ends, n, part_state[:n] == TEXT),
        partition_state=part_state[:n],
        missing=missing[: missing_ends[n]],
        missing_offsets=missing_ends[: n + 1],
        before_key=_column(before_key, before_key_ends, n, has_before),
        before_partition=_column(before_part, before_part_ends, n, has_before & (before_state == TEXT)),
        before_partition_state=np.where(has_before, before_state, NULL).astype(np.uint8),
    )


def split_messages(payload: Bytes | bytes | memoryview, extra: int = 8) -> tuple[Ints, Ints, NDArray[np.uint8]]:
    """(starts, ends, kinds) of messages that stand one after another as u32 length, `extra` bytes, message.

    `kinds` are the messages' first bytes (`B`, `I`, …; 0 if empty). FormatError where the lengths do not add up.
    """
    error, at, starts, ends, kinds = rowkernel.split(_bytes(payload), extra)
    if error != rowkernel.OK:
        raise FormatError(
            f"A run of {len(payload)} bytes of replication messages ends inside the message at byte {at}.",
            "Check the disk that it was read from.",
        )
    return starts, ends, kinds


def _bytes(buffer: Bytes | bytes | memoryview) -> Bytes:
    return np.ascontiguousarray(buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8))


def _ints(values: Ints) -> Ints:
    return np.ascontiguousarray(values, np.int64)


def _column(data: Any, ends: Any, n: int, valid: NDArray[np.bool_] | None = None) -> ByteColumn:
    return ByteColumn(data[: ends[n]], ends[: n + 1], valid)


def _broken(error: int, at: int, buffer: Any, starts: Ints, ends: Ints) -> FormatError:
    message = bytes(memoryview(buffer)[max(0, int(starts[at])) : max(0, int(ends[at]))])
    return FormatError(
        f"Row message {at} of {len(starts)} {_REASONS[error]}; it has {len(message)} bytes: {message[:16].hex(' ')} ….",
        "If it comes from the spool, check its disk; else the server speaks a protocol that Ballast cannot read.",
    )
