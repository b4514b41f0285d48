"""The scratch server of a drill: in a folder of its own, and gone with it at the end, whatever the end is.

The folder is locked as long as its drill lives. One that nobody holds was left by a drill that was killed; the next drill
ends its server and removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psycopg
from psycopg import sql

from ballast.errors import ConfigError, ServerError
from ballast.postgres import SUPPORTED, EmbeddedServer

PREFIX = "ballast-drill-"
_LOCK = "drill.lock"
_DATABASE = "drill"
_NEW = f".{PREFIX}"
"""A folder is called so until it is locked."""
_KEPT = "ballast-kept-drill-"
_YOUNG_S = 60.0
_TERMINATED = 128 + signal.SIGTERM

_alive: set[Scratch] = set()


def major_for(version: int) -> int:
    """The major version of the scratch server for production's (such as 170004): the same, else the next that there is.

    ServerError where production is newer than all."""
    for major in SUPPORTED:
        if major >= version // 10000:
            return major
    raise ServerError(
        f"production is PostgreSQL {version // 10000}, and the newest scratch server here is of {SUPPORTED[-1]}",
        "Update Ballast to a version that brings this PostgreSQL.",
    )


class Scratch:
    """An embedded server with one empty database, while the `with` block lasts."""

    def __init__(self, version: int, encoding: str, *, under: Path | None = None, keep: bool = False) -> None:
        """`version`, `encoding`: production's. `under`: the folder to make it in; None: the system's for such things.
        `keep`: leave folder and data, the server stopped."""
        self.major = major_for(version)
        self.ended = threading.Event()
        self._encoding, self._keep = encoding, keep
        self._under = under if under is not None else Path(tempfile.gettempdir())
        self._lock = -1
        self._server: EmbeddedServer | None = None
        self.folder = self._under

    @property
    def dsn(self) -> str:
        """Of the database."""
        assert self._server is not None
        return self._server.dsn(_DATABASE)

    @property
    def version(self) -> int:
        """As the server itself says it, such as 180004."""
        with psycopg.connect(self.dsn) as conn:
            return conn.info.server_version

    @property
    def running(self) -> bool:
        """Whether the server lives."""
        return self._server is not None and self._server.running()

    def end(self) -> None:
        """Kill the server: whoever waits for it fails at once. For signal handlers."""
        self.ended.set()
        if self._server is not None:
            self._server.kill()

    def __enter__(self) -> Self:
        if not self._under.is_dir():
            raise ConfigError(f"there is no folder {self._under} for the scratch server.", "Make it, or name another.")
        sweep(self._under)
        _alive.add(self)
        try:
            self.folder = Path(tempfile.mkdtemp(dir=self._under, prefix=_NEW))
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._rename(_NEW, PREFIX)
            if os.geteuid() == 0:
                self.folder.chmod(0o711)  # the server runs under another account, and must pass
            self._server = EmbeddedServer(self.folder / "server", major=self.major)
            self._server.start()
            self._create_database()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keep and kind is None and self._server is not None:
            self._server.stop()
            self._rename(PREFIX, _KEPT)
            os.close(self._lock)
            _alive.discard(self)
        else:
            self._remove()

    def _rename(self, before: str, after: str) -> None:
        self.folder = self.folder.rename(self.folder.with_name(after + self.folder.name.removeprefix(before)))

    def _create_database(self) -> None:
        assert self._server is not None
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(_DATABASE))
        if self._encoding != "UTF8":  # the sums are over bytes as the server holds them
            statement += sql.SQL(" ENCODING {} LOCALE_PROVIDER libc LOCALE 'C'").format(sql.Literal(self._encoding))
        with psycopg.connect(self._server.dsn(), autocommit=True) as conn:
            conn.execute(statement)

    def _remove(self) -> None:
        self.ended.set()
        if self._server is not None:
            self._server.discard()
        if self.folder != self._under:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
        _alive.discard(self)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """In the main thread: SIGTERM and SIGINT end the scratch server at once and leave by an exception (SystemExit,
    KeyboardInterrupt), so that everything is removed on the way out. Without it threads would finish their work first."""

    def end(number: int, frame: FrameType | None) -> None:
        for scratch in list(_alive):
            scratch.end()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(_TERMINATED)

    former = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def sweep(under: Path) -> None:
    """Ends and removes what killed drills of this account have left there."""
    for folder in (*under.glob(f"{PREFIX}*"), *under.glob(f"{_NEW}*")):
        with contextlib.suppress(FileNotFoundError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if folder.name.startswith(_NEW) and time.time() - found.st_mtime < _YOUNG_S:
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finally:
                os.close(lock)
            EmbeddedServer(folder / "server").discard()
            shutil.rmtree(folder, ignore_errors=True)
