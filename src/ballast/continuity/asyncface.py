"""Asynchronous functions over a connection that is not: for `recovery.merge`, whose handlers are plain.

The application's functions wait for nothing but the database. Over this face every such wait is over before it begins, so a
coroutine runs to its end in one go, in the caller's thread and transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg

Answer = TypeVar("Answer")
_Parameters = Sequence[Any] | Mapping[str, Any] | None


def run_through(work: Coroutine[Any, Any, Answer]) -> Answer:
    """What the coroutine returns. RuntimeError where it waits for something else than the database."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    work.close()
    raise RuntimeError(f"{work!r} waits for something else than the database: it cannot be merged by")


class AsyncFace:
    """What the application's functions use of a `psycopg.AsyncConnection`, over a connection in a transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    async def execute(self, query: Any, params: _Parameters = None, **more: Any) -> AsyncCursorFace:
        """As of the connection."""
        return AsyncCursorFace(self._connection.execute(query, params, **more))

    @asynccontextmanager
    async def cursor(self, **more: Any) -> AsyncIterator[AsyncCursorFace]:
        """As of the connection."""
        with self._connection.cursor(**more) as cursor:
            yield AsyncCursorFace(cursor)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A savepoint: there is a transaction already."""
        with self._connection.transaction():
            yield


class AsyncCursorFace:
    """What is used of a `psycopg.AsyncCursor`."""

    def __init__(self, cursor: psycopg.Cursor[Any]) -> None:
        self._cursor = cursor

    @property
    def rowcount(self) -> int:
        """As of the cursor."""
        return self._cursor.rowcount

    async def execute(self, query: Any, params: _Parameters = None) -> AsyncCursorFace:
        """As of the cursor."""
        self._cursor.execute(query, params)
        return self

    async def executemany(self, query: Any, params: Iterable[Any], *, returning: bool = False) -> None:
        """As of the cursor."""
        self._cursor.executemany(query, params, returning=returning)

    async def fetchone(self) -> Any:
        """As of the cursor."""
        return self._cursor.fetchone()

    async def fetchall(self) -> list[Any]:
        """As of the cursor."""
        return self._cursor.fetchall()

    def nextset(self) -> bool | None:
        """As of the cursor."""
        return self._cursor.nextset()
