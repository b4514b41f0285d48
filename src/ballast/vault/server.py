"""Our objects on production: put there, brought up to date, and taken away again.

`server.sql` has the schema with its tables and functions, `eventtriggers.sql` the triggers that call them. Both can be
run again at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.json import Jsonb

from ballast.errors import ProtectionError
from ballast.postgres.ownership import stranger_in

T = TypeVar("T")

_OBJECTS = files("ballast.vault").joinpath("server.sql").read_bytes()
_EVENT_TRIGGERS = files("ballast.vault").joinpath("eventtriggers.sql").read_bytes()
EVENT_TRIGGERS = ("ballast_ddl", "ballast_drop", "ballast_rewrite")

_PATIENCE_S = 60.0
_LOCK_WAIT = "2s"
"""How long we wait for a lock at a time: as long as we wait, everybody else who wants the table waits behind us."""


class ChangedIdentity(msgspec.Struct, frozen=True):
    """A replica identity that is not what it was before protection: letters of pg_class.relreplident."""

    oid: int
    table: str
    """Qualified and quoted."""
    was: str
    was_index: str | None
    set_to: str
    set_index: str | None


def install(
    conn: psycopg.Connection[Any],
    tenant_column: str,
    needs: Mapping[str, Sequence[str]],
    token: Callable[[str | None], str] | None = None,
) -> None:
    """The schema `ballast` with what the triggers must know: per table (`schema.table`) the columns a DELETE must carry.

    `token` gives the one to be used for the one that is there. Without it nothing that the triggers say is believed."""
    with conn.transaction():
        install_objects(conn)
        _set(conn, "tenant_column", tenant_column)
        if token is not None:
            _set(conn, "token", token(read_token(conn)))
        _set(conn, "needs", {table: list(columns) for table, columns in needs.items()})


def _set(conn: psycopg.Connection[Any], name: str, value: object) -> None:
    conn.execute(
        "INSERT INTO ballast.setting AS s (name, value) VALUES (%s, %s) ON CONFLICT (name)"
        " DO UPDATE SET value = excluded.value WHERE s.value <> excluded.value",
        (name, Jsonb(value)),
    )


def read_token(conn: psycopg.Connection[Any]) -> str | None:
    """What our messages carry on this server (token.py). The schema must be known to be ours."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        there = cursor.execute("SELECT to_regclass('ballast.setting') IS NOT NULL").fetchone()
        if not there or not there[0]:
            return None
        row = cursor.execute("SELECT value #>> '{}' FROM ballast.setting WHERE name = 'token'").fetchone()
    return row[0] if row else None


def refuse_strangers(conn: psycopg.Connection[Any]) -> None:
    """ProtectionError if the schema `ballast`, or something in it, is somebody else's: we would run their code."""
    found = stranger_in(conn, "ballast")
    if found is not None:
        raise ProtectionError(
            f"In the schema ballast, {found[0]} belongs to role {found[1]}.",
            "If that role protects this database, run this as that role. If not, nobody knows what it has put there: look at"
            " it, then DROP SCHEMA ballast CASCADE.",
        )


def install_objects(conn: psycopg.Connection[Any], token: str = "") -> None:
    """The schema with its functions as they should be, and nothing of what is set in it but the token. In a transaction.

    ProtectionError if somebody else has made such a schema."""
    conn.execute("SET LOCAL client_min_messages = warning")
    conn.execute("SET LOCAL lock_timeout = '10s'")
    conn.execute("CREATE SCHEMA IF NOT EXISTS ballast")
    refuse_strangers(conn)  # in a schema of ours nobody else may put anything from here on
    conn.execute(_OBJECTS)
    if token:
        _set(conn, "token", token)


def install_event_triggers(conn: psycopg.Connection[Any]) -> str | None:
    """Switch on the announcement of DDL. None if done; where this role may not, what the server says."""
    try:
        with conn.transaction():
            conn.execute("SET LOCAL client_min_messages = warning")
            conn.execute("SET LOCAL lock_timeout = '10s'")
            conn.execute(_EVENT_TRIGGERS)
    except psycopg.errors.InsufficientPrivilege as refused:
        return refused.diag.message_primary or str(refused)
    return None


