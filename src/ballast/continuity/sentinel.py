"""The sentinel: one process a machine, which notices that home is lost, launches the lifeboat, and brings everybody home again.

    python -m ballast.continuity.sentinel --config ballast.toml [--server FOLDER]

    home ──(lost)──► launching ──► afloat ──(home is whole, or made anew, and recorded)──► returning ──(all are there)──► home

A thread looks at home ten times a second, another hears the bell; all decisions are made by the main thread, one after the other,
and what must outlive it is on disk before it is acted on (`incident`, the board's course, the intake). Whether home is waited for
or recovered depends on its data alone: a server that is starting comes back whole, and everybody goes home to it as it is.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import psycopg

from ballast.continuity import holding, incident
from ballast.continuity.board import Board
from ballast.continuity.helm import BOARD
from ballast.continuity.options import Options
from ballast.continuity.rebuilding import end_left
from ballast.continuity.returning import Returning
from ballast.errors import BallastError
from ballast.vault.durable import keep_private
from ballast.vault.logbook import Logbook

_PREPARING_S = 2.0


class Sentinel(Returning):
    """One run."""

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
            self._told.close(
                keep=bool(self._course.moved)
            )  # else the next one goes on, and everybody must know where they are until then
        self._intake.close()
        if not self._bringing:
            self._intake_of_bringing.close()
        self._log.info("ended")

    def _step(self) -> None:
        if time.monotonic() < self._try_at:
            return
        match self._course.mode:
            case "home":
                self._at_home()
            case "launching" if self._needs_no_lifeboat():
                self._stay_home()
            case "launching":
                self._launch()
            case "afloat":
                self._keep_afloat()
                if self._has_vault() and self._confirm():
                    self._see_to_home()
            case "returning":
                self._keep_afloat()
                if self._has_vault():
                    self._bring_home()

    def _at_home(self) -> None:
        self._has_room_again()
        if self._watched.lost:
            if not self._would_not_help():
                self._lose(self._watched.why)
        elif self._some_are_empty:
            self._lose_some()
        elif self._well:
            if self._vault is not None and self._wipes is not None:
                vault, wipes = self._vault, self._wipes
                # Without the vault there would be no other.
                if not self._boats.is_settled(vault) and not (self._vault_away and self._boats.is_ready):
                    self._patience(
                        "the next lifeboat", lambda: self._boats.prepare(vault, lambda: wipes.active), _PREPARING_S
                    )
            self._merge_leftovers()

    def _take_up(self) -> None:
        """What a sentinel before this one has left."""
        left, told = incident.read(self._folder), Board(self._folder / BOARD).course()
        course = told.with_home(self._settings.dsn)  # it may have become another while no sentinel ran
        if left is None:
            holding.let_go(self._folder)
            self._boats.clear()
            self._tell(course.all_home())
            return
        self._decide("a sentinel goes on from where the one before it was")
        self._incident, self._course = left, course
        if course.moved != told.moved:
            self._decide(f"home is at another address from now on, by {self._options.config_path}: {course.home}")
        self._boats.clear(but=left.boat)
        if course.mode == "home":  # it was not told yet, or the course did not outlive a power cut
            only = frozenset(left.only) if left.only is not None else None
            self._tell(course.lost(left.why, left.since, only))
        elif course != told:
            self._tell(course)
        if course.mode == "launching" or not self._raise(left):
            self._launch_or_try_again()

    def _launch_or_try_again(self) -> None:
        try:
            self._launch()
        except (BallastError, psycopg.Error, OSError) as error:
            self._in_trouble(error)


def main() -> int:
    """0: told to stop; 1: it cannot begin."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.continuity.sentinel", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--server", type=Path, help="folder of the server of our own; without: it is somebody else's")
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--handler", default="", help="where the settings name none")
    parser.add_argument("--probe", default="", help="where the settings name none")
    parser.add_argument("--undecided", default="", help="where the settings name none")
    said = parser.parse_args()
    log = Logbook("sentinel")
    try:
        options = Options(said.config, said.server, said.major, said.handler, said.probe, said.undecided)
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
