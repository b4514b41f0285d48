"""Restoring into tables that stand: each tenant is one transaction beside the others' live rows."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery.choice import Choice, Request, refuse_unknown
from ballast.recovery.copying import ServerRefused
from ballast.recovery.newer import Newer
from ballast.recovery.report import TableProof
from ballast.recovery.rights import Needs, require_rights
from ballast.recovery.sequences import advanced
from ballast.recovery.target import Target, connect_target
from ballast.recovery.tenant import Outcome, put_back
from ballast.recovery.watcher import Watcher
from ballast.recovery.wording import Wording
from ballast.vault import Resolved, RowChunk, Vault, read_rows
from ballast.vault.records import SequenceState, Shared

_NOT_A_VALUE = "22"
"""Class of SQLSTATE."""


class Prepared:
    """A target with the statements for it."""

    def __init__(self, target: Target, choice: Choice, newer: Newer | None = None) -> None:
        self.target = target
        self._newer = newer
        self._chosen: Mapping[int, Any] = choice.chosen
        self._wordings: dict[tuple[bool, bool], Wording] = {}
        self._allowed = False

    def wording(self, *, shared: bool, by_text: bool = False) -> Wording:
        """The statements for tenants' rows, or the shared ones."""
        if (shared, by_text) not in self._wordings:
            target = self.target.comparing_texts() if by_text else self.target
            self._wordings[shared, by_text] = Wording(
                target, self._chosen.values(), shared=shared, newer=self._newer, by_text=by_text
            )
        return self._wordings[shared, by_text]

    def require(self, conn: psycopg.Connection[Any], request: Request) -> None:
        """RestoreError where tables or rights are missing."""
        if self.target.missing:
            names = ", ".join(relation.qualified for relation in self.target.missing[:5])
            raise RestoreError(
                f"the target has some of the recorded tables and lacks others: {names}",
                "Restore into an empty database, name the tables with --table, or create those that are missing.",
            )
        if request.tenants is not None and not self._allowed:  # of everybody it was asked when rows were looked for
            self.require_rights(conn, replace=request.replace)
            self._allowed = True

    def require_rights(
        self,
        conn: psycopg.Connection[Any],
        *,
        replace: bool,
        everybodys: Iterable[SequenceState] | None = None,
        create: bool = False,
    ) -> None:
        """RestoreError that names all that is missing. Only who restores everybody (given the recorded sequences) touches
        what all share; `create`: in bulk."""
        needs = Needs()
        self.wording(shared=False).add_needs(needs, replace=replace)
        if everybodys is not None:
            self.wording(shared=True).add_needs(needs, replace=replace)
            sequences = advanced(self.target, everybodys)
            needs.on_sequences([sequence.oid for sequence in sequences], "SELECT", "UPDATE")
            needs.on_tables({oid for sequence in sequences for oid, _ in sequence.feeds}, "SELECT")
        if create:
            for key in self.target.catalog.foreign_keys:
                needs.on_tables((key.table_oid, key.ref_table_oid), "SELECT")
        require_rights(conn, self.target.catalog, needs, create=create)


