"""Search that works for Chinese with a server that carries no extension: texts cut into tokens here, not there.

Chinese, Japanese and Korean runs become bigrams, and their last character a token of its own: 连衣裙 → 连衣, 衣裙, 裙. So every
character begins a token, and a query of one character is a prefix. Other writing becomes words, cut where letters
meet digits (iPhone15 → iphone, 15), so that it does not matter whether a space was typed there. NFKC and lower case first:
full-width letters and ligatures are what they look like.

`document` gives the text of a `tsvector`, `query` that of a `tsquery`, for a bound parameter and a cast (`%s::tsquery`). Both
are complete: the server's parsers and dictionaries, which depend on its locale, have no say. Tokens hold nothing but
letters, digits and marks, and are quoted all the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Literal

Weight = Literal["A", "B", "C", "D"]
"""As `setweight` has them: A counts most."""

MOST_QUERY_TOKENS = 24
"""What is typed beyond is not looked for."""
_LONGEST_WORD = 64
_MOST_TEXT = 20_000
"""Characters of one field that are indexed: a tsvector must stay below 1 MB."""
_MOST_POSITIONS = 200
"""Of one token, less than the 255 that a tsvector keeps."""
_LAST_POSITION = 16_383

_CJK = "\u3005\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
_PIECE = re.compile(rf"([{_CJK}]+)|(\d+)|((?:[^\W\d_{_CJK}]|[\u0300-\u036f])+)")


def tokens(text: str) -> list[str]:
    """What a text is found by, in its order."""
    return [token for token, _ in _tokens(text, whole_run=True)]


def document(*fields: tuple[str, Weight]) -> str:
    """The fields of something as the text of one tsvector, each with its weight."""
    places: dict[str, list[str]] = {}
    position = 0
    for text, weight in fields:
        for token in tokens(text[:_MOST_TEXT]):
            position = min(position + 1, _LAST_POSITION)
            at = places.setdefault(token, [])
            if len(at) < _MOST_POSITIONS:
                at.append(f"{position}{weight}")
    return " ".join(f"{_quoted(token)}:{','.join(dict.fromkeys(at))}" for token, at in places.items())


def query(typed: str) -> str | None:
    """What was typed as the text of a tsquery: everything must be there, the last word may go on. None: nothing to look for."""
    found = list(_tokens(typed[:_MOST_TEXT], whole_run=False))
    last_goes_on = bool(found) and found[-1][1]
    wanted: dict[str, bool] = {}
    for n, (token, alone) in enumerate(found[:MOST_QUERY_TOKENS]):
        is_last_word = n == len(found) - 1 and last_goes_on and _ends_with_word(typed)
        prefix = (alone and _is_cjk(token)) or is_last_word
        wanted[token] = wanted.get(token, True) and prefix
    return " & ".join(f"{_quoted(token)}{':*' if prefix else ''}" for token, prefix in wanted.items()) or None


def _tokens(text: str, *, whole_run: bool) -> Iterator[tuple[str, bool]]:
    """Tokens, and whether each is a piece of its own (a word, a single character) and not one of several bigrams."""
    for run, number, word in _PIECE.findall(_folded(text)):
        if not run:
            yield (number or word)[:_LONGEST_WORD], True
            continue
        for at in range(len(run) - 1):
            yield run[at : at + 2], False
        if whole_run or len(run) == 1:
            yield run[-1], True


def _folded(text: str) -> str:
    # Lower case may take a text out of NFKC (İ), and NFKC may bring upper case (㎒).
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()).lower()


def _ends_with_word(typed: str) -> bool:
    folded = _folded(typed)
    return bool(folded) and not folded[-1].isspace()


def _is_cjk(token: str) -> bool:
    return re.fullmatch(rf"[{_CJK}]+", token) is not None


def _quoted(token: str) -> str:
    return "'" + token.replace("\\", "\\\\").replace("'", "''") + "'"


def matches(document_tokens: Sequence[str], typed: str) -> bool:
    """What the server answers for `document @@ query`; for texts that are not in a database, and for tests."""
    asked = query(typed)
    if asked is None:
        return False
    for term in asked.split(" & "):
        token, prefix = (term[1:-3], True) if term.endswith(":*") else (term[1:-1], False)
        if not any(t.startswith(token) if prefix else t == token for t in document_tokens):
            return False
    return True
