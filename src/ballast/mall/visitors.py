"""Who comes to a shop: a browser with a token in its cookie is a visitor, a guest until he registers or logs in.

What is stored of a token is its hash. Logging in gives a new token (one that somebody else may know is worth nothing
then), and takes what the guest had in this browser over to the member: cart, orders, coupons.

A visitor's id is derived from his token, so that he is the same wherever he is opened: the lifeboat may not know yet who came in
the last moments before the loss, and what he sends again there must be what he had sent before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import cart, deeds, exceptions, order_record, passwords, queries
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import LoggedIn, LoggedOut, LoggedOutElsewhere, Registered, VisitorOpened
from ballast.mall.ids import derived_of, new_id, new_token, token_hash
from ballast.mall.owner import Owner
from ballast.mall.round_trips import later
from ballast.mall.rules.refused import Refused

STAYS = timedelta(days=90)
"""So long after his last visit a browser is still known."""
_NOTED_EVERY = timedelta(hours=1)
_MOST_KNOWN = 20_000
_seen: dict[tuple[UUID, bytes], tuple[Owner, datetime]] = {}
"""Whose tokens this process has met, and when they were seen: whose a token is never changes, only whether it is still good."""
_PHONE = re.compile(r"1[3-9][0-9]{9}|\+[1-9][0-9]{6,14}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
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
    token = new_token()
    deed = _opening(token, now)
    await open_made(connection, deed)
    return Login(Visitor(deed.visitor_id), token)


async def open_made(connection: Connection, deed: VisitorOpened) -> None:
    """The same, with an id and a token that were made before."""
    await _open(connection, deed, None)
    deeds.note(connection, "visitor_opened", deed, key=str(deed.visitor_id))


def unmet(token: str) -> Visitor:
    """Who has a token that `is_unmet`, before he is opened."""
    return Visitor(derived_of(token_hash(token)))


async def open_unmet(connection: Connection, token: str, now: datetime) -> Login:
    """Who has a token that `is_unmet` is a guest here, and keeps it."""
    deed = _opening(token, now)
    await _open(connection, deed, None)
    deeds.note(connection, "visitor_opened", deed)  # without a key: another lifeboat may not know him either
    return Login(Visitor(deed.visitor_id), token)


def _opening(token: str, now: datetime) -> VisitorOpened:
    hashed = token_hash(token)
    return VisitorOpened(derived_of(hashed), hashed, now)


async def is_unmet(connection: Connection, token: str) -> bool:
    """Whether this is the lifeboat, and the token may be one of the last moments before the loss, of which it does not know: it
    was never seen there. One that is over was."""
    if not deeds.are_heard(connection) or not _TOKEN.fullmatch(token):
        return False
    cursor = await connection.execute(queries.load("visitors").met, {"token_hash": token_hash(token)})
    return await cursor.fetchone() is None


async def find(connection: Connection, token: str, now: datetime) -> Visitor | None:
    """Who has this token; None where it is unknown or over: then `open_guest`."""
    cursor = await connection.execute(queries.load("visitors").find, {"token_hash": token_hash(token), "now": now})
    row = await cursor.fetchone()
    if row is None:
        return None
    if now - row["seen_at"] > _NOTED_EVERY:
        values = {"visitor_id": row["visitor_id"], "now": now, "expires_at": now + STAYS}
        await later(connection, queries.load("visitors").seen, values)
        deeds.of_no_weight(connection)
    return Visitor(
        row["visitor_id"], row["customer_id"], row["name"], row["level"], row["points"], row["phone"], row["email"]
    )


async def whose(
    connection: Connection, shop_id: UUID, token: str, now: datetime, over: Callable[[], Exception]
) -> Owner:
    """Who has this token, where nothing else need be known of him.

    Of a token that this process has met before it is remembered; whether it is still good is asked together with the next
    statement, and nothing is committed where it is not.

    Args:
        over: makes what is raised where it is unknown or over: now, or by what is done next.
    """
    key = (shop_id, token_hash(token))
    if (known := _seen.get(key)) and now - known[1] <= _NOTED_EVERY:

        def check(rows: int) -> None:
            if not rows:
                raise over()

        text = queries.load("visitors")
        asked = text.find if known[0].customer_id else text.good
        await later(connection, asked, {"token_hash": key[1], "now": now}, check)
        return known[0]
    found = await find(connection, token, now)
    if found is None:
        raise over()
    remember(shop_id, token, found.owner, now)
    return found.owner


def remember(shop_id: UUID, token: str, owner: Owner, now: datetime) -> None:
    """Whose token it is, as was found or written at this moment."""
    if len(_seen) >= _MOST_KNOWN:
        _seen.clear()
    _seen[shop_id, token_hash(token)] = owner, now


async def adopt(connection: Connection, visitor_id: UUID) -> None:
    """What he did as a guest is the member's where this is a member's token: the lifeboat did not know yet that he had logged
    in."""
    cursor = await connection.execute(queries.load("visitors").member, {"visitor_id": visitor_id})
    row = await cursor.fetchone()
    if row is not None:
        await _take_over(connection, visitor_id, row["customer_id"])


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
    token = new_token()
    hashed = token_hash(token)
    deed = Registered(
        visitor.visitor_id,
        new_id(),
        phone,
        email,
        name.strip()[:60],
        password_hash,
        derived_of(hashed),
        hashed,
        now,
    )
    await register_made(connection, deed, was_guest=visitor.customer_id is None)
    return await _entered(connection, token, now)


async def register_made(connection: Connection, deed: Registered, *, was_guest: bool = True) -> None:
    """The same, with ids and a token that were made before. Refused: `login.taken`."""
    row = await (
        await connection.execute(
            queries.load("visitors").register,
            {
                "customer_id": deed.customer_id,
                "phone": deed.phone,
                "email": deed.email,
                "name": deed.name,
                "password_hash": deed.password_hash,
                "now": deed.at,
            },
        )
    ).fetchone()
    if row is None:
        raise Refused("login.taken", "Somebody is registered with this phone or address.", "Log in instead.")
    await _become(connection, deed, was_guest=was_guest)
    deeds.note(connection, "registered", deed, key=str(deed.customer_id))


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
    token = new_token()
    hashed = token_hash(token)
    was_guest = visitor.customer_id is None
    deed = LoggedIn(visitor.visitor_id, was_guest, customer_id, derived_of(hashed), hashed, now)
    await login_made(connection, deed)
    return await _entered(connection, token, now)


async def login_made(connection: Connection, deed: LoggedIn) -> None:
    """The same, with an id and a token that were made before."""
    await _become(connection, deed, was_guest=deed.was_guest)
    deeds.note(connection, "logged_in", deed, key=str(deed.visitor_id))


async def logout(connection: Connection, visitor: Visitor, now: datetime) -> Login:
    """The member's token is good for nothing any more; he is a new guest."""
    token = new_token()
    hashed = token_hash(token)
    deed = LoggedOut(visitor.visitor_id, derived_of(hashed), hashed, now)
    await logout_made(connection, deed)
    return Login(Visitor(deed.visitor_id), token)


