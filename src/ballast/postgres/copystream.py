"""What COPY prints, counted and summed as it arrives on the socket.

libpq hands over each row by itself, which takes longer than all else on this side. Once the statement is sent, the
connection's socket is read here instead, many rows at a time; libpq does not know, so the connection is used up.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Any

import numpy as np
import psycopg
from psycopg import pq

from ballast.errors import ServerError
from ballast.postgres.checksum import copy_data_checksums

_BUFFER_BYTES = 1 << 20
_HEADER = struct.Struct("!cI")
_MASK = (1 << 64) - 1
_READY, _ERROR = b"Z", b"E"
_OF_COPY = frozenset((b"H", b"d"))
_EXPECTED = frozenset((b"H", b"d", b"c", b"C", b"N", b"S", b"A"))


class PrintError(ServerError):
    """The server refused; `sqlstate` is its code."""

    def __init__(self, what: str, do: str = "", sqlstate: str = "") -> None:
        super().__init__(what, do)
        self.sqlstate = sqlstate


def can_stream(conn: psycopg.Connection[Any]) -> bool:
    """Whether the connection's bytes are the server's, not encrypted ones."""
    return not conn.pgconn.ssl_in_use and conn.info.get_parameters().get("gssencmode", "disable") != "require"


def sum_copy(conn: psycopg.Connection[Any], statement: str) -> tuple[int, int]:
    """Rows and checksum (see `checksum.py`) of `COPY … TO STDOUT`. `conn` is closed afterwards. PrintError."""
    pgconn = conn.pgconn
    pgconn.send_query(statement.encode())
    while pgconn.flush():
        _wait(pgconn.socket, select.POLLOUT)
    try:
        with socket.socket(fileno=os.dup(pgconn.socket)) as source:
            return _Stream(source).read()
    finally:
        conn.close()


def sum_copy_within(conn: psycopg.Connection[Any], statement: str) -> tuple[int, int]:
    """The same on a connection that goes on to be used, also inside of a transaction. PrintError.

    Only rows and what announces them are taken off the socket; libpq is left with the end of the statement, as if it had
    printed nothing. It must not have read ahead, so nothing may be under way on the connection."""
    pgconn = conn.pgconn
    pgconn.send_query(statement.encode())
    while pgconn.flush():
        _wait(pgconn.socket, select.POLLOUT)
    with socket.socket(fileno=os.dup(pgconn.socket)) as source:
        rows, checksum, began = _Peeking(source).read()
    refusal = None if began else PrintError("the server printed nothing")
    while (result := _result(pgconn)) is not None:
        if result.status != pq.ExecStatus.COMMAND_OK:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
            refusal = PrintError(f"the server refused ({state}): {said}", sqlstate=state)
    if refusal is not None:
        raise refusal
    return rows, checksum


def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn.socket, select.POLLIN)
        pgconn.consume_input()
    return pgconn.get_result()


class _Peeking:
    """Rows of COPY, taken off a socket up to the first message that is none of COPY's."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)

    def read(self) -> tuple[int, int, bool]:
        """Rows, checksum, whether COPY began."""
        rows = checksum = held = 0
        began = False
        while True:
            peeked = self._peek(held)
            end = held + peeked
            at = 0
            while True:
                at, more, added = copy_data_checksums(self._buffer, at, end)
                rows, checksum = rows + more, (checksum + added) & _MASK
                if at == end:
                    break
                kind = self._buffer[at : at + 1].tobytes()
                if kind not in _OF_COPY:
                    self._take(held, at - held)
                    return rows, checksum, began
                whole = end - at >= _HEADER.size and _HEADER.unpack_from(self._buffer.data, at)[1] + 1 <= end - at
                if kind == b"d" or not whole:
                    break
                began = began or kind == b"H"
                at += 1 + _HEADER.unpack_from(self._buffer.data, at)[1]
            self._take(held, peeked)
            held = end - at
            if held:
                self._make_room(at, end)

    def _peek(self, held: int) -> int:
        while True:
            _wait(self._source.fileno(), select.POLLIN)
            try:
                peeked = self._source.recv_into(self._buffer.data[held:], 0, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            if not peeked:
                raise PrintError(
                    "the server ended the connection", "Look into its log, then run the same command again: it goes on."
                )
            return peeked

    def _take(self, at: int, size: int) -> None:
        """What was peeked is there: it comes at once."""
        while size:
            got = self._source.recv_into(self._buffer.data[at : at + size])
            at, size = at + got, size - got

    def _make_room(self, at: int, end: int) -> None:
        held = end - at
        tail = self._buffer[at:end].copy()
        if 2 * held > len(self._buffer):
            self._buffer = np.empty(4 * held, np.uint8)
        self._buffer[:held] = tail


class _Stream:
    """The server's messages, as they come."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)
        self._at = self._end = 0
        self._refusal: PrintError | None = None

    def read(self) -> tuple[int, int]:
        rows = checksum = 0
        while True:
            self._at, more, added = copy_data_checksums(self._buffer, self._at, self._end)
            rows, checksum = rows + more, (checksum + added) & _MASK
            if self._end - self._at < _HEADER.size:
                self._fill(_HEADER.size)
                continue
            kind, size = _HEADER.unpack_from(self._buffer.data, self._at)
            if kind not in _EXPECTED and kind not in (_READY, _ERROR):
                raise PrintError(f"the server sent a message of kind {kind!r} in the midst of COPY")
            if self._end - self._at < 1 + size:
                self._fill(1 + size)
                continue
            if kind == b"d":
                continue
            body = self._buffer[self._at + _HEADER.size : self._at + 1 + size].tobytes()
            self._at += 1 + size
            if kind == _ERROR:
                self._refusal = _refusal(body)
            elif kind == _READY:
                if self._refusal is not None:
                    raise self._refusal
                return rows, checksum

    def _fill(self, wanted: int) -> None:
        """At least one more byte, with room for a message of `wanted` bytes."""
        held = self._end - self._at
        if self._at:
            self._buffer[:held] = self._buffer[self._at : self._end].copy()
            self._at, self._end = 0, held
        if wanted > len(self._buffer):
            larger = np.empty(2 * wanted, np.uint8)
            larger[:held] = self._buffer[:held]
            self._buffer = larger
        view = self._buffer.data[self._end :]
        while True:
            try:
                got = self._source.recv_into(view)
                break
            except BlockingIOError:
                _wait(self._source.fileno(), select.POLLIN)
        if not got:
            raise self._refusal or PrintError(
                "the server ended the connection", "Look into its log, then run the same command again: it goes on."
            )
        self._end += got


def _refusal(body: bytes) -> PrintError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    state = fields.get(b"C", "")
    return PrintError(f"the server refused ({state}): {fields.get(b'M', '')}", sqlstate=state)


def _wait(fd: int, events: int) -> None:
    poll = select.poll()
    poll.register(fd, events)
    poll.poll()
