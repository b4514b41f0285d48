"""Signed messages between the mall and the sandbox provider on their way: over connections that are kept.

(aiohttp, since a message costs it a tenth of what it costs httpx, and each order needs two.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

Failed = (aiohttp.ClientError, TimeoutError)
"""It was not answered; it may have been heard."""


class Post:
    """Posts JSON; of one process, whose event loop it may outlive."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer; nobody is led elsewhere by it. Raises what `Failed` names."""
        headers = {**headers, "content-type": "application/json"}
        async with self._kept().post(url, data=body, headers=headers, allow_redirects=False) as answer:
            return answer.status, await answer.read()

    async def close(self) -> None:
        """Close its connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    def _kept(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
            self._loop = loop
        return self._session
