"""Who may sign in: accounts, their passwords, their second factor. As mall_identity, who alone sees password hashes.

Hashing (`passwords`) takes tens of milliseconds by intent: never while a connection to the database is held.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
import pyotp

from ballast.mall import passwords
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.safe import Safe, safe_for

_SQL = load("accounts")
Language = Literal["zh", "en"]
LEAST_PASSWORD = 10
_STEP_S = 30


class Account(msgspec.Struct, frozen=True):
    """An account with its secrets: for this package, never for a page."""

    account_id: UUID
    login: str
    name: str
    password_hash: str
    totp_secret: str | None
    """Sealed (`safe`)."""
    language: Language
    operator: bool
    disabled: bool


def safe(secret: str) -> Safe:
    """Where second factors' secrets are sealed, by the platform's own."""
    return safe_for(secret, "second factor")


def login_from(typed: str) -> str:
    """A login as it is stored: lower case, one form of each character. Refused where it cannot be one."""
    login = unicodedata.normalize("NFKC", typed).strip().lower()
    if not 3 <= len(login) <= 100 or not login.isprintable() or any(one.isspace() for one in login):
        raise Refused(
            "login.form", "A login has 3 to 100 characters and no spaces.", "Take a mail address or a phone number."
        )
    return login


def check_password(password: str, login: str) -> None:
    """Refused where a password is too short, too long or holds the login."""
    if not LEAST_PASSWORD <= len(password) <= passwords.LONGEST:
        raise Refused(
            "password.length",
            f"A password has {LEAST_PASSWORD} to {passwords.LONGEST} characters.",
            "Take a longer one, for instance four words.",
            least=LEAST_PASSWORD,
            most=passwords.LONGEST,
        )
    if login in password.lower() or len(set(password)) < 4:
        raise Refused(
            "password.easy", "The password is easily guessed.", "Take one without your login, for instance four words."
        )


async def matches(account: Account | None, password: str) -> bool:
    """Whether it is the account's password. For no account the same work is done, and the answer is no."""
    return await passwords.matches(account.password_hash if account else None, password)


async def by_login(connection: Connection, login: str) -> Account | None:
    """The account of a login (in the form of `login_from`)."""
    row = await (await connection.execute(_SQL.by_login, {"login": login})).fetchone()
    return msgspec.convert(row, Account) if row else None


async def by_id(connection: Connection, account_id: UUID) -> Account | None:
    """The account of an id."""
    row = await (await connection.execute(_SQL.by_id, {"account_id": account_id})).fetchone()
    return msgspec.convert(row, Account) if row else None


async def add(
    connection: Connection,
    *,
    login: str,
    name: str,
    password_hash: str,
    language: Language,
    now: datetime,
    operator: bool = False,
) -> UUID:
    """A new account. Refused where the login is taken or there is no name."""
    if not 1 <= len(name := name.strip()) <= 60:
        raise Refused("name.form", "A name has 1 to 60 characters.")
    values = {
        "account_id": new_id(),
        "login": login,
        "name": name,
        "password_hash": password_hash,
        "language": language,
        "operator": operator,
        "now": now,
    }
    row = await (await connection.execute(_SQL.add, values)).fetchone()
    if row is None:
        raise Refused("login.taken", "That login is taken.", "Sign in with it, or take another.")
    account_id: UUID = row["account_id"]
    return account_id


async def set_password(connection: Connection, account_id: UUID, password_hash: str) -> None:
    """Another password; which sessions end is the caller's to say."""
    await connection.execute(_SQL.set_password, {"account_id": account_id, "password_hash": password_hash})


def new_totp_secret() -> str:
    """A secret of 160 bits for an authenticator."""
    return pyotp.random_base32()


def totp_address(secret: str, login: str, issuer: str) -> str:
    """What the QR code says."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=issuer)


def totp_step(secret: str, code: str, now: datetime) -> int | None:
    """The time step whose code this is: the present one, the one before or after, for clocks that are a little off."""
    typed = "".join(one for one in code if one.isdigit())
    present = int(now.timestamp()) // _STEP_S
    totp = pyotp.TOTP(secret, interval=_STEP_S)
    for step in (present, present - 1, present + 1):
        if pyotp.utils.strings_equal(typed, totp.generate_otp(step)):
            return step
    return None


async def use_totp(connection: Connection, safe: Safe, account: Account, code: str, now: datetime) -> bool:
    """Whether the code is right and was not used before; it cannot be used again after this (RFC 6238, 5.2)."""
    if account.totp_secret is None:
        return True
    step = totp_step(safe.open(account.totp_secret), code, now)
    if step is None:
        return False
    cursor = await connection.execute(_SQL.use_step, {"account_id": account.account_id, "step": step})
    return await cursor.fetchone() is not None


async def turn_totp_on(
    connection: Connection, safe: Safe, account_id: UUID, secret: str, code: str, now: datetime
) -> None:
    """From now on a sign-in asks for a code. Refused unless a code of the secret proves that the authenticator has it."""
    if len(secret) != 32 or not secret.isalnum() or (step := totp_step(secret, code, now)) is None:
        raise Refused(
            "totp.wrong", "The code does not fit.", "Scan the picture again and type the code that is shown now."
        )
    await connection.execute(_SQL.set_totp, {"account_id": account_id, "secret": safe.seal(secret), "step": step})


async def turn_totp_off(connection: Connection, account_id: UUID) -> None:
    """A sign-in asks for the password alone."""
    await connection.execute(_SQL.set_totp, {"account_id": account_id, "secret": None, "step": None})


async def rename(connection: Connection, account_id: UUID, name: str, language: Language) -> None:
    """Another name, another language."""
    if not 1 <= len(name := name.strip()) <= 60:
        raise Refused("name.form", "A name has 1 to 60 characters.")
    await connection.execute(_SQL.rename, {"account_id": account_id, "name": name, "language": language})
