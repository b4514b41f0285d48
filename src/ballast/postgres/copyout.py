"""COPY … TO STDOUT, some MB at a time.

The server sends a message for each row. psycopg's own COPY passes each through several Python frames, which takes
longer than all that is done with the row later; so this speaks to libpq.
"""

from __future__ import annotations

import select
from collections.abc import Generator, Iterator
from typing import Any

import psycopg
from psycopg import pq, sql

CHUNK_BYTES = 4 << 20


def copy_out(
    conn: psycopg.Connection[Any], statement: sql.Composed, chunk_bytes: int = CHUNK_BYTES
) -> Generator[memoryview, None, None]:
    """The output of a COPY statement in pieces of whole lines. psycopg.Error as the server says it.

    Whoever stops half-way cancels the statement, and with it the transaction."""
    pg = conn.pgconn
    pg.send_query(statement.as_bytes(conn))
    _expect(pg, pq.ExecStatus.COPY_OUT)
    try:
        for chunk in _messages(pg, chunk_bytes):
            yield memoryview(chunk).toreadonly()
        _expect(pg, pq.ExecStatus.COMMAND_OK)
        _drain(pg)
    finally:
        if pg.transaction_status == pq.TransactionStatus.ACTIVE:
            conn.cancel_safe()
            _drain(pg)


def _messages(pg: pq.abc.PGconn, chunk_bytes: int) -> Iterator[bytearray]:
    arrival = select.poll()
    arrival.register(pg.socket, select.POLLIN)
    get = pg.get_copy_data
    chunk = bytearray()
    while True:
        size, message = get(1)
        if size > 0:
            chunk += message
            if len(chunk) >= chunk_bytes:
                yield chunk
                chunk = bytearray()
        elif size == 0:
            arrival.poll()
            pg.consume_input()
        else:
            break
    if chunk:
        yield chunk


def _expect(pg: pq.abc.PGconn, status: pq.ExecStatus) -> None:
    result = pg.get_result()
    if result is not None and result.status == status:
        return
    if result is not None and result.status == pq.ExecStatus.COPY_IN:
        pg.put_copy_end(b"not asked for")
    _drain(pg)
    if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
        raise psycopg.errors.error_from_result(result)
    raise psycopg.OperationalError("the server did not answer as COPY … TO STDOUT is answered")


def _drain(pg: pq.abc.PGconn) -> None:
    """Read what is left of the answer, so that the connection takes the next command."""
    while (result := pg.get_result()) is not None:
        if result.status == pq.ExecStatus.COPY_OUT:
            for _ in _messages(pg, CHUNK_BYTES):
                pass
