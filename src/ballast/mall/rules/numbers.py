"""Order numbers that a person can read out: `261127-482910-375626`.

Six digits of the day, eleven from the order's id, and a check digit: 18 digits, spoken in three groups of six. Made without
the database, so that an order taken while it is away keeps its number. Of 10,000 orders of a shop on one day two share a
number with a chance of 1 in 2,000: the table's unique key notices, and the number is made again with the next `attempt`.

The check digit is Damm's (H. M. Damm, *Total anti-symmetrische Quasigruppen*, Marburg 2004): it finds every single wrong
digit and every pair of neighbours swapped, with digits alone (Luhn misses 09/90; ISO 7064 MOD 11,2 needs an X).
"""

from __future__ import annotations

import unicodedata
from datetime import date, datetime
from hashlib import blake2b
from uuid import UUID

from ballast.mall.rules.refused import Refused

LENGTH = 18
_FROM_ID = 11
_DAMM = (
    (0, 3, 1, 7, 5, 9, 8, 6, 4, 2),
    (7, 0, 9, 2, 1, 5, 4, 8, 6, 3),
    (4, 2, 0, 6, 8, 7, 1, 3, 5, 9),
    (1, 7, 5, 0, 9, 8, 3, 4, 2, 6),
    (6, 1, 2, 3, 0, 4, 5, 9, 7, 8),
    (3, 6, 7, 4, 2, 0, 9, 5, 8, 1),
    (5, 8, 6, 9, 7, 2, 0, 1, 3, 4),
    (8, 9, 4, 5, 3, 6, 2, 0, 1, 7),
    (9, 4, 3, 8, 6, 1, 7, 2, 0, 5),
    (2, 5, 8, 1, 4, 3, 6, 7, 9, 0),
)
_MISREAD = str.maketrans({"O": "0", "o": "0", "l": "1", "I": "1", "|": "1", "#": None})
_MOST_TYPED = 100


def order_number(order_id: UUID, day: date, attempt: int = 0) -> str:
    """The number of an order of that day (in the shop's time zone), the same whenever it is asked for."""
    mixed = blake2b(order_id.bytes + attempt.to_bytes(2, "big"), digest_size=8).digest()
    digits = f"{day:%y%m%d}{int.from_bytes(mixed, 'big') % 10**_FROM_ID:0{_FROM_ID}}"
    return f"{digits}{check_digit(digits)}"


def check_digit(digits: str) -> int:
    """Damm's check digit."""
    interim = 0
    for digit in digits:
        interim = _DAMM[interim][int(digit)]
    return interim


def spoken(number: str) -> str:
    """In groups of six, as it is shown and read out."""
    return "-".join(number[at : at + 6] for at in range(0, len(number), 6))


def parse_order_number(typed: str) -> str:
    """The 18 digits that somebody meant: with spaces, any dashes, dots, full-width digits, O for 0, l or I for 1.

    Refused where there are not 18 digits, or where the day or the check digit says that one is wrong."""
    plain = unicodedata.normalize("NFKC", typed[:_MOST_TYPED]).translate(_MISREAD)
    digits = "".join(c for c in plain if not (c.isspace() or c in "._-−ー" or unicodedata.category(c) == "Pd"))
    if len(digits) != LENGTH or not (digits.isascii() and digits.isdigit()):
        raise Refused(
            "number.not_18_digits",
            f"{typed[:_MOST_TYPED]!r} is no order number.",
            "It has 18 digits: look at the order again.",
        )
    if check_digit(digits) or not _is_day(digits[:6]):
        raise Refused("number.mistyped", f"A digit of {spoken(digits)} is wrong.", "Compare it with the order again.")
    return digits


def _is_day(digits: str) -> bool:
    try:
        datetime.strptime(digits, "%y%m%d")
    except ValueError:
        return False
    return True
