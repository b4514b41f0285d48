"""Finding and ending the postmaster of a data folder.

`postmaster.pid` is a claim, not a fact: after a crash it names a process that is gone, or whose number has
gone to somebody else. So a process counts as a folder's postmaster only if it is a `postgres` that works in
this very folder (the same inode: a folder deleted and made anew is another) and was not started by another
one that does.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]

from ballast.errors import ServerError

_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class PidFile:
    """What a postmaster writes about itself (`miscadmin.h`, LOCK_FILE_LINE_*)."""

    pid: int
    socket_dir: Path | None  # not there yet in the first moments
    ready: bool

    @classmethod
    def read(cls, path: Path) -> "PidFile | None":
        """The file's content, or None where there is none or its first line is not a process number."""
        try:
            lines = path.read_text(errors="surrogateescape").splitlines()
            pid = int(lines[0])
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
            return None
        socket_dir = Path(lines[4]) if len(lines) > 4 and lines[4] else None
        return cls(abs(pid), socket_dir, ready=len(lines) > 7 and lines[7].strip() == "ready")


def find_postmaster(pgdata: Path) -> psutil.Process | None:
    """The living postmaster of this data folder, if there is one."""
    noted = PidFile.read(pgdata / "postmaster.pid")
    if noted is None:
        return None
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(noted.pid)
        if works_in(process, pgdata) and not works_in(process.parent(), pgdata):
            return process
    return None


def find_left_behind(socket_lock: Path) -> psutil.Process | None:
    """The postmaster that holds this socket although its data folder was deleted under it."""
    noted = PidFile.read(socket_lock)
    if noted is None:
        return None
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(noted.pid)
        folder = os.readlink(f"/proc/{process.pid}/cwd")
        if is_alive(process) and process.name() == "postgres" and folder.endswith(" (deleted)"):
            return process
    return None


def works_in(process: psutil.Process | None, pgdata: Path) -> bool:
    """Whether this is a living PostgreSQL process of that data folder."""
    if process is None:
        return False
    try:
        if not is_alive(process) or process.name() != "postgres":
            return False
        folder = _folder_of(process)
        return folder is not None and os.path.samestat(folder, pgdata.stat())
    except (psutil.Error, OSError):
        return False


def is_alive(process: psutil.Process) -> bool:
    """Whether the process still runs; a zombie, which only waits to be collected, does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def clear_the_way(pgdata: Path, *, patience_s: float = 5.0) -> None:
    """Make a folder whose postmaster has died ready for the next one.

    Backends that outlived it end by themselves when they notice; those still busy after `patience_s` are
    killed, as two generations in one folder would destroy it. Only then may a `postmaster.pid` whose number
    belongs to somebody else go, which PostgreSQL itself would take for a running server. Called while no
    other start is under way.
    """
    stale = PidFile.read(pgdata / "postmaster.pid")
    if stale is None:
        return
    orphans = [p for p in psutil.process_iter() if works_in(p, pgdata)]
    if not all_gone(orphans, timeout_s=patience_s):
        kill_all(orphans)
    if psutil.pid_exists(stale.pid):
        (pgdata / "postmaster.pid").unlink(missing_ok=True)


def kill_tree(postmaster: psutil.Process) -> None:
    """SIGKILL a postmaster and all that it started: a crash."""
    with contextlib.suppress(psutil.Error):
        postmaster.suspend()  # so that it cannot start another child while we count them
        _wait_until_stopped(postmaster)
    family = [postmaster]
    with contextlib.suppress(psutil.Error):
        family += postmaster.children(recursive=True)
    kill_all(family)


def kill_all(processes: Iterable[psutil.Process], *, timeout_s: float = 20.0) -> None:
    """SIGKILL processes and wait until they are gone."""
    processes = list(processes)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    if not all_gone(processes, timeout_s=timeout_s):
        left = ", ".join(str(p.pid) for p in processes if is_alive(p))
        raise ServerError(
            f"processes {left} of PostgreSQL do not end although they were killed",
            do="They most likely wait for a disk that does not answer: look at the machine's kernel log.",
        )


def all_gone(processes: Iterable[psutil.Process], *, timeout_s: float) -> bool:
    """Wait for processes to end; whether they all did in time."""
    left = list(processes)
    for _ in ticks(timeout_s):
        left = [p for p in left if is_alive(p)]
        if not left:
            return True
    return False


def ticks(timeout_s: float) -> Iterator[None]:
    """Look now and then again every few milliseconds, the last time at the time-out."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        yield
        time.sleep(_POLL_S)
    yield


def _wait_until_stopped(process: psutil.Process) -> None:
    for _ in ticks(1.0):
        if process.status() == psutil.STATUS_STOPPED:
            return


def _folder_of(process: psutil.Process) -> os.stat_result | None:
    """The status of a process's working folder; on Linux also of one that was deleted."""
    try:
        return os.stat(f"/proc/{process.pid}/cwd") if psutil.LINUX else os.stat(process.cwd())
    except OSError:
        return None
