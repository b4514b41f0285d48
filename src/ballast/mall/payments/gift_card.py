"""Paying with a gift card: the shop itself is the provider, and settles in the transaction of its caller, at once.

A card pays all of an order or nothing. It pays where it is kept: while a shop is served without its own database its cards are
not taken, since the same balance could be spent here and there (`at_home`). Nobody reads a balance and then writes another: the
database subtracts, and refuses what a card has not (`gift_card_covers`), so that two orders never share the same fen.

The card's row is locked after order, refund, quotas, coupon and member, before stock and product, as everywhere.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import IntegrityError
from psycopg.errors import CheckViolation

from ballast.mall import deeds
from ballast.mall.db import Connection
from ballast.mall.ids import new_id, token_hash
from ballast.mall.order_life import Locked, lock
from ballast.mall.owner import Owner
from ballast.mall.payments import received
from ballast.mall.payments.provider import ProviderRefused
from ballast.mall.queries import load
from ballast.mall.round_trips import begin_anew, flush, later
from ballast.mall.rules import gift_codes
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import RefundStatus, Status

_SQL = load("gift_cards")
_TABLES = ("gift_card", "gift_card_movement")


class Unusable(Refused):
    """There is no such card in this shop, or it is void or over: all look the same."""

    def __init__(self) -> None:
        super().__init__(
            "gift_card.unusable", "No gift card of this shop that is good has this code.", "Look at the code again."
        )


class Presented(msgspec.Struct, frozen=True):
    """A code that somebody has shown."""

    code_hash: bytes

    def look(self, now: datetime) -> tuple[str, dict[str, Any]]:
        """The statement that finds its card, for `cover`."""
        return _SQL.look, {"code_hash": self.code_hash, "now": now}


def present(typed: str) -> Presented:
    """Read a code as it was typed. Raises Unusable: it is no code."""
    code = gift_codes.read(typed)
    if code is None:
        raise Unusable
    return Presented(token_hash(code))


def at_home(connection: Connection) -> bool:
    """Whether this is the shop's own database, where its cards pay, and not a copy that others do not see."""
    return not deeds.are_heard(connection)


def cover(connection: Connection, found: dict[str, Any] | None, amount_fen: int) -> UUID:
    """The card that was found by `Presented.look`, if it can pay so much here and now.

    Raises:
        Refused: `gift_card.afloat`, where cards are not taken now; `gift_card.short`. Unusable.
    """
    if not at_home(connection):
        raise _afloat()
    if found is None:
        raise Unusable
    if found["balance_fen"] < amount_fen:
        raise _short(found["balance_fen"], amount_fen)
    card_id: UUID = found["card_id"]
    return card_id


async def charge(
    connection: Connection, card_id: UUID, order_id: UUID, amount_fen: int, owner: Owner, now: datetime
) -> UUID:
    """Take it off the card; at the latest by `settle`, which hears of it if it cannot be. Returns the payment's id."""
    payment_id = new_id()
    given = {
        "card_id": card_id,
        "payment_id": payment_id,
        "order_id": order_id,
        "amount_fen": amount_fen,
        "actor": owner.actor,
        "now": now,
    }
    await later(connection, _SQL.pay, given)
    return payment_id


async def settle(
    connection: Connection, order: Locked, card_id: UUID, payment_id: UUID, now: datetime, *, written: bool = False
) -> None:
    """The order is paid by what was charged: all that was put off is done now. `written`: see `received.settled`.

    Raises:
        IntegrityError: the card could not pay any more (`refuse`), or what was put off before cannot be.
    """
    code = str(card_id)
    await received.settled(connection, order, payment_id, provider=GiftCards.name, code=code, now=now, written=written)
    await flush(connection)


async def refuse(
    connection: Connection, card: Presented, amount_fen: int, error: IntegrityError, now: datetime
) -> None:
    """After an error of the database, in another transaction: if it is the card's, say why. Unusable; Refused:
    `gift_card.short`."""
    if error.diag.table_name not in _TABLES:
        return
    await begin_anew(connection)
    row = await (await connection.execute(*card.look(now))).fetchone()
    if row is None:
        raise Unusable from error
    raise _short(row["balance_fen"], amount_fen) from error


async def pay(connection: Connection, order_id: UUID, typed: str, *, owner: Owner, now: datetime) -> None:
    """Pay an order that waits for it. What this very card has paid before is paid, until all of it went back.

    Args:
        typed: the card's code.
        owner: whose order it must be.

    Raises:
        Refused: `gift_card.afloat`, `gift_card.unusable`, `gift_card.short`, `payment.not_due`; order_life.Unknown.
    """
    card = present(typed)
    order = await lock(connection, order_id, owner)
    if order.status != Status.PENDING_PAYMENT or order.pay_by <= now:
        given = {"code_hash": card.code_hash, "order_id": order_id}
        stands = order.refund_status != RefundStatus.REFUNDED
        if stands and await (await connection.execute(_SQL.paid_by, given)).fetchone() is not None:
            deeds.of_no_weight(connection)
            return
        raise Refused("payment.not_due", f"Order {order.number} does not wait for a payment.", "Look at the order.")
    found = await (await connection.execute(*card.look(now))).fetchone()
    card_id = cover(connection, found, order.total_fen)
    payment_id = await charge(connection, card_id, order_id, order.total_fen, owner, now)
    try:
        await settle(connection, order, card_id, payment_id, now)
    except IntegrityError as error:
        await refuse(connection, card, order.total_fen, error, now)
        raise


class GiftCards:
    """See `provider.Settling`."""

    name = "gift_card"

    async def give_back(
        self, connection: Connection, refund_id: UUID, payment_id: UUID, order_id: UUID, amount_fen: int, now: datetime
    ) -> None:
        """See `provider.Settling`. The card that paid has it again, also one that is void or over since. Refused:
        `gift_card.afloat`."""
        if not at_home(connection):
            raise _afloat()
        given = {
            "refund_id": refund_id,
            "payment_id": payment_id,
            "order_id": order_id,
            "amount_fen": amount_fen,
            "actor": f"provider:{self.name}",
            "now": now,
        }
        other = "Pay it back in another way."
        try:
            if await (await connection.execute(_SQL.give_back, given)).fetchone() is None:
                raise ProviderRefused("payment.refused", f"No gift card paid {payment_id}.", other)
        except CheckViolation as error:  # somebody has written a balance by hand
            what = f"The gift card that paid {payment_id} would hold more than it was issued for."
            raise ProviderRefused("payment.refused", what, other) from error


def _afloat() -> Refused:
    return Refused(
        "gift_card.afloat",
        "Gift cards cannot be taken while the shop's own database is being brought back.",
        "Pay in another way, or with the card in a few minutes.",
    )


def _short(balance_fen: int, amount_fen: int) -> Refused:
    return Refused(
        "gift_card.short",
        f"The gift card has {balance_fen} fen, and {amount_fen} fen are to be paid.",
        "Pay in another way: a card pays all of an order.",
        balance=plain_yuan(balance_fen),
        total=plain_yuan(amount_fen),
        balance_fen=balance_fen,
        total_fen=amount_fen,
    )
