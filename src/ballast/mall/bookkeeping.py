"""The books: transactions that `rules.books` makes, written down. Each source (payment, refund) is booked once: the table's
key refuses it a second time."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.round_trips import later
from ballast.mall.rules.books import Transaction

_CHINA = ZoneInfo("Asia/Shanghai")


def day_of(moment: datetime) -> date:
    """The day in China to which money that moves at this moment belongs."""
    return moment.astimezone(_CHINA).date()


async def book(connection: Connection, transaction: Transaction, now: datetime) -> None:
    """Write a transaction down; one that moves nothing leaves no line."""
    if transaction.entries:
        await later(
            connection,
            queries.load("payments").book,
            {
                "transaction_id": transaction.source_id,
                "order_id": transaction.order_id,
                "day": transaction.day,
                "accounts": [entry.account.value for entry in transaction.entries],
                "amounts": [entry.amount_fen for entry in transaction.entries],
                "now": now,
            },
        )
