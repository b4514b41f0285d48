"""Restoring into tables that stand: each tenant is one transaction beside the others' live rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery.choice import Choice, Request, refuse_unknown
from ballast.recovery.copying import ServerRefused
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.newer import Newer
from ballast.recovery.report import TableProof
from ballast.recovery.rights import Needs, require_rights
from ballast.recovery.sequences import advanced
from ballast.recovery.target import Target, connect_target
from ballast.recovery.tenant import Outcome, put_back
from ballast.recovery.wording import Wording
from ballast.vault import RowChunk, Vault, read_rows
from ballast.vault.buckets import bucket_of
from ballast.vault.records import Cut, SequenceState, Shared

_NOT_A_VALUE = "22"
"""Class of SQLSTATE."""
_PIECES_A_HAND = 4


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


class Piece(msgspec.Struct, frozen=True):
    """Some tenants to be put back, one transaction each, for whoever does it. Done again, it finds them as recorded."""

    tenants: tuple[str, ...]
    cut: Cut
    prepared: Prepared
    replace: bool
    inexact: bool


def put_back_piece(seat: Seat, piece: Piece) -> list[Outcome]:
    """What became of each."""
    with connect_target(seat.dsn) as conn:
        return [_put_back(seat, conn, piece, tenant) for tenant in piece.tenants]


class IntoExisting:
    """Tenants put back one by one, by one connection or many hands."""

    def __init__(self, cut: Cut, prepared: Prepared, request: Request, hands: Hands, seat: Seat) -> None:
        self._hands, self._seat = hands, seat
        self._all = Piece((), cut, prepared, request.replace, request.inexact)

    def run(self, conn: psycopg.Connection[Any], wanted: Sequence[str | None]) -> list[Outcome]:
        """The shared rows first, since tenants' rows refer to them; the others side by side if they are many."""
        ordered = sorted(set(wanted), key=lambda tenant: (tenant is not None, tenant or ""))
        outcomes = [_put_back(self._seat, conn, self._all, tenant) for tenant in ordered[:1]]
        others = [tenant for tenant in ordered[1:] if tenant is not None]
        if self._hands.count <= 1 or len(others) <= 1:
            return outcomes + [_put_back(self._seat, conn, self._all, tenant) for tenant in others]
        for done in self._hands.map(put_back_piece, self._pieces(others), self._seat):
            outcomes += done
        return outcomes

    def _pieces(self, tenants: Sequence[str]) -> list[Piece]:
        """By bucket, since its tenants are read from the same objects; small enough for all hands to be busy to the end."""
        assert self._seat.vault is not None
        buckets = self._seat.vault.index.genesis.buckets
        most = max(1, len(tenants) // (_PIECES_A_HAND * self._hands.count))
        by_bucket: dict[int, list[str]] = {}
        for tenant in tenants:
            by_bucket.setdefault(bucket_of(tenant, buckets), []).append(tenant)
        return [
            msgspec.structs.replace(self._all, tenants=tuple(some[at : at + most]))
            for some in by_bucket.values()
            for at in range(0, len(some), most)
        ]


def _put_back(seat: Seat, conn: psycopg.Connection[Any], piece: Piece, tenant: str | None) -> Outcome:
    try:
        outcome = _once(seat, conn, piece, tenant, by_text=False)
    except ServerRefused as refused:
        # The tenant's name is no value of some tenant column, such as a name where another table has numbers.
        if not refused.sqlstate.startswith(_NOT_A_VALUE):
            raise
        outcome = _once(seat, conn, piece, tenant, by_text=True)
    seat.advance(sum(proof.restored.rows for proof in outcome.proofs))
    return outcome


def _once(seat: Seat, conn: psycopg.Connection[Any], piece: Piece, tenant: str | None, *, by_text: bool) -> Outcome:
    assert seat.vault is not None
    wording = piece.prepared.wording(shared=tenant is None, by_text=by_text)
    chunks = _rows(seat.vault, piece.cut, tenant, wording)
    return put_back(conn, wording, tenant, chunks, replace=piece.replace, inexact=piece.inexact)


def _rows(vault: Vault, cut: Cut, tenant: str | None, wording: Wording) -> Iterator[RowChunk]:
    """Looking whether a tenant was ever there takes time, and is only needed where nothing of it is found."""
    found = False
    for chunk in read_rows(vault, cut, tenant=tenant, relations=frozenset(wording.places)):
        found = True
        yield chunk
    if tenant is not None and not found:
        refuse_unknown(vault, (tenant,))


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