async def logout_made(connection: Connection, deed: LoggedOut) -> None:
    """The same, with an id and a token that were made before."""
    await connection.execute(queries.load("visitors").end, {"visitor_id": deed.before, "now": deed.at})
    await _open(connection, deed, None)
    deeds.note(connection, "logged_out", deed, key=str(deed.visitor_id))


async def logout_elsewhere(connection: Connection, visitor: Visitor, now: datetime) -> None:
    """End all other sessions of the member, after a new password for instance."""
    if visitor.customer_id:
        await end_elsewhere(connection, LoggedOutElsewhere(visitor.customer_id, visitor.visitor_id, now))


async def end_elsewhere(connection: Connection, deed: LoggedOutElsewhere) -> None:
    """The same of a deed."""
    await connection.execute(
        queries.load("visitors").end_of_customer,
        {"customer_id": deed.customer_id, "but": deed.but, "now": deed.at},
    )
    deeds.note(connection, "logged_out_elsewhere", deed)


def read_login(typed: str) -> tuple[str | None, str | None]:
    """(phone, None) or (None, e-mail address), as they are stored. Refused (`login.unreadable`) for anything else."""
    plain = typed.strip()
    digits = re.sub(r"[\s()-]", "", plain).removeprefix("+86")
    if _PHONE.fullmatch(digits):
        return digits, None
    if len(plain) <= 254 and _EMAIL.fullmatch(plain):
        return None, plain.lower()
    raise Refused("login.unreadable", "This is neither a phone number nor an e-mail address.", "Correct it.")


async def _become(connection: Connection, deed: Registered | LoggedIn, *, was_guest: bool) -> None:
    if was_guest:
        await _take_over(connection, deed.before, deed.customer_id)
    await connection.execute(queries.load("visitors").end, {"visitor_id": deed.before, "now": deed.at})
    await _open(connection, deed, deed.customer_id)


async def _take_over(connection: Connection, guest: UUID, member: UUID) -> None:
    moved = {"guest": guest, "member": member}
    await cart.merge(connection, guest, member)
    await connection.execute(queries.load("visitors").adopt_orders, moved)
    await connection.execute(queries.load("visitors").adopt_coupons, moved)
    await order_record.adopt_claims(connection, guest, member)
    await exceptions.adopt(connection, guest, member)


async def _open(
    connection: Connection, deed: VisitorOpened | Registered | LoggedIn | LoggedOut, customer_id: UUID | None
) -> None:
    await later(
        connection,
        queries.load("visitors").open,
        {
            "visitor_id": deed.visitor_id,
            "token_hash": deed.token_hash,
            "customer_id": customer_id,
            "now": deed.at,
            "expires_at": deed.at + STAYS,
        },
    )


async def _entered(connection: Connection, token: str, now: datetime) -> Login:
    found = await find(connection, token, now)
    if found is None:
        raise Refused("login.disabled", "This customer's account is closed.", "Ask the shop.")
    return Login(found, token)
