"""Log sequence numbers, as text (`16/B374D848`) and as the 64-bit number of bytes that they stand for.

Ballast calculates with the number and shows the text. The text's halves are hexadecimal and separate: as
text, LSNs do not sort.
"""

import re

LSN_MAX = (1 << 64) - 1

_TEXT = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def parse_lsn(text: str) -> int:
    """The number of an LSN in PostgreSQL's own spelling; ValueError for any other spelling."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"not an LSN: {text!r}; one looks like 16/B374D848")
    return (int(match[1], 16) << 32) | int(match[2], 16)


def format_lsn(lsn: int) -> str:
    """The spelling of `pg_lsn`'s output; ValueError outside 64 bits."""
    if not 0 <= lsn <= LSN_MAX:
        raise ValueError(f"not an LSN: {lsn}; it must lie in 0 … 2^64 - 1")
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