def settle_identity(conn: psycopg.Connection[Any], oid: int, table: str) -> str | None:
    """Give a table the identity that protection needs; what was set, or None if it had it.

    ProtectionError if the table is in use without a pause."""

    def settle(cursor: psycopg.Cursor[Any]) -> str | None:
        row = cursor.execute("SELECT ballast.settle_identity(%s)", (oid,)).fetchone()
        return row[0] if row else None

    return _patiently(conn, table, settle)


def _patiently(conn: psycopg.Connection[Any], table: str, action: Callable[[psycopg.Cursor[Any]], T]) -> T:
    """Do what locks a table against everything for a moment.

    In short attempts, so that nobody queues up behind a long-running query that we wait for."""
    started = time.monotonic()
    while True:
        try:
            with conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
                cursor.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(_LOCK_WAIT))
                return action(cursor)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() - started > _PATIENCE_S:
                raise ProtectionError(
                    f"table {table} was in use for {_PATIENCE_S:g} s without a pause, so that its replica identity could"
                    " not be set.",
                    "Look for long transactions in pg_stat_activity, then run the command again: it goes on where it was.",
                ) from None
            time.sleep(0.2)


def changed_identities(conn: psycopg.Connection[Any]) -> list[ChangedIdentity]:
    """What protection has changed so far, of the tables that are still there."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        there = cursor.execute("SELECT to_regclass('ballast.identity') IS NOT NULL").fetchone()
        if not there or not there[0]:
            return []
        rows = cursor.execute(
            "SELECT i.relation::bigint, format('%I.%I', n.nspname, c.relname), i.was::text, i.was_index,"
            " i.set_to::text, i.set_index FROM ballast.identity i"
            " JOIN pg_class c ON c.oid = i.relation JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 2"
        ).fetchall()
    return [ChangedIdentity(*row) for row in rows]


def remove_event_triggers(conn: psycopg.Connection[Any]) -> None:
    """The first thing to go: what follows is not announced."""
    with conn.transaction():
        conn.execute("SET LOCAL client_min_messages = warning")
        for name in EVENT_TRIGGERS:
            conn.execute(sql.SQL("DROP EVENT TRIGGER IF EXISTS {}").format(sql.Identifier(name)))


def restore_identity(conn: psycopg.Connection[Any], changed: ChangedIdentity) -> str:
    """Put one identity back. What was done, for people; a table whose identity somebody else changed since is left."""
    return _patiently(conn, changed.table, lambda cursor: _restore_identity(cursor, changed))


def _restore_identity(cursor: psycopg.Cursor[Any], changed: ChangedIdentity) -> str:
    now = cursor.execute(
        "SELECT c.relreplident::text, (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid"
        " WHERE i.indrelid = c.oid AND i.indisreplident) FROM pg_class c WHERE c.oid = %s",
        (changed.oid,),
    ).fetchone()
    said = "put back"
    if now is None:
        said = "gone"
    elif now == (changed.was, changed.was_index):
        said = "as it was"
    elif now[0] != changed.set_to:
        said = "left as somebody has set it since"
    else:
        words = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}
        what: sql.Composable = sql.SQL(words.get(changed.was, "DEFAULT"))
        if changed.was == "i" and changed.was_index is not None:
            there = cursor.execute(
                "SELECT FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = %s AND x.relname = %s",
                (changed.oid, changed.was_index),
            ).fetchone()
            if there is None:
                said = f"put back to DEFAULT: its index {changed.was_index} is gone"
            else:
                what = sql.SQL("USING INDEX {}").format(sql.Identifier(changed.was_index))
        table = sql.SQL(changed.table)  # quoted by the server
        cursor.execute(sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY {}").format(table, what))
    cursor.execute("DELETE FROM ballast.identity WHERE relation = %s", (changed.oid,))
    return f"{changed.table}: {said}"


def remove(conn: psycopg.Connection[Any]) -> None:
    """The schema and all that is in it."""
    with conn.transaction():
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute("SET LOCAL lock_timeout = '10s'")
        conn.execute("DROP SCHEMA IF EXISTS ballast CASCADE")
