"""Builds pgoutput's row messages, for tests of what reads them."""

import struct
from collections.abc import Sequence

from ballast.postgres.pgoutput import UNCHANGED, Value


def insert(oid: int, new: Sequence[Value]) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + row(new)


def update(oid: int, new: Sequence[Value], old: Sequence[Value] | None = None, kind: str = "O") -> bytes:
    before = b"" if old is None else kind.encode() + row(old)
    return b"U" + struct.pack(">I", oid) + before + b"N" + row(new)


def delete(oid: int, old: Sequence[Value], kind: str = "O") -> bytes:
    return b"D" + struct.pack(">I", oid) + kind.encode() + row(old)


def row(values: Sequence[Value]) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(value)) + value)
    return b"".join(parts)
