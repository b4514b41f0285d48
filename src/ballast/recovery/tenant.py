"""One tenant's rows put back into a server that has the tables, in one transaction, proven before it commits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import psycopg
import xxhash
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery.copying import Ask, Count, Send, Step, converse, finish, run_script, start
from ballast.recovery.foreign_keys import described
from ballast.recovery.report import TableProof, Tally
from ballast.recovery.wording import Wording
from ballast.vault import RowChunk
from ballast.vault.failpoints import reach

# Triggers and foreign keys stay silent: the rows were checked when they were written at the source.
_OPENING = "BEGIN; SET LOCAL session_replication_role = replica"
# Two restores of one tenant at the same time would both find it absent.
LOCK = "SELECT pg_advisory_xact_lock({})"
_AT_ONCE_BYTES = 32 << 20
"""Rows gathered before they are sent: a small tenant's go with everything else in one conversation."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one tenant."""

    tenant: str | None
    proofs: list[TableProof]
    broken: list[str]
    """Foreign keys without a parent; not empty only where that was allowed."""
    was_there: bool
    """The target held exactly these rows before."""
    newer: dict[str, int]
    """Tables that did not exist at the moment: how many of the tenant's rows were removed from each with `replace`; without
    it, those that hold some."""


def put_back(
    conn: psycopg.Connection[Any],
    wording: Wording,
    tenant: str | None,
    chunks: Iterable[RowChunk],
    *,
    replace: bool,
    inexact: bool = False,
) -> Outcome:
    """Puts `tenant`'s rows (None: the shared ones) back and proves them, within one transaction.

    With `replace` the tenant's present rows go first. Without it, present rows that are not exactly the recorded ones raise
    RestoreError; so do, with nothing changed, a foreign key that would be broken (unless the record itself is `inexact`)
    and rows that read back otherwise than they were recorded.
    """
    try:
        outcome = _Restoring(conn, wording, tenant, inexact=inexact).run(chunks, replace=replace)
        run_script(conn, "COMMIT")
    except BaseException:
        if conn.pgconn.status == psycopg.pq.ConnStatus.OK:
            conn.pgconn.exec_(b"ROLLBACK")
        raise
    reach("restore.committed")
    return outcome


