"""How often somebody may try: counted in the database, so that it holds over all processes, and committed before the try.

Buckets are hashes of who tries what from where. A login alone is never one: whoever knows it could lock its owner out.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from ballast.mall.db import Connection, Database
from ballast.mall.payments.gift_card import Unusable
from ballast.mall.queries import load
from ballast.mall.quoting import Room
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.visitors import read_login

_SQL = load("accounts")
WINDOW = timedelta(minutes=15)
MOST_FOR_ONE_LOGIN = 5
MOST_FROM_ONE_ADDRESS = 50
MOST_REGISTERED_FROM_ONE_ADDRESS = 30
MOST_FROM_ONE_ADDRESS_OVER_ALL_SHOPS = 300
"""Shoppers' tries: who goes from shop to shop with one list of passwords is stopped, an office that shops at many is not."""
MOST_COUPONS_FROM_ONE_ADDRESS = 30
"""A household or an office behind one address; who clears his cookies drains no stock."""
MOST_CODES_FOR_ONE_CUSTOMER = 5
MOST_WRONG_CARDS_FROM_ONE_ADDRESS = 100
"""Codes of gift cards; a mini-program's server, where it has one, shows its shoppers' cards from one address."""
MOST_WRONG_CARDS_OVER_ALL_SHOPS = 300
_MOST_SHUT = 10_000
_shut: dict[bytes, datetime] = {}
"""Buckets of wrong gift cards that are full, as far as this process has heard, and until when."""


