"""What becomes of a seeded order, by chance and by its age; and who looked at the shop meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from ballast.mall import tables
from ballast.mall.past import GoneBack, Goods
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.refunding import PaidLine, RefundState, worth_fen
from ballast.mall.rules.states import Event
from ballast.mall.seed.words import words

T = TypeVar("T")
OVER = timedelta(days=90)
PAY_WITHIN = timedelta(minutes=30)
_CLOSED_AFTER = timedelta(days=7)
_RECEIVED_AFTER = timedelta(days=10)
_BY_HOUR = (1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 8, 7, 7, 8, 8, 8, 9, 12, 14, 14, 9, 4)
"""How busy each hour of a day in China is."""


def one_of(rng: Random, of: Sequence[T]) -> T:
    """One of them."""
    return of[int(rng.random() * len(of))]


def moment(rng: Random, n: int, count: int, now: datetime) -> datetime:
    """Spread over the ninety days, more of them lately, at the hours at which people buy; the last few within the hour."""
    if n >= count - max(1, count // 50):
        return now - timedelta(minutes=1 + 25 * rng.random())
    lately: float = rng.random() ** 0.7
    day = now - OVER * (1 - lately)
    hour = rng.choices(range(24), _BY_HOUR)[0]
    at = day.replace(minute=int(rng.random() * 60), second=int(rng.random() * 60), microsecond=0)
    at += timedelta(hours=(hour - 8 - at.hour) % 24)
    return min(at, now - timedelta(minutes=40))


def life(
    rng: Random, goods: Sequence[Goods], breakdown: Breakdown, placed_at: datetime, now: datetime
) -> dict[str, Any]:
    """What happened to it, as far as its time has come."""
    chance = rng.random()
    if chance < 0.1:
        if placed_at + PAY_WITHIN >= now:
            return {}
        if chance < 0.02:
            at = placed_at + timedelta(minutes=1 + 20 * rng.random())
            return {"cancelled_at": at, "cancelled_by": Event.CANCEL_BY_SHOPPER}
        return {"cancelled_at": placed_at + PAY_WITHIN}
    paid_at = placed_at + timedelta(seconds=20 + 500 * rng.random())
    if paid_at >= now:
        return {}
    life: dict[str, Any] = {"paid_at": paid_at}
    if chance < 0.13:
        back_at = paid_at + timedelta(hours=1 + 3 * rng.random())
        if back_at < now:
            everything = tuple((n, one.quantity, one.total_fen) for n, one in enumerate(goods, 1))
            life["back"] = (_gone_back(rng, everything, breakdown.shipping.fee_fen, paid_at, back_at),)
        return life
    shipped_at = paid_at + timedelta(hours=4 + 40 * rng.random())
    if shipped_at >= now:
        return life
    life |= {
        "shipped_at": shipped_at,
        "carrier": one_of(rng, words().carriers),
        "tracking": f"SF{int(rng.random() * 10**13):013}",
    }
    by_hand = rng.random() < 0.6
    received_at = shipped_at + (timedelta(days=1 + 5 * rng.random()) if by_hand else _RECEIVED_AFTER)
    if received_at >= now:
        return life
    life |= {"received_at": received_at, "by_hand": by_hand}
    closed_at = received_at + _CLOSED_AFTER
    asked_at = received_at + timedelta(hours=1 + 80 * rng.random())
    line = 1 + int(rng.random() * len(goods))
    one = goods[line - 1]
    piece = ((line, 1, worth_fen(PaidLine(UUID(int=line), one.quantity, one.total_fen), 1)),)
    # Of those that can still be decided about there are few: so that every shop has some, more of them are asked for.
    if chance < (0.35 if closed_at >= now else 0.2) and asked_at < now and piece[0][2]:
        if closed_at >= now:
            life["back"] = (
                GoneBack(asked_at, piece, status=RefundState.REQUESTED, reason=one_of(rng, words().complaints)),
            )
            return life
        if chance < 0.17:
            life["back"] = (_gone_back(rng, piece, 0, asked_at, asked_at + timedelta(hours=1 + 20 * rng.random())),)
            if (
                one.total_fen == sum(each.total_fen for each in goods) + breakdown.shipping.fee_fen
                and one.quantity == 1
            ):
                return life  # all of it is back: that closes it
        else:
            life["back"] = (
                GoneBack(
                    asked_at,
                    piece,
                    status=RefundState.REFUSED,
                    decided_at=asked_at + timedelta(hours=6),
                    reason=one_of(rng, words().complaints),
                    answer=one_of(rng, words().refusals),
                ),
            )
    if closed_at < now:
        life["closed_at"] = closed_at
    return life


def _gone_back(
    rng: Random, lines: tuple[tuple[int, int, int], ...], shipping_fen: int, asked_at: datetime, at: datetime
) -> GoneBack:
    return GoneBack(
        asked_at,
        lines,
        shipping_fen,
        RefundState.SUCCEEDED,
        decided_at=asked_at + (at - asked_at) / 2,
        succeeded_at=at,
        reason=one_of(rng, words().complaints),
        answer=one_of(rng, words().answers),
    )


def visits(rng: Random, days: int, now: datetime) -> list[tables.VisitHour]:
    """Who came, hour by hour."""
    popular = 0.5 + 3 * rng.random()
    last = now.replace(minute=0, second=0, microsecond=0)
    found = []
    for back in range(days * 24):
        hour = last - timedelta(hours=back)
        busy = _BY_HOUR[(hour.hour + 8) % 24]
        views = int(busy * popular * (0.5 + rng.random()))
        if views > 2:
            visitors = max(1, views // 3)
            found.append(tables.VisitHour(hour, views, visitors, visitors // 3, visitors // 6))
    return found
