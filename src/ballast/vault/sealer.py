"""The sealing process: `python -m ballast.vault.sealer --config ballast.toml`, a child of the recorder.

It may be slow, large, killed or without its store, and no commit waits for it: what it has not sealed yet lies fsynced
in the spool. On SIGTERM it seals what the spool holds and ends; a store that does not answer does not keep it from ending.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import psycopg

from ballast.errors import BallastError, ConfigError, FencedError, IntegrityError, StoreError
from ballast.vault import config, wish
from ballast.vault.batch import recover_batches
from ballast.vault.durable import keep_private
from ballast.vault.health import (
    NONCE_VARIABLE,
    SEALER_FILE,
    SealerHealth,
    SealerState,
    now_iso,
    only_one,
    write_state,
)
from ballast.vault.logbook import Logbook
from ballast.vault.sealing import Sealing, Stretch
from ballast.vault.spoolfiles import closed_files, usage
from ballast.vault.token import read_tokens
from ballast.vault.vault import Vault

LOCK_FILE = "sealer.lock"
FENCED_EXIT = 3
_LOOK_EVERY_S, _LOOK_OFTEN_S = 0.1, 0.01
_STEP_S = 0.02
"""So often it is seen whether a file came into the spool or a wish among the others, which takes a few microseconds."""
_LARGE_RESTS_S = 2.0
"""A large transaction may be the end of a platform: whoever takes its shops over has the processor first."""
_IDLE_SEAL_S = 300.0
"""What holds nothing but the canary is sealed this often: enough to say how far the record reaches."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = (
    0.5,
    10.0,
)  # production may hang at the spool's limit: not much longer than the store is away


