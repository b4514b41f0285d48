"""How much may be asked, and what must be true of every request before anything is done for it.

Buckets of tokens in this process, which fill evenly: with n processes n times as much is let through. One for each caller
(a key, a shopper's token), one for each address, one for each shop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException, TooManyRequestsException
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from ballast.mall.attempts import network
from ballast.mall.ids import token_hash
from ballast.mall.settings import Settings
from ballast.mall.web.guard import address_of

_Connection = ASGIConnection[Any, Any, Any, Any]
_SCOPE_KEY = "ballast.rate"
_JSON = ("application/json",)
_BODIES = ("POST", "PUT", "PATCH")


class Rate(msgspec.Struct, frozen=True):
    """How a bucket stands after a request. `reset_s`: until it is full again; `wait_s`: until one more is let through."""

    limit: int
    remaining: int
    reset_s: int
    wait_s: int = 0

    def headers(self) -> list[tuple[bytes, bytes]]:
        """As the answer says it."""
        named = [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset_s),
        ]
        return [*named, (b"retry-after", b"%d" % self.wait_s)] if self.wait_s else named


class Buckets:
    """A bucket for each name: `per_minute` at most at once, and as much in a minute."""

    def __init__(self, per_minute: int, most_known: int = 50_000) -> None:
        self._size = per_minute
        self._a_second = per_minute / 60
        self._most_known = most_known
        self._levels: dict[object, tuple[float, float]] = {}

    def take(self, name: object, now_s: float) -> Rate:
        """One token. `wait_s` is set where there was none."""
        level, since = self._levels.get(name, (float(self._size), now_s))
        level = min(self._size, level + (now_s - since) * self._a_second)
        through = level >= 1
        level -= 1 if through else 0
        if name not in self._levels and len(self._levels) >= self._most_known:
            self._forget(now_s)
        self._levels[name] = (level, now_s)
        full_s = int((self._size - level) / self._a_second) + 1
        wait_s = 0 if through else max(1, int((1 - level) / self._a_second + 0.999))
        return Rate(self._size, int(level), full_s, wait_s)

    def _forget(self, now_s: float) -> None:
        """Those that are full again; where all are in use, all: one more minute for everybody is better than no memory."""
        self._levels = {
            name: (level, since)
            for name, (level, since) in self._levels.items()
            if level + (now_s - since) * self._a_second < self._size
        }
        if len(self._levels) >= self._most_known:
            self._levels.clear()


class Limits:
    """The buckets of one process."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._callers = Buckets(settings.api_caller_per_minute)
        self._addresses = Buckets(settings.api_address_per_minute)
        self._shops = Buckets(settings.api_shop_per_minute)
        self._clock = clock

    def caller(self, connection: _Connection) -> None:
        """The address, and the caller where it names itself. Raises TooManyRequestsException."""
        self._take(connection, self._addresses, network(address_of(connection)))
        if said := header_of(connection, b"authorization"):
            self._take(connection, self._callers, token_hash(said))

    def shop(self, connection: _Connection, shop: object) -> None:
        """A shop that the caller may name. Raises TooManyRequestsException."""
        self._take(connection, self._shops, shop)

    def _take(self, connection: _Connection, buckets: Buckets, name: object) -> None:
        rate = buckets.take(name, self._clock())
        tightest: Rate | None = rate_of(connection.scope)
        if rate.wait_s or tightest is None or rate.remaining < tightest.remaining:
            connection.scope[_SCOPE_KEY] = rate  # type: ignore[literal-required]
        if rate.wait_s:
            raise TooManyRequestsException(headers={"Retry-After": str(rate.wait_s)})


def limits_of(connection: _Connection) -> Limits:
    """Those of this application."""
    state = connection.app.state
    found: Limits | None = getattr(state, "api_limits", None)
    if found is None:
        found = state.api_limits = Limits(state.settings)
    return found


def rate_of(scope: Any) -> Rate | None:
    """The tightest bucket of this request, for the answer's headers."""
    found: Rate | None = scope.get(_SCOPE_KEY)
    return found


def header_of(connection: _Connection, name: bytes) -> str | None:
    """The first header of this name (in lower case). To have all of them as `connection.headers` costs a request twenty times as
    much."""
    for there, value in connection.scope["headers"]:
        if there == name:
            return value.decode("latin-1")
    return None


async def asked(request: Request[Any, Any, Any]) -> None:
    """`admitted` and `readable` before each request, where there is no other guard: cheaper by two copies of the handler."""
    await admitted(request, request.route_handler)
    await readable(request, request.route_handler)


async def admitted(connection: _Connection, handler: BaseRouteHandler) -> None:
    """Guard of every route: not too often, and not without a token where one is needed.

    Who lacks it is told that, before what else is wrong; whether it is good shows when it is looked up."""
    limits_of(connection).caller(connection)
    if header_of(connection, b"authorization") is None and isinstance(handler, HTTPRouteHandler):
        open_too: dict[str, list[str]] = {}
        if handler.security and open_too not in handler.security:
            raise NotAuthorizedException


async def readable(connection: _Connection, handler: BaseRouteHandler) -> None:
    """Guard of every route that takes a body: if there is one, it is JSON, or what the handler says (``opt={"takes": …}``)."""
    if connection.scope.get("method") in _BODIES:
        length = header_of(connection, b"content-length")
        has_body = length not in (None, "0") or header_of(connection, b"transfer-encoding") is not None
        media_type = (header_of(connection, b"content-type") or "").partition(";")[0].strip().lower()
        taken = handler.opt.get("takes", _JSON)
        if has_body and media_type not in taken:
            raise HTTPException(f"the body must be {' or '.join(taken)}", status_code=415)
