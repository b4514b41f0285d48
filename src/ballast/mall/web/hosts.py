"""A shop under a host name of its own: its storefront stands at ``/`` there, and the admins do not exist.

The request is led on as one to ``/s/<slug>/…`` before it is routed; links and cookies begin where the browser sees the shop
(`store.visit`). A host that nobody has named leads to the platform.
"""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

import psycopg
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from ballast.mall import queries
from ballast.mall.db import Busy, Database, Turned
from ballast.mall.settings import Settings

_log = logging.getLogger(__name__)
KEY = "ballast.host"
"""In the scope of such a request: the Host header."""
KNOWN_FOR_S = 5.0
ASKED_AGAIN_S = 1.0
"""After a look-up that failed: not every request waits for a database that is away."""
_MOST_KNOWN = 10_000
# What stands beside the shops under every host.
_SHARED = ("/static/", "/pictures/", "/api/", "/pay/", "/healthz")
# No shop has this slug: finding it out fails as the look-up of the host did, and is answered 503.
_UNKNOWN = "-"


class Hosts:
    """Goes before the whole application."""

    def __init__(self, app: ASGIApp, db: Database, settings: Settings) -> None:
        self._app = app
        self._db = db
        self._own = (urlsplit(settings.base_url).hostname or "").lower()
        self._known: dict[str, tuple[float, str | None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == ScopeType.HTTP and not scope["path"].startswith(_SHARED):
            said = _host(scope)
            slug = await self._slug(_name(said)) if said else None
            if slug is not None and not scope["path"].startswith(f"/s/{slug}/"):
                path = f"/s/{slug}{scope['path']}"
                scope[KEY] = said  # type: ignore[literal-required]
                scope["path"], scope["raw_path"] = path, path.encode()
        await self._app(scope, receive, send)

    async def _slug(self, host: str) -> str | None:
        if host == self._own or not host:
            return None
        now = time.monotonic()
        slug: str | None
        seen = self._known.get(host)
        if seen and seen[0] > now:
            return seen[1]
        try:
            async with self._db.directory() as connection:
                row = await (await connection.execute(queries.load("catalog").host, {"host": host})).fetchone()
        except (Busy, Turned, psycopg.OperationalError) as error:
            _log.warning("which shop has the host name %s could not be looked up: %s", host, error)
            # A host that was known goes on leading to its shop; of another it is not known that it has none.
            slug = seen[1] if seen else _UNKNOWN
            self._known[host] = (now + ASKED_AGAIN_S, slug)
            return slug
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        slug = row["slug"] if row else None
        self._known[host] = (now + KNOWN_FOR_S, slug)
        return slug


def _host(scope: Scope) -> str:
    found = next((value for name, value in scope["headers"] if name == b"host"), b"")
    return found.decode("latin-1")[:300]


def _name(host: str) -> str:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() and ":" in host else host
    return "" if "\x00" in name else name.lower().rstrip(".")
