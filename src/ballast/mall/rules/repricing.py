"""Changing many prices at once: by a percentage or by an amount."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from ballast.mall.rules.money import WHOLE_BP, parse_yuan, share_fen
from ballast.mall.rules.refused import Refused

MOST_PRICE_FEN = 10**11
"""What the database takes."""
_SIGNED = re.compile(r"([+-]?)(.+)", re.DOTALL)


class Change(msgspec.Struct, frozen=True):
    """By so many basis points, or by so many fen; either may be negative."""

    by: Literal["percent", "yuan"]
    amount: int
    """Basis points or fen."""


def read(by: str, typed: str) -> Change:
    """ "percent", "-10" → a tenth less; "yuan", "2.50" → 250 fen more. Refused: no such number, or a change of nothing."""
    found = _SIGNED.fullmatch(typed.strip())
    # Hundredths of a percent are to a percent what fen are to yuan.
    amount = parse_yuan(found[2] if found else "") * (-1 if found and found[1] == "-" else 1)
    if not amount or (by == "percent" and not -WHOLE_BP < amount <= 10 * WHOLE_BP):
        raise Refused(
            "price.change",
            f"{typed!r} is no change of a price.",
            "Write a number other than 0; a percentage lies above -100 and up to 1000.",
        )
    return Change("percent" if by == "percent" else "yuan", amount)


def changed(price_fen: int, change: Change) -> int:
    """The new price. What is taken off or added is rounded half up. Refused where no price is left, or too large a one."""
    if change.by == "yuan":
        new = price_fen + change.amount
    else:
        part = share_fen(price_fen, abs(change.amount))
        new = price_fen - part if change.amount < 0 else price_fen + part
    return checked(new)


def checked(price_fen: int) -> int:
    """A price as it is; Refused outside of what a price can be."""
    if not 0 <= price_fen <= MOST_PRICE_FEN:
        raise Refused("price.range", f"A price of {price_fen} fen is not possible.", "Choose another change.")
    return price_fen
