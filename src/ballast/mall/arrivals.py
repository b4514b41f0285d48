"""Shops that come back to a server one by one, when they are asked for: who waits for one holds no connection that others need.

All who wait for the same shop wait for one question, which is asked over connections of their own. A shop that was back once
stays so as long as the server is gone to. Whoever orders or pays (`buys`) comes before those who look around, here and there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from uuid import UUID

from ballast.mall.door import Busy, Door

_ASK = "SELECT ballast.ensure_tenant(%s, interval '2 seconds') FROM set_config('ballast.urgent', %s, true)"
KEPT_FREE = 3
"""Of the connections over which is asked, for those who buy."""
buys: ContextVar[bool] = ContextVar("buys", default=False)
"""Whether the request under way changes something."""


class Arrivals:
    """Of one server, as far as this process has heard."""

    def __init__(self, door: Door, size: int, patience_s: float) -> None:
        """`door`: the connections over which is asked, each of which waits for one shop; `size`: so many there are;
        `patience_s`: so long one is waited for."""
        self._door, self._patience_s = door, patience_s
        self._lookers = asyncio.Semaphore(max(1, size - KEPT_FREE))
        self._there: set[UUID] = set()
        self._asked: dict[tuple[UUID, bool], asyncio.Task[None]] = {}

    async def of(self, shop_id: UUID) -> None:
        """Returns when it is back. Busy, Closed (`Door.one`); psycopg.Error: what the server said, BL004 where it did not come in
        time."""
        if shop_id in self._there:
            return
        key = (shop_id, buys.get())
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(self._ask(*key))
            asked.add_done_callback(lambda task: self._ended(key, task))
        await asyncio.shield(asked)

    def forget(self, shop_id: UUID) -> None:
        """The server says that it is not back: it may be another one by now."""
        self._there.discard(shop_id)

    def begin_anew(self) -> None:
        """Nobody is known to be back there."""
        self._there.clear()

    async def _ask(self, shop_id: UUID, urgent: bool) -> None:
        async with nullcontext() if urgent else self._turn():
            if shop_id not in self._there:  # who buys there may have brought it in meanwhile
                async with self._door.one() as connection:
                    await connection.execute(_ASK, (str(shop_id), "on" if urgent else "off"), prepare=False)
        self._there.add(shop_id)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._lookers.acquire(), self._patience_s)
        except TimeoutError as error:
            raise Busy("many shops are asked for, and come back one by one", "Try again in a second.") from error
        try:
            yield
        finally:
            self._lookers.release()

    def _ended(self, key: tuple[UUID, bool], task: asyncio.Task[None]) -> None:
        del self._asked[key]
        if not task.cancelled():
            task.exception()  # whoever still waits hears of it
