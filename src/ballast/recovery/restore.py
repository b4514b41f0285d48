"""`restore`: one tenant, several, some tables of them, or everything, as of a moment, into a server.

The way it goes depends on what the target has: where the recorded tables are missing, or stand empty and everything is
wanted, rows are loaded in bulk (`empty.py`); else each tenant is one transaction beside the others' live rows.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres import Catalog, read_catalog
from ballast.recovery import progress, record
from ballast.recovery.choice import Choice, Request, choose, refuse_unknown
from ballast.recovery.copying import Ask, ServerRefused, converse, in_servers_words
from ballast.recovery.empty import IntoEmpty, leave_extensions
from ballast.recovery.existing import IntoExisting, Prepared, left_alone, others, told
from ballast.recovery.hands import Hands, Seat, Threads
from ballast.recovery.newer import Newer
from ballast.recovery.report import Report, TableProof, added
from ballast.recovery.sequences import past_record
from ballast.recovery.target import Target, connect_target
from ballast.recovery.watcher import Silent, Watcher
from ballast.vault import Resolved, Vault, tenants
from ballast.vault.moment import show

# Changes with nearly every change of the structure; what it misses (a renamed column) fails and is looked up again.
_STATE = (
    "SELECT to_regclass('ballast_restore.task') IS NOT NULL, current_user,"
    " (SELECT md5(string_agg(oid::text || '.' || xmin::text, ',' ORDER BY oid)) FROM pg_class WHERE relnamespace >= 16384"
    " OR relnamespace = 'public'::regnamespace),"
    " (SELECT concat(count(*), '.', max(oid)) FROM pg_constraint)"
)
_STALE = ("42P01", "42703")


def restore(
    vault: Vault,
    resolved: Resolved,
    dsn: str,
    request: Request,
    watcher: Watcher | None = None,
    hands: Hands | None = None,
) -> Report:
    """Restores `request` as of `resolved` into the database of `dsn`, and proves it.

    Interrupted and called again with the same request it goes on. Raises RestoreError with nothing half done that the
    next call would not finish: unknown tenants or tables, a target that holds other such rows, missing rights. GapError
    for a moment whose record is not exact. `hands`: who reads the record and puts rows back, with the same outcome; default:
    `request.jobs` threads.
    """
    with Restorer(vault, dsn) as restorer:
        return restorer.restore(resolved, request, watcher, hands)


def begun(vault: Vault, dsn: str, request: Request) -> str | None:
    """The position of the same request that was interrupted in this database, as `Vault.resolve` reads it."""
    with in_servers_words(), connect_target(dsn) as conn:
        task = progress.pending(conn)
    same = task is not None and (task.vault_id, task.tenants, task.tables) == (
        vault.index.genesis.vault_id,
        request.tenants,
        request.tables,
    )
    return show(task.cut) if task is not None and same else None


class Restorer:
    """Restores into one database, again and again: connection, structure and statements are kept from one to the next."""

    def __init__(self, vault: Vault, dsn: str) -> None:
        self._vault, self._dsn = vault, dsn
        self._conn = connect_target(dsn)
        self._known = _known_of(vault, dsn)

    def close(self) -> None:
        """Ends the connection."""
        self._conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection to the target, with no transaction open."""
        return self._conn

    def catalog(self) -> Catalog:
        """The target's structure; the same object as long as it stays as it is."""
        self._look()
        assert self._known.catalog is not None
        return self._known.catalog

    def forget(self, refused: ServerRefused) -> None:
        """The structure is read anew next time, if this refusal says that it has changed unnoticed."""
        if refused.sqlstate in _STALE:
            self._known.state = None

    def restore(
        self, resolved: Resolved, request: Request, watcher: Watcher | None = None, hands: Hands | None = None
    ) -> Report:
        """See the function `restore`."""
        started = time.monotonic()
        watcher = watcher or Silent()
        hands = hands or Threads(request.jobs)
        choice = choose(self._vault, resolved, request)
        with in_servers_words():
            way = self._way(resolved, request, choice)
            if request.tenants is not None and (way.in_bulk or len(request.tenants) > 1):
                refuse_unknown(self._vault, request.tenants)  # one alone is refused in its own transaction
            if way.in_bulk:
                with progress.in_charge(self._conn):
                    # Another process may have finished while this one waited to be in charge.
                    way = self._way(resolved, request, choice)
                    if way.in_bulk:
                        bulk = IntoEmpty(self._vault, resolved, self._dsn, self._conn, request, choice, watcher, hands)
                        proofs, warnings, broken = bulk.run(rebuild_structure=way.rebuilds)
                        self._known.state = None
            if not way.in_bulk:
                proofs, warnings, broken = self._into_existing(way.prepared, resolved, request, watcher, hands)
        if strays := self._vault.ledger.strays:
            warnings.append(f"objects under ledger/ that are no entries: {', '.join(strays[:5])}; run `ballast verify`")
        return Report(
            cut=resolved.cut,
            tenants=request.tenants,
            tables=tuple(proofs),
            rows=sum(proof.restored.rows for proof in proofs),
            elapsed_s=time.monotonic() - started,
            schema_rebuilt=way.rebuilds,
            inexact=choice.inexact,
            broken_foreign_keys=tuple(broken),
            warnings=tuple(warnings),
        )

    def _way(self, resolved: Resolved, request: Request, choice: Choice) -> _Way:
        """By what the target has now."""
        begun = self._look()
        prepared = self._prepare(resolved, request, choice)
        if begun is not None:
            return _Way(prepared, True, begun.rebuilt)
        empty = prepared.target.is_empty
        return _Way(prepared, empty or self._stands_empty(prepared, resolved, request), empty)

    def _look(self) -> progress.Task | None:
        """The target's structure, unless it is as it was; and the restore that was begun in it."""
        ((begun, *state),) = converse(self._conn, [Ask(_STATE)])[0]
        if state != self._known.state:
            self._known = _known_of(self._vault, self._dsn, fresh=True)
            self._known.catalog, self._known.state = read_catalog(self._conn), state
        return progress.pending(self._conn) if begun == "t" else None

    def _prepare(self, resolved: Resolved, request: Request, choice: Choice) -> Prepared:
        assert self._known.catalog is not None
        version = self._vault.index.schema_at(resolved.cut).version
        newest = max(self._vault.index.schemas)
        key = (version, newest, request.tables, request.replace)
        if key not in self._known.prepared:
            target = Target(self._known.catalog, choice.relations, choice.chosen)
            leave_extensions(target, request)
            newer = None
            if request.tables is None:
                newer = Newer(self._known.catalog, choice.relations, self._vault.schema(newest))
            self._known.prepared[key] = Prepared(target, choice, newer)
        return self._known.prepared[key]

    def _stands_empty(self, prepared: Prepared, resolved: Resolved, request: Request) -> bool:
        """Everything is wanted, and there is a place for it without a row."""
        target = prepared.target
        if request.tenants is not None or target.missing or not target.places:
            return False
        # Files without a page say, without any right to read, that this will go in bulk.
        oids = [place.table.oid for place in target.places.values()]
        sizes = self._conn.execute(
            "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE oid = ANY(%s)", (oids,)
        ).fetchone()
        in_bulk = sizes is not None and not sizes[0]
        recorded = record.sequences_at(self._vault, resolved.cut)
        prepared.require_rights(
            self._conn, replace=request.replace and not in_bulk, everybodys=recorded, create=in_bulk
        )
        questions = [sql.SQL("EXISTS (SELECT FROM {})").format(place.name) for place in target.places.values()]
        row = self._conn.execute(sql.SQL("SELECT {}").format(sql.SQL(" OR ").join(questions))).fetchone()
        return row is not None and not row[0]

    def _into_existing(
        self, prepared: Prepared, resolved: Resolved, request: Request, watcher: Watcher, hands: Hands
    ) -> tuple[list[TableProof], list[str], list[str]]:
        """Every tenant asked for, or all, into tables that stand, each in its own transaction."""
        prepared.require(self._conn, request)
        seat = Seat(self._vault, self._dsn, watcher.advance)
        way = IntoExisting(resolved.cut, prepared, request, hands, seat)
        everybody = request.tenants is None
        wanted: Sequence[str | None] = request.tenants or ()
        if everybody:
            of_tenants = bool(prepared.wording(shared=False).places)
            wanted = [None, *(tenants(self._vault, resolved) if of_tenants else ())]
        watcher.begin("tenants", 0)
        try:
            outcomes = way.run(self._conn, wanted)
        except ServerRefused as refused:
            if refused.sqlstate in _STALE:
                self._known.state = None
            raise
        proofs = added(proof for outcome in outcomes for proof in outcome.proofs)
        warnings: list[str] = []
        if not everybody and request.tables is not None:
            warnings += left_alone(prepared.target)
        if everybody:
            advances = past_record(prepared.target, record.sequences_at(self._vault, resolved.cut))
            converse(self._conn, [Ask(statement.as_string(None)) for statement in advances])
            warnings += others(self._conn, prepared.target, proofs)
        warnings += told(outcomes, replace=request.replace)
        return proofs, warnings, [line for outcome in outcomes for line in outcome.broken]


class _Known:
    """A target's structure as it was last seen, with what was prepared for it."""

    def __init__(self) -> None:
        self.state: list[Any] | None = None
        self.catalog: Catalog | None = None
        self.prepared: dict[object, Prepared] = {}


_structures: weakref.WeakKeyDictionary[Vault, dict[str, _Known]] = weakref.WeakKeyDictionary()
_structures_lock = threading.Lock()


def _known_of(vault: Vault, dsn: str, *, fresh: bool = False) -> _Known:
    """Kept as long as the vault is open: reading a catalog takes longer than restoring a small tenant."""
    with _structures_lock:
        by_dsn = _structures.setdefault(vault, {})
        if fresh or dsn not in by_dsn:
            by_dsn[dsn] = _Known()
        return by_dsn[dsn]


class _Way(msgspec.Struct, frozen=True):
    """How rows come into the target: in bulk, with or without its structure, or tenant by tenant."""

    prepared: Prepared
    in_bulk: bool
    rebuilds: bool
