"""The words that seeded shops are made of: `words.toml`, read once."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

import msgspec

Pair = tuple[str, str]
"""Chinese, English"""


class Choice(msgspec.Struct, frozen=True):
    """What a shopper chooses by, and from what."""

    name: Pair
    values: tuple[Pair, ...]


class Trade(msgspec.Struct, frozen=True):
    """What kind of shop it is, and what it may sell. Prices in fen, weights in grams: lowest and highest."""

    industry: str
    slug: str
    shop: Pair
    qualities: tuple[Pair, ...]
    prices: tuple[int, int]
    grams: tuple[int, int]
    choices: tuple[Choice, ...]
    categories: tuple[tuple[Pair, tuple[Pair, ...]], ...]
    """Each with the names of goods that belong there."""


class Words(msgspec.Struct, frozen=True):
    """All of them."""

    brands: tuple[tuple[str, str, str], ...]
    surnames: tuple[str, ...]
    given: tuple[str, ...]
    streets: tuple[str, ...]
    places: tuple[tuple[str, str, str], ...]
    """Province, city, district."""
    far: tuple[str, ...]
    """Provinces where sending costs more."""
    carriers: tuple[str, ...]
    notes: tuple[str, ...]
    complaints: tuple[str, ...]
    answers: tuple[str, ...]
    refusals: tuple[str, ...]
    intros: tuple[Pair, ...]
    stories: tuple[Pair, ...]
    trades: tuple[Trade, ...]


@cache
def words() -> Words:
    """What is written in the file."""
    raw = tomllib.loads((files(__package__) / "words.toml").read_text(encoding="utf-8"))
    trades = [
        {
            **trade,
            "choices": [
                {"name": trade[key][:2], "values": trade[key][2:]} for key in ("spec", "spec2") if key in trade
            ],
            "categories": [(one[:2], one[2:]) for one in trade["categories"]],
        }
        for trade in raw.pop("trade")
    ]
    return msgspec.convert({**raw, "trades": trades}, Words)
