"""Signed messages between the mall and the sandbox provider on their way: over connections that are kept.

Each order needs two. A client that can all that HTTP can (httpx, aiohttp) costs such a message five to ten times of what it costs
here, where a POST and its answer are all there is.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

_MOST_KEPT = 32
_LONGEST = 1 << 20
_Place = tuple[str, int, bool]
_Way = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unreadable(Exception):
    """The answer is no HTTP, or more than anybody would say here."""


Failed = (OSError, EOFError, Unreadable)
"""It was not answered (in time); it may have been heard."""


class Post:
    """Posts JSON; of one process, whose event loop it may outlive."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._kept: dict[_Place, list[_Way]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of the answer; nobody is led elsewhere by it. What is sent may be sent twice, where a kept connection
        was closed meanwhile. Raises what `Failed` names."""
        to = urlsplit(url)
        secure = to.scheme == "https"
        place = (to.hostname or "", to.port or (443 if secure else 80), secure)
        lines = [
            f"POST {to.path or '/'}{'?' if to.query else ''}{to.query} HTTP/1.1",
            f"Host: {to.netloc.rpartition('@')[2]}",
        ]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        sent = "\r\n".join(lines).encode() + body
        async with asyncio.timeout(self._timeout_s):
            while way := self._take(place):
                try:
                    return await self._over(place, way, sent)
                except (ConnectionError, EOFError):
                    continue  # it was closed while nobody looked
            way = await asyncio.open_connection(
                place[0], place[1], ssl=ssl.create_default_context() if secure else None
            )
            return await self._over(place, way, sent)

    async def close(self) -> None:
        """Close its connections."""
        kept, self._kept = self._kept, {}
        if self._loop is asyncio.get_running_loop():
            for _, writer in (way for ways in kept.values() for way in ways):
                writer.close()

    def _take(self, place: _Place) -> _Way | None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._kept = loop, {}
        ways = self._kept.get(place, [])
        while ways:
            way = ways.pop()
            if not way[0].at_eof() and not way[1].is_closing():
                return way
            way[1].close()
        return None

    async def _over(self, place: _Place, way: _Way, sent: bytes) -> tuple[int, bytes]:
        reader, writer = way
        keep = False
        try:
            writer.write(sent)
            status, body, keep = await _answer(reader)
            return status, body
        finally:
            ways = self._kept.setdefault(place, [])
            if keep and len(ways) < _MOST_KEPT:
                ways.append(way)
            else:
                writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection may be used again."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            version, status = head[0].split(" ")[:2]
            if not version.startswith("HTTP/1."):
                raise Unreadable(f"{head[0]!r} begins no answer")
            if int(status) >= 200:  # before it there may be news of how it goes
                break
        named = [line.partition(":") for line in head[1:] if line]
        headers = {name.strip().lower(): value.strip() for name, _, value in named}
        keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return int(status), await _chunks(reader), keep
        if int(status) in (204, 304):
            return int(status), b"", keep
        if "content-length" not in headers:
            return int(status), await reader.read(_LONGEST), False
        return int(status), await reader.readexactly(_short(int(headers["content-length"]))), keep
    except (ValueError, asyncio.LimitOverrunError) as error:
        raise Unreadable(f"the answer cannot be read: {error}") from error


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(_short(len(body) + size) - len(body) + 2))[:-2]
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return body


def _short(size: int) -> int:
    if not 0 <= size <= _LONGEST:
        raise Unreadable(f"the answer has {size} bytes")
    return size
