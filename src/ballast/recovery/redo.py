"""What a recorded transaction did to one tenant's rows is done again: the handler of `merge` for items of `later`.

Rows are written as they were recorded, beside whatever stands there. One that is to be added and is there already (it was
deleted, and made anew) takes the recorded values, and columns that count are added up. One that is to be changed and is not
there, a foreign key that would not hold, whatever the database refuses: nothing of the transaction is done, and the item is kept
with the reason. The application's triggers stay silent, since what they did is among the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres import connect, read_catalog
from ballast.recovery.later import KIND, OURS, Later, Redone, Values
from ballast.recovery.merge_items import CannotApply, Handler, MergeItem
from ballast.recovery.sequences import past_value

_BEGIN = """
SET LOCAL session_replication_role = replica; SET LOCAL "DateStyle" = 'ISO'; SET LOCAL "IntervalStyle" = 'postgres';
SET LOCAL xmloption = content
"""
"""The record's texts are read as they were printed."""
_SAY = "SELECT pg_logical_emit_message(true, 'ballast.actor', %s)"
_TABLE = """
SELECT c.oid, c.relkind = 'r', (
    SELECT json_object_agg(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
), (
    SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attidentity = 'a'
)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""
_KEYS = """
SELECT k.conname, k.conrelid, cn.nspname, c.relname, k.confrelid, pn.nspname, p.relname,
    (SELECT array_agg(a.attname::text ORDER BY o.n) FROM unnest(k.conkey) WITH ORDINALITY AS o (attnum, n)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.attnum),
    (SELECT array_agg(a.attname::text ORDER BY o.n) FROM unnest(k.confkey) WITH ORDINALITY AS o (attnum, n)
       JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.attnum)
  FROM pg_catalog.pg_constraint k
  JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
  JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 WHERE k.contype = 'f' AND (k.conrelid = ANY(%(tables)s) OR k.confrelid = ANY(%(tables)s))
"""
_IS_PROTECTED = "SELECT to_regclass('ballast.setting') IS NOT NULL"
_ONCE = "INSERT INTO ballast.setting (name, value) VALUES ('brought in ' || %s, 'true') ON CONFLICT DO NOTHING"
"""Of this server alone: it is not recorded."""
_OF_OUR_OWN = """
SET LOCAL client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS ballast;
CREATE TABLE IF NOT EXISTS ballast.brought_in (position text PRIMARY KEY)
"""
_ONCE_IN_OUR_OWN = "INSERT INTO ballast.brought_in (position) VALUES (%s) ON CONFLICT DO NOTHING"
"""The same where nothing is protected: in a lifeboat."""
_INTEGERS = ("smallint", "integer", "bigint")

Connection = psycopg.Connection[Any]


class Payload(msgspec.Struct, frozen=True):
    """Of an item."""

    position: str
    changes: tuple[Redone, ...]


class _Table(msgspec.Struct, frozen=True):
    oid: int
    name: sql.Identifier
    only: sql.Composable
    """The name for statements that must not touch tables that inherit from this one."""
    types: Mapping[str, str]
    fixed: Collection[str]
    """Identity columns that nobody may change: a row that is there has what they were given."""


class _Key(msgspec.Struct, frozen=True):
    """A foreign key."""

    title: str
    child_oid: int
    child: sql.Identifier
    parent_oid: int
    parent: sql.Identifier
    columns: Sequence[str]
    """The child's."""
    above: Sequence[str]


def take_in(conn: Connection, item: MergeItem) -> None:
    """Do it again. CannotApply: it cannot be done beside what stands there, or the tables are others than they were."""
    payload = msgspec.convert(item.payload, Payload)
    conn.execute(_BEGIN)
    conn.execute(_SAY, (f"{OURS}, bringing in again transaction ({payload.position})",))
    try:
        _Redoing(conn, payload.changes).run()
    except psycopg.ProgrammingError as error:  # the structure is another
        raise CannotApply(error.diag.message_primary or str(error)) from error


def again_by(handler: Handler | None, items: Iterable[MergeItem]) -> tuple[Handler, list[MergeItem]]:
    """What `merge.try_again` is given for what `Later.refused` holds: the application's by its `handler`, where there is one;
    what was itself brought in again by `take_in`."""

    def take(conn: Connection, item: MergeItem) -> bool | None:
        if item.kind == KIND or handler is None:
            take_in(conn, item)
            return None
        return handler(conn, item)

    return take, [item for item in items if item.kind == KIND or handler is not None]


