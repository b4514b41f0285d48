"""The target's own memory of a restore under way, so that an interrupted one goes on where it stopped.

It lives in the target (schema `ballast_restore`) because each unit of work must be noted in the same transaction as
its rows; it is dropped when the restore is proven.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
from psycopg.types.json import Jsonb

from ballast.errors import RestoreError
from ballast.postgres import format_lsn
from ballast.postgres.ownership import stranger_in
from ballast.recovery.report import Tally
from ballast.vault.records import Cut

SCHEMA = "ballast_restore"

_CREATE = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.task (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    identity text NOT NULL
);
ALTER TABLE {SCHEMA}.task ADD COLUMN IF NOT EXISTS turn text;
CREATE TABLE IF NOT EXISTS {SCHEMA}.done (
    unit text PRIMARY KEY,
    recorded jsonb NOT NULL DEFAULT '{{}}',
    warnings text[] NOT NULL DEFAULT '{{}}',
    broken text[] NOT NULL DEFAULT '{{}}',
    done_at timestamptz NOT NULL DEFAULT now()
);
"""
_CLAIM = f"INSERT INTO {SCHEMA}.task (identity) VALUES (%s) ON CONFLICT (only_one) DO NOTHING"
_CLAIMED = f"SELECT identity FROM {SCHEMA}.task"
_TAKE_TURN = f"UPDATE {SCHEMA}.task SET turn = %s"
# Who takes the next turn waits for those that hold this one; who comes later finds that it is over.
_HOLD_TURN = f"SELECT turn FROM {SCHEMA}.task FOR SHARE"
_HOLD_UNIT = "SELECT pg_advisory_xact_lock(hashtextextended('ballast unit ' || %s, 0))"
_DONE_ONE = f"SELECT recorded FROM {SCHEMA}.done WHERE unit = %s"
_EXISTS = f"SELECT to_regclass('{SCHEMA}.task') IS NOT NULL"
_DONE = f"SELECT unit, recorded FROM {SCHEMA}.done"
_NOTE = f"INSERT INTO {SCHEMA}.done (unit, recorded, warnings, broken) VALUES (%s, %s, %s, %s)"
_SAID = f"SELECT warnings, broken FROM {SCHEMA}.done ORDER BY done_at, unit"
_DROP = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"

# Advisory locks of this database: one for the process in charge, one that each connection at work holds shared.
_IN_CHARGE, _AT_WORK = (0x62616C6C, 1), (0x62616C6C, 2)
_WAIT_S = 10.0
# Any role may take such locks: who does is named.
_HOLDERS = """
SELECT format('process %%s of role %%s%%s', l.pid, coalesce(a.usename, '?'), ' (' || nullif(a.application_name, '') || ')')
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid = %s AND l.objid = %s
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
 ORDER BY 1
"""


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """What identifies a restore: another one must not go on with this one's half-filled tables."""

    vault_id: str
    timeline: int
    lsn: int
    tenants: tuple[str, ...] | None
    tables: tuple[str, ...] | None
    rebuilt: bool
    """The tables were not there: structure comes with the rows, keys and indexes after them."""
    on_demand: bool = False
    """By `recover`: the platform is in use meanwhile, and tenants come back one by one."""

    @property
    def cut(self) -> Cut:
        """The moment."""
        return Cut(self.timeline, self.lsn)

    def identity(self) -> str:
        """The text that is compared."""
        return msgspec.json.encode(self).decode()


def pending(conn: psycopg.Connection[Any]) -> Task | None:
    """The restore that was begun in this database and not finished, if there is one."""
    _refuse_strangers(conn)
    if not _one(conn, _EXISTS):
        return None
    identity = conn.execute(_CLAIMED.encode()).fetchone()
    return msgspec.json.decode(identity[0], type=Task) if identity else None


def _refuse_strangers(conn: psycopg.Connection[Any]) -> None:
    """RestoreError if somebody else has made our schema, or put something into it: we would run their code."""
    found = stranger_in(conn, SCHEMA)
    if found is not None:
        raise RestoreError(
            f"in the schema {SCHEMA} of this database, {found[0]} belongs to role {found[1]}",
            "If that role has begun a restore, go on as that role. If not, look at what it has put there, then"
            f" DROP SCHEMA {SCHEMA} CASCADE.",
        )


