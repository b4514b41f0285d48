"""A PostgreSQL server of our own: the default database of a laptop, the scratch server of a drill, the tests'
server.

A server is its data folder. `EmbeddedServer(folder).start()` makes the folder if it is not there, takes over
the server that already runs in it, or starts one; whichever of two starters comes second finds the first
one's. The folder holds

    pgdata/         PostgreSQL's own data folder, there only when initdb has finished it
    settings.conf   what Ballast sets; it wins over postgresql.conf, and ALTER SYSTEM wins over it
    server.log      what the server says; the one before it is server.log.1
    owner           the process that stops the server when it ends
    lock            held while somebody starts or stops

It listens on a Unix socket alone, in a folder under /tmp that only its account may enter: the path of a
socket may have 107 bytes, those of data folders are longer. It runs in a session of its own, so that a Ctrl-C
meant for us does not reach it, and when we are killed it goes on, unharmed, until somebody takes it over or
stops it.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psutil  # type: ignore[import-untyped,unused-ignore]
from psycopg.conninfo import make_conninfo

from ballast.errors import ServerError
from ballast.postgres import cluster, postmaster
from ballast.postgres.account import Account, server_account
from ballast.postgres.binaries import bin_dir_for

StopMode = Literal["smart", "fast", "immediate"]

DEFAULT_SETTINGS: Mapping[str, str] = {
    "wal_level": "logical",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "track_commit_timestamp": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

_PORT = 5432  # only a part of the socket's name: the folder is private
_RESERVED = frozenset({"listen_addresses", "port", "unix_socket_directories", "data_directory"})
_SIGNALS: Mapping[StopMode, int] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
_LONGEST_DATA_PATH = 900  # PostgreSQL's MAXPGPATH is 1024, for the folder and what it appends
_LOG_KEPT_BYTES = 16 << 20


class EmbeddedServer:
    """A PostgreSQL server on a data folder of its own.

    `settings` are laid over `DEFAULT_SETTINGS` and hold from the next start. Used as a context manager the
    server starts on entry. It stops on exit, and at the normal end of the process, if this object started it
    or took it over from a process that is gone; a server that another living process looks after is left
    running.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        major: int = 18,
        settings: Mapping[str, str] | None = None,
        start_timeout_s: float = 120.0,
    ) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))
        self.major = major
        self.settings = {**DEFAULT_SETTINGS, **(settings or {})}
        self.start_timeout_s = start_timeout_s
        self._account: Account = server_account()
        self._process: psutil.Process | None = None  # the postmaster as last seen; it outlives its pid file
        self._child: subprocess.Popen[bytes] | None = None
        self._owned_by: int | None = None  # our process number, if it is ours to stop

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.data_dir / "pgdata"

    @property
    def log_path(self) -> Path:
        """Where the server writes what happens to it."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """The postmaster's process number, or None if it does not run."""
        process = self._find()
        return None if process is None else process.pid

    def running(self) -> bool:
        """Whether a postmaster lives in this folder, whoever started it."""
        return self._find() is not None

    @property
    def has_owner(self) -> bool:
        """Whether a process that lives stops it when it ends."""
        return _owner_lives(self.data_dir / "owner")

    def dsn(self, dbname: str = "postgres") -> str:
        """A connection string for libpq and psycopg, as the superuser."""
        noted = postmaster.PidFile.read(self.pgdata / "postmaster.pid")
        folder = noted.socket_dir if noted is not None and noted.socket_dir is not None else self._socket_dir
        return make_conninfo(host=str(folder), port=_PORT, user=cluster.SUPERUSER, dbname=dbname)

    def start(self) -> None:
        """Have the server run and accept connections; nothing happens if it already does."""
        self._check_settings()
        self._make_data_dir()
        with self._locked() as lock:
            is_there = cluster.check(self.pgdata, self.major, self._account)
            running = self._find()
            if running is not None and not self._wait_until_ready(running):
                running = None  # it was shutting down
            if running is None:
                if not is_there:
                    cluster.make(self.pgdata, self.major, self._account, lock)
                self._launch()
            self._own()

    def stop(self, mode: StopMode = "fast", *, timeout_s: float = 60.0) -> None:
        """Shut down in order; nothing happens if it does not run.

        `smart` waits for clients, `fast` ends them, `immediate` leaves a recovery to the next start. A server
        that has not ended after `timeout_s` (a replication client may hold it up) is stopped with
        `immediate`, which loses no commit either.
        """
        with self._locked() if self.data_dir.is_dir() else contextlib.nullcontext():
            process = self._find_even_if_deleted()
            if process is not None:
                self._signal(process, mode)
                if not self._gone(process, timeout_s):
                    self._signal(process, "immediate")
                    if not self._gone(process, 30.0):
                        postmaster.kill_tree(process)
            self._forget()

    def kill(self) -> None:
        """SIGKILL the postmaster and its children: a crash. Works also when the data folder is already
        gone."""
        process = self._find_even_if_deleted()
        if process is not None:
            postmaster.kill_tree(process)
        if not self.pgdata.exists():
            shutil.rmtree(self._socket_dir, ignore_errors=True)  # nobody will come back to it
        self._forget()

    def set_aside(self, to: Path) -> None:
        """End the server at once and move its data to `to`, on the same disk: the next start begins an empty one. OSError."""
        with self._locked() if self.data_dir.is_dir() else contextlib.nullcontext():
            process = self._find_even_if_deleted()
            if process is not None:
                self._signal(process, "immediate")
                if not self._gone(process, 10.0):
                    postmaster.kill_tree(process)
            self._forget()
            if self.pgdata.exists():
                self.pgdata.rename(to)

    def end_left_behind(self) -> None:
        """End the server whose data folder was deleted under it; nothing happens where there is none."""
        process = postmaster.find_left_behind(self._socket_lock)
        if process is not None:
            postmaster.kill_tree(process)

    def discard(self) -> None:
        """End the server at once and delete its folder with all data. For scratch servers.

        Only what a server keeps there is deleted; what else somebody put into the folder stays.
        """
        self.kill()
        for folder in (self._socket_dir, self.pgdata, self.pgdata.with_name("pgdata.new")):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("settings.conf", "server.log", "server.log.1", "owner", "lock"):
            (self.data_dir / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.data_dir.rmdir()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned_by == os.getpid():
            self.stop()

    # Finding

    def _find(self) -> psutil.Process | None:
        found = postmaster.find_postmaster(self.pgdata)
        if found is not None:
            self._process = found
        return found

    def _find_even_if_deleted(self) -> psutil.Process | None:
        """Also the server whose data folder was deleted under it."""
        found = self._find() or postmaster.find_left_behind(self._socket_lock)
        if found is None and self._process is not None and postmaster.is_alive(self._process):
            return self._process
        return found

    @property
    def _socket_dir(self) -> Path:
        name = hashlib.sha256(f"{self._account.uid}\0{self.data_dir}".encode(errors="surrogateescape"))
        return Path("/tmp", f"ballast-pg-{name.hexdigest()[:16]}")  # noqa: S108

    @property
    def _socket_lock(self) -> Path:
        return self._socket_dir / f".s.PGSQL.{_PORT}.lock"

    # Preparing

    def _check_settings(self) -> None:
        for name in self.settings:
            if name in _RESERVED or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
                raise ServerError(
                    f'"{name}" is not a setting that can be given to an embedded server',
                    do="Leave it out: where the server listens and keeps its data follows from its folder.",
                )

    def _make_data_dir(self) -> None:
        if len(os.fsencode(self.pgdata)) > _LONGEST_DATA_PATH:
            raise ServerError(
                f"the path of the data folder is too long for PostgreSQL: {self.data_dir}",
                do=f"Choose a folder whose path has less than {_LONGEST_DATA_PATH - 10} bytes.",
            )
        try:
            created = not self.data_dir.exists()
            self.data_dir.mkdir(parents=True, exist_ok=True)
            mine = self.data_dir.stat().st_uid == os.geteuid()
            if self._account.uid != os.geteuid() and (created or (mine and not any(self.data_dir.iterdir()))):
                self.data_dir.chmod(0o755)  # a folder for it alone; pgdata itself stays closed to others
        except OSError as e:
            raise ServerError(
                f"the data folder {self.data_dir} cannot be made or read: {e.strerror or e}",
                do="Choose another folder, or give this account the right to write there.",
            ) from e
        closed = self._account.first_unreachable(self.data_dir)
        if closed is not None:
            raise ServerError(
                f"PostgreSQL runs under the account {self._account.name} here, which may not enter {closed}, "
                f"and so does not reach its data in {self.data_dir}",
                do=f"Choose a data folder outside {closed}, or let others pass through: chmod o+x {closed}",
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the folder's lock; gives its file descriptor."""
        path = self.data_dir / "lock"
        for _ in postmaster.ticks(self.start_timeout_s + 10):
            lock = _try_lock(path)
            if lock is not None:
                try:
                    yield lock
                finally:
                    os.close(lock)
                return
        raise ServerError(
            f"another process has been starting or stopping the server in {self.data_dir} for a long time",
            do=f"Look at {self.log_path} and at who holds {path} (fuser {path}), then try again.",
        )

    def _write_settings(self) -> None:
        lines = [f"{name} = {_quoted(value)}\n" for name, value in self.settings.items()]
        new = self.data_dir / "settings.conf.new"
        new.write_text("# Written by Ballast at every start. ALTER SYSTEM wins over it.\n" + "".join(lines))
        new.chmod(0o644)
        new.replace(self.data_dir / "settings.conf")

    def _make_socket_dir(self) -> None:
        folder = self._socket_dir
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or found.st_uid not in (self._account.uid, os.geteuid()):
            raise ServerError(
                f"{folder}, where the server's socket belongs, was made by user number {found.st_uid}",
                do="Find out who made it and why, and remove it.",
            )
        os.chown(folder, self._account.uid, self._account.gid, follow_symlinks=False)
        folder.chmod(0o700)

    def _clear_the_way(self) -> None:
        left_behind = postmaster.find_left_behind(self._socket_lock)
        if left_behind is not None:
            raise ServerError(
                f"the data folder {self.data_dir} was deleted while its server ran, and that server, "
                f"process {left_behind.pid}, still holds the deleted files",
                do="Save what you still need from it through its socket, then end it with "
                f"EmbeddedServer.kill() or: kill -QUIT {left_behind.pid}",
            )
        postmaster.clear_the_way(self.pgdata)
        for name in (f".s.PGSQL.{_PORT}", f".s.PGSQL.{_PORT}.lock"):
            (self._socket_dir / name).unlink(missing_ok=True)

    # Starting and stopping

    def _launch(self) -> None:
        bin_dir = bin_dir_for(self._account, self.major)
        self._write_settings()
        self._make_socket_dir()
        self._clear_the_way()
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_KEPT_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        where = ["-D", str(self.pgdata), "-p", str(_PORT), "-c", "listen_addresses="]
        where += ["-c", f"unix_socket_directories={self._socket_dir}"]
        try:
            log_start = os.fstat(log).st_size
            atexit.register(self._stop_at_exit)  # before it runs: an interrupt may come at any moment
            self._owned_by = os.getpid()
            self._child = subprocess.Popen(
                [str(bin_dir / "postgres"), *where],
                cwd=self.data_dir,
                env=cluster.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account.switch(),
            )
        finally:
            os.close(log)
        self._process = psutil.Process(self._child.pid)
        if not self._wait_until_ready(self._process):
            code = self._child.wait()
            self._forget()
            raise ServerError(
                f"PostgreSQL {self.major} in {self.data_dir} did not start (exit code {code}):\n"
                + cluster.indented(_read_from(self.log_path, log_start)),
                do=f"Correct what it complains about and start again. The whole log: {self.log_path}",
            )

    def _wait_until_ready(self, process: psutil.Process) -> bool:
        """Wait for connections to be accepted; False if the process ended instead."""
        for _ in postmaster.ticks(self.start_timeout_s):
            noted = postmaster.PidFile.read(self.pgdata / "postmaster.pid")
            if noted is not None and noted.pid == process.pid and noted.ready:
                return True
            self._reap()
            if not postmaster.is_alive(process):
                return False
        raise ServerError(
            f"the server in {self.data_dir}, process {process.pid}, is still not ready after "
            f"{self.start_timeout_s:.0f} s; after a crash it first replays its log:\n"
            + cluster.indented(_read_from(self.log_path, 0)),
            do="It was left running. Call start() again to go on waiting.",
        )

    def _signal(self, process: psutil.Process, mode: StopMode) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(_SIGNALS[mode])

    def _gone(self, process: psutil.Process, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not postmaster.all_gone([process], timeout_s=0.0):
            self._reap()
            if time.monotonic() > deadline:
                return False
        return True

    def _reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    # Who stops it

    def _own(self) -> None:
        """Become the one who stops the server, unless another process that still lives is."""
        note = self.data_dir / "owner"
        if self._owned_by != os.getpid():
            if _owner_lives(note):
                return
            atexit.register(self._stop_at_exit)
            self._owned_by = os.getpid()
        note.write_text(f"{os.getpid()} {psutil.Process().create_time()}\n")

    def _forget(self) -> None:
        self._reap()
        self._child = None
        self._process = None
        self._owned_by = None
        atexit.unregister(self._stop_at_exit)
        with contextlib.suppress(OSError):
            (self.data_dir / "owner").unlink()
        with contextlib.suppress(OSError):
            self._socket_dir.rmdir()  # refused while there is a socket in it

    def _stop_at_exit(self) -> None:
        if self._owned_by == os.getpid():  # a forked child inherits this call, not the duty
            self.stop(timeout_s=20.0)


def _try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock, unless somebody else does or the file was deleted meanwhile."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    os.close(lock)
    return None


def _owner_lives(note: Path) -> bool:
    try:
        pid, created = note.read_text().split()
        process = psutil.Process(int(pid))
        return postmaster.is_alive(process) and abs(process.create_time() - float(created)) < 2.0
    except (OSError, ValueError, psutil.Error):
        return False


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n")
    return f"'{escaped}'"


def _read_from(path: Path, offset: int, *, at_most: int = 16 << 10) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(offset, path.stat().st_size - at_most))
            return file.read()
    except OSError:
        return b""
