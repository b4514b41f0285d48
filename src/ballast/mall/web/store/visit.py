"""One request to a shop: which shop, in which language, by whom; and the shop's transaction.

The directory and the shop's look are asked every few seconds only, by each process: a suspension is seen that much later.
A browser that only looks gets no visitor and no cookie; the first thing put into the cart makes one.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from litestar import Request
from litestar.datastructures import Cookie
from litestar.exceptions import NotFoundException

from ballast.errors import BallastError
from ballast.mall import cart, catalog, visitors
from ballast.mall.catalog import Entry, Look
from ballast.mall.db import Connection, Database
from ballast.mall.owner import Owner
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web import hosts
from ballast.mall.web.texts import Language, language_of

COOKIE = "visitor"
KNOWN_FOR_S = 5.0
_MOST_KNOWN = 5_000
_MISSED_FOR_S = 10.0
"""So long after it was known a shop that is gone is taken for lost, not for one that never was."""


class NotOpen(BallastError):
    """The shop is there and shows nothing: suspended or closed."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(f"Shop {entry.slug} is {entry.status}.", "Come back later.")
        self.entry = entry


@dataclass
class Visit:
    """A request, while its transaction is open. `login` is set when the browser's token changes."""

    entry: Entry
    look: Look
    connection: Connection
    language: Language
    now: datetime
    visitor: visitors.Visitor | None
    login: visitors.Login | None = None
    token: str = ""
    """That the browser came with."""
    host: str = ""
    """The shop's own, where the request came by it."""

    @property
    def base(self) -> str:
        """Where the shop's addresses begin."""
        return "" if self.host else f"/s/{self.entry.slug}"

    def address(self, settings: Settings, path: str) -> str:
        """The whole address of a page of the shop, such that this browser is known there."""
        platform = settings.base_url.rstrip("/")
        root = f"{urlsplit(platform).scheme}://{self.host}" if self.host else platform
        return f"{root}{self.base}{path}"

    @property
    def member(self) -> visitors.Visitor | None:
        """Who has logged in."""
        return self.visitor if self.visitor and self.visitor.customer_id else None

    async def known(self) -> visitors.Visitor:
        """The visitor; a browser that was none becomes a guest. In the lifeboat one that comes with a token of the last moments
        before the loss keeps it: what it sends again is then what it had sent, and it is at home who it was."""
        if self.visitor is None and await visitors.is_unmet(self.connection, self.token):
            self.enter(await visitors.open_unmet(self.connection, self.token, self.now))
        elif self.visitor is None:
            self.enter(await visitors.open_guest(self.connection, self.now))
        assert self.visitor is not None
        return self.visitor

    async def owner(self) -> Owner:
        """Whose cart and orders the request is about."""
        return (await self.known()).owner

    async def pieces(self) -> int:
        """In the cart."""
        return await cart.count(self.connection, self.visitor.owner) if self.visitor else 0

    def enter(self, login: visitors.Login) -> None:
        """From now on the browser has this token."""
        self.visitor, self.login = login.visitor, login

    def cookie(self, settings: Settings) -> Cookie | None:
        """What the answer must set."""
        if self.login is None:
            return None
        return Cookie(
            COOKIE,
            value=self.login.token,
            path=self.base or "/",
            max_age=int(visitors.STAYS.total_seconds()),
            httponly=True,
            secure=settings.secure_cookies,
            samesite="lax",
        )


@asynccontextmanager
async def visiting(db: Database, request: Request[Any, Any, Any], slug: str) -> AsyncIterator[Visit]:
    """The request's visit, in the shop's transaction.

    Raises:
        NotFoundException: no shop has this slug. NotOpen: it is suspended or closed.
    """
    found = await entry_of(db, slug)
    if found.status in ("suspended", "closed"):
        raise NotOpen(found)
    now = datetime.now(UTC)
    async with db.shop(found.shop_id) as connection:
        request.scope["ballast.afloat"] = db.afloat(found.shop_id)  # type: ignore[typeddict-unknown-key]
        look = await _look(db, connection, found)
        language = language_of(request, "en" if look.language == "en" else "zh")
        token = request.cookies.get(COOKIE, "")
        visitor = await visitors.find(connection, token, now) if token else None
        yield Visit(found, look, connection, language, now, visitor, token=token, host=host_of(request))


def host_of(request: Request[Any, Any, Any]) -> str:
    """The shop's own host name, by which the request came; "" where it came by the platform's."""
    return str(request.scope.get(hosts.KEY, ""))


_entries: WeakKeyDictionary[Database, dict[str, tuple[float, Entry]]] = WeakKeyDictionary()
_looks: WeakKeyDictionary[Database, dict[str, tuple[float, Look]]] = WeakKeyDictionary()


def known_entry(db: Database, slug: str) -> Entry | None:
    """The shop of a slug, where it was asked for within the last seconds."""
    seen = _entries.setdefault(db, {}).get(slug)
    return seen[1] if seen and seen[0] > time.monotonic() else None


async def entry_of(db: Database, slug: str) -> Entry:
    """The shop of a slug. Raises NotFoundException."""
    if there := known_entry(db, slug):
        return there
    known = _entries.setdefault(db, {})
    async with db.directory() as connection:
        found = await catalog.entry(connection, slug) if "\x00" not in slug else None
    if found is None:
        _miss(db, slug, known)
        raise NotFoundException
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[slug] = (time.monotonic() + KNOWN_FOR_S, found)
    return found


def _miss(db: Database, slug: str, known: dict[str, tuple[float, Entry]]) -> None:
    """A slug that nobody has. Turned where somebody had it a moment ago: shops do not go by themselves."""
    seen = known.get(slug)
    if seen is None:
        return
    if seen[0] + _MISSED_FOR_S < time.monotonic():
        del known[slug]
        return
    db.missing(seen[1].shop_id)


async def _look(db: Database, connection: Connection, entry: Entry) -> Look:
    known = _looks.setdefault(db, {})
    seen = known.get(entry.slug)
    if seen and seen[0] > time.monotonic():
        return seen[1]
    try:
        found = await catalog.look(connection)
    except Refused:
        db.missing(entry.shop_id)
        raise
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[entry.slug] = (time.monotonic() + KNOWN_FOR_S, found)
    return found
