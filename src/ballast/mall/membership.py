"""What members change about themselves: their name, their password, also one that they forgot.

Nothing here sends mails or messages. Who forgot his password asks the shop, whose staff makes sure that it is he and gives him
a code (`give_code`): 8 digits, good once and for 15 minutes. A new password ends all other sessions of the member.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import audit, customers, deeds, passwords, visitors
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import MemberRenamed, PasswordChanged, UsedCode
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.visitors import Login, Visitor

_SQL = load("membership")
CODE_HOLDS = timedelta(minutes=15)
CODE_DIGITS = 8
MOST_TRIES = 5
"""Of one code, from wherever."""


class Secret(msgspec.Struct, frozen=True):
    """What is stored of a member's password, and what he logs in with."""

    customer_id: UUID
    phone: str | None
    email: str | None
    password_hash: str | None


class Given(msgspec.Struct, frozen=True):
    """The code of a login, as far as it may be tried."""

    customer_id: UUID
    code_hash: str


async def rename(connection: Connection, deed: MemberRenamed) -> None:
    """Another name, 60 characters at most; none is possible. Refused: there is no such member."""
    renamed = await connection.execute(_SQL.rename, {"customer_id": deed.customer_id, "name": deed.name.strip()[:60]})
    if not renamed.rowcount:
        raise _closed()
    deeds.note(connection, "member_renamed", deed)


async def secret(connection: Connection, customer_id: UUID) -> Secret:
    """What `proven` needs. Refused: `login.disabled`."""
    row = await (await connection.execute(_SQL.secret, {"customer_id": customer_id})).fetchone()
    if row is None:
        raise _closed()
    return Secret(**row)


async def proven(secret: Secret, present: str, wanted: str) -> str:
    """What is to be stored of the password that is wanted, by somebody who knows the present one. Tens of milliseconds of
    work: never while a connection is held.

    Raises:
        Refused: `password.length` (of the one that is wanted), `password.wrong`.
    """
    passwords.check(wanted)
    if not await passwords.matches(secret.password_hash, present):
        raise Refused("password.wrong", "The present password is wrong.", "Type it again.")
    return await passwords.hashed(wanted)


async def change_password(connection: Connection, visitor: Visitor, secret: Secret, stored: str, now: datetime) -> None:
    """Another password instead of the one that was `proven`. This browser stays logged in, all others are logged out.

    Raises:
        Refused: `password.meanwhile` (somebody else was faster).
    """
    values = {"customer_id": secret.customer_id, "password_hash": stored, "before": secret.password_hash}
    if await (await connection.execute(_SQL.change_password, values)).fetchone() is None:
        raise Refused("password.meanwhile", "The password was changed meanwhile.", "Log in with the new one.")
    await _changed(connection, PasswordChanged(secret.customer_id, stored, None, now))
    await visitors.logout_elsewhere(connection, visitor, now)


async def give_code(
    connection: Connection, shop_id: UUID, customer_id: UUID, code_hash: str, by: By, now: datetime
) -> None:
    """The customer can choose another password with the code of this hash (`passwords.hashed`), once, in the next minutes. A
    code that was given out before is good for nothing now.

    Raises:
        customers.UnknownCustomer; Refused: `login.disabled`, `reset.no_login` (he has neither phone nor e-mail address).
    """
    customer = await customers.one(connection, customer_id)
    if customer.disabled_at is not None:
        raise _closed()
    if not customer.phone and not customer.email:
        raise Refused("reset.no_login", "The customer has nothing to log in with.", "He can register anew.")
    values = {"customer_id": customer_id, "code_hash": code_hash, "now": now, "expires_at": now + CODE_HOLDS}
    await connection.execute(_SQL.keep_code, values)
    await audit.note_in_shop(connection, by, "customer.reset_code", now, shop_id=shop_id, subject=str(customer_id))


def new_code() -> str:
    """A code to be told."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"


def read_code(typed: str) -> str:
    """A code as it was given out: blanks and hyphens do not count."""
    return "".join(one for one in typed if one.isascii() and one.isdigit())


async def try_code(connection: Connection, login: str, now: datetime) -> Given | None:
    """The code of a login; None: there is none that may be tried (any more). The transaction must be committed before the
    code is looked at: a try counts, whatever comes of it. Refused: `login.unreadable`."""
    phone, email = visitors.read_login(login)
    values = {"phone": phone, "email": email, "now": now, "most": MOST_TRIES}
    row = await (await connection.execute(_SQL.try_code, values)).fetchone()
    # A try that is lost with a database is one try more.
    deeds.of_no_weight(connection)
    return Given(**row) if row else None


async def proven_by_code(given: Given | None, typed: str, wanted: str) -> str:
    """What is to be stored of the password that is wanted, by somebody who was told the code. Never while a connection is held.

    Raises:
        Refused: `password.length`; `reset.wrong`, the same, after the same work, for a wrong code, one that is over, and for a
            login that nobody has.
    """
    passwords.check(wanted)
    if not await passwords.matches(given.code_hash if given else None, read_code(typed)) or given is None:
        raise _wrong()
    return await passwords.hashed(wanted)


async def reset_password(
    connection: Connection, shop_id: UUID, visitor: Visitor, given: Given, stored: str, address: str, now: datetime
) -> Login:
    """Another password, by a code that was `proven_by_code`: it is used now. The browser is logged in, all others are logged out.

    Raises:
        Refused: `reset.wrong` (used a moment ago, or another one was given out since), `login.disabled`.
    """
    by = UsedCode(given.code_hash, shop_id, address)
    if not await _used(connection, given.customer_id, by, now):
        raise _wrong()
    login = await visitors.login(connection, visitor, given.customer_id, now)
    await change_again(connection, PasswordChanged(given.customer_id, stored, by, now))
    await visitors.logout_elsewhere(connection, login.visitor, now)
    return login


async def change_again(connection: Connection, deed: PasswordChanged) -> None:
    """The password is this one, whatever it was; the code by which it was set is used. Refused: `login.disabled`."""
    if deed.by is not None:
        await _used(connection, deed.customer_id, deed.by, deed.at)
    values = {"customer_id": deed.customer_id, "password_hash": deed.password_hash}
    if await (await connection.execute(_SQL.set_password, values)).fetchone() is None:
        raise _closed()
    await _changed(connection, deed)


async def _used(connection: Connection, customer_id: UUID, by: UsedCode, now: datetime) -> bool:
    """The code is used, and that stands in the record; False: it was used already, or another was given out since."""
    code = {"customer_id": customer_id, "code_hash": by.code_hash}
    if await (await connection.execute(_SQL.use_code, code)).fetchone() is None:
        return False
    who = By(None, f"customer:{customer_id}", by.address)
    await audit.note_in_shop(
        connection, who, "customer.password_reset", now, shop_id=by.shop_id, subject=str(customer_id)
    )
    return True


async def _changed(connection: Connection, deed: PasswordChanged) -> None:
    await connection.execute(_SQL.drop_code, {"customer_id": deed.customer_id})
    deeds.note(connection, "password_changed", deed)


def _closed() -> Refused:
    return Refused("login.disabled", "This customer's account is closed.", "Ask the shop.")


def _wrong() -> Refused:
    return Refused("reset.wrong", "The code does not fit, or its time is over.", "Ask the shop for another.")
