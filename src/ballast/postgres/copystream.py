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

from ballast.errors import ServerError
from ballast.postgres.checksum import copy_data_checksums

_BUFFER_BYTES = 1 << 20
_HEADER = struct.Struct("!cI")
_MASK = (1 << 64) - 1
_READY, _ERROR = b"Z", b"E"
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
