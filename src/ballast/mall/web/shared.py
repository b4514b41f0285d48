"""Pages that are the same for everybody who brings no token: made once every few seconds, then given to all who ask for them.

A browser that was never more than looking has no visitor, hence no cart, no name and no coupon: its page differs from another's
by the token of its forms alone, which is put in anew each time. What such a page shows, prices and stock included, is
`KNOWN_FOR_S` old at most, as is the shop's look; what is ordered is priced and reserved by `checkout` at that moment. Whoever has
a visitor's token, or is signed in as the shop's people are, gets every page made for him.

This stands before the application: most of what a page costs, the framework's part too, is saved.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode

from litestar import Litestar
from litestar.datastructures import Cookie
from litestar.enums import ScopeType
from litestar.middleware.csrf import generate_csrf_token
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from ballast.mall.catalog import Entry
from ballast.mall.web import guard
from ballast.mall.web.store.visit import COOKIE, KNOWN_FOR_S, known_entry
from ballast.mall.web.texts import LANGUAGE_COOKIE, Language, prefers

MOST_PAGES = 4_000
"""Kept by one process, those that were asked for last; a page has about 14 kB."""
_LONGEST_QUERY = 200
_CSRF_COOKIE = "csrftoken"
_PAGES = re.compile(r"/s/([a-z0-9-]{1,40})/(?:|products/?|products/[0-9a-f-]{36}|categories|p/[a-z0-9-]{1,60})")
_TOKEN = re.compile(r"[0-9a-f]{128}")
# What these pages read of a query; all else, such as where a link was shared, makes no other page.
_READ = frozenset({"lang", "q", "category", "after"})
# What a page may depend on; the rest of what the browser says stays out of it.
_PASSED = frozenset({b"host", b"user-agent", b"accept", b"accept-language", b"x-forwarded-for"})

_Headers = list[tuple[bytes, bytes]]
_Key = tuple[bytes, str, bytes, Language | None, Language | None]


class _Page:
    """An answer around the places where the form's token stands."""

    def __init__(self, status: int, headers: _Headers, body: bytes, place: bytes) -> None:
        self.status = status
        self._headers = [one for one in headers if one[0] != b"content-length"]
        self._parts = body.split(place)
        self._length = len(body)
        self.until = time.monotonic() + KNOWN_FOR_S

    async def give(self, send: Send, token: bytes, cookie: bytes | None) -> None:
        """To a browser that has this token; with the cookie that gives it to it."""
        headers = [*self._headers, (b"content-length", str(self._length).encode())]
        if cookie is not None:
            headers.append((b"set-cookie", cookie))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": token.join(self._parts), "more_body": False})


class SharedPages:
    """ASGI in, ASGI out: before the storefront."""

    def __init__(
        self,
        app: ASGIApp,
        mall: Litestar,
        *,
        secret: str,
        secure_cookies: bool = False,
        shown: Callable[[Scope, Entry], None] | None = None,
    ) -> None:
        """
        Args:
            app: what makes the pages: `mall`, or what stands before it.
            secret, secure_cookies: of the settings.
            shown: told of each page that is given out without being made.
        """
        self._app, self._mall, self._secret, self._shown = app, mall, secret, shown
        self._pages: OrderedDict[_Key, _Page | asyncio.Future[_Page]] = OrderedDict()
        # A token as good as any, which nobody is given: so that forms stand in the page, and no cookie is set.
        self._place = generate_csrf_token(secret)
        form = Cookie(_CSRF_COOKIE, value="-value-", path="/", httponly=True, secure=secure_cookies, samesite="lax")
        self._cookie = form.to_header(header="")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The page that is there, or the application."""
        if (
            scope["type"] != ScopeType.HTTP
            or scope.get("method") != "GET"
            or len(scope["query_string"]) > _LONGEST_QUERY
        ):
            return await self._app(scope, receive, send)
        path = _PAGES.fullmatch(scope["path"])
        if path is None:
            return await self._app(scope, receive, send)
        host, cookies, languages = _said(scope["headers"])
        if COOKIE in cookies or guard.COOKIE in cookies:
            return await self._app(scope, receive, send)
        chosen = prefers(cookies.get(LANGUAGE_COOKIE))
        query = _read(scope["query_string"])
        key = (host, scope["path"], query, chosen, prefers(None, languages))
        token, cookie = cookies.get(_CSRF_COOKIE, ""), None
        if not _TOKEN.fullmatch(token):
            token = generate_csrf_token(self._secret)
            cookie = self._cookie.replace("-value-", token).encode()
        page = self._pages.get(key)
        if isinstance(page, asyncio.Future):
            page = await asyncio.shield(page)
        entry = known_entry(self._mall.state.db, path[1])
        if page is None or page.until <= time.monotonic() or entry is None or entry.status in ("suspended", "closed"):
            asked: Any = {**scope, "query_string": query}
            page = await self._make(key, asked, cookies.get(LANGUAGE_COOKIE, ""))
        else:
            if key in self._pages:
                self._pages.move_to_end(key)
            if self._shown is not None:
                self._shown(scope, entry)
        await page.give(send, token.encode(), cookie)
        return None

    async def _make(self, key: _Key, scope: Scope, language: str) -> _Page:
        making: asyncio.Future[_Page] = asyncio.get_running_loop().create_future()
        self._pages[key] = making
        self._pages.move_to_end(key)
        while len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        try:
            page = await self._ask(scope, language)
        except BaseException as error:
            if self._pages.get(key) is making:
                del self._pages[key]
            making.set_exception(error if isinstance(error, Exception) else ConnectionError("whoever made it is gone"))
            making.exception()
            raise
        making.set_result(page)
        if self._pages.get(key) is making:
            if page.status == 200:
                self._pages[key] = page
            else:
                del self._pages[key]
        return page

    async def _ask(self, scope: Scope, language: str) -> _Page:
        """The page as the application makes it for nobody in particular."""
        cookies = f"{_CSRF_COOKIE}={self._place}" + (f"; {LANGUAGE_COOKIE}={language}" if prefers(language) else "")
        passed = [one for one in scope["headers"] if one[0] in _PASSED]
        of_nobody: Any = {**scope, "headers": [*passed, (b"cookie", cookies.encode())]}
        status, headers, body = 500, list[tuple[bytes, bytes]](), bytearray()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def hold(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message["headers"])
            elif message["type"] == "http.response.body":
                body.extend(message["body"])

        await self._app(of_nobody, receive, hold)
        return _Page(status, headers, bytes(body), self._place.encode())


def _read(query: bytes) -> bytes:
    """What of a query these pages read."""
    if not query:
        return query
    said = parse_qsl(query.decode("utf-8", "surrogateescape"), errors="surrogateescape")
    return urlencode([one for one in said if one[0] in _READ], errors="surrogateescape").encode("ascii")


def _said(headers: Any) -> tuple[bytes, dict[str, str], str]:
    """By which name the server was asked, the cookies, and what languages the browser likes."""
    cookies: dict[str, str] = {}
    host, languages = b"", ""
    for name, value in headers:
        if name == b"cookie":
            for one in value.decode("latin-1").split(";"):
                key, _, said = one.partition("=")
                cookies[key.strip()] = said.strip().strip('"')
        elif name == b"accept-language":
            languages = value.decode("latin-1")
        elif name == b"host":
            host = value
    return host, cookies, languages
