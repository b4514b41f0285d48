"""The ways into one server: a pool for each of three roles (``migrations/0001.platform.sql``).

A request that finds no connection within its time, or too many waiting before it, is refused at once (``Busy``): under twice
the load that can be borne the first half is still served.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import Callable

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from ballast.mall import share
from ballast.mall.arrivals import Arrivals
from ballast.mall.door import Door
from ballast.mall.round_trips import ShopConnection
from ballast.mall.settings import Settings

# Not by to_regprocedure: that is an error where the schema is closed to this role.
_IS_RECOVERING = (
    """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE p.proname = 'ensure_tenant' AND n.nspname = 'ballast') AS it_is,
"""
    + f"    {share.NODES} AS nodes, pg_catalog.pg_postmaster_start_time()::text AS started,"
    " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS made"
)
_CLOSING_S = 0.2
LOCK_S = 5
"""Nobody waits longer for a row that another transaction holds."""
_ASKING, _MOST_ASKING, _ASKING_S = 8, 4096, 6.0
"""Shops that are asked for at the same time where they come back one by one; and how many others wait for that, how long."""
IDLE_S = 60
"""A transaction in which nothing happens for so long is ended by the server: its locks are worth more than it.

There is no limit for statements: a COMMIT that waits for the recorder is one, and ending its wait leaves it committed and
unrecorded."""
_SET = f"""
SET random_page_cost = 1.1; SET lock_timeout = '{LOCK_S}s'; SET idle_in_transaction_session_timeout = '{IDLE_S}s'"""


_KEEP_PLANS = "SET plan_cache_mode = auto"
"""While shops come back the database plans each statement anew, so that nobody reads one that is not back by a plan that was made
for another. Whoever goes there has asked for the shop first (`arrivals`), and planning is most of what a page costs there."""


class _NewestFirst(deque[ShopConnection]):
    """Idle connections, the one used last on top: few are used, and each finds what it needs in the processor's caches. Taken in
    turn, as psycopg does, eight cost the server a third more than three."""

    def append(self, connection: ShopConnection) -> None:
        """Where it is taken from next."""
        self.appendleft(connection)


class Doors:
    """All ways into one server."""

    def __init__(
        self,
        settings: Settings,
        *,
        lifeboat: str = "",
        broken: Callable[[], None] = lambda: None,
        at_home: Callable[[str], str] = str,
    ) -> None:
        """`lifeboat`: its DSN; the roles and their passwords are those of the settings. `broken` is called when a connection
        broke while nobody used it, or none could be had in time. `at_home`: a DSN of the settings as it leads home now."""
        self.lifeboat = lifeboat
        self._broken = broken
        self.recovering = bool(lifeboat)
        """Shops are still coming back there, as far as this process has heard."""
        self.nodes = 1
        """Machines that have a lifeboat each, where this is one."""
        self.closed = False
        self._found: tuple[str, int] | None = None
        self.app = self._door(at_home(settings.app_dsn), settings.pool_size, settings.max_waiting, of_shops=True)
        self.identity = self._door(at_home(settings.identity_dsn), 2, settings.max_waiting)
        self.platform = self._door(at_home(settings.platform_dsn), 2, settings.max_waiting)
        self._asking = self._door(at_home(settings.app_dsn), _ASKING, _MOST_ASKING, least=0, patience_s=_ASKING_S)
        self.arrivals = Arrivals(self._asking, _ASKING, _ASKING_S)

    async def open(self) -> None:
        """Start the pools; they connect in the background, so that a process starts while the database is away."""
        for door in self._all:
            await door.pool.open()

    async def close(self) -> None:
        """Close every connection; who waits for one hears of it."""
        self.closed = True
        await asyncio.gather(*(door.pool.close(_CLOSING_S) for door in self._all))

    @property
    def _all(self) -> tuple[Door, ...]:
        return self.app, self.identity, self.platform, self._asking

    def _door(
        self, dsn: str, size: int, most_waiting: int, *, least: int = 1, patience_s: float = 2.0, of_shops: bool = False
    ) -> Door:
        if self.lifeboat:
            known = conninfo_to_dict(dsn)
            dsn = make_conninfo(self.lifeboat, user=known.get("user"), password=known.get("password"))
        pool = AsyncConnectionPool(
            dsn,
            min_size=least,
            max_size=size,
            timeout=patience_s,
            # Tries that fail come ever more seldom until then; after it, whenever somebody wants a connection. With the
            # default of five minutes a database that is back after two would not be looked for in the next two.
            reconnect_timeout=3.0,
            open=False,
            check=self._check_if_told,
            kwargs={"autocommit": True, "row_factory": dict_row, "application_name": "ballast-mall"},
            connection_class=ShopConnection,
            configure=self._configure_for_shops if of_shops else self._configure,
        )
        pool._pool = _NewestFirst()  # psycopg has no setting for it
        return Door(pool, most_waiting, self._broken)

    async def _configure(self, connection: ShopConnection) -> None:
        """Statements are prepared by the connection itself: planning some of them takes longer than running them."""
        connection.prepare_threshold = None
        # What is asked for is mostly in memory. It also lets the server keep its plans: with the usual 4 it takes any list of
        # SKUs for much dearer than a known one, and plans the writing of an order anew each time.
        await connection.execute(_SET.encode(), prepare=False)
        row = await (await connection.execute(_IS_RECOVERING, prepare=False)).fetchone()
        assert row is not None
        found = row["started"], row["made"]
        if self._found not in (None, found) or (row["it_is"] and not self.recovering):
            self.arrivals.begin_anew()  # another server may stand there, or another database, or it is recovered once more
        self.recovering, self.nodes = row["it_is"], row["nodes"]
        self._found = found

    async def _configure_for_shops(self, connection: ShopConnection) -> None:
        """Of one over which no other tables of shops are read than of one that was asked for."""
        await self._configure(connection)
        await connection.execute(_KEEP_PLANS, prepare=False)

    async def _check_if_told(self, connection: ShopConnection) -> None:
        """Raises for a connection that broke while it was idle, so that the pool gives another: after a loss of the server each
        would cost a request. One that is well has nothing to be read, which the kernel tells without a round trip."""
        waiting = select.poll()
        waiting.register(connection.fileno(), select.POLLIN)
        if waiting.poll(0):
            try:
                await AsyncConnectionPool.check_connection(connection)
            except Exception:
                self._broken()
                raise
