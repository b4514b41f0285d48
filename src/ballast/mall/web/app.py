"""The ASGI application: routes of every face, and what holds for all of them (headers, CSRF, errors, the database)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from litestar import Litestar, Request, Response
from litestar.config.csrf import CSRFConfig
from litestar.datastructures import Cookie, State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException, NotFoundException
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler, Message, Scope

from ballast.errors import StoreError
from ballast.mall.db import Busy, Database, Recovering, Turned
from ballast.mall.payments.providers import providers
from ballast.mall.picture_store import PictureStore
from ballast.mall.pictures import Pictures
from ballast.mall.settings import Settings
from ballast.mall.traffic import Traffic, counting
from ballast.mall.web import (
    account,
    again,
    api,
    assets,
    bodies,
    guard,
    heads,
    health,
    hosts,
    merchant,
    payments,
    pictures,
    platform,
    store,
)
from ballast.mall.web.api import problems
from ballast.mall.web.render import page
from ballast.mall.web.texts import LANGUAGE_COOKIE

_log = logging.getLogger(__name__)

# Nothing comes from elsewhere; a page may be framed by our own preview only.
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
        b"object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
)

_SAID = {
    400: "common.error.bad",
    403: "common.error.forbidden",
    404: "common.error.missing",
    413: "common.error.large",
    429: "common.error.often",
}


def create_app(settings: Settings, handlers: list[ControllerRouterHandler] | None = None) -> Litestar:
    """The application of one web process.

    Args:
        handlers: routes beside those that every process has; by default all faces.
    """
    database = Database(settings)
    traffic = Traffic()

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await database.open()
        try:
            async with counting(traffic, database):
                yield
        finally:
            for provider in providers(settings).values():
                await provider.close()
            await database.close()

    app = Litestar(
        route_handlers=[
            *health.HANDLERS,
            # A name that no file can have (with a NUL) makes pathlib raise ValueError.
            create_static_files_router("/static", [assets.folder()], exception_handlers={ValueError: _missing}),
            *(handlers if handlers is not None else faces()),
        ],
        lifespan=[lifespan],
        state=State(
            {
                "db": database,
                "settings": settings,
                "traffic": traffic,
                "pictures": Pictures(PictureStore(settings.pictures)),
            }
        ),
        # They are the same for each request of the process.
        dependencies={
            "db": Provide(_db, use_cache=True, sync_to_thread=False),
            "settings": Provide(_settings, use_cache=True, sync_to_thread=False),
            "pictures": Provide(_pictures, use_cache=True, sync_to_thread=False),
        },
        csrf_config=CSRFConfig(
            secret=settings.secret,
            cookie_secure=settings.secure_cookies,
            cookie_httponly=True,
            exclude=["^/api/", "^/pay/callback/"],
        ),
        request_max_body_size=bodies.MOST,
        middleware=[bodies.Bodies()],
        before_send=[_with_headers, *([_by_https_only] if settings.secure_cookies else [])],
        exception_handlers={
            Busy: _busy,
            Recovering: _coming_back,
            Turned: _turned,
            psycopg.OperationalError: _away,
            psycopg.errors.UndefinedTable: _gone,
            psycopg.errors.InvalidSchemaName: _gone,
            psycopg.errors.UndefinedColumn: _gone,
            psycopg.errors.UndefinedFunction: _gone,
            StoreError: _no_store,
            psycopg.DataError: _unfit,
            UnicodeDecodeError: _unfit,
            guard.SignInNeeded: guard.to_signin,
            HTTPException: _refused,
            NotFoundException: _refused,
            Exception: _broken,
        },
        openapi_config=None,
    )
    app.asgi_handler = again.Again(hosts.Hosts(heads.Heads(app.asgi_handler), database, settings), database)
    return app


def faces() -> list[ControllerRouterHandler]:
    """The routes of every face, each in a package of its own."""
    return [
        *account.routes(),
        *merchant.routes(),
        *platform.routes(),
        *payments.routes(),
        *pictures.routes(),
        *store.routes(),
        *api.routes(),
    ]


def _db(state: State) -> Database:
    database: Database = state.db
    return database


def _settings(state: State, db: NamedDependency[Database]) -> Settings:
    # After `db`, which it does not need: two that stand side by side are resolved in two tasks, for each request.
    settings: Settings = state.settings
    return settings


def _pictures(state: State) -> Pictures:
    found: Pictures = state.pictures
    return found


async def _with_headers(message: Message, scope: Scope) -> None:
    """On every answer, errors too. A language that was asked for by ``?lang=`` is kept for the next pages."""
    if message["type"] != "http.response.start":
        return
    headers = list(message["headers"])
    there = {name.lower() for name, _ in headers}
    headers += [one for one in _HEADERS if one[0] not in there]
    for language in ("zh", "en") if b"lang=" in scope["query_string"] else ():
        if f"lang={language}".encode() in scope["query_string"].split(b"&"):
            kept = Cookie(key=LANGUAGE_COOKIE, value=language, path="/", max_age=365 * 86400, samesite="lax")
            headers.append((b"set-cookie", kept.to_header(header="").encode()))
    message["headers"] = headers


async def _by_https_only(message: Message, _: Scope) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], (b"strict-transport-security", b"max-age=31536000")]


def _busy(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return _said(request, 503, "common.error.busy", {"Retry-After": "1"})


def _away(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return _said(request, 503, "common.error.away", {"Retry-After": "2"})


def _coming_back(request: Request[Any, Any, Any], error: Recovering) -> Response[Any]:
    _log.info("%s", error)
    name = "common.error.coming_back_all" if error.all_shops else "common.error.coming_back"
    wait = {"Retry-After": "10" if error.all_shops else "1"}
    return _said(request, 503, name, wait, code="coming_back")


def _turned(request: Request[Any, Any, Any], error: Turned) -> Response[Any]:
    _log.info("%s", error)
    again.note(request.scope, error)
    refused = isinstance(error.__cause__, psycopg.errors.DiskFull | psycopg.errors.ReadOnlySqlTransaction)
    return _said(request, 503, "common.error.no_writes" if refused else "common.error.away", {"Retry-After": "1"})


def _gone(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    # The server answers, and what stood in it does not: somebody dropped it, or it is being brought back. It is away.
    _log.error("%s %s: %s", request.method, request.url.path, error)
    return _said(request, 503, "common.error.away", {"Retry-After": "5"})


def _broken(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    # A fault of ours: the reader gets a page, and who is on call the whole of it.
    _log.error("%s %s broke", request.method, request.url.path, exc_info=error)
    return _said(request, 500, "common.error.other")


def _no_store(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    _log.warning("%s", error)
    return _said(request, 503, "common.error.store", {"Retry-After": "5"})


def _unfit(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    # A text with a NUL or in no encoding, a number that no column holds: what came in is wrong, not the server.
    return _said(request, 400, "common.error.bad")


def _missing(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    return _said(request, 404, "common.error.missing")


def _refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    if _by_program(request):
        return problems.http(request, error)
    name = _SAID.get(error.status_code, "common.error.other")
    return _said(request, error.status_code, name, dict(error.headers or {}))


def _said(
    request: Request[Any, Any, Any], status: int, name: str, headers: dict[str, str] | None = None, *, code: str = ""
) -> Response[Any]:
    if _by_program(request):
        return problems.respond(request, status, code=code, headers=headers)
    return page(request, "common/error.html", status=status, headers=headers, name=name, code=status)


def _by_program(request: Request[Any, Any, Any]) -> bool:
    return request.url.path.startswith("/api/")
