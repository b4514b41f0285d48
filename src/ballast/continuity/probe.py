"""Looking at home ten times a second, over one connection as long as it holds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo

from ballast.continuity import silence, writable
from ballast.continuity.helm import sign_of_error
from ballast.continuity.signs import Sign

EVERY_S = 0.1
_PATIENCE_S = 2
_LITTLE_BYTES, _ROOM_EVERY_S = 1 << 20, 1.0
"""More than this is not asked for with each look: it would be missing to others for that moment."""
_IDENTIFIER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
_NOT_SERVING = ("starting up", "not yet accepting connections", "recovery mode", "shutting down")


class Seen(msgspec.Struct, frozen=True):
    """What one look found."""

    sign: Sign
    """NONE: it answered."""
    identifier: str = ""
    """The system identifier of the server that answered."""
    answer: bool = False
    """Of the application's probe."""
    what: str = ""
    """The server's words."""
    refuses: Sign = Sign.NONE
    """READ_ONLY, FULL: it answered, and takes no writes; `why`."""
    why: str = ""


class Prober:
    """A thread that looks until `stop`, and tells each look."""

    def __init__(self, dsn: str, probe: str, tell: Callable[[Seen], None]) -> None:
        self._dsn = make_conninfo(
            dsn, connect_timeout=_PATIENCE_S, application_name="ballast sentinel",
            # A machine that is not there any more sends nothing: its silence must be heard.
            tcp_user_timeout=_PATIENCE_S * 1000, keepalives_idle=1, keepalives_interval=1, keepalives_count=2,
            options=f"-c statement_timeout=1000 -c lock_timeout=900 -c synchronous_commit=local {writable.OPTIONS}",
        )  # fmt: skip
        self._probe, self._tell = probe or "SELECT true", tell
        self._conn: psycopg.Connection[Any] | None = None
        self._identifier = ""
        self.room_bytes = 0
        """So much room there must be, too."""
        self._room_of, self._room_at = 0, 0.0
        self._lacks: tuple[Sign, str] | None = None
        self._stop, self._now = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def look_now(self) -> None:
        """Do not wait for the next turn."""
        self._now.set()

    def stop(self) -> None:
        """No more looks."""
        self._stop.set()
        self._now.set()
        self._thread.join(_PATIENCE_S + 2)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            self._now.clear()
            self._tell(self._look())
            self._now.wait(max(0.01, EVERY_S - (time.monotonic() - began)))
        self._leave()

    def _look(self) -> Seen:
        if self._conn is None and (machine := silence.silent(self._dsn)):
            return Seen(
                Sign.REFUSED, self._identifier, what=f"{machine} does not answer, as a machine that is not there"
            )
        try:
            if self._conn is None:
                self._conn = psycopg.connect(self._dsn, autocommit=True)
                (self._identifier,) = self._conn.execute(_IDENTIFIER).fetchone() or ("",)
            row = self._conn.execute(self._probe.encode()).fetchone()
            refused = self._refuses_writes(self._conn)
        except psycopg.Error as error:
            told = str(error).strip()
            if self._conn is not None and (self._conn.broken or self._conn.closed):
                self._leave()
            sign = sign_of_error(error)
            if sign is Sign.SLOW and any(words in told for words in _NOT_SERVING):
                sign = Sign.REFUSED  # it may take minutes, and nobody is served meanwhile
            return Seen(sign, self._identifier, what=told)
        if refused is None:
            return Seen(Sign.NONE, self._identifier, answer=bool(row and row[0]))
        self._leave()  # a session keeps what was set for the database when it began
        return Seen(Sign.NONE, self._identifier, bool(row and row[0]), refuses=refused[0], why=refused[1])

    def _refuses_writes(self, connection: psycopg.Connection[Any]) -> tuple[Sign, str] | None:
        if why := writable.why_read_only(connection):
            return Sign.READ_ONLY, why
        wanted, now = self.room_bytes, time.monotonic()
        if not wanted:
            self._room_at = 0.0
            return None
        if self._room_of != wanted or now >= self._room_at + (_ROOM_EVERY_S if wanted > _LITTLE_BYTES else 0):
            self._room_of, self._room_at, self._lacks = wanted, now, writable.lacks_room(connection, wanted)
        return self._lacks

    def _leave(self) -> None:
        if self._conn is not None:
            with contextlib.suppress(psycopg.Error):
                self._conn.close()
        self._conn = None
