"""``/link/<token>``: where an invitation, the first operator's link or one for a new password leads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body, FromPath
from litestar.response import Redirect

from ballast.mall import accounts, links, passwords, sessions, welcome
from ballast.mall.db import Database
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web import guard
from ballast.mall.web.account.entering import session_cookie
from ballast.mall.web.render import page
from ballast.mall.web.shell import refused_text
from ballast.mall.web.texts import language_of


class NewAccountForm(msgspec.Struct):
    """An account that is made by a link."""

    login: str
    name: str
    password: str
    again: str


class NewPasswordForm(msgspec.Struct):
    """Another password, by a link."""

    password: str
    again: str


@get("/link/{token:str}")
async def link_page(
    request: Request[Any, Any, Any], token: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """What the link is for, with its form. Looking at it does not use it: mail programs look at links."""
    return await _page(request, token, db)


@post("/link/{token:str}/account")
async def make_account(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    data: Annotated[NewAccountForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """An account, signed in at once."""
    now, address = datetime.now(UTC), guard.address_of(request)
    try:
        login = accounts.login_from(data.login)
        _check(data.password, data.again, login)
        async with db.identity() as connection:
            await links.read(connection, token, now)  # who guesses at links makes nobody hash
        newcomer = welcome.Newcomer(login, data.name, await passwords.hashed(data.password), language_of(request))
        async with db.identity() as connection:
            account_id = await welcome.join_as_new(connection, token, newcomer, address, now)
            made = await sessions.start(connection, account_id, address, request.headers.get("user-agent", ""), now)
            account = await accounts.by_id(connection, account_id)
    except Refused as error:
        return await _page(request, token, db, error, {"login": data.login, "name": data.name})
    answer = Redirect("/platform" if account and account.operator else "/merchant", status_code=303)
    answer.set_cookie(session_cookie(made, settings))
    answer.delete_cookie("csrftoken")
    return answer


@post("/link/{token:str}/join")
async def join(request: Request[Any, Any, Any], token: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """An account that is signed in follows an invitation."""
    now = datetime.now(UTC)
    try:
        async with db.identity() as connection:
            session = await sessions.look_up(connection, request.cookies.get(guard.COOKIE, ""), now)
            if session is None:
                return Redirect(f"/signin?next=/link/{token}", status_code=303)
            await welcome.join(connection, token, session.by(guard.address_of(request)), now)
    except Refused as error:
        return await _page(request, token, db, error)
    return Redirect("/merchant", status_code=303)


@post("/link/{token:str}/password")
async def set_password(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    data: Annotated[NewPasswordForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another password; one signs in with it afterwards, with a code where one is asked for."""
    now = datetime.now(UTC)
    try:
        async with db.identity() as connection:
            link = await links.read(connection, token, now)
        _check(data.password, data.again, link.login)
        hashed = await passwords.hashed(data.password)
        async with db.identity() as connection:
            await welcome.set_password(connection, token, hashed, guard.address_of(request), now)
    except Refused as error:
        return await _page(request, token, db, error)
    answer = Redirect("/signin?said=password_set", status_code=303)
    answer.delete_cookie(guard.COOKIE)
    return answer


async def _page(
    request: Request[Any, Any, Any],
    token: str,
    db: Database,
    refused: Refused | None = None,
    typed: dict[str, str] | None = None,
) -> Response[str]:
    language, now, link = language_of(request), datetime.now(UTC), None
    async with db.identity() as connection:
        try:
            link = await links.read(connection, token, now)
        except Refused as error:
            refused = error
        session = await sessions.look_up(connection, request.cookies.get(guard.COOKIE, ""), now)
    return page(
        request,
        "account/link.html",
        status=422 if link and refused else 200 if link else 410,
        # The address is a secret: it is told to no other site, and kept in no cache.
        headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
        link=link,
        token=token,
        session=session,
        typed=typed or {"login": "", "name": ""},
        least=accounts.LEAST_PASSWORD,
        refused=refused_text(refused, language) if refused else "",
        other_language={
            "zh": f"/link/{token}?lang=zh",
            "en": f"/link/{token}?lang=en",
        },
    )


def _check(password: str, again: str, login: str) -> None:
    if password != again:
        raise Refused("password.again", "The two passwords are not the same.", "Type them again.")
    accounts.check_password(password, login)


HANDLERS = [link_page, make_account, join, set_password]
