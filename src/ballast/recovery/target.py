"""The server that rows are put back into: what it has, and how one tenant's rows are found there."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres import Catalog, Table, connect, read_catalog
from ballast.recovery.copying import ServerRefused, said
from ballast.vault import RowChunk, without_columns
from ballast.vault.records import ByColumn, Relation, Shared, Via

HOLE = "\0"
"""Stands for the tenant's literal in a condition: no statement can hold this character otherwise."""

# Types of which two values are equal only if they are printed alike.
_PRINTED_AS_COMPARED = frozenset(
    (
        "smallint",
        "integer",
        "bigint",
        "oid",
        "text",
        "character varying",
        "character",
        "uuid",
        "boolean",
        "date",
        '"char"',
    )
)


class Unreachable(ServerRefused):
    """The target is not there, or does not let this process in."""


class Place(msgspec.Struct, frozen=True):
    """Where the rows of one recorded relation go: a table of the target and the columns that both have."""

    relation: Relation
    table: Table
    columns: tuple[str, ...]
    """In the order in which the record's lines hold them; columns that the target no longer has are left out."""
    dropped: tuple[int, ...]
    """Positions in the record's line of those left out."""

    @property
    def name(self) -> sql.Identifier:
        """The quoted name for statements."""
        return sql.Identifier(self.table.schema, self.table.name)

    @property
    def qualified(self) -> str:
        """`schema.name` of the table, unquoted."""
        return f"{self.table.schema}.{self.table.name}"

    @property
    def only(self) -> sql.Composed:
        """The name for statements that must not touch tables that inherit from this one."""
        return sql.SQL("ONLY {}").format(self.name) if self.table.kind == "r" else sql.Composed([self.name])

    def fit(self, chunk: RowChunk) -> RowChunk:
        """The chunk without the columns that the target no longer has."""
        return without_columns(chunk, self.dropped) if self.dropped else chunk

    def copy_in(self) -> sql.Composed:
        """The statement that takes the record's lines."""
        names = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        columns = sql.SQL(" ({})").format(names) if self.columns else sql.SQL("")
        return sql.SQL("COPY {}{} FROM STDIN").format(self.name, columns)

    def select(self, condition: sql.Composable) -> sql.Composed:
        """The rows as the record has them (same columns, same order), for reading back. The table is called `t`."""
        names = sql.SQL(", ").join(sql.Identifier("t", column) for column in self.columns)
        return sql.SQL("SELECT {} FROM {} AS t WHERE {}").format(names, self.only, condition)

    def copy_out(self, condition: sql.Composable) -> sql.Composed:
        """The same as a statement that prints them."""
        return sql.SQL("COPY ({}) TO STDOUT").format(self.select(condition))


