"""What the sentinel knows, and tells: the course to everybody, its decisions to people, how it stands to `ballast status`."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from ballast.continuity import health, incident, outlived
from ballast.continuity.asking import Asking
from ballast.continuity.board import Told
from ballast.continuity.boats import Boats
from ballast.continuity.course import Course
from ballast.continuity.entries import open_entries
from ballast.continuity.handler import load as load_handler
from ballast.continuity.health import Decision, SentinelHealth
from ballast.continuity.helm import BOARD, INTAKE
from ballast.continuity.home import Home
from ballast.continuity.homecoming import HomeComing
from ballast.continuity.incident import Incident
from ballast.continuity.intake import Intake
from ballast.continuity.options import Options
from ballast.continuity.patience import Patience
from ballast.continuity.probe import Prober, Seen
from ballast.continuity.rebuilding import Rebuilding
from ballast.continuity.room import Reserve, is_full
from ballast.continuity.signs import Watched
from ballast.continuity.wipes import Wipes
from ballast.errors import BallastError, ConfigError
from ballast.recovery import Handler
from ballast.vault import Vault
from ballast.vault.durable import make_folder
from ballast.vault.health import now_iso
from ballast.vault.logbook import Logbook

_TELL_EVERY_S = 1.0
_AGAIN_S = 1.0
_DECISIONS_BYTES = 2600
"""With all else in one block of the disk, which can be written over where it is full."""

T = TypeVar("T")


class Telling:
    """State, and the word about it."""

    def __init__(self, options: Options, log: Logbook) -> None:
        self._options, self._log, self._folder = options, log, options.folder
        self._settings = options.settings
        make_folder(self._folder)
        self._stopping = threading.Event()
        self._patience = Patience(self._meanwhile)
        self._events: queue.SimpleQueue[Seen | str] = queue.SimpleQueue()
        self._postponed: list[str] = []
        self._home = Home(options.server, major=options.major) if options.server is not None else None
        self._reserve = Reserve(self._folder / "reserve")
        self._reserve.fill()
        self._boats = Boats(
            self._folder, options.major, log, nodes=options.nodes, node=options.node, most_bytes=options.lifeboat_bytes,
        )  # fmt: skip
        self._told = Told(self._folder / BOARD)
        self._course = Course()
        self._incident: Incident | None = None
        self._intake = Intake(self._folder / INTAKE)
        self._intake_of_bringing = Intake(self._folder / INTAKE, reserve_bytes=0)  # which has a thread of its own
        self._handler: Handler | None = None
        self._vault: Vault | None = None
        self._wipes: Wipes | None = None
        self._reading, self._wanted = threading.Lock(), threading.Event()
        self._vault_away = ""
        former = health.sentinel(self._folder)
        self._seen_true = former is not None and former.seen_true
        self._watched, self._well = Watched(), 0
        self._seen: Seen | None = None
        self._seen_writable = former is not None and former.seen_writable
        self._doubted_at = 0.0
        self._doubt, self._refused_at = "", float("-inf")
        self._unconfirmed_at = float("-inf")
        self._stuck, self._stuck_since = "", time.monotonic()
        self._spool_at, self._no_spool = 0.0, False
        self._follow_at, self._recorder_of = 0.0, ""
        self._process_at = time.monotonic()
        self._empty: dict[str, int] = {}
        self._good_looks = 0
        self._visited: dict[str, None] = {}
        self._roster: list[str] = []
        self._rebuilding: Rebuilding | None = None
        self._coming: HomeComing | None = None
        self._bringing: tuple[str, ...] = ()
        self._asking = Asking()
        self._try_at = self._told_at = self._renew_at = self._leftovers_at = 0.0
        self._merged = self._refused = 0
        self._unclear: dict[str, float] = {}
        self._waits_for = self._trouble = ""
        self._alarmed = former.alarm if former is not None else ""
        self._decisions: deque[Decision] = deque(former.decisions if former is not None else (), maxlen=20)
        self._copied = 0
        self._closed = outlived.look(self._folder / INTAKE)
        self._prober: Prober | None = None

    def _tell(self, course: Course) -> None:
        self._with_room(lambda: self._told.tell(course))
        self._course = course
        if course.mode == "home":
            self._reserve.fill()
        self._tell_health(at_once=True)

    def _meanwhile(self) -> None:
        """While the main thread waits for something: what is told is not older than it seems."""
        self._tell_health()

    def _note(self, **changed: object) -> Incident:
        assert self._incident is not None
        return self._write_down(self._incident.with_(**changed))

    def _write_down(self, what: Incident) -> Incident:
        """Durably."""
        self._incident = self._with_room(lambda: incident.write(self._folder, what))
        return self._incident

    def _with_room(self, write: Callable[[], T]) -> T:
        """What must be written, with room that was kept for it where there is no other."""
        while True:
            try:
                return write()
            except OSError as error:
                if not (is_full(error) and self._reserve.give_up()):
                    raise

    def _decide(self, what: str, *, bad: bool = False) -> None:
        self._decisions.append(Decision(now_iso(), what))
        self._log.write("alarm" if bad else "warning", "decided", what=what)

    def _alarm(self, what: str) -> None:
        """A person must look at it. Told once."""
        if what not in self._alarmed:
            self._alarmed = f"{self._alarmed} {what}.".lstrip()
            self._decide(what, bad=True)

    def _said(self, line: str) -> None:
        self._log.info("said", line=line)

    def _in_trouble(self, error: Exception) -> None:
        if str(error) != self._trouble:
            self._log.error("trouble", reason=error if isinstance(error, BallastError) else str(error))
        self._trouble = str(error)
        if is_full(error) and self._reserve.give_up():
            self._log.alarm("disk_full", folder=str(self._folder), what="room that was kept is given up")
        self._try_at = max(self._try_at, time.monotonic() + _AGAIN_S / 2)

    def _load_handler(self) -> None:
        try:
            self._handler = load_handler(self._options.handler)
        except ConfigError as error:
            self._in_trouble(error)

    def _tell_health(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        if self._vault is not None and not self._vault_away:
            self._boats.measure()
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
            seen_writable=self._seen_writable,
            ours=self._home is not None,
            tenants=len(self._roster),
            home=len(self._course.back),
            accepted=sum(len(entries) for entries in waiting.values()),
            refused=self._refused,
            waits_for=self._waits_for,
            trouble=self._trouble,
            alarm=self._alarmed,
            copied=self._copied,
            closed=self._closed,
            kept=self._home.kept if self._home is not None else (),
            decisions=_newest(self._decisions, _DECISIONS_BYTES),
        )
        with contextlib.suppress(OSError):
            health.write(self._folder, health.SENTINEL_FILE, found)


def _newest(decisions: Sequence[Decision], most_bytes: int) -> tuple[Decision, ...]:
    """As many as fit, in order."""
    size, kept = 0, list[Decision]()
    for one in reversed(decisions):
        size += len(msgspec.json.encode(one))
        if size > most_bytes and kept:
            break
        kept.append(one)
    return tuple(reversed(kept))
