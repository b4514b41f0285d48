"""From a lost server to a new one that is open and recorded: step by step, each of which finds what is done already.

hold       the recorder is stopped, in order, so that all it holds is in the vault, and none begins
aside      what is left of the lost server is ended and kept; its supervisor starts an empty one
choose     the moment to go back to, once
restore    a child of ours recovers, protects, and brings everybody back
record     the recorder may begin; when commits wait for it, home is open
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.continuity import health, holding, incident, tail
from ballast.continuity.health import RestorerHealth
from ballast.continuity.home import Data, Home
from ballast.continuity.incident import Incident
from ballast.continuity.patience import Patience
from ballast.continuity.wipes import Chosen
from ballast.vault.config import Config
from ballast.vault.moment import show

_FIRST_REST_S, _LONGEST_REST_S = 0.5, 30.0
_WAITS_S = 5.0


class Rebuilding:
    """Of one loss."""

    def __init__(
        self,
        config_path: Path,
        folder: Path,
        home: Home | None,
        say: Callable[[str], None],
        choose: Callable[[], Chosen],
        patience: Patience,
    ) -> None:
        """`home`: None where the server is not ours: a person puts an empty one in its place, and ends what is left of it. `say`:
        a decision, for people. `choose`: reads the vault, when all is in it."""
        self._config_path, self._folder, self._home = config_path, folder, home
        self._say, self._choose, self._patience = say, choose, patience
        self._child: subprocess.Popen[bytes] | None = None
        self._started = self._again_at = 0.0
        self._rest_s = _FIRST_REST_S
        self._stopped = False

    def step(self, under_way: Incident, settings: Config, recorded: str, there: str | None) -> Incident:
        """As far as it goes just now. `recorded`: identifier of the server that the newest timeline of the vault is of; `there`:
        of the one that stands at home. BallastError: the same again, in a moment."""
        begun = there == recorded != under_way.lost
        if not self._stopped:
            if not begun:
                holding.hold(self._folder)
                self._patience(
                    f"the end of the recorder of {under_way.lost}",
                    lambda: tail.stop_recorder(settings),
                    _WAITS_S,
                    keep=True,
                )
            self._stopped = True  # else it has come so far that the new server is recorded, and only goes on
        if self._home is not None and self._home.data(under_way.lost) is not Data.ANOTHER:
            self._put_aside(under_way, self._home)
        if not under_way.at and not begun:
            self._patience(
                f"sealing what the recorder left at {under_way.since}",
                lambda: tail.drain(settings, self._config_path, self._say),
                _WAITS_S,
                keep=True,
            )
            chosen = self._choose()
            at = show(chosen.resolved.cut)
            under_way = incident.write(self._folder, under_way.going_back(at, chosen.why))
            self._say(f"recovers to {chosen.resolved.how}" + (f": {chosen.why}" if chosen.why else ""))
        self._see_to_child()
        return under_way

    @property
    def progress(self) -> RestorerHealth | None:
        """What our child says."""
        found = health.restorer(self._folder)
        return found if found is not None and self._child is not None and found.pid == self._child.pid else None

    @property
    def is_open(self) -> bool:
        """Whether the new server can be recorded: from then on the recorder may begin."""
        found = self.progress
        return found is not None and found.opened and found.is_protected

    @property
    def is_done(self) -> bool:
        """Whether everybody is back there, proven."""
        found = self.progress
        return found is not None and found.finished and self._child is not None and self._child.poll() == 0

    def stop(self) -> None:
        """End the child; another one goes on from where it was."""
        child, self._child = self._child, None
        if child is not None and child.poll() is None:
            child.kill()
        if child is not None:
            child.wait()

    def _put_aside(self, under_way: Incident, home: Home) -> None:
        to = home.server.data_dir / f"lost-{under_way.since.astimezone(UTC):%Y%m%dT%H%M%S}-{under_way.lost[-6:]}"
        if not to.exists() and home.put_aside(under_way.lost, to):
            self._say(f"what was left of the lost server is kept in {to}")

    def _see_to_child(self) -> None:
        now = time.monotonic()
        if self._child is not None:
            code = self._child.poll()
            if code is None or (code == 0 and self.is_done):
                return
            told = self.progress
            why = told.error if told is not None else ""
            self._child = None
            self._rest_s = _FIRST_REST_S if now - self._started > 60 else min(2 * self._rest_s, _LONGEST_REST_S)
            self._again_at = now + (_FIRST_REST_S if code < 0 else self._rest_s)
            self._say(f"the restorer ended ({code}); it is started again" + (f": {why}" if why else ""))
        if now >= self._again_at:
            self._started = now
            self._child = subprocess.Popen(
                [
                    sys.executable, "-m", "ballast.vault.lifeline", "ballast.continuity.restorer",
                    "--config", str(self._config_path), "--folder", str(self._folder),
                ],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "BALLAST_PARENT": str(os.getpid())},
            )  # fmt: skip


def end_left(folder: Path) -> None:
    """A restorer that an earlier sentinel left behind: the kernel ends it with that one, a moment later."""
    found = health.restorer(folder)
    if found is None:
        return
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(found.pid)
        if any("ballast.continuity.restorer" in word for word in process.cmdline()):
            process.send_signal(signal.SIGKILL)
            process.wait(10)