class Target:
    """The target's structure beside the record's, read once for a whole restore.

    `places`: relation number to place, for every chosen relation that the target has; `missing`: those without a
    table there."""

    def __init__(self, catalog: Catalog, relations: Mapping[int, Relation], chosen: Mapping[int, Relation]) -> None:
        self.catalog = catalog
        self.tables = {table.oid: table for table in catalog.tables}
        self._by_name = {(table.schema, table.name): table for table in catalog.tables}
        self.relations = relations
        # `Via.parent` names the partitioned table for all its leaves; any of them knows the columns' names.
        self._by_oid = {r.root_oid or r.oid: r for r in relations.values()}
        self.places: dict[int, Place] = {}
        missing = []
        for number, relation in chosen.items():
            table = self.table_of(relation)
            if table is None:
                missing.append(relation)
            else:
                self.places[number] = _place(relation, table)
        self.missing = tuple(missing)
        self._by_text = False
        _refuse_mixed(self.places.values())

    def comparing_texts(self) -> Target:
        """The same for a tenant whose name some table's column could not hold: slow, since no index helps."""
        twin = copy(self)
        twin._by_text = True
        return twin

    @property
    def is_empty(self) -> bool:
        """None of the recorded tables is there, chosen or not."""
        return not any(self.table_of(relation) for relation in self.relations.values())

    def table_of(self, relation: Relation) -> Table | None:
        """The table of the target that holds this relation's rows: its own, or that of its root."""
        own = self._by_name.get((relation.schema, relation.name))
        return own or self._by_name.get((relation.root_schema, relation.root_name))

    def relation_of(self, oid: int) -> Relation | None:
        """The recorded relation whose rows stand in this table of the target."""
        table = self.tables[oid]
        return next((r for r in self.relations.values() if (r.schema, r.name) == (table.schema, table.name)), None)

    def belongs(self, relation: Relation, alias: str, *, shared: bool) -> sql.Composable:
        """The condition that picks one tenant's rows (`HOLE` for its name) of the table called `alias`.

        With `shared` it picks those of no tenant. All rows of shared relations belong to no tenant."""
        if isinstance(relation.tenant, Shared):
            return sql.SQL("true" if shared else "false")
        if shared:
            return sql.SQL("({}) IS NOT TRUE").format(self._descends(relation, alias, anybody=True))
        return self._descends(relation, alias, anybody=False)

    def _descends(self, relation: Relation, alias: str, *, anybody: bool) -> sql.Composable:
        rule = relation.tenant
        match rule:
            case ByColumn():
                column = sql.Identifier(alias, _column_name(relation, rule.attnum))
                if anybody:
                    return sql.SQL("{} IS NOT NULL").format(column)
                return self._is_tenant(relation, rule.attnum, column)
            case Via():
                return self._by_parent(relation, rule, alias, anybody=anybody)
            case _:
                return sql.SQL("false")

    def _by_parent(self, relation: Relation, rule: Via, alias: str, *, anybody: bool) -> sql.Composable:
        parent = self._by_oid[rule.parent]
        above = f"{alias}_"
        names = dict(zip(parent.root_attnums or (c.attnum for c in parent.columns), parent.columns, strict=True))
        same = [
            sql.SQL("{} = {}").format(
                sql.Identifier(above, names[theirs].name), sql.Identifier(alias, _column_name(relation, ours))
            )
            for ours, theirs in zip(rule.columns, rule.parent_columns, strict=True)
        ]
        return sql.SQL("EXISTS (SELECT FROM {}{} AS {} WHERE {} AND {})").format(
            sql.SQL("" if parent.root_oid else "ONLY "),
            sql.Identifier(parent.root_schema, parent.root_name),
            sql.Identifier(above),
            sql.SQL(" AND ").join(same),
            self._descends(parent, above, anybody=anybody),
        )

    def _is_tenant(self, relation: Relation, attnum: int, column: sql.Composable) -> sql.Composable:
        hole = sql.SQL(HOLE)
        if self._by_text:
            return sql.SQL("({} IS NOT NULL AND pg_catalog.concat({}) = {})").format(column, column, hole)
        table = self.table_of(relation)
        name = _column_name(relation, attnum)
        held = next((c for c in table.columns if c.name == name), None) if table else None
        plain = held is not None and held.collation is None and held.base_type.split("(")[0] in _PRINTED_AS_COMPARED
        equal = sql.SQL("{} = {}").format(column, hole)
        # Tenants are told apart by the text of their name, 1.0 from 1.00 and Ada from ada. Not by a cast, which the owner of
        # a type can give a function that would run with our rights.
        return equal if plain else sql.SQL("({} AND pg_catalog.concat({}) = {})").format(equal, column, hole)

    def parents(self, relation: Relation) -> list[Relation]:
        """Through which the relation finds its tenant, the nearest first."""
        rule = relation.tenant
        if not isinstance(rule, Via):
            return []
        parent = self._by_oid[rule.parent]
        return [parent, *self.parents(parent)]

    def root_of(self, relation: Relation) -> Table | None:
        """The table by whose name children ask for their parent."""
        return self._by_name.get((relation.root_schema, relation.root_name))

    def depth(self, relation: Relation) -> int:
        """How many parents stand between this relation and the column that names its tenant."""
        return len(self.parents(relation))


def connect_target(dsn: str) -> psycopg.Connection[tuple[Any, ...]]:
    """A pinned connection to the target; Unreachable if it is not there."""
    try:
        return connect(dsn)
    except psycopg.Error as error:
        refused = said(error.sqlstate or "", str(error).strip())
        raise Unreachable(
            f"the target cannot be reached: {str(error).strip()}",
            "Check --into: the database must exist (createdb), the server run, and the role be allowed to connect.",
            refused.sqlstate,
        ) from error


def read_target(
    conn: psycopg.Connection[Any], relations: Mapping[int, Relation], chosen: Mapping[int, Relation]
) -> Target:
    """Reads the target's catalog and finds a place for each of `chosen`; `relations` are all that are recorded."""
    return Target(read_catalog(conn), relations, chosen)


def _place(relation: Relation, table: Table) -> Place:
    writable = {column.name for column in table.columns if not column.generated}
    names = {column.attnum: column.name for column in relation.columns}
    columns = [names[attnum] for attnum in relation.row_columns]
    if columns and writable.isdisjoint(columns):
        raise RestoreError(
            f"table {relation.qualified} of the target has none of the recorded columns ({', '.join(columns)})",
            "Restore into an empty database, or rename the target's table out of the way.",
        )
    return Place(
        relation,
        table,
        tuple(name for name in columns if name in writable),
        tuple(position for position, name in enumerate(columns) if name not in writable),
    )


def _refuse_mixed(places: Any) -> None:
    """Partitions that the target has as one table are read back together: their lines must be of one make."""
    first: dict[int, Place] = {}
    for place in places:
        other = first.setdefault(place.table.oid, place)
        if other.columns != place.columns:
            raise RestoreError(
                f"{other.relation.qualified} and {place.relation.qualified} have the same columns in another order,"
                f" and the target holds both in {place.table.schema}.{place.table.name}",
                "Create the partitions in the target as they were, or restore into an empty database.",
            )


def _column_name(relation: Relation, attnum: int) -> str:
    return next(column.name for column in relation.columns if column.attnum == attnum)
