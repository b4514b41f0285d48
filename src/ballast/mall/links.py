"""Links that work once: the first operator's, an invitation, a new password. Stored is a hash of the token, as for a session.

A link is taken in the transaction that does what it is for: of two who follow it at once, one is told that it is gone.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import accounts, audit
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_token, token_hash
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("links")
_ACCOUNTS = load("accounts")
Purpose = Literal["first_operator", "invitation", "new_password"]
OPERATOR = "operator"
"""The role of an invitation that is to no shop."""
_LASTS: dict[Purpose, timedelta] = {
    "first_operator": timedelta(days=1),
    "invitation": timedelta(days=7),
    "new_password": timedelta(hours=24),
}


class Link(msgspec.Struct, frozen=True):
    """What a link is for, for the page that it leads to."""

    purpose: Purpose
    account_id: UUID | None
    shop_id: UUID | None
    role: str | None
    expires_at: datetime
    shop_name: str
    slug: str
    login: str


class Taken(msgspec.Struct, frozen=True):
    """A link that was taken just now."""

    purpose: Purpose
    account_id: UUID | None
    shop_id: UUID | None
    role: str | None


async def first_operator(connection: Connection, now: datetime) -> str:
    """A link's token for the first operator. Refused when there is an operator. As mall_identity."""
    await no_operator_yet(connection)
    return await _make(connection, "first_operator", None, now)


async def new_password(connection: Connection, account_id: UUID, by: By, now: datetime) -> str:
    """A link's token for another password of that account. As mall_identity."""
    account = await accounts.by_id(connection, account_id)
    if account is None:
        raise Refused("account.unknown", f"There is no account {account_id}.")
    await audit.note(connection, by, "account.password_link", now, subject=account.login)
    return await _make(connection, "new_password", account_id, now)


async def invite(connection: Connection, shop_id: UUID | None, role: str, now: datetime) -> str:
    """An invitation's token: into a shop, or among the operators. As mall_identity or mall_platform; the caller has checked
    that it may, and notes it."""
    token = new_token()
    await connection.execute(
        _SQL.invite,
        {"token_hash": token_hash(token), "shop_id": shop_id, "role": role, "expires_at": now + _LASTS["invitation"]},
    )
    return token


async def read(connection: Connection, token: str, now: datetime) -> Link:
    """What a link is for. Refused where it was used, has run out or never was."""
    row = await (await connection.execute(_SQL.read, {"token_hash": token_hash(token), "now": now})).fetchone()
    if row is None:
        raise gone()
    return msgspec.convert(row, Link)


async def end_password_links(connection: Connection, account_id: UUID, now: datetime) -> None:
    """What was sent out for another password leads nowhere any more."""
    await connection.execute(_SQL.end_of_account, {"account_id": account_id, "now": now})


async def _make(connection: Connection, purpose: Purpose, account_id: UUID | None, now: datetime) -> str:
    token = new_token()
    values = {
        "token_hash": token_hash(token),
        "purpose": purpose,
        "account_id": account_id,
        "expires_at": now + _LASTS[purpose],
    }
    await connection.execute(_SQL.make, values)
    return token


async def take(connection: Connection, token: str, now: datetime) -> Taken:
    """Takes a link, in the transaction that does what it is for. Refused where it cannot be used any more."""
    row = await (await connection.execute(_SQL.use, {"token_hash": token_hash(token), "now": now})).fetchone()
    if row is None:
        raise gone()
    return msgspec.convert(row, Taken)


async def no_operator_yet(connection: Connection) -> None:
    """Refused when there is an operator. Until the transaction's end nobody else comes past here."""
    await connection.execute(_ACCOUNTS.one_at_a_time)
    row = await (await connection.execute(_ACCOUNTS.operators_there)).fetchone()
    if row is None or row["operators"]:
        raise Refused("operator.there", "There is an operator already.", "Ask one of them for an invitation.")


def gone() -> Refused:
    """To be raised: the link leads nowhere."""
    return Refused("link.gone", "The link was used, or its time is over.", "Ask for another.")
