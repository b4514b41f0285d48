"""Who comes to a shop: a browser with a token in its cookie is a visitor, a guest until he registers or logs in.

What is stored of a token is its hash. Logging in gives a new token (one that somebody else may know is worth nothing
then), and takes what the guest had in this browser over to the member: cart, orders, coupons.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import cart, passwords, queries
from ballast.mall.db import Connection
from ballast.mall.ids import new_id, new_token, token_hash
from ballast.mall.owner import Owner
from ballast.mall.rules.refused import Refused

STAYS = timedelta(days=90)
"""So long after his last visit a browser is still known."""
_NOTED_EVERY = timedelta(hours=1)
_PHONE = re.compile(r"1[3-9][0-9]{9}|\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(?:\.[^@\s.]+)+")


class Visitor(msgspec.Struct, frozen=True):
    """Who comes. `customer_id` None: a guest; then the rest is empty."""

    visitor_id: UUID
    customer_id: UUID | None = None
    name: str = ""
    level: int = 0
    """The member's level, counted from 1; 0: none."""
    points: int = 0
    phone: str | None = None
    email: str | None = None

    @property
    def owner(self) -> Owner:
        """Whose cart and orders he sees."""
        return Owner(self.visitor_id, self.customer_id)


class Login(msgspec.Struct, frozen=True):
    """A visitor and the token that goes into his cookie from now on."""

    visitor: Visitor
    token: str


async def open_guest(connection: Connection, now: datetime) -> Login:
    """A browser without a (good) token: a new guest."""
    return await _open(connection, None, now)


async def find(connection: Connection, token: str, now: datetime) -> Visitor | None:
    """Who has this token; None where it is unknown or over: then `open_guest`."""
    cursor = await connection.execute(queries.load("visitors").find, {"token_hash": token_hash(token), "now": now})
    row = await cursor.fetchone()
    if row is None:
        return None
    if now - row["seen_at"] > _NOTED_EVERY:
        await connection.execute(
            queries.load("visitors").seen, {"visitor_id": row["visitor_id"], "now": now, "expires_at": now + STAYS}
        )
    return Visitor(
        row["visitor_id"], row["customer_id"], row["name"], row["level"], row["points"], row["phone"], row["email"]
    )


class Secret(msgspec.Struct, frozen=True):
    """Whose login it is, and what is stored of the password."""

    customer_id: UUID
    password_hash: str | None


async def hashed(login: str, password: str) -> str:
    """What is stored of a new member's password. Tens of milliseconds of work: never while a connection is held.

    Raises:
        Refused: `login.unreadable`, `password.length`.
    """
    read_login(login)
    passwords.check(password)
    return await passwords.hashed(password)


async def register(
    connection: Connection, visitor: Visitor, *, login: str, password_hash: str, name: str, now: datetime
) -> Login:
    """Make the guest a customer of the shop, logged in.

    Args:
        login: a phone number (11 digits of China, or +…) or an e-mail address.
        password_hash: of `hashed`.

    Raises:
        Refused: `login.unreadable`, `login.taken`.
    """
    phone, email = read_login(login)
    customer_id = new_id()
    row = await (
        await connection.execute(
            queries.load("visitors").register,
            {
                "customer_id": customer_id,
                "phone": phone,
                "email": email,
                "name": name.strip()[:60],
                "password_hash": password_hash,
                "now": now,
            },
        )
    ).fetchone()
    if row is None:
        raise Refused("login.taken", "Somebody is registered with this phone or address.", "Log in instead.")
    return await _become(connection, visitor, customer_id, now)


async def secret_of(connection: Connection, login: str) -> Secret | None:
    """Whose login it is; None: nobody's. Refused (`login.unreadable`)."""
    phone, email = read_login(login)
    cursor = await connection.execute(queries.load("visitors").by_login, {"phone": phone, "email": email})
    row = await cursor.fetchone()
    return Secret(row["customer_id"], row["password_hash"]) if row else None


async def proven(secret: Secret | None, password: str) -> UUID:
    """The customer who knows the password. Tens of milliseconds of work: never while a connection is held.

    Raises:
        Refused: `login.wrong`, the same, after the same work, for an unknown login and a wrong password.
    """
    if not await passwords.matches(secret.password_hash if secret else None, password) or secret is None:
        raise Refused("login.wrong", "The login or the password is wrong.", "Try again, or register.")
    return secret.customer_id


async def login(connection: Connection, visitor: Visitor, customer_id: UUID, now: datetime) -> Login:
    """Log in who was `proven`; the guest's cart comes into the member's. Refused: `login.disabled`."""
    return await _become(connection, visitor, customer_id, now)


async def logout(connection: Connection, visitor: Visitor, now: datetime) -> Login:
    """The member's token is good for nothing any more; he is a new guest."""
    await connection.execute(queries.load("visitors").end, {"visitor_id": visitor.visitor_id, "now": now})
    return await _open(connection, None, now)


async def logout_elsewhere(connection: Connection, visitor: Visitor, now: datetime) -> None:
    """End all other sessions of the member, after a new password for instance."""
    if visitor.customer_id:
        await connection.execute(
            queries.load("visitors").end_of_customer,
            {"customer_id": visitor.customer_id, "but": visitor.visitor_id, "now": now},
        )


def read_login(typed: str) -> tuple[str | None, str | None]:
    """(phone, None) or (None, e-mail address), as they are stored. Refused (`login.unreadable`) for anything else."""
    plain = typed.strip()
    digits = re.sub(r"[\s()-]", "", plain).removeprefix("+86")
    if _PHONE.fullmatch(digits):
        return digits, None
    if len(plain) <= 254 and _EMAIL.fullmatch(plain):
        return None, plain.lower()
    raise Refused("login.unreadable", "This is neither a phone number nor an e-mail address.", "Correct it.")


async def _become(connection: Connection, visitor: Visitor, customer_id: UUID, now: datetime) -> Login:
    if visitor.customer_id is None:
        moved = {"guest": visitor.visitor_id, "member": customer_id}
        await cart.merge(connection, visitor.visitor_id, customer_id)
        await connection.execute(queries.load("visitors").adopt_orders, moved)
        await connection.execute(queries.load("visitors").adopt_coupons, moved)
    await connection.execute(queries.load("visitors").end, {"visitor_id": visitor.visitor_id, "now": now})
    return await _open(connection, customer_id, now)


async def _open(connection: Connection, customer_id: UUID | None, now: datetime) -> Login:
    token, visitor_id = new_token(), new_id()
    await connection.execute(
        queries.load("visitors").open,
        {
            "visitor_id": visitor_id,
            "token_hash": token_hash(token),
            "customer_id": customer_id,
            "now": now,
            "expires_at": now + STAYS,
        },
    )
    if customer_id is None:
        return Login(Visitor(visitor_id), token)
    found = await find(connection, token, now)
    if found is None:
        raise Refused("login.disabled", "This customer's account is closed.", "Ask the shop.")
    return Login(found, token)
