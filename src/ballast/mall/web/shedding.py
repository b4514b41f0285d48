"""A door before the application: so many requests are let in at once; one more is told to come again, before it is read.

Under more load than a process can bear those that are inside are served soon, and the others cost next to nothing. While the
database is away those inside wait for their shops to be brought in or home, and cost next to nothing: then many are let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

_TEXT = "现在人太多，请稍后再试。 Too many at once: try again in a moment."
_PAGE = f'<!doctype html><meta charset="utf-8"><title>503</title><p>{_TEXT}</p>'.encode()
_PROBLEM = b'{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"Too many requests at once: try again."}'
_MOST_AWAY = 512
_AFTERWARDS_S = 10.0
"""Those who waited are inside when it is back."""


class Shedding:
    """ASGI in, ASGI out."""

    def __init__(self, app: ASGIApp, most: int, is_away: Callable[[], bool]) -> None:
        """`most`: requests that are inside at once; where load is borne at all, few wait. `is_away`: they wait for shops."""
        self._app, self._most, self._is_away = app, most, is_away
        self._inside = 0
        self._away_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it in, or answer 503."""
        # Whoever looks after this process must hear from it when it is busiest, too.
        if scope["type"] != ScopeType.HTTP or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
        elif self._inside >= self._most and (self._inside >= _MOST_AWAY or not self._was_away_lately()):
            await _refuse(scope["path"].startswith("/api/"), send)
        else:
            self._inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._inside -= 1

    def _was_away_lately(self) -> bool:
        now = time.monotonic()
        if self._is_away():
            self._away_at = now
        return now - self._away_at < _AFTERWARDS_S


async def _refuse(api: bool, send: Send) -> None:
    body, kind = (_PROBLEM, b"application/problem+json") if api else (_PAGE, b"text/html; charset=utf-8")
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": 503,
        "headers": [
            (b"content-type", kind),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", b"1"),
            (b"cache-control", b"no-store"),
        ],
    }
    rest: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": False}
    await send(start)
    await send(rest)
