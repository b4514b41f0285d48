"""Connections to the mall's database, and the transaction in which one shop is seen.

Three pools, three roles (``migrations/0001.platform.sql``). A request that finds no connection within its time, or too many
waiting before it, is refused at once (``Busy``): under twice the load that can be borne the first half is still served.
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from ballast.errors import BallastError
from ballast.mall.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]

_NAME_SHOP = "SELECT set_config('mall.shop', %s, true)"
_BEGIN = "BEGIN; SELECT set_config('mall.shop', '{}', true)"


class Busy(BallastError):
    """No connection is free, and enough wait already."""


class Database:
    """The pools of one process. Opened and closed by who owns the process (``web.app``, the worker)."""

    def __init__(self, settings: Settings) -> None:
        self._app = _pool(settings.app_dsn, settings.pool_size, settings.max_waiting)
        self._identity = _pool(settings.identity_dsn, 2, settings.max_waiting)
        self._platform = _pool(settings.platform_dsn, 2, settings.max_waiting)

    async def open(self) -> None:
        """Start the pools; they connect in the background, so that a process starts while the database is away."""
        for pool in (self._app, self._identity, self._platform):
            await pool.open()

    async def close(self) -> None:
        """Close every connection."""
        for pool in (self._app, self._identity, self._platform):
            await pool.close()

    @asynccontextmanager
    async def shop(self, shop_id: UUID, *, pipelined: bool = False) -> AsyncIterator[Connection]:
        """A transaction that sees the rows of one shop. Committed at its end, rolled back where an exception leaves it.

        Args:
            pipelined: statements travel together until a result is looked at, BEGIN and COMMIT with them; an error is raised
                where a result is, or at the end. For short writes; COPY is not possible in it.

        Raises:
            Busy: no connection could be had.
        """
        async with _one_of(self._app) as connection:
            if pipelined:
                async with connection.pipeline(), connection.transaction():
                    await connection.execute(_NAME_SHOP, (str(shop_id),))
                    yield connection
                return
            # Both in one message: half of what a page waits for would else be the way there and back.
            await connection.execute(_BEGIN.format(shop_id.hex).encode(), prepare=False)
            try:
                yield connection
            except BaseException:
                # Where it cannot be rolled back, the connection is broken, and the pool throws it away.
                with suppress(psycopg.Error):
                    await connection.rollback()
                raise
            await connection.commit()

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[Connection]:
        """A connection that sees no shop's rows, only what all may read: the directory, plans, industries."""
        async with _one_of(self._app) as connection:
            yield connection

    @asynccontextmanager
    async def identity(self) -> AsyncIterator[Connection]:
        """A transaction over accounts, their sessions, and who works in which shop."""
        async with _one_of(self._identity) as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[Connection]:
        """A transaction of an operator, who reads over all shops."""
        async with _one_of(self._platform) as connection, connection.transaction():
            yield connection


def _pool(dsn: str, size: int, waiting: int) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(
        dsn,
        min_size=1,
        max_size=size,
        max_waiting=waiting,
        timeout=2.0,
        open=False,
        check=_check_if_told,
        kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "ballast-mall"},
        connection_class=psycopg.AsyncConnection[DictRow],
        configure=_configure,
    )


async def _configure(connection: Connection) -> None:
    """Statements are prepared when they come the second time: planning some of them takes longer than running them."""
    connection.prepare_threshold = 1
    connection.prepared_max = 250
    # What is asked for is mostly in memory. It also lets the server keep its plans: with the usual 4 it takes any list of SKUs
    # for much dearer than a known one, and plans the writing of an order anew each time.
    await connection.execute("SET random_page_cost = 1.1")


async def _check_if_told(connection: Connection) -> None:
    """Raises for a connection that broke while it was idle, so that the pool gives another: after a loss of the server each
    would cost a request. One that is well has nothing to be read, which the kernel tells without a round trip."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(connection)


@asynccontextmanager
async def _one_of(pool: AsyncConnectionPool[Any]) -> AsyncIterator[Connection]:
    try:
        connection = await pool.getconn()
    except (PoolTimeout, TooManyRequests) as error:
        raise Busy("the database has no free connection for this request", "Try again in a second.") from error
    try:
        yield connection
    finally:
        await pool.putconn(connection)
