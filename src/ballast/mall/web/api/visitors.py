"""For a shopper's program: a token, and with it a cart; signing up, in and out."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from ballast.mall import attempts, visitors
from ballast.mall.db import Database
from ballast.mall.web.api.calls import VISITOR, shopper
from ballast.mall.web.api.shapes import LoginInfo, SignIn, SignUp, VisitorInfo, shaped
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import entry_of


@post("/visitors")
async def create_visitor(request: Request[Any, Any, Any], slug: FromPath[str]) -> LoginInfo:
    """A guest's token: the first thing that a program asks for."""
    async with shopper(request, slug) as call:
        return shaped(await visitors.open_guest(call.connection, call.now), LoginInfo)


@post("/sign-up", security=VISITOR)
async def sign_up(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database], data: JSONBody[SignUp]
) -> LoginInfo:
    """The guest becomes a member. His cart and orders stay his; the token is a new one, the old one ends."""
    entry, address = await entry_of(db, slug), address_of(request)
    await attempts.shopper_registers(db, entry.shop_id, address, datetime.now(UTC))
    async with shopper(request, slug) as call:
        _ = call.known
    # While the password is worked on, no connection is held.
    hashed = await visitors.hashed(data.login, data.password)
    async with shopper(request, slug) as call:
        made = await visitors.register(
            call.connection, call.known, login=data.login, password_hash=hashed, name=data.name, now=call.now
        )
    return shaped(made, LoginInfo)


@post("/sign-in", security=VISITOR, status_code=200)
async def sign_in(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database], data: JSONBody[SignIn]
) -> LoginInfo:
    """The guest is a member. His cart comes into the member's; the token is a new one, the old one ends."""
    entry, address = await entry_of(db, slug), address_of(request)
    await attempts.shopper_signs_in(db, entry.shop_id, data.login, address, datetime.now(UTC))
    async with shopper(request, slug) as call:
        _ = call.known
        secret = await visitors.secret_of(call.connection, data.login)
    customer_id = await visitors.proven(secret, data.password)
    async with shopper(request, slug) as call:
        entered = await visitors.login(call.connection, call.known, customer_id, call.now)
    await attempts.shopper_signed_in(db, entry.shop_id, data.login, address)
    return shaped(entered, LoginInfo)


@post("/sign-out", security=VISITOR, status_code=200)
async def sign_out(request: Request[Any, Any, Any], slug: FromPath[str]) -> LoginInfo:
    """The token ends; the answer has a new guest's."""
    async with shopper(request, slug) as call:
        return shaped(await visitors.logout(call.connection, call.known, call.now), LoginInfo)


@get("/me", security=VISITOR)
async def get_me(request: Request[Any, Any, Any], slug: FromPath[str]) -> VisitorInfo:
    """Who the token is, with points and level of a member."""
    async with shopper(request, slug) as call:
        return shaped(call.known, VisitorInfo)


HANDLERS = [create_visitor, sign_up, sign_in, sign_out, get_me]
