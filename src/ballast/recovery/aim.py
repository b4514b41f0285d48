"""A recovery on demand that nobody works at (`Wish.asked_only`), made one of another moment: structure stays, all rows go.

So a server can be made ready ahead of the moment that it will be wanted for: what takes longest, the structure, stands by then.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from psycopg import sql

from ballast.postgres import format_lsn
from ballast.recovery import progress, record, roster
from ballast.recovery.choice import Request
from ballast.recovery.copying import Ask, converse, in_servers_words
from ballast.recovery.empty import leave_extensions
from ballast.recovery.sequences import past_record
from ballast.recovery.target import connect_target, read_target
from ballast.recovery.unit import SHARED
from ballast.vault import Resolved, Vault, tenants
from ballast.vault.records import Cut

_TABLES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'ballast', 'ballast_recovery', 'ballast_restore')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
"""
_QUIET = "SET LOCAL session_replication_role = replica"
_NOT_DONE = f"DELETE FROM {progress.SCHEMA}.done WHERE unit = %s OR unit LIKE 'tenants %%'"
_TASK = f"UPDATE {progress.SCHEMA}.task SET identity = %s"
_ORIGIN = "UPDATE ballast_recovery.origin SET timeline = %s, lsn = %s, begun_at = now()"
_NOBODY = "TRUNCATE ballast_recovery.tenant"


class Aiming:
    """The recovery that waits in a database, about to become one of another moment: emptied, in a transaction that is committed
    when that moment is known. Until then it can be left as it was."""

    def __init__(self, vault: Vault, conn: psycopg.Connection[Any], task: progress.Task) -> None:
        self._vault, self._conn, self._task = vault, conn, task
        self._held = ExitStack()
        relations = vault.relations_at(task.cut)
        self.target = read_target(conn, relations, relations)
        """What is there, for `Wish.target`."""
        leave_extensions(self.target, Request())

    @classmethod
    def begin(cls, vault: Vault, dsn: str) -> Aiming | None:
        """None, and nothing is changed: there is none in the database of `dsn`, or it did not get so far. As `recover` raises."""
        with in_servers_words(), ExitStack() as held:
            conn = held.enter_context(connect_target(dsn))
            held.enter_context(progress.in_charge(conn))
            task = progress.pending(conn)
            if task is None or not task.on_demand or task.vault_id != vault.index.genesis.vault_id:
                return None
            if progress.done_unit(conn, "gate") is None:
                return None
            conn.execute("BEGIN")
            _empty(conn)
            conn.execute(_NOBODY)
            conn.execute(_NOT_DONE.encode(), [SHARED])
            aiming = cls(vault, conn, task)
            aiming._held = held.pop_all()
            return aiming

    def at(self, resolved: Resolved) -> bool:
        """It is one as of `resolved` from now on; `recover` goes on with it. False: it is as it was, since the structure was
        another at that moment. As `recover` raises."""
        with in_servers_words(), self._held:
            conn, cut = self._conn, resolved.cut
            if not has_same_structure(self._vault, self._task.cut, cut):
                conn.execute("ROLLBACK")
                return False
            roster.enrol(conn, tenants(self._vault, resolved))
            conn.execute(_TASK.encode(), [_moved(self._task, cut).identity()])
            conn.execute(_ORIGIN, [cut.timeline, format_lsn(cut.lsn)])
            self._advance_sequences(resolved)
            conn.execute("COMMIT")
        return True

    def leave(self) -> None:
        """It is as it was."""
        with suppress(psycopg.Error), self._held:
            self._conn.execute("ROLLBACK")

    def _advance_sequences(self, resolved: Resolved) -> None:
        """As of the new moment, and beyond, as at the opening."""
        margin = 2 * record.changes_of_late(self._vault, resolved.cut)
        advances = past_record(self.target, record.sequences_at(self._vault, resolved.cut), margin=margin)
        converse(self._conn, [Ask(statement.as_string(None)) for statement in advances])


def has_same_structure(vault: Vault, one: Cut, other: Cut) -> bool:
    """Whether what is built for the one moment does for the other."""
    index = vault.index
    return (index.schema_at(one).version, index.dump_at(one)) == (index.schema_at(other).version, index.dump_at(other))


def _moved(task: progress.Task, cut: Cut) -> progress.Task:
    return progress.Task(task.vault_id, cut.timeline, cut.lsn, task.tenants, task.tables, task.rebuilt, task.on_demand)


def _empty(conn: psycopg.Connection[Any]) -> None:
    """Nothing refers to rows of a table that is not among them, so none is left out."""
    conn.execute(_QUIET)
    names = [sql.Identifier(*row) for row in conn.execute(_TABLES.encode()).fetchall()]
    if names:
        conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))
