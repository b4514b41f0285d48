"""The member centre, and the ways in and out: register, log in, log out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import attempts, coupons, terms, visitors
from ballast.mall.attempts import TooOften
from ballast.mall.db import Database
from ballast.mall.rules.levels import Level
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import form
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.visit import Visit, entry_of, visiting


@get("/me")
async def me(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[str]:
    """Points and level of a member; for a guest the ways in; for both the way to the orders."""
    async with visiting(db, request, slug) as visit:
        mine = await coupons.held(visit.connection, visit.visitor.owner, visit.now) if visit.visitor else ()
        good = sum(one.state(visit.now) == "good" for one in mine)
        return await shown(request, visit, "me.html", tab="me", level=_level(visit), good_coupons=good)


@get("/login")
async def login_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The form of members."""
    return await _form(request, slug, db, "login")


@get("/register")
async def register_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The form of those who want to be one."""
    return await _form(request, slug, db, "register")


@post("/login")
async def login(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """Log in; the guest's cart, orders and coupons come along."""
    sent = await form(request)
    typed, address = sent.text("login", 254), address_of(request)
    try:
        shop_id = (await entry_of(db, slug)).shop_id
        await attempts.shopper_signs_in(db, shop_id, typed, address, datetime.now(UTC))
        async with visiting(db, request, slug) as visit:
            secret = await visitors.secret_of(visit.connection, typed)
        # While the password is worked on, no connection is held: shoppers would wait for who tries many.
        customer_id = await visitors.proven(secret, sent.secret("password"))
        async with visiting(db, request, slug) as visit:
            visit.enter(await visitors.login(visit.connection, await visit.known(), customer_id, visit.now))
        await attempts.shopper_signed_in(db, shop_id, typed, address)
    except Refused as error:
        return await _form(request, slug, db, "login", error, typed)
    return go(request, visit, "/me")


@post("/register")
async def register(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """Become a member, logged in."""
    sent = await form(request)
    try:
        shop_id = (await entry_of(db, slug)).shop_id
        await attempts.shopper_registers(db, shop_id, address_of(request), datetime.now(UTC))
        hashed = await visitors.hashed(sent.text("login", 254), sent.secret("password"))
        async with visiting(db, request, slug) as visit:
            visit.enter(
                await visitors.register(
                    visit.connection,
                    await visit.known(),
                    login=sent.text("login", 254),
                    password_hash=hashed,
                    name=sent.text("name", 60),
                    now=visit.now,
                )
            )
    except Refused as error:
        return await _form(request, slug, db, "register", error, sent.text("login", 254), sent.text("name", 60))
    return go(request, visit, "/me")


@post("/logout")
async def logout(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """The browser is a guest's again."""
    async with visiting(db, request, slug) as visit:
        # In the lifeboat he may be a member who is not known there yet.
        if visit.visitor or await visitors.is_unmet(visit.connection, visit.token):
            visit.enter(await visitors.logout(visit.connection, await visit.known(), visit.now))
        return go(request, visit, "/me")


async def _form(
    request: Request[Any, Any, Any],
    slug: str,
    db: Database,
    kind: str,
    error: Refused | None = None,
    typed: str = "",
    name: str = "",
) -> Response[Any]:
    async with visiting(db, request, slug) as visit:
        if visit.member:
            return go(request, visit, "/me")
        return await shown(
            request,
            visit,
            "enter.html",
            tab="me",
            status=(429 if isinstance(error, TooOften) else 409) if error else 200,
            headers={"Retry-After": str(error.wait_s)} if isinstance(error, TooOften) else None,
            problem=why(visit.language, error) if error else "",
            kind=kind,
            login=typed,
            name=name,
        )


def _level(visit: Visit) -> Level | None:
    if not visit.member or not visit.member.level:
        return None
    stored = msgspec.json.decode(visit.look.levels, type=tuple[terms.StoredLevel, ...])
    levels = terms.levels(stored, visit.look.points_per_yuan)
    return levels[min(visit.member.level, len(levels)) - 1] if levels else None


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [me, login_page, register_page, login, register, logout]
