"""Following a link: an account is made, somebody joins a shop or the operators, a password is set. As mall_identity."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import accounts, audit, links, sessions, staff
from ballast.mall.accounts import Language
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.queries import load

_SQL = load("accounts")


class Newcomer(msgspec.Struct, frozen=True):
    """Somebody who makes an account by a link. The password is hashed already."""

    login: str
    name: str
    password_hash: str
    language: Language


async def join_as_new(connection: Connection, token: str, who: Newcomer, address: str, now: datetime) -> UUID:
    """A new account by an invitation or as the first operator; its id."""
    taken = await links.take(connection, token, now)
    if taken.purpose == "first_operator":
        await links.no_operator_yet(connection)
    elif taken.purpose != "invitation":
        raise links.gone()
    account_id = await accounts.add(
        connection,
        login=who.login,
        name=who.name,
        password_hash=who.password_hash,
        language=who.language,
        now=now,
        operator=taken.purpose == "first_operator",
    )
    by = By(account_id, who.login, address)
    await audit.note(connection, by, "account.made", now, subject=who.login, purpose=taken.purpose)
    if taken.purpose == "invitation":
        await _join(connection, taken, by, now)
    return account_id


async def join(connection: Connection, token: str, by: By, now: datetime) -> None:
    """An account that is there already follows an invitation."""
    taken = await links.take(connection, token, now)
    if taken.purpose != "invitation" or by.account_id is None:
        raise links.gone()
    await _join(connection, taken, by, now)


async def set_password(connection: Connection, token: str, password_hash: str, address: str, now: datetime) -> None:
    """Another password by a link. All sessions of the account end, and other links of the kind."""
    taken = await links.take(connection, token, now)
    if taken.purpose != "new_password" or taken.account_id is None:
        raise links.gone()
    account = await accounts.by_id(connection, taken.account_id)
    if account is None or account.disabled:
        raise links.gone()
    await accounts.set_password(connection, account.account_id, password_hash)
    await sessions.revoke_all(connection, account.account_id, now)
    await links.end_password_links(connection, account.account_id, now)
    await audit.note(connection, By(account.account_id, account.login, address), "account.password_by_link", now)


async def _join(connection: Connection, taken: links.Taken, by: By, now: datetime) -> None:
    if taken.shop_id is None and taken.role == links.OPERATOR:
        await connection.execute(_SQL.make_operator, {"account_id": by.account_id})
        await audit.note(connection, by, "operator.joined", now, subject=by.login)
    elif taken.shop_id is not None and taken.role is not None:
        await staff.join(connection, taken.shop_id, taken.role, by, now)
    else:
        raise links.gone()
