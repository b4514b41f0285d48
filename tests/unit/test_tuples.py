"""The compiled readers of rows and COPY lines against plain ones, and against malformed input."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.errors import FormatError
from ballast.postgres import pgoutput
from ballast.postgres.bytecolumn import Ints, byte_column
from ballast.postgres.compiled import CACHE, compiled
from ballast.postgres.copytext import encode_row, split_row
from ballast.postgres.pgoutput import UNCHANGED, Delete, Insert, Update, Value
from ballast.postgres.tuples import (
    NULL,
    TEXT,
    UNKNOWN,
    RowBatch,
    RowLayout,
    decode_rows,
    scan_copy_lines,
    split_messages,
)
from tests.unit.wire import delete, insert, update


class Row(NamedTuple):
    """A row of a RowBatch, in plain values."""

    op: str
    source: int
    layout: int
    row: bytes
    key: bytes
    partition: bytes | None
    partition_state: int
    missing: list[int]
    before_key: bytes | None
    before_partition: bytes | None
    before_partition_state: int


def decode(messages: Sequence[bytes], layouts: Sequence[RowLayout]) -> RowBatch:
    ends = np.cumsum([0, *map(len, messages)], dtype=np.int64)
    return decode_rows(b"".join(messages), ends[:-1], ends[1:], layouts)


def rows_of(batch: RowBatch) -> list[Row]:
    return [
        Row(
            chr(batch.op[i]),
            int(batch.source[i]),
            int(batch.layout[i]),
            batch.row[i] or b"",
            batch.key[i] or b"",
            batch.partition[i],
            int(batch.partition_state[i]),
            batch.missing[batch.missing_offsets[i] : batch.missing_offsets[i + 1]].tolist(),
            batch.before_key[i],
            batch.before_partition[i],
            int(batch.before_partition_state[i]),
        )
        for i in range(len(batch))
    ]


# The rules once more, plainly.


def expected(messages: Sequence[bytes], layouts: Sequence[RowLayout]) -> list[Row]:
    rows: list[Row] = []
    for source, raw in enumerate(messages):
        message = pgoutput.decode(raw)
        assert isinstance(message, Insert | Update | Delete)
        number = next(i for i, layout in enumerate(layouts) if layout.oid == message.oid)
        layout = layouts[number]
        key = layout.key or tuple(range(layout.ncols))
        old = None if isinstance(message, Insert) else message.old
        full = not isinstance(message, Insert) and message.old_is_full
        shown = set(range(layout.ncols) if full else layout.key) if old is not None else set()

        def key_of(values: Sequence[Value], key: tuple[int, ...] = key) -> bytes:
            return encode_row([known(values[c]) for c in key])[:-1]

        def partition_of(values: Sequence[Value], at: int = layout.partition) -> tuple[bytes | None, int]:
            if at < 0 or values[at] is None:
                return None, NULL
            return (None, UNKNOWN) if values[at] is UNCHANGED else (known(values[at]), TEXT)

        before: tuple[bytes | None, int] = (None, NULL)
        if old is not None and layout.partition >= 0:
            before = partition_of(old) if layout.partition in shown else (None, UNKNOWN)
        gone = Row("D", source, number, b"", key_of(old), *before, [], None, None, NULL) if old is not None else None
        if isinstance(message, Delete):
            assert gone is not None
            rows.append(gone)
            continue
        new = list(message.new)
        if old is not None:
            new = [old[c] if v is UNCHANGED and c in shown else v for c, v in enumerate(new)]
        missing = [c for c, v in enumerate(new) if v is UNCHANGED]
        compared = [c for c in {*layout.key, layout.partition} if c in shown and new[c] is not UNCHANGED]
        moved = old is not None and (not layout.key or any(old[c] != new[c] for c in compared))
        if moved:
            assert gone is not None
            rows.append(gone)
        op = "P" if missing else "I" if moved or isinstance(message, Insert) else "U"
        line = encode_row([known(v) for v in new])
        came_from = (gone.key, *before) if gone is not None and moved and missing else (None, None, NULL)
        rows.append(Row(op, source, number, line, key_of(new), *partition_of(new), missing, *came_from))
    return rows


def known(value: Value) -> bytes | None:
    return None if value is UNCHANGED else value  # type: ignore[return-value]


# What the server may send.

texts = st.one_of(
    st.sampled_from([b"", b"1", b"2", b"\\N", b"\t", b"\\", "店铺".encode(), b"a\nb\rc\x08\x0b\x0c"]),
    st.binary(max_size=40),
    st.integers(1, 300).map(lambda n: b"x" * n),
)


@st.composite
def a_layout(draw: st.DrawFn, oid: int) -> RowLayout:
    columns = draw(st.integers(1, 5))
    key = tuple(draw(st.lists(st.integers(0, columns - 1), unique=True, max_size=3)))
    return RowLayout(oid, columns, key, draw(st.integers(-1, columns - 1)))


@st.composite
def a_message(draw: st.DrawFn, layouts: list[RowLayout]) -> bytes:
    layout = draw(st.sampled_from(layouts))
    nullable = st.none() | texts
    new: list[Value] = [draw(texts if c in layout.key else nullable) for c in range(layout.ncols)]
    old: list[Value] = [draw(st.just(v) | (texts if c in layout.key else nullable)) for c, v in enumerate(new)]
    kind = draw(st.sampled_from("KON")) if layout.key else "O"
    what = draw(st.sampled_from("IUD"))
    if what == "I":
        return insert(layout.oid, new)
    if kind == "K":
        old = [v if c in layout.key else None for c, v in enumerate(old)]
    if what == "D":
        return delete(layout.oid, old, "O" if kind == "O" else "K")
    for c in range(layout.ncols):
        may_be_large = kind in "OK" or c not in layout.key  # without an old row, the key came with the new
        if may_be_large and draw(st.booleans()):
            new[c] = UNCHANGED
    return update(layout.oid, new, None if kind == "N" else old, kind)


@st.composite
def a_chunk(draw: st.DrawFn) -> tuple[list[RowLayout], list[bytes]]:
    layouts = [draw(a_layout(oid)) for oid in draw(st.permutations([4_000_000_000, 7, 16384]))]
    return layouts, draw(st.lists(a_message(layouts), max_size=12))


@settings(max_examples=400, deadline=None)
@given(a_chunk())
def test_rows_in_bulk_are_the_rows_one_by_one(chunk: tuple[list[RowLayout], list[bytes]]) -> None:
    layouts, messages = chunk

    assert rows_of(decode(messages, layouts)) == expected(messages, layouts)


@settings(max_examples=400, deadline=None)
@given(a_chunk(), st.data())
def test_damaged_messages_are_refused_or_read_within_their_bounds(
    chunk: tuple[list[RowLayout], list[bytes]], data: st.DataObject
) -> None:
    layouts, messages = chunk
    damaged = bytearray(b"".join(messages))
    for _ in range(data.draw(st.integers(1, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    ends = np.cumsum([0, *map(len, messages)], dtype=np.int64)
    starts, ends = ends[:-1], ends[1:].copy()
    if messages and data.draw(st.booleans()):
        ends[-1] += data.draw(st.integers(-20, 20))

    try:
        batch = decode_rows(bytes(damaged), starts, ends, layouts)
    except FormatError:
        return
    for row in rows_of(batch):
        assert len(split_row(row.row)) == layouts[row.layout].ncols or row.op == "D"


KEYED = RowLayout(7, 4, (0, 1), 0)  # (shop, id, name, blob)


def test_an_update_that_leaves_out_a_large_value_is_a_patch() -> None:
    (row,) = rows_of(decode([update(7, [b"lin", b"1", b"tea", UNCHANGED])], [KEYED]))

    assert (row.op, row.row, row.key, row.missing) == ("P", b"lin\t1\ttea\t\\N\n", b"lin\t1", [3])
    assert row.before_key is None


def test_an_old_row_fills_in_what_was_left_out() -> None:
    old = [b"lin", b"1", b"t", b"x" * 5000]

    (row,) = rows_of(decode([update(7, [b"lin", b"1", b"tea", UNCHANGED], old, "O")], [KEYED]))

    assert (row.op, row.row, row.missing) == ("U", b"lin\t1\ttea\t" + b"x" * 5000 + b"\n", [])


def test_a_row_that_moves_to_another_shop_leaves_the_first() -> None:
    moved = update(7, [b"wu", b"1", b"tea", b"b"], [b"lin", b"1", None, None], "K")

    gone, here = rows_of(decode([moved], [KEYED]))

    assert (gone.op, gone.key, gone.partition, gone.row) == ("D", b"lin\t1", b"lin", b"")
    assert (here.op, here.key, here.partition, here.row) == ("I", b"wu\t1", b"wu", b"wu\t1\ttea\tb\n")
    assert gone.source == here.source == 0


def test_a_row_that_moves_without_its_large_value_says_where_that_lies() -> None:
    moved = update(7, [b"wu", b"1", b"tea", UNCHANGED], [b"lin", b"1", None, None], "K")

    gone, here = rows_of(decode([moved], [KEYED]))

    assert (gone.op, gone.key) == ("D", b"lin\t1")
    assert (here.op, here.key, here.missing) == ("P", b"wu\t1", [3])
    assert (here.before_key, here.before_partition, here.before_partition_state) == (b"lin\t1", b"lin", TEXT)


def test_a_delete_whose_identity_lacks_the_shop_says_so() -> None:
    layout = RowLayout(7, 2, (1,), 0)

    (key_only, full) = rows_of(decode([delete(7, [None, b"1"], "K"), delete(7, [None, b"1"], "O")], [layout]))

    assert (key_only.partition, key_only.partition_state) == (None, UNKNOWN)
    assert (full.partition, full.partition_state) == (None, NULL)


def test_without_a_key_an_update_takes_one_row_and_gives_one() -> None:
    layout = RowLayout(7, 2, (), 0)

    gone, here = rows_of(decode([update(7, [b"a", UNCHANGED], [b"a", b"\t"], "O")], [layout]))

    assert (gone.op, gone.key) == ("D", b"a\t\\t")
    assert (here.op, here.key, here.row) == ("I", b"a\t\\t", b"a\t\\t\n")


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (insert(8, [b""] * 4), "not announced"),
        (insert(7, [b""] * 3), "number of columns"),
        (insert(7, [b""] * 4)[:-1], "cut short"),
        (insert(7, [b""] * 4) + b"\0", "bytes after"),
        (b"B" + bytes(20), "no Insert"),
        (insert(7, [b"", b"", b"", UNCHANGED]), "leaves out"),
        (update(7, [UNCHANGED, b"1", b"", b""]), "key"),
        (delete(7, [b"", None, b"", b""], "K"), "key"),
        (delete(9, [b"1"], "K"), "old row"),
        (update(9, [b"1"]), "old row"),
        (b"I\0\0\0\7N\0\1b\0\0\0\0", "number of columns"),
        (b"I\0\0\0\x09N\0\1b\0\0\0\0", "binary"),
        (b"I\0\0\0\x09N\0\1x", "unknown kind"),
        (b"I\0\0\0\x09N\0\1t\x7f\xff\xff\xff", "cut short"),
        (b"I\0\0\0\x09N\0\1t\xff\xff\xff\xff", "cut short"),
        (b"I", "cut short"),
        (b"", "cut short"),
    ],
)
def test_the_error_says_what_is_wrong_with_which_message(message: bytes, why: str) -> None:
    good = insert(7, [b"1", b"2", b"3", b"4"])

    with pytest.raises(FormatError, match=f"Row message 1 of 2.*{why}"):
        decode([good, message], [KEYED, RowLayout(9, 1, ())])


def test_starts_and_ends_outside_the_buffer_are_refused() -> None:
    good = insert(7, [b"1", b"2", b"3", b"4"])
    for start, end in [(-1, len(good)), (0, len(good) + 1), (10, 2), (1 << 62, (1 << 62) + 50), (-(1 << 63), 50)]:
        with pytest.raises(FormatError):
            decode_rows(good, np.array([start]), np.array([end]), [KEYED])


def test_layouts_that_cannot_be_are_refused() -> None:
    for layouts in [[RowLayout(1, 2, (2,))], [RowLayout(1, 2, (), 2)], [RowLayout(1, 2, ()), RowLayout(1, 3, ())]]:
        with pytest.raises(ValueError, match=r"no such columns|two layouts"):
            decode([], layouts)


def test_the_arrays_are_arrows() -> None:
    batch = decode(
        [
            insert(7, ["林".encode(), b"1", b"tea", b""]),
            update(7, [b"wu", b"1", None, UNCHANGED], ["林".encode(), b"1", None, None], "K"),
        ],
        [KEYED],
    )

    columns = batch.to_arrow()

    assert columns["row"].type == pa.large_binary()
    for column in columns.values():
        column.validate(full=True)
    assert columns["row"].to_pylist() == ["林\t1\ttea\t\n".encode(), b"", b"wu\t1\t\\N\t\\N\n"]
    assert columns["partition"].to_pylist() == ["林", "林", "wu"]
    assert columns["missing"].to_pylist() == [None, None, [3]]
    assert columns["before_key"].to_pylist() == [None, None, "林\t1".encode()]
    assert columns["before_partition"].to_pylist() == [None, None, "林"]


def test_a_partition_that_is_not_text_is_refused() -> None:
    batch = decode([insert(7, [b"\xff", b"1", b"", b""])], [KEYED])

    with pytest.raises(FormatError, match="UTF-8"):
        batch.partition.to_text()


def test_slices_of_arrow_arrays_become_columns() -> None:
    strings = pa.array(["a", None, "", "店", "xyz"], pa.large_string())
    for array in (strings, strings.cast(pa.string()), strings[1:4], strings[:0], strings[4:]):
        column = byte_column(array)
        values = [None if v is None else v.encode() for v in array.to_pylist()]
        assert [column[i] for i in range(len(column))] == values
        assert column.to_text().to_pylist() == array.to_pylist()


# Messages one after another


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30)), st.integers(0, 9))
def test_messages_are_found_one_after_another(messages: list[bytes], extra: int) -> None:
    payload = b"".join(len(m).to_bytes(4, "big") + bytes(extra) + m for m in messages)

    starts, ends, kinds = split_messages(payload, extra)

    assert [payload[a:b] for a, b in zip(starts, ends, strict=True)] == messages
    assert kinds.tolist() == [m[0] if m else 0 for m in messages]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=30), min_size=1), st.integers(1, 9))
def test_a_run_of_messages_that_is_cut_is_refused(messages: list[bytes], cut: int) -> None:
    payload = b"".join(len(m).to_bytes(4, "big") + bytes(8) + m for m in messages)

    with pytest.raises(FormatError):
        split_messages(payload[:-cut])


# COPY lines

fields = st.none() | texts


@settings(deadline=None)
@given(
    st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(fields, min_size=n, max_size=n), max_size=8)),
    st.booleans(),
    st.sampled_from([b"", b"torn", b"torn\\t\t"]),
    st.data(),
)
def test_copy_lines_are_split_as_one_by_one(
    rows: list[list[bytes | None]], skip: bool, rest: bytes, data: st.DataObject
) -> None:
    columns = len(rows[0]) if rows else 2
    key = data.draw(st.lists(st.integers(0, columns - 1), max_size=3))
    partition = data.draw(st.integers(-1, columns - 1))
    buffer = b"".join(map(encode_row, rows))

    lines = scan_copy_lines(buffer + rest, columns, key, partition, skip)

    assert lines.consumed == len(buffer)
    kept = [encode_row(row[skip:]) for row in rows]
    assert [lines.row[i] for i in range(len(lines))] == kept
    keys = [encode_row([row[c] for c in key])[:-1] for row in rows] if key else [line[:-1] for line in kept]
    assert [lines.key[i] for i in range(len(lines))] == keys
    found = [row[partition] if partition >= 0 else None for row in rows]
    assert [lines.partition[i] for i in range(len(lines))] == found
    lines.row.to_arrow().validate(full=True)


def test_a_line_with_another_number_of_fields_is_refused() -> None:
    for line in (b"1\n", b"1\t2\t3\n", b"\n"):
        with pytest.raises(FormatError, match="Line 2"):
            scan_copy_lines(b"1\t2\n" + line, 2, [0])


def test_a_partition_with_an_escape_of_others_is_refused() -> None:
    for field in (b"\\x41", b"\\", b"\\N\\N", b"a\\N"):
        with pytest.raises(FormatError, match="escape"):
            scan_copy_lines(field + b"\t1\n", 2, [1], 0)


def test_a_table_without_columns_still_has_rows() -> None:
    lines = scan_copy_lines(b"lin\n\\N\n", 1, [], 0, skip_first_column=True)

    assert [lines.row[i] for i in range(2)] == [b"\n", b"\n"]
    assert [lines.partition[i] for i in range(2)] == [b"lin", None]
    assert len(scan_copy_lines(b"\n\n", 0, [])) == 2


# Compiling


def test_a_kernel_works_where_nothing_can_be_kept() -> None:
    names: dict[str, Callable[[Ints], int]] = {}
    exec("def total(values):\n    return values.sum()", names)  # nothing can be kept beside a file that is not there

    total = compiled("int64")(names["total"])

    assert total(np.arange(5)) == 10


def test_a_kernel_refuses_what_it_was_not_compiled_for() -> None:
    def fill(values: Ints, number: int, out: Ints) -> int:
        for i in range(len(out)):
            out[i] = values[i] + number
        return len(out)

    kernel = compiled("int64, int, out int64")(fill)
    values, out = np.arange(4), np.zeros(4, np.int64)
    assert kernel(values, 3, out) == 4
    assert out.tolist() == [3, 4, 5, 6]

    fixed = np.zeros(4, np.int64)
    fixed.setflags(write=False)
    assert kernel(fixed, 3, out) == 4
    for wrong in (
        (values.astype(np.int32), 3, out),
        (values[::2], 3, out),
        (values.reshape(2, 2), 3, out),
        ([0, 1, 2, 3], 3, out),
        (values, 3, fixed),
        (values, "3", out),
    ):
        with pytest.raises((TypeError, ValueError)):
            kernel(*wrong)  # type: ignore[arg-type]


def test_a_kernel_that_would_need_numba_to_run_is_refused() -> None:
    def makes_an_array(number: int) -> int:
        return len(np.zeros(number, np.int64))

    with pytest.raises(Exception, match="zeros"):
        compiled("int")(makes_an_array)(3)


def test_what_is_kept_runs_without_numba_and_is_made_again_if_damaged_or_open_to_others(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from ballast.postgres.checksum import row_checksums;"
        "print(row_checksums(b'abc', np.array([0, 3]))[0], 'numba' in sys.modules)"
    )

    def run() -> str:
        environment = {**os.environ, CACHE: str(tmp_path)}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    expected = xxhash.xxh64_intdigest(b"abc")
    assert run() == f"{expected} True\n"
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    assert run() == f"{expected} False\n"
    for damaged in (b"", whole[:-1], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]):
        kept.write_bytes(damaged)
        assert run() == f"{expected} True\n"
        assert kept.read_bytes()[32:] == whole[32:]
    kept.chmod(0o646)  # anybody may have written it
    assert run() == f"{expected} True\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644  # whichever account runs it next finds it
    assert run() == f"{expected} False\n"
    tmp_path.chmod(0o707)
    assert run() == f"{expected} True\n"
