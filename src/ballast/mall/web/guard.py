"""Who may enter the admins: session → account → role → permission. Run as Litestar guards, before every handler of a face.

Without a session one is sent to sign in. Who has no business in a place is told that there is no such page, and learns nothing
about it; who works there in a role that may not do this is told so. A handler of a shop that names no permission is open to
nobody: ``@get(…, opt=needs(Permission.SEE_ORDERS))``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException, NotFoundException, PermissionDeniedException
from litestar.handlers.base import BaseRouteHandler
from litestar.response import Redirect

from ballast.mall import catalog, sessions, staff
from ballast.mall.audit import By
from ballast.mall.db import Database
from ballast.mall.rules.permissions import Permission, may
from ballast.mall.rules.standing import Standing
from ballast.mall.sessions import Session
from ballast.mall.settings import Settings
from ballast.mall.staff import Membership
from ballast.mall.web import forwarded
from ballast.mall.web.address import next_of

COOKIE = "account"
_Connection = ASGIConnection[Any, Any, Any, Any]


class SignInNeeded(NotAuthorizedException):
    """Nobody is signed in; answered by ``to_signin``."""


class Visit(msgspec.Struct, frozen=True):
    """Who asks for a page, from which address, and when."""

    session: Session
    address: str
    now: datetime

    @property
    def by(self) -> By:
        """As the record names them."""
        return self.session.by(self.address)


class ShopVisit(msgspec.Struct, frozen=True):
    """Who asks for a page of a shop, and what they are there."""

    visit: Visit
    shop: Membership
    standing: Standing

    @property
    def by(self) -> By:
        """As the record names them."""
        return self.visit.by

    def may(self, permission: Permission) -> bool:
        """For what a page shows: whether this one may do it now."""
        return may(self.shop.role, permission, self.standing)


def needs(permission: Permission) -> dict[str, Permission]:
    """The ``opt`` of a handler of a shop."""
    return {"permission": permission}


async def signed_in(connection: _Connection, _: BaseRouteHandler) -> None:
    """Guard of what any account may: its own pages, its shops."""
    await _visit(connection)


async def operator(connection: _Connection, _: BaseRouteHandler) -> None:
    """Guard of the platform's admin."""
    if not (await _visit(connection)).session.operator:
        raise NotFoundException


async def works_there(connection: _Connection, handler: BaseRouteHandler) -> None:
    """Guard of a shop's admin, whose path names the shop by ``slug``."""
    visit = await _visit(connection)
    slug = str(connection.path_params.get("slug", ""))
    db: Database = connection.app.state.db
    async with db.identity(await _to_wait_for(db, slug), passing=True) as database:
        shop = await staff.membership(database, visit.session.account_id, slug)
    if shop is None:
        raise NotFoundException
    standing = shop.standing(visit.now)
    permission = handler.opt.get("permission")
    if permission is None or not may(shop.role, permission, standing):
        raise PermissionDeniedException
    connection.scope["auth"] = ShopVisit(visit, shop, standing)
    connection.scope["ballast.afloat"] = db.afloat(shop.shop_id)  # type: ignore[typeddict-unknown-key]


def dependencies() -> dict[str, Provide]:
    """``visit`` and ``shop_visit`` for handlers behind a guard."""
    return {
        "visit": Provide(_visit_of, sync_to_thread=False),
        "shop_visit": Provide(_shop_visit_of, sync_to_thread=False),
    }


def address_of(connection: _Connection) -> str:
    """The caller's address: what the server sees, or what a proxy of ours says."""
    settings: Settings = connection.app.state.settings
    return address_in(connection, settings)


def address_in(connection: _Connection, settings: Settings) -> str:
    """The same, before the application has the request."""
    seen = connection.client.host if connection.client else ""
    if not settings.trusted_proxies:
        return seen
    return forwarded.client(seen, connection.headers.getall("x-forwarded-for", []), settings.proxies)


def to_signin(request: Request[Any, Any, Any], _: Exception) -> Response[Any]:
    """The sign-in page, which leads back to a page that was asked for, not to a form that was sent."""
    back = f"?next={next_of(request)}" if request.method == "GET" else ""
    return Redirect(f"/signin{back}", status_code=303)


async def _visit(connection: _Connection) -> Visit:
    token = connection.cookies.get(COOKIE, "")
    if not token:
        raise SignInNeeded
    now = datetime.now(UTC)
    async with connection.app.state.db.identity(passing=True) as database:
        session = await sessions.look_up(database, token, now)
    if session is None:
        raise SignInNeeded
    visit = Visit(session, address_of(connection), now)
    # In the scope itself, which is this request's alone; a server may hand its state to several.
    connection.scope["user"] = visit
    return visit


async def _to_wait_for(db: Database, slug: str) -> UUID | None:
    """The shop of a slug, where shops are still coming back; else there is nothing to wait for."""
    if not db.recovering:
        return None
    async with db.directory() as connection:
        found = await catalog.entry(connection, slug)
    return found.shop_id if found else None


def _visit_of(request: Request[Any, Any, Any]) -> Visit:
    visit: Visit = request.scope["user"]
    return visit


def _shop_visit_of(request: Request[Any, Any, Any]) -> ShopVisit:
    visit: ShopVisit = request.scope["auth"]
    return visit
