"""Our own check of foreign keys: the server's are silent while rows are put back, and validating a constraint that
counts as valid finds nothing (tried on 15, 16 and 18)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from psycopg import sql

from ballast.postgres import ForeignKey
from ballast.recovery.target import Target
from ballast.vault.records import Shared

_MOST_VALUES = 100
"""Of keys in one statement: repeated after that many were deleted, it names the next."""


Asked = tuple[ForeignKey, sql.Composable]
"""A foreign key and the condition that picks the rows (of `child`) to be asked."""


def asked(
    target: Target, tables: Collection[int], *, shared: bool, replaced: bool, emptied: Collection[int] = ()
) -> list[Asked]:
    """The foreign keys that one tenant's rows (a hole for its name) of `tables` (oids) must fulfil.

    Where present rows were replaced, or removed from tables `emptied`, also those of the rows elsewhere that referred to
    them."""
    keys: list[Asked] = []
    for key in target.catalog.foreign_keys:
        if not binds(key):
            continue
        relation = target.relation_of(key.table_oid)
        if key.table_oid in tables and relation is not None:
            keys.append((key, target.belongs(relation, "child", shared=shared)))
        elif replaced and (key.ref_table_oid in tables or key.ref_table_oid in emptied):
            everybodys = relation is None or isinstance(relation.tenant, Shared)
            whose = sql.SQL("true") if everybodys else target.belongs(relation, "child", shared=shared)  # type: ignore[arg-type]
            keys.append((key, whose))
    return keys


def orphans(target: Target, keys: Collection[Asked]) -> list[sql.Composed]:
    """Questions whose answers are rows (table, constraint, row, parent) that lack a parent; no answers: all is well."""
    return [_question(target, key, whose) for key, whose in keys]


def deletions(target: Target, keys: Collection[Asked], tables: Collection[int]) -> list[sql.Composed]:
    """Questions whose answers are (table, statement): what rows outside of `tables` lack a parent, and how to delete them."""
    return [_statement(target, key, whose) for key, whose in keys if key.table_oid not in tables]


def all_orphans(target: Target) -> list[sql.Composed]:
    """The same question of every row of every table."""
    return [_question(target, key, sql.SQL("true")) for key in target.catalog.foreign_keys if binds(key)]


def described(rows: Collection[Sequence[str]]) -> list[str]:
    """The answers, for people."""
    return [f"{table}: constraint {name}, no parent for {row}" for table, name, row, *_ in rows]


def binds(key: ForeignKey) -> bool:
    """Whether the source itself guaranteed a parent for every row. A partition's part is checked by its own name."""
    return key.validated and key.enforced and not key.temporal


def _question(target: Target, key: ForeignKey, condition: sql.Composable) -> sql.Composed:
    child, parent = target.tables[key.table_oid], target.tables[key.ref_table_oid]
    return sql.SQL("(SELECT {table}, {name}, pg_catalog.concat(child), {above} {orphaned} LIMIT 1)").format(
        table=sql.Literal(f"{child.schema}.{child.name}"),
        name=sql.Literal(key.name),
        above=sql.Literal(f"{parent.schema}.{parent.name}"),
        orphaned=_orphaned(target, key, condition),
    )


def _statement(target: Target, key: ForeignKey, condition: sql.Composable) -> sql.Composed:
    child = target.tables[key.table_oid]
    columns = [child.column_name(attnum) for attnum in key.columns]
    values = [
        sql.SQL("quote_literal(pg_catalog.concat({}))").format(sql.Identifier("child", column)) for column in columns
    ]
    begin = sql.SQL("DELETE FROM {} WHERE ({}) IN (").format(
        sql.Identifier(child.schema, child.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    return sql.SQL(
        "(SELECT {table}, {begin} || string_agg(value, ', ') || ')' FROM (SELECT DISTINCT concat('(', {values}, ')') AS value"
        " {orphaned} LIMIT {most}) AS missing HAVING count(*) > 0)"
    ).format(
        table=sql.Literal(f"{child.schema}.{child.name}"),
        begin=sql.Literal(begin.as_string(None)),
        values=sql.SQL(", ', ', ").join(values),
        orphaned=_orphaned(target, key, condition),
        most=sql.Literal(_MOST_VALUES),
    )


def _orphaned(target: Target, key: ForeignKey, condition: sql.Composable) -> sql.Composed:
    child, parent = target.tables[key.table_oid], target.tables[key.ref_table_oid]
    own = [sql.Identifier("child", child.column_name(attnum)) for attnum in key.columns]
    theirs = [sql.Identifier("parent", parent.column_name(attnum)) for attnum in key.ref_columns]
    return sql.SQL(
        "FROM {child} AS child WHERE {present} AND {condition}"
        " AND NOT EXISTS (SELECT FROM {parent} AS parent WHERE {match})"
    ).format(
        child=sql.Identifier(child.schema, child.name),
        parent=sql.Identifier(parent.schema, parent.name),
        present=sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(column) for column in own),
        condition=condition,
        match=sql.SQL(" AND ").join(sql.SQL("{} = {}").format(a, b) for a, b in zip(theirs, own, strict=True)),
    )
