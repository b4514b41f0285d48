"""A member's own data: name, password; and the way back in for who forgot his password."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import attempts, membership
from ballast.mall.attempts import TooOften
from ballast.mall.db import Database
from ballast.mall.deed_kinds import MemberRenamed
from ballast.mall.membership import CODE_HOLDS
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import form
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.visit import Visit, entry_of, visiting

_MINUTES = int(CODE_HOLDS.total_seconds()) // 60


@get("/me/account")
async def account_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """The forms for name and password."""
    return await _account(request, slug, db)


@post("/me/name")
async def rename(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """Another name."""
    sent = await form(request)
    async with visiting(db, request, slug) as visit:
        if visit.member is None or visit.member.customer_id is None:
            return go(request, visit, "/login")
        await membership.rename(
            visit.connection, MemberRenamed(visit.member.customer_id, sent.text("name", 60), visit.now)
        )
        return go(request, visit, "/me/account?said=saved")


@post("/me/password")
async def change_password(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """Another password, for who knows the present one. All other browsers are logged out."""
    sent = await form(request)
    try:
        async with visiting(db, request, slug) as visit:
            if visit.member is None or visit.member.customer_id is None:
                return go(request, visit, "/login")
            shop_id, customer_id, address = visit.entry.shop_id, visit.member.customer_id, address_of(request)
            secret = await membership.secret(visit.connection, customer_id)
        # No connection is held while the tries are counted elsewhere, and while the passwords are worked on.
        await attempts.shopper_changes_password(db, shop_id, customer_id, address, datetime.now(UTC))
        _same(sent.secret("password"), sent.secret("again"))
        stored = await membership.proven(secret, sent.secret("present"), sent.secret("password"))
        async with visiting(db, request, slug) as visit:
            await membership.change_password(visit.connection, await visit.known(), secret, stored, visit.now)
            answer = go(request, visit, "/me/account?said=password")
        await attempts.shopper_changed_password(db, shop_id, customer_id, address)
    except Refused as error:
        return await _account(request, slug, db, error)
    return answer


@get("/reset")
async def reset_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[Any]:
    """How one comes by a code, and the form for it."""
    return await _reset(request, slug, db)


@post("/reset")
async def reset(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """Another password, by a code that the shop gave; logged in with it, here alone."""
    sent = await form(request)
    login, address = sent.text("login", 254), address_of(request)
    try:
        shop_id = (await entry_of(db, slug)).shop_id
        await attempts.shopper_resets(db, shop_id, login, address, datetime.now(UTC))
        _same(sent.secret("password"), sent.secret("again"))
        async with visiting(db, request, slug) as visit:
            given = await membership.try_code(visit.connection, login, visit.now)
        stored = await membership.proven_by_code(given, sent.text("code", 40), sent.secret("password"))
        assert given is not None
        async with visiting(db, request, slug) as visit:
            visit.enter(
                await membership.reset_password(
                    visit.connection, shop_id, await visit.known(), given, stored, address, visit.now
                )
            )
            return go(request, visit, "/me?said=password")
    except Refused as error:
        return await _reset(request, slug, db, error, login)


def _same(password: str, again: str) -> None:
    if password != again:
        raise Refused("password.again", "The two passwords are not the same.", "Type them again.")


async def _account(
    request: Request[Any, Any, Any], slug: str, db: Database, error: Refused | None = None
) -> Response[Any]:
    async with visiting(db, request, slug) as visit:
        if visit.member is None:
            return go(request, visit, "/login")
        return await _shown(request, visit, "me_account.html", error)


async def _reset(
    request: Request[Any, Any, Any], slug: str, db: Database, error: Refused | None = None, typed: str = ""
) -> Response[Any]:
    async with visiting(db, request, slug) as visit:
        if visit.member is not None:
            return go(request, visit, "/me/account")
        return await _shown(request, visit, "reset.html", error, login=typed, minutes=_MINUTES)


async def _shown(
    request: Request[Any, Any, Any], visit: Visit, template: str, error: Refused | None, **context: object
) -> Response[str]:
    often = isinstance(error, TooOften)
    return await shown(
        request,
        visit,
        template,
        tab="me",
        status=(429 if often else 409) if error else 200,
        headers={"Retry-After": str(error.wait_s)} if isinstance(error, TooOften) else None,
        problem=why(visit.language, error) if error else "",
        **context,
    )


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [account_page, rename, change_password, reset_page, reset]
