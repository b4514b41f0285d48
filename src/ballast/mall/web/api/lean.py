"""An answer of the API as it is sent: JSON, a status, two headers. Litestar's own can do more, and costs each request for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.types import ASGIApp, Receive, Scope, Send

_HEADERS = (b"content-type", b"application/json")


class Lean(Response[Any]):
    """`response_class` of routes whose handlers give structs; whatever else they give or ask for is Litestar's to send."""

    def to_asgi_response(  # type: ignore[override]
        self,
        app: Any,
        request: Request[Any, Any, Any],
        *,
        cookies: Iterable[Cookie] | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> ASGIApp:
        """As Litestar's."""
        if more or headers or cookies or self.headers or self.cookies or not isinstance(self.content, msgspec.Struct):
            return super().to_asgi_response(
                app, request, cookies=cookies, headers=dict(headers) if headers is not None else None, **more
            )
        return _Sent(msgspec.json.encode(self.content), self.status_code or 200)


class _Sent:
    __slots__ = ("_body", "_status")

    def __init__(self, body: bytes, status: int) -> None:
        self._body, self._status = body, status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [_HEADERS, (b"content-length", b"%d" % len(self._body))]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body, "more_body": False})
