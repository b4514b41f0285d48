"""Child processes of the recorder: started again when they die, and never longer alive than the recorder.

    python -m ballast.vault.lifeline ballast.vault.sealer --config …

runs a module that the kernel kills together with its parent (PR_SET_PDEATHSIG; on systems without it a thread
watches the parent).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
import time

from ballast.vault.logbook import Logbook

_PR_SET_PDEATHSIG = 1
_FRUGAL = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "1000000",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "OPENBLAS_NUM_THREADS": "1",
}
"""What was freed goes back to the system. Measured with 200 MB of one tenant: sealer 300 MB at most instead of 330 (and with
runs of 32 MB, 400), merge 400 instead of 450; sealing as fast. numpy's threads for linear algebra, of which there is none here,
cost each start 0.05 s of a processor."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_STABLE_S = 60.0


class Child:
    """One module as a child process. `keep`: it is to run always; otherwise `start` runs it once."""

    def __init__(
        self,
        name: str,
        arguments: list[str],
        log: Logbook,
        *,
        keep: bool = True,
        nice: int = 0,
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self._env = env or {}
        self._command = [sys.executable, "-m", "ballast.vault.lifeline", *arguments]
        if nice:
            self._command = ["nice", "-n", str(nice), *self._command]
        self._log, self._keep = log, keep
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._wait_s = _FIRST_WAIT_S
        self._not_before = 0.0
        self.restarts = 0

    @property
    def running(self) -> bool:
        """Whether it lives now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it unless it runs. The thread that calls must live as long as the child is to."""
        if self.running:
            return
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            env={**_FRUGAL, **os.environ, **self._env, "BALLAST_PARENT": str(os.getpid())},
        )
        self._started_at = time.monotonic()
        self._log.info("child_started", child=self.name, child_pid=self._process.pid)

    def look_after(self) -> None:
        """Call about once a second: notices its end, and starts it again, later each time it fails soon."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                if now - self._started_at > _STABLE_S:
                    self._wait_s = _FIRST_WAIT_S
                return
            self._process = None
            if self._keep:
                self.restarts += 1
                self._not_before = now + self._wait_s
                self._log.warning("child_ended", child=self.name, exit_code=code, starts_again_in_s=self._wait_s)
                self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
            elif code != 0:
                self._log.warning("child_ended", child=self.name, exit_code=code)
        if self._keep and now >= self._not_before:
            self.start()

    def finish(self, timeout_s: float) -> None:
        """Wait until it has ended by itself, for so long at most."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL where that is not enough (it is made to be killed)."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies; at once if it is dead already."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """`python -m ballast.vault.lifeline MODULE ARGUMENTS…`."""
    parent = os.environ.pop("BALLAST_PARENT", None)
    if parent is not None:
        end_with_parent(int(parent))
    module, sys.argv = sys.argv[1], sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
