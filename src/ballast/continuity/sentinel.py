"""The sentinel: one process a machine, which notices that home is lost, launches the lifeboat, and brings everybody home again.

    python -m ballast.continuity.sentinel --config ballast.toml [--server FOLDER]

    home ──(lost)──► launching ──► afloat ──(home is whole, or made anew, and recorded)──► returning ──(all are there)──► home

A thread looks at home ten times a second, another hears the bell; all decisions are made by the main thread, one after the other,
and what must outlive it is on disk before it is acted on (`incident`, the board's course, the intake). Whether home is waited for
or recovered depends on its data alone: a server that is starting comes back whole, and everybody goes home to it as it is.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import signal
import sys
import threading
import time
import tomllib
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import psycopg

from ballast.continuity import health, holding, incident, tail
from ballast.continuity import settings as configured
from ballast.continuity.board import Board, Told
from ballast.continuity.boats import Boats, do_again, roster
from ballast.continuity.course import Course
from ballast.continuity.duplicate import Duplicate
from ballast.continuity.entries import AWAY
from ballast.continuity.handler import load as load_handler
from ballast.continuity.health import Decision, SentinelHealth
from ballast.continuity.helm import BOARD, INTAKE
from ballast.continuity.home import Data, Home
from ballast.continuity.homecoming import HomeComing, note, open_entries, those_back
from ballast.continuity.incident import Incident
from ballast.continuity.intake import Intake
from ballast.continuity.probe import Prober, Seen
from ballast.continuity.rebuilding import Rebuilding, end_left
from ballast.continuity.signs import Sign, Watched
from ballast.continuity.some import rewind_some
from ballast.continuity.wipes import Chosen, Wipes, before_tenant_was_emptied
from ballast.errors import BallastError, ConfigError, StoreError
from ballast.recovery import Handler
from ballast.vault import Resolved, Vault, config
from ballast.vault.durable import keep_private, make_folder
from ballast.vault.failpoints import reach
from ballast.vault.health import now_iso
from ballast.vault.logbook import Logbook
from ballast.vault.moment import show
from ballast.vault.store import open_store

_TICK_S = 0.1
_READ_EVERY_S = 2.0
_TELL_EVERY_S = 1.0
_SEALING_S = 3.0
"""The lifeboat does not wait longer for the newest seconds of the record."""
_WELL_LOOKS = 3
_DAMAGED_AFTER_S = 45.0
"""A server with its data that no process has been working on for so long does not start any more."""
_ROOM_BYTES = 64 << 20
_VISITED_FIRST, _TOGETHER = 4, 40
_AGAIN_S = 1.0
_LAST_S = 0.2
"""A process that was in the lifeboat when it was sunk has noticed after so long."""


class Options:
    """What it is told at its start."""

    def __init__(self, config_path: Path, server: Path | None, major: int, handler: str, probe: str) -> None:
        """`handler` and `probe`: where the settings name none. ConfigError."""
        self.config_path, self.server, self.major = config_path.absolute(), server, major
        document = tomllib.loads(self.config_path.read_text(encoding="utf-8"))
        found = configured.load(document, str(config_path))
        self.settings = config.load(self.config_path)
        self.folder = configured.folder_of(found, self.settings.state_dir, self.config_path.parent)
        self.handler = found.continuity.handler or handler
        self.probe = found.continuity.probe or probe
        self.asks, self.node = found.asks, found.continuity.node


class Sentinel:
    """One run."""

    def __init__(self, options: Options, log: Logbook) -> None:
        self._options, self._log, self._folder = options, log, options.folder
        self._settings = options.settings
        make_folder(self._folder)
        self._stopping = threading.Event()
        self._events: queue.SimpleQueue[Seen | str] = queue.SimpleQueue()
        self._home = Home(options.server, major=options.major) if options.server is not None else None
        self._boats = Boats(self._folder, options.major, log)
        self._told = Told(self._folder / BOARD)
        self._course = Course()
        self._incident: Incident | None = None
        self._intake = Intake(self._folder / INTAKE)
        self._handler: Handler | None = None
        self._vault: Vault | None = None
        self._wipes: Wipes | None = None
        self._reading = threading.Lock()
        self._vault_away = ""
        former = health.sentinel(self._folder)
        self._seen_true = former is not None and former.seen_true
        self._watched, self._well = Watched(), 0
        self._seen: Seen | None = None
        self._full_at = 0.0
        self._process_at = time.monotonic()
        self._empty: dict[str, int] = {}
        self._good_looks = 0
        self._visited: dict[str, None] = {}
        self._roster: list[str] = []
        self._rebuilding: Rebuilding | None = None
        self._coming: HomeComing | None = None
        self._try_at = self._told_at = self._renew_at = 0.0
        self._merged = self._refused = 0
        self._rewound: set[str] = set()
        self._waits_for = self._trouble = ""
        self._decisions: deque[Decision] = deque(former.decisions if former is not None else (), maxlen=20)
        self._copied = 0
        self._prober: Prober | None = None

    # The loop

    def stop(self) -> None:
        """End in order. May be called by a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Until `stop`."""
        end_left(self._folder)
        self._load_handler()
        self._open_vault()
        self._take_up()
        threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("bell", self._hear_bell), ("reader", self._keep_reading), ("copy", self._keep_copying))
        ]
        for thread in threads:
            thread.start()
        self._look_from_now()
        try:
            while not self._stopping.is_set():
                self._hear()
                try:
                    self._step()
                except (BallastError, psycopg.Error, OSError) as error:
                    self._in_trouble(error)
                self._tell_health()
        finally:
            self._end()

    def _end(self) -> None:
        self._stopping.set()
        if self._prober is not None:
            self._prober.stop()
        if self._rebuilding is not None:
            self._rebuilding.stop()
        is_home = self._course.mode == "home"
        self._boats.close(keep=not is_home)
        if is_home:
            self._told.close()  # else the next one goes on, and everybody must know where they are until then
        self._intake.close()
        self._log.info("ended")

    def _step(self) -> None:
        if time.monotonic() < self._try_at:
            return
        match self._course.mode:
            case "home":
                self._at_home()
            case "launching":
                self._launch()
            case "afloat":
                self._keep_afloat()
                self._see_to_home()
            case "returning":
                self._keep_afloat()
                self._bring_home()

    # What is heard and seen

    def _look_from_now(self) -> None:
        if self._prober is not None:
            self._prober.stop()
        self._prober = Prober(self._settings.dsn, self._options.probe, self._events.put)
        self._prober.start()

    def _hear(self) -> None:
        with contextlib.suppress(queue.Empty):
            event = self._events.get(timeout=_TICK_S)
            while True:
                if isinstance(event, Seen):
                    self._see(event)
                else:
                    self._rung(event)
                event = self._events.get_nowait()

    def _hear_bell(self) -> None:
        while not self._stopping.is_set():
            for text in self._told.hear(1.0):
                self._events.put(text)

    def _rung(self, text: str) -> None:
        what, _, about = text.partition(" ")
        if what == "lost":
            if about == Sign.FULL:
                self._full_at = time.monotonic()
            if self._prober is not None:
                self._prober.look_now()
        elif what == "empty" and about:
            if self._course.mode == "home" or (self._course.only is not None and about not in self._course.only):
                self._empty.setdefault(about, self._good_looks)
        elif what == "visited" and about:
            self._visited[about] = None
        elif what == "recover" and self._incident is not None and not self._incident.ordered:
            self._note(ordered=True)
            self._decide("a person has ordered the recovery")

    def _see(self, seen: Seen) -> None:
        """Of home. What was lost stays so until everybody is back there."""
        self._seen = seen
        sign = self._sign_of(seen)
        self._well = self._well + 1 if sign is Sign.NONE and seen.answer else 0
        self._good_looks += bool(self._well)
        is_watched = self._course.mode in ("home", "returning") or self._course.only is not None
        if not is_watched or self._watched.lost:
            return
        first = not self._watched.doubtful
        self._watched = self._watched.after(sign)
        if sign in (Sign.NONE, Sign.SLOW):
            return
        if first and self._vault is not None and self._course.mode == "home":
            # Whatever comes of it, the lifeboat will want it, and a seal more does no harm.
            with contextlib.suppress(BallastError, OSError):
                tail.ask(self._vault, self._settings)
        if not self._watched.lost and self._home is not None and self._data() is not Data.THERE:
            self._watched = Watched(lost=True, why=sign, doubtful=self._watched.doubtful)

    def _sign_of(self, seen: Seen) -> Sign:
        if seen.sign is not Sign.NONE:
            return seen.sign
        if seen.identifier and seen.identifier != self._recorded():
            return Sign.MISSING  # another server, in which nothing is that was recorded
        if seen.answer:
            if not self._seen_true:
                self._seen_true = True
                self._tell_health(at_once=True)
            if time.monotonic() - self._full_at < 1.0 and self._is_full():
                return Sign.FULL
            return Sign.NONE
        return Sign.EMPTY if self._seen_true else Sign.NONE

    def _recorded(self) -> str:
        """Identifier of the server that the newest timeline is of; while all are at home, or coming home, that is home."""
        if self._vault is None or not self._vault.index.timelines:
            return self._incident.lost if self._incident is not None else ""
        found = self._vault.index.timelines[self._vault.index.newest_timeline].system_identifier
        seen = self._seen
        if seen is not None and seen.identifier not in ("", found):
            self._refresh()  # it may have been protected anew
            found = self._vault.index.timelines[self._vault.index.newest_timeline].system_identifier
        return found

    def _data(self) -> Data:
        assert self._home is not None
        lost = self._incident.lost if self._incident is not None and self._course.mode == "afloat" else ""
        return self._home.data(lost or self._recorded())

    def _is_full(self, room: int = _ROOM_BYTES) -> bool:
        if self._home is None:
            return False
        with contextlib.suppress(OSError):
            found = os.statvfs(self._home.server.data_dir)
            return found.f_bavail * found.f_frsize < room
        return False

    # The vault

    def _open_vault(self) -> None:
        settings = self._settings
        while not self._stopping.is_set() and self._vault is None:
            try:
                self._vault = Vault.open(settings.vault, anchor_dir=settings.state_dir, key=settings.key)
                self._wipes = Wipes(self._vault)
                self._vault_away = ""
            except StoreError as error:
                self._vault_away = str(error)
                self._in_trouble(error)
                self._tell_health(at_once=True)
                if incident.read(self._folder) is not None:
                    return  # who is in the lifeboat stays there
                self._stopping.wait(_AGAIN_S)

    def _refresh(self) -> None:
        assert self._vault is not None
        try:
            self._vault.refresh()
            if not self._vault.store.is_there():
                raise StoreError(f"{self._vault.store.url} is not there.", "Mount it; it is tried again.")
        except (BallastError, OSError) as error:
            self._vault_away = str(error)
        else:
            self._vault_away = ""

    def _keep_reading(self) -> None:
        """So that little is left to be read when it matters."""
        while not self._stopping.wait(_READ_EVERY_S):
            if self._vault is None or self._wipes is None:
                continue
            with self._reading:
                self._refresh()
                try:
                    self._wipes.look()
                except (BallastError, OSError) as error:
                    self._log.warning("cannot_read", reason=str(error))

    def _choose(self, *, emptied: bool) -> Chosen:
        assert self._vault is not None
        assert self._wipes is not None
        with self._reading:
            self._refresh()
            try:
                if self._vault_away:
                    return Chosen(self._vault.resolve(None), "")
                self._wipes.look()
                return self._wipes.choose(emptied=emptied)
            except (StoreError, OSError) as error:
                self._vault_away = str(error)
                return Chosen(self._vault.resolve(None), "")

    def _keep_copying(self) -> None:
        copy = Duplicate(open_store(self._settings.vault), self._folder / INTAKE, self._options.node)
        self._copied = copy.copied
        while not self._stopping.wait(0.5):
            with contextlib.suppress(BallastError, OSError):
                copy.bring()
            self._copied = copy.copied

    # At home

    def _at_home(self) -> None:
        if self._watched.lost:
            self._lose(self._watched.why)
        elif self._some_are_empty:
            self._lose_some()
        elif self._well:
            if self._vault is not None and self._wipes is not None:
                self._boats.prepare(self._vault, lambda: self._wipes.active if self._wipes is not None else ())
            self._merge_leftovers()

    def _lose(self, why: Sign) -> None:
        now = datetime.now(UTC)
        timeline = self._vault.index.newest_timeline if self._vault is not None and self._vault.index.timelines else 0
        self._incident = incident.write(
            self._folder,
            Incident(now, why, lost=self._recorded(), timeline=timeline, ordered=not self._options.asks),
        )
        reach("sentinel.noted")
        self._process_at = time.monotonic()
        seen = self._seen.what.splitlines()[-1] if self._seen is not None and self._seen.what else ""
        self._decide(f"home is lost: {why}" + (f" ({seen})" if seen else ""), bad=True)
        self._tell(self._course.lost(why, now))
        reach("sentinel.told")
        self._launch()

    @property
    def _some_are_empty(self) -> bool:
        """Tenants were missed, and home was well when it was looked at after that: not all are concerned."""
        return any(self._good_looks >= looks + 2 for looks in self._empty.values())

    def _lose_some(self) -> None:
        """Tenants whose rows are gone while the others are there, as the record confirms."""
        assert self._vault is not None
        asked, self._empty = sorted(self._empty), {}
        tail.bring_in(self._vault, self._settings, self._options.config_path, self._said, _SEALING_S)
        self._refresh()
        gone = tuple(t for t in asked if before_tenant_was_emptied(self._vault, t) is not None)
        for tenant in set(asked) - set(gone):
            self._log.warning(
                "not_lost", tenant=tenant, why="the record knows of no rows that were taken from it lately"
            )
        if not gone:
            return
        now = datetime.now(UTC)
        only = gone if self._incident is None else (*(self._incident.only or ()), *gone)
        self._incident = incident.write(
            self._folder,
            Incident(
                now, Sign.EMPTY, lost=self._recorded(), timeline=self._vault.index.newest_timeline,
                only=tuple(dict.fromkeys(only)), ordered=not self._options.asks,
            ),
        )  # fmt: skip
        self._decide(f"rows of {', '.join(gone)} are gone, and others' are there", bad=True)
        self._tell(self._course.lost(Sign.EMPTY, now, frozenset(gone)))
        self._launch()

    def _merge_leftovers(self) -> None:
        """Of somebody who was in the lifeboat for a moment longer than it was told."""
        entries = self._intake.entries()
        if not entries:
            return
        if left := open_entries(entries):
            if not tail.is_recording(self._settings):
                return
            came = HomeComing(self._intake, self._handler, self._settings.dsn).bring(sorted(left))
            if came.merged:
                self._decide(f"{came.merged} entries that had been left in the intake are merged")
            if came.trouble:
                self._trouble, self._try_at = came.trouble, time.monotonic() + 10 * _AGAIN_S
                return
            entries = self._intake.entries()
        self._intake.retire(entries[-1].number)

    # Into the lifeboat

    def _launch(self) -> None:
        """The first of this loss, or one in the place of one that was lost."""
        under_way = self._incident
        if self._vault is None:
            self._open_vault()
        if self._vault is None or under_way is None:
            self._try_at = time.monotonic() + _AGAIN_S
            return
        began = time.monotonic()
        if self._vault_away and self._take_as_it_is():
            return
        try:
            tail.bring_in(self._vault, self._settings, self._options.config_path, self._said, _SEALING_S)
        except (BallastError, OSError) as error:
            self._log.warning("not_sealed", reason=str(error))
        sealed = time.monotonic()
        resolved = self._boat_moment(under_way)
        if self._vault_away and self._take_as_it_is():
            return
        try:
            boat = self._boats.launch(self._vault, resolved)
        except (BallastError, psycopg.Error, OSError):
            self._refresh()
            self._try_at = time.monotonic() + _AGAIN_S
            raise
        self._note(boat=self._boats.number, boat_at=show(resolved.cut), boot=incident.boot_id())
        reach("sentinel.launched")
        opened = time.monotonic()
        self._away_again()
        self._again_into(began_from=0)
        self._roster = roster(boat) if self._course.only is None else sorted(self._course.only)
        last = self._intake.entries()
        self._tell(self._course.launched(boat.dsn(), resolved.committed_at, vault_away=bool(self._vault_away)))
        self._boats.sink_former()
        self._again_into(began_from=last[-1].number if last else 0)
        self._decide(
            f"the lifeboat is afloat {opened - began:.2f} s after that (the record's tail {sealed - began:.2f} s), as of"
            f" {resolved.committed_at or resolved.how}"
        )

    def _take_as_it_is(self) -> bool:
        """Where the vault is away: the lifeboat with whom it was built ahead."""
        if self._boats.afloat is not None:
            return False
        taken = self._boats.take_as_it_is()
        if taken is None:
            return False
        boat, resolved = taken
        self._note(boat=self._boats.number, boat_at=show(resolved.cut), boot=incident.boot_id())
        self._again_into(began_from=0)
        self._roster = roster(boat)
        self._tell(self._course.launched(boat.dsn(), resolved.committed_at, vault_away=True))
        self._decide(
            f"the vault is away, too ({self._vault_away}): those shops that are in the lifeboat are served, as of"
            f" {resolved.committed_at}",
            bad=True,
        )
        return True

    def _boat_moment(self, under_way: Incident) -> Resolved:
        assert self._vault is not None
        if under_way.only is not None:
            found = [before_tenant_was_emptied(self._vault, tenant) for tenant in under_way.only]
            moments = [self._vault.resolve(at) for at in found if at is not None]
            if moments:
                return min(moments, key=lambda moment: moment.cut.lsn)
        chosen = self._choose(emptied=under_way.why in (Sign.EMPTY, Sign.MISSING))
        if chosen.why:
            self._decide(f"the record ends in rows that were deleted: {chosen.why}", bad=True)
        return chosen.resolved

    def _away_again(self) -> None:
        """Whoever had gone home is away once more."""
        away = [t for t in sorted(self._intake.closed()) if self._course.place(t) != "home"]
        note(self._intake, AWAY, away)

    def _again_into(self, *, began_from: int) -> None:
        """What was accepted, in the lifeboat that has not seen it."""
        left = [
            e for entries in open_entries(self._intake.entries()).values() for e in entries if e.number > began_from
        ]
        if not left or self._handler is None or self._boats.afloat is None:
            return
        try:
            count = do_again(self._boats.afloat, sorted(left, key=lambda e: e.number), self._handler)
        except BallastError as error:
            self._decide(f"{len(left)} accepted entries could not be done again in the lifeboat: {error}", bad=True)
        else:
            self._decide(f"{count} accepted entries are done again in the lifeboat")

    def _keep_afloat(self) -> None:
        boat, under_way = self._boats.afloat, self._incident
        if boat is not None and boat.is_afloat:
            if boat.built is not None and not self._vault_away and time.monotonic() >= self._renew_at:
                self._renew_at = time.monotonic() + 10 * _AGAIN_S
                self._decide("the vault is back: a lifeboat of the newest moment takes the place of this one")
                self._launch()
            elif self._course.vault_away != bool(self._vault_away):
                self._tell(self._course.launched(boat.dsn(), self._course.as_of, vault_away=bool(self._vault_away)))
            return
        assert under_way is not None
        self._decide("the lifeboat is lost", bad=True)
        if not self._raise(under_way):
            self._launch()

    def _raise(self, under_way: Incident) -> bool:
        """Start the same lifeboat again, with all that is in it; False: another must be launched."""
        if not under_way.boat or under_way.boot != incident.boot_id() or self._vault is None:
            return False
        try:
            boat = self._boats.resume(under_way.boat, self._vault, self._vault.resolve(under_way.boat_at))
            self._roster = roster(boat) if under_way.only is None else sorted(under_way.only)
        except (BallastError, psycopg.Error, OSError) as error:
            self._log.warning("not_raised", reason=str(error))
            return False
        if self._course.lifeboat != boat.dsn() or self._course.mode == "launching":
            self._tell(self._course.launched(boat.dsn(), self._course.as_of))
        self._decide("the lifeboat is started again, with all that was in it")
        return True

    # Home again

    def _see_to_home(self) -> None:
        under_way = self._incident
        assert under_way is not None
        if under_way.only is not None:
            self._see_to_some(under_way)
            return
        if not under_way.data_lost:
            why = self._why_lost_for_good()
            if not why:
                self._return_to_the_same()
                return
            under_way = self._note(data_lost=True, why_lost=why)
            self._decide(f"home does not come back by itself: {why}", bad=True)
        if self._home is None:
            self._return_to_another(under_way)
        elif not under_way.ordered:
            self._waits_for = "the word for the recovery: ballast recover --now"
        else:
            self._rebuild(under_way)

    def _why_lost_for_good(self) -> str:
        """Why the server that was home cannot come back by itself; "" while it can."""
        seen = self._seen
        if self._home is not None:
            data = self._data()
            if data is Data.GONE:
                return f"its data folder {self._home.server.pgdata} is gone"
            if data is Data.ANOTHER:
                return "an empty server stands in its place"
            if self._home.has_process:
                self._process_at = time.monotonic()
            elif time.monotonic() - self._process_at > _DAMAGED_AFTER_S:
                return f"it has not started for {_DAMAGED_AFTER_S:.0f} s; see {self._home.server.log_path}"
        if seen is None:
            return ""
        sign = self._sign_of(seen)
        if seen.sign is Sign.NONE and sign is Sign.MISSING:
            return "another server stands in its place"
        if sign is Sign.MISSING:
            return f"it lacks what the application knows: {seen.what.splitlines()[0] if seen.what else ''}"
        if sign is Sign.EMPTY:
            return "its rows are gone"
        if sign is Sign.GONE and any(words in seen.what for words in ("could not open file", "could not read")):
            return f"files of it are gone: {seen.what.splitlines()[0]}"
        return ""

    def _return_to_the_same(self) -> None:
        self._waits_for = "the server that was home, which has its data and is expected back"
        if self._well < _WELL_LOOKS or self._is_full(2 * _ROOM_BYTES):
            return
        if not tail.is_recording(self._settings):
            self._waits_for = "the recorder, which commits at home wait for"
            return
        self._decide("home is back with its data: nothing needs to be recovered")
        self._go_home()

    def _return_to_another(self, under_way: Incident) -> None:
        """A server that is not ours to make: a person recovers it, and protects it."""
        self._waits_for = (
            "a server that a person recovers: ballast recover --into DSN --config"
            f" {self._options.config_path}, then the recorder"
        )
        fresh = config.load(self._options.config_path)
        if fresh.dsn != self._settings.dsn:
            self._settings = fresh
            self._look_from_now()
        seen = self._seen
        if seen is None or seen.sign is not Sign.NONE or not tail.is_recording(self._settings):
            return
        if self._recorded() == seen.identifier != under_way.lost:
            self._decide("another server is recovered and recorded")
            self._go_home()

    def _rebuild(self, under_way: Incident) -> None:
        assert self._home is not None
        self._refresh()
        recorded = self._recorded()
        now_there = self._home.identifier
        if recorded != under_way.lost and now_there is not None and now_there != recorded:
            assert self._vault is not None
            # It was recorded already, and is lost as well: what it has seen comes back, too.
            self._decide("the new server is lost, too", bad=True)
            under_way = self._note(lost=recorded, timeline=self._vault.index.newest_timeline, at="", why_at="")
            self._new_rebuilding()
        if self._rebuilding is None:
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._waits_for = "the new server"
        self._incident = self._rebuilding.step(under_way, self._settings, recorded)
        if not self._rebuilding.is_open:
            return
        self._waits_for = "the recorder, which commits at home wait for"
        if holding.is_held(self._folder):
            self._decide("the new server is open and protected; tenants come back")
            holding.let_go(self._folder)
        self._refresh()
        progress = self._rebuilding.progress
        is_recorded = progress is not None and self._recorded() == progress.identifier
        # The first of them must be back: else the application's data seems to be gone.
        if is_recorded and tail.is_recording(self._settings) and (self._well or not self._seen_true):
            self._go_home()
        else:
            self._merge_ahead()

    def _new_rebuilding(self) -> None:
        if self._rebuilding is not None:
            self._rebuilding.stop()
        self._coming = None
        assert self._home is not None
        self._rebuilding = Rebuilding(
            self._options.config_path, self._folder, self._home, self._decide,
            lambda: self._choose(emptied=self._incident is not None and self._incident.why in (Sign.EMPTY, Sign.MISSING)),
        )  # fmt: skip

    def _see_to_some(self, under_way: Incident) -> None:
        assert self._vault is not None
        if self._watched.lost:
            self._second_loss()
            return
        if self._some_are_empty:
            self._lose_some()
            return
        if not under_way.ordered:
            self._waits_for = "the word for putting them back: ballast recover --now"
            return
        for tenant in under_way.only or ():
            if tenant not in self._rewound and (told := rewind_some(self._vault, self._settings.dsn, tenant)):
                self._rewound.add(tenant)
                self._decide(told)
        self._go_home()

    def _go_home(self) -> None:
        self._waits_for = ""
        self._watched = Watched()
        self._tell(self._course.home_is_open())
        reach("sentinel.returning")

    def _bring_home(self) -> None:
        if self._watched.lost:
            self._second_loss()
            return
        under_way = self._incident
        assert under_way is not None
        rebuilding = under_way.data_lost and self._home is not None and under_way.only is None
        if rebuilding:
            self._see_to_restorer(under_way)
        everybody = self._roster + [t for t in open_entries(self._intake.entries()) if t not in set(self._roster)]
        missing = [tenant for tenant in everybody if tenant not in self._course.back]
        if not missing:
            if not rebuilding or (self._rebuilding is not None and self._rebuilding.is_done):
                self._all_home()
            return
        away = set(missing)
        first = [tenant for tenant in self._visited if tenant in away]
        if came := self._bring(first, _VISITED_FIRST) or self._bring(missing, _TOGETHER):
            for tenant in came:
                self._visited.pop(tenant, None)

    def _bring(self, wanted: list[str], most: int) -> tuple[str, ...]:
        if not wanted:
            return ()
        if self._handler is None:
            self._load_handler()
        back = those_back(self._settings.dsn, wanted, most)
        if not back:
            return ()
        came = self._home_coming().bring(back)
        self._merged, self._refused = self._merged + came.merged, self._refused + came.refused
        self._trouble = came.trouble
        if came.trouble:
            self._try_at = time.monotonic() + _AGAIN_S
            self._log.error("not_home", reason=came.trouble)
        if came.home:
            course = self._course
            for tenant in came.home:
                course = course.came_home(tenant)
            self._tell(course)
            reach("sentinel.came_home")
        return came.home

    def _see_to_restorer(self, under_way: Incident) -> None:
        if self._rebuilding is None:
            self._new_rebuilding()
        assert self._rebuilding is not None
        self._incident = self._rebuilding.step(under_way, self._settings, self._recorded())
        if self._rebuilding.is_open and holding.is_held(self._folder):
            holding.let_go(self._folder)

    def _all_home(self) -> None:
        # Who is in the lifeboat still can do nothing there any more; only then is the intake opened anew for another loss.
        self._boats.sink()
        time.sleep(_LAST_S)
        reach("sentinel.sunk")
        self._merge_leftovers()
        under_way = self._incident
        assert under_way is not None
        seconds = (datetime.now(UTC) - under_way.since).total_seconds()
        self._decide(
            f"all {len(self._course.back)} are home {seconds:.1f} s after the loss; {self._merged} entries merged,"
            f" {self._refused} refused"
        )
        self._tell(self._course.all_home())
        reach("sentinel.all_home")
        self._over()

    def _over(self) -> None:
        if self._rebuilding is not None:
            self._rebuilding.stop()
        holding.let_go(self._folder)
        incident.forget(self._folder)
        self._incident = self._rebuilding = self._coming = None
        self._watched, self._roster, self._merged, self._refused = Watched(), [], 0, 0
        self._visited.clear()
        self._rewound.clear()
        self._empty.clear()
        self._waits_for = self._trouble = ""

    def _second_loss(self) -> None:
        """While everybody was on the way home."""
        assert self._incident is not None
        why, now = self._watched.why, datetime.now(UTC)
        self._refresh()
        self._decide(f"home is lost again: {why}", bad=True)
        timeline = self._vault.index.newest_timeline if self._vault is not None else self._incident.timeline
        self._note(
            why=why, lost=self._recorded(), timeline=timeline, only=None, data_lost=False, why_lost="", at="", why_at="",
        )  # fmt: skip
        if self._rebuilding is not None:
            self._rebuilding.stop()
        self._rebuilding = self._coming = None
        self._process_at = time.monotonic()
        self._tell(self._course.lost(why, now))
        self._launch()

    # Going on after an end

    def _take_up(self) -> None:
        """What a sentinel before this one has left."""
        left, course = incident.read(self._folder), Board(self._folder / BOARD).course()
        if left is None or course.mode == "home":
            incident.forget(self._folder)
            holding.let_go(self._folder)
            self._boats.clear()
            self._tell(Course(course.number + 1))
            return
        self._decide("a sentinel goes on from where the one before it was")
        self._incident, self._course = left, course
        self._boats.clear(but=left.boat)
        if course.mode == "launching" or not self._raise(left):
            self._launch_or_try_again()

    def _launch_or_try_again(self) -> None:
        try:
            self._launch()
        except (BallastError, psycopg.Error, OSError) as error:
            self._in_trouble(error)

    # Telling

    def _tell(self, course: Course) -> None:
        self._told.tell(course)
        self._course = course
        self._tell_health(at_once=True)

    def _note(self, **changed: object) -> Incident:
        assert self._incident is not None
        self._incident = incident.write(self._folder, self._incident.with_(**changed))
        return self._incident

    def _merge_ahead(self) -> None:
        """While home is not recorded yet nobody goes there; but what is known by now can be done there already, and is done again
        should home be lost."""
        waiting = list(open_entries(self._intake.entries()))
        if waiting and self._handler is not None:
            self._home_coming().merge_ahead(those_back(self._settings.dsn, waiting, _TOGETHER))

    def _home_coming(self) -> HomeComing:
        if self._coming is None:
            self._coming = HomeComing(self._intake, self._handler, self._settings.dsn)
        return self._coming

    def _load_handler(self) -> None:
        try:
            self._handler = load_handler(self._options.handler)
        except ConfigError as error:
            self._in_trouble(error)

    def _decide(self, what: str, *, bad: bool = False) -> None:
        self._decisions.append(Decision(now_iso(), what))
        self._log.write("alarm" if bad else "warning", "decided", what=what)

    def _said(self, line: str) -> None:
        self._log.info("said", line=line)

    def _in_trouble(self, error: Exception) -> None:
        if str(error) != self._trouble:
            self._log.error("trouble", reason=error if isinstance(error, BallastError) else str(error))
        self._trouble = str(error)
        self._try_at = max(self._try_at, time.monotonic() + _AGAIN_S / 2)

    def _tell_health(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        away, boat = self._course.mode != "home", self._boats.afloat
        waiting = open_entries(self._intake.entries()) if away else {}
        found = SentinelHealth(
            pid=os.getpid(),
            written_at=now_iso(),
            mode=self._course.mode,
            since=self._course.since.isoformat() if self._course.since is not None else "",
            why=str(self._course.why) if away else "",
            lifeboat=(
                ("afloat" if boat is not None and boat.is_afloat else "launching")
                if away
                else ("ready" if self._boats.is_ready else self._boats.trouble or "being made ready")
            ),
            vault_away=self._vault_away,
            seen_true=self._seen_true,
            tenants=len(self._roster),
            home=len(self._course.back),
            accepted=sum(len(entries) for entries in waiting.values()),
            refused=self._refused,
            waits_for=self._waits_for,
            trouble=self._trouble,
            copied=self._copied,
            decisions=tuple(self._decisions),
        )
        with contextlib.suppress(OSError):
            health.write(self._folder, health.SENTINEL_FILE, found)


def main() -> int:
    """0: told to stop; 1: it cannot begin."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.continuity.sentinel", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--server", type=Path, help="folder of the server of our own; without: it is somebody else's")
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--handler", default="", help="where the settings name none")
    parser.add_argument("--probe", default="", help="where the settings name none")
    said = parser.parse_args()
    log = Logbook("sentinel")
    try:
        options = Options(said.config, said.server, said.major, said.handler, said.probe)
        sentinel = Sentinel(options, log)
    except (BallastError, OSError) as error:
        log.error("ended", reason=error if isinstance(error, BallastError) else str(error))
        return 1

    def told(number: int, frame: FrameType | None) -> None:
        sentinel.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    sentinel.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
