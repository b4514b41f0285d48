"""Real processes: each part in a session of its own, with all that it starts; and what is left of a former run.

A session of its own keeps a terminal's Ctrl-C from the parts: who stops when is the supervisor's to say. A part's group is
killed when the part itself has ended, so that nothing of it holds a port or a lock when it is started again. Should the
supervisor itself be killed, its parts are killed by the kernel (their commands see to it); whatever survives that carries a mark
in its environment, by which the next start finds it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.supervise.part import Part

MARK = "BALLAST_UP"
"""Environment variable: the folder of the supervisor that a process belongs to."""
PARENT = "BALLAST_PARENT"
"""Environment variable: the process whose end is to end this one (see `ballast.vault.lifeline`)."""


class Running:
    """A part's process, from its start until it was collected."""

    def __init__(self, part: Part, mark: str, heard: Callable[[str], None]) -> None:
        """Starts it. The thread that calls must live as long as the process is to. `heard` is told each line of its output."""
        env = {**os.environ, "PYTHONUNBUFFERED": "1", **part.env, MARK: mark, PARENT: str(os.getpid())}
        self._process = subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        self._heard = heard
        self._reader = threading.Thread(target=self._read, name=f"output of {part.name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Also the number of its group."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it lives. When it does not, nothing of its group does."""
        if self._process.returncode is None:
            # Its number belongs to it, and so to its group, until it is collected.
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._tell_group(signal.SIGKILL)
            self._process.wait()
            self._reader.join(1.0)  # its last words come before the news of its end
        return self._process.returncode

    def tell(self, number: int) -> None:
        """A signal to it; SIGKILL to its whole group."""
        if number == signal.SIGKILL:
            self._tell_group(number)
        else:
            self._process.send_signal(number)

    def _tell_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        with stream, contextlib.suppress(ValueError):
            for line in stream:
                self._heard(line.decode(errors="replace").rstrip("\r\n"))


def left_of(folder: Path) -> list[psutil.Process]:
    """Processes of a supervisor of this folder that is gone."""
    mark, own = str(folder), os.getpid()
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != own and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def end_left(folder: Path, *, patience_s: float = 10.0) -> list[int]:
    """Kills them, which is what they are made for; their numbers."""
    left = left_of(folder)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=patience_s)
    return [process.pid for process in left]


def own_start() -> float:
    """When this process was started, as others can see it."""
    return float(psutil.Process().create_time())


def pause(seconds: float) -> None:
    """Sleeps; a signal's handler runs in between."""
    time.sleep(seconds)