def open_for(dsn: str, later: Later) -> tuple[str, ...]:
    """Before any item is merged: rows that all share are done again, each once, however often it is called; and sequences are set
    past all that is to come.

    What could not be done, each with its reason. psycopg.Error."""
    failures = []
    with connect(dsn) as conn:
        once = _ONCE
        if later.shared and conn.execute(_IS_PROTECTED).fetchone() != (True,):
            once = _ONCE_IN_OUR_OWN
            with conn.transaction():
                conn.execute(_OF_OUR_OWN)
        for item in later.shared:
            try:
                with conn.transaction():
                    if not conn.execute(once, (item.payload["position"],)).rowcount:
                        continue
                    take_in(conn, item)
            except (CannotApply, psycopg.IntegrityError, psycopg.DataError) as error:
                failures.append(f"shared rows of transaction {item.payload['position']}: {str(error).strip()}")
        _set_sequences(conn, (one for item in _every(later) for one in msgspec.convert(item.payload, Payload).changes))
    return tuple(failures)


def _every(later: Later) -> Iterable[MergeItem]:
    yield from later.shared
    for items in later.of.values():
        yield from items


def _set_sequences(conn: Connection, changes: Iterable[Redone]) -> None:
    catalog = read_catalog(conn)
    tables, sequences = {t.oid: t for t in catalog.tables}, {s.oid: s for s in catalog.sequences}
    fed: defaultdict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)
    for sequence in catalog.sequences:
        for oid, attnum in sequence.feeds:
            if oid in tables and tables[oid].column(attnum).base_type in _INTEGERS:
                fed[tables[oid].schema, tables[oid].name].append((tables[oid].column(attnum).name, sequence.oid))
    furthest: dict[int, int] = {}
    for change in changes:
        for name, oid in fed.get((change.schema, change.table), ()):
            if (value := change.row.get(name)) is not None:
                further = max if sequences[oid].increment > 0 else min
                furthest[oid] = further(furthest.get(oid, int(value)), int(value))
    for oid, reached in furthest.items():
        conn.execute(past_value(sequences[oid], reached))


