"""The loop that turns pgoutput's row messages into COPY lines, compiled. Its rules stand in `tuples`.

Input is not trusted: every length is checked against the end of its message before a byte is read, and the first
message that does not hold what it announces ends the run with its error code.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ballast.postgres.compiled import compiled, inner

Array = np.ndarray[Any, Any]

INSERT: Final = ord("I")
UPDATE: Final = ord("U")
DELETE: Final = ord("D")
PATCH: Final = ord("P")
_NEW, _OLD_KEY, _OLD_ROW = ord("N"), ord("K"), ord("O")
_TEXT, _NULL, _UNCHANGED, _BINARY = ord("t"), ord("n"), ord("u"), ord("b")
_TAB, _NEWLINE, _BACKSLASH, _CAPITAL_N = 9, 10, 92, 78

OK: Final = 0
CUT_SHORT: Final = -1
OTHER_COLUMNS: Final = -2
BINARY: Final = -3
UNKNOWN_VALUE: Final = -4
UNKNOWN_MESSAGE: Final = -5
TRAILING: Final = -6
UNKNOWN_RELATION: Final = -7
NO_OLD_ROW: Final = -8
NO_KEY: Final = -9
NOT_SENT: Final = -10
_NO_ROOM: Final = -11
"""Not a message's fault: the kernel is to be called again with larger arrays, and goes on where it was."""

NULL: Final = 0
TEXT: Final = 1
UNKNOWN: Final = 2
"""What is known of a partition value: it is null, it is this text, or the stream did not carry it."""

_LETTERS = np.zeros(16, np.uint8)  # of the escapes of bytes 8 … 13
_LETTERS[8:14] = np.frombuffer(b"btnvfr", np.uint8)


@inner
def _u16(data: Array, at: int) -> Any:
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@inner
def _u32(data: Array, at: int) -> Any:
    return (
        (np.int64(data[at]) << 24)
        | (np.int64(data[at + 1]) << 16)
        | (np.int64(data[at + 2]) << 8)
        | np.int64(data[at + 3])
    )


@inner
def _parse(data: Array, at: int, end: int, columns: int, kinds: Array, starts: Array, sizes: Array) -> int:
    """Finds a tuple's values. Returns where it ends, or an error code."""
    if end - at < 2:
        return CUT_SHORT
    if _u16(data, at) != columns:
        return OTHER_COLUMNS
    at += 2
    for column in range(columns):
        if at >= end:
            return CUT_SHORT
        kind = data[at]
        at += 1
        size = 0
        if kind == _TEXT:
            if end - at < 4:
                return CUT_SHORT
            size = _u32(data, at)
            at += 4
            if size > end - at:
                return CUT_SHORT
        elif kind == _BINARY:
            return BINARY
        elif kind not in (_NULL, _UNCHANGED):
            return UNKNOWN_VALUE
        kinds[column] = kind
        starts[column] = at
        sizes[column] = size
        at += size
    return at


@inner
def _put_raw(out: Array, at: int, data: Array, start: int, size: int) -> int:
    # Slices indexed from 0 need no look at negative indexes, so that this loop and the next become vector code.
    source, target = data[start : start + size], out[at : at + size]
    for i in range(size):
        target[i] = source[i]
    return at + size


@inner
def _put_escaped(out: Array, at: int, data: Array, start: int, size: int) -> int:
    source = data[start : start + size]
    special = np.uint8(0)
    for i in range(size):
        c = source[i]
        special |= np.uint8((np.uint8(c - np.uint8(8)) < np.uint8(6)) | (c == np.uint8(_BACKSLASH)))
    if special == 0:  # nearly always
        return _put_raw(out, at, data, start, size)
    for i in range(size):
        c = source[i]
        if c == _BACKSLASH or 8 <= c <= 13:
            out[at] = _BACKSLASH
            at += 1
            if c != _BACKSLASH:
                c = _LETTERS[c]
        out[at] = c
        at += 1
    return at


@inner
def _put_field(out: Array, at: int, data: Array, kind: int, start: int, size: int) -> int:
    if kind == _TEXT:
        return _put_escaped(out, at, data, start, size)
    out[at] = _BACKSLASH
    out[at + 1] = _CAPITAL_N
    return at + 2


@inner
def _put_line(out: Array, at: int, data: Array, columns: int, kinds: Array, starts: Array, sizes: Array) -> int:
    """All values joined by tabs, without a newline."""
    for column in range(columns):
        if column > 0:
            out[at] = _TAB
            at += 1
        at = _put_field(out, at, data, kinds[column], starts[column], sizes[column])
    return at


