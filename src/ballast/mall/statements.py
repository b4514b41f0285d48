"""The books as they are read: what days moved, how accounts stood, which postings there were.

Signs are those of `rules.books`: debits positive, credits negative. `bookkeeping` writes them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date, datetime
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.rules.books import Account

Amounts = dict[Account, int]


class Day(msgspec.Struct, frozen=True):
    """What a day moved on each account, and how each stood at its end."""

    day: date
    moved: Amounts
    closing: Amounts


class Statement(msgspec.Struct, frozen=True):
    """A time, its two ends included. `days`: those on which something moved."""

    first: date
    last: date
    opening: Amounts
    days: tuple[Day, ...]

    @property
    def closing(self) -> Amounts:
        """How the accounts stood at its end."""
        return self.days[-1].closing if self.days else self.opening

    @property
    def moved(self) -> Amounts:
        """What it moved in all."""
        return {one: self.closing[one] - self.opening[one] for one in Account}

    @property
    def revenue_fen(self) -> int:
        """What is left of its sales: less discounts and refunds, with shipping."""
        income = (Account.SALES, Account.DISCOUNTS, Account.SHIPPING, Account.REFUNDS)
        return -sum(self.moved[one] for one in income)


class Place(msgspec.Struct, frozen=True):
    """The last posting of the page before."""

    at: datetime
    transaction_id: UUID
    account: Account

    @property
    def text(self) -> str:
        """For an address; `read_place` reads it."""
        return f"{self.at.isoformat()}|{self.transaction_id}|{self.account}"


def read_place(text: str) -> Place | None:
    """What `Place.text` says; None for anything else."""
    try:
        at, transaction, account = text.split("|")
        place = Place(datetime.fromisoformat(at), UUID(transaction), Account(account))
    except ValueError:
        return None
    return place if place.at.tzinfo else None


class Posting(msgspec.Struct, frozen=True):
    """A line of a transaction."""

    transaction_id: UUID
    account: Account
    amount_fen: int
    order_id: UUID
    number: str
    """Of the order."""
    day: date
    at: datetime

    @property
    def place(self) -> Place:
        """Where the next page goes on."""
        return Place(self.at, self.transaction_id, self.account)


async def statement(connection: Connection, first: date, last: date) -> Statement:
    """The books from one day to another."""
    text = queries.load("books")
    opening = dict.fromkeys(Account, 0)
    for row in await (await connection.execute(text.before, {"first": first})).fetchall():
        opening[Account(row["account"])] = row["amount_fen"]
    moved: dict[date, Amounts] = {}
    for row in await (await connection.execute(text.days, {"first": first, "last": last})).fetchall():
        moved.setdefault(row["day"], dict.fromkeys(Account, 0))[Account(row["account"])] = row["amount_fen"]
    days, stand = [], opening
    for day, amounts in moved.items():
        stand = {one: stand[one] + amounts[one] for one in Account}
        days.append(Day(day, amounts, stand))
    return Statement(first, last, opening, tuple(days))


async def postings(
    connection: Connection, first: date, last: date, *, after: Place | None = None, most: int = 200
) -> tuple[Posting, ...]:
    """A page of the postings of these days, as they came. `after`: the last one of the page before."""
    cursor = await connection.execute(queries.load("books").postings, _values(first, last, after, most))
    return tuple(msgspec.convert(row, Posting) for row in await cursor.fetchall())


async def all_postings(connection: Connection, first: date, last: date) -> AsyncIterator[Posting]:
    """All of them, read piece by piece by a cursor on the server."""
    async with connection.cursor(name="postings") as cursor:
        cursor.itersize = 1000
        await cursor.execute(queries.load("books").postings, _values(first, last, None, None))
        async for row in cursor:
            yield msgspec.convert(row, Posting)


def _values(first: date, last: date, after: Place | None, most: int | None) -> dict[str, object]:
    return {
        "first": first,
        "last": last,
        "after_at": after.at if after else None,
        "after_id": after.transaction_id if after else None,
        "after_account": after.account.value if after else None,
        "most": most,
    }
