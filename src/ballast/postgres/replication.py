"""The replication stream of one database: libpq's COPY_BOTH through `psycopg.pq`, and nothing kept behind the back.

    stream = connect(dsn, "ballast_a")
    stream.start("ballast", from_lsn, ["ballast"])
    while True:
        batch = stream.receive(1.0)     # what has arrived, up to a bound
        ...                             # write batch.messages, fdatasync
        stream.durable(batch.end_lsn)   # never before that
        stream.acknowledge()

No driver moves the flush position here: only `acknowledge` and `feedback` speak to the server, and what may be said
is decided by `AckTracker`. Messages stay as they came (`'w'`, three 64-bit numbers, the pgoutput message): one
look at one byte of each finds where transactions begin and end.

One object belongs to one thread at a time.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec
import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from ballast.postgres.acknowledge import AckTracker
from ballast.postgres.lsn import format_lsn, parse_lsn
from ballast.postgres.pgoutput import EPOCH_US
from ballast.postgres.refusals import (
    Notice,
    PublicationLost,
    ReplicationError,
    connection_lost,
    error_of,
    notice_of,
    publication_lost,
    unreachable,
)
from ballast.postgres.session import pin, pinned_conninfo

__all__ = [
    "BATCH_BYTES",
    "GATHER_S",
    "HEADER_BYTES",
    "Batch",
    "Identity",
    "Notice",
    "PublicationLost",
    "Replication",
    "ReplicationError",
    "Slot",
    "connect",
]

HEADER_BYTES: Final = 25
"""Each message of a batch starts with so many bytes: `w`, start LSN, end LSN, the server's clock."""

BATCH_BYTES: Final = 8 << 20
GATHER_S: Final = 0.005
"""A batch is closed after this time even if more keeps coming: clients wait for it to be durable."""

_W, _K = b"wk"
_BEGIN, _COMMIT = b"BC"
_COMMIT_END_AT = HEADER_BYTES + 10  # 'C', flags, commit LSN, end LSN
_U64 = struct.Struct(">Q")
_KEEPALIVE = struct.Struct(">cQqB")
_STATUS = struct.Struct(">cQQQqB")
_POLL_STEP_MS = 200  # so that a signal's Python handler runs soon


class Identity(msgspec.Struct, frozen=True):
    """Which server and database this is, and where its log ends."""

    system_identifier: str
    timeline: int
    flush_lsn: int
    database: str


class Slot(msgspec.Struct, frozen=True):
    """A new slot. Commits before `consistent_point` are in the snapshot, those after it will be in the stream."""

    name: str
    consistent_point: int
    snapshot_name: str | None
    """For SET TRANSACTION SNAPSHOT elsewhere, until the next command on this connection."""


class Batch(msgspec.Struct):
    """What arrived at once."""

    messages: list[bytes]
    """XLogData as it came, header (`HEADER_BYTES`) included; no keepalives."""
    whole: int
    """So many of `messages` end with the last Commit among them; the rest belongs to a transaction under way."""
    commits: int
    end_lsn: int
    """End of the last Commit received so far, in this batch or before: durable with the messages up to `whole`."""
    bytes: int
    reply_requested: bool
    """The server wants a word at once, or it will end the connection (wal_sender_timeout)."""


def connect(dsn: str, application_name: str, *, connect_timeout_s: int = 10) -> Replication:
    """A replication connection to the database of `dsn`, its output pinned like every session's.

    `application_name` is what synchronous_standby_names calls it. ReplicationError if there is no connection.
    """
    try:
        given = conninfo_to_dict(dsn)
        defaults = {
            "connect_timeout": connect_timeout_s,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }
        extra = {name: value for name, value in defaults.items() if name not in given}
        conninfo = pinned_conninfo(dsn, application_name=application_name, replication="database", **extra)
        pgconn = pq.PGconn.connect(conninfo.encode())
        if pgconn.status != pq.ConnStatus.OK:
            raise unreachable(pgconn.get_error_message())
        pin(pgconn)
    except psycopg.Error as e:
        raise unreachable(str(e)) from e
    return Replication(pgconn)


