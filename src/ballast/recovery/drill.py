"""`drill`: restore into a scratch server, and hold it beside production as both were at one position.

Production is looked at under the snapshot that comes with a temporary slot, since PostgreSQL says of no other snapshot at
which position it is. Once the vault holds everything before that position, tenants are restored from it into a scratch
server of the same major version, one after the other, as a recovery would: structure and shared rows first. Then both sides
are asked for the same sums, and for what stands around the rows. What is not equal is named; how long it took and how far
the vault was behind is measured.

Production is read by one connection, in one read-only transaction under `row_security = off`; it takes no lock that a
writer waits for. While it lasts, VACUUM keeps what the snapshot still sees. A sample reads the sampled tenants' rows, and
those tables whole whose shared rows no index finds; all tenants, every table once.
"""

from __future__ import annotations

import contextlib
import math
import queue
import random
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError, ConfigError, GapError, RestoreError
from ballast.postgres import Catalog, connect, read_catalog, snapshot_at_cut
from ballast.postgres.session import complaint
from ballast.recovery import record
from ballast.recovery.around import Line, is_steady, lines
from ballast.recovery.choice import Request
from ballast.recovery.compare import Difference, Pair
from ballast.recovery.copying import ServerRefused
from ballast.recovery.report import Report
from ballast.recovery.restore import Restorer
from ballast.recovery.scratch import Scratch
from ballast.recovery.side import Side, Tallies, merged
from ballast.recovery.watcher import Silent, Watcher
from ballast.vault import Resolved, Vault, health, tenants, wish
from ballast.vault.config import Config
from ballast.vault.drilled import DRILL_LOCK, DRILLED_FILE, MOST_DIFFERENCES, MOST_TENANTS, Drilled, history, note_of
from ballast.vault.health import RECORDER_FILE, RecorderHealth
from ballast.vault.moment import show
from ballast.vault.records import Cut
from ballast.vault.signing import KEY_FILE
from ballast.vault.standing import is_dumped

COMPARING = "comparing with production"
"""The stage in which nothing on the scratch server changes any more."""
_LOOK_EVERY_S = 0.3
_LOOKS = 3
"""Of a structure that has just changed the recorder dumps within seconds what it cannot tell otherwise (indexes, functions): then
production is looked at anew, so often at most."""
_MACHINES = ("08", "53", "57", "58")
"""Classes of SQLSTATE: connection, resources (no room on the disk), intervention, system."""
_SETTLE_S = 60.0
"""How long images, dumps and readings of the catalog that are due are waited for."""


class DrillRequest(msgspec.Struct, frozen=True):
    """What a drill is to do."""

    tenants: int | None = 20
    """How many, chosen at random; None: all. Those that the last drill found unequal are looked at again in any case."""
    seed: int | None = None
    """Of the choice; None: a new one."""
    scratch: Path | None = None
    """Where the scratch server is made; None: in the system's folder for such things."""
    keep: bool = False
    """Leave the scratch server's folder."""
    jobs: int = 2
    """Connections at work while restoring."""
    wait_s: float = 180.0
    """How long the vault may take to get to production's position."""


class DrillOutcome(msgspec.Struct, frozen=True):
    """How it went."""

    drilled: Drilled
    differences: tuple[Difference, ...]
    sampled: tuple[str, ...]
    """The tenants, in the order in which they were restored."""
    kept: Path | None
    """The scratch server's folder, where it was to be kept."""
    noted: bool
    """Whether the vault's history has it: that needs the recorder's state folder."""


def drill(settings: Config, order: DrillRequest, watcher: Watcher | None = None) -> DrillOutcome:
    """Restore, compare, note. What is not equal is in the outcome; what keeps the drill from being carried out is raised
    (any BallastError), and noted in the state folder for `ballast status`. The scratch server is gone in either case."""
    with _alone(settings):
        run = _Drill(settings, order, watcher or Silent())
        try:
            return run.run()
        except (BallastError, psycopg.Error, OSError) as error:
            why = str(error) if isinstance(error, BallastError) else complaint_of(error)
            _remember(settings, msgspec.structs.replace(run.drilled, failure=why))
            raise


