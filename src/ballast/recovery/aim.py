"""A recovery on demand that nobody works at (`Wish.asked_only`), made one of another moment: structure stays, all rows go.

So a server can be made ready ahead of the moment that it will be wanted for: what takes longest, the structure, stands by then.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from ballast.postgres import format_lsn
from ballast.recovery import progress, record, roster
from ballast.recovery.copying import Ask, converse, in_servers_words
from ballast.recovery.opening import read_structure
from ballast.recovery.sequences import past_record
from ballast.recovery.target import Target, connect_target
from ballast.recovery.unit import SHARED
from ballast.vault import Resolved, Vault, tenants
from ballast.vault.records import Cut

_TABLES = """
SELECT n.nspname, c.relname, CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_relation_size(c.oid) ELSE 0 END
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'ballast', 'ballast_recovery', 'ballast_restore')
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
"""
_LITTLE_BYTES = 8 << 20
_QUIET = "SET LOCAL session_replication_role = replica"
_NOT_DONE = f"DELETE FROM {progress.SCHEMA}.done WHERE unit = %s OR unit LIKE 'tenants %%'"
_TASK = f"UPDATE {progress.SCHEMA}.task SET identity = %s"
_ORIGIN = "UPDATE ballast_recovery.origin SET timeline = %s, lsn = %s, begun_at = now()"
_SOMEBODY = "SELECT EXISTS (SELECT FROM ballast_recovery.tenant WHERE back_at IS NOT NULL)"
_NOBODY = "TRUNCATE ballast_recovery.tenant"


def aim(vault: Vault, resolved: Resolved, dsn: str, target: Target) -> bool:
    """The recovery that waits in the database of `dsn` is one as of `resolved` from now on; `recover` goes on with it. `target`:
    what is there, as `structure_of` has read it.

    False, and nothing is changed: there is none, or the structure was another at that moment. As `recover` raises."""
    with in_servers_words(), connect_target(dsn) as conn, progress.in_charge(conn):
        task = progress.pending(conn)
        if task is None or not task.on_demand or task.vault_id != vault.index.genesis.vault_id:
            return False
        if not has_same_structure(vault, task.cut, resolved.cut) or progress.done_unit(conn, "gate") is None:
            return False
        everybody = tenants(vault, resolved)
        with conn.transaction():
            _empty(conn)
            conn.execute(_NOBODY)
            roster.enrol(conn, everybody)
            conn.execute(_NOT_DONE.encode(), [SHARED])
            cut = resolved.cut
            conn.execute(_TASK.encode(), [_moved(task, cut).identity()])
            conn.execute(_ORIGIN, [cut.timeline, format_lsn(cut.lsn)])
            _advance_sequences(conn, vault, resolved, target)
    return True


def structure_of(vault: Vault, resolved: Resolved, dsn: str) -> Target:
    """What the database of `dsn`, built as of `resolved`, has: for `aim`, and for `Wish.target`. As `recover` raises."""
    relations = vault.relations_at(resolved.cut)
    with in_servers_words(), connect_target(dsn) as conn:
        return read_structure(conn, relations, relations)


def has_same_structure(vault: Vault, one: Cut, other: Cut, *, but_roles: bool = False) -> bool:
    """Whether what is built for the one moment does for the other: the same tables, by the same dump (`but_roles`: which may have
    other roles)."""
    return _built_from(vault, one, but_roles) == _built_from(vault, other, but_roles)


def _built_from(vault: Vault, cut: Cut, but_roles: bool) -> tuple[object, ...]:
    index = vault.index
    tables, dump = index.schema_at(cut).relations.sha256, index.dump_at(cut)
    if dump is None:
        return (tables,)
    roles = None if but_roles else dump.roles
    return tables, index.schemas[dump.version].relations.sha256, roles, dump.pre_data, dump.post_data


def _moved(task: progress.Task, cut: Cut) -> progress.Task:
    return progress.Task(task.vault_id, cut.timeline, cut.lsn, task.tenants, task.tables, task.rebuilt, task.on_demand)


def _empty(conn: psycopg.Connection[Any]) -> None:
    """Where nobody was in it, what all share is all there is: to delete it takes less than to truncate a hundred tables, of which
    none can be left out, since they refer to each other."""
    conn.execute(_QUIET)
    rows = conn.execute(_TABLES.encode()).fetchall()
    is_bare = conn.execute(_SOMEBODY).fetchone() == (False,)
    if is_bare and sum(size for _, _, size in rows) <= _LITTLE_BYTES:
        for schema, name in [(schema, name) for schema, name, size in rows if size]:
            conn.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, name)))
    elif rows:
        names = [sql.Identifier(schema, name) for schema, name, _ in rows]
        conn.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(names)))


def _advance_sequences(conn: psycopg.Connection[Any], vault: Vault, resolved: Resolved, target: Target) -> None:
    """As of the new moment, and beyond, as at the opening."""
    margin = 2 * record.changes_of_late(vault, resolved.cut)
    advances = past_record(target, record.sequences_at(vault, resolved.cut), margin=margin)
    converse(conn, [Ask(statement.as_string(None)) for statement in advances])
