"""Which of many transactions did the most damage, the moment just before the worst, and which to undo.

Pure. What a row was is lost when it is deleted, and just as well when it is changed: prices set to nothing delete no row. A
transaction over several tenants comes before any of a single one: an application that serves tenants hardly ever makes
one, and somebody with a script does. Rows that a TRUNCATE or a dropped table took count as deleted. A row whose key or
tenant changed is one that went and one that came: that is how the stream tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

import msgspec

from ballast.vault.moment import cut_of
from ballast.vault.records import Cut

UNDOING = "undoing transaction"
"""So an undo tells of itself as an actor, before the positions in brackets."""
_POSITIONS = re.compile(r"\((\d+/[0-9A-F]+/[0-9A-F]+)\)")
_ALL_TENANTS = re.compile(rf"{UNDOING}s? [^:]*\)(:|$)", re.DOTALL)


class TableCount(msgspec.Struct, frozen=True):
    """What happened to the rows of one table."""

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    """By DELETE, TRUNCATE or with the table."""
    how: str = ""
    """`truncated` or `dropped`, if not row by row."""
    counted: bool = True
    """False: how many rows a TRUNCATE or DROP took is not known, since the record has a gap there."""

    def __add__(self, other: TableCount) -> TableCount:
        return TableCount(
            self.table,
            self.inserted + other.inserted,
            self.updated + other.updated,
            self.deleted + other.deleted,
            self.how or other.how,
            self.counted and other.counted,
        )


class Summary(msgspec.Struct, frozen=True):
    """One transaction, or all of somebody's."""

    position: str
    """timeline/X/Y of the transaction, as `--at` takes it: just before it. Empty for several."""
    xid: int | None
    committed_at: datetime | None
    actor: str | None
    tag: str | None
    tables: tuple[TableCount, ...]
    """The one that lost most first."""
    transactions: int = 1
    tenants: int = 0
    """Whose rows it wrote to; 0: shared ones alone, or not known (TRUNCATE)."""
    hit: tuple[str, ...] = ()
    """Some of them."""

    @property
    def lost(self) -> int:
        """Rows of which it took the earlier values."""
        return self.deleted + self.updated

    @property
    def deleted(self) -> int:
        """Rows that it took away."""
        return sum(table.deleted for table in self.tables)

    @property
    def updated(self) -> int:
        """Rows that it changed."""
        return sum(table.updated for table in self.tables)

    @property
    def inserted(self) -> int:
        """Rows that it added."""
        return sum(table.inserted for table in self.tables)

    @property
    def harm(self) -> tuple[bool, bool, int, int, int]:
        """Sorts by how much can have been lost: an emptied table of unknown size first, then what went over several tenants, then
        by rows deleted or changed, of these by the deleted ones; new ones come last."""
        unknown = any(not table.counted for table in self.tables)
        return unknown, self.tenants > 1, self.lost, self.deleted, self.inserted


class Proposal(msgspec.Struct, frozen=True):
    """A moment to go back to."""

    at: str
    """For `--at`."""
    committed_at: datetime | None
    """When the transaction after it was committed."""
    why: str


def ranked(summaries: Iterable[Summary], limit: int = 0) -> list[Summary]:
    """The most destructive first, of equal ones the earlier; `limit` of them, 0: all."""
    found = sorted(summaries, key=lambda summary: summary.harm, reverse=True)
    return found[:limit] if limit else found


def merged(tables: Iterable[TableCount]) -> tuple[TableCount, ...]:
    """One count a table, the one that lost most first."""
    totals: dict[str, TableCount] = {}
    for table in tables:
        totals[table.table] = totals[table.table] + table if table.table in totals else table
    return tuple(sorted(totals.values(), key=lambda t: (t.counted, -t.deleted, -t.updated, -t.inserted, t.table)))


def proposed(summaries: Iterable[Summary]) -> Proposal | None:
    """Just before the most destructive transaction; None where none took or changed a row."""
    worst = next(iter(ranked(summaries, 1)), None)
    if worst is None or not (worst.lost or worst.harm[0]):
        return None
    what = worst.tables[0]
    took, name = (what.deleted, "deleted") if what.deleted or not what.counted else (what.updated, "changed")
    rows = f"{took:,} rows" if what.counted else "rows"
    who = f" by {worst.actor}" if worst.actor else ""
    how = what.how or name
    return Proposal(
        worst.position,
        worst.committed_at,
        f"just before transaction {worst.xid}{who}, which {how} {rows} of {what.table}",
    )


def undone_by(actor: str) -> tuple[str, ...]:
    """Positions of the transactions that somebody undid, of whom an undo tells as `actor`."""
    _, said, rest = actor.partition(UNDOING)
    return tuple(_POSITIONS.findall(rest)) if said else ()


def to_undo(summaries: Iterable[Summary]) -> tuple[Summary, ...]:
    """Transactions that belong together and are likely to be undone, the oldest first: those over several tenants, and those of
    the same actors; where there is none over several, the most destructive one.

    Left out are those that undo others, and those that were undone for all tenants. Where that leaves none over several, nothing
    is proposed."""
    known = list(summaries)
    undoing = [s for s in known if s.actor is not None and UNDOING in s.actor]
    undone = {
        position
        for each in undoing
        if _ALL_TENANTS.search(each.actor or "")
        for position in undone_by(each.actor or "")
    }
    left = [s for s in known if s not in undoing and s.position not in undone and s.lost]
    across = [s for s in left if s.tenants > 1]
    actors = {s.actor for s in across if s.actor is not None}
    chosen = [s for s in left if s.tenants > 1 or s.actor in actors]
    if not (across or undone):
        chosen = ranked(left, 1)
    return tuple(sorted(chosen, key=_order))


def _order(summary: Summary) -> Cut:
    return cut_of(summary.position)