def complaint_of(error: psycopg.Error | OSError) -> str:
    """In one line, without what libpq quotes of a password."""
    return complaint(error) if isinstance(error, psycopg.Error) else str(error)


class _Drill:
    def __init__(self, settings: Config, order: DrillRequest, watcher: Watcher) -> None:
        self._settings, self._order, self._watcher = settings, order, watcher
        self.drilled = Drilled(health.now_iso(), settings.vault, False)
        self._begun = time.monotonic()
        self._warnings: list[str] = []

    def run(self) -> DrillOutcome:
        settings = self._settings
        is_recorders = (settings.state_dir / KEY_FILE).exists()
        vault = Vault.open(settings.vault, state_dir=settings.state_dir if is_recorders else None, key=settings.key)
        self._know(vault=vault.store.url)
        for look in range(1, _LOOKS + 1):
            self._watcher.begin("waiting for what is due in the vault", 0)
            self._settle(vault)
            with snapshot_at_cut(settings.dsn) as (conn, lsn):
                catalog, around = read_catalog(conn), lines(conn)
                steady = is_steady(conn, settings.dsn)
                if look < _LOOKS and not steady:
                    continue
                looked_at = self._look(vault, conn, catalog, Cut(vault.index.newest_timeline, lsn))
                self._watcher.begin("waiting for the vault to reach production", 0)
                resolved = self._wait_for(vault, looked_at, is_recorders=is_recorders)
                if look < _LOOKS and self._recorder() is not None and self._is_dump_due(vault, conn, resolved.cut):
                    continue
                production = Side(conn, catalog, vault.relations_at(resolved.cut))
                outcome = self._on_scratch(vault, resolved, production, around if steady else None)
                break
        return self._note(vault, outcome, is_recorders=is_recorders)

    # Before anything is restored

    def _settle(self, vault: Vault) -> None:
        """A dump or an image that is due just now would be found missing; the recorder sees to it within seconds."""
        deadline, state, timeline = time.monotonic() + _SETTLE_S, self._settings.state_dir, vault.index.newest_timeline
        if self._recorder() is None:
            return
        with connect(self._settings.dsn) as conn:
            is_due = not is_dumped(conn, state, timeline)
        while self._recorder() is not None and time.monotonic() < deadline:
            due = [w for w in wish.pending(state) if w.kind in wish.FOR_IMAGER and not w.held]
            if is_due or (any(w.kind == "dump" for w in due) and all(w.id != wish.DUMP_NOW for w in due)):
                with contextlib.suppress(OSError):  # whoever may drill need not be able to write there
                    wish.leave(state, "dump", timeline, "a drill compares", id=wish.DUMP_NOW)
            elif not due:
                return
            is_due = False
            time.sleep(_LOOK_EVERY_S)

    def _is_dump_due(self, vault: Vault, conn: psycopg.Connection[Any], cut: Cut) -> bool:
        """Whether the vault's dump is not known to be of what `conn` shows, so that another comes within seconds."""
        state = self._settings.state_dir
        is_wished = any(w.kind == "dump" for w in wish.pending(state))
        return is_wished or not vault.index.is_dumped(cut) or not is_dumped(conn, state, cut.timeline)

    def _look(self, vault: Vault, conn: psycopg.Connection[Any], catalog: Catalog, cut: Cut) -> Cut:
        """How far the vault and the recorder's disk are behind the snapshot."""
        begun = vault.index.timelines[cut.timeline]
        if (begun.system_identifier, begun.database) != (catalog.system_identifier, catalog.database):
            raise ConfigError(
                f"the vault records the database {begun.database} of another server than the one that dsn leads to.",
                "Correct dsn or vault in ballast.toml; after a failover, run `ballast protect` on the new server.",
            )
        row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        self._at: datetime = row[0]
        vault.refresh()
        self._until = vault.index.recorded_until(cut.timeline)
        recorder = self._recorder()
        self._know(
            at=self._at.astimezone(UTC).isoformat(timespec="microseconds"),
            timeline=cut.timeline,
            lsn=cut.lsn,
            vault_behind_bytes=max(0, cut.lsn - self._until),
            recorder_behind_bytes=None if recorder is None else max(0, cut.lsn - recorder.durable_lsn),
            production_version=catalog.server_version_num,
        )
        return cut

    def _recorder(self) -> RecorderHealth | None:
        """What the recorder says of itself, if one runs here."""
        folder = self._settings.state_dir
        return health.read_state(folder, RECORDER_FILE, RecorderHealth) if health.is_held(folder) else None

    def _wait_for(self, vault: Vault, cut: Cut, *, is_recorders: bool) -> Resolved:
        """Ask for the stretch up to the snapshot to be sealed, and wait until the ledger has it."""
        deadline = time.monotonic() + self._order.wait_s
        if is_recorders and vault.index.recorded_until(cut.timeline) < cut.lsn:
            wish.leave(
                self._settings.state_dir, "seal", cut.timeline, "a drill compares", to_lsn=cut.lsn,
                id=f"drill-{cut.timeline}-{cut.lsn:X}",
            )  # fmt: skip
        while vault.index.recorded_until(cut.timeline) < cut.lsn:
            running = not is_recorders or self._recorder() is not None
            if not running or time.monotonic() > deadline:
                why = "no recorder runs" if not running else f"it did not within {self._order.wait_s:g} s"
                raise GapError(
                    f"the vault does not reach production's position {show(cut)}: {why}.",
                    "See `ballast status`; the recorder must run (`ballast record`), and its sealer reach the store.",
                )
            time.sleep(_LOOK_EVERY_S)
            vault.refresh()
        resolved = vault.resolve(show(cut))
        self._know(vault_behind_s=self._age_of_missing(vault, cut))
        if resolved.gaps:
            self._warnings.append("the vault knows that its record of some tables is not exact at this moment")
        return resolved

    def _age_of_missing(self, vault: Vault, cut: Cut) -> float:
        """At the snapshot: of the oldest commit that the vault did not have."""
        for segment in vault.index.segments_of(cut.timeline):
            if segment.last_lsn <= self._until:
                continue
            known = vault.transactions(segment)
            for row in known.sort_by("lsn").select(["lsn", "committed_at"]).to_pylist() if known is not None else ():
                if self._until <= row["lsn"] < cut.lsn:
                    committed_at: datetime = row["committed_at"]
                    return max(0.0, (self._at - committed_at).total_seconds())
        return 0.0

    # Restore and compare

    def _on_scratch(
        self, vault: Vault, resolved: Resolved, production: Side, around: Collection[Line] | None
    ) -> DrillOutcome:
        order = self._order
        seed = order.seed if order.seed is not None else secrets.randbelow(1 << 31)
        recorded = tenants(vault, resolved)
        # A tenant that the vault has never heard of must be able to be chosen, too.
        known = sorted({*recorded, *production.tenants()}, key=str.encode)
        count = len(known) if order.tenants is None else min(order.tenants, len(known))
        chosen = random.Random(seed).sample(known, count)  # noqa: S311
        last = next(reversed(history(vault.index.notes)), None)
        again = set(last.unequal_tenants if last is not None else ()).difference(chosen)
        chosen += sorted(again.intersection(known))
        self._know(seed=seed, tenants=len(chosen), tenants_known=len(known))
        self._watcher.begin("starting the scratch server", 0)
        begun = time.monotonic()
        version = production.catalog.server_version_num
        with Scratch(version, production.catalog.encoding, under=order.scratch, keep=order.keep) as scratch:
            clock = _Clock(begun, len(chosen))
            self._know(server_s=clock.s(), scratch_version=scratch.version)
            if scratch.major != version // 10000:
                self._warnings.append(
                    f"production is PostgreSQL {version // 10000}, of which there is no server here: drilled on {scratch.major}"
                )
            owned = set(recorded)
            differences = self._restore(vault, resolved, scratch, [t for t in chosen if t in owned], clock)
            self._know(**clock.times())
            self._watcher.begin(COMPARING, 0)
            begun_comparing = time.monotonic()
            if not any(d.kind == "restore" and d.tenant is None for d in differences):
                differences += self._compare(vault, resolved, production, around, scratch, chosen)
            self._know(compared_s=round(time.monotonic() - begun_comparing, 3))
        self._know(
            equal=not differences,
            differences=len(differences),
            named=tuple(d.what for d in differences[:MOST_DIFFERENCES]),
            unequal_tenants=tuple(sorted({d.tenant for d in differences if d.tenant is not None})[:MOST_TENANTS]),
            total_s=round(time.monotonic() - self._begun, 3),
            warnings=tuple(self._warnings[:MOST_DIFFERENCES]),
        )
        return DrillOutcome(
            self.drilled, tuple(differences), tuple(chosen), scratch.folder if order.keep else None, False
        )

    def _restore(
        self, vault: Vault, resolved: Resolved, scratch: Scratch, chosen: Sequence[str], clock: _Clock
    ) -> list[Difference]:
        """Structure, shared rows and the first tenant; then each of the others, by several connections.

        One that cannot be restored is a difference, and the others go on."""
        first, rest = chosen[:1], chosen[1:]
        # Foreign keys may lead to tenants outside the sample, and a known gap is no reason not to look.
        request = Request(tenants=tuple(first) or None, inexact=True, jobs=self._order.jobs)
        left: queue.SimpleQueue[str] = queue.SimpleQueue()
        for tenant in rest:
            left.put(tenant)
        found: list[Difference] = []

        def one_after_the_other() -> None:
            with Restorer(vault, scratch.dsn) as restorer:
                while not scratch.ended.is_set():
                    with contextlib.suppress(queue.Empty):
                        tenant = left.get_nowait()
                        try:
                            one = restorer.restore(resolved, msgspec.structs.replace(request, tenants=(tenant,)))
                        except RestoreError as error:
                            if _is_of_the_machine(error, scratch):
                                raise
                            what = f"tenant {tenant!r} could not be restored: {error.what}"
                            found.append(Difference("restore", what, tenant=tenant))
                        else:
                            clock.tenant(one.rows)
                            self._watcher.advance(one.rows)
                        continue
                    return

        try:
            with Restorer(vault, scratch.dsn) as restorer:
                report = restorer.restore(resolved, request, self._watcher)
            self._said(report, sampled=self._order.tenants is not None)
            clock.tenant(report.rows)
            self._watcher.begin("tenants", 0)
            with ThreadPoolExecutor(min(self._order.jobs, max(len(rest), 1))) as pool:
                for worker in [pool.submit(one_after_the_other) for _ in range(self._order.jobs)]:
                    worker.result()
        except RestoreError as error:
            if _is_of_the_machine(error, scratch):
                raise
            found.append(Difference("restore", f"the restore failed: {error.what}"))
        return found

    def _said(self, report: Report, *, sampled: bool) -> None:
        wanted = [w for w in report.warnings if not w.startswith("left out, since `ballast protect` makes it")]
        if sampled:
            wanted = [w for w in wanted if not w.startswith("foreign key without its parent")]
        self._warnings += wanted

    def _compare(
        self,
        vault: Vault,
        resolved: Resolved,
        production: Side,
        around: Collection[Line] | None,
        scratch: Scratch,
        chosen: Sequence[str],
    ) -> list[Difference]:
        sampled = self._order.tenants is not None
        with connect(scratch.dsn) as conn:
            restored = Side(conn, read_catalog(conn), production.target.relations)
            pair = Pair(production, restored)
            found, warnings = pair.structure(around, sampled=sampled)
            there, here = (_tallies(side, pair.numbers, chosen if sampled else None) for side in (production, restored))
            self._know(tables=len(pair.numbers), rows=sum(tally.rows for tally in here.values()))
            found += pair.rows(there, here)
            if not sampled:
                broken, known = pair.foreign_keys()
                found, warnings = found + broken, warnings + known
            found += pair.sequences(record.sequences_at(vault, resolved.cut))
        self._warnings += warnings
        return found

    # What is kept of it

    def _note(self, vault: Vault, outcome: DrillOutcome, *, is_recorders: bool) -> DrillOutcome:
        """A failing history must not hide what was found."""
        noted = False
        if is_recorders:
            try:
                vault.append(note_of(self.drilled))
                noted = True
            except BallastError as error:
                self._warnings.append(f"the vault's history does not have this drill: {error.what}")
        else:
            self._warnings.append(
                "the vault's history does not have this drill: the recorder's state folder is not here"
            )
        self._know(warnings=tuple(self._warnings[:MOST_DIFFERENCES]))
        _remember(self._settings, self.drilled)
        return msgspec.structs.replace(outcome, drilled=self.drilled, noted=noted)

    def _know(self, **known: Any) -> None:
        self.drilled = msgspec.structs.replace(self.drilled, **known)