@inner
def _put_key(
    out: Array, at: int, data: Array, columns: int, key: Array, kinds: Array, starts: Array, sizes: Array
) -> int:
    """The key columns joined by tabs; without any, the whole line."""
    if key.size == 0:
        return _put_line(out, at, data, columns, kinds, starts, sizes)
    for i in range(key.size):
        if i > 0:
            out[at] = _TAB
            at += 1
        column = key[i]
        at = _put_field(out, at, data, kinds[column], starts[column], sizes[column])
    return at


@inner
def _same(data: Array, kind: int, start: int, size: int, other_kind: int, other_start: int, other_size: int) -> bool:
    if kind != other_kind or size != other_size:
        return False
    for i in range(size):  # noqa: SIM110  (numba has no all())
        if data[start + i] != data[other_start + i]:
            return False
    return True


@inner
def _known(kind: int) -> int:
    if kind == _TEXT:
        return TEXT
    if kind == _NULL:
        return NULL
    return UNKNOWN


@inner
def _find(oids: Array, oid: int) -> int:
    low, high = 0, oids.size
    while low < high:
        middle = (low + high) // 2
        if oids[middle] < oid:
            low = middle + 1
        else:
            high = middle
    if low < oids.size and oids[low] == oid:
        return low
    return -1


def decode(
    data: Array,
    message_starts: Array,
    message_ends: Array,
    oids: Array,
    column_counts: Array,
    key_bounds: Array,
    key_columns: Array,
    partition_columns: Array,
) -> tuple[Any, ...]:
    """Layout i: `oids` (ascending), its number of columns, key_columns[key_bounds[i]:key_bounds[i + 1]], partition.

    Returns (error, message in error, number of rows, then the arrays in the order that `tuples` names).
    """
    messages = len(message_starts)
    most = max(1, int(column_counts.max(initial=1)))
    sizes = np.minimum(np.maximum(message_ends[:messages] - message_starts, 0), len(data))
    total = min(int(sizes.sum()), len(data))
    rows = 2 * messages
    flags = [np.zeros(rows, np.uint8) for _ in range(4)]
    ends = [np.zeros(rows + 1, np.int64) for _ in range(6)]
    source, layout_of = np.empty(rows, np.int64), np.empty(rows, np.int32)
    room = [np.empty(size, np.uint8) for size in (total + 64, total // 4 + 64, 64, 0, 0)]
    missing = np.empty(0, np.int16)
    state, needed = np.zeros(8, np.int64), np.zeros(6, np.int64)
    given = (data, message_starts, message_ends, oids, column_counts, key_bounds, key_columns, partition_columns)
    found = (np.zeros(2 * most, np.uint8), np.zeros(4 * most, np.int64))
    while True:
        arrays: list[Array] = [*given, *found, *flags, source, layout_of, *ends, *room, missing, state, needed]
        error = _decode(*arrays)
        if error != _NO_ROOM:
            break
        room = [_with_room(array, int(size)) for array, size in zip(room, needed[:5], strict=True)]
        missing = _with_room(missing, int(needed[5]))
    op, part_state, before_state, has_before = flags
    row, key, part, before_key, before_part = room
    row_ends, key_ends, part_ends, missing_ends, before_key_ends, before_part_ends = ends
    columns = (row, row_ends, key, key_ends, part, part_ends, part_state, missing, missing_ends)
    before = (before_key, before_key_ends, before_part, before_part_ends, before_state, has_before)
    return error, int(state[0]), int(state[1]), op, source, layout_of, *columns, *before


def split(data: Array, extra: int) -> tuple[int, int, Array, Array, Array]:
    """Finds messages that stand one after another as u32 length, `extra` bytes, message.

    Returns (error, where, starts, ends, first bytes): the first byte is pgoutput's kind, 0 for an empty message.
    """
    room = max(16, len(data) // 64)
    starts, ends, kinds = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint8)
    state = np.zeros(2, np.int64)
    while True:
        error = _split(data, extra, starts, ends, kinds, state)
        at, count = (int(number) for number in state)
        if error != _NO_ROOM:
            return error, at, starts[:count], ends[:count], kinds[:count]
        starts, ends, kinds = (_with_room(array, count + 1) for array in (starts, ends, kinds))


def _with_room(array: Array, needed: int) -> Array:
    if needed <= len(array):
        return array
    larger = np.empty(max(2 * len(array), needed), array.dtype)
    larger[: len(array)] = array
    return larger


@compiled(
    "uint8, int64, int64, int64, int64, int64, int64, int64, out uint8, out int64,"  # what there is, and a row's values
    "out uint8, out uint8, out uint8, out uint8, out int64, out int32,"  # of each row
    "out int64, out int64, out int64, out int64, out int64, out int64,"  # where its strings end
    "out uint8, out uint8, out uint8, out uint8, out uint8, out int16,"  # the strings
    "out int64, out int64"
)
def _decode(
    data: Array,
    message_starts: Array,
    message_ends: Array,
    oids: Array,
    column_counts: Array,
    key_bounds: Array,
    key_columns: Array,
    partition_columns: Array,
    both_kinds: Array,
    places: Array,
    op: Array,
    part_state: Array,
    before_state: Array,
    has_before: Array,
    source: Array,
    layout_of: Array,
    row_ends: Array,
    key_ends: Array,
    part_ends: Array,
    missing_ends: Array,
    before_key_ends: Array,
    before_part_ends: Array,
    row: Array,
    key: Array,
    part: Array,
    before_key: Array,
    before_part: Array,
    missing: Array,
    state: Array,
    needed: Array,
) -> int:
    """Goes on where `state` says (message, rows, then how far the strings are filled); `needed`: how large they must be."""
    messages = message_starts.size
    most = both_kinds.size // 2
    kinds, old_kinds = both_kinds[:most], both_kinds[most:]
    starts, sizes = places[:most], places[most : 2 * most]
    old_starts, old_sizes = places[2 * most : 3 * most], places[3 * most :]
    m, rows, row_at, key_at, part_at = state[0], state[1], state[2], state[3], state[4]
    before_key_at, before_part_at, missing_at = state[5], state[6], state[7]
    error, layout, last_oid = OK, -1, -1
    while m < messages:
        at, end = message_starts[m], message_ends[m]
        if at < 0 or end > data.size or end - at < 6:
            error = CUT_SHORT
            break
        size = end - at
        tag, oid = data[at], _u32(data, at + 1)
        at += 5
        if tag not in (INSERT, UPDATE, DELETE):
            error = UNKNOWN_MESSAGE
            break
        if oid != last_oid:
            layout, last_oid = _find(oids, oid), oid
        if layout < 0:
            error = UNKNOWN_RELATION
            break
        columns, partition = column_counts[layout], partition_columns[layout]
        key_of = key_columns[key_bounds[layout] : key_bounds[layout + 1]]
        keyless = key_of.size == 0

        # Where the values are.
        old = data[at]
        at += 1
        if old in (_OLD_KEY, _OLD_ROW) and tag != INSERT:
            at = _parse(data, at, end, columns, old_kinds, old_starts, old_sizes)
            if at < 0:
                error = at
                break
            if tag == UPDATE:
                if at >= end or data[at] != _NEW:
                    error = CUT_SHORT if at >= end else UNKNOWN_MESSAGE
                    break
                at += 1
        elif old != _NEW or tag == DELETE:
            error = UNKNOWN_MESSAGE
            break
        if tag != DELETE:
            at = _parse(data, at, end, columns, kinds, starts, sizes)
            if at < 0:
                error = at
                break
        if at != end:
            error = TRAILING
            break

        # What is known of the old row: everything of it, its key, or nothing.
        if keyless and tag != INSERT and old != _OLD_ROW:
            error = NO_OLD_ROW
            break
        partition_was_sent = old == _OLD_ROW
        if old != _NEW:
            for i in range(key_of.size):
                kind = old_kinds[key_of[i]]
                if kind == _UNCHANGED or (kind == _NULL and old == _OLD_KEY):
                    error = NO_KEY
                if key_of[i] == partition:
                    partition_was_sent = True
            if error != OK:
                break

        # What the new row does not say, from the old one.
        lacking, moved = 0, False
        if tag != DELETE:
            for column in range(columns):
                if kinds[column] == _UNCHANGED:
                    lacking += 1
            if lacking > 0 and old == _OLD_ROW:
                for column in range(columns):
                    if kinds[column] == _UNCHANGED and old_kinds[column] != _UNCHANGED:
                        kinds[column], starts[column] = old_kinds[column], old_starts[column]
                        sizes[column] = old_sizes[column]
                        lacking -= 1
            elif lacking > 0 and old == _OLD_KEY:
                for i in range(key_of.size):
                    column = key_of[i]
                    if kinds[column] == _UNCHANGED:
                        kinds[column], starts[column] = old_kinds[column], old_starts[column]
                        sizes[column] = old_sizes[column]
                        lacking -= 1
            if lacking > 0:
                if tag == INSERT or keyless:
                    error = NOT_SENT
                for i in range(key_of.size):
                    if kinds[key_of[i]] == _UNCHANGED:
                        error = NO_KEY
                if error != OK:
                    break
        if tag == UPDATE and old != _NEW:
            moved = keyless
            for i in range(key_of.size):
                c = key_of[i]
                if not _same(data, kinds[c], starts[c], sizes[c], old_kinds[c], old_starts[c], old_sizes[c]):
                    moved = True
            if partition >= 0 and partition_was_sent and not moved:
                c = partition
                moved = kinds[c] != _UNCHANGED and not _same(
                    data, kinds[c], starts[c], sizes[c], old_kinds[c], old_starts[c], old_sizes[c]
                )

        # A value of n bytes becomes at most 2 n and a separator; null and unchanged take 3.
        most_bytes = 2 * size + 3 * columns + 1
        needed[0], needed[1], needed[2] = row_at + most_bytes, key_at + 2 * most_bytes, part_at + 2 * size
        needed[3], needed[4], needed[5] = before_key_at, before_part_at, missing_at + lacking
        if lacking > 0 and moved:
            needed[3], needed[4] = before_key_at + most_bytes, before_part_at + size
        if (
            needed[0] > row.size
            or needed[1] > key.size
            or needed[2] > part.size
            or needed[3] > before_key.size
            or needed[4] > before_part.size
            or needed[5] > missing.size
        ):
            error = _NO_ROOM
            break

        if tag == DELETE or moved:
            key_at = _put_key(key, key_at, data, columns, key_of, old_kinds, old_starts, old_sizes)
            known = NULL
            if partition >= 0:
                known = _known(old_kinds[partition]) if partition_was_sent else UNKNOWN
                if known == TEXT:
                    part_at = _put_raw(part, part_at, data, old_starts[partition], old_sizes[partition])
            op[rows], part_state[rows], source[rows], layout_of[rows] = DELETE, known, m, layout
            rows += 1
            row_ends[rows], key_ends[rows], part_ends[rows] = row_at, key_at, part_at
            missing_ends[rows], before_key_ends[rows], before_part_ends[rows] = (
                missing_at,
                before_key_at,
                before_part_at,
            )
        if tag != DELETE:
            line_at = row_at
            row_at = _put_line(row, row_at, data, columns, kinds, starts, sizes)
            if keyless:
                key_at = _put_raw(key, key_at, row, line_at, row_at - line_at)
            else:
                key_at = _put_key(key, key_at, data, columns, key_of, kinds, starts, sizes)
            row[row_at] = _NEWLINE
            row_at += 1
            known = NULL
            if partition >= 0:
                known = _known(kinds[partition])
                if known == TEXT:
                    part_at = _put_raw(part, part_at, data, starts[partition], sizes[partition])
            kind = UPDATE
            if lacking > 0:
                kind = PATCH
                for column in range(columns):
                    if kinds[column] == _UNCHANGED:
                        missing[missing_at] = column
                        missing_at += 1
                if moved:
                    before_key_at = _put_key(
                        before_key, before_key_at, data, columns, key_of, old_kinds, old_starts, old_sizes
                    )
                    has_before[rows] = 1
                    before_state[rows] = NULL
                    if partition >= 0:
                        c = partition
                        before_state[rows] = _known(old_kinds[c]) if partition_was_sent else UNKNOWN
                        if before_state[rows] == TEXT:
                            before_part_at = _put_raw(before_part, before_part_at, data, old_starts[c], old_sizes[c])
            elif tag == INSERT or moved:
                kind = INSERT
            op[rows], part_state[rows], source[rows], layout_of[rows] = kind, known, m, layout
            rows += 1
            row_ends[rows], key_ends[rows], part_ends[rows] = row_at, key_at, part_at
            missing_ends[rows], before_key_ends[rows], before_part_ends[rows] = (
                missing_at,
                before_key_at,
                before_part_at,
            )
        m += 1
    state[0], state[1], state[2], state[3], state[4] = m, rows, row_at, key_at, part_at
    state[5], state[6], state[7] = before_key_at, before_part_at, missing_at
    return error


@compiled("uint8, int, out int64, out int64, out uint8, out int64")
def _split(data: Array, extra: int, starts: Array, ends: Array, kinds: Array, state: Array) -> int:
    """Goes on where `state` says: at which byte, after how many messages."""
    at, count = state[0], state[1]
    error = OK
    while at < data.size:
        if data.size - at < 4 + extra:
            error = CUT_SHORT
            break
        size = _u32(data, at)
        start = at + 4 + extra
        if size > data.size - start:
            error = CUT_SHORT
            break
        if count == starts.size:
            error = _NO_ROOM
            break
        starts[count], ends[count] = start, start + size
        kinds[count] = data[start] if size > 0 else 0
        count += 1
        at = start + size
    state[0], state[1] = at, count
    return error
