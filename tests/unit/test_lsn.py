"""LSNs as numbers and as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.postgres.lsn import LSN_MAX, format_lsn, parse_lsn


@given(st.integers(0, LSN_MAX))
def test_text_and_number_say_the_same(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn
    assert parse_lsn(format_lsn(lsn).lower()) == lsn


def test_the_spelling_is_postgresqls() -> None:
    assert format_lsn(0) == "0/0"
    assert format_lsn(0x16_B374D848) == "16/B374D848"
    assert format_lsn(LSN_MAX) == "FFFFFFFF/FFFFFFFF"
    assert parse_lsn("1/0") == 2**32


@pytest.mark.parametrize(
    "text", ["", "0", "/", "1/", "/1", "1/G", " 1/0", "1/0\n", "0x1/0", "1/000000000", "-1/0", "1/0/0"]
)
def test_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        parse_lsn(text)


@pytest.mark.parametrize("lsn", [-1, LSN_MAX + 1])
def test_a_number_outside_64_bits_is_refused(lsn: int) -> None:
    with pytest.raises(ValueError, match="not an LSN"):
        format_lsn(lsn)
