"""Shops that come back to a server one by one, when they are asked for: who waits for one holds no connection that others need.

All who wait for the same shop wait for one question, which is asked over connections of their own. A shop that was back once
stays so as long as the server is gone to.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

from ballast.mall.door import Door

_ASK = "SELECT ballast.ensure_tenant(%s, interval '2 seconds')"


class Arrivals:
    """Of one server, as far as this process has heard."""

    def __init__(self, door: Door) -> None:
        """`door`: the connections over which is asked, each of which waits for one shop."""
        self._door = door
        self._there: set[UUID] = set()
        self._asked: dict[UUID, asyncio.Task[None]] = {}

    async def of(self, shop_id: UUID) -> None:
        """Returns when it is back. Busy, Closed (`Door.one`); psycopg.Error: what the server said, BL004 where it did not come in
        time."""
        if shop_id in self._there:
            return
        asked = self._asked.get(shop_id)
        if asked is None:
            asked = self._asked[shop_id] = asyncio.create_task(self._ask(shop_id))
            asked.add_done_callback(lambda task: self._ended(shop_id, task))
        await asyncio.shield(asked)

    def forget(self, shop_id: UUID) -> None:
        """The server says that it is not back: it may be another one by now."""
        self._there.discard(shop_id)

    async def _ask(self, shop_id: UUID) -> None:
        async with self._door.one() as connection:
            await connection.execute(_ASK, (str(shop_id),), prepare=False)
        self._there.add(shop_id)

    def _ended(self, shop_id: UUID, task: asyncio.Task[None]) -> None:
        del self._asked[shop_id]
        if not task.cancelled():
            task.exception()  # whoever still waits hears of it
