"""A connection whose rows the record has already: they are written under a replication origin.

The recorder asks for the stream with `origin 'none'`, which leaves such rows out. A session has an origin until it ends, and
of two sessions only one can have it; so each connection takes one of a row of names.
"""

from __future__ import annotations

from typing import Any

import psycopg

from ballast.errors import RestoreError
from ballast.vault.marker import ORIGIN

_MOST = 256


def mark(conn: psycopg.Connection[Any]) -> str:
    """Put what this connection writes from now on under an origin; the origin's name.

    Outside of a transaction. Nothing is kept by the server for the origin but its name, until it is dropped
    (`pg_replication_origin_drop`). psycopg.errors.InsufficientPrivilege where the role may not: superusers may, and whoever
    was granted EXECUTE on the functions `pg_replication_origin_create`, `_oid` and `_session_setup`. RestoreError where the
    server has no origin left."""
    for number in range(1, _MOST + 1):
        name = f"{ORIGIN}_{number}"
        try:
            with conn.transaction():
                known = conn.execute("SELECT pg_replication_origin_oid(%s)", (name,)).fetchone()
                if known is None or known[0] is None:
                    conn.execute("SELECT pg_replication_origin_create(%s)", (name,))
            with conn.transaction():
                conn.execute("SELECT pg_replication_origin_session_setup(%s)", (name,))
        except psycopg.errors.UniqueViolation:  # somebody has just made it: it is theirs
            continue
        except psycopg.errors.ObjectInUse:
            continue
        except psycopg.errors.ConfigurationLimitExceeded as full:
            raise RestoreError(
                f"the server has no replication origin left for this connection: {full.diag.message_primary}",
                "Raise max_active_replication_origins (before version 18: max_replication_slots), or use fewer --jobs.",
            ) from full
        return name
    raise RestoreError(f"{_MOST} connections put rows back already", "Wait until they are done, or use fewer --jobs.")


def unmark_all(conn: psycopg.Connection[Any]) -> int:
    """Drop the origins that no session has any more; how many. For when every row is back."""
    dropped = 0
    names = conn.execute("SELECT roname FROM pg_replication_origin WHERE roname LIKE %s", (ORIGIN + r"\_%",)).fetchall()
    for (name,) in names:
        try:
            with conn.transaction():
                conn.execute("SELECT pg_replication_origin_drop(%s)", (name,))
            dropped += 1
        except (psycopg.errors.ObjectInUse, psycopg.errors.UndefinedObject):
            continue
    return dropped
