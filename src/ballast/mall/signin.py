"""Signing in. An unknown login, a wrong password, a wrong code and a disabled account get one answer after the same work.

An attempt is counted, and the count committed, before the password is looked at: many at once do not slip through. Five from
one address for one login, fifty from one address for any, in a quarter of an hour; a login alone is not counted, since
whoever knows it could then lock its owner out.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import msgspec

from ballast.mall import accounts, attempts, audit, passwords, sessions
from ballast.mall.attempts import MOST_FOR_ONE_LOGIN, MOST_FROM_ONE_ADDRESS, WINDOW, TooOften
from ballast.mall.db import Connection, Database
from ballast.mall.ids import token_hash
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.safe import Safe

_SQL = load("accounts")
__all__ = [
    "MOST_FOR_ONE_LOGIN",
    "MOST_FROM_ONE_ADDRESS",
    "WINDOW",
    "Attempt",
    "SignedIn",
    "TooOften",
    "confirm",
    "forget_old_attempts",
    "sign_in",
]


class Attempt(msgspec.Struct, frozen=True):
    """What somebody typed, and where. `replaces` is the token of a session that the browser has already."""

    login: str
    password: str
    code: str
    address: str
    agent: str
    replaces: str = ""


class SignedIn(msgspec.Struct, frozen=True):
    """The session's token, for the cookie."""

    token: str
    account: accounts.Account


async def sign_in(db: Database, safe: Safe, attempt: Attempt, now: datetime) -> SignedIn:
    """A session for who knows the password, and the code where the account has one.

    Raises:
        TooOften: too many attempts.
        Refused: `signin.wrong`, whatever was wrong.
    """
    login = attempt.login.strip().lower()[:100]
    with suppress(Refused):  # one that nobody can have is answered as any that is wrong
        login = accounts.login_from(attempt.login)
    async with db.identity(passing=True) as connection:
        wait_s = await _count(connection, login, attempt.address, now)
        account = await accounts.by_login(connection, login) if wait_s is None else None
    if wait_s is not None:
        raise TooOften(wait_s)
    right = await accounts.matches(account, attempt.password)
    rehashed = (
        await passwords.hashed(attempt.password)
        if account and right and passwords.needs_rehash(account.password_hash)
        else None
    )
    async with db.identity(passing=True) as connection:
        token = await _enter(connection, safe, account, attempt, rehashed, now) if account and right else None
        if account and token is None:
            await audit.note(
                connection, audit.By(account.account_id, account.login, attempt.address), "account.refused", now
            )
        if token is not None:
            await attempts.forget(connection, _bucket(login, attempt.address))
    if account is None or token is None:
        raise Refused("signin.wrong", "Login, password or code is wrong.", "Check them and try again.")
    return SignedIn(token, account)


async def _enter(
    connection: Connection,
    safe: Safe,
    account: accounts.Account,
    attempt: Attempt,
    rehashed: str | None,
    now: datetime,
) -> str | None:
    """The token of a new session, or None where the account or the code does not allow it."""
    held = await connection.execute(
        _SQL.hold, {"account_id": account.account_id, "password_hash": account.password_hash}
    )
    if await held.fetchone() is None or not await accounts.use_totp(connection, safe, account, attempt.code, now):
        return None
    if rehashed is not None:
        await accounts.set_password(connection, account.account_id, rehashed)
    if attempt.replaces:
        old = await sessions.look_up(connection, attempt.replaces, now)
        if old is not None:
            await sessions.revoke(connection, old.account_id, token_hash(attempt.replaces), now)
    await audit.note(connection, audit.By(account.account_id, account.login, attempt.address), "account.signed_in", now)
    return await sessions.start(connection, account.account_id, attempt.address, attempt.agent, now)


async def confirm(db: Database, login: str, password: str, address: str, now: datetime) -> None:
    """That who is signed in knows the password: before what a borrowed browser must not do. Counted as a sign-in is.

    Raises:
        TooOften: too many attempts.
        Refused: `password.present`.
    """
    async with db.identity(passing=True) as connection:
        wait_s = await _count(connection, login, address, now)
        account = await accounts.by_login(connection, login) if wait_s is None else None
    if wait_s is not None:
        raise TooOften(wait_s)
    if not await accounts.matches(account, password):
        raise Refused("password.present", "That is not the present password.", "Type it again.")
    async with db.identity(passing=True) as connection:
        await attempts.forget(connection, _bucket(login, address))


async def forget_old_attempts(connection: Connection, now: datetime) -> None:
    """Housekeeping, for a job: counts whose window is over."""
    await connection.execute(_SQL.forget_old_attempts, {"now": now, "window": WINDOW})


async def _count(connection: Connection, login: str, address: str, now: datetime) -> int | None:
    """One more attempt in both buckets. Seconds to wait, where it is one too many."""
    buckets = {_bucket("", address): MOST_FROM_ONE_ADDRESS, _bucket(login, address): MOST_FOR_ONE_LOGIN}
    return await attempts.count(connection, buckets, now)


def _bucket(login: str, address: str) -> bytes:
    return attempts.bucket(login, attempts.network(address))
