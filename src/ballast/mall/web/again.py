"""A request that finds out on its way that its shop is elsewhere by now is made again from its beginning, there.

What was sent is kept until the answer begins. A request that may have been done already (its transaction was being committed
when the database went) is made again where that is harmless: where it only reads, where it carries a key under which a deed is
done once, as everything that shoppers send does (what carries none of its own, and would be done twice, goes by `key_of`), and
where a provider repeats itself anyway.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ballast.mall.arrivals import buys
from ballast.mall.db import Database, Turned
from ballast.mall.ids import new_id
from ballast.mall.web import hosts

LONGEST_S = 8.0
"""After so long the answer is given as it is."""
UNHEARD_S = 2.5
"""… and after so long where nobody else finds that anything is lost: then it is this request that is wrong."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 0.5
_GIVES_WAY_S, _LOOKS_S = 0.5, 0.01
"""Who only looks around lets those who buy go first for so long, when many wait for the same moment."""
_KEY, _REQUEST = "ballast.again", "ballast.request"
_OF_ORDERS = ("/checkout", "/orders", "/pay/")
_HARMLESS = ("/s/", "/pay/callback/")
_CART = "/cart/lines/"


def note(scope: Scope, error: Turned) -> None:
    """The answer that follows is of a request that is to be made again."""
    attempt = scope.get(_KEY)
    if isinstance(attempt, _Attempt):
        attempt.turned = error


def key_of(scope: Scope) -> UUID:
    """Names the request, and is the same however often it is made again here. A client that sends it once more sends another."""
    key = scope.get(_REQUEST)
    return key if isinstance(key, UUID) else new_id()


class Again:
    """ASGI in, ASGI out: right before the application."""

    def __init__(self, app: ASGIApp, db: Database) -> None:
        self._app, self._db = app, db
        self._buyers: set[_Sent] = set()
        """Requests of people who order or pay that are made again just now."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as often as is needed."""
        if scope["type"] != ScopeType.HTTP or scope["path"] == "/healthz":
            return await self._app(scope, receive, send)
        is_buying = scope["method"] not in ("GET", "HEAD") and any(part in scope["path"] for part in _OF_ORDERS)
        buys.set(is_buying)
        scope[_REQUEST] = new_id()  # type: ignore[literal-required]
        sent = _Sent(receive)
        try:
            await self._answer(scope, sent, send, is_buying=is_buying)
        finally:
            self._buyers.discard(sent)

    async def _answer(self, scope: Scope, sent: _Sent, send: Send, *, is_buying: bool) -> None:
        began, wait_s = time.monotonic(), _FIRST_WAIT_S
        while True:
            patience_s = LONGEST_S if self._db.away else UNHEARD_S
            attempt = _Attempt(send, may_hold=time.monotonic() < began + patience_s)
            made = _copy(scope, attempt)
            await self._app(made, sent.from_beginning(), attempt.hear)
            turned = attempt.turned
            if turned is None or attempt.began or not attempt.may_hold:
                return None
            if turned.committing and not _is_harmless(made):
                return await attempt.let_go()
            if is_buying:
                self._buyers.add(sent)
            # Where there is no lifeboat yet, nothing is there until the sentinel says so.
            was_launching = self._db.launching
            await self._db.turned(turned.number, _LONGEST_WAIT_S if was_launching else wait_s)
            if was_launching and not (is_buying or self._db.launching):
                await self._give_way()
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _give_way(self) -> None:
        """Many have waited for the same moment, and whoever buys among them goes first."""
        until = time.monotonic() + _GIVES_WAY_S
        while self._buyers and time.monotonic() < until:
            await asyncio.sleep(_LOOKS_S)


class _Attempt:
    """One way of a request through the application. The answer is held back where it is to be made again."""

    def __init__(self, send: Send, *, may_hold: bool) -> None:
        self._send, self.may_hold = send, may_hold
        self.turned: Turned | None = None
        self.began = False
        self._held: list[Message] = []

    async def hear(self, message: Message) -> None:
        """Of the answer."""
        if self.turned is not None and self.may_hold and not self.began:
            self._held.append(message)
            return
        self.began = True
        await self._send(message)

    async def let_go(self) -> None:
        """It is not made again."""
        for message in self._held:
            await self._send(message)


class _Sent:
    """What the client sends, which can be heard again."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._heard: list[Any] = []

    def from_beginning(self) -> Receive:
        """For one attempt."""
        at = 0

        async def receive() -> Any:
            nonlocal at
            if at == len(self._heard):
                message = await self._receive()
                if message["type"] != "http.request":
                    return message
                self._heard.append(message)
            at += 1
            return self._heard[at - 1]

        return receive


def _copy(scope: Scope, attempt: _Attempt) -> Scope:
    copied: Any = {**scope, _KEY: attempt}
    if "state" in copied:
        copied["state"] = dict(copied["state"])
    return copied  # type: ignore[no-any-return]


def _is_harmless(scope: Scope) -> bool:
    """As it was led on: a shop under a host name of its own is its storefront alone."""
    method: str = scope["method"]  # type: ignore[typeddict-item]
    if method in ("GET", "HEAD") or hosts.KEY in scope:
        return True
    if scope["path"].startswith(_HARMLESS) or (method == "PUT" and _CART in scope["path"]):
        return True
    return any(name == b"idempotency-key" for name, _ in scope["headers"])
