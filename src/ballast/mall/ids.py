"""Ids are made here and not by the database, so that what is made while it is away keeps its id."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): random, and later ones sort after earlier ones."""
    return uuid_utils.compat.uuid7()


def derived(at: datetime, *names: object) -> UUID:
    """The same id for the same names: what is brought in twice is there once.

    A UUIDv8 (RFC 9562): milliseconds of `at` in front, as in a UUIDv7, so that it sorts among the others by time; then a
    digest of the names. Moments before 1970 count as 1970."""
    digest = hashlib.blake2b("\x1f".join(map(str, names)).encode(), digest_size=10).digest()
    milliseconds = max(0, int(at.timestamp() * 1000)) & (1 << 48) - 1
    mixed = int.from_bytes(digest, "big") & ~(0xF << 76 | 0x3 << 62 | 0xFFFF)
    return UUID(int=milliseconds << 80 | mixed | 0x8 << 76 | 0x2 << 62)


def derived_of(digest: bytes) -> UUID:
    """The id that goes with a digest of 16 bytes or more: a UUIDv8 (RFC 9562) of 122 of its bits, for what nobody may find a
    second one for."""
    return UUID(int=int.from_bytes(digest[:16], "big") & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62)


def part_of(whole: UUID, number: int) -> UUID:
    """The id of the `number`-th thing (1 to 65,535) that belongs to something with a derived id, whose last 16 bits are free
    for it: of one moment, later numbers sort after earlier ones."""
    return UUID(int=whole.int | number)


def new_token() -> str:
    """A secret of 256 bits for a cookie or a link; what is stored of it is ``token_hash``."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """SHA-256 of a token: enough for a secret that cannot be guessed, and it can be looked up by an index."""
    return hashlib.sha256(token.encode()).digest()
