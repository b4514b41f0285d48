"""What some transactions did, for whoever must decide what to do about it: whose rows, how many, from which values to which.

Read from the record alone: no server is asked, and it may be long gone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ballast.postgres.copytext import NULL, unescape
from ballast.recovery.difference import fields_of
from ballast.recovery.done import Found, find
from ballast.recovery.reversal import Effect, effects, joined
from ballast.recovery.rewind import lines_of
from ballast.recovery.rewound import Values
from ballast.vault import Vault, read_rows, without_columns
from ballast.vault.records import ByColumn, Cut, Relation

_SHOWN = 3
"""Moves of a column that are told, the most frequent first."""


class RowDone(msgspec.Struct, frozen=True):
    """What one transaction did to one row."""

    table: str
    tenant: str | None
    """None: shared, or not told by a column of the row."""
    transaction: str
    """Its position."""
    committed_at: datetime
    before: Values | None
    """None: it made the row."""
    after: Values | None
    """None: it removed the row."""

    @property
    def moved(self) -> tuple[str, ...]:
        """Columns that it changed."""
        if self.before is None or self.after is None:
            return ()
        return tuple(name for name, value in self.before.items() if self.after.get(name) != value)


class Move(msgspec.Struct, frozen=True):
    """A column of some rows went from one value to another."""

    before: str | None
    after: str | None
    rows: int


class ColumnDone(msgspec.Struct, frozen=True):
    """What happened to one column."""

    column: str
    rows: int
    moves: tuple[Move, ...]
    """The most frequent ones."""
    kinds: int
    """How many different moves there are."""


class TableDone(msgspec.Struct, frozen=True):
    """What happened to the rows of one tenant in one table."""

    tenant: str | None
    table: str
    inserted: int
    updated: int
    deleted: int
    columns: tuple[ColumnDone, ...]
    """Of the updated rows."""


class Damage(msgspec.Struct, frozen=True):
    """What transactions did."""

    transactions: tuple[str, ...]
    """Positions, the oldest first."""
    since: datetime
    """When the first of them was committed."""
    until: datetime
    """When the last of them was."""
    tables: tuple[TableDone, ...]
    """By tenant."""
    rows: tuple[RowDone, ...]
    """The oldest transaction first."""


def damage(vault: Vault, named: Sequence[str], wanted: Collection[str] | None = None) -> Damage:
    """What these transactions (numbers or positions) did to the rows of the tenants `wanted`; None: everybody's, and the shared.

    ConfigError, GapError as `done.find`."""
    found = list(reversed(find(vault, named, wanted)))
    rows = [row for each in found for row in _rows(vault, each)]
    moments = [each.transaction.committed_at for each in found]
    positions = tuple(each.transaction.position for each in found)
    return Damage(positions, min(moments), max(moments), tuple(summed(rows)), tuple(rows))


def summed(rows: Iterable[RowDone]) -> Iterator[TableDone]:
    """By tenant and table. A row that several transactions changed counts for each of them."""
    groups: defaultdict[tuple[str | None, str], list[RowDone]] = defaultdict(list)
    for row in rows:
        groups[row.tenant, row.table].append(row)
    for tenant, table in sorted(groups, key=lambda group: (group[0] is None, group)):
        those = groups[tenant, table]
        moves: defaultdict[str, Counter[tuple[str | None, str | None]]] = defaultdict(Counter)
        for row in those:
            for name in row.moved:
                assert row.before is not None
                assert row.after is not None
                moves[name][row.before[name], row.after[name]] += 1
        yield TableDone(
            tenant,
            table,
            sum(row.before is None for row in those),
            sum(row.before is not None and row.after is not None for row in those),
            sum(row.after is None for row in those),
            tuple(_column(name, counted) for name, counted in moves.items()),
        )


def _column(name: str, counted: Counter[tuple[str | None, str | None]]) -> ColumnDone:
    most = tuple(Move(before, after, rows) for (before, after), rows in counted.most_common(_SHOWN))
    return ColumnDone(name, counted.total(), most, len(counted))


def _rows(vault: Vault, found: Found) -> Iterator[RowDone]:
    transaction = found.transaction
    before, after = (vault.relations_at(cut) for cut in (transaction.before, transaction.after))
    collected: defaultdict[int, list[Effect]] = defaultdict(list)
    forms: dict[int, _Form] = {}
    for number in found.touched.relations:
        relation = after.get(number) or before[number]
        forms[number] = _Form(relation, before.get(number, relation))
    for scope in found.scopes(vault):
        earlier, later = (
            _lines(vault, cut, found.touched.relations, forms, scope) for cut in (transaction.before, transaction.after)
        )
        for number in earlier.keys() | later.keys():
            collected[number] += effects(earlier.get(number, ()), later.get(number, ()), forms[number].key)
    for number, parts in sorted(collected.items()):
        form = forms[number]
        for effect in joined(parts, form.key):
            yield RowDone(
                form.table,
                form.tenant(effect.line),
                transaction.position,
                transaction.committed_at,
                form.values(effect.before),
                form.values(effect.after),
            )


def _lines(
    vault: Vault, cut: Cut, numbers: Collection[int], forms: Mapping[int, _Form], scope: Mapping[str, Any]
) -> Mapping[int, list[bytes]]:
    lines: defaultdict[int, list[bytes]] = defaultdict(list)
    for chunk in read_rows(vault, cut, relations=numbers, **scope):
        form = forms[chunk.relation.number]
        lines[chunk.relation.number] += lines_of(without_columns(chunk, form.unknown_in(chunk.relation)).buffer)
    return lines


class _Form:
    """How the lines of a table are read: by the columns that it had both before and after."""

    def __init__(self, relation: Relation, former: Relation) -> None:
        self._kept = [attnum for attnum in relation.row_columns if attnum in former.row_columns]
        names = {column.attnum: column.name for column in relation.columns}
        self._names = [names[attnum] for attnum in self._kept]
        self.table = f"{relation.root_schema}.{relation.root_name}"
        whole = set(relation.key) <= set(self._kept)
        self.key = tuple(self._kept.index(attnum) for attnum in relation.key) if whole else ()
        rule = relation.tenant
        self._tenant = (
            self._kept.index(rule.attnum) if isinstance(rule, ByColumn) and rule.attnum in self._kept else None
        )

    def unknown_in(self, relation: Relation) -> list[int]:
        """Positions that are left out of its lines."""
        return [i for i, attnum in enumerate(relation.row_columns) if attnum not in self._kept]

    def tenant(self, line: bytes) -> str | None:
        """Whose the row is."""
        return _text(fields_of(line)[self._tenant]) if self._tenant is not None else None

    def values(self, line: bytes | None) -> Values | None:
        """By column."""
        if line is None:
            return None
        return {name: _text(field) for name, field in zip(self._names, fields_of(line), strict=True)}


def _text(field: bytes) -> str | None:
    return None if field == NULL else unescape(field).decode(errors="replace")