class Sealer:
    """The loop."""

    def __init__(self, settings: config.Config, log: Logbook) -> None:
        self._settings, self._log = settings, log
        self._stopping = threading.Event()
        self._sealing: Sealing | None = None
        self._state: SealerState = "waiting"
        self._reason = ""
        self._trouble_since: str | None = None
        self._wait_s = _FIRST_WAIT_S
        self._sealed_at = time.monotonic()
        self._wrote_at = 0.0
        self._is_waited_for = settings.record.acknowledge == "store"

    def stop(self) -> None:
        """Seal what is there, then end."""
        self._stopping.set()

    def run(self) -> None:
        """Until told to stop. FencedError where another recorder writes this vault."""
        with only_one(self._settings.state_dir, LOCK_FILE):
            while True:
                stopping, seen = self._stopping.is_set(), self._changed_at()
                try:
                    busy = self._turn(drain=stopping)
                except StoreError as error:
                    self._trouble("store_away", error)
                    if stopping:
                        return
                except FencedError as error:
                    self._trouble("fenced", error)
                    raise
                except (ConfigError, IntegrityError, psycopg.Error, OSError, sqlite3.Error) as error:
                    self._trouble("stuck", error)
                    if stopping:
                        return
                else:
                    if stopping and not busy:
                        self._write_health("stopped")
                        return
                    if not busy:
                        self._rest(seen)

    def _rest(self, seen: tuple[int, ...]) -> None:
        """Until there may be something to do. `seen`: how the folders were before it was looked."""
        if self._is_waited_for:
            self._stopping.wait(_LOOK_OFTEN_S)
            return
        until = time.monotonic() + _LOOK_EVERY_S
        while (left := until - time.monotonic()) > 0 and self._changed_at() == seen:
            if self._stopping.wait(min(left, _STEP_S)):
                return

    def _changed_at(self) -> tuple[int, ...]:
        """When something came into the spool, or a wish, or went."""
        found = []
        for folder in (self._settings.spool_dir, wish.folder(self._settings.state_dir)):
            try:
                found.append(folder.stat().st_mtime_ns)
            except OSError:
                found.append(0)
        return tuple(found)

    def _turn(self, *, drain: bool) -> bool:
        """Seal one stretch if it is time; whether there was something to do."""
        sealing = self._begin()
        sealing.announce()
        self._grant_seals(sealing)
        sealing.see_to_catalog()
        stretch = sealing.next_stretch(closed_files(self._settings.spool_dir))
        if stretch is None or not (drain or self._is_due(sealing, stretch)):
            self._write_health("waiting")
            return False
        self._write_health("sealing")
        started = time.monotonic()
        body = sealing.seal(stretch)
        self._sealed_at = time.monotonic()
        if self._wait_s > _FIRST_WAIT_S:
            self._log.info("goes_on")
        self._wait_s, self._reason = _FIRST_WAIT_S, ""
        self._write_health("sealing", at_once=True)  # commits may wait for it
        self._log.info(
            "sealed",
            first_lsn=body.first_lsn,
            last_lsn=body.last_lsn,
            changes=body.changes,
            runs=len(body.runs),
            files=len(stretch.files),
            seconds=round(self._sealed_at - started, 3),
        )
        return True

    def _begin(self) -> Sealing:
        if self._sealing is None:
            if not read_tokens(self._settings.state_dir):
                raise ConfigError(
                    f"There is no token in {self._settings.state_dir}, by which the messages of our event triggers are known:"
                    " this was protected by an older version.",
                    "Run `ballast protect` again.",
                )
            vault = Vault.open(self._settings.vault, state_dir=self._settings.state_dir)
            if left := recover_batches(vault.ledger, vault.store, self._settings.state_dir, known=vault.index.objects):
                self._log.info("interrupted_batch_told", objects=len(left))
            vault.refresh()
            self._sealing = Sealing(vault, self._settings, self._log)
            gc.freeze()
        return self._sealing

    def _is_due(self, sealing: Sealing, stretch: Stretch) -> bool:
        if self._is_waited_for or wish.pending(self._settings.state_dir):
            return True
        if stretch.is_large and not stretch.is_wanted and _age_s(stretch.files[0]) < _LARGE_RESTS_S:
            return False
        return time.monotonic() - self._sealed_at > _IDLE_SEAL_S or not sealing.is_idle(stretch)

    def _grant_seals(self, sealing: Sealing) -> None:
        for asked in wish.pending(self._settings.state_dir):
            if asked.kind == "seal" and sealing.sealed_lsn >= (asked.to_lsn or 0):
                wish.granted(self._settings.state_dir, asked)

    def _trouble(self, state: SealerState, error: Exception) -> None:
        """Say it, and begin anew from the ledger after a while."""
        if (state, str(error)) != (self._state, self._reason):
            self._log.alarm(state, reason=error if isinstance(error, BallastError) else str(error), wait_s=self._wait_s)
        self._reason = str(error)
        self._trouble_since = self._trouble_since or now_iso()
        self._sealing = None
        self._write_health(state)
        deadline = time.monotonic() + self._wait_s
        self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
        while not self._stopping.is_set() and (left := deadline - time.monotonic()) > 0:
            self._stopping.wait(min(left, 1.0))
            self._write_health(state)

    def _write_health(self, state: SealerState, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and state == self._state and now - self._wrote_at < 1.0:
            return
        if state in ("sealing", "waiting", "stopped"):
            self._reason = ""
        if self._reason == "":
            self._trouble_since = None
        self._state, self._wrote_at = state, now
        waiting = usage(self._settings.spool_dir)
        sealing = self._sealing
        told = SealerHealth(
            pid=os.getpid(),
            state=state,
            written_at=now_iso(),
            reason=self._reason,
            timeline=sealing.timeline if sealing else 0,
            sealed_lsn=sealing.sealed_lsn if sealing else 0,
            segments=sealing.segments if sealing else 0,
            rows=sealing.rows if sealing else 0,
            waiting_files=waiting.files,
            waiting_bytes=waiting.bytes,
            trouble_since=self._trouble_since,
            started_by=os.environ.get(NONCE_VARIABLE, ""),
        )
        with contextlib.suppress(OSError):  # a full disk: said again in a second
            write_state(self._settings.state_dir, SEALER_FILE, told)


def _age_s(file: Path) -> float:
    """Since it was written to last; clocks that were put back make it old."""
    age = time.time() - file.stat().st_mtime
    return age if age >= 0 else _LARGE_RESTS_S


def main() -> None:
    """`python -m ballast.vault.sealer`: exit code 0 when told to stop, 3 when fenced, 1 otherwise."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.vault.sealer")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--drain", action="store_true", help="seal what the spool holds, then end")
    arguments = parser.parse_args()
    settings = config.load(arguments.config)
    log = Logbook("sealer")
    sealer = Sealer(settings, log)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sealer.stop())
    if arguments.drain:
        sealer.stop()
    try:
        sealer.run()
    except FencedError:
        sys.exit(FENCED_EXIT)
    except BallastError as error:
        log.error("ended", reason=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
