"""One way into a server: a pool of connections of one role, and how many may wait for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from ballast.errors import BallastError
from ballast.mall.round_trips import ShopConnection

Connection = psycopg.AsyncConnection[DictRow]


class Busy(BallastError):
    """No connection is free and enough wait already, or what is asked for is held by somebody else for too long."""


class Closed(BallastError):
    """Nobody goes to this server any more."""


class Door:
    """A pool, and how many may wait for its connections.

    The pool could count itself, but takes those who gave up for waiting until it has a connection again; and where the database
    was away for long it connects for those alone whom it lets wait: with nobody let in any more, never again."""

    def __init__(
        self, pool: AsyncConnectionPool[ShopConnection], most_waiting: int, broken: Callable[[], None] = lambda: None
    ) -> None:
        self.pool, self._broken = pool, broken
        self._most, self._waiting = most_waiting, 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[ShopConnection]:
        """A connection; Busy, Closed."""
        connection = await self.take()
        try:
            yield connection
        finally:
            await self.give_back(connection)

    async def give_back(self, connection: ShopConnection) -> None:
        """What `take` gave."""
        connection.forget()
        broken = connection.broken
        await self.pool.putconn(connection)
        if broken and not self.pool.closed:
            # The server went away, and those that were idle meanwhile are broken as well: not one request for each.
            await self.pool.check()

    async def take(self) -> ShopConnection:
        """As `one`, for who gives it back himself."""
        do = "Try again in a second."
        if self._waiting >= self._most:
            raise Busy(f"{self._waiting} requests wait for a connection to the database already", do)
        self._waiting += 1
        try:
            return await self.pool.getconn()
        except PoolTimeout as error:
            self._broken()
            raise Busy("the database has no free connection for this request", do) from error
        except PoolClosed as error:
            raise Closed("the database was left", do) from error
        finally:
            self._waiting -= 1
