"""What a rewind or an undo did, or would do: for each table how many rows come back, change and go, with a sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from ballast.recovery.difference import Change, Difference, Standing, moved
from ballast.recovery.livetable import LiveTable

_SAMPLE = 3
"""Rows shown of each kind and table."""

Values = dict[str, str | None]
"""By column; None is null."""


class Sample(msgspec.Struct, frozen=True, omit_defaults=True):
    """One row of those concerned."""

    what: Literal["comes back", "changes", "goes"]
    key: Values
    """Empty where the table has none."""
    before: Values | None = None
    """As it stands; of a row that changes only what differs."""
    after: Values | None = None


class TableChange(msgspec.Struct, frozen=True):
    """What happens to one table."""

    table: str
    comes_back: int
    changes: int
    goes: int
    sample: tuple[Sample, ...]


class Left(msgspec.Struct, frozen=True):
    """A row that later changes touched."""

    table: str
    key: Values
    made: Values | None
    """As the transaction left it; None: it removed it."""
    found: Values | None
    """As it stands; None: there is none."""
    before: Values | None = None
    """As it was before the transaction; None: there was none."""
    becomes: Values | None = None
    """As it will stand, by what was asked."""
    tenant: str | None = None
    """None: shared, or a tenant only through another table's row."""
    mergeable: bool = False
    """Undo and later changes can both be kept, at least in part."""


class OfTenant(msgspec.Struct, frozen=True):
    """Of an undo: what becomes of one tenant's rows."""

    tenant: str | None
    """None: shared rows, and those that are a tenant's only through another table's row."""
    put_back: int
    """Rows that are as before."""
    merged: int
    """Rows in which later changes are kept beside that, or were overridden (`force`)."""
    left: int
    """Rows that stay as they are because of later changes."""


class Rewound(msgspec.Struct, frozen=True):
    """The end of a rewind or an undo."""

    done: bool
    """False: a dry run, or there was nothing to do."""
    tables: tuple[TableChange, ...]
    """Those in which something changes."""
    actor: str
    """As `ballast history` will show it."""
    elapsed_s: float
    compared: int = 0
    """Rows that stood as they should, besides those in `tables`."""
    xid: int | None = None
    before: str | None = None
    """The position just before it, for `--at`: leads back to how it was."""
    tries: int = 1
    """How often it was looked anew because somebody wrote to the same rows."""
    conflicts: tuple[Left, ...] = ()
    """Of an undo: rows that later changes touched, and that were left alone or forced, as asked."""
    already: int = 0
    """Of an undo: rows that were as before the transaction already."""
    warnings: tuple[str, ...] = ()
    by_tenant: tuple[OfTenant, ...] = ()
    """Of an undo."""

    @property
    def rows(self) -> int:
        """How many rows come back, change or go."""
        return sum(table.comes_back + table.changes + table.goes for table in self.tables)


def told(table: LiveTable, found: Difference) -> TableChange:
    """A difference for people."""
    return TableChange(table.title, len(found.back), len(found.changes), len(found.gone), tuple(_samples(table, found)))


def key_values(table: LiveTable, line: bytes) -> Values:
    """The key of a row by column."""
    values = table.values(line)
    return {table.columns[position]: values[table.columns[position]] for position in table.key}


def _samples(table: LiveTable, found: Difference) -> Iterator[Sample]:
    for line in found.back[:_SAMPLE]:
        yield Sample("comes back", key_values(table, line), None, table.values(line))
    for change in found.changes[:_SAMPLE]:
        yield _changed(table, change)
    for row in found.gone[:_SAMPLE]:
        yield _going(table, row)


def _changed(table: LiveTable, change: Change) -> Sample:
    names = [table.columns[position] for position in moved(change)]
    before, after = table.values(change.standing.line), table.values(change.line)
    return Sample(
        "changes",
        key_values(table, change.line),
        {name: before[name] for name in names},
        {name: after[name] for name in names},
    )


def _going(table: LiveTable, row: Standing) -> Sample:
    return Sample("goes", key_values(table, row.line), table.values(row.line), None)