class _Clock:
    """When how many tenants were whole; used by several threads."""

    def __init__(self, begun: float, tenants: int) -> None:
        self._begun, self._wanted = begun, max(tenants, 1)
        self._server_s = self.s()
        self._done: list[float] = []
        self._rows = 0
        self._lock = threading.Lock()

    def s(self) -> float:
        """Seconds since the scratch server began to be made."""
        return round(time.monotonic() - self._begun, 3)

    def tenant(self, rows: int) -> None:
        """One more is whole and proven."""
        with self._lock:
            self._done.append(self.s())
            self._rows += rows

    def times(self) -> dict[str, float | None]:
        """As fields of `Drilled`; None where so many did not come back."""
        done, half = self._done, math.ceil(self._wanted / 2)
        took = done[-1] - self._server_s if done else 0.0
        return {
            "first_tenant_s": done[0] if done else None,
            "half_s": done[half - 1] if len(done) >= half else None,
            "all_s": done[-1] if len(done) >= self._wanted else None,
            "rows_per_s": round(self._rows / took, 1) if took > 0 else None,
        }


def _is_of_the_machine(error: RestoreError, scratch: Scratch) -> bool:
    """Whether the scratch server's own trouble is why a restore failed: that says nothing of the vault."""
    state = error.sqlstate if isinstance(error, ServerRefused) else ""
    return scratch.ended.is_set() or state.startswith(_MACHINES) or not scratch.running


def _tallies(side: Side, numbers: Sequence[int], chosen: Sequence[str] | None) -> Tallies:
    if chosen is None:
        return merged(side.of_everybody(number) for number in numbers)
    return merged(side.of_tenant(tenant, numbers) for tenant in (None, *chosen))


@contextlib.contextmanager
def _alone(settings: Config) -> Iterator[None]:
    """Two at a time would measure each other. Where the recorder's folder is not, nobody else's drill is known."""
    folder = settings.state_dir
    if not folder.is_dir():
        yield
        return
    if health.is_held(folder, DRILL_LOCK):
        raise ConfigError("another drill of this database is under way.", "Wait until it has ended.")
    with health.only_one(folder, DRILL_LOCK):
        yield


def _remember(settings: Config, drilled: Drilled) -> None:
    """For `ballast status`. Whoever may drill need not be able to write there."""
    with contextlib.suppress(OSError):
        if settings.state_dir.is_dir():
            health.write_state(settings.state_dir, DRILLED_FILE, drilled)
