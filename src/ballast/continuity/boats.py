"""The lifeboats of a machine: the one that is afloat, and an empty, started one ahead of any loss.

<folder>/lifeboat/<number>/    a server each; never used twice
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psycopg

from ballast.continuity import orphans
from ballast.continuity.entries import Entry
from ballast.continuity.homecoming import items_of
from ballast.continuity.lifeboat import Lifeboat
from ballast.continuity.room import free, taken
from ballast.errors import BallastError, ServerError
from ballast.postgres import EmbeddedServer
from ballast.postgres.account import server_account
from ballast.recovery import Handler, Later, again_by, merge, open_for, take_in, try_again
from ballast.recovery.aim import has_same_structure
from ballast.vault import Resolved, Vault
from ballast.vault.durable import make_folder
from ballast.vault.logbook import Logbook
from ballast.vault.records import Cut

MOST_BYTES, LEAVE_BYTES = 4 << 30, 256 << 20
_BUILD_EVERY_S = 300.0
_REST_S = 10.0
"""Everybody is just home, and who could not be served in time comes again."""
_MEASURE_EVERY_S = 5.0
_MOST_INSIDE = 50
_MAKES_S, _SINKS_S = 10.0, 5.0
"""So long whoever makes one, or throws one away, is waited for."""
_ROSTER = "SELECT tenant FROM ballast_recovery.tenant ORDER BY back_at NULLS LAST, tenant"


class Made(NamedTuple):
    """A lifeboat that is open."""

    number: int
    boat: Lifeboat
    resolved: Resolved


class Boats:
    """Of one sentinel."""

    def __init__(
        self,
        folder: Path,
        major: int,
        log: Logbook,
        *,
        nodes: int = 1,
        node: int = 0,
        most_bytes: int = MOST_BYTES,
        leave_bytes: int = LEAVE_BYTES,
    ) -> None:
        """`most_bytes`: of the disk, that the one afloat may take; `leave_bytes`: that it leaves free there."""
        self._most_bytes, self._leave_bytes = most_bytes, leave_bytes
        self._may_take = 0  # it shows when a new one is measured
        self._must_leave = 0
        self._measure_at = 0.0
        self._folder, self._major, self._log = folder / "lifeboat", major, log
        self._nodes, self._node = nodes, node
        make_folder(self._folder)
        if server_account().uid != os.geteuid():  # the server runs under another account, and must pass
            for part in (folder, self._folder):
                part.chmod(part.stat().st_mode | 0o111)
        self._watcher = orphans.watch(self._folder, major)
        self._next = max((int(p.name) for p in self._folder.iterdir() if p.name.isdigit()), default=0) + 1
        self._spare: tuple[int, Lifeboat] | None = None
        self._making: threading.Thread | None = None
        self._hurry = threading.Event()
        self._lock = threading.Lock()
        self._fits: tuple[int, int, int] | None = None
        self._build_at = self._rest_until = 0.0
        self.trouble = ""
        """Why there is no spare one."""
        self.number = 0
        self.afloat: Lifeboat | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the spare one stands with its structure."""
        return self._spare is not None and self._spare[1].built is not None

    def clear(self, *, but: int = 0) -> None:
        """Throw away what earlier processes left, but for one."""
        left = [p for p in self._folder.iterdir() if p.name.isdigit() and int(p.name) != but]

        def discard() -> None:
            for folder in left:
                EmbeddedServer(folder, major=self._major).discard()
                shutil.rmtree(folder, ignore_errors=True)

        _apart(discard).join(_SINKS_S)

    def prepare(self, vault: Vault, active: Callable[[], Sequence[str]]) -> None:
        """Have a spare one made in the background where there is none, and now and then made anew. `active`: who is to be in
        it in case the vault is away."""
        if self.is_settled(vault):
            return
        if time.monotonic() < self._rest_until:
            return
        if self._spare is not None and time.monotonic() < self._build_at and self._is_fit(vault):
            self._fits = _structure(vault)
            return
        self._fits = _structure(vault)
        # EmbeddedServer ends its server with the process that started it, not with the thread.
        self._hurry = threading.Event()
        self._making = threading.Thread(
            target=self._make_spare, args=(vault, active), name="spare lifeboat", daemon=True
        )
        self._making.start()

    def is_settled(self, vault: Vault) -> bool:
        """Whether there is nothing to prepare, as far as can be told without reading."""
        if self._making is not None and self._making.is_alive():
            return True
        return self._spare is not None and time.monotonic() < self._build_at and self._fits == _structure(vault)

    def make(self, vault: Vault, resolved: Resolved) -> Made:
        """The spare one, open as of `resolved`; nobody is in it before `board`. RestoreError, StoreError, ServerError, …"""
        number, boat = self._take_spare(vault)
        try:
            boat.launch(vault, resolved)
        except BaseException:
            self.throw_away(boat)
            raise
        return Made(number, boat, resolved)

    def throw_away(self, boat: Lifeboat) -> None:
        """One in which nobody is. Nobody waits for it."""
        _apart(boat.sink)

    def take_as_it_is(self) -> tuple[Lifeboat, Resolved] | None:
        """The spare one, where the vault is away; None: there is none with anything in it."""
        self._wait_for_maker()
        if self._spare is None or self._spare[1].built is None:
            return None
        (number, boat), self._spare = self._spare, None
        return self.board(number, boat, is_new=True), boat.take_as_it_is()

    def measure(self) -> None:
        """Looks whether the one that is afloat takes more room than it may, or leaves too little to the intake, which is on the
        same disk: then it counts as lost, and is not resumed, so that another is launched in its place."""
        boat, now, room = self.afloat, time.monotonic(), free(self._folder)
        if boat is None or (now < self._measure_at and room >= self._must_leave):
            return
        self._measure_at = now + _MEASURE_EVERY_S
        size = taken(self._folder / str(self.number))
        if not self._may_take:
            # Where what was accepted takes as much alone, or others have filled the disk, another would not help.
            self._may_take, self._must_leave = max(self._most_bytes, 2 * size), min(self._leave_bytes, room // 2)
        if size > self._may_take or room < self._must_leave:
            boat.outgrown_bytes = size

    def resume(self, number: int, vault: Vault, resolved: Resolved) -> Lifeboat:
        """The one of that number, with all that is in it; for `board`."""
        if self.afloat is not None and number == self.number and (size := self.afloat.outgrown_bytes):
            # It floats on until another does, or for longer where there cannot be another.
            room = free(self._folder)
            self._may_take, self._must_leave, self.afloat.outgrown_bytes = max(self._may_take, 2 * size), room // 2, 0
            raise ServerError(
                f"the lifeboat takes {size:,} bytes of the disk, and may take {self._most_bytes:,} ([continuity] lifeboat_bytes);"
                f" {room:,} are free for what is accepted, and it must leave {self._leave_bytes:,}",
                "Another takes its place, with the shops in which something was accepted and those that are visited now.",
            )
        if not (self._folder / str(number) / "pgdata").exists():
            raise ServerError(f"the lifeboat {number} is not there any more", "Launch another.")
        boat = Lifeboat(self._folder / str(number), major=self._major, nodes=self._nodes, node=self._node)
        boat.resume(vault, resolved)
        return boat

    def resume_as_it_is(self, number: int) -> Lifeboat:
        """The same where the vault is away: whoever is in it is served."""
        if not (self._folder / str(number) / "pgdata").exists():
            raise ServerError(f"the lifeboat {number} is not there any more", "Launch another, when the vault is back.")
        boat = Lifeboat(self._folder / str(number), major=self._major, nodes=self._nodes, node=self._node)
        boat.resume_as_it_is()
        return self.board(number, boat)

    def sink(self) -> None:
        """All are home: the one that was afloat is thrown away. Returns when nobody can do anything in it any more, or a little
        later."""
        if self.afloat is not None:
            _apart(self.afloat.sink).join(_SINKS_S)
        self.afloat, self.number = None, 0
        self._rest_until = time.monotonic() + _REST_S

    def close(self, *, keep: bool) -> None:
        """The process ends. `keep`: what is afloat will be needed again."""
        self._wait_for_maker()
        if self._spare is not None:
            _apart(self._spare[1].sink).join(_SINKS_S)
        if self.afloat is not None and keep:
            _apart(self.afloat.leave).join(2 * _SINKS_S)
        else:
            self.sink()
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()

    def board(self, number: int, boat: Lifeboat, *, is_new: bool = False) -> Lifeboat:
        """From now on it is the one that is afloat; the one before it floats until `sink_former`."""
        former, self.afloat, self.number = self.afloat, boat, number
        self._may_take, self._measure_at = (0 if is_new else self._most_bytes), time.monotonic() + _MEASURE_EVERY_S
        self._must_leave = 0 if is_new else self._leave_bytes
        if former is not None and former is not boat:
            self._former = former
        return boat

    _former: Lifeboat | None = None

    def sink_former(self) -> None:
        """Everybody has heard of the new one."""
        former, self._former = self._former, None
        if former is not None:
            _apart(former.sink)

    def _is_fit(self, vault: Vault) -> bool:
        """Whether its structure is still that of the record. Roles are brought up to date when it is made anew: any of them may
        change its own settings without end."""
        built = self._spare[1].built if self._spare is not None else None
        newest = vault.index.newest_timeline
        return built is not None and has_same_structure(
            vault, built.cut, Cut(newest, vault.index.recorded_until(newest)), but_roles=True
        )

    def _wait_for_maker(self) -> None:
        """Who is making one is asked to come to an end; who does not, since a store hangs, is left to himself with his boat."""
        self._hurry.set()
        making, self._making = self._making, None
        if making is None:
            return
        making.join(_MAKES_S)
        if making.is_alive():
            with self._lock:
                left, self._spare = self._spare, None

            def clear_up() -> None:
                making.join()
                if left is not None:
                    left[1].sink()

            _apart(clear_up)

    def _take_spare(self, vault: Vault) -> tuple[int, Lifeboat]:
        self._wait_for_maker()
        if self._spare is None:
            self._make_spare(vault, list)
        taken, self._spare = self._spare, None
        if taken is None:
            raise ServerError(f"no lifeboat could be made ready: {self.trouble}", "It is tried again.")
        return taken

    def _make_spare(self, vault: Vault, active: Callable[[], Sequence[str]]) -> None:
        """A server at least; built, where the vault answers and nobody waits."""
        self._build_at = time.monotonic() + _BUILD_EVERY_S
        mine, hurry = self._spare, self._hurry
        try:
            if mine is None:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                made = Lifeboat(self._folder / str(number), major=self._major, nodes=self._nodes, node=self._node)
                made.make_ready()
                mine = (number, made)
                with self._lock:
                    is_wanted = self._spare is None
                    self._spare = self._spare or mine
                if not is_wanted:  # nobody waited for this one
                    made.sink()
                    return
            if not hurry.is_set():
                mine[1].build(vault, vault.resolve(None), self._while_nobody_waits(active(), hurry))
        except (BallastError, psycopg.Error, OSError) as error:
            if str(error) != self.trouble:
                self._log.warning("no_lifeboat", reason=error if isinstance(error, BallastError) else str(error))
            self.trouble = str(error)
            with self._lock:
                is_lost = self._spare is mine and (mine is None or mine[1].built is None)
                if is_lost:
                    self._spare = None
            if is_lost and mine is not None:
                with contextlib.suppress(BallastError, OSError):
                    mine[1].sink()
            return
        self.trouble = ""

    def _while_nobody_waits(self, tenants: Sequence[str], hurry: threading.Event) -> Iterator[str]:
        for tenant in tenants[:_MOST_INSIDE]:
            if hurry.is_set():
                return
            yield tenant


def _structure(vault: Vault) -> tuple[int, int, int]:
    """Where this is the same, so is the structure."""
    return vault.index.newest_timeline, max(vault.index.schemas, default=0), len(vault.index.dumps)


def _apart(work: Callable[[], object]) -> threading.Thread:
    """In a thread of its own: a folder of many gigabytes is not deleted at once."""

    def run() -> None:
        with contextlib.suppress(BallastError, OSError):
            work()

    thread = threading.Thread(target=run, name="lifeboat", daemon=True)
    thread.start()
    return thread


def do_again(boat: Lifeboat, entries: Iterable[Entry], handler: Handler) -> int:
    """What was accepted into a lifeboat that is lost, in one that has not seen it; how many entries. BallastError."""
    entries = list(entries)
    for tenant in dict.fromkeys(entry.tenant for entry in entries):
        boat.fetch(tenant)
    if entries:
        merge(boat.dsn(), items_of(entries), handler, jobs=2)
    return len(entries)


def bring_in_again(boat: Lifeboat, later: Later, handler: Handler | None) -> None:
    """What was committed after the moment that it is of; what could not be merged then is tried again by `handler`, if there is
    one. BallastError, psycopg.Error."""
    open_for(boat.dsn(), later)
    for tenant in later.of:
        boat.fetch(tenant)
    merge(boat.dsn(), (item for items in later.of.values() for item in items), take_in, jobs=2)
    again, items = again_by(handler, (item for items in later.refused.values() for item in items))
    if items:
        try_again(boat.dsn(), items, again, jobs=2)


def roster(boat: Lifeboat) -> list[str]:
    """Every tenant of the record as of its launch, those that were visited first."""
    try:
        with psycopg.connect(boat.dsn(), autocommit=True) as conn:
            return [row[0] for row in conn.execute(_ROSTER).fetchall()]
    except psycopg.Error as error:
        raise ServerError(f"the lifeboat does not answer: {error}", "Launch another.") from error
