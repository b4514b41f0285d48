"""Members: the level that somebody has by what he has spent, and the points that an order earns.

Points are worked out anew from what an order was paid less what went back, **rounded down**; what is given or taken is the
difference to what it has earned so far. So any refunds, in any order, end where one refund of their sum would, and an order
that is refunded whole has earned nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec

from ballast.mall.rules.money import WHOLE_BP


class Level(msgspec.Struct, frozen=True):
    """A level of a shop's members."""

    id: UUID
    name: str
    from_spent_fen: int
    """Who has spent so much, refunds taken off, has this level."""
    discount_bp: int = 0
    """Taken off the price of each piece, in basis points: 500 is 九五折."""
    points_per_100_yuan: int = 100
    """100: a point for each yuan."""

    def __post_init__(self) -> None:
        if not 0 <= self.discount_bp <= WHOLE_BP:
            raise ValueError(
                f"The level {self.name!r} takes off {self.discount_bp} basis points; 0 to 10000 are possible."
            )
        if self.from_spent_fen < 0 or self.points_per_100_yuan < 0:
            raise ValueError(f"The level {self.name!r} begins at, or gives, less than nothing.")


def level_at(levels: Iterable[Level], spent_fen: int) -> Level | None:
    """The highest level that so much reaches; None below the lowest."""
    reached = [level for level in levels if level.from_spent_fen <= spent_fen]
    return max(reached, key=lambda level: (level.from_spent_fen, level.id), default=None)


def next_level(levels: Iterable[Level], spent_fen: int) -> tuple[Level, int] | None:
    """The nearest level not reached yet, and how many fen are missing; None at the top."""
    ahead = [level for level in levels if level.from_spent_fen > spent_fen]
    if not ahead:
        return None
    level = min(ahead, key=lambda level: (level.from_spent_fen, level.id))
    return level, level.from_spent_fen - spent_fen


def points(paid_fen: int, refunded_fen: int, points_per_100_yuan: int) -> int:
    """What an order has earned by what is left of its payment, rounded down. The rate is that of its time of payment."""
    if not 0 <= refunded_fen <= paid_fen:
        raise ValueError(f"{refunded_fen} of {paid_fen} fen cannot have been refunded.")
    return (paid_fen - refunded_fen) * points_per_100_yuan // 10_000


def points_to_settle(paid_fen: int, refunded_fen: int, points_per_100_yuan: int, settled: int) -> int:
    """What is to be given (or, negative, taken) when the order was given `settled` points in all so far."""
    return points(paid_fen, refunded_fen, points_per_100_yuan) - settled
