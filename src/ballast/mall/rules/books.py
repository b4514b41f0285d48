"""Double-entry books of a shop: what an order means in money, each transaction adding up to zero.

Debits are positive, credits negative. The accounts:

| account | what it holds |
| --- | --- |
| provider | what the payment provider owes the shop (an asset: debit) |
| gift_cards | what gift cards paid, less what went back to them: it was the shop's since they were issued (debit) |
| sales | goods at list price (income: credit) |
| discounts | what was taken off them (debit, against sales) |
| shipping | what shoppers paid for sending, less what of it went back (credit) |
| refunds | what went back for goods (debit, against sales) |
| undue | payments that were not due, until they are sent back (a debt: credit) |

So at any moment: provider + gift_cards = paid − refunded, and an order that was refunded whole leaves both 0 and no income.
What is taken for a card when it is issued passes by these books: the cards themselves say what is left on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from uuid import UUID

import msgspec


class Account(StrEnum):
    """See the table above."""

    PROVIDER = "provider"
    GIFT_CARDS = "gift_cards"
    SALES = "sales"
    DISCOUNTS = "discounts"
    SHIPPING = "shipping"
    REFUNDS = "refunds"
    UNDUE = "undue"


class Entry(msgspec.Struct, frozen=True):
    """So much on one account: positive a debit, negative a credit."""

    account: Account
    amount_fen: int


class Transaction(msgspec.Struct, frozen=True):
    """Entries that belong together. ValueError where they do not add up to zero."""

    source_id: UUID
    """The payment or the refund that it comes from: booked once."""
    order_id: UUID
    day: date
    """In the shop's time zone."""
    entries: tuple[Entry, ...]

    def __post_init__(self) -> None:
        total = sum(entry.amount_fen for entry in self.entries)
        if total:
            raise ValueError(f"The entries of {self.source_id} add up to {total} fen instead of 0.")


def holder(provider: str) -> Account:
    """Where the money is that came through a provider, by its name (`mall.payment.provider`)."""
    return Account.GIFT_CARDS if provider == "gift_card" else Account.PROVIDER


def paid(
    payment_id: UUID,
    order_id: UUID,
    day: date,
    *,
    list_fen: int,
    discount_fen: int,
    shipping_fen: int,
    held: Account = Account.PROVIDER,
) -> Transaction:
    """A payment that was due: for goods at `list_fen` less `discount_fen`, and shipping. `held`: where the money is."""
    return _transaction(
        payment_id,
        order_id,
        day,
        (held, list_fen - discount_fen + shipping_fen),
        (Account.DISCOUNTS, discount_fen),
        (Account.SALES, -list_fen),
        (Account.SHIPPING, -shipping_fen),
    )


def refunded(
    refund_id: UUID,
    order_id: UUID,
    day: date,
    *,
    goods_fen: int,
    shipping_fen: int,
    held: Account = Account.PROVIDER,
) -> Transaction:
    """A refund that succeeded. `held`: where the money was."""
    return _transaction(
        refund_id,
        order_id,
        day,
        (Account.REFUNDS, goods_fen),
        (Account.SHIPPING, shipping_fen),
        (held, -goods_fen - shipping_fen),
    )


def paid_undue(payment_id: UUID, order_id: UUID, day: date, amount_fen: int) -> Transaction:
    """A payment that was not due: for a cancelled order, or a second time."""
    return _transaction(payment_id, order_id, day, (Account.PROVIDER, amount_fen), (Account.UNDUE, -amount_fen))


def sent_back(refund_id: UUID, order_id: UUID, day: date, amount_fen: int) -> Transaction:
    """A payment that was not due is back with its payer."""
    return _transaction(refund_id, order_id, day, (Account.UNDUE, amount_fen), (Account.PROVIDER, -amount_fen))


def by_day(transactions: Iterable[Transaction]) -> dict[date, dict[Account, int]]:
    """What each day moved on each account, days in order; each day adds up to zero."""
    days: dict[date, dict[Account, int]] = {}
    for transaction in transactions:
        moved = days.setdefault(transaction.day, dict.fromkeys(Account, 0))
        for entry in transaction.entries:
            moved[entry.account] += entry.amount_fen
    return dict(sorted(days.items()))


def balances(transactions: Iterable[Transaction]) -> dict[date, dict[Account, int]]:
    """How each account stands at the end of each day on which something moved."""
    stand = dict.fromkeys(Account, 0)
    closing = {}
    for day, moved in by_day(transactions).items():
        stand = {account: stand[account] + moved[account] for account in Account}
        closing[day] = stand
    return closing


def _transaction(source_id: UUID, order_id: UUID, day: date, *entries: tuple[Account, int]) -> Transaction:
    return Transaction(source_id, order_id, day, tuple(Entry(account, amount) for account, amount in entries if amount))
