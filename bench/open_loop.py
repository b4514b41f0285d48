"""Requests that come when they come, whether earlier ones were answered or not; and a closed loop of the same beside it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

Make = Callable[[int], bytes]
"""The n-th request, whole."""


@dataclass
class Seen:
    """What came back: seconds that each took, by status; 503 without Retry-After, and connections that broke."""

    seconds: float = 0.0
    took: dict[int, list[float]] = field(default_factory=dict)
    without_retry_after: int = 0
    broken: int = 0

    def count(self, *statuses: int) -> int:
        """How many answers had one of these."""
        return sum(len(self.took.get(status, ())) for status in statuses)

    def quantile_ms(self, share: float, *statuses: int) -> float:
        """Of what those took."""
        all_of = sorted(one for status in statuses for one in self.took.get(status, ()))
        return all_of[min(len(all_of) - 1, int(len(all_of) * share))] * 1e3 if all_of else 0.0


class _Line(asyncio.Protocol):
    """A kept connection."""

    def __init__(self) -> None:
        self._there = b""
        self._answer: asyncio.Future[bytes] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        self._there += data
        end = self._there.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._there[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._there) >= end + 4 + length:
            self._there = b""
            self._answer.set_result(head)

    async def ask(self, request: bytes) -> bytes:
        """The head of the answer, in lower case."""
        if self.transport is None:
            raise ConnectionError("closed")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        async with asyncio.timeout(30):
            return await self._answer


class Load:
    """Requests to one port."""

    def __init__(self, port: int, make: Make) -> None:
        self._port, self._make = port, make
        self._idle: list[_Line] = []
        self._made = 0

    async def closed(self, clients: int, seconds: float) -> Seen:
        """So many at once, each asks again when it is answered."""
        seen, until = Seen(seconds), time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < until:
                await self._one(seen)

        await asyncio.gather(*(client() for _ in range(clients)))
        return seen

    async def open(self, rate: float, seconds: float) -> Seen:
        """`rate` requests a second, at random moments."""
        seen, chance = Seen(seconds), random.Random(7)
        started = time.perf_counter()
        due = started
        under_way: set[asyncio.Task[None]] = set()
        while due < started + seconds:
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            one = asyncio.create_task(self._one(seen, due))
            under_way.add(one)
            one.add_done_callback(under_way.discard)
            due += chance.expovariate(rate)
        await asyncio.gather(*under_way)
        return seen

    async def _one(self, seen: Seen, due: float | None = None) -> None:
        self._made += 1
        request = self._make(self._made)
        began = due or time.perf_counter()
        line = None
        try:
            line = self._idle.pop() if self._idle else await self._line()
            head = await line.ask(request)
        except (OSError, TimeoutError):
            seen.broken += 1
            if line and line.transport:
                line.transport.close()
            return
        self._idle.append(line)
        status = int(head[9:12])
        seen.took.setdefault(status, []).append(time.perf_counter() - began)
        if status == 503 and b"\r\nretry-after: " not in head:
            seen.without_retry_after += 1

    async def _line(self) -> _Line:
        _, line = await asyncio.get_running_loop().create_connection(_Line, "127.0.0.1", self._port)
        return line

    def close(self) -> None:
        """Close all connections."""
        for line in self._idle:
            if line.transport:
                line.transport.close()
