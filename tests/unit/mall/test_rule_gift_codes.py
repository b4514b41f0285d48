"""Codes that can be read out, and read in again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules import gift_codes

RANDOM = st.binary(min_size=gift_codes.RANDOM_BYTES, max_size=gift_codes.RANDOM_BYTES)


@given(RANDOM)
def test_a_code_is_read_as_it_was_handed_out_however_it_is_typed(random: bytes) -> None:
    code = gift_codes.made(random)
    said = gift_codes.spoken(code)
    assert [len(group) for group in said.split("-")] == [4, 4, 4, 4]
    wide = "".join(chr(ord(one) + 0xFEE0) for one in code)
    for typed in (said, code, said.lower(), f"  {said.replace('-', ' ')} ", wide, said.replace("-", "–")):
        assert gift_codes.read(typed) == code


@given(RANDOM, RANDOM)
def test_all_bits_are_in_the_code(one: bytes, other: bytes) -> None:
    assert (gift_codes.made(one) == gift_codes.made(other)) == (one == other)


def test_no_letter_is_taken_for_another_and_the_rest_is_no_code() -> None:
    assert len(set(gift_codes.ALPHABET)) == 32
    assert not set("01IO") & set(gift_codes.ALPHABET)
    for typed in ("", "x", "ABCD-EFGH-JKLM-NPQ", "ABCD-EFGH-JKLM-NPQRS", "ABCD-EFGH-JKLM-NPQ0", "ABCD" * 500):
        assert gift_codes.read(typed) is None
