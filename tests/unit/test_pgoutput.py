"""pgoutput messages, byte by byte as the protocol page draws them."""

import contextlib
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.errors import FormatError
from ballast.postgres.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Truncate,
    Type,
    Update,
    decode,
    unix_us,
)
from tests.unit.wire import delete, insert, update


def test_a_begin_says_where_its_commit_lies_and_when() -> None:
    moment = datetime(2026, 2, 23, 18, 56, tzinfo=UTC)
    at = int((moment - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds()) * 1_000_000 + 7

    begin = decode(b"B" + struct.pack(">QqI", 0x16_B374D848, at, 4_000_000_000))

    assert begin == Begin(0x16_B374D848, int(moment.timestamp()) * 1_000_000 + 7, 4_000_000_000)


def test_a_commit_has_two_positions() -> None:
    assert decode(b"C\0" + struct.pack(">QQq", 5, 9, 0)) == Commit(5, 9, unix_us(0))
    assert unix_us(0) == int(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def test_rows_hold_texts_nulls_and_what_did_not_change() -> None:
    assert decode(insert(7, [b"1", None, b""])) == Insert(7, (b"1", None, b""))
    assert decode(update(7, [b"1", UNCHANGED])) == Update(7, (b"1", UNCHANGED))
    assert decode(update(7, [b"2"], [b"1"], "K")) == Update(7, (b"2",), (b"1",), False)
    assert decode(update(7, [b"2"], [b"1"], "O")) == Update(7, (b"2",), (b"1",), True)
    assert decode(delete(7, [b"1", None], "K")) == Delete(7, (b"1", None), False)
    assert decode(delete(4_294_967_295, [], "O")) == Delete(4_294_967_295, (), True)


def test_a_relation_describes_its_columns() -> None:
    columns = b"\1id\0" + struct.pack(">Ii", 23, -1) + b"\0price\0" + struct.pack(">Ii", 1700, 786438)

    relation = decode(b"R" + struct.pack(">I", 7) + b"shop\0orders\0f" + struct.pack(">H", 2) + columns)

    assert relation == Relation(
        7,
        "shop",
        "orders",
        "f",
        (RelationColumn("id", 23, -1, True), RelationColumn("price", 1700, 786438, False)),
    )


def test_the_empty_schema_is_pg_catalog() -> None:
    assert decode(b"Y" + struct.pack(">I", 9) + b"\0int4\0") == Type(9, "pg_catalog", "int4")


def test_the_rest() -> None:
    assert decode(b"T" + struct.pack(">IB", 2, 3) + struct.pack(">II", 7, 8)) == Truncate((7, 8), True, True)
    assert decode(b"T" + struct.pack(">IB", 0, 0)) == Truncate((), False, False)
    said = b"M\1" + struct.pack(">Q", 77) + b"ballast.ddl\0" + struct.pack(">I", 3) + b"\0{}"
    assert decode(said) == Message(True, 77, "ballast.ddl", b"\0{}")
    assert decode(b"O" + struct.pack(">Q", 3) + "übrige\0".encode()) == Origin(3, "übrige")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"Z",
        b"S\0\0\0\1\1",  # streaming was not asked for
        b"B" + bytes(19),
        b"C" + bytes(26),
        insert(7, [b"1"])[:-1],
        insert(7, [b"1"]) + b"\0",
        b"I" + struct.pack(">I", 7) + b"K" + struct.pack(">H", 0),
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">H", 1) + b"b" + struct.pack(">I", 0),
        b"I" + struct.pack(">I", 7) + b"N" + struct.pack(">H", 1) + b"t" + struct.pack(">i", -1),
        b"D" + struct.pack(">I", 7) + b"N" + struct.pack(">H", 0),
        b"R" + struct.pack(">I", 7) + b"no end",
        b"Y" + struct.pack(">I", 7) + b"\xff\0x\0",
    ],
)
def test_what_is_not_a_message_is_refused(message: bytes) -> None:
    with pytest.raises(FormatError):
        decode(message)


@given(st.binary(max_size=80), st.sampled_from(b"BCORYIUDTM"))
def test_garbage_is_refused_or_read_but_nothing_else_happens(garbage: bytes, kind: int) -> None:
    with contextlib.suppress(FormatError):
        decode(bytes([kind]) + garbage)
