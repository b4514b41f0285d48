"""Lines of a product file, changes of prices, and what a merchant writes about a product."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ballast.mall import richtext
from ballast.mall.rules import product_lines, repricing
from ballast.mall.rules.product_lines import Said, guarded, plain, unguarded
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.repricing import Change

_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    _text
    | _text.map(lambda text: "=" + text)
    | _text.map(lambda text: "＝" + text)
    | _text.map(lambda text: "''-" + text)
)
def test_what_is_guarded_never_runs_and_comes_back(text: str) -> None:
    written = guarded(text)
    assert not written.startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r"))
    assert unguarded(written) == text


@given(st.lists(st.tuples(_text, _text, _text, _text), max_size=3))
def test_options_come_back_as_they_were_written(pairs: list[tuple[str, str, str, str]]) -> None:
    options = [
        (Said(plain(a).strip(), plain(b).strip()), Said(plain(c).strip(), plain(d).strip()))
        for a, b, c, d in pairs
        if plain(a).strip() and plain(c).strip()
    ]
    cells = {"product_code": "x", "name_zh": "y", "price_yuan": "1"}
    text = guarded(product_lines.written_options(options))
    if "\x00" not in text and text == text.strip():
        assert product_lines.read({**cells, "options": text}).options == tuple(options)


@pytest.mark.parametrize(
    ("cells", "key"),
    [
        ({"product_code": ""}, "csv.empty"),
        ({"price_yuan": "1e3"}, "money.unreadable"),
        ({"price_yuan": "-1"}, "money.unreadable"),
        ({"status": "sold"}, "csv.status"),
        ({"stock": "-3"}, "csv.number"),
        ({"stock": "１２"}, "csv.number"),
        ({"stock": "1" * 30}, "csv.number"),
        ({"options": "red"}, "csv.options"),
        ({"options": "a=;b=c"}, "csv.options"),
    ],
)
def test_what_cannot_be_read_says_why(cells: dict[str, str], key: str) -> None:
    with pytest.raises(Refused) as refused:
        product_lines.read({"product_code": "A", "name_zh": "茶", "price_yuan": "1.00", **cells})
    assert refused.value.key == key


def test_columns() -> None:
    product_lines.check_header(["price_yuan", " Product_Code ", "name_zh"])
    for wrong in (
        ["name_zh", "price_yuan"],
        ["product_code", "name_zh", "price_yuan", "x"],
        [*product_lines.COLUMNS, "stock"],
    ):
        with pytest.raises(Refused):
            product_lines.check_header(wrong)


@given(st.integers(0, 10**9), st.integers(-9999, 100_000).filter(bool))
def test_a_percentage_moves_the_price_by_its_share_and_half_a_fen_at_most(price_fen: int, basis_points: int) -> None:
    new = repricing.changed(price_fen, Change("percent", basis_points))
    assert new >= 0
    assert abs(new * 10_000 - price_fen * (10_000 + basis_points)) <= 5_000
    assert (new - price_fen) * basis_points >= 0


@given(st.integers(0, 10**11), st.integers(-(10**11), 10**11).filter(bool))
def test_an_amount_moves_the_price_by_itself_or_is_refused(price_fen: int, fen: int) -> None:
    try:
        assert repricing.changed(price_fen, Change("yuan", fen)) == price_fen + fen
    except Refused:
        assert not 0 <= price_fen + fen <= repricing.MOST_PRICE_FEN


@pytest.mark.parametrize(
    ("by", "typed"),
    [("percent", "0"), ("percent", "-100"), ("percent", "1001"), ("percent", ""), ("yuan", "--1"), ("yuan", "٣")],
)
def test_what_is_no_change_is_refused(by: str, typed: str) -> None:
    with pytest.raises(Refused):
        repricing.read(by, typed)


_pieces = st.sampled_from(
    [
        "<",
        ">",
        "</",
        "<p>",
        "</p>",
        "<b",
        "&",
        "&lt;",
        "&amp;",
        "\n\n",
        " ",
        "a",
        "<!--",
        "-->",
        "0",
        "/>",
        "\r\n",
        "\x00",
    ]
)


@settings(max_examples=300)
@given(
    _text
    | st.lists(_pieces, max_size=8).map("".join)
    | st.sampled_from(
        [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "<a href='javascript:alert(1)'>x</a>",
            "a\n\nb & c",
        ]
    )
)
@example("</")
@example("<a href=x>")
def test_what_is_stored_is_clean_and_cleaning_it_again_changes_nothing(written: str) -> None:
    stored = richtext.clean(written, drop_foreign=True)
    assert richtext.clean(stored) == stored
    lower = stored.lower()
    assert "<script" not in lower
    assert "javascript:" not in lower or "href" not in lower


@pytest.mark.parametrize(
    "foreign", ["https://elsewhere.example/a.jpg", "//elsewhere.example/a.jpg", "/\\elsewhere.example/a.jpg", "a.jpg"]
)
def test_a_picture_that_browsers_would_not_show_is_refused_where_somebody_can_mend_it(foreign: str) -> None:
    written = f'<p>茶<img src="/pictures/1/2" alt="ours"><img src="{foreign}" alt="theirs"></p>'
    with pytest.raises(Refused, match="is elsewhere") as refused:
        richtext.clean(written)
    assert refused.value.key == "product.foreign_picture"
    kept = richtext.clean(written, drop_foreign=True)
    assert ("/pictures/1/2" in kept, "elsewhere" in kept, "a.jpg" in kept) == (True, False, False)
    ours = '<p>茶<img src="/pictures/1/2" alt="ours"></p>'
    assert richtext.clean(ours) == ours


def test_plain_text_becomes_paragraphs() -> None:
    assert richtext.clean("清香\n甘醇\n\n1 < 2") == "<p>清香<br>甘醇</p>\n<p>1 &lt; 2</p>"
    assert richtext.plain("<p>清香</p><p>甘醇</p>").split() == ["清香", "甘醇"]
