"""Search tokens: what a text is found by, and that nothing typed is anything but tokens to the server."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.bigrams import MOST_QUERY_TOKENS, document, matches, query, tokens

mixed = st.text(st.sampled_from("连衣裙夏季新款茶aBc12 ,'\\|&!:*()<>é"), max_size=20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("连衣裙", ["连衣", "衣裙", "裙"]),
        ("茶", ["茶"]),
        ("夏季 连衣", ["夏季", "季", "连衣", "衣"]),
        ("iPhone15 Pro-Max", ["iphone", "15", "pro", "max"]),
        ("ＡＢＣ１２", ["abc", "12"]),
        ("Apple手机壳2个", ["apple", "手机", "机壳", "壳", "2", "个"]),
        ("cafe\u0301", ["café"]),
        ("テレビ", ["テレ", "レビ", "ビ"]),
        ("𠮷野家", ["𠮷野", "野家", "家"]),
        ("O'Brien_x", ["o", "brien", "x"]),
        ("…！？", []),
        ("", []),
    ],
)
def test_a_text_is_found_by(text: str, found: list[str]) -> None:
    assert tokens(text) == found


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("连衣裙", "'连衣' & '衣裙'"),
        ("裙", "'裙':*"),
        ("iph", "'iph':*"),
        ("iph ", "'iph'"),
        ("red dre", "'red' & 'dre':*"),
        ("iphone 手机", "'iphone' & '手机'"),
        ("红 dress dress", "'红':* & 'dress'"),
        ("' | !x:*", "'x':*"),
        (" ,;", None),
        ("", None),
    ],
)
def test_what_is_asked_for(typed: str, asked: str | None) -> None:
    assert query(typed) == asked


def test_each_field_has_its_weight_and_positions_go_on() -> None:
    assert document(("连衣裙", "A"), ("裙 a'b", "B")) == "'连衣':1A '衣裙':2A '裙':3A,4B 'a':5B 'b':6B"
    assert document(("", "A")) == ""


@given(mixed, mixed, mixed)
def test_any_piece_of_a_chinese_text_finds_it(before: str, piece: str, after: str) -> None:
    chinese = re.sub(r"[^连衣裙夏季新款茶]", "", piece)
    if chinese:
        assert matches(tokens(before + chinese + after), chinese)


@given(st.lists(st.sampled_from(["red", "连衣裙", "15", "茶", "Größe"]), min_size=1, max_size=6), st.data())
def test_words_find_it_in_any_order_and_the_last_while_it_is_typed(words: list[str], data: st.DataObject) -> None:
    typed = " ".join(data.draw(st.permutations(words)))
    assert matches(tokens(" ".join(words)), typed)
    cut = data.draw(st.integers(1, len(words[-1])))
    assert matches(tokens(" ".join(words)), " ".join([*words[:-1], words[-1][:cut]]))


@given(st.text(max_size=200))
def test_whatever_is_typed_becomes_quoted_tokens_and_nothing_else(typed: str) -> None:
    asked = query(typed)
    if asked is not None:
        assert re.fullmatch(r"'[^'\\\s]+'(:\*)?( & '[^'\\\s]+'(:\*)?)*", asked)
        assert asked.count(" & ") < MOST_QUERY_TOKENS
    written = document((typed, "A"))
    assert re.fullmatch(r"('[^'\\\s]+':\d+A(,\d+A)*( |$))*", written)


def test_long_texts_stay_within_what_a_tsvector_takes() -> None:
    written = document(("茶 " * 30_000, "D"), ("x" * 5000, "A"))
    assert written.count(",") < 255
    assert len(written) < 10_000
    assert max(int(n) for n in re.findall(r"(\d+)[AD]", written)) <= 16_383
