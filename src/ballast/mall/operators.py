"""Who runs the platform, and what they do with accounts. As mall_platform, which sees no password and no secret."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import audit, links
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("platform")


class Person(msgspec.Struct, frozen=True):
    """An account as operators see it."""

    account_id: UUID
    login: str
    name: str
    operator: bool
    disabled_at: datetime | None
    created_at: datetime


async def people(connection: Connection, text: str = "") -> list[Person]:
    """The operators; or, with a text, the accounts whose login or name has it, 50 at most."""
    text = text.strip().lower()
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    cursor = await connection.execute(_SQL.accounts, {"like": f"%{escaped}%" if text else ""})
    return msgspec.convert(await cursor.fetchall(), list[Person])


async def invite(connection: Connection, by: By, now: datetime) -> str:
    """The token of an invitation among the operators."""
    await audit.note(connection, by, "operator.invited", now)
    return await links.invite(connection, None, links.OPERATOR, now)


async def dismiss(connection: Connection, account_id: UUID, by: By, now: datetime) -> None:
    """No operator any more; the account stays. Refused for the last."""
    person = await _hold(connection, account_id)
    await connection.execute(_SQL.set_operator, {"account_id": account_id, "operator": False})
    await audit.note(connection, by, "operator.dismissed", now, subject=person.login)


async def disable(connection: Connection, account_id: UUID, by: By, now: datetime) -> None:
    """May not sign in, and is out at once. Refused for the last operator."""
    person = await _hold(connection, account_id)
    await connection.execute(_SQL.set_disabled, {"account_id": account_id, "disabled_at": now})
    await audit.note(connection, by, "account.disabled", now, subject=person.login)


async def enable(connection: Connection, account_id: UUID, by: By, now: datetime) -> None:
    """May sign in again."""
    person = await _person(connection, account_id)
    await connection.execute(_SQL.set_disabled, {"account_id": account_id, "disabled_at": None})
    await audit.note(connection, by, "account.enabled", now, subject=person.login)


async def _hold(connection: Connection, account_id: UUID) -> Person:
    """Somebody who is not the last operator; nobody else changes who they are until the transaction's end."""
    await connection.execute(_SQL.hold_operators)
    person = await _person(connection, account_id)
    others = await (await connection.execute(_SQL.other_operators, {"account_id": account_id})).fetchone()
    if person.operator and (others is None or not others["operators"]):
        raise Refused("operator.last", "The platform keeps one operator at least.", "Invite another first.")
    return person


async def _person(connection: Connection, account_id: UUID) -> Person:
    row = await (await connection.execute(_SQL.account, {"account_id": account_id})).fetchone()
    if row is None:
        raise Refused("account.unknown", f"There is no account {account_id}.")
    return msgspec.convert(row, Person)
