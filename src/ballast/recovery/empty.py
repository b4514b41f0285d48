"""Restoring into tables that hold nothing yet: structure first where it is missing, rows, then keys and indexes.

What is done is noted in the target itself; called again, it goes on where an earlier call stopped.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery import everything, progress, rebuild, record, statistics
from ballast.recovery.choice import Choice, Request
from ballast.recovery.copying import Ask, converse
from ballast.recovery.foreign_keys import all_orphans, described
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.report import TableProof
from ballast.recovery.rights import Needs, require_rights
from ballast.recovery.schedule import work_off
from ballast.recovery.sequences import past_record
from ballast.recovery.target import Target, connect_target, read_target
from ballast.recovery.watcher import Watcher
from ballast.vault import Resolved, Vault
from ballast.vault.failpoints import reach

_UNPOPULATED = "SELECT format('%I.%I', schemaname, matviewname) FROM pg_matviews WHERE NOT ispopulated ORDER BY 1"


class IntoEmpty:
    """One restore into a database without such rows. `conn` is a connection to `dsn` that nobody else uses."""

    def __init__(
        self,
        vault: Vault,
        resolved: Resolved,
        dsn: str,
        conn: psycopg.Connection[Any],
        request: Request,
        choice: Choice,
        watcher: Watcher,
        hands: Hands,
    ) -> None:
        self._vault, self._resolved, self._dsn, self._conn, self._hands = vault, resolved, dsn, conn, hands
        self._request, self._choice, self._watcher = request, choice, watcher

    def run(self, *, rebuild_structure: bool) -> tuple[list[TableProof], list[str], list[str]]:
        """Proofs, warnings, broken foreign keys. The connection is in charge (`progress`).

        RestoreError with nothing half done that the next call would not finish."""
        require_rights(self._conn, None, Needs(), create=True)  # those on tables that stand were asked before
        genesis, cut = self._vault.index.genesis, self._resolved.cut
        task = progress.Task(
            genesis.vault_id,
            cut.timeline,
            cut.lsn,
            self._request.tenants,
            self._request.tables,
            rebuild_structure,
        )
        structure = record.structure_at(self._vault, cut) if rebuild_structure else None
        turn = progress.claim(self._conn, task)
        done = progress.done_units(self._conn)
        if structure is not None and "pre-data" not in done:
            self._watcher.begin("structure", 0)
            rebuild.create_tables(self._conn, structure)
        afterwards = None
        if structure is not None:
            afterwards = rebuild.Afterwards(self._dsn, structure, done, jobs=self._request.jobs)
        proofs = self._rows(structure, afterwards, done, turn)
        _insist(proofs)
        if afterwards is not None:
            self._watcher.begin("foreign keys and the rest", 0)
            afterwards.run()
        warnings, broken = progress.said(self._conn)
        target = read_target(self._conn, self._choice.relations, self._choice.chosen)
        broken += self._settle(target, check_keys=structure is None)
        if self._request.tenants is not None or self._request.tables is not None:
            # What they refer to was not asked for; with everything there, it would be a fault.
            warnings += [f"foreign key without its parent: {line}" for line in broken]
            broken = []
        warnings += empty_views(self._conn)
        progress.forget(self._conn)
        reach("restore.forgotten")
        return proofs, warnings, broken

    def _rows(
        self,
        structure: record.Structure | None,
        afterwards: rebuild.Afterwards | None,
        done: dict[str, everything.Tallies],
        turn: str,
    ) -> list[TableProof]:
        """Rows in by many hands; then read back here, by who answers for the proof, while keys and indexes are built."""
        relations = dict(self._choice.relations)
        if structure is not None and "after" not in done:
            relations |= structure.adjustment.interim
        chosen = {number: relations[number] for number in self._choice.chosen}
        target = read_target(self._conn, relations, chosen)
        self._require_all(target)
        leave_extensions(target, self._request)
        jobs, advance = self._request.jobs, self._watcher.advance
        self._watcher.begin("rows", record.rows_estimate(self._vault, self._resolved.cut))
        cut, wanted = self._resolved.cut, self._request.tenants
        todo = everything.units(self._vault, cut, target, turn, wanted, done.keys(), self._hands)
        recorded = everything.load(todo, self._hands, Seat(self._vault, self._dsn, advance), done)
        self._watcher.begin("reading back, keys, indexes", sum(tally.rows for tally in recorded.values()))
        proving = everything.Proving(self._dsn, self._conn, target, advance)
        tasks = [*proving.tasks(), *(afterwards.keys_and_indexes() if afterwards is not None else ())]
        # The largest tables first, so that all connections end at about the same time.
        tasks.sort(key=lambda task: -proving.size(task.table))
        connection = afterwards.connection if afterwards is not None else partial(connect_target, self._dsn)
        work_off(tasks, jobs, connection)
        reach("restore.proven")
        work_off(statistics.analyze(target.places.values()), jobs, connection)
        titles = {number: relation.qualified for number, relation in self._choice.chosen.items()}
        return proving.proofs(recorded, titles)

    def _settle(self, target: Target, *, check_keys: bool) -> list[str]:
        """Sequences follow; foreign keys that stood before are asked for rows without a parent."""
        advances = past_record(target, record.sequences_at(self._vault, self._resolved.cut))
        converse(self._conn, [Ask(statement.as_string(None)) for statement in advances])
        if not check_keys:
            return []
        questions = sql.SQL(" UNION ALL ").join(all_orphans(target)).as_string(None)
        return described(converse(self._conn, [Ask(questions)])[0]) if questions else []

    def _require_all(self, target: Target) -> None:
        if target.missing:
            names = ", ".join(relation.qualified for relation in target.missing)
            raise RestoreError(
                f"the target lacks tables that the record has rows of: {names}",
                "Create them in the target by hand and run the same command again.",
            )


def empty_views(conn: psycopg.Connection[Any]) -> list[str]:
    """A warning for each materialized view that holds nothing yet."""
    return [
        f"materialized view {name} is empty: REFRESH MATERIALIZED VIEW {name}"
        for (name,) in conn.execute(_UNPOPULATED).fetchall()
    ]


def leave_extensions(target: Target, request: Request) -> None:
    """Tables that came with an extension were filled by it: their rows are restored only when asked for by name."""
    if request.tables is None:
        for number in [n for n, place in target.places.items() if place.table.extension is not None]:
            del target.places[number]


def _insist(proofs: list[TableProof]) -> None:
    wrong = [proof for proof in proofs if not proof.equal]
    if wrong:
        raise RestoreError(
            f"table {wrong[0].table} reads back {wrong[0].restored} where the record has {wrong[0].recorded}"
            + (f", and {len(wrong) - 1} more tables differ" if wrong[1:] else ""),
            "Run `ballast verify`; if it is clean, something in the target changes rows. The target is left as it is, for"
            " inspection (what was done stands in its schema ballast_restore).",
        )
