"""Putting capture back in place where the owner's intent is plain: it is to be as it was when `protect` had run.

Each step is a transaction of its own on the guardian's session, which waits for no standby; one that fails does not keep
the others from being tried. What is the owner's to do is left: a table that is UNLOGGED, a slot, another server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg import sql

from ballast.errors import BallastError
from ballast.vault import server
from ballast.vault.differences import Difference
from ballast.vault.fingerprint import Fingerprint
from ballast.vault.logbook import Logbook


def repair(
    conn: psycopg.Connection[Any],
    publication: str,
    was: Fingerprint,
    now: Fingerprint,
    differences: Iterable[Difference],
    log: Logbook,
    token: str = "",
) -> None:
    """Undo what `differences` say, as far as it can be undone. What was done and what failed is logged."""
    kinds = {d.kind for d in differences}
    if "publication" in kinds or "canary" in kinds:
        _step(log, "publication", lambda: _publication(conn, publication, was, now))
    if kinds & {"publication", "coverage", "canary"}:
        _step(log, "published tables", lambda: _published(conn, publication, was, now))
    if kinds & {"event_trigger", "canary"}:
        _step(log, "event triggers", lambda: _event_triggers(conn, was, token))
    for difference in differences:
        if difference.kind in ("identity", "unannounced") and difference.relations:
            for oid in difference.relations:
                if oid in now.tables:
                    settle(conn, int(oid), now.tables[oid].name, log)


def settle(conn: psycopg.Connection[Any], oid: int, name: str, log: Logbook) -> None:
    """Give a table the replica identity that its protection needs: without one it could not be written to."""

    def do() -> str:
        with conn.transaction():
            conn.execute("SET LOCAL lock_timeout = '2s'")
            row = conn.execute("SELECT ballast.settle_identity(%s)", (oid,)).fetchone()
        return f"REPLICA IDENTITY {row[0]}" if row and row[0] else ""

    _step(log, f"replica identity of {name}", do)


def recreate_canary(conn: psycopg.Connection[Any], log: Logbook, token: str = "") -> None:
    """Its table was dropped."""

    def do() -> str:
        with conn.transaction():
            server.install_objects(conn, token)
        return "created again"

    _step(log, "canary", do)


def _step(log: Logbook, what: str, do: Callable[[], str]) -> None:
    try:
        done = do()
    except (psycopg.Error, BallastError) as error:
        if isinstance(error, psycopg.OperationalError) and not error.sqlstate:
            raise  # the connection is gone
        log.alarm("cannot_repair", what=what, reason=str(error).strip())
    else:
        if done:
            log.warning("repaired", what=what, done=done)


def _publication(conn: psycopg.Connection[Any], name: str, was: Fingerprint, now: Fingerprint) -> str:
    wanted, found = was.publication, now.publication
    if wanted is None:
        return ""
    options = sql.SQL("(publish = {}, publish_via_partition_root = {})").format(
        wanted.operations.replace(",", ", "), wanted.via_root
    )
    if found is not None and found.all_tables == wanted.all_tables:
        if (found.operations, found.via_root) == (wanted.operations, wanted.via_root):
            return ""
        conn.execute(sql.SQL("ALTER PUBLICATION {} SET {}").format(sql.Identifier(name), options))
        return "altered to what it was"
    with conn.transaction():
        if found is not None:
            conn.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(name)))
        tables = sql.SQL("FOR ALL TABLES" if wanted.all_tables else "")
        conn.execute(sql.SQL("CREATE PUBLICATION {} {} WITH {}").format(sql.Identifier(name), tables, options))
    return "created again"


def _published(conn: psycopg.Connection[Any], name: str, was: Fingerprint, now: Fingerprint) -> str:
    """A list is made whole: each table that it had, and each that is new, without row filter or column list."""
    if was.publication is None or was.publication.all_tables:
        return ""
    bare = (
        {table for table, entry in now.published.items() if not entry.partition("#")[0]} if now.publication else set()
    )
    wanted = {t.name for t in now.tables.values() if t.persistence == "p"} | (was.published.keys() & {"ballast.canary"})
    unwanted = {t.name for oid, t in was.tables.items() if oid in now.tables and t.name not in was.published}
    missing = sorted(wanted - bare - unwanted)
    with conn.transaction():
        for table in missing:
            named = _identifier(conn, table)
            if named is None:
                continue
            if now.publication is not None and table in now.published:
                conn.execute(sql.SQL("ALTER PUBLICATION {} DROP TABLE ONLY {}").format(sql.Identifier(name), named))
            conn.execute(sql.SQL("ALTER PUBLICATION {} ADD TABLE ONLY {}").format(sql.Identifier(name), named))
    return f"added {', '.join(missing)}" if missing else ""


def _identifier(conn: psycopg.Connection[Any], table: str) -> sql.SQL | None:
    """Names in fingerprints are not quoted."""
    row = conn.execute(
        "SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname || '.' || c.relname = %s AND c.relkind = 'r'",
        (table,),
    ).fetchone()
    return None if row is None else sql.SQL(row[0])


def _event_triggers(conn: psycopg.Connection[Any], was: Fingerprint, token: str) -> str:
    if not was.event_triggers:
        return ""
    with conn.transaction():
        server.install_objects(conn, token)
    refused = server.install_event_triggers(conn)
    if refused is not None:
        raise psycopg.errors.InsufficientPrivilege(refused)
    return "installed again"
