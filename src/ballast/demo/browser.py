"""A browser, as far as a server can tell: cookies, forms with the page's token, a language, patience.

Like a browser it asks for a page once more by itself where the connection, kept from an earlier page, was found closed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from html import unescape
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from ballast.demo.visits import Kind, Visit

PATIENCE_S = 10.0
"""After so long without an answer a shopper sees an error."""
TRIES, AGAIN_S = 4, 0.7
"""Who sees an error tries again, so often in all, so much later."""
Unanswered = (aiohttp.ClientError, TimeoutError)
"""What a request that was not answered raises."""
MOST_CONNECTIONS, KEPT_S = 400, 5.0
"""Of all browsers together, and how long one is kept that nobody uses."""
REFUSED = (409, 422)
"""A rule says no: that is an answer."""
_TOKEN = "csrftoken"  # noqa: S105 - the name of a cookie
_HEADERS = {
    "User-Agent": "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
    "Accept": "text/html",
    "Accept-Language": "zh-CN,zh;q=0.9",
}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_ID = re.compile("[0-9a-f]{8}-[0-9a-f-]{27}")
Fields = Mapping[str, str | Sequence[str]]


class GaveUp(Exception):
    """What was wanted did not come, however often it was tried."""


class Page:
    """An answer, and what can be found in it."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self.status, self.text = status, text
        self.location = headers.get("location", "")
        self.reloads = "refresh" in headers

    def ids(self, before: str) -> list[str]:
        """The ids that stand right after this text, each once, in their order."""
        # Not by a pattern: each shop would have its own, and compiling it costs more than the page.
        starts = (_ID.match(part) for part in self.text.split(before)[1:])
        return list(dict.fromkeys(found[0] for found in starts if found))

    def hidden(self, *names: str) -> dict[str, list[str]]:
        """The hidden fields of these names."""
        found: dict[str, list[str]] = {}
        for name, value in re.findall(rf'type="hidden" name="({"|".join(names)})" value="([^"]*)"', self.text):
            found.setdefault(name, []).append(unescape(value))
        return found

    def search(self, pattern: str) -> str | None:
        """What stands in the pattern's group."""
        found = re.search(pattern, self.text)
        return unescape(found[1]) if found else None


class Browser:
    """Somebody's. Every request that it makes is told to `seen`, as one of the shop `shop`."""

    def __init__(self, base: str, shop: str, session: aiohttp.ClientSession, seen: Callable[[Visit], None]) -> None:
        """`base`: of the platform, such as http://127.0.0.1:8000. `session`: of `connections`, shared."""
        self.shop, self._base, self._session, self._seen = shop, base, session, seen
        self._cookies = aiohttp.CookieJar(unsafe=True)  # the platform is at an address, not at a name

    async def see(self, path: str, *, kind: Kind = "view", right: tuple[int, ...] = (200,)) -> Page:
        """A page; `right`: the statuses that are as they should be, the first of them what is wanted. GaveUp."""
        return await self._try("GET", path, kind, right, None)

    async def send(
        self, path: str, fields: Fields, *, kind: Kind = "form", right: tuple[int, ...] = (303, *REFUSED)
    ) -> Page:
        """A form, with the token of the page that it stands on, sent again as it was where an error came. GaveUp."""
        token = next((cookie.value for cookie in self._cookies if cookie.key == _TOKEN), "")
        return await self._try("POST", path, kind, right, {"_csrf_token": token, **fields})

    async def _try(self, method: str, path: str, kind: Kind, right: tuple[int, ...], fields: Fields | None) -> Page:
        for left in reversed(range(TRIES)):
            page = await self._once(method, path, kind, right, fields)
            if page is not None:
                return page
            if left:
                await asyncio.sleep(AGAIN_S)
        raise GaveUp(f"{method} {self._spoken(path)}")

    async def _once(
        self, method: str, path: str, kind: Kind, right: tuple[int, ...], fields: Fields | None
    ) -> Page | None:
        sent_at, clock = time.time(), time.monotonic()
        why, status, page = "", 0, None
        try:
            answer = await self._ask(method, path, fields)
        except Unanswered as error:
            why = type(error).__name__
        else:
            status = answer.status
            page = answer if status in right else None
            why = "" if page else f"HTTP {status}"
        what = "" if page else f"{method} {self._spoken(path)}: {why}"
        took_s = time.monotonic() - clock
        self._seen(Visit(self.shop, kind, sent_at, took_s, status, page is not None, status == right[0], what))
        return page

    def _spoken(self, path: str) -> str:
        """Which page it is, whoever's it is."""
        return _ID.sub("…", path.partition("?")[0].replace(self.shop, "…"))

    async def _ask(self, method: str, path: str, fields: Fields | None) -> Page:
        url = path if "://" in path else self._base + path
        try:
            return await self._exchange(method, url, fields)
        except aiohttp.ClientPayloadError:
            if method != "GET":
                raise
            return await self._exchange(method, url, fields)

    async def _exchange(self, method: str, url: str, fields: Fields | None) -> Page:
        kept = self._cookies.filter_cookies(URL(url)).values()
        headers = {"Cookie": "; ".join(f"{one.key}={one.coded_value}" for one in kept)} if kept else {}
        body = None if fields is None else urlencode(fields, doseq=True).encode()
        headers |= _FORM if fields is not None else {}
        async with self._session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer:
            if answer.cookies:
                self._cookies.update_cookies(answer.cookies, answer.url)
            return Page(answer.status, (await answer.read()).decode(errors="replace"), answer.headers)


def connections() -> aiohttp.ClientSession:
    """What browsers share, to be closed by whoever made it. A GET that meets a closed connection it sends once more by itself."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS, keepalive_timeout=KEPT_S),
        cookie_jar=aiohttp.DummyCookieJar(),  # each browser has its own
        headers=_HEADERS,
        timeout=aiohttp.ClientTimeout(total=PATIENCE_S),
    )