@contextmanager
def in_charge(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """One process restores into a database in bulk; what connections of a killed one still do is waited for.

    RestoreError where another process does not end soon."""
    _take(conn, _IN_CHARGE, "another process is restoring into this database", time.monotonic() + _WAIT_S)
    try:
        _take(conn, _AT_WORK, "connections of an earlier restore are still at work", time.monotonic() + _WAIT_S)
        conn.execute("SELECT pg_advisory_unlock(%s, %s)", _AT_WORK)
        yield
    finally:
        if conn.pgconn.status == psycopg.pq.ConnStatus.OK:
            conn.execute("SELECT pg_advisory_unlock_all()")


def _take(conn: psycopg.Connection[Any], lock: tuple[int, int], otherwise: str, deadline: float) -> None:
    while not _one(conn, "SELECT pg_try_advisory_lock(%s, %s)", *lock):
        if time.monotonic() > deadline:
            holders = ", ".join(name for (name,) in conn.execute(_HOLDERS.encode(), lock).fetchall())
            raise RestoreError(
                f"{otherwise}: {holders or 'nobody, by now'}",
                "Wait until it has finished. If that is no restore, end it: SELECT pg_terminate_backend(process).",
            )
        time.sleep(0.2)


def claim(conn: psycopg.Connection[Any], task: Task) -> str:
    """Makes this database's restore ours, or goes on with it; gives the name of our turn at it.

    RestoreError when another one is not finished here."""
    with conn.transaction():
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
        _refuse_strangers(conn)
        conn.execute(_CREATE.encode())
        conn.execute(_CLAIM.encode(), [task.identity()])
    claimed = _one(conn, _CLAIMED)
    if claimed != task.identity():
        other = msgspec.json.decode(claimed, type=Task)
        whose = "all tenants" if other.tenants is None else f"tenant {', '.join(other.tenants)}"
        tables = "" if other.tables is None else f", tables {', '.join(other.tables)}"
        begun = "recovery on demand" if other.on_demand else "restore"
        raise RestoreError(
            f"another {begun} was begun in this database and is not finished: {whose}{tables}, at"
            f" {other.timeline}/{format_lsn(other.lsn)}, vault {other.vault_id}",
            "Finish that one (the same command as then, with --at at its position), or drop and create the database.",
        )
    turn = secrets.token_hex(8)
    conn.execute(_TAKE_TURN.encode(), [turn])
    return turn


def join(conn: psycopg.Connection[Any]) -> None:
    """Marks a connection as at work for the restore: a later process waits until it is gone."""
    conn.execute("SELECT pg_advisory_lock_shared(%s, %s)", _AT_WORK)


def begin_unit(conn: psycopg.Connection[Any], turn: str, unit: str) -> dict[int, Tally] | None:
    """Makes `unit` ours for the open transaction; what it put into which relation if it is done already.

    RestoreError where the process that handed the unit out is no longer in charge: whoever is now may have cut the work
    otherwise."""
    if _one(conn, _HOLD_TURN) != turn:
        raise RestoreError(
            f"{unit}: the restore that handed this out is no longer in charge of the database",
            "Nothing of it was kept. Look at the restore that is in charge now.",
        )
    conn.execute(_HOLD_UNIT.encode(), [unit])
    return done_unit(conn, unit)


def hold_unit(conn: psycopg.Connection[Any], unit: str) -> None:
    """Makes `unit` this session's until it ends; waits for one that has it."""
    conn.execute("SELECT pg_advisory_lock(hashtextextended('ballast unit ' || %s, 0))", [unit])


def done_unit(conn: psycopg.Connection[Any], unit: str) -> dict[int, Tally] | None:
    """What a unit put into which relation; None if it is not done."""
    recorded = _one(conn, _DONE_ONE, unit)
    return _tallies(recorded) if recorded is not None else None


def done_units(conn: psycopg.Connection[Any]) -> dict[str, dict[int, Tally]]:
    """The units of work that are committed, each with what it put into which relation (by number)."""
    return {unit: _tallies(recorded) for unit, recorded in conn.execute(_DONE.encode()).fetchall()}


def note_done(
    conn: psycopg.Connection[Any],
    unit: str,
    recorded: Mapping[int, Tally] | None = None,
    *,
    warnings: Sequence[str] = (),
    broken: Sequence[str] = (),
) -> None:
    """Notes `unit` in the open transaction, which also holds its rows, with what the report must say of it."""
    # Checksums are unsigned 64 bit: as text, because JSON readers round numbers beyond 2^53.
    tallies = {str(number): (tally.rows, str(tally.checksum)) for number, tally in (recorded or {}).items()}
    conn.execute(_NOTE.encode(), [unit, Jsonb(tallies), list(warnings), list(broken)])


def said(conn: psycopg.Connection[Any]) -> tuple[list[str], list[str]]:
    """The warnings, and the foreign keys that are broken, of all that is done."""
    rows = conn.execute(_SAID.encode()).fetchall()
    return [line for warnings, _ in rows for line in warnings], [line for _, broken in rows for line in broken]


def forget(conn: psycopg.Connection[Any]) -> None:
    """Removes every trace of the finished restore."""
    with conn.transaction():
        conn.execute("SET LOCAL client_min_messages = warning")
        conn.execute(_DROP.encode())


def _tallies(recorded: Mapping[str, Any]) -> dict[int, Tally]:
    return {int(number): Tally(rows, int(checksum)) for number, (rows, checksum) in recorded.items()}


def _one(conn: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
    row = conn.execute(query.encode(), parameters or None).fetchone()
    return row[0] if row else None
