"""A table of a live server whose rows are looked at and changed one by one, while everybody writes on.

Each row is looked at together with what names its version: its table (of a partitioned one, the partition), its place in
the table's file (`ctid`) and the transaction that wrote it (`xmin`). A version that somebody has changed or deleted
meanwhile bears another name, and a place that is used again holds a row of a transaction that was not there when
we looked. So a statement that asks for a version by all three touches exactly the row that was seen, or none; by how many
it touched one knows whether anybody came in between. (With `ctid` alone neither would hold: places are used again, and
PostgreSQL does not look at `ctid` again after it has waited for a lock.) It works without a key as well as with one.

Within one transaction only: its first look keeps VACUUM FULL and CLUSTER, which give rows new places, off the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from psycopg import sql

from ballast.postgres.copytext import NULL, unescape
from ballast.recovery.difference import Change, Difference, Standing, fields_of, moved
from ballast.recovery.target import Place, Target
from ballast.vault.records import ByColumn, Relation, Via

_VERSION_FIELDS = 3
_AT_ONCE_ROWS = 500
_AT_ONCE_BYTES = 1 << 20
"""Of values in one statement."""

T = TypeVar("T")


class LiveTable:
    """One table of `target` with the recorded columns that it has, and statements about single rows of it.

    `places`: the recorded relations that stand in it; several, where the record has partitions and the server one table."""

    def __init__(self, target: Target, places: Sequence[Place]) -> None:
        self.target, self.places, self.table = target, tuple(places), places[0].table
        self.columns = places[0].columns
        self.title = f"{self.table.schema}.{self.table.name}"
        by_name = {column.name: column for column in self.table.columns}
        self.types = {name: by_name[name].type for name in self.columns}
        self._fixed = frozenset(name for name in self.columns if by_name[name].identity == "a")
        """Identity columns that only an INSERT may write (and so COPY)."""
        relation = places[0].relation
        self.key = _positions(relation, relation.key, self.columns)
        self._leads = _positions(relation, _leading(relation), self.columns)
        self._only = places[0].only.as_string(None)
        self.copy_in = places[0].copy_in().as_string(None)

    def look(self, condition: sql.Composable, *, lock: bool = False) -> str:
        """COPY of the rows (of `t`) that fulfil the condition, each with its version: see `standing`.

        `lock`: whoever wants to change or delete them waits until the end of the transaction."""
        names: list[sql.Composable] = [sql.SQL("t.tableoid"), sql.SQL("t.ctid"), sql.SQL("t.xmin")]
        names += [sql.Identifier("t", column) for column in self.columns]
        return (
            sql.SQL("COPY (SELECT {} FROM {} AS t WHERE {}{}) TO STDOUT")
            .format(
                sql.SQL(", ").join(names),
                self.places[0].only,
                condition,
                sql.SQL(" FOR UPDATE OF t" if lock else ""),
            )
            .as_string(None)
        )

    def looks_of_own(self, lines: Sequence[bytes]) -> Iterator[str]:
        """COPYs of the rows that the transaction under way has written, which are to be these, as the record has them."""
        for condition in self.about(lines):
            own = sql.SQL("t.xmin = pg_current_xact_id()::xid AND {}").format(condition)
            yield self.places[0].copy_out(own).as_string(None)

    def about(self, lines: Sequence[bytes]) -> Iterator[sql.Composable]:
        """Conditions that together pick each row that can be meant by one of these lines once: by key or, without one, by
        what leads to its tenant, for which there is an index as a rule."""
        if self.key:
            yield from self.under_keys(lines)
            return
        values = dict.fromkeys(tuple(fields_of(line)[position] for position in self._leads) for line in lines)
        if not self._leads or any(NULL in value for value in values):
            yield sql.SQL("true")
            return
        names = [self.columns[position] for position in self._leads]
        for some in _some(values, lambda value: sum(map(len, value))):
            yield sql.SQL(among("t", names, [self.types[name] for name in names], some))

    def under_keys(self, lines: Iterable[bytes]) -> Iterator[sql.Composable]:
        """Conditions that together pick the rows that bear the keys of these lines, each row by one of them."""
        names = [self.columns[position] for position in self.key]
        keys = dict.fromkeys(tuple(fields_of(line)[position] for position in self.key) for line in lines)
        for some in _some(keys, lambda key: sum(map(len, key))):
            yield sql.SQL(among("t", names, [self.types[name] for name in names], some))

    def deletes(self, gone: Iterable[Standing]) -> Iterator[str]:
        """Statements that delete these versions, and answer how many they found."""
        for some in _some(gone, lambda row: 40):
            versions = ", ".join(f"({_version(row.version)})" for row in some)
            yield (
                f"WITH gone AS (DELETE FROM {self._only} AS t USING (VALUES {versions}) AS v(part, at, by)"
                f" WHERE {_IS_VERSION} RETURNING 1) SELECT count(*) FROM gone"
            )

    def updates(self, changes: Sequence[Change]) -> Iterator[str]:
        """Statements that change these versions where they differ, and answer how many they found."""
        positions = sorted({position for change in changes for position in moved(change)})
        names = [self.columns[position] for position in positions]
        quoted = [sql.Identifier(name).as_string(None) for name in names]
        sets = ", ".join(f"{name} = v.c{i}" for i, name in enumerate(quoted))
        listed = ", ".join(f"c{i}" for i in range(len(names)))
        for some in _some(changes, lambda change: len(change.line)):
            rows = []
            for change in some:
                fields = fields_of(change.line)
                values = (literal(fields[p], self.types[n]) for p, n in zip(positions, names, strict=True))
                rows.append(f"({_version(change.standing.version)}, {', '.join(values)})")
            yield (
                f"WITH changed AS (UPDATE {self._only} AS t SET {sets} FROM (VALUES {', '.join(rows)})"
                f" AS v(part, at, by, {listed}) WHERE {_IS_VERSION} RETURNING 1) SELECT count(*) FROM changed"
            )

    def writable(self, found: Difference) -> Difference:
        """The same difference; changes that no UPDATE may make become rows that go and come."""
        barred = [c for c in found.changes if any(self.columns[p] in self._fixed for p in moved(c))]
        if not barred:
            return found
        left = tuple(change for change in found.changes if change not in barred)
        return Difference(
            (*found.back, *(change.line for change in barred)),
            left,
            (*found.gone, *(change.standing for change in barred)),
            found.same,
        )

    def tenant(self, line: bytes) -> str | None:
        """Whose row this is, where a column of it says so."""
        if not isinstance(self.places[0].relation.tenant, ByColumn) or not self._leads:
            return None
        field = fields_of(line)[self._leads[0]]
        return None if field == NULL else unescape(field).decode(errors="replace")

    def values(self, line: bytes) -> dict[str, str | None]:
        """A line's values by column."""
        return {
            name: None if field == NULL else unescape(field).decode(errors="replace")
            for name, field in zip(self.columns, fields_of(line), strict=True)
        }


