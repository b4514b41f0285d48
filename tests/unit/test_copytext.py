"""COPY text, by single rows. That real servers write the same is tested in integration/test_value_texts.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.errors import FormatError
from ballast.postgres.copytext import encode_row, escape, split_row, unescape

values = st.lists(st.none() | st.binary() | st.text("\b\f\n\r\t\v\\.Nabt\0\x7f").map(str.encode), min_size=1)


def test_exactly_these_bytes_are_escaped() -> None:
    for byte in range(256):
        value = bytes([byte])
        assert (escape(value) != value) == (value in b"\b\t\n\v\f\r\\"), value
    assert escape(b"\b\t\n\v\f\r\\") == rb"\b\t\n\v\f\r\\"


def test_a_row_is_a_line() -> None:
    assert encode_row([b"1", None, b"", b"\\N", "价格\n¥".encode()]) == b"1\t\\N\t\t\\\\N\t" + "价格\\n¥\n".encode()
    assert encode_row([]) == b"\n"


def test_null_and_its_spelling_differ() -> None:
    assert split_row(encode_row([None, b"\\N", b"N"])) == [None, b"\\N", b"N"]


@given(values)
def test_what_is_encoded_is_split_again(row: list[bytes | None]) -> None:
    line = encode_row(row)

    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert split_row(line) == row
    assert split_row(line[:-1]) == row


@given(st.binary())
def test_escaping_is_undone(value: bytes) -> None:
    assert unescape(escape(value)) == value


@pytest.mark.parametrize("field", [rb"\x41", rb"\101", rb"\q", b"end\\", b"\\\n", rb"\N"])
def test_escapes_that_the_server_never_writes_are_refused(field: bytes) -> None:
    with pytest.raises(FormatError):
        unescape(field)
