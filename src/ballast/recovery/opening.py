"""What must stand before the first tenant can be served: structure, list of tenants, gate, sequences, shared rows.

All of it is one transaction. An application is at the door from the first second on, and rights come with the structure: a
table without its gate would read as empty, and one row written to a shared table before its rows are there would meet
them. It is little work while tables are empty, so an interrupted one begins anew. Keys and indexes are made before the
rows: a tenant must be whole, and served by index, while most of the others are still missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import psycopg

from ballast.errors import RestoreError
from ballast.postgres import read_catalog
from ballast.recovery import gate, mark, progress, rebuild, record, roster
from ballast.recovery.choice import Choice, Request
from ballast.recovery.copying import Ask, ServerRefused, converse, run_script
from ballast.recovery.empty import leave_extensions
from ballast.recovery.rights import Needs, refuse_awake, require_rights
from ballast.recovery.sequences import past_record
from ballast.recovery.target import Target, read_target
from ballast.recovery.unit import SHARED, Loader
from ballast.vault import Resolved, Vault, tenants
from ballast.vault.failpoints import reach
from ballast.vault.records import Relation

_OLDEST = 16
_BYPASSES = "SELECT rolsuper OR rolbypassrls, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user"
_OUT_OF_LOCKS = "53200"
_LOADING = "SET LOCAL session_replication_role = replica; SET LOCAL jit = off; SET LOCAL enable_seqscan = off"
_ORIGIN = "SELECT vault_id, timeline, finished_at FROM ballast_recovery.origin"


def finished_before(conn: psycopg.Connection[Any], vault: Vault) -> bool:
    """Whether this database was recovered from this vault, completely and proven, and nothing is under way."""
    if progress.pending(conn) is not None:
        return False
    (there,) = conn.execute("SELECT to_regclass('ballast_recovery.origin') IS NOT NULL").fetchone() or (False,)
    if not there:
        return False
    found = conn.execute(_ORIGIN).fetchone()
    return found is not None and found[0] == vault.index.genesis.vault_id and found[2] is not None


def require_empty(conn: psycopg.Connection[Any], vault: Vault, resolved: Resolved) -> None:
    """RestoreError, with nothing written, where a platform cannot be rebuilt: version, rights, a database in use."""
    dump = vault.index.dump_at(resolved.cut)
    major, recorded = conn.info.server_version // 10000, (dump.server_version // 10000 if dump is not None else 0)
    if major < max(_OLDEST, recorded):
        raise RestoreError(
            f"the target is PostgreSQL {major}, and the recorded database was {recorded or 'of an unknown version'}",
            f"Recover into a server of version {max(_OLDEST, recorded)} or newer.",
        )
    may_pass = conn.execute(_BYPASSES).fetchone()
    if may_pass is not None and not may_pass[0]:
        raise RestoreError(
            f"the role {may_pass[1]} would be held up by the gate that keeps others from tenants that are not back yet",
            f"Recover as a superuser, or have one run: ALTER ROLE {may_pass[1]} BYPASSRLS.",
        )
    require_rights(conn, None, Needs(), create=True)
    if progress.pending(conn) is not None:
        return
    ours = ("ballast", "ballast_recovery", progress.SCHEMA)
    held = [t for t in read_catalog(conn).tables if t.extension is None and t.schema not in ours]
    if held:
        names = ", ".join(f"{table.schema}.{table.name}" for table in held[:5])
        raise RestoreError(
            f"the target is not empty: it has {len(held)} tables ({names}{', …' if len(held) > 5 else ''})",
            "Recover into a database that was just created (createdb). Into one that has the tables, `ballast restore`"
            " brings back single tenants.",
        )


def read_structure(
    conn: psycopg.Connection[Any], relations: Mapping[int, Relation], chosen: Mapping[int, Relation]
) -> Target:
    """What was rebuilt, as `read_target` reads it; what extensions brought is left to them."""
    target = read_target(conn, relations, chosen)
    leave_extensions(target, Request())
    return target


class Opening:
    """The steps, over a connection that is in charge (`progress.in_charge`)."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        dsn: str,
        vault: Vault,
        resolved: Resolved,
        choice: Choice,
        begin: Callable[[str], None],
        *,
        known: Target | None = None,
    ) -> None:
        self._conn, self._dsn, self._vault, self._resolved, self._choice = conn, dsn, vault, resolved, choice
        self._begin, self._known = begin, known
        self._done: Collection[str] = ()

    def run(self, settings: Collection[str]) -> Target:
        """Everything before the first tenant; the target as it is then. Shared rows may be missing from what is done where
        an earlier call was refused or stopped."""
        conn, cut = self._conn, self._resolved.cut
        genesis = self._vault.index.genesis
        progress.claim(
            conn, progress.Task(genesis.vault_id, cut.timeline, cut.lsn, None, None, rebuilt=True, on_demand=True)
        )
        roster.refuse_strangers(conn)
        self._done = progress.done_units(conn).keys()
        was_shut = "gate" in self._done
        if not was_shut:
            self._open(settings)
        target = self._known or self._read(conn)
        self._refuse(conn, target)
        if was_shut and SHARED not in self._done:
            with conn.transaction():  # tables that a person has made by hand since
                gate.shut(conn, target, settings)
        return target

    def _open(self, settings: Collection[str]) -> None:
        """All of it in one transaction: nobody may find a table without its gate, or a shared one without its rows."""
        self._begin("structure")
        structure = record.structure_at(self._vault, self._resolved.cut)
        afterwards = rebuild.Afterwards(self._dsn, structure, self._done, jobs=1)
        with afterwards.connection() as builder:
            marking = mark.mark(builder, 0)
            try:
                with builder.transaction():
                    self._make(builder, structure, afterwards)
                    self._begin("list of tenants, gate")
                    target = self._read(builder)
                    self._close(builder, target, settings, () if marking is None else (marking,))
                    try:
                        self._refuse(builder, target)
                    except RestoreError:
                        return  # the structure stands behind its gate, for a person to mend; `run` says what
                    self._begin("shared rows")
                    run_script(builder, _LOADING)
                    Loader(builder, self._vault, self._resolved, target).load_shared(within=True)
            except ServerRefused as refused:
                if refused.sqlstate != _OUT_OF_LOCKS:
                    raise
                raise RestoreError(
                    f"the structure is more than one transaction can lock in this server: {refused.what}",
                    "Raise max_locks_per_transaction in its configuration, restart it, and run the same command again.",
                ) from refused
        reach("recover.gate")

    def _make(
        self, builder: psycopg.Connection[Any], structure: record.Structure, afterwards: rebuild.Afterwards
    ) -> None:
        if "set up" not in self._done:
            roster.set_up(builder, self._vault.index.genesis.vault_id, self._resolved.cut)
            progress.note_done(builder, "set up")
        if "pre-data" not in self._done:
            rebuild.create_tables(builder, structure)
        afterwards.prepare(builder)
        for task in afterwards.keys_and_indexes():
            task.run(builder)
        afterwards.ahead_of_rows(builder)
        run_script(builder, "RESET ALL")

    def _read(self, conn: psycopg.Connection[Any]) -> Target:
        return read_structure(conn, self._choice.relations, self._choice.chosen)

    def _refuse(self, conn: psycopg.Connection[Any], target: Target) -> None:
        if target.missing:
            names = ", ".join(relation.qualified for relation in target.missing[:5])
            raise RestoreError(
                f"the rebuilt structure lacks tables that the record has rows of: {names}",
                "Create them in the target by hand and run the same command again.",
            )
        refuse_awake(conn, {place.table.oid for place in target.places.values()})

    def _close(
        self,
        conn: psycopg.Connection[Any],
        target: Target,
        settings: Collection[str],
        warnings: Collection[str],
    ) -> None:
        everybody = tenants(self._vault, self._resolved)
        sequences = record.sequences_at(self._vault, self._resolved.cut)
        margin = 2 * record.changes_of_late(self._vault, self._resolved.cut)
        roster.enrol(conn, everybody)
        roster.help_finding(conn, target)
        warnings = (*warnings, *gate.shut(conn, target, settings))
        advances = past_record(target, sequences, margin=margin)
        converse(conn, [Ask(statement.as_string(None)) for statement in advances])
        progress.note_done(conn, "gate", warnings=warnings)