class Replication:
    """One connection: commands first, then `start`, then `receive` and `acknowledge` until `close`."""

    def __init__(self, pgconn: pq.abc.PGconn) -> None:
        self.notices: list[Notice] = []
        """All that the server said on this connection; whoever reads them may clear the list."""
        self.tracker = AckTracker(0)
        self._pg = pgconn
        self._pg.nonblocking = 1
        self._pg.notice_handler = self._on_notice
        self._poll = select.poll()
        self._poll.register(pgconn.socket, select.POLLIN)
        self._unsent = False
        self._messages: list[bytes] = []
        self._blind_at: int | None = None  # index of the first message that may lack others before it
        self._broken: ReplicationError | PublicationLost | None = None  # something may be left to give out
        self._failure: Exception | None = None
        self._stop_when_blind = True
        self._reported = 0

    @property
    def server_version(self) -> int:
        """As PostgreSQL numbers them: 180004."""
        return self._pg.server_version

    @property
    def backend_pid(self) -> int:
        """The walsender's process number on the server."""
        return self._pg.backend_pid

    def fileno(self) -> int:
        """The socket, for select and its like."""
        return self._pg.socket

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. A temporary slot goes with it. May be called again."""
        self._pg.notice_handler = None
        self._pg.finish()

    # Commands

    def identify_system(self) -> Identity:
        """Ask the server who it is."""
        system, timeline, flushed, database = self._row("IDENTIFY_SYSTEM")[:4]
        return Identity(system, int(timeline), parse_lsn(flushed), database)

    def timeline_history(self, timeline: int) -> str:
        """The history file of a timeline of the server: a line for each one before it, with the LSN where it was left.

        ReplicationError if the server has none of that number.
        """
        return self._row(f"TIMELINE_HISTORY {timeline}")[1]

    def create_slot(
        self,
        name: str,
        *,
        temporary: bool = False,
        export_snapshot: bool = True,
        failover: bool = False,
        timeout_s: float | None = None,
    ) -> Slot:
        """A new logical slot for pgoutput. It waits for the transactions that run now to end.

        `failover` (version 17 or newer): standbys keep a copy of it. ReplicationError if the name is taken, no slot is
        free, or after `timeout_s`; then the connection is of no more use.
        """
        options = f"SNAPSHOT '{'export' if export_snapshot else 'nothing'}'"
        if failover:
            options += ", FAILOVER"
        kind = "TEMPORARY " if temporary else ""
        row = self._row(f"CREATE_REPLICATION_SLOT {_quote(name)} {kind}LOGICAL pgoutput ({options})", timeout_s)
        return Slot(row[0], parse_lsn(row[1]), row[2] or None)

    def drop_slot(self, name: str, *, wait: bool = False) -> None:
        """Remove a slot; with `wait` after whoever uses it has gone."""
        self._execute(f"DROP_REPLICATION_SLOT {_quote(name)}{' WAIT' if wait else ''}", pq.ExecStatus.COMMAND_OK)

    def start(
        self,
        slot: str,
        lsn: int,
        publications: Sequence[str],
        *,
        stop_when_blind: bool = True,
        tracker: AckTracker | None = None,
    ) -> None:
        """Begin streaming every commit from `lsn` on, or from the slot's position if that is later.

        `lsn` is a cut before which all is durable here. The slot's own position may be older: a crashed server
        forgets acknowledgements and would send again. With `stop_when_blind` the stream raises PublicationLost where
        the server goes on without a publication. ReplicationError if the slot is missing, lost or in use.
        """
        names = ",".join(_quote(name) for name in publications)
        options = {
            "proto_version": "1",
            "publication_names": names,
            "messages": "true",
            "origin": "none",
        }
        listed = ", ".join(f"{name} {_literal(value)}" for name, value in options.items())
        self._execute(
            f"START_REPLICATION SLOT {_quote(slot)} LOGICAL {format_lsn(lsn)} ({listed})", pq.ExecStatus.COPY_BOTH
        )
        self._stop_when_blind = stop_when_blind
        self.tracker = tracker or AckTracker(lsn)
        self._reported = 0

    # The stream

    def receive(self, timeout_s: float, *, max_bytes: int = BATCH_BYTES, gather_s: float = GATHER_S) -> Batch:
        """What has arrived: at once if there is something, else waiting up to `timeout_s`; then possibly empty.

        Stops after about `max_bytes`, or `gather_s` after the first message. Raises ReplicationError when the
        stream has ended and PublicationLost when it is no longer complete, after everything before that was given out.
        """
        if self._failure is not None:
            raise self._failure
        batch = Batch([], 0, 0, self.tracker.received_lsn, 0, False)
        before = batch.end_lsn
        self._messages = batch.messages
        deadline = time.monotonic() + timeout_s
        gathering = False
        while True:
            self._read()
            heard = self._drain(batch, max_bytes)
            now = time.monotonic()
            if heard and not gathering:
                gathering = True
                deadline = now + gather_s
            if self._failure is not None or batch.bytes >= max_bytes or now >= deadline:
                break
            if not heard:
                # In the midst of a transaction nobody waits for what is here: larger batches cost less.
                if gathering and (batch.commits or not self.tracker.in_transaction):
                    break
                self._wait(deadline - now)
        if self._blind_at is not None:
            self._forget_what_followed(batch, before)
        if self._failure is not None and not batch.messages:
            raise self._failure
        return batch

    def _read(self) -> None:
        """Let libpq read what the socket has. What it read before the connection broke is still given out."""
        if self._broken is None:
            try:
                self._pg.consume_input()
            except psycopg.OperationalError as e:
                self._broken = connection_lost(str(e))

    def _drain(self, batch: Batch, max_bytes: int) -> bool:
        """Everything that libpq has read and not given out. Whether there was something."""
        get, append, tracker = self._pg.get_copy_data, batch.messages.append, self.tracker
        size, heard = batch.bytes, False
        while size < max_bytes:
            try:
                n, data = get(1)
            except psycopg.OperationalError as e:
                self._failure = self._broken or connection_lost(str(e))
                break
            if n <= 0:
                if n < 0:
                    self._failure = self._end_of_stream()
                break
            heard = True
            if data[0] == _W:
                append(bytes(data))
                size += n
                if data[HEADER_BYTES] <= _COMMIT:  # rows and most others have higher letters
                    if data[HEADER_BYTES] == _COMMIT:
                        (end_lsn,) = _U64.unpack_from(data, _COMMIT_END_AT)
                        tracker.commit(end_lsn)
                        batch.commits += 1
                        batch.whole = len(batch.messages)
                        batch.end_lsn = end_lsn
                    elif data[HEADER_BYTES] == _BEGIN:
                        tracker.begin()
            elif data[0] == _K:
                _, wal_end, _, reply = _KEEPALIVE.unpack(data)
                if self._blind_at is None:
                    tracker.keepalive(wal_end)
                batch.reply_requested |= bool(reply)
        batch.bytes = size
        if not heard and self._failure is None:
            self._failure = self._broken
        return heard

    def durable(self, end_lsn: int) -> None:
        """Every commit up to the one ending at `end_lsn` (a batch's) is fsynced."""
        self.tracker.durable(end_lsn)

    def acknowledge(self, *, force: bool = False) -> bool:
        """Report what the tracker allows, if it is news or `force`. Whether something was sent."""
        lsn = self.tracker.flush_lsn
        if lsn <= self._reported and not force:
            return False
        self.feedback(lsn, lsn, lsn)
        return True

    def feedback(self, write: int, flush: int, apply: int, *, reply: bool = False) -> None:
        """A standby status update, exactly as told. `reply`: ask for a keepalive at once."""
        clock = time.time_ns() // 1000 - EPOCH_US
        try:
            if not self._pg.put_copy_data(_STATUS.pack(b"r", write, flush, apply, clock, reply)):
                return  # the server has not read for so long that there is no room left
            self._unsent = bool(self._pg.flush())
        except psycopg.OperationalError as e:
            self._broken = self._broken or connection_lost(str(e))
            raise self._broken from e
        self._reported = max(self._reported, flush)

    def _wait(self, timeout_s: float) -> None:
        self._poll.modify(self._pg.socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        events = self._poll.poll(min(max(timeout_s * 1000, 0), _POLL_STEP_MS))
        if self._unsent and events:
            self._unsent = bool(self._pg.flush())

    def _forget_what_followed(self, batch: Batch, end_lsn: int) -> None:
        """Give out what came before the warning, and nothing after it."""
        if not self._stop_when_blind:
            self._blind_at = None
            return
        del batch.messages[self._blind_at :]
        batch.bytes = sum(map(len, batch.messages))
        batch.whole, batch.commits, batch.end_lsn = 0, 0, end_lsn
        for index, message in enumerate(batch.messages, 1):
            if message[HEADER_BYTES] == _COMMIT:
                batch.whole, batch.commits = index, batch.commits + 1
                (batch.end_lsn,) = _U64.unpack_from(message, _COMMIT_END_AT)
        if self._failure is None or isinstance(self._failure, ReplicationError):
            self._failure = publication_lost(self.notices[-1].message)

    def _on_notice(self, result: pq.abc.PGresult) -> None:
        notice = notice_of(result)
        self.notices.append(notice)
        if notice.blinds and self._blind_at is None:
            self._blind_at = len(self._messages)

    def _end_of_stream(self) -> Exception:
        result = self._pg.get_result()
        if result is None or result.status != pq.ExecStatus.FATAL_ERROR:
            return connection_lost("the server has ended the stream, as it does when it shuts down")
        return error_of(result)

    # Plumbing

    def _row(self, command: str, timeout_s: float | None = None) -> list[str]:
        result = self._execute(command, pq.ExecStatus.TUPLES_OK, timeout_s)
        return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]

    def _execute(self, command: str, wanted: pq.ExecStatus, timeout_s: float | None = None) -> pq.abc.PGresult:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            self._pg.send_query(command.encode())
            self._unsent = bool(self._pg.flush())
            self._pg.consume_input()
            while self._pg.is_busy():
                left = 1.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    self._pg.get_cancel().cancel()
                    raise ReplicationError(
                        f"The server did not answer in {timeout_s:g} s: {command}.",
                        do="Look for transactions that run for long (pg_stat_activity) and try again.",
                    )
                self._wait(left)
                self._pg.consume_input()
            result = self._pg.get_result()
        except psycopg.OperationalError as e:
            raise connection_lost(str(e)) from e
        if result is None:
            raise connection_lost("no answer")
        if result.status != wanted:
            self._to_the_end()
            raise error_of(result)
        if wanted != pq.ExecStatus.COPY_BOTH:
            self._to_the_end()
        return result

    def _to_the_end(self) -> None:
        while self._pg.status == pq.ConnStatus.OK and self._pg.get_result() is not None:
            pass


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
