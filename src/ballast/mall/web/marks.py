"""The last line of a page as a text, for the address of the next: what the list is sorted by, and an id."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar
from uuid import UUID

T = TypeVar("T")


def mark(place: datetime | int, key: UUID) -> str:
    """For `read`."""
    return f"{place.isoformat() if isinstance(place, datetime) else place}|{key}"


def read(text: str, place: Callable[[str], T]) -> tuple[T, UUID] | None:
    """What `mark` made; None for anything else: then the first page is shown.

    Args:
        place: `moment` or `number`.
    """
    said, _, key = text.partition("|")
    try:
        return place(said), UUID(key)
    except ValueError:
        return None


def moment(text: str) -> datetime:
    """A moment with its zone; ValueError."""
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("no zone")
    return found


def number(text: str) -> int:
    """A number that the database holds; ValueError."""
    found = int(text[:20])
    if abs(found) >= 2**63:
        raise ValueError("too large")
    return found