class TooOften(Refused):
    """Too many attempts; `wait_s` until the next may be made."""

    def __init__(self, wait_s: int) -> None:
        minutes = max(1, -(-wait_s // 60))
        super().__init__(
            "signin.often", "Too many attempts to sign in.", f"Try again in {minutes} minutes.", minutes=minutes
        )
        self.wait_s = wait_s


async def count(connection: Connection, buckets: dict[bytes, int], now: datetime) -> int | None:
    """One more attempt in each bucket, as mall_identity. Seconds to wait, where it is one too many.

    Args:
        buckets: each with how many it allows in `WINDOW`.
    """
    for one, most in buckets.items():
        cursor = await connection.execute(_SQL.count_attempt, {"bucket": one, "now": now, "window": WINDOW})
        row = await cursor.fetchone()
        if row is not None and row["attempts"] > most:
            return max(1, int((row["since"] + WINDOW - now).total_seconds()))
    return None


async def forget(connection: Connection, one: bytes) -> None:
    """After a success its tries do not count any more."""
    await connection.execute(_SQL.forget_attempts, {"bucket": one})


async def shopper_signs_in(db: Database, shop_id: UUID, login: str, address: str, now: datetime) -> None:
    """A shopper's try to sign in to a shop. Raises TooOften."""
    await _of_shopper(
        db,
        {
            bucket("shoppers", network(address)): MOST_FROM_ONE_ADDRESS_OVER_ALL_SHOPS,
            bucket("shopper", shop_id, network(address)): MOST_FROM_ONE_ADDRESS,
            _of_login(shop_id, login, address): MOST_FOR_ONE_LOGIN,
        },
        now,
    )


async def shopper_signed_in(db: Database, shop_id: UUID, login: str, address: str) -> None:
    """It was the right password."""
    async with db.identity(passing=True) as connection:
        await forget(connection, _of_login(shop_id, login, address))


async def shopper_registers(db: Database, shop_id: UUID, address: str, now: datetime) -> None:
    """A try to become a member of a shop; it tells whether a login is taken. Raises TooOften."""
    await _of_shopper(db, {bucket("register", shop_id, network(address)): MOST_REGISTERED_FROM_ONE_ADDRESS}, now)


@lru_cache(10_000)
def network(address: str) -> str:
    """From where somebody tries. Of an IPv6 address the first 64 bits: the rest is the caller's own to choose anew each time."""
    try:
        read = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((read, 64), strict=False)) if isinstance(read, IPv6Address) else str(read)


def _of_login(shop_id: UUID, login: str, address: str) -> bytes:
    """The bucket of a login as it is looked up: one phone number is one, with blanks or hyphens in it or without."""
    typed = login.strip().lower()[:254]
    with suppress(Refused):  # one that nobody can have
        typed = "".join(filter(None, read_login(login)))
    return bucket("shopper", shop_id, network(address), typed)


async def shopper_takes_coupon(db: Database, shop_id: UUID, address: str, now: datetime) -> None:
    """A try to take a coupon of a shop. Raises TooOften."""
    await _of_shopper(db, {bucket("coupon", shop_id, network(address)): MOST_COUPONS_FROM_ONE_ADDRESS}, now)


def room_of(settings: Settings, shop_id: UUID, address: str) -> Room:
    """How many orders may wait for payment, of one shopper and from there: nobody is to keep a shop's goods from all others."""
    return Room(settings.unpaid_per_shopper, settings.unpaid_per_address, bucket("order", shop_id, network(address)))


async def shopper_changes_password(db: Database, shop_id: UUID, customer_id: UUID, address: str, now: datetime) -> None:
    """A member's try to name his present password. Raises TooOften."""
    await _of_shopper(db, {bucket("password", shop_id, customer_id, network(address)): MOST_FOR_ONE_LOGIN}, now)


async def shopper_changed_password(db: Database, shop_id: UUID, customer_id: UUID, address: str) -> None:
    """It was the right one."""
    async with db.identity(passing=True) as connection:
        await forget(connection, bucket("password", shop_id, customer_id, network(address)))


async def shopper_resets(db: Database, shop_id: UUID, login: str, address: str, now: datetime) -> None:
    """A try to choose another password by a code. Raises TooOften."""
    await _of_shopper(
        db,
        {
            bucket("shoppers", network(address)): MOST_FROM_ONE_ADDRESS_OVER_ALL_SHOPS,
            bucket("reset", shop_id, network(address)): MOST_FROM_ONE_ADDRESS,
            bucket("reset", _of_login(shop_id, login, address)): MOST_FOR_ONE_LOGIN,
        },
        now,
    )


async def staff_gives_code(db: Database, shop_id: UUID, customer_id: UUID, now: datetime) -> None:
    """A shop's staff gives a code to one of its customers: with each he has as many tries again. Raises TooOften."""
    await _of_shopper(db, {bucket("code", shop_id, customer_id): MOST_CODES_FOR_ONE_CUSTOMER}, now)


@asynccontextmanager
async def shopper_shows_card(db: Database, shop_id: UUID, address: str, now: datetime) -> AsyncIterator[None]:
    """A shopper pays with a gift card's code.

    Other than a password a code cannot be guessed, so only those that are wrong count, after the try, and who shows a good one
    has no further way to the database. Who has shown too many is refused, whatever he shows: by each process from the moment on
    at which it has counted one of his.

    Raises:
        TooOften: there were too many before, or this one is one too many.
    """
    most = {
        bucket("cards", network(address)): MOST_WRONG_CARDS_OVER_ALL_SHOPS,
        bucket("card", shop_id, network(address)): MOST_WRONG_CARDS_FROM_ONE_ADDRESS,
    }
    for one in most:
        if (until := _shut.get(one)) and until > now:
            raise TooOften(max(1, int((until - now).total_seconds())))
    try:
        yield
    except Unusable:
        async with db.identity(passing=True) as connection:
            waits = {one: await count(connection, {one: allowed}, now) for one, allowed in most.items()}
        full = {one: wait_s for one, wait_s in waits.items() if wait_s is not None}
        if not full:
            raise
        if len(_shut) >= _MOST_SHUT:
            _shut.clear()
        _shut.update({one: now + timedelta(seconds=wait_s) for one, wait_s in full.items()})
        raise TooOften(max(full.values())) from None


def bucket(*what: object) -> bytes:
    """The bucket of these together."""
    return hashlib.sha256("\n".join(map(str, what)).encode()).digest()


async def _of_shopper(db: Database, buckets: dict[bytes, int], now: datetime) -> None:
    async with db.identity(passing=True) as connection:
        wait_s = await count(connection, buckets, now)
    if wait_s is not None:
        raise TooOften(wait_s)
