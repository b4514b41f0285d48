"""Money is a whole number of fen (1/100 yuan). Whatever divides it does so here, by one of two rules.

Splitting: `allocate`, by the largest remainder (Hamilton's method): the parts add up to the fen, and none is more than
one fen away from its exact share.

A share: `share_fen`, in basis points (1/100 of a percent), **half up**. What is worked out is always what is taken off,
never the price that is left: so half a fen goes to the shopper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from ballast.mall.rules.refused import Refused

Language = Literal["zh", "en"]

WHOLE_BP = 10_000
"""All of it, in basis points."""
MOST_FEN = 10**12
"""No amount that somebody types may reach ten thousand million yuan: such a number is a mistake."""

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,9})(?:\.([0-9]{1,2}))?")
_SIGN = {"zh": "¥", "en": "CN¥"}


def allocate(total_fen: int, weights: Sequence[int]) -> tuple[int, ...]:
    """`total_fen` in parts proportional to `weights`, adding up exactly. Fen left over go to the largest remainders, of equal
    ones to the first. Where the total is no more than the sum of the weights, no part is more than its weight.

    Raises ValueError for a negative total or weight, and for a total with nothing to carry it."""
    whole = sum(weights)
    if total_fen < 0 or any(weight < 0 for weight in weights):
        raise ValueError(f"{total_fen} fen over {list(weights)}: neither may be negative.")
    if not total_fen:
        return (0,) * len(weights)
    if not whole:
        raise ValueError(f"{total_fen} fen have no weight to go to.")
    parts = [total_fen * weight // whole for weight in weights]
    left = total_fen - sum(parts)
    if left:
        by_remainder = sorted(range(len(weights)), key=lambda n: -(total_fen * weights[n] % whole))
        for n in by_remainder[:left]:
            parts[n] += 1
    return tuple(parts)


def share_fen(amount_fen: int, share_bp: int) -> int:
    """`share_bp` basis points of an amount that is not negative, half up: a quarter of 10 fen is 3."""
    return (amount_fen * share_bp + WHOLE_BP // 2) // WHOLE_BP


def format_fen(amount_fen: int, language: Language) -> str:
    """As people read it, after CLDR: "¥1,234.50" in Chinese, "CN¥1,234.50" in English (where ¥ alone is yen)."""
    yuan, fen = divmod(abs(amount_fen), 100)
    return f"{'-' if amount_fen < 0 else ''}{_SIGN[language]}{yuan:,}.{fen:02}"


def plain_yuan(amount_fen: int) -> str:
    """As `parse_yuan` reads it, for form fields and CSV: "1234.50"."""
    yuan, fen = divmod(abs(amount_fen), 100)
    return f"{'-' if amount_fen < 0 else ''}{yuan}.{fen:02}"


def parse_yuan(text: str) -> int:
    """ "12.34" → 1234 fen. ASCII digits with at most two places: no sign, no thousands, no exponent, no spaces.

    Refused otherwise: a price that was guessed is worse than one that is asked for again."""
    found = _AMOUNT.fullmatch(text)
    if not found:
        raise Refused(
            "money.unreadable",
            f"{text!r} is not an amount in yuan.",
            "Write it like 1234.50, without signs.",
            text=text,
        )
    return int(found[1]) * 100 + int((found[2] or "0").ljust(2, "0"))
