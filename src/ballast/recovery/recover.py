"""`recover`: a lost platform rebuilt on an empty server and open from its first seconds, tenants coming back on demand.

The tenant that somebody waits for comes next, whatever else is going on; workers bring back all others meanwhile, in
order of rank. Interrupted at any point, the same call goes on. See `opening` for what stands before the first tenant,
`gate` for what keeps others out until theirs is back, `doorbell` for how they ask, `closing` for the end.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError
from ballast.recovery import gate, mark, priority, progress, protecting, roster
from ballast.recovery.apart import SETTINGS, Elsewhere
from ballast.recovery.choice import Choice, Request, choose
from ballast.recovery.closing import Closing, Ended
from ballast.recovery.copying import ServerRefused, in_servers_words, run_script
from ballast.recovery.doorbell import Doorbell
from ballast.recovery.hands import Hands, Seat
from ballast.recovery.opening import Opening, finished_before, require_empty
from ballast.recovery.pace import Pace
from ballast.recovery.precedence import Precedence
from ballast.recovery.protecting import Protecting
from ballast.recovery.record import rows_estimate
from ballast.recovery.report import TableProof, Tally
from ballast.recovery.target import Target, connect_target
from ballast.recovery.unit import SHARED, Differs, Loader, Tallies
from ballast.recovery.watcher import Onlooker, Silent
from ballast.vault import Resolved, Vault, bucket_groups
from ballast.vault.buckets import bucket_of
from ballast.vault.moment import show
from ballast.vault.records import Cut

_ROWS_A_UNIT = 40_000
"""One transaction of the workers: small, since a visitor of one of its tenants waits for all of it."""
_LISTEN_EVERY_S = 0.01
_TELL_EVERY_S = 0.5
_GIVE_WAY_S = 0.02
_TENANTS_OWN_FAULT = ("22", "23", "P0")
"""Classes of SQLSTATE for which one tenant is put aside and the others go on: its rows meet others' that came meanwhile."""
_ONCE_MORE = ("40001", "40P01")


class Wish(msgspec.Struct, frozen=True):
    """How a platform is to come back."""

    priority: priority.Priority = priority.Priority()
    settings: tuple[str, ...] = ()
    """Settings by which the application says its tenant, beside those that its own policies name."""
    jobs: int = 2
    """Workers for all tenants; as many more serve those that are waited for."""
    inexact: bool = False
    protecting: Protecting | None = None
    """Protect the new server before the first tenant is back; None: somebody else does, or nobody."""
    asked_only: threading.Event | None = None
    """Bring back those alone that are waited for, until this is set; the same call without it brings the rest."""
    target: Target | None = None
    """The structure that stands in the database already, where it was read before (`aim`)."""
    reads_back: bool = True
    """What is on the server is compared with the record. False: a server for a while, which is proof of nothing."""


class Recovered(msgspec.Struct, frozen=True):
    """The end of a recovery."""

    cut: Cut
    tenants: int
    rows: int
    elapsed_s: float
    opened_after_s: float | None
    """When structure and shared rows stood and tenants could be served."""
    tables: tuple[TableProof, ...] = ()
    failures: tuple[str, ...] = ()
    """Tenants that could not be brought back, each with its reason: the gate stays for them."""
    broken_foreign_keys: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    inexact: tuple[str, ...] = ()
    finished_before: bool = False
    """All of this was done and proven by an earlier call."""
    is_protected: bool = False
    """By this call or an earlier one, where it was asked for."""
    left_away: int = 0
    """Tenants that nobody waited for until it was called off (`Wish.asked_only`)."""

    @property
    def proven(self) -> bool:
        """Every tenant was read back equal to the record, and no foreign key is broken."""
        return (
            not self.left_away
            and not self.failures
            and not self.broken_foreign_keys
            and all(proof.equal for proof in self.tables)
        )


