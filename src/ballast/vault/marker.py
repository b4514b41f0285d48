"""What a recovery leaves in the database that it rebuilds: from which vault, and as of which cut, the rows come.

    ballast_recovery.origin (vault_id text, timeline int, lsn pg_lsn, begun_at timestamptz, finished_at timestamptz)

One row. By it `ballast protect` knows that the record of this database goes on from there, and needs no image of it.
Rows are put back under replication origins named ballast_recovery_…, so that the recorder's stream leaves them out.
"""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast.errors import ProtectionError
from ballast.postgres.ownership import stranger_in
from ballast.vault.records import Cut

SCHEMA = "ballast_recovery"

_IS_THERE = "SELECT to_regclass('ballast_recovery.origin') IS NOT NULL"
_READ = """
SELECT vault_id, timeline, (lsn - '0/0')::bigint,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) || '/'
           || 'ballast_recovery.origin'::regclass::oid,
       finished_at IS NOT NULL,
       EXISTS (SELECT FROM pg_catalog.pg_replication_origin WHERE roname LIKE 'ballast\\_recovery%')
  FROM ballast_recovery.origin
"""


class Marker(msgspec.Struct, frozen=True):
    """The row, and what else tells of the recovery."""

    vault_id: str
    cut: Cut
    """What the rows are as of."""
    recovery: str
    """Tells one recovery of this server from another: oids of the database and of the marker's table, which stay while an
    interrupted recovery goes on."""
    finished: bool
    """Every tenant is back."""
    left_out: bool
    """Rows are put back under a replication origin: the stream does not show them."""


def read_marker(conn: psycopg.Connection[Any]) -> Marker | None:
    """The marker of this database, or None. ProtectionError where there are several, or where somebody else has made it."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        there = cursor.execute(_IS_THERE).fetchone()
        if not there or not there[0]:
            return None
        found = stranger_in(conn, SCHEMA)
        if found is not None:
            raise ProtectionError(
                f"In the schema {SCHEMA}, {found[0]} belongs to role {found[1]}: nobody knows whether what it says of this"
                " database is true.",
                "Run this as the role that recovered the database; if it never was: DROP SCHEMA ballast_recovery CASCADE.",
            )
        rows = cursor.execute(_READ.encode()).fetchall()
    if not rows:
        return None
    if len(rows) > 1:
        raise ProtectionError(
            f"{SCHEMA}.origin has {len(rows)} rows: it cannot be told from where this database was recovered.",
            "Drop the database and recover it anew, or DROP SCHEMA ballast_recovery CASCADE to begin with an image.",
        )
    vault_id, timeline, lsn, recovery, finished, left_out = rows[0]
    return Marker(vault_id, Cut(timeline, lsn), recovery, finished, left_out)