class _Redoing:
    """One item, in the transaction that is open."""

    def __init__(self, conn: Connection, changes: Sequence[Redone]) -> None:
        self._conn, self._changes = conn, changes
        self._tables = {at: self._look_up(*at) for at in dict.fromkeys((c.schema, c.table) for c in changes)}
        found = conn.execute(_KEYS.encode(), {"tables": [table.oid for table in self._tables.values()]}).fetchall()
        self._keys = [
            _Key(
                f"{r[2]}.{r[3]} {r[0]}", r[1], sql.Identifier(r[2], r[3]), r[4], sql.Identifier(r[5], r[6]), r[7], r[8]
            )
            for r in found
        ]
        self._gone: list[tuple[_Key, Sequence[Any]]] = []

    def run(self) -> None:
        """CannotApply, psycopg.Error."""
        for change in self._changes:
            table = self._tables[change.schema, change.table]
            match change.op:
                case "I":
                    self._insert(table, change)
                case "U":
                    self._update(table, change, change.row, change.add)
                case _:
                    self._delete(table, change)
        self._refuse_orphans()

    def _look_up(self, schema: str, name: str) -> _Table:
        row = self._conn.execute(_TABLE.encode(), (schema, name)).fetchone()
        if row is None:
            raise CannotApply(f"there is no table {schema}.{name} any more")
        named = sql.Identifier(schema, name)
        only = sql.SQL("ONLY {}").format(named) if row[1] else named
        return _Table(row[0], named, only, row[2] or {}, row[3] or ())

    def _insert(self, table: _Table, change: Redone) -> None:
        if not change.keyless and self._is_there(table, change):
            add = {name: change.row[name] for name in change.counts if change.row[name] is not None}
            rest = {n: v for n, v in change.row.items() if n not in add and n not in change.key}
            self._update(table, change, rest, add)
            return
        made = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            table.name,
            sql.SQL(", ").join(map(sql.Identifier, change.row)),
            sql.SQL(", ").join(_value(table, name) for name in change.row),
        )
        self._conn.execute(made, list(change.row.values()))

    def _is_there(self, table: _Table, change: Redone) -> bool:
        where, values = _where(table, change.key)
        look = sql.SQL("SELECT FROM {} AS t WHERE {} FOR UPDATE").format(table.only, where)
        return bool(self._conn.execute(look, values).rowcount)

    def _update(self, table: _Table, change: Redone, row: Values, add: Values) -> None:
        where, values = self._which(table, change)
        row = {name: value for name, value in row.items() if name not in table.fixed}
        sets = [sql.SQL("{} = {}").format(sql.Identifier(name), _value(table, name)) for name in row]
        sets += [
            sql.SQL("{} = t.{} + {}").format(sql.Identifier(name), sql.Identifier(name), _value(table, name))
            for name in add
        ]
        if sets:
            statement = sql.SQL("UPDATE {} AS t SET {} WHERE {}").format(table.only, sql.SQL(", ").join(sets), where)
            found = self._conn.execute(statement, [*row.values(), *add.values(), *values]).rowcount
        else:
            found = self._is_there(table, change)
        if not found:
            shown = ", ".join(f"{name} = {value}" for name, value in change.key.items())
            raise CannotApply(f"{change.schema}.{change.table} has no row ({shown}), which it changed")

    def _delete(self, table: _Table, change: Redone) -> None:
        where, values = self._which(table, change)
        concerned = [key for key in self._keys if key.parent_oid == table.oid]
        names = list(dict.fromkeys(name for key in concerned for name in key.above))
        returned = (
            sql.SQL(" RETURNING {}").format(sql.SQL(", ").join(map(sql.Identifier, names))) if names else sql.SQL("")
        )
        statement = sql.SQL("DELETE FROM {} AS t WHERE {}{}").format(table.only, where, returned)
        cursor = self._conn.execute(statement, values)
        # One that is not there any more needs nothing.
        for row in cursor.fetchall() if names else ():
            held = dict(zip(names, row, strict=True))
            self._gone += [(key, tuple(held[name] for name in key.above)) for key in concerned]

    def _which(self, table: _Table, change: Redone) -> tuple[sql.Composable, Sequence[Any]]:
        """The one row that is meant."""
        where, values = _where(table, change.key)
        if change.keyless:
            where = sql.SQL("t.ctid = (SELECT t.ctid FROM {} AS t WHERE {} LIMIT 1)").format(table.only, where)
        return where, values

    def _refuse_orphans(self) -> None:
        for change in self._changes:
            table = self._tables[change.schema, change.table]
            for key in self._keys:
                written = change.row.keys() | change.add.keys()
                if change.op != "D" and key.child_oid == table.oid and written & set(key.columns):
                    where, values = _where(table, change.key)
                    self._refuse_orphan(key, where, values)
        for key, held in self._gone:
            if None not in held:
                where = sql.SQL(" AND ").join(sql.SQL("t.{} = %s").format(sql.Identifier(n)) for n in key.columns)
                self._refuse_orphan(key, where, held)

    def _refuse_orphan(self, key: _Key, where: sql.Composable, values: Collection[Any]) -> None:
        present = sql.SQL(" AND ").join(sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(n)) for n in key.columns)
        same = sql.SQL(" AND ").join(
            sql.SQL("p.{} = t.{}").format(sql.Identifier(above), sql.Identifier(name))
            for name, above in zip(key.columns, key.above, strict=True)
        )
        question = sql.SQL(
            "SELECT FROM {} AS t WHERE {} AND {} AND NOT EXISTS (SELECT FROM {} AS p WHERE {}) LIMIT 1"
        ).format(key.child, where, present, key.parent, same)
        if self._conn.execute(question, list(values)).rowcount:
            raise CannotApply(f"a row would be without its parent: {key.title}")


def _where(table: _Table, key: Values) -> tuple[sql.Composable, Sequence[Any]]:
    """The condition for rows (of `t`) with these values, and the values."""
    parts = [
        sql.SQL("t.{} IS NOT DISTINCT FROM {}" if value is None else "t.{} = {}").format(
            sql.Identifier(name), _value(table, name)
        )
        for name, value in key.items()
    ]
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true"), list(key.values())


def _value(table: _Table, name: str) -> sql.Composable:
    """A placeholder that the column's type reads as text."""
    if name not in table.types:
        raise CannotApply(f"{table.name.as_string(None)} has no column {name} any more")
    return sql.SQL("%s::{}").format(sql.SQL(table.types[name]))
