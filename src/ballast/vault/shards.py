"""Where Citus keeps the rows of a table on one node.

With change data capture the stream of a node calls its shards by the table's name. An image must hold the same rows: those of the
shards that lie here. Asked for by the table's name, the node would answer with the rows of all nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

_SHARDS = files("ballast.vault").joinpath("shards.sql").read_bytes()
_THERE = b"SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')"

Shards = Mapping[int, tuple[str, ...]]
"""A table's oid to the names of its shards here, as the server quotes them. Tables that are not in it are ordinary ones."""


def has_citus(conn: psycopg.Connection[Any]) -> bool:
    """Whether the extension is in this database."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_THERE).fetchone()
    return bool(row and row[0])


def shards_here(conn: psycopg.Connection[Any]) -> Shards:
    """Of every table that Citus manages; nothing without Citus."""
    if not has_citus(conn):
        return {}
    with conn.cursor(row_factory=tuple_row) as cursor:
        return {oid: tuple(names) for oid, names in cursor.execute(_SHARDS).fetchall()}


def rows_of(table: sql.Composable, columns: Sequence[str], shards: tuple[str, ...] | None) -> sql.Composable:
    """What stands after FROM for the rows of a table that this node has; `shards` None: an ordinary table."""
    if shards is None:
        return sql.SQL("ONLY {}").format(table)
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    # The names come from the server's catalog, quoted by it.
    parts = [sql.SQL("SELECT {} FROM ONLY {}").format(listed, sql.SQL(name)) for name in shards]
    parts = parts or [sql.SQL("SELECT {} FROM ONLY {} WHERE false").format(listed, table)]
    return sql.SQL("({})").format(sql.SQL(" UNION ALL ").join(parts))