class _Restoring:
    def __init__(self, conn: psycopg.Connection[Any], wording: Wording, tenant: str | None, *, inexact: bool) -> None:
        self._conn, self._wording, self._tenant, self._inexact = conn, wording, tenant, inexact
        self._literal = sql.Literal(tenant).as_string(conn)
        self._recorded: dict[int, Tally] = defaultdict(Tally)
        self._newer: dict[str, int] = {}

    def run(self, chunks: Iterable[RowChunk], *, replace: bool) -> Outcome:
        opening = [Ask(part) for part in _OPENING.split("; ")]
        opening.append(Ask(LOCK.format(lock_key(self._tenant))))
        wording = self._wording
        newer = wording.newer_deletes if replace else [wording.newer_presence] if wording.newer_presence else []
        looks = wording.deletes if replace else [wording.presence]
        opening += [Ask(self._fill(look)) for look in (*newer, *looks) if look]
        # The server looks while the record is being read.
        start(self._conn, opening)
        parts = _parts(chunks)
        try:
            part, is_last = next(parts)
        finally:
            answers = finish(self._conn, opening)
        begun = len(_OPENING.split("; ")) + 1
        self._newer = {name: int(n) for answer in answers[begun : begun + len(newer)] for name, n in answer if n != "0"}
        present = [] if replace or not looks[0] else sorted(row[0] for row in answers[-1])
        closing = self._closing(replace=replace, sequences=not present)
        while True:
            steps = [self._note(chunk) for chunk in part]
            if present:
                steps = []
            if is_last:
                return self._outcome(converse(self._conn, [*steps, *closing])[len(steps) :], present, replace=replace)
            converse(self._conn, steps)
            part, is_last = next(parts)

    def _note(self, chunk: RowChunk) -> Step:
        place = self._wording.places[chunk.relation.number]
        chunk = place.fit(chunk)
        self._recorded[place.table.oid] += Tally(chunk.rows, chunk.checksum)
        return Send(self._wording.copies[chunk.relation.number], [chunk.buffer])

    def _closing(self, *, replace: bool, sequences: bool) -> list[Step]:
        steps: list[Step] = [Count(self._fill(tally)) for tally in self._wording.tallies]
        steps.append(Ask(self._fill(self._wording.orphans[replace]) or "SELECT WHERE false"))
        if sequences:
            steps += [Ask(self._fill(statement)) for statement in self._wording.sequences]
        return steps

    def _outcome(self, answers: list[list[Any]], present: list[str], *, replace: bool) -> Outcome:
        proofs = [
            TableProof(title, self._recorded[oid], answer[0])
            for (oid, title), answer in zip(self._wording.tables.items(), answers, strict=False)
        ]
        orphaned = answers[len(proofs)]
        whose = f'tenant "{self._tenant}"' if self._tenant is not None else "rows that all tenants share"
        wrong = [proof for proof in proofs if not proof.equal]
        if wrong and present:
            held = f"rows of {whose}" if self._tenant is not None else whose
            raise RestoreError(
                f"the target already holds {held} in {', '.join(present)}, and not those of the record",
                "Add --replace to have them replaced by the recorded ones, or restore into another database.",
            )
        if wrong:
            raise RestoreError(
                f"{whose}: table {wrong[0].table} reads back {wrong[0].restored} where the record has {wrong[0].recorded}",
                "Nothing was kept. Run `ballast verify`; if it is clean, a trigger or a type of the target changes values.",
            )
        if orphaned and not self._inexact:
            raise self._orphaned(whose, orphaned, replace=replace)
        reach("restore.chunk")
        return Outcome(self._tenant, proofs, described(orphaned), bool(present), self._newer)

    def _orphaned(self, whose: str, rows: list[Any], *, replace: bool) -> RestoreError:
        """Names what to do about rows that stand in the restored tables, and about those that refer to them."""
        restored = {f"{place.table.schema}.{place.table.name}" for place in self._wording.places.values()}
        outside = sorted({table for table, *_ in rows if table not in restored}) if replace else []
        above = sorted({parent for table, _, _, parent in rows if table not in outside})
        advice = []
        if above:
            advice.append(
                f"Restore the tables that are referred to as well ({', '.join(above)}), or choose another moment"
            )
        if outside:
            statements = [row[1] for row in converse(self._conn, [Ask(self._fill(self._wording.deletions))])[0]]
            more = "Delete"
            if known := self._wording.recorded(outside):
                more = f"Add {' '.join(f'--table {name}' for name in known)} to restore those as well, or delete"
            advice.append(f"{more} the rows that refer to what goes: {'; '.join(statements)}")
        refer = f"; {', '.join(outside)} refers to rows that the moment does not have" if outside else ""
        return RestoreError(
            f"{whose}: foreign keys would be broken: {'; '.join(described(rows))}{refer}",
            f"Nothing was kept. {'. '.join(advice)}.",
        )

    def _fill(self, statement: str) -> str:
        return Wording.fill(statement, self._literal)


def _parts(chunks: Iterable[RowChunk]) -> Iterator[tuple[list[RowChunk], bool]]:
    """Chunks together up to so many bytes, and whether these are the last."""
    part: list[RowChunk] = []
    size = 0
    for chunk in chunks:
        if size and size + len(chunk.buffer) > _AT_ONCE_BYTES:
            yield part, False
            part, size = [], 0
        part.append(chunk)
        size += len(chunk.buffer)
    yield part, True


def lock_key(tenant: str | None) -> int:
    """Of the advisory lock that whoever puts this tenant's rows back (None: the shared ones) holds until it commits."""
    named = b"ballast shared" if tenant is None else b"ballast tenant " + tenant.encode()
    return xxhash.xxh64_intdigest(named) - (1 << 63)
