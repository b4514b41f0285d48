"""What shoppers do, noted as it can be done again elsewhere.

At home nobody listens, and a note costs nothing. While a shop is served without its own database (`db`), what was noted in a
transaction is accepted durably before the transaction commits, and is done again at home afterwards by the same functions, with
the same ids and times. A transaction that has changed rows and noted nothing is a change that would be lost: it is refused. So is
one that noted only what was answered.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ballast.mall.ids import new_id


class Deed(msgspec.Struct, frozen=True):
    """One thing that was done."""

    kind: str
    key: str
    """Names it within its shop for ever."""
    payload: Any
    """For msgspec to encode as JSON: all that is needed to do it again."""
    urgent: bool = False
    """It must be taken in even where there is hardly room left: money came for an accepted order."""
    beside: bool = False
    """It goes along with another, and is none by itself."""


class Journal:
    """Of one transaction, on its connection as `journal` where somebody listens."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        self.of_no_weight = False
        """Something was changed that need not be kept."""
        self.for_home_alone = False
        """Something was changed that no deed tells of: away from home it is refused, whatever else was noted."""


def note(
    connection: Any, kind: str, payload: Any, *, key: str = "", urgent: bool = False, beside: bool = False
) -> None:
    """This was done, in the transaction of `connection`. `key`: where the same deed may come twice; default: a new one."""
    journal = _journal(connection)
    if journal is not None:
        journal.deeds.append(Deed(kind, f"{kind}:{key or new_id()}", payload, urgent, beside))


def are_heard(connection: Any) -> bool:
    """Whether somebody listens: the shop is served without its own database."""
    return _journal(connection) is not None


def of_no_weight(connection: Any) -> None:
    """What this transaction changes need not be kept, such as when somebody was seen last."""
    journal = _journal(connection)
    if journal is not None:
        journal.of_no_weight = True


def for_home_alone(connection: Any) -> None:
    """What this transaction changes is noted by nobody, or not all of it: away from home it would be lost, or half of it."""
    journal = _journal(connection)
    if journal is not None:
        journal.for_home_alone = True


def _journal(connection: Any) -> Journal | None:
    return getattr(connection, "journal", None)
