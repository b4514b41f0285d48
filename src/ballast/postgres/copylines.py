"""The lines of COPY … TO, found in bulk: each line's key and partition, and the line without what was only asked for
to find them.

Nothing is decoded but the partition: lines and key fields stay as the server wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from ballast.errors import FormatError
from ballast.postgres.bytecolumn import ByteColumn, Bytes
from ballast.postgres.compiled import compiled

Array = np.ndarray[Any, Any]

_TAB, _NEWLINE, _BACKSLASH, _CAPITAL_N = 9, 10, 92, 78
_OK: Final = 0
_OTHER_COLUMNS: Final = -1
_BAD_ESCAPE: Final = -2

_PLAIN = np.zeros(256, np.uint8)  # what an escaped letter stands for; 0: it is never escaped
for _letter, _stands_for in zip(b"btnvfr\\", b"\b\t\n\v\f\r\\", strict=True):
    _PLAIN[_letter] = _stands_for


class CopyLines(msgspec.Struct, frozen=True):
    """The whole lines of a buffer, column by column."""

    row: ByteColumn
    """The lines with newline, without the first field if that was to be skipped."""
    key: ByteColumn
    """The key fields, still escaped, joined by tabs; without key columns the line of `row` without its newline."""
    partition: ByteColumn
    """The partition field's text, no longer escaped; null where it is, or where there is no such column."""
    consumed: int
    """So many bytes of the buffer are whole lines. The rest belongs before the next buffer."""

    def __len__(self) -> int:
        return len(self.row)


def scan_copy_lines(
    buffer: Bytes | bytes | memoryview,
    ncols: int,
    key_columns: Sequence[int],
    partition_column: int = -1,
    skip_first_column: bool = False,
) -> CopyLines:
    """Splits COPY text output into lines of `ncols` fields.

    All column numbers count the fields from 0 as they stand in `buffer`, the skipped one included. Without
    `skip_first_column` and with nothing cut off, `row` is `buffer` itself, not copied. FormatError names a line with
    another number of fields, or a partition field with an escape that the server does not write.
    """
    data = np.ascontiguousarray(buffer if isinstance(buffer, np.ndarray) else np.frombuffer(buffer, np.uint8))
    key = np.array(key_columns, np.int64)
    # A table without columns prints empty lines: its line has no field, where one empty field looks the same.
    if any(not 0 <= c < ncols for c in key) or not -1 <= partition_column < ncols or ncols < skip_first_column:
        raise ValueError(f"no such columns among {ncols}: {list(key_columns)}, {partition_column}")
    found = np.zeros(4, np.int64)
    lines = _count(data, found)
    consumed = int(found[0])
    row = np.empty(consumed if skip_first_column else 0, np.uint8)
    # As much as they can come to, a column being named more than once perhaps. What is not written to takes no memory.
    keys = np.empty(consumed * max([key_columns.count(c) for c in key_columns] or [1]), np.uint8)
    part = np.empty(consumed if partition_column >= 0 else 0, np.uint8)
    row_ends, key_ends, part_ends = (np.zeros(lines + 1, np.int64) for _ in range(3))
    valid = np.zeros(lines, np.bool_)
    bounds = np.zeros(max(ncols, 1) + 1, np.int64)
    columns = (bounds, row, row_ends, keys, key_ends, part, part_ends, valid)
    error = _scan(data, max(ncols, 1), key, partition_column, skip_first_column, *columns, found)
    if error != _OK:
        line = int(found[0])
        what = f"has not {ncols} fields" if error == _OTHER_COLUMNS else "holds an escape that the server never writes"
        raise FormatError(
            f"Line {line + 1} of a COPY output {what}.",
            "It was not written by PostgreSQL in text format, or it was damaged on the way.",
        )
    return CopyLines(
        row=ByteColumn(row[: row_ends[-1]] if skip_first_column else data[:consumed], row_ends),
        key=ByteColumn(keys[: key_ends[-1]], key_ends),
        partition=ByteColumn(part[: part_ends[-1]], part_ends, valid),
        consumed=consumed,
    )


@compiled("uint8, out int64")
def _count(data: Array, found: Array) -> int:
    """How many whole lines there are; `found`: their bytes."""
    lines = 0
    size = 0
    for i in range(data.size):
        if data[i] == _NEWLINE:
            lines += 1
            size = i + 1
    found[0] = size
    return lines


@compiled(
    "uint8, int, int64, int, int, out int64,"
    "out uint8, out int64, out uint8, out int64, out uint8, out int64, out bool, out int64"
)
def _scan(
    data: Array,
    columns: int,
    key: Array,
    partition: int,
    skip: int,
    bounds: Array,
    row: Array,
    row_ends: Array,
    keys: Array,
    key_ends: Array,
    part: Array,
    part_ends: Array,
    valid: Array,
    found: Array,
) -> int:
    """An error, and in `found` the line that it is in. Field c: bounds[c] to bounds[c + 1] - 1, where its tab or newline is."""
    lines = valid.size
    first = 1 if skip else 0

    error, line, at = _OK, 0, 0
    row_at = key_at = part_at = 0
    while line < lines:
        fields = 0
        bounds[0] = at
        while True:
            c = data[at]
            at += 1
            if c in (_TAB, _NEWLINE):
                fields += 1
                if fields > columns:
                    break
                bounds[fields] = at
                if c == _NEWLINE:
                    break
        if fields != columns:
            error = _OTHER_COLUMNS
            break
        start, end = bounds[first] if first < columns else at - 1, at
        if skip:
            for i in range(start, end):
                row[row_at] = data[i]
                row_at += 1
            row_ends[line + 1] = row_at
        else:
            row_ends[line + 1] = end

        if key.size == 0:
            for i in range(start, end - 1):
                keys[key_at] = data[i]
                key_at += 1
        for k in range(key.size):
            if k > 0:
                keys[key_at] = _TAB
                key_at += 1
            for i in range(bounds[key[k]], bounds[key[k] + 1] - 1):
                keys[key_at] = data[i]
                key_at += 1
        key_ends[line + 1] = key_at

        if partition >= 0:
            i, stop = bounds[partition], bounds[partition + 1] - 1
            if not (stop - i == 2 and data[i] == _BACKSLASH and data[i + 1] == _CAPITAL_N):
                valid[line] = True
                while i < stop:
                    c = data[i]
                    if c == _BACKSLASH:
                        i += 1
                        c = _PLAIN[data[i]] if i < stop else np.uint8(0)
                        if c == 0:
                            error = _BAD_ESCAPE
                            break
                    part[part_at] = c
                    part_at += 1
                    i += 1
            if error != _OK:
                break
        part_ends[line + 1] = part_at
        line += 1
    found[0] = line
    return error