_IS_VERSION = "t.tableoid = v.part AND t.ctid = v.at AND t.xmin = v.by"


def standing(printed: Iterable[bytes]) -> Iterator[Standing]:
    """The rows of `LiveTable.look`."""
    for line in printed:
        fields = line.split(b"\t", _VERSION_FIELDS)
        if len(fields) > _VERSION_FIELDS:
            rest = fields[_VERSION_FIELDS]
            yield Standing(line[: -len(rest) - 1], rest)
        else:  # a table without columns has lines of nothing
            yield Standing(line.rstrip(b"\n"), b"\n")


def literal(field: bytes, type_: str) -> str:
    """A field of a COPY line as an SQL value; the type's own input reads it, whatever casts there are."""
    if field == NULL:
        return f"NULL::{type_}"
    text = unescape(field).decode().replace("\\", "\\\\").replace("'", "''")
    return f"E'{text}'::{type_}" if "\\" in text else f"'{text}'::{type_}"


def among(alias: str, names: Sequence[str], types: Sequence[str], values: Iterable[Sequence[bytes]]) -> str:
    """The condition that the columns `names` of the table called `alias` have one of these values (fields of lines)."""
    columns = ", ".join(sql.Identifier(alias, name).as_string(None) for name in names)
    if len(names) == 1:
        return f"{columns} IN ({', '.join(literal(value[0], types[0]) for value in values)})"
    return f"({columns}) IN (VALUES {', '.join(row(value, types) for value in values)})"


def row(value: Sequence[bytes], types: Sequence[str]) -> str:
    """Fields of a line as a row of VALUES."""
    return f"({', '.join(literal(field, type_) for field, type_ in zip(value, types, strict=True))})"


def _version(version: bytes) -> str:
    part, at, by = version.decode().split("\t")
    return f"{part}::oid, '{at}'::tid, '{by}'::xid"


def _positions(relation: Relation, attnums: Sequence[int], columns: Sequence[str]) -> tuple[int, ...]:
    """Where these columns stand in a line; empty where one of them is not in it."""
    names = {column.attnum: column.name for column in relation.columns}
    wanted = [names.get(attnum, "") for attnum in attnums]
    return tuple(columns.index(name) for name in wanted) if set(wanted) <= set(columns) else ()


def _leading(relation: Relation) -> tuple[int, ...]:
    match relation.tenant:
        case ByColumn(attnum):
            return (attnum,)
        case Via(columns):
            return columns
        case _:
            return ()


def _some(items: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    some: list[T] = []
    held = 0
    for item in items:
        if some and (len(some) >= _AT_ONCE_ROWS or held + size(item) > _AT_ONCE_BYTES):
            yield some
            some, held = [], 0
        some.append(item)
        held += size(item)
    if some:
        yield some
