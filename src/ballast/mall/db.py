"""Connections to the mall's database, and the transaction in which one shop is seen.

Three pools, three roles (``migrations/0001.platform.sql``). A request that finds no connection within its time, or too many
waiting before it, is refused at once (``Busy``): under twice the load that can be borne the first half is still served.

A database that was lost may come back shop by shop, and then says so by a function: ``ballast.ensure_tenant`` returns when a
shop is whole. Each new connection looks whether it is there; while it is, every transaction begins with it, and the visitor of a
shop that is not back waits for that shop. Who asks for shops that are not back without it is refused by the database
(``Recovering``), which tells a process that had connected before. The call fails when all is back: then it is left away again.
"""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from ballast.errors import BallastError
from ballast.mall.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]

_NAME_SHOP = "SELECT set_config('mall.shop', %s, true)"
_BEGIN = "BEGIN; SELECT set_config('mall.shop', '{}', true)"
_BEGIN_WAITING = _BEGIN + "; SELECT ballast.ensure_tenant('{}', interval '2 seconds')"
_WAIT = "SELECT ballast.ensure_tenant(%s, interval '2 seconds')"
# Not by to_regprocedure: that is an error where the schema is closed to this role.
_IS_RECOVERING = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = 'ensure_tenant' AND n.nspname = 'ballast') AS it_is
"""
_OVER = (
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
)
"""The function is gone, or its schema, or that is closed, or its table went while it ran: all are back."""
_NOT_BACK = "BL0"
"""So begin the SQLSTATEs with which a database under recovery refuses."""
_OF_ALL = "BL002"


LOCK_S = 5
"""Nobody waits longer for a row that another transaction holds."""
IDLE_S = 60
"""A transaction in which nothing happens for so long is ended by the server: its locks are worth more than it.

