"""Codes of gift cards: 80 random bits in 16 characters that a person can read out, as `F7KM-2QXB-9WTC-HN4D`.

Without 0, O, 1 and I, which are taken for one another. Who guesses a million a second hits one of a million cards once in some
thirty thousand years: it is enough to keep a hash of a code.
"""

from __future__ import annotations

import unicodedata

ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
LENGTH = 16
RANDOM_BYTES = 10
_GROUP = 4
_MOST_TYPED = 100


def made(random: bytes) -> str:
    """A code of `RANDOM_BYTES` random bytes, as `read` gives it."""
    bits = int.from_bytes(random, "big")
    return "".join(ALPHABET[bits >> 5 * place & 31] for place in range(LENGTH))


def spoken(code: str) -> str:
    """In groups, as it is handed out."""
    return "-".join(code[at : at + _GROUP] for at in range(0, LENGTH, _GROUP))


def read(typed: str) -> str | None:
    """A code as it was typed: small letters, full-width ones, blanks and hyphens do not count. None: it can be no code."""
    plain = unicodedata.normalize("NFKC", typed[:_MOST_TYPED]).upper()
    code = "".join(one for one in plain if one.isalnum())
    return code if len(code) == LENGTH and all(one in ALPHABET for one in code) else None
