"""A real server takes the search tokens as they are, and answers as `matches` does."""

from __future__ import annotations

from ballast.mall.rules.bigrams import document, matches, query, tokens
from tests.fix_postgres import Database

TEXTS = [
    "夏季新款连衣裙 iPhone15 手机壳",
    "O'Brien's \\ \"tea\" & <script>alert(1)</script>",
    "龙井茶 Größe café 2,50",
    "'; DROP TABLE products; --",
    "テレビ 한국어 𠮷野家 Ωmega ١٢٣ ½ ﬁne ㎒ İstanbul ๑๒ हिन्दी",
    "茶 " * 1000 + "word",
    "\u200b…！？",
    "x" * 3000,
]
TYPED = [
    "连衣裙", "裙", "新", "茶", "iph", "iphone 15", "IPHONE１５", "o'brien", "' | 'a':*", "\\", "a\\' & !b", "caf", "größe", "drop",
    "한국", "𠮷", "İst", "ﬁ", "mhz", "हिन्दी", "x" * 500, "tea <-> b", ":*", "词", "wor", "script alert", "٣", "½", "๑๒",
]  # fmt: skip


def test_the_server_finds_what_the_rule_says(pg18: Database) -> None:
    asked = [(typed, query(typed)) for typed in TYPED + TEXTS]
    with pg18.connect() as connection:
        for text in TEXTS:
            written = document((text, "A"), ("连衣裙", "D"))
            found = connection.execute(
                "SELECT %s::tsvector @@ q::tsquery FROM unnest(%s::text[]) WITH ORDINALITY AS u (q, n) ORDER BY n",
                (written, [q for _, q in asked if q is not None]),
            ).fetchall()
            held = [*tokens(text), *tokens("连衣裙")]
            expected = [(matches(held, typed),) for typed, q in asked if q is not None]
            assert found == expected, text[:60]


def test_the_title_counts_more_than_the_text(pg18: Database) -> None:
    ranks = [
        pg18.query("SELECT ts_rank(%s::tsvector, %s::tsquery)", document((title, "A"), (text, "C")), query("龙井"))[0][
            0
        ]
        for title, text in (("龙井茶", "好茶"), ("好茶", "龙井茶"), ("好茶", "红茶"))
    ]
    assert ranks[0] > ranks[1] > ranks[2] == 0
