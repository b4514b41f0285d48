"""Waiting for what a server answers, with the event loop told once about the socket and not for each answer.

psycopg adds the socket to the loop, sets a timer and takes both away again each time it waits, since it cannot know who else does
something with the connection. That is more than a tenth of what a request costs here.
"""

from __future__ import annotations

import asyncio


class Ear:
    """Of one connection, while nothing but `heard` waits for it: whoever else does calls `close` first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = -1
        self._waiting: asyncio.Future[None] | None = None
        self._unwanted = 0

    async def heard(self, socket: int) -> None:
        """Something can be read from the socket."""
        loop = asyncio.get_running_loop()
        self._waiting = waiting = loop.create_future()
        self._unwanted = 0
        if self._loop is not loop or self._socket != socket:
            self.close()
            loop.add_reader(socket, self._hear)
            self._loop, self._socket = loop, socket
        try:
            await waiting
        finally:
            self._waiting = None

    def close(self) -> None:
        """The loop does not listen any more. To be called before the socket is closed, or right after it."""
        loop, self._loop = self._loop, None
        if loop is not None and not loop.is_closed():
            loop.remove_reader(self._socket)

    def _hear(self) -> None:
        if self._waiting is not None:
            if not self._waiting.done():
                self._waiting.set_result(None)
            return
        # A loop may tell once more before what is there was read. What comes while nobody waits is the server's farewell, and is
        # told again and again: whoever takes the connection next will see it.
        self._unwanted += 1
        if self._unwanted > 1:
            self.close()
