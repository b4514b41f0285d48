"""Replication origins of the sessions that put rows back: a recorder that asks for `origin 'none'` leaves their rows out."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import psycopg

# An origin serves one session at a time, so each connection has its own. Not tied to a database: the oid keeps them apart.
_NAME = "'ballast_recovery_' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '_'"
_SET_UP = (
    f"SELECT pg_replication_origin_create(n) FROM (SELECT {_NAME} || %s AS n) AS o WHERE pg_replication_origin_oid(n) IS NULL",
    f"SELECT pg_replication_origin_session_setup({_NAME} || %s)",
)
_DROP = f"SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE starts_with(roname, {_NAME})"
_PATIENCE_S = 5.0


def mark(conn: psycopg.Connection[Any], number: int) -> str | None:
    """What this connection commits from now on carries an origin. Otherwise a warning that says why not."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            for statement in _SET_UP:
                conn.execute(statement.encode(), (str(number),))
            return None
        except psycopg.Error as error:
            # The backend of a worker that was lost has it for a moment.
            if isinstance(error, psycopg.errors.ObjectInUse) and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            why = error.diag.message_primary or str(error)
            return (
                f"rows are put back without a replication origin ({why}): a recorder on this server will record them"
                " again"
            )


def announce(conn: psycopg.Connection[Any]) -> None:
    """Makes the first origin before the recovery can be told by its marker: `ballast protect` goes by whether there is one. Were
    there none yet, it would take an image of tenants without rows, and what comes back later would not be recorded.

    Where it cannot be made, `mark` says so."""
    with suppress(psycopg.Error):
        conn.execute(_SET_UP[0].encode(), ("0",))


def unmark(conn: psycopg.Connection[Any]) -> str | None:
    """Drops the origins, when the connections that used them are closed. A warning if some stay."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            conn.execute(_DROP.encode())
            return None
        except psycopg.Error as error:
            # A backend lives a moment longer than its connection.
            if time.monotonic() > deadline:
                return f"replication origins ballast_recovery_… remain: {error.diag.message_primary}"
            time.sleep(0.05)
