"""Pages that are the same for everybody who brings no token: made once every few seconds, and then given to all who ask.

A browser that was never more than looking has no visitor, hence no cart, no name and no coupon: its page differs from another's
by the token of its forms alone, which is put in anew each time. Prices and stock that it shows are `KNOWN_FOR_S` old at
most, as is the shop's look; what is ordered is priced by `checkout` at that moment. Whoever has a visitor's token, or is signed
in as the shop's people are, gets his page made for him.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakKeyDictionary

from litestar import Request, Response
from litestar.enums import MediaType
from markupsafe import escape

from ballast.mall.db import Database
from ballast.mall.web import guard
from ballast.mall.web.render import csrf_of, set_csrf
from ballast.mall.web.store.visit import COOKIE, KNOWN_FOR_S, entry_of
from ballast.mall.web.texts import preferred

MOST_PAGES = 4_000
"""Kept by one process; a page has about 10 kB."""
_LONGEST_QUERY = 200

_Key = tuple[str, bytes, str | None]


_PLACE = secrets.token_hex(16)
"""Stands in a kept page where the form's token is to stand."""


class _Page:
    """A page around the places where the form's token stands."""

    def __init__(self, body: str) -> None:
        self._parts = body.split(_PLACE)
        self.until = time.monotonic() + KNOWN_FOR_S

    def for_token(self, token: str) -> Response[str]:
        """The page for a browser that has this token."""
        # The token may be what the browser sent: it is text, as everywhere.
        body = str(escape(token)).join(self._parts) if len(self._parts) > 1 else self._parts[0]
        return Response(body, media_type=MediaType.HTML, headers={"Cache-Control": "no-store"})


_Pages = dict[_Key, "_Page | asyncio.Future[_Page | None]"]
_pages: WeakKeyDictionary[Database, _Pages] = WeakKeyDictionary()


async def for_anybody(
    db: Database, request: Request[Any, Any, Any], slug: str, make: Callable[[], Awaitable[Response[str]]]
) -> Response[str]:
    """The page as it was made for somebody within the last seconds, else made now; as `make` makes it for visitors and staff.

    Only what was answered 200 is kept. Those who ask while it is made wait for it.
    """
    cookies = request.cookies
    query: bytes = request.scope["query_string"]
    if COOKIE in cookies or guard.COOKIE in cookies or len(query) > _LONGEST_QUERY:
        return await make()
    entry = await entry_of(db, slug)
    pages = _pages.setdefault(db, {})
    key = (request.scope["path"], query, preferred(request))
    there = pages.get(key)
    if isinstance(there, asyncio.Future):
        there = await asyncio.shield(there)
    if there is not None and there.until > time.monotonic() and entry.status not in ("suspended", "closed"):
        return there.for_token(csrf_of(request))
    making: asyncio.Future[_Page | None] = asyncio.get_running_loop().create_future()
    if len(pages) >= MOST_PAGES:
        pages.clear()
    pages[key] = making
    kept = None
    token = csrf_of(request)
    set_csrf(request, _PLACE)
    try:
        answer = await make()
        page = _Page(answer.content)
        if answer.status_code == 200 and not answer.cookies:
            kept = page
            return page.for_token(token)
        answer.content = str(escape(token)).join(answer.content.split(_PLACE))
        return answer
    finally:
        set_csrf(request, token)
        making.set_result(kept)
        if pages.get(key) is making:
            if kept:
                pages[key] = kept
            else:
                del pages[key]
