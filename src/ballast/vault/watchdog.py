"""`on_recorder_loss = "continue after 5s"`: a process of its own that lets production go on when the recorder is gone.

It outlives the recorder (also its SIGKILL), watches from production's side whether a recorder is there and still says
something, and takes its name out of `synchronous_standby_names` when it was away for that long. The recorder starts one
beside itself; where recorder and production are separate machines, run one on production's as well, so that it works
when the network between them does not:

    python -m ballast.vault.watchdog --config ballast.toml --stay

It ends by itself when the recorder has ended and production does not wait for it; and, with an error, when for `GONE_S` neither
the recorder's state folder is there nor the server answers: both were taken away, and nothing would ever tell it to end.

A recorder that is connected but acknowledges nothing (it was blinded, or has found a gap) is not lost: what happens
then is `on_blind`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg

from ballast.errors import BallastError, ServerError
from ballast.vault import arming, config, health
from ballast.vault.config import Config
from ballast.vault.durable import keep_private
from ballast.vault.logbook import Logbook
from ballast.vault.standby import Receiver, Standbys, parse, read_standbys

LOCK_FILE = "watchdog.lock"
LOG_FILE = "watchdog.log"
SILENT_S = 3.0
"""A receiver speaks every second; one that has said nothing for so long hangs, and counts as away from then on."""

GONE_S = 300.0
"""Longer than a server takes to be started again after a crash."""


class Absence:
    """For how long a receiver has been away, from one look to the next. Seconds of a clock that only goes forward."""

    def __init__(self, now: float) -> None:
        self._here_at = now
        self._replied: str | None = None
        self._spoke_at = now

    def look(self, now: float, receiver: Receiver | None) -> float:
        """Seconds since it was last there."""
        if receiver is not None and receiver.streaming:
            if receiver.replied != self._replied:
                self._replied, self._spoke_at = receiver.replied, now
            if now - self._spoke_at <= SILENT_S:
                self._here_at = now
        return now - self._here_at


def another_is_there(now: Standbys, slot: str) -> bool:
    """Whether commits are let go by another recorder, so that this one's absence stops nobody."""
    return any(
        name != slot and name in now.recorders and name in now.receivers and now.receivers[name].streaming
        for name in parse(now.setting).names
    )


def start_beside(config_path: Path, state_dir: Path) -> int:
    """Start a watchdog that lives on without us; its process number. One that runs already makes the new one end."""
    with (state_dir / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ballast.vault.watchdog", "--config", str(config_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    return process.pid


def watch(config_path: Path, *, stay: bool, log: Logbook, gone_s: float = GONE_S) -> None:
    """Watch until this recorder has ended and production does not wait for it. `stay`: for ever. ServerError when state folder
    and server have both been away for `gone_s`."""
    settings = config.load(config_path)
    read_at = config_path.stat().st_mtime_ns
    conn: psycopg.Connection[Any] | None = None
    absence: Absence | None = None
    trouble = ""
    there_at = time.monotonic()
    while True:
        if (changed := _changed(config_path, read_at)) is not None:
            read_at, settings = changed, _read_again(config_path, settings, log)
        limit_s = settings.record.continue_after_s
        if limit_s is None and not stay:
            return
        try:
            if conn is None:
                conn = arming.control_connection(settings.dsn, "ballast watchdog")
                absence = None  # a server that has just started has no receivers yet
            now = read_standbys(conn, settings.slot)
            trouble, there_at = "", time.monotonic()
            if not now.names(settings.slot):
                absence = None
                if not stay and not health.is_held(settings.state_dir):
                    return
            elif limit_s is not None:
                absence = absence or Absence(time.monotonic())
                away_s = absence.look(time.monotonic(), now.receivers.get(settings.slot))
                if away_s >= limit_s and not another_is_there(now, settings.slot):
                    _let_go(conn, settings, now, away_s, log)
        except (psycopg.Error, BallastError) as error:
            if str(error) != trouble:
                trouble = str(error)
                log.error("cannot_watch", reason=trouble)
            if conn is None or conn.broken or conn.closed:
                conn = None
            if settings.state_dir.is_dir():
                there_at = time.monotonic()
            elif time.monotonic() - there_at >= gone_s:
                raise ServerError(
                    f"the recorder's state folder {settings.state_dir} is gone, and the server has not answered for"
                    f" {gone_s:.0f} s: {trouble}",
                    "Nothing is watched any more. If the server comes back and its commits wait, run `ballast record`, or take"
                    f" {settings.slot} out of synchronous_standby_names.",
                ) from error
        time.sleep(min(0.5, (limit_s or 5.0) / 10))


def _let_go(conn: psycopg.Connection[Any], settings: Config, now: Standbys, away_s: float, log: Logbook) -> None:
    record = arming.disarm(
        conn,
        settings.state_dir,
        settings.slot,
        f"the recorder was away for {away_s:.1f} s ({settings.record.on_recorder_loss})",
    )
    log.alarm(
        "disarmed",
        message="RPO is no longer 0: production goes on without the recorder",
        slot=settings.slot,
        away_s=round(away_s, 1),
        from_lsn=record.exposed.from_lsn if record.exposed else now.server_lsn,
        standby_names_before=now.setting,
    )


def _read_again(config_path: Path, settings: Config, log: Logbook) -> Config:
    """What the file says now; the former settings where it cannot be understood: somebody has to watch all the same."""
    try:
        found = config.load(config_path)
    except (BallastError, OSError) as error:
        log.alarm("config_not_read", reason=str(error), message="the former settings stay in force")
        return settings
    log.info("config_read_again", on_recorder_loss=found.record.on_recorder_loss)
    return found


def _changed(path: Path, read_at: int) -> int | None:
    try:
        found = path.stat().st_mtime_ns
    except OSError:
        return None
    return found if found != read_at else None


def main() -> None:
    """`python -m ballast.vault.watchdog`."""
    keep_private()
    parser = argparse.ArgumentParser(
        prog="python -m ballast.vault.watchdog", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--stay", action="store_true", help="watch for ever, also while no recorder runs here")
    arguments = parser.parse_args()
    log = Logbook("watchdog")
    path = arguments.config.absolute()
    try:
        with health.only_one(config.load(path).state_dir, LOCK_FILE):
            log.info("watching", config=str(path))
            watch(path, stay=arguments.stay, log=log)
            log.info("nothing_left_to_watch")
    except BallastError as error:
        log.error("ended", reason=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
