"""What holds for all answers: an ETag on what is read, 304 where the caller has it already, how much may still be asked.
And pages by cursor: an opaque place in an order, so that page 500 costs what page 1 does.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Request
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, ValidationException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ballast.mall.rules.refused import Refused
from ballast.mall.web.api.limits import rate_of

T = TypeVar("T")
DATE_TIME = {"format": "date-time"}
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


_HEADERS = ((b"cache-control", b"private, no-cache"), (b"vary", b"Authorization, Accept-Language"))


class Answers(ASGIMiddleware):
    """Buffers what a GET gives, which is small, to know it by its hash. A handler that knows a version says it as ETag."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """One request."""
        held: list[Any] = []
        body = bytearray()

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                there = {name for name, _ in headers}
                headers += [one for one in _HEADERS if one[0] not in there]
                if rate := rate_of(scope):
                    headers += [one for one in rate.headers() if one[0] not in there]
                message["headers"] = headers
                if scope.get("method") == "GET" and message["status"] == 200:
                    held.append(message)
                    return
            elif held and message["type"] == "http.response.body":
                body.extend(message["body"])
                if message["more_body"]:
                    return
                await self._tell(scope, held.pop(), bytes(body), send)
                return
            await send(message)

        await next_app(scope, receive, hold)

    async def _tell(self, scope: Scope, start: Any, body: bytes, send: Send) -> None:
        headers = MutableScopeHeaders.from_message(start)
        # What has a version may show more than the version covers (stock, pieces sold): the hash tells these apart.
        version = headers.get("etag", "").strip('"')
        etag = f'"{version}{"-" if version else ""}{hashlib.sha256(body).hexdigest()[:32]}"'
        headers["ETag"] = etag
        if _among(etag, Headers.from_scope(scope).get("if-none-match", "")):
            start["status"] = 304
            for name in ("content-length", "content-type"):
                if name in headers:
                    del headers[name]
            body = b""
        await send(start)
        await send({"type": "http.response.body", "body": body, "more_body": False})


def etag(version: int) -> str:
    """The ETag of what has a version."""
    return f'"v{version}"'


def if_match(request: Request[Any, Any, Any], current: str) -> None:
    """That the caller changes what is there now: its version decides, not what else it showed when it was read.

    Raises:
        HTTPException: 428 without If-Match. Refused: `version.outdated` where it names another.
    """
    asked = needs_match(request)
    said = [one.strip() for one in asked.split(",")]
    if not any(one in ("*", current) or one.startswith(f"{current[:-1]}-") for one in said):
        raise Refused("version.outdated", "It was changed since you read it.", "Read it again, then change it.")


def needs_match(request: Request[Any, Any, Any]) -> str:
    """The If-Match header. Raises HTTPException (428) where there is none."""
    asked = request.headers.get("if-match", "")
    if not asked:
        raise HTTPException("If-Match is missing", status_code=428)
    return asked


def cursor_of(*place: Any) -> str:
    """A place in a list as callers see it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_cursor(text: str | None, kind: type[T]) -> T | None:
    """The place that a cursor stands for; None for none. Refused (`cursor.unreadable`)."""
    if not text:
        return None
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Refused("cursor.unreadable", "This cursor is none of ours.", "Begin with the first page.") from None


def read_moment(name: str, text: str | None) -> datetime | None:
    """A moment of a query, with its offset (RFC 3339). Raises ValidationException. (Litestar would take a number, too.)"""
    if text is None:
        return None
    try:
        # A plus that was not encoded has become a blank.
        return msgspec.convert(text.replace(" ", "+"), Moment)
    except msgspec.ValidationError as error:
        raise ValidationException(extra=[{"key": name, "message": str(error)}]) from error


def next_link(request: Request[Any, Any, Any], cursor: str | None) -> str | None:
    """The address of the next page: this one's, with its cursor."""
    if cursor is None:
        return None
    asked = [(name, value) for name, value in parse_qsl(request.url.query) if name != "cursor"]
    return f"{request.url.path}?{urlencode([*asked, ('cursor', cursor)])}"


def cut(found: Sequence[T], most: int) -> tuple[tuple[T, ...], T | None]:
    """A page of what was read with one more than `most`, and its last one where another page follows."""
    page = tuple(found[:most])
    return page, page[-1] if len(found) > most else None


def _among(etag: str, header: str) -> bool:
    # If-None-Match compares weakly (RFC 9110, 13.1.2); ours are strong, a proxy may have made them weak.
    said = {one.strip().removeprefix("W/") for one in header.split(",")}
    return "*" in said or etag in said
