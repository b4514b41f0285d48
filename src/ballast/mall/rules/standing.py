"""How a shop stands with the platform, and how it comes from one state into another."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from ballast.mall.rules.refused import Refused

Move = Literal["suspend", "reopen", "close"]


class Standing(StrEnum):
    """What a shop may do follows from this, and from nothing else."""

    OPEN = "open"
    LAPSED = "lapsed"
    """open, but what was paid for has ended"""
    SUSPENDED = "suspended"
    CLOSING = "closing"
    """the grace period of a shop that is being closed"""
    CLOSED = "closed"


_MOVES: dict[Move, tuple[frozenset[str], str]] = {
    "suspend": (frozenset({"open"}), "suspended"),
    # Nothing of a closed shop is deleted, so that it can come back as well.
    "reopen": (frozenset({"suspended", "closing", "closed"}), "open"),
    "close": (frozenset({"open", "suspended"}), "closing"),
}


def standing(status: str, service_until: datetime, closing_at: datetime | None, now: datetime) -> Standing:
    """How it stands, from its line of the directory. A grace period ends by itself, whether or not a job has noted it."""
    if status == "closing" and closing_at is not None and closing_at <= now:
        return Standing.CLOSED
    if status == "open" and service_until <= now:
        return Standing.LAPSED
    return Standing(status)


def moves_from(status: str) -> tuple[Move, ...]:
    """What can be done with a shop of this status."""
    return tuple(move for move, (before, _) in _MOVES.items() if status in before)


def moved(status: str, move: Move) -> str:
    """The status after the move. Refused where it leads nowhere from this one."""
    before, after = _MOVES[move]
    if status not in before:
        raise Refused(
            "shop.move",
            f"A shop that is {status} cannot {move}.",
            "Reload the page to see how it stands.",
            status=status,
        )
    return after