class IntoExisting:
    """Tenants put back one by one, by one connection or several."""

    def __init__(
        self,
        vault: Vault,
        resolved: Resolved,
        dsn: str,
        prepared: Prepared,
        request: Request,
        watcher: Watcher,
    ) -> None:
        self._vault, self._resolved, self._dsn, self._prepared = vault, resolved, dsn, prepared
        self._request, self._watcher = request, watcher

    def run(self, conn: psycopg.Connection[Any], wanted: Sequence[str | None]) -> list[Outcome]:
        """The shared rows first, since tenants' rows refer to them; the others side by side if they are many."""
        ordered = sorted(set(wanted), key=lambda tenant: (tenant is not None, tenant or ""))
        first, others = ordered[:1], ordered[1:]
        outcomes = [self._put_back(conn, tenant) for tenant in first]
        jobs = min(self._request.jobs, len(others))
        if jobs <= 1:
            return outcomes + [self._put_back(conn, tenant) for tenant in others]
        left: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for tenant in others:
            left.put(tenant)

        def work(connection: psycopg.Connection[Any]) -> list[Outcome]:
            finished = []
            while True:
                try:
                    finished.append(self._put_back(connection, left.get_nowait()))
                except queue.Empty:
                    return finished
                except BaseException:
                    while not left.empty():  # the others finish what they are at
                        left.get()
                    raise

        def work_alone() -> list[Outcome]:
            with connect_target(self._dsn) as connection:
                return work(connection)

        with ThreadPoolExecutor(jobs) as pool:
            workers = [pool.submit(work, conn), *(pool.submit(work_alone) for _ in range(jobs - 1))]
        return outcomes + [outcome for worker in workers for outcome in worker.result()]

    def _put_back(self, conn: psycopg.Connection[Any], tenant: str | None) -> Outcome:
        try:
            outcome = self._once(conn, tenant, by_text=False)
        except ServerRefused as refused:
            # The tenant's name is no value of some tenant column, such as a name where another table has numbers.
            if not refused.sqlstate.startswith(_NOT_A_VALUE):
                raise
            outcome = self._once(conn, tenant, by_text=True)
        self._watcher.advance(sum(proof.restored.rows for proof in outcome.proofs))
        return outcome

    def _once(self, conn: psycopg.Connection[Any], tenant: str | None, *, by_text: bool) -> Outcome:
        wording = self._prepared.wording(shared=tenant is None, by_text=by_text)
        chunks = self._rows(tenant, wording)
        return put_back(conn, wording, tenant, chunks, replace=self._request.replace, inexact=self._request.inexact)

    def _rows(self, tenant: str | None, wording: Wording) -> Iterator[RowChunk]:
        """Looking whether a tenant was ever there takes time, and is only needed where nothing of it is found."""
        found = False
        for chunk in read_rows(self._vault, self._resolved, tenant=tenant, relations=frozenset(wording.places)):
            found = True
            yield chunk
        if tenant is not None and not found:
            refuse_unknown(self._vault, (tenant,))


def others(conn: psycopg.Connection[Any], target: Target, proofs: Sequence[TableProof]) -> list[str]:
    """Rows that nobody in the record owns at the moment: they are left alone, and told."""
    expected = {proof.table: proof.restored.rows for proof in proofs}
    places = {place.relation.qualified: place for place in target.places.values()}
    counted = {
        name: conn.execute(sql.SQL("SELECT count(*) FROM {}").format(place.only)).fetchone()
        for name, place in places.items()
        if name in expected
    }
    return [
        f"{name} holds {row[0] - expected[name]} rows of tenants that the record does not have at that moment"
        for name, row in counted.items()
        if row is not None and row[0] != expected[name]
    ]


def left_alone(target: Target) -> list[str]:
    """Tables named in a request for tenants that own nothing of them."""
    names = sorted(
        {place.relation.qualified for place in target.places.values() if isinstance(place.relation.tenant, Shared)}
    )
    return [f"{name} is shared by all tenants and was left alone: leave --tenant out to restore it" for name in names]


def told(outcomes: Sequence[Outcome], *, replace: bool) -> list[str]:
    """What a person should know about tenants that were there, and about tables that were not."""
    lines = []
    recorded = [outcome for outcome in outcomes if any(proof.recorded.rows for proof in outcome.proofs)]
    of_tenants = [outcome for outcome in recorded if outcome.tenant is not None]
    found = sum(outcome.was_there for outcome in of_tenants)
    there = [f"{found} of {len(of_tenants)} tenants"] if found else []
    if any(outcome.was_there for outcome in recorded if outcome.tenant is None):
        there.append("the rows that all tenants share")
    if there:
        lines.append(f"{' and '.join(there)} were there already, exactly as recorded")
    newer: Counter[str] = Counter()
    for outcome in outcomes:
        newer.update(outcome.newer)
    if newer and replace:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(newer.items()))
        lines.append(f"removed {newer.total()} rows of tables that did not exist then: {names}")
    elif newer:
        lines.append(
            f"tables that did not exist then hold rows of these tenants: {', '.join(sorted(newer))}; --replace removes them"
        )
    return lines
