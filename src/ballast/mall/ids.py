"""Ids are made here and not by the database, so that what is made while it is away keeps its id."""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID

import uuid_utils.compat


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): random, and later ones sort after earlier ones."""
    return uuid_utils.compat.uuid7()


def new_token() -> str:
    """A secret of 256 bits for a cookie or a link; what is stored of it is ``token_hash``."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """SHA-256 of a token: enough for a secret that cannot be guessed, and it can be looked up by an index."""
    return hashlib.sha256(token.encode()).digest()
