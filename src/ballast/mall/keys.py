"""API keys: how a merchant's own software enters its shop.

A key reads ``bk_<eight characters>_<shop, key and secret>``. The first part is what pages and records show of it; the shop
stands in it, since a key is looked up in its shop alone. Stored is a hash: the key is shown once, when it is made.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import audit
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id, token_hash
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import Standing, standing

_SQL = load("keys")
SCOPES = (
    "products.read",
    "products.write",
    "stock.read",
    "stock.write",
    "orders.read",
    "orders.write",
    "refunds.read",
    "refunds.write",
    "customers.read",
)
"""What a key may be good for. ``….write`` holds ``….read`` of the same area."""
MOST = 20
"""Keys of a shop that hold at the same time."""
_NOTED_EVERY = timedelta(minutes=5)
_IDS_BYTES, _SECRET_BYTES = 32, 32


class Key(msgspec.Struct, frozen=True):
    """A key as its shop's people see it."""

    key_id: UUID
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    last_used_at: datetime | None
    """To five minutes."""
    revoked_at: datetime | None
    created_at: datetime

    @property
    def shown(self) -> str:
        """How it begins."""
        return _prefix(self.key_id)

    def holds(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class Holder(msgspec.Struct, frozen=True):
    """Who came with a key that holds, and how the shop stands."""

    shop_id: UUID
    slug: str
    key_id: UUID
    name: str
    scopes: frozenset[str]
    standing: Standing

    @property
    def actor(self) -> str:
        """As events and movements name it."""
        return f"key:{self.key_id}"

    def by(self, address: str) -> By:
        """As the shop's record names it."""
        return By(None, _prefix(self.key_id), address)

    def may(self, scope: str) -> bool:
        """Whether it is good for that."""
        return scope in self.scopes or (f"{scope.partition('.')[0]}.write" in self.scopes and scope.endswith(".read"))


async def make(
    connection: Connection,
    shop_id: UUID,
    *,
    name: str,
    scopes: Collection[str],
    days: int | None,
    by: By,
    now: datetime,
) -> str:
    """A new key. Returns it: it is written nowhere else.

    Args:
        days: so long it holds; None: until it is revoked.

    Raises:
        Refused: `key.name`, `key.scopes` (none, or one that is unknown), `key.days`, `key.full`.
    """
    name = name.strip()
    if not 1 <= len(name) <= 60:
        raise Refused("key.name", "A key has a name of 1 to 60 characters.", "Say what it is for.")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Refused("key.scopes", "A key is good for one thing at least.", f"Known are: {', '.join(SCOPES)}.")
    if days is not None and not 1 <= days <= 3660:
        raise Refused("key.days", "A key holds 1 to 3660 days, or until it is revoked.")
    row = await (await connection.execute(_SQL.held, {"now": now})).fetchone()
    if row is None or row["keys"] >= MOST:
        raise Refused("key.full", f"A shop has {MOST} keys at most.", "Revoke one that is not used.", most=MOST)
    key_id, secret = new_id(), secrets.token_bytes(_SECRET_BYTES)
    wanted = [one for one in SCOPES if one in scopes]
    await connection.execute(
        _SQL.make,
        {
            "key_id": key_id,
            "name": name,
            "secret_hash": token_hash(secret.hex()),
            "scopes": wanted,
            "expires_at": None if days is None else now + timedelta(days=days),
            "now": now,
        },
    )
    await audit.note_in_shop(
        connection, by, "key.made", now, shop_id=shop_id, subject=_prefix(key_id), name=name, scopes=", ".join(wanted)
    )
    body = base64.urlsafe_b64encode(shop_id.bytes + key_id.bytes + secret).decode().rstrip("=")
    return f"{_prefix(key_id)}_{body}"


async def listed(connection: Connection, now: datetime) -> tuple[Key, ...]:
    """The shop's keys, those that hold first."""
    cursor = await connection.execute(_SQL.listed, {"now": now})
    return tuple(msgspec.convert(row, Key) for row in await cursor.fetchall())


async def revoke(connection: Connection, shop_id: UUID, key_id: UUID, by: By, now: datetime) -> None:
    """It opens nothing any more. Refused (`key.unknown`) where there is none, or it was revoked."""
    row = await (await connection.execute(_SQL.revoke, {"key_id": key_id, "now": now})).fetchone()
    if row is None:
        raise Refused("key.unknown", "There is no such key, or it was revoked already.", "Reload the page.")
    await audit.note_in_shop(
        connection, by, "key.revoked", now, shop_id=shop_id, subject=_prefix(key_id), name=row["name"]
    )


async def find(db: Database, key: str, now: datetime) -> Holder | None:
    """Whose key it is; None where it does not hold or cannot be one. That it was used is noted every five minutes."""
    read = _read(key)
    if read is None:
        return None
    shop_id, key_id, secret = read
    async with db.shop(shop_id) as connection:
        asked = {"key_id": key_id, "secret_hash": token_hash(secret.hex()), "now": now}
        row = await (await connection.execute(_SQL.find, asked)).fetchone()
        if row is None:
            return None
        if row["last_used_at"] is None or now - row["last_used_at"] > _NOTED_EVERY:
            await connection.execute(_SQL.used, {"key_id": key_id, "now": now})
    stands = standing(row["status"], row["service_until"], row["closing_at"], now)
    return Holder(shop_id, row["slug"], key_id, row["name"], frozenset(row["scopes"]), stands)


def _prefix(key_id: UUID) -> str:
    # The last characters of a UUIDv7 are random; its first ones are a time.
    return f"bk_{key_id.hex[-8:]}"


def _read(key: str) -> tuple[UUID, UUID, bytes] | None:
    body = key[12:]
    if len(body) > 200:
        return None
    try:
        raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != _IDS_BYTES + _SECRET_BYTES:
        return None
    key_id = UUID(bytes=raw[16:32])
    return (UUID(bytes=raw[:16]), key_id, raw[32:]) if key.startswith(f"{_prefix(key_id)}_") else None
