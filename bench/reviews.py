"""Wide rows beside the shops of `platform`: reviews of about 1 kB of text, so that a database grows to gigabytes without tens of
millions of rows.

The text is words by their rank's frequency, which compresses to about a third, as prose does.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import psycopg

A_SHOP = 1_500
"""Reviews of each shop."""

_TABLE = """
CREATE TABLE reviews (
    shop_id int, id int, product_id int NOT NULL, customer_id int NOT NULL, stars int NOT NULL, body text NOT NULL,
    written_at timestamptz NOT NULL)
"""
_KEYS = """
ALTER TABLE reviews ADD PRIMARY KEY (shop_id, id),
    ADD FOREIGN KEY (shop_id, product_id) REFERENCES products,
    ADD FOREIGN KEY (shop_id, customer_id) REFERENCES customers
"""
_WORDS, _PROSE_WORDS = 5_000, 2_500_000
_SHORTEST, _SPREAD = 500, 1_000


def add(dsn: str, tenants: int) -> None:
    """Creates the table and fills it for every shop."""
    with psycopg.connect(dsn) as conn:
        conn.execute(_TABLE)
        with conn.cursor().copy("COPY reviews FROM STDIN (FREEZE)") as copy:
            for block in lines(tenants):
                copy.write(block)
        conn.execute(_KEYS)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE reviews")


def lines(tenants: int) -> Iterator[str]:
    """COPY lines, a shop each time."""
    chance = random.Random(1)
    prose = _prose(chance)
    last = len(prose) - _SHORTEST - _SPREAD
    for shop in range(1, tenants + 1):
        rows = []
        for number in range(1, A_SHOP + 1):
            at = int(chance.random() * last)
            body = prose[at : at + _SHORTEST + at % _SPREAD]
            rows.append(f"{shop}\t{number}\t{1 + number % 40}\t{1 + number % 60}\t{1 + at % 5}\t{body}\t2020-03-01Z\n")
        yield "".join(rows)


def _prose(chance: random.Random) -> str:
    words = ["".join(chance.choices("etaoinshrdlucmfwyp", k=2 + rank % 9)) for rank in range(1, _WORDS + 1)]
    frequency = list(itertools.accumulate(1 / rank for rank in range(1, _WORDS + 1)))
    return " ".join(chance.choices(words, cum_weights=frequency, k=_PROSE_WORDS))
