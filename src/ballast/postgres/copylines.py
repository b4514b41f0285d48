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
from ballast.postgres.compiled import compiled, inner

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
    error, line, consumed, row, row_ends, keys, key_ends, part, part_ends, valid = _scan(
        data, max(ncols, 1), key, partition_column, skip_first_column
    )
    if error != _OK:
        what = f"has not {ncols} fields" if error == _OTHER_COLUMNS else "holds an escape that the server never writes"
        raise FormatError(
            f"Line {line + 1} of a COPY output {what}.",
            "It was not written by PostgreSQL in text format, or it was damaged on the way.",
        )
    return CopyLines(
        row=ByteColumn(row if skip_first_column else data[:consumed], row_ends),
        key=ByteColumn(keys, key_ends),
        partition=ByteColumn(part, part_ends, valid),
        consumed=int(consumed),
    )


@inner
def _with_room(out: Array, used: int, more: int) -> Array:
    if used + more <= out.size:
        return out
    larger = np.empty(max(2 * out.size, used + more), out.dtype)
    larger[:used] = out[:used]
    return larger


@compiled("(Array(uint8, 1, 'C', readonly=True), int64, Array(int64, 1, 'C', readonly=True), int64, boolean)")
def _scan(data: Array, columns: int, key: Array, partition: int, skip: bool) -> tuple[Any, ...]:
    lines = 0
    size = 0
    for i in range(data.size):
        if data[i] == _NEWLINE:
            lines += 1
            size = i + 1
    row = np.empty(size if skip else 0, np.uint8)
    keys, part = np.empty(size // 8 + 64, np.uint8), np.empty(size // 8 + 64, np.uint8)
    row_ends, key_ends = np.zeros(lines + 1, np.int64), np.zeros(lines + 1, np.int64)
    part_ends, valid = np.zeros(lines + 1, np.int64), np.zeros(lines, np.bool_)
    bounds = np.zeros(columns + 1, np.int64)  # field c: bounds[c] to bounds[c + 1] - 1, where its tab or newline is
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

        keys = _with_room(keys, key_at, end - bounds[0] + key.size + 1)
        if key.size == 0:
            for i in range(start, end - 1):
                keys[key_at] = data[i]
                key_at += 1
        for k in range(key.size):
            keys = _with_room(keys, key_at, end - bounds[0] + 1)  # a column may be named twice
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
                part = _with_room(part, part_at, stop - i)
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
    return error, line, size, row[:row_at], row_ends, keys[:key_at], key_ends, part[:part_at], part_ends, valid