def begun(vault: Vault, dsn: str) -> str | None:
    """The position of the recovery that was begun in this database, as `Vault.resolve` reads it."""
    with in_servers_words(), connect_target(dsn) as conn:
        task = progress.pending(conn)
    ours = task is not None and task.on_demand and task.vault_id == vault.index.genesis.vault_id
    return show(task.cut) if task is not None and ours else None


def recover(
    vault: Vault,
    resolved: Resolved,
    dsn: str,
    wish: Wish | None = None,
    onlooker: Onlooker | None = None,
    hands: Hands | None = None,
) -> Recovered:
    """Rebuilds everything as of `resolved` in the empty database of `dsn`; tenants are served on demand meanwhile.

    `hands`: who brings back the tenants that nobody waits for just now; default: `wish.jobs` threads.
    RestoreError, GapError, ConfigError, IntegrityError, StoreError: what was committed stays, and the same call goes on."""
    recovery = Recovery(vault, resolved, dsn, wish or Wish(), onlooker or Silent(), hands)
    with in_servers_words():
        return recovery.run()


class Recovery:
    """One call of `recover`."""

    def __init__(
        self, vault: Vault, resolved: Resolved, dsn: str, wish: Wish, onlooker: Onlooker, hands: Hands | None
    ) -> None:
        self._vault, self._resolved, self._dsn = vault, resolved, dsn
        self._wish, self._onlooker, self._hands = wish, onlooker, hands
        self._workers = 0 if wish.asked_only is not None else hands.count if hands is not None else wish.jobs
        self._pace = Pace()
        self._changed = threading.Condition()
        self._serving = 0
        self._failure: BaseException | None = None
        self._failures: dict[str, str] = {}
        self._recorded: Tallies = defaultdict(Tally)
        self._warnings: dict[str, None] = {}
        self._precedence = Precedence([], {}, unit=1)

    def run(self) -> Recovered:
        """See `recover`."""
        choice = choose(self._vault, self._resolved, Request(inexact=self._wish.inexact))
        # Read before anything is made: a file that cannot be read should not be found out in the middle.
        file = self._wish.priority.file
        ranks = priority.read_file(file) if file is not None else {}
        with connect_target(self._dsn) as conn:
            if finished_before(conn, self._vault):
                return self._done_before()
            with progress.in_charge(conn):
                require_empty(conn, self._vault, self._resolved)
                return self._in_charge(conn, choice, ranks)

    def _done_before(self) -> Recovered:
        if self._wish.protecting is not None:
            protecting.at_end(self._wish.protecting, self._onlooker)
        is_protected = self._wish.protecting is not None
        return Recovered(
            self._resolved.cut, 0, 0, self._pace.elapsed_s, None, finished_before=True, is_protected=is_protected
        )

    def _in_charge(self, conn: psycopg.Connection[Any], choice: Choice, ranks: dict[str, float]) -> Recovered:
        def begin(stage: str) -> None:
            self._onlooker.begin(stage, 0)

        opening = Opening(conn, self._dsn, self._vault, self._resolved, choice, begin, known=self._wish.target)
        mark.announce(conn)
        target = opening.run(self._wish.settings)
        if passers := gate.passers(conn, target):
            self._onlooker.say(f"WARNING: {passers}")  # at the end it would be too late
            self._warnings[passers] = None
        wanted = self._wish.protecting
        unprotected = wanted and protecting.at_opening(wanted, self._onlooker)
        done = progress.done_units(conn)
        for tallies in done.values():
            self._add(tallies)
        estimated = rows_estimate(self._vault, self._resolved.cut)
        if SHARED not in done:
            begin("shared rows")
            with self._loader(0, target) as loader:
                assert isinstance(loader, Loader)
                self._add(loader.load_shared())
        if self._wish.priority.query is not None:
            ranks = priority.ask(conn, self._wish.priority.query)
        with conn.transaction():
            roster.try_failed_again(conn)
            roster.rank(conn, ranks)
        self._plan(conn, estimated)
        self._bring_all(target, estimated)
        if self._wish.asked_only is not None:  # the gate stays: whoever comes may ask
            return self._ended(choice, target, Ended([], []), is_protected=wanted is not None and unprotected is None)
        closing = Closing(conn, self._dsn, self._vault, self._resolved, target, self._wish.jobs)
        self._onlooker.begin("foreign keys, sequences, gate", 0)
        ended = closing.run(complete=not self._failures)
        if wanted is not None and unprotected is not None and ended.complete:
            protecting.at_end(wanted, self._onlooker)
            unprotected = None
        is_protected = wanted is not None and unprotected is None
        if unprotected is not None:
            self._warnings[f"the new server is not protected: {unprotected}"] = None
        return self._ended(choice, target, ended, is_protected=is_protected)

    def _plan(self, conn: psycopg.Connection[Any], estimated: int) -> None:
        """Who comes when."""
        everybody = roster.standings(conn)
        missing = {standing.tenant: standing for standing in everybody if not standing.is_back}
        buckets = self._vault.index.genesis.buckets
        together = bucket_groups(self._vault, self._resolved, range(buckets), 1)
        group_of = {bucket: number for number, group in enumerate(together) for bucket in group}
        groups: list[list[str]] = [[] for _ in together]
        for tenant in sorted(missing, key=str.encode):
            groups[group_of[bucket_of(tenant, buckets)]].append(tenant)
        ranks = {tenant: s.rank for tenant, s in missing.items() if s.rank is not None}
        unit = max(1, _ROWS_A_UNIT * len(everybody) // max(1, estimated))
        self._precedence = Precedence(groups, ranks, unit=unit)
        self._pace.begin(len(everybody), len(everybody) - len(missing), estimated, self._rows())

    def _bring_all(self, target: Target, estimated: int) -> None:
        """Opens the platform; returns when all tenants are back or given up. What stopped a worker is raised."""
        jobs = self._wish.jobs
        with connect_target(self._dsn) as conn:
            progress.join(conn)
            bell = Doorbell(conn)
            self._onlooker.opened()
            self._pace.opened()
            self._onlooker.begin("tenants", estimated)
            self._onlooker.advance(self._rows())
            with ThreadPoolExecutor(self._workers + jobs) as pool:
                running = [pool.submit(self._guarded, self._serve, n + 1, target) for n in range(jobs)]
                running += [pool.submit(self._guarded, self._work, jobs + n + 1, target) for n in range(self._workers)]
                try:
                    self._listen(conn, bell)
                except BaseException as failure:
                    self._stop(failure)
            for worker in running:
                worker.result()
        if self._failure is not None:
            raise self._failure

    @property
    def _is_over(self) -> bool:
        """Nobody is missing; of those that are asked for alone, nobody is asked for any more."""
        asked_only = self._wish.asked_only
        return not self._precedence.missing if asked_only is None else asked_only.is_set()

    def _guarded(self, work: Callable[[Loader | Elsewhere], None], number: int, target: Target) -> None:
        try:
            with self._loader(number, target) as loader:
                work(loader)
        except BaseException as failure:
            self._stop(failure)

    def _stop(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    @contextmanager
    def _loader(self, number: int, target: Target) -> Iterator[Loader | Elsewhere]:
        is_worker = number > self._wish.jobs
        if is_worker and self._hands is not None:
            seat = Seat(self._vault, self._dsn, lambda rows: None)
            yield Elsewhere(self._hands, seat, self._resolved.cut, target, number, self._warnings)
            return
        with connect_target(self._dsn) as conn:
            progress.join(conn)
            if warning := mark.mark(conn, number):
                self._warnings[warning] = None
            run_script(conn, SETTINGS)
            yield Loader(
                conn, self._vault, self._resolved, target, reads_back=self._wish.reads_back,
                **({"give_way": self._give_way} if is_worker else {}),
            )  # fmt: skip

    def _work(self, loader: Loader | Elsewhere) -> None:
        """All of them, as far as nobody waits for others."""
        while True:
            with self._changed:
                if self._failure is not None:
                    return
                unit = self._precedence.next_asked(self._wish.jobs) or self._precedence.next_unit()
            if unit is None:
                return
            self._bring(loader, unit)

    def _serve(self, loader: Loader | Elsewhere) -> None:
        """Those that are waited for, at once."""
        while True:
            with self._changed:
                while (asked := self._precedence.next_asked(self._wish.jobs)) is None:
                    if self._failure is not None or self._is_over:
                        return
                    self._changed.wait(1)
                self._serving += 1
            try:
                self._bring(loader, asked)
            finally:
                with self._changed:
                    self._serving -= 1
                    self._changed.notify_all()

    def _give_way(self) -> None:
        """Workers pause while somebody is served: briefly, so that many visitors do not keep all others away."""
        if self._serving:
            with self._changed:
                self._changed.wait_for(lambda: not self._serving, _GIVE_WAY_S)

    def _bring(self, loader: Loader | Elsewhere, unit: Sequence[str], attempts: int = 3) -> None:
        try:
            recorded = loader.load(unit)
        except (ServerRefused, Differs) as refused:
            state = refused.sqlstate if isinstance(refused, ServerRefused) else "P0001"
            if state in _ONCE_MORE and attempts:
                self._bring(loader, unit, attempts - 1)
            elif not state.startswith(_TENANTS_OWN_FAULT):
                raise
            elif len(unit) > 1:
                for tenant in unit:
                    self._bring(loader, (tenant,))
            else:
                self._give_up(loader, unit[0], refused)
            return
        self._ended_unit(unit, recorded)

    def _give_up(self, loader: Loader | Elsewhere, tenant: str, why: BallastError) -> None:
        loader.note_failure(tenant, why.what)
        self._failures[tenant] = why.what
        self._ended_unit((tenant,), {})

    def _ended_unit(self, unit: Collection[str], recorded: Tallies) -> None:
        rows = sum(tally.rows for tally in recorded.values())
        with self._changed:
            self._precedence.back(unit)
            self._add(recorded)
            self._pace.back(len(unit), rows)
            self._changed.notify_all()
        self._onlooker.advance(rows)

    def _listen(self, conn: psycopg.Connection[Any], bell: Doorbell) -> None:
        """Hears who asks until nobody is missing; says how far it is."""
        while True:
            heard = bell.listen(self._precedence.is_missing)
            with self._changed:
                if sum(self._precedence.ask(tenant, urgent=tenant in heard.urgent) for tenant in heard.tenants):
                    self._changed.notify_all()
                ended = self._failure is not None or self._is_over
                if ended:
                    self._changed.notify_all()
            if ended or self._pace.is_due(_TELL_EVERY_S):
                told = self._pace.progress(heard, len(self._failures))
                roster.tell(conn, told)
                self._onlooker.progressed(told)
            if ended:
                bell.listen(self._precedence.is_missing)  # those whose tenant came last
                return
            with self._changed:  # who waits for what has come hears of it at once
                self._changed.wait(_LISTEN_EVERY_S)

    def _add(self, recorded: Tallies) -> None:
        for number, tally in recorded.items():
            self._recorded[number] += tally

    def _rows(self) -> int:
        return sum(tally.rows for tally in self._recorded.values())

    def _ended(self, choice: Choice, target: Target, ended: Ended, *, is_protected: bool) -> Recovered:
        proofs = [
            TableProof(place.relation.qualified, tally, tally)
            for place in sorted(target.places.values(), key=lambda place: place.relation.qualified)
            for tally in (self._recorded.get(place.relation.number, Tally()),)
        ]
        return Recovered(
            cut=self._resolved.cut,
            tenants=self._pace.tenants,
            rows=self._rows(),
            elapsed_s=self._pace.elapsed_s,
            opened_after_s=self._pace.opened_after_s,
            tables=tuple(proofs),
            failures=tuple(f"tenant {tenant}: {why}" for tenant, why in sorted(self._failures.items())),
            broken_foreign_keys=tuple(ended.broken),
            warnings=(*ended.warnings, *self._warnings),
            inexact=choice.inexact,
            is_protected=is_protected,
            left_away=self._precedence.missing,
        )
