"""Some tenants' rows put back and proven in one transaction, into tables that others use already.

The note that they are back, the rows, and the reading back of them belong to the same transaction: whoever sees that a
tenant is back sees all of its rows, and what differs from the record is never seen by anybody.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres.copystream import PrintError, can_stream, sum_copy_within
from ballast.recovery import progress, roster
from ballast.recovery.copying import Ask, Count, Send, ServerRefused, converse, finish, run_script, start
from ballast.recovery.report import Tally
from ballast.recovery.target import HOLE, Place, Target
from ballast.vault import Resolved, RowChunk, Vault, read_rows
from ballast.vault.failpoints import reach
from ballast.vault.records import Cut, Shared

_BACK = "UPDATE ballast_recovery.tenant SET back_at = clock_timestamp() WHERE tenant = ANY ({}) AND back_at IS NULL RETURNING 1"
_AT_ONCE_BYTES = 4 << 20
SHARED = "shared"
"""The unit of the rows that all tenants share."""

_ALONE = ("BEGIN", "COMMIT", "ROLLBACK")
_WITHIN = ("SAVEPOINT ballast_unit", "RELEASE SAVEPOINT ballast_unit", "ROLLBACK TO SAVEPOINT ballast_unit")

Tallies = dict[int, Tally]
"""Relation number to rows and checksum."""


class Differs(RestoreError):
    """Rows read back otherwise than they were recorded; nothing was kept."""


class Loader:
    """Puts units back over one connection that nobody else uses."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        vault: Vault,
        resolved: Resolved | Cut,
        target: Target,
        *,
        give_way: Callable[[], None] = lambda: None,
        reads_back: bool = True,
    ) -> None:
        self._conn, self._vault, self._resolved, self._target = conn, vault, resolved, target
        self._begin, self._commit, self._undo = _ALONE
        self._give_way, self._reads_back = give_way, reads_back
        self._streams = can_stream(conn)
        self._wordings: dict[tuple[bool, bool], dict[int, str]] = {}
        self._copies = {number: place.copy_in().as_string(None) for number, place in target.places.items()}
        self._names: dict[int, str] = {}

    def load(self, tenants: Sequence[str], note: str = "") -> Tallies:
        """Brings tenants back that can be read together; what the record has of them, as it was read back. `note`: the unit's
        name among those that are done; default: made of its first tenant's.

        Differs; ServerRefused with the server's words: nothing was kept. What the vault raises (IntegrityError, StoreError)."""
        return self._load(tenants, note or f"tenants {tenants[0]} …")

    def load_shared(self, *, within: bool = False) -> Tallies:
        """The rows of no tenant, noted as the unit `SHARED`; `within`: as a part of the caller's transaction."""
        self._begin, self._commit, self._undo = _WITHIN if within else _ALONE
        return self._load(None, SHARED)

    def note_failure(self, tenant: str, why: str) -> None:
        """It cannot be brought back; those who wait for it are told."""
        roster.fail(self._conn, tenant, why)

    def _load(self, tenants: Sequence[str] | None, note: str) -> Tallies:
        try:
            recorded = self._fill(tenants)
            try:
                if self._reads_back:
                    self._prove(tenants, recorded)
            except (ServerRefused, PrintError) as refused:
                # A tenant's name that is no value of some table's column: its texts are compared.
                if not refused.sqlstate.startswith("22") or tenants is None:
                    raise
                raise _NotAValue from refused
            # The proof is of this moment: tenants write on, and what is read later is another thing.
            progress.note_done(self._conn, note, recorded)
            run_script(self._conn, self._commit)
        except _NotAValue:
            self._roll_back()
            return self._load_by_text(tenants or (), note)
        except PrintError as refused:
            self._roll_back()
            raise ServerRefused(refused.what, refused.do, refused.sqlstate) from refused
        except BaseException:
            self._roll_back()
            raise
        reach("recover.committed")
        return recorded

    def _load_by_text(self, tenants: Sequence[str], note: str) -> Tallies:
        twin = Loader(
            self._conn, self._vault, self._resolved, self._target.comparing_texts(), give_way=self._give_way,
            reads_back=self._reads_back,
        )  # fmt: skip
        return twin._load(tenants, note)

    def _roll_back(self) -> None:
        if self._conn.pgconn.status == psycopg.pq.ConnStatus.OK:
            self._conn.pgconn.exec_(self._undo.encode())

    def _fill(self, tenants: Sequence[str] | None) -> Tallies:
        opening = [Ask(self._begin)]
        if tenants is not None:
            opening.append(Ask(_BACK.format(_array(tenants))))
        start(self._conn, opening)  # while the record is being read
        parts = _parts(self._read(tenants))
        try:
            part = next(parts, [])
        finally:
            answers = finish(self._conn, opening)
        if tenants is not None and len(answers[-1]) != len(tenants):
            raise RestoreError(
                f"tenants that were to be put back are back already: {', '.join(tenants[:5])}",
                "Another process seems to recover this database; nothing was kept. Run the same command again.",
            )
        recorded: Tallies = defaultdict(Tally)
        while part:
            self._give_way()
            steps = []
            for chunk in part:
                fitted = self._target.places[chunk.relation.number].fit(chunk)
                recorded[chunk.relation.number] += Tally(fitted.rows, fitted.checksum)
                steps.append(Send(self._copies[chunk.relation.number], [fitted.buffer]))
            converse(self._conn, steps)
            reach("recover.chunk")
            part = next(parts, [])
        return dict(recorded)

    def _read(self, tenants: Sequence[str] | None) -> Iterator[RowChunk]:
        relations = frozenset(self._target.places)
        if tenants is None or len(tenants) == 1:
            return read_rows(self._vault, self._resolved, tenant=tenants[0] if tenants else None, relations=relations)
        return read_rows(self._vault, self._resolved, tenants=tenants, relations=relations)

    def _prove(self, tenants: Sequence[str] | None, recorded: Tallies) -> None:
        expected: Tallies = defaultdict(Tally)
        for number, tally in recorded.items():
            expected[self._target.places[number].table.oid] += tally
        hole = "" if tenants is None else _array(tenants) if len(tenants) > 1 else _literal(tenants[0])
        for oid, statement in self._statements(tenants).items():
            self._give_way()
            tally = self._sum(statement.replace(HOLE, hole))
            if tally != expected[oid]:
                whose = "the rows that all share" if tenants is None else f"tenant {', '.join(tenants[:3])}"
                raise Differs(
                    f"{whose}: table {self._names[oid]} reads back {tally} where the record has {expected[oid]}",
                    "Nothing was kept. Run `ballast verify`; if it is clean, a trigger or a type of the target changes"
                    " values.",
                )

    def _statements(self, tenants: Sequence[str] | None) -> dict[int, str]:
        """By the table's oid: what prints these tenants' rows, with a hole for one name or an array of several."""
        kind = (tenants is None, tenants is not None and len(tenants) > 1)
        if kind not in self._wordings:
            shared, many = kind
            worded: dict[int, str] = {}
            for place in self._target.places.values():
                if not shared and isinstance(place.relation.tenant, Shared):
                    continue
                self._names[place.table.oid] = place.qualified
                if place.table.oid not in worded:
                    worded[place.table.oid] = self._statement(place, shared=shared, many=many)
            self._wordings[kind] = worded
        return self._wordings[kind]

    def _statement(self, place: Place, *, shared: bool, many: bool) -> str:
        statement = place.copy_out(self._target.belongs(place.relation, "t", shared=shared)).as_string(None)
        return statement.replace(f"= {HOLE}", f"= ANY ({HOLE})") if many else statement

    def _sum(self, statement: str) -> Tally:
        if self._streams:
            return Tally(*sum_copy_within(self._conn, statement))
        tally: Tally = converse(self._conn, [Count(statement)])[0][0]
        return tally


class _NotAValue(Exception):
    pass


def _parts(chunks: Iterable[RowChunk]) -> Iterator[list[RowChunk]]:
    """Chunks that are sent together."""
    part: list[RowChunk] = []
    size = 0
    for chunk in chunks:
        part.append(chunk)
        size += len(chunk.buffer)
        if size >= _AT_ONCE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _literal(name: str) -> str:
    return sql.Literal(name).as_string(None)


def _array(names: Sequence[str]) -> str:
    """As a literal of an array whose type the server finds out."""
    quoted = ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names)
    return _literal("{" + quoted + "}")