There is no limit for statements: a COMMIT that waits for the recorder is one, and ending its wait leaves it committed and unrecorded."""
_HELD_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.IdleInTransactionSessionTimeout)


class Busy(BallastError):
    """No connection is free and enough wait already, or what is asked for is held by somebody else for too long."""


_SET = f"""
SET random_page_cost = 1.1; SET lock_timeout = '{LOCK_S}s'; SET idle_in_transaction_session_timeout = '{IDLE_S}s'"""


class Recovering(BallastError):
    """The database is being recovered, and a shop that was asked for is not back, or not all that were."""

    def __init__(self, what: str, *, all_shops: bool) -> None:
        super().__init__(what, "Try again in a few seconds.")
        self.all_shops = all_shops
        """It takes until every shop is back."""


class _Door:
    """A pool, and how many may wait for its connections.

    The pool could count itself, but takes those who gave up for waiting until it has a connection again; and where the database
    was away for long it connects for those alone whom it lets wait: with nobody let in any more, never again."""

    def __init__(self, pool: AsyncConnectionPool[Connection], most_waiting: int) -> None:
        self.pool = pool
        self._most, self._waiting = most_waiting, 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """A connection; Busy."""
        connection = await self._get()
        try:
            yield connection
        finally:
            broken = connection.broken
            await self.pool.putconn(connection)
            if broken:
                # The server went away, and those that were idle meanwhile are broken as well: not one request for each.
                await self.pool.check()

    async def _get(self) -> Connection:
        do = "Try again in a second."
        if self._waiting >= self._most:
            raise Busy(f"{self._waiting} requests wait for a connection to the database already", do)
        self._waiting += 1
        try:
            return await self.pool.getconn()
        except PoolTimeout as error:
            raise Busy("the database has no free connection for this request", do) from error
        finally:
            self._waiting -= 1


class Database:
    """The pools of one process. Opened and closed by who owns the process (``web.app``, the worker)."""

    def __init__(self, settings: Settings) -> None:
        self._app = self._door(settings.app_dsn, settings.pool_size, settings.max_waiting)
        self._identity = self._door(settings.identity_dsn, 2, settings.max_waiting)
        self._platform = self._door(settings.platform_dsn, 2, settings.max_waiting)
        self._recovering = False

    @property
    def recovering(self) -> bool:
        """Whether shops are still coming back, as far as this process has heard."""
        return self._recovering

    async def open(self) -> None:
        """Start the pools; they connect in the background, so that a process starts while the database is away."""
        for door in (self._app, self._identity, self._platform):
            await door.pool.open()

    async def close(self) -> None:
        """Close every connection."""
        for door in (self._app, self._identity, self._platform):
            await door.pool.close()

    @asynccontextmanager
    async def shop(self, shop_id: UUID, *, pipelined: bool = False) -> AsyncIterator[Connection]:
        """A transaction that sees the rows of one shop. Committed at its end, rolled back where an exception leaves it.

        Args:
            pipelined: statements travel together until a result is looked at, BEGIN and COMMIT with them; an error is raised
                where a result is, or at the end. For short writes; COPY is not possible in it.

        Raises:
            Busy: no connection could be had. Recovering: the shop is not back, and did not come in time.
        """
        async with self._app.one() as connection, self._hearing():
            if pipelined and not self._recovering:
                async with connection.pipeline(), connection.transaction():
                    await connection.execute(_NAME_SHOP, (str(shop_id),))
                    yield connection
                return
            # Both in one message: half of what a page waits for would else be the way there and back.
            await self._begin(connection, shop_id)
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
        async with self._app.one() as connection, self._hearing():
            yield connection

    @asynccontextmanager
    async def identity(self, shop_id: UUID | None = None) -> AsyncIterator[Connection]:
        """A transaction over accounts, their sessions, and who works in which shop.

        Args:
            shop_id: the only shop that it is about; without it, it is about all, and must wait for all.
        """
        async with self._identity.one() as connection, self._hearing(), connection.transaction():
            await self._wait_for(connection, shop_id)
            yield connection

    @asynccontextmanager
    async def platform(self, shop_id: UUID | None = None) -> AsyncIterator[Connection]:
        """A transaction of an operator, who reads over all shops.

        Args:
            shop_id: see `identity`.
        """
        async with self._platform.one() as connection, self._hearing(), connection.transaction():
            await self._wait_for(connection, shop_id)
            yield connection

    async def _begin(self, connection: Connection, shop_id: UUID) -> None:
        if self._recovering:
            try:
                await connection.execute(_BEGIN_WAITING.format(shop_id.hex, shop_id).encode(), prepare=False)
            except psycopg.Error as error:
                with suppress(psycopg.Error):
                    await connection.rollback()
                if not isinstance(error, _OVER):
                    raise
                self._recovering = False
            else:
                return
        await connection.execute(_BEGIN.format(shop_id.hex).encode(), prepare=False)

    async def _wait_for(self, connection: Connection, shop_id: UUID | None) -> None:
        if not self._recovering or shop_id is None:
            return
        try:
            async with connection.transaction():
                await connection.execute(_WAIT, (str(shop_id),), prepare=False)
        except _OVER:
            self._recovering = False

    @asynccontextmanager
    async def _hearing(self) -> AsyncIterator[None]:
        """Hears from the database that shops are still coming back, or that it would not wait any longer."""
        try:
            yield
        except _HELD_UP as error:
            raise Busy(f"another transaction is in the way: {error}", "Try again in a second.") from error
        except psycopg.DatabaseError as error:
            if not (error.sqlstate or "").startswith(_NOT_BACK):
                raise
            self._recovering = True
            what = error.diag.message_primary or str(error)
            raise Recovering(what, all_shops=error.sqlstate == _OF_ALL) from error

    def _door(self, dsn: str, size: int, most_waiting: int) -> _Door:
        pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=size,
            timeout=2.0,
            # Tries that fail come ever more seldom until then; after it, whenever somebody wants a connection. With the
            # default of five minutes a database that is back after two would not be looked for in the next two.
            reconnect_timeout=3.0,
            open=False,
            check=_check_if_told,
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "ballast-mall"},
            connection_class=psycopg.AsyncConnection[DictRow],
            configure=self._configure,
        )
        return _Door(pool, most_waiting)

    async def _configure(self, connection: Connection) -> None:
        # Statements are prepared when they come the second time: planning some of them takes longer than running them.
        connection.prepare_threshold = 1
        connection.prepared_max = 250
        # What is asked for is mostly in memory. It also lets the server keep its plans: with the usual 4 it takes any list of
        # SKUs for much dearer than a known one, and plans the writing of an order anew each time.
        await connection.execute(_SET.encode(), prepare=False)
        row = await (await connection.execute(_IS_RECOVERING, prepare=False)).fetchone()
        self._recovering = row is not None and row["it_is"]


async def _check_if_told(connection: Connection) -> None:
    """Raises for a connection that broke while it was idle, so that the pool gives another: after a loss of the server each
    would cost a request. One that is well has nothing to be read, which the kernel tells without a round trip."""
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    if waiting.poll(0):
        await AsyncConnectionPool.check_connection(connection)
