"""Gift cards as a shop's people have them: issued, found, looked at, made void. Paying with one is in `payments.gift_card`.

A code is told once, when its card is issued; what is kept is its hash, and its last four characters for people. Every change of
a balance is a movement, so that the movements of a card add up to what is left on it.

A void card pays nothing, and what was left on it is the shop's. What a refund gives back goes to the card that paid, also when
that is void or over by then: it stands there, visibly, and pays nothing until the shop takes it off (`void` once more) and issues
another card for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import audit, idempotency
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id, token_hash
from ballast.mall.queries import load
from ballast.mall.rules import gift_codes
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.refused import Refused

_SQL = load("gift_cards")
MOST_FEN = 10_000_000
"""On one card."""
MOST_AT_ONCE = 1000
State = Literal["good", "spent", "over", "voided"]


class Terms(msgspec.Struct, frozen=True):
    """What cards are issued for: each for `amount_fen`, good until `expires_at` (None: without end). `note`: for the shop."""

    cards: int
    amount_fen: int
    expires_at: datetime | None = None
    note: str = ""


class Issued(msgspec.Struct, frozen=True):
    """A new card. `code`: as it is handed out, told this once."""

    card_id: UUID
    code: str


class Card(msgspec.Struct, frozen=True):
    """A card as the shop sees it."""

    card_id: UUID
    last4: str
    initial_fen: int
    balance_fen: int
    status: Literal["active", "voided"]
    expires_at: datetime | None
    note: str
    issued_by: str
    issued_at: datetime
    voided_at: datetime | None
    void_reason: str

    def state(self, now: datetime) -> State:
        """Whether it can pay."""
        if self.status == "voided":
            return "voided"
        if self.expires_at is not None and self.expires_at <= now:
            return "over"
        return "good" if self.balance_fen else "spent"


class Movement(msgspec.Struct, frozen=True):
    """A change of a card's balance; `amount_fen` below 0: less was left."""

    movement_id: UUID
    kind: Literal["issued", "paid", "refunded", "voided"]
    amount_fen: int
    order_id: UUID | None
    number: str | None
    """Of the order."""
    actor: str
    reason: str
    at: datetime


class UnknownCard(Refused):
    """The shop has no such card."""

    def __init__(self, card_id: UUID) -> None:
        super().__init__("gift_card.unknown", f"There is no gift card {card_id}.", "Look at the list of cards.")


class _Done(msgspec.Struct, frozen=True):
    cards: int


async def issue(
    connection: Connection, shop_id: UUID, terms: Terms, *, key: str, by: By, actor: str, now: datetime
) -> Sequence[Issued]:
    """New cards, with their codes.

    Args:
        key: of the form: sent twice it issues once.

    Raises:
        Refused: `gift_card.how_many`, `gift_card.amount`, `gift_card.ends_before`, `gift_card.issued_before` (the form was sent
            before: its cards are there, their codes are told no more).
    """
    if not 1 <= terms.cards <= MOST_AT_ONCE:
        raise Refused("gift_card.how_many", f"1 to {MOST_AT_ONCE} cards at once.", "Issue fewer.", most=MOST_AT_ONCE)
    if not 1 <= terms.amount_fen <= MOST_FEN:
        most = plain_yuan(MOST_FEN)
        raise Refused("gift_card.amount", f"A card is for 0.01 to {most} yuan.", "Write another amount.", most=most)
    if terms.expires_at is not None and terms.expires_at <= now:
        raise Refused("gift_card.ends_before", "A card cannot be over before it is issued.", "Choose a later end.")
    made: list[Issued] = []

    async def work() -> _Done:
        codes = [gift_codes.made(secrets.token_bytes(gift_codes.RANDOM_BYTES)) for _ in range(terms.cards)]
        made.extend(Issued(new_id(), gift_codes.spoken(code)) for code in codes)
        await connection.execute(
            _SQL.issue,
            {
                "cards": [one.card_id for one in made],
                "movements": [new_id() for _ in made],
                "hashes": [token_hash(code).hex() for code in codes],
                "last4": [code[-4:] for code in codes],
                "amount_fen": terms.amount_fen,
                "expires_at": terms.expires_at,
                "note": terms.note.strip()[:200],
                "actor": actor,
                "now": now,
            },
        )
        await audit.note_in_shop(
            connection,
            by,
            "gift_card.issued",
            now,
            shop_id=shop_id,
            subject=terms.note.strip()[:200],
            cards=terms.cards,
            amount_fen=terms.amount_fen,
            first=codes[0][-4:],
        )
        return _Done(terms.cards)

    await idempotency.once(connection, f"gift_cards:{actor}", key, terms, _Done, work, now)
    if not made:
        raise Refused(
            "gift_card.issued_before",
            "These cards were issued before.",
            "Their codes are told no more: void them if they are lost.",
        )
    return made


async def page(
    connection: Connection, *, last4: str = "", before: UUID | None = None, most: int = 50
) -> tuple[Card, ...]:
    """Cards, the newest first. `before`: the last one of the page before. `last4`: only those whose code ends so."""
    given = {"last4": last4.strip().upper() or None, "before": before, "most": most}
    cursor = await connection.execute(_SQL.page, given)
    return tuple(msgspec.convert(row, Card) for row in await cursor.fetchall())


async def owed_fen(connection: Connection, now: datetime) -> int:
    """What is left on all cards that are good."""
    row = await (await connection.execute(_SQL.owed, {"now": now})).fetchone()
    return int(row["owed_fen"]) if row else 0


async def one(connection: Connection, card_id: UUID) -> Card:
    """A card. Raises UnknownCard."""
    row = await (await connection.execute(_SQL.one, {"card_id": card_id})).fetchone()
    if row is None:
        raise UnknownCard(card_id)
    return msgspec.convert(row, Card)


async def movements(connection: Connection, card_id: UUID, *, most: int = 200) -> tuple[Movement, ...]:
    """The latest movements of a card, the newest first."""
    cursor = await connection.execute(_SQL.movements, {"card_id": card_id, "most": most})
    return tuple(msgspec.convert(row, Movement) for row in await cursor.fetchall())


async def void(
    connection: Connection, shop_id: UUID, card_id: UUID, reason: str, *, by: By, actor: str, now: datetime
) -> int:
    """It pays nothing any more, and nothing is left on it. Of one that is void already: what came back to it since is taken off.

    Returns:
        What was taken off, in fen.

    Raises:
        Refused: `gift_card.reason` (none was given), `gift_card.void` (it is, and nothing is on it); UnknownCard.
    """
    said = reason.strip()[:200]
    if not said:
        raise Refused("gift_card.reason", "A card is not made void without a reason.", "Write one.")
    card = await (await connection.execute(_SQL.lock, {"card_id": card_id})).fetchone()
    if card is None:
        raise UnknownCard(card_id)
    left: int = card["balance_fen"]
    if card["status"] == "voided" and not left:
        raise Refused("gift_card.void", "The card is void already.", "Look at it.")
    given = {"card_id": card_id, "reason": said, "now": now, "movement_id": new_id(), "actor": actor, "left_fen": left}
    await connection.execute(_SQL.void, given)
    await audit.note_in_shop(
        connection,
        by,
        "gift_card.voided",
        now,
        shop_id=shop_id,
        subject=card["last4"],
        amount_fen=left,
        reason=said,
    )
    return left
