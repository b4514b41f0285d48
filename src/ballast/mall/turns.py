"""Who of several workers does a kind of work now: told by advisory locks, which go with the session that holds them.

They are in memory alone: taking turns writes nothing. A worker that is killed leaves its turn to the next as soon as the server
has seen its connection end.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psycopg

CLASS = 0x6D616C6C
"""Of all locks of the mall's workers: "mall"."""
_PRESENT = 0
_TAKE = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
_GIVE = "SELECT pg_advisory_unlock(%s, hashtext(%s))"
_APPEAR = "SELECT pg_advisory_lock_shared(%s, %s)"


class Turns:
    """One worker's, on one connection, which is made when it is needed."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection | None = None
        self._one = asyncio.Lock()

    async def take(self, name: str) -> bool:
        """Whether it is ours now, until `give` or the connection's loss. psycopg.OperationalError: nobody can be asked."""
        connection = await self._connected()
        row = await (await connection.execute(_TAKE, (CLASS, name))).fetchone()
        return row is not None and bool(row[0])

    async def give(self, name: str) -> None:
        """It may be another's."""
        with suppress(psycopg.OperationalError):  # it is nobody's any more
            if self._connection is not None:
                await self._connection.execute(_GIVE, (CLASS, name))

    async def close(self) -> None:
        """All turns are given."""
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self) -> psycopg.AsyncConnection:
        async with self._one:
            if self._connection is None or self._connection.closed:
                made = await psycopg.AsyncConnection.connect(
                    self._dsn, autocommit=True, application_name="ballast-mall worker", connect_timeout=10
                )
                # `waiting` sees by it that there is a worker.
                await made.execute(_APPEAR, (CLASS, _PRESENT))
                self._connection = made
            return self._connection
