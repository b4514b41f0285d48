"""Which of many transactions did the most damage: those that took most rows away first, and the moment just before the worst.

Pure. Rows that a TRUNCATE or a dropped table took count as deleted. A row whose key or tenant changed is one that went
and one that came: that is how the stream tells it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec


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
    def harm(self) -> tuple[bool, int, int, int]:
        """Sorts by how much can have been lost: an emptied table of unknown size first, deleted rows, changed ones, new ones."""
        unknown = any(not table.counted for table in self.tables)
        return unknown, self.deleted, self.updated, self.inserted


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
    if worst is None or not any(worst.harm[:3]):
        return None
    what = worst.tables[0]
    took, name = (what.deleted, "deleted") if worst.deleted or not what.counted else (what.updated, "changed")
    rows = f"{took:,} rows" if what.counted else "rows"
    who = f" by {worst.actor}" if worst.actor else ""
    how = what.how or name
    return Proposal(
        worst.position,
        worst.committed_at,
        f"just before transaction {worst.xid}{who}, which {how} {rows} of {what.table}",
    )
