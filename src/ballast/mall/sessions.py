"""Who is signed in, where. A session is a random token in a cookie; stored is its hash alone, so that who reads the
database (or the vault) can enter nowhere. It ends a week after the sign-in, after a day without a request, or when revoked.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall.accounts import Language
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_token, token_hash
from ballast.mall.queries import load

_SQL = load("sessions")
LASTS = timedelta(days=7)
IDLE = timedelta(days=1)
_TOUCHED_EVERY = timedelta(minutes=1)


class Session(msgspec.Struct, frozen=True):
    """Somebody who is signed in. Holds no secret: pages may show all of it."""

    token_hash: bytes
    account_id: UUID
    login: str
    name: str
    language: Language
    operator: bool
    has_totp: bool
    seen_at: datetime

    def by(self, address: str) -> By:
        """As whom the record names it."""
        return By(self.account_id, self.login, address)


class Place(msgspec.Struct, frozen=True):
    """A session as its account's owner sees it. `token_hash` names it and lets nobody in."""

    token_hash: bytes
    created_at: datetime
    seen_at: datetime
    address: str
    agent: str


async def start(connection: Connection, account_id: UUID, address: str, agent: str, now: datetime) -> str:
    """A new session; its token, which is stored nowhere."""
    token = new_token()
    await connection.execute(
        _SQL.start,
        {
            "token_hash": token_hash(token),
            "account_id": account_id,
            "now": now,
            "expires_at": now + LASTS,
            "address": address,
            "agent": agent[:200],
        },
    )
    return token


async def look_up(connection: Connection, token: str, now: datetime) -> Session | None:
    """The session of a token, if it holds. That it was seen is noted once a minute."""
    values = {"token_hash": token_hash(token), "now": now, "seen_after": now - IDLE}
    row = await (await connection.execute(_SQL.look_up, values)).fetchone()
    if row is None:
        return None
    session = msgspec.convert(row, Session)
    if session.seen_at < now - _TOUCHED_EVERY:
        await connection.execute(_SQL.touch, {"token_hash": session.token_hash, "now": now})
    return session


async def places(connection: Connection, account_id: UUID, now: datetime) -> list[Place]:
    """Where an account is signed in, the latest first."""
    cursor = await connection.execute(_SQL.of_account, {"account_id": account_id, "now": now, "seen_after": now - IDLE})
    return msgspec.convert(await cursor.fetchall(), list[Place])


async def revoke(connection: Connection, account_id: UUID, hashed: bytes, now: datetime) -> None:
    """End one session of an account. One that is not its, or over, is left as it is."""
    await connection.execute(_SQL.revoke, {"account_id": account_id, "token_hash": hashed, "now": now})


async def revoke_all(connection: Connection, account_id: UUID, now: datetime, *, but: bytes | None = None) -> None:
    """End all sessions of an account, but that one."""
    await connection.execute(_SQL.revoke_all, {"account_id": account_id, "but": but, "now": now})
