"""Statements sent to a server in one go, COPY in both directions among them: a conversation costs one round trip.

psycopg's own COPY writes copy every block once more, and every statement waits for its answer; a restore moves gigabytes,
or must be over in milliseconds. So this speaks to libpq: several statements go as one simple query, rows go to the
server as they lie in memory, and rows that come back are counted and summed on arrival. libpq's own waiting would hold
Python's lock and so stop every other connection of the process: all waiting is done by `poll`.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import psycopg
import xxhash
from psycopg import pq

from ballast.errors import RestoreError
from ballast.recovery.report import Tally

_SEND_BYTES = 1 << 20
"""libpq keeps what the socket did not take yet in one growing buffer: hand it over in pieces."""
_SENDER_STOPPED = b"the sender stopped: "


class ServerRefused(RestoreError):
    """The target refused a statement or a row; `sqlstate` is the server's code for why."""

    def __init__(self, what: str, do: str = "", sqlstate: str = "") -> None:
        super().__init__(what, do)
        self.sqlstate = sqlstate


class Ask(msgspec.Struct, frozen=True):
    """A statement; its answer is a list of rows, as texts."""

    sql: str


class Send(msgspec.Struct, frozen=True):
    """`COPY … FROM STDIN` of buffers that hold whole COPY text lines; answered by an empty list."""

    sql: str
    buffers: Sequence[memoryview]


class Count(msgspec.Struct, frozen=True):
    """`COPY (…) TO STDOUT`, answered by a list with the Tally of its lines."""

    sql: str


class Lines(msgspec.Struct, frozen=True):
    """`COPY (…) TO STDOUT`, answered by its lines, each with its newline."""

    sql: str


Step = Ask | Send | Count | Lines


def start(conn: psycopg.Connection[Any], steps: Sequence[Step]) -> None:
    """Send the statements; `finish` with the same steps must follow."""
    conn.pgconn.send_query(";".join(step.sql for step in steps).encode())
    # psycopg's connections do not block: of statements longer than the socket's buffer the rest still lies with libpq.
    _flush(conn.pgconn)


def finish(conn: psycopg.Connection[Any], steps: Sequence[Step]) -> list[list[Any]]:
    """The answers, one for each step. ServerRefused with the server's words (table, line, column)."""
    try:
        answers = [_answer(conn, step) for step in steps]
    except BaseException:
        _drain(conn)
        raise
    _drain(conn)
    return answers


def converse(conn: psycopg.Connection[Any], steps: Sequence[Step]) -> list[list[Any]]:
    """Both. Without an open transaction the steps are one of their own."""
    if not steps:
        return []
    start(conn, steps)
    return finish(conn, steps)


def run_script(conn: psycopg.Connection[Any], script: str) -> None:
    """SQL of ours without rows to send. ServerRefused with the server's words."""
    result = conn.pgconn.exec_(script.encode())
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY):
        raise _refused(result)


def run_statement(conn: psycopg.Connection[Any], statement: str) -> None:
    """One statement that was not written here: the extended protocol takes no second one. ServerRefused."""
    result = conn.pgconn.exec_params(statement.encode(), None)
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY):
        raise _refused(result)


def try_statements(conn: psycopg.Connection[Any], statements: Iterable[str]) -> ServerRefused | None:
    """Each by itself inside an open transaction, which goes on as before if the server refuses one; gives the refusal."""
    run_script(conn, "SAVEPOINT ballast_try")
    try:
        for statement in statements:
            run_statement(conn, statement)
        run_script(conn, "RELEASE SAVEPOINT ballast_try")
    except ServerRefused as refused:
        run_script(conn, "ROLLBACK TO SAVEPOINT ballast_try; RELEASE SAVEPOINT ballast_try")
        return refused
    return None


@contextmanager
def in_servers_words() -> Iterator[None]:
    """What psycopg raises becomes ServerRefused, like all else here."""
    try:
        yield
    except psycopg.Error as error:
        diag = error.diag
        if not error.sqlstate and isinstance(error, psycopg.OperationalError):
            raise ServerRefused(
                f"the connection to the server broke: {' '.join(str(error).split())}",
                "Look into its log (a server ends itself when there is no room for its own log). When it runs again, run the"
                " same command again: it goes on.",
            ) from error
        where = " ".join(filter(None, (diag.message_detail, diag.context)))
        raise said(error.sqlstate or "", diag.message_primary or str(error), where) from error


def said(state: str, message: str, where: str = "") -> ServerRefused:
    """A refusal with the advice for its code."""
    shown = f" ({state})" if state else ""
    return ServerRefused(f"the server refused{shown}: {message} {where}".strip(), _advice(state), state)


