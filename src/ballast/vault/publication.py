"""The publication on production: which tables it must have, and bringing it there.

As superuser it is FOR ALL TABLES, which takes in tables that are created later. Nobody else may make such a one; then
it lists the tables, and `ballast protect` must be run again for new ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ballast.vault.tables import TableFacts

_CANARY = ("ballast", "canary")
# publish_generated_columns came with 18; row filters and column lists leave changes out.
_STATE = """
SELECT p.puballtables,
       p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT p.pubviaroot
           AND coalesce(to_jsonb(p) ->> 'pubgencols', 'n') IN ('n', 'false')
           AND NOT EXISTS (SELECT FROM pg_publication_rel r
                            WHERE r.prpubid = p.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)),
       ARRAY(SELECT r.prrelid::bigint FROM pg_publication_rel r WHERE r.prpubid = p.oid)
  FROM pg_publication p
 WHERE p.pubname = %s
"""


class State(msgspec.Struct, frozen=True):
    """A publication as it is."""

    all_tables: bool
    complete: bool
    """Every operation, leaf by leaf, without filters."""
    listed: tuple[int, ...]
    """oids, where it is a list."""


def read(conn: psycopg.Connection[Any], name: str) -> State | None:
    """The publication of that name, or None."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_STATE, (name,)).fetchone()
    return None if row is None else State(row[0], row[1], tuple(row[2]))


def missing_from(state: State | None, tables: Iterable[TableFacts]) -> list[TableFacts]:
    """The tables (partitioned ones for their partitions) that must be added to a list."""
    wanted = [t for t in tables if not t.is_partition and t.persistence == "p" and t.extension is None]
    if state is None:
        return wanted
    return [] if state.all_tables else [t for t in wanted if t.oid not in state.listed]


def settle(conn: psycopg.Connection[Any], name: str, tables: Iterable[TableFacts], *, for_all: bool) -> str | None:
    """Have the publication as protection needs it; what was done, None if it was right. All tables have identities."""
    state = read(conn, name)
    missing = missing_from(state, tables)
    if state is not None and state.complete and not missing:
        return None
    with conn.transaction():
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute("SET LOCAL lock_timeout = '10s'")
        named = sql.Identifier(name)
        if state is not None and state.complete:
            conn.execute(sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(named, _list(missing)))
            return f"{len(missing)} tables added to publication {name}"
        if state is not None:
            conn.execute(sql.SQL("DROP PUBLICATION {}").format(named))
        what = sql.SQL("ALL TABLES")
        if not for_all:
            what = sql.SQL("TABLE {}").format(_list(missing_from(None, tables), _CANARY))  # type: ignore[assignment]
        conn.execute(
            sql.SQL(
                "CREATE PUBLICATION {} FOR {} WITH (publish = 'insert, update, delete, truncate',"
                " publish_via_partition_root = false)"
            ).format(named, what)
        )
    return f"publication {name} for {'all tables' if for_all else 'the tables that there are'}"


def remove(conn: psycopg.Connection[Any], name: str) -> bool:
    """Whether there was one to be dropped."""
    if read(conn, name) is None:
        return False
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '10s'")
        conn.execute(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)))
    return True


def _list(tables: Iterable[TableFacts], *others: tuple[str, str]) -> sql.Composed:
    names = [*((t.schema, t.name) for t in tables), *others]
    return sql.SQL(", ").join(sql.Identifier(*name) for name in names)
