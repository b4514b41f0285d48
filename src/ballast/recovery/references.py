"""Foreign keys of rows that change one by one beside others' writes, while the server's own triggers are silent.

Two things are asked of exactly the values concerned. Rows that come must have a parent: it is locked (FOR KEY SHARE, as the
server's trigger does), so that nobody removes it before we commit, and looked for after that. Rows that go must leave no
child behind: whoever is adding one holds the same lock on its parent, so the statement that removes the parent has waited
for it, and the question asked after that sees the child. Both need READ COMMITTED, where each statement
sees what was committed before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
from psycopg import sql

from ballast.postgres import ForeignKey, Table
from ballast.postgres.copytext import NULL
from ballast.recovery.difference import Difference, fields_of
from ballast.recovery.foreign_keys import binds, orphans
from ballast.recovery.livetable import LiveTable, among, row
from ballast.recovery.target import Target

_AT_ONCE = 1000
"""Values in one statement."""

Part = tuple[LiveTable, Difference]
"""A table and what is done to it."""


class Question(msgspec.Struct, frozen=True):
    """A statement whose answers are rows that stand in the way."""

    statement: str
    key: ForeignKey
    outside: bool
    """The rows refer to what goes; else they are rows that come, without a parent."""
    lines: tuple[tuple[LiveTable, bytes], ...] = ()
    """Where the answer is a number: the row that it means. Else it holds the row itself, third of four fields."""


class Obstacle(msgspec.Struct, frozen=True):
    """A row that keeps a foreign key from holding."""

    table: str
    constraint: str
    row: str
    parent: str
    outside: bool
    """It refers to a row that goes; else it comes, and lacks its parent."""


def locks(target: Target, parts: Sequence[Part]) -> Iterator[str]:
    """Statements that hold the parents of all rows that come until the end of the transaction."""
    for key, table, values in _coming(target, parts):
        parent = target.tables[key.ref_table_oid]
        names = [parent.column_name(attnum) for attnum in key.ref_columns]
        types = [table.types[target.tables[key.table_oid].column_name(attnum)] for attnum in key.columns]
        for some in _some(values):
            yield (
                f"SELECT count(*) FROM (SELECT FROM {_name(parent)} AS p WHERE {among('p', names, types, some)}"
                " FOR KEY SHARE) AS held"
            )


def questions(target: Target, parts: Sequence[Part]) -> Iterator[Question]:
    """What to ask after the changes and the locks. No answers: every foreign key holds."""
    for key, table, values in _coming(target, parts):
        parent, child = target.tables[key.ref_table_oid], target.tables[key.table_oid]
        types = [table.types[child.column_name(attnum)] for attnum in key.columns]
        match = " AND ".join(
            f"{sql.Identifier('p', parent.column_name(attnum)).as_string(None)} = v.c{i}"
            for i, attnum in enumerate(key.ref_columns)
        )
        listed = ", ".join(f"c{i}" for i in range(len(types)))
        for some in _some(values):
            numbered = ", ".join(f"({n}, {row(value, types)[1:]}" for n, value in enumerate(some))
            statement = (
                f"SELECT v.n FROM (VALUES {numbered}) AS v(n, {listed})"
                f" WHERE NOT EXISTS (SELECT FROM {_name(parent)} AS p WHERE {match}) LIMIT 1"
            )
            yield Question(statement, key, False, tuple((table, values[value]) for value in some))
    for key, table, values in _going(target, parts):
        yield from _children(target, key, table, values)
    for key, outside in _unknown(target, parts):
        (question,) = orphans(target, [(key, sql.SQL("true"))])
        yield Question(question.as_string(None), key, outside)


def obstacle(target: Target, question: Question, answer: Sequence[str]) -> Obstacle:
    """What an answer means."""
    child, parent = target.tables[question.key.table_oid], target.tables[question.key.ref_table_oid]
    if question.lines:
        table, line = question.lines[int(answer[0])]
        shown = "(" + ", ".join(f"{name}={value}" for name, value in table.values(line).items()) + ")"
    else:
        shown = answer[2]
    return Obstacle(
        f"{child.schema}.{child.name}",
        question.key.name,
        shown,
        f"{parent.schema}.{parent.name}",
        question.outside,
    )


def _children(target: Target, key: ForeignKey, table: LiveTable, values: dict[Values, bytes]) -> Iterator[Question]:
    child, parent = target.tables[key.table_oid], target.tables[key.ref_table_oid]
    own = [child.column_name(attnum) for attnum in key.columns]
    theirs = [parent.column_name(attnum) for attnum in key.ref_columns]
    types = [table.types[name] for name in theirs]
    match = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("p", above), sql.Identifier("child", name))
        for above, name in zip(theirs, own, strict=True)
    )
    for some in _some(values):
        statement = sql.SQL(
            "SELECT '', '', pg_catalog.concat(child), '' FROM {} AS child"
            " WHERE {} AND NOT EXISTS (SELECT FROM {} AS p WHERE {}) LIMIT 1"
        ).format(
            sql.SQL(_name(child)),
            sql.SQL(among("child", own, types, some)),
            sql.SQL(_name(parent)),
            match,
        )
        yield Question(statement.as_string(None), key, True)


Values = tuple[bytes, ...]


def _coming(target: Target, parts: Sequence[Part]) -> Iterator[tuple[ForeignKey, LiveTable, dict[Values, bytes]]]:
    """Each foreign key with the values that need a parent, and a row for each."""
    for table, found in parts:
        lines = [(None, line) for line in found.back]
        lines += [(change.standing.line, change.line) for change in found.changes]  # type: ignore[misc]
        for key in _keys_of(target, table):
            at = _positions(target.tables[key.table_oid], key.columns, table)
            if at is None:
                continue
            values: dict[Values, bytes] = {}
            for before, line in lines:
                value = _picked(line, at)
                if NULL not in value and (before is None or _picked(before, at) != value):
                    values.setdefault(value, line)
            if values:
                yield key, table, values


def _going(target: Target, parts: Sequence[Part]) -> Iterator[tuple[ForeignKey, LiveTable, dict[Values, bytes]]]:
    """Each foreign key with the values of parents that are no longer there."""
    for table, found in parts:
        lines = [(row.line, None) for row in found.gone]
        lines += [(change.standing.line, change.line) for change in found.changes]  # type: ignore[misc]
        for key in _keys_to(target, table):
            at = _positions(target.tables[key.ref_table_oid], key.ref_columns, table)
            if at is None:
                continue
            values: dict[Values, bytes] = {}
            for line, after in lines:
                value = _picked(line, at)
                if NULL not in value and (after is None or _picked(after, at) != value):
                    values.setdefault(value, line)
            if values:
                yield key, table, values


def _unknown(target: Target, parts: Sequence[Part]) -> Iterator[tuple[ForeignKey, bool]]:
    """Foreign keys over columns that the record does not have: all rows must be asked."""
    for table, found in parts:
        if found.back:
            for key in _keys_of(target, table):
                if _positions(target.tables[key.table_oid], key.columns, table) is None:
                    yield key, False
        if found.gone or found.changes:
            for key in _keys_to(target, table):
                if _positions(target.tables[key.ref_table_oid], key.ref_columns, table) is None:
                    yield key, True


def _keys_of(target: Target, table: LiveTable) -> list[ForeignKey]:
    return [key for key in target.catalog.foreign_keys if binds(key) and key.table_oid == table.table.oid]


def _keys_to(target: Target, table: LiveTable) -> list[ForeignKey]:
    named = (table.table.oid, table.table.root_oid)
    return [key for key in target.catalog.foreign_keys if binds(key) and key.ref_table_oid in named]


def _positions(named: Table, attnums: Sequence[int], table: LiveTable) -> tuple[int, ...] | None:
    """Where these columns stand in a line (by name: a partition numbers them otherwise than its root)."""
    names = [named.column_name(attnum) for attnum in attnums]
    return tuple(table.columns.index(name) for name in names) if set(names) <= set(table.columns) else None


def _picked(line: bytes, at: Sequence[int]) -> Values:
    fields = fields_of(line)
    return tuple(fields[position] for position in at)


def _some(values: Iterable[Values]) -> Iterator[list[Values]]:
    left = iter(values)
    while some := list(islice(left, _AT_ONCE)):
        yield some


def _name(table: Table) -> str:
    return sql.Identifier(table.schema, table.name).as_string(None)