def _answer(conn: psycopg.Connection[Any], step: Step) -> list[Any]:
    result = _result(conn.pgconn)
    if result is None:
        raise RestoreError(
            "the server ended the connection", "Look into its log, then run the same command again: it goes on."
        )
    match result.status, step:
        case pq.ExecStatus.COPY_IN, Send():
            _send(conn.pgconn, step.buffers)
            return _closing(conn)
        case pq.ExecStatus.COPY_OUT, Count():
            tally = _receive(conn.pgconn)
            return [tally, *_closing(conn)]
        case pq.ExecStatus.COPY_OUT, Lines():
            lines: list[Any] = list(_lines(conn.pgconn))
            return lines + _closing(conn)
        case ((pq.ExecStatus.TUPLES_OK | pq.ExecStatus.COMMAND_OK), Ask()):
            return [
                tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]
        case _:
            raise _refused(result)


def _closing(conn: psycopg.Connection[Any]) -> list[Any]:
    result = _result(conn.pgconn)
    if result is None or result.status != pq.ExecStatus.COMMAND_OK:
        raise RestoreError("the server ended the connection during COPY") if result is None else _refused(result)
    return []


def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn, select.POLLIN)
        pgconn.consume_input()
    return pgconn.get_result()


def _send(pgconn: pq.abc.PGconn, buffers: Iterable[memoryview]) -> None:
    pgconn.nonblocking = 1
    try:
        for buffer in buffers:
            for begin in range(0, len(buffer), _SEND_BYTES):
                pgconn.put_copy_data(buffer[begin : begin + _SEND_BYTES])
                _flush(pgconn)
    except BaseException as failure:
        pgconn.nonblocking = 0
        pgconn.put_copy_end(_SENDER_STOPPED + str(failure).encode()[:200])
        raise
    pgconn.put_copy_end()
    _flush(pgconn)
    pgconn.nonblocking = 0


def _flush(pgconn: pq.abc.PGconn) -> None:
    while pgconn.flush():
        # A server that has something to say (a refusal) may not read on before it is heard.
        if _wait(pgconn, select.POLLIN | select.POLLOUT) & select.POLLIN:
            pgconn.consume_input()


def _receive(pgconn: pq.abc.PGconn) -> Tally:
    receive, digest = pgconn.get_copy_data, xxhash.xxh64_intdigest
    rows = checksum = 0
    while True:
        size, line = receive(1)
        if size > 0:
            rows += 1
            checksum += digest(line)
        elif size == 0:
            _wait(pgconn, select.POLLIN)
            pgconn.consume_input()
        else:
            return Tally(rows, checksum % (1 << 64))


def _lines(pgconn: pq.abc.PGconn) -> Iterator[bytes]:
    while True:
        size, line = pgconn.get_copy_data(1)
        if size > 0:
            yield bytes(line)
        elif size == 0:
            _wait(pgconn, select.POLLIN)
            pgconn.consume_input()
        else:
            return


def _wait(pgconn: pq.abc.PGconn, events: int) -> int:
    poll = select.poll()
    poll.register(pgconn.socket, events)
    return poll.poll()[0][1]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _drain(conn: psycopg.Connection[Any]) -> None:
    """Leave the connection idle: open COPYs ended, answers thrown away."""
    while (result := _result(conn.pgconn)) is not None:
        match result.status:
            case pq.ExecStatus.COPY_IN:
                conn.pgconn.put_copy_end(_SENDER_STOPPED + b"an earlier statement failed")
            case pq.ExecStatus.COPY_OUT:
                while conn.pgconn.get_copy_data(0)[0] >= 0:
                    pass
            case _:
                pass


def _refused(result: pq.abc.PGresult) -> ServerRefused:
    def field(of: pq.DiagnosticField) -> str:
        return (result.error_field(of) or b"").decode(errors="replace")

    message = field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.get_error_message()
    where = " ".join(filter(None, (field(pq.DiagnosticField.MESSAGE_DETAIL), field(pq.DiagnosticField.CONTEXT))))
    return said(field(pq.DiagnosticField.SQLSTATE), message, where)


def _advice(state: str) -> str:
    match state:
        case "42501":
            return (
                "Restore as a superuser, or have one run: GRANT SET ON PARAMETER session_replication_role TO <role>, "
                "and grant the role the tables."
            )
        case "23505":
            return "The target holds rows with these keys already: restore with --replace, or into an empty database."
        case "53100":
            return "The target's disk is full: make room and run the same command again, it goes on."
        case _:
            return "Nothing of this transaction was kept; mend the cause and run the same command again, it goes on."
