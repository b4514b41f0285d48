r"""COPY's text format, byte for byte as the server writes it.

A row is a line: values separated by tabs, ended by a newline; `\N` is null; backslash, backspace, form feed,
newline, carriage return, tab and vertical tab are escaped, and nothing else. The server writes exactly this
(CopyAttributeOutText), so a row encoded here equals the line of `COPY … TO STDOUT` for the same values, and lines
can be compared and summed instead of values. A line that escapes anything else was not written by either.

This is the plain version, for single rows and as the standard that the bulk version in `tuples` is tested against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ballast.errors import FormatError

NULL = rb"\N"

_SPECIAL = re.compile(rb"[\b\t\n\v\f\r\\]")
_ESCAPES = {
    b"\b": rb"\b",
    b"\t": rb"\t",
    b"\n": rb"\n",
    b"\v": rb"\v",
    b"\f": rb"\f",
    b"\r": rb"\r",
    b"\\": rb"\\",
}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_BACKSLASHED = re.compile(rb"\\.?", re.DOTALL)


def escape(value: bytes) -> bytes:
    """A value's text as a field of a line."""
    return _SPECIAL.sub(lambda found: _ESCAPES[found[0]], value)


def unescape(field: bytes) -> bytes:
    r"""A field's text. FormatError for an escape that the server does not write; `\N` is no text either."""
    if b"\\" not in field:
        return field
    return _BACKSLASHED.sub(_plain, field)


def encode_row(values: Iterable[bytes | None]) -> bytes:
    """The line of these values, with its newline."""
    return b"\t".join(NULL if value is None else escape(value) for value in values) + b"\n"


def split_row(line: bytes) -> list[bytes | None]:
    """The values of a line, with or without its newline. An empty line is one empty value."""
    fields = line.removesuffix(b"\n").split(b"\t")
    return [None if field == NULL else unescape(field) for field in fields]


def _plain(found: re.Match[bytes]) -> bytes:
    try:
        return _UNESCAPES[found[0]]
    except KeyError:
        raise FormatError(
            f"A COPY line holds {found[0]!r}, which the server never writes.",
            do="Look where the line comes from: it was not written by PostgreSQL in text format, or it was damaged.",
        ) from None
