"""``/account``: name and language, password, second factor, where one is signed in."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import segno
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect

from ballast.mall import accounts, audit, links, passwords, sessions, signin
from ballast.mall.db import Database
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.guard import Visit
from ballast.mall.web.shell import Entry, Menu, admin_page
from ballast.mall.web.texts import Language, translator


class NameForm(msgspec.Struct):
    """How one is called and spoken to."""

    name: str
    language: Language


class PasswordForm(msgspec.Struct):
    """The present password and the next."""

    present: str
    password: str
    again: str


class TotpForm(msgspec.Struct):
    """The secret that the page showed, and a code that an authenticator made of it."""

    present: str
    secret: str = ""
    code: str = ""


class SessionForm(msgspec.Struct):
    """A session by its name; empty: all others."""

    session: str = ""


@get("/")
async def account_page(
    request: Request[Any, Any, Any], visit: NamedDependency[Visit], db: NamedDependency[Database]
) -> Response[str]:
    """All of it on one page."""
    return await _page(request, visit, db)


@post("/name")
async def set_name(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[NameForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another name, another language."""
    try:
        async with db.identity() as connection:
            await accounts.rename(connection, visit.session.account_id, data.name, data.language)
    except Refused as error:
        return await _page(request, visit, db, error)
    answer = Redirect("/account?said=saved", status_code=303)
    answer.set_cookie("lang", data.language, path="/", max_age=365 * 86400, samesite="lax")
    return answer


@post("/password")
async def set_password(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[PasswordForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another password, which ends every other session."""
    me = visit.session
    try:
        await _knows(db, visit, data.present)
        if data.password != data.again:
            raise Refused("password.again", "The two passwords are not the same.", "Type them again.")
        accounts.check_password(data.password, me.login)
        hashed = await passwords.hashed(data.password)
        async with db.identity() as connection:
            await accounts.set_password(connection, me.account_id, hashed)
            await sessions.revoke_all(connection, me.account_id, visit.now, but=me.token_hash)
            await links.end_password_links(connection, me.account_id, visit.now)
            await audit.note(connection, visit.by, "account.password", visit.now, subject=me.login)
    except Refused as error:
        return await _page(request, visit, db, error)
    return Redirect("/account?said=password", status_code=303)


@post("/totp/on")
async def totp_on(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[TotpForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """From now on a sign-in asks for a code."""
    me = visit.session
    try:
        await _knows(db, visit, data.present)
        async with db.identity() as connection:
            safe = accounts.safe(settings.secret)
            await accounts.turn_totp_on(connection, safe, me.account_id, data.secret, data.code, visit.now)
            await sessions.revoke_all(connection, me.account_id, visit.now, but=me.token_hash)
            await audit.note(connection, visit.by, "account.totp_on", visit.now, subject=me.login)
    except Refused as error:
        # The same secret again: the authenticator has it already.
        return await _page(request, visit, db, error, data.secret if len(data.secret) == 32 else "")
    return Redirect("/account?said=totp_on", status_code=303)


@post("/totp/off")
async def totp_off(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[TotpForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """A sign-in asks for the password alone."""
    me = visit.session
    try:
        await _knows(db, visit, data.present)
        async with db.identity() as connection:
            await accounts.turn_totp_off(connection, me.account_id)
            await audit.note(connection, visit.by, "account.totp_off", visit.now, subject=me.login)
    except Refused as error:
        return await _page(request, visit, db, error)
    return Redirect("/account?said=totp_off", status_code=303)


@post("/sessions/end")
async def end_session(
    visit: NamedDependency[Visit],
    data: Annotated[SessionForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """End one session of this account, or all but this one."""
    me = visit.session
    async with db.identity() as connection:
        try:
            hashed = bytes.fromhex(data.session)
        except ValueError:
            hashed = b"?"
        if hashed:
            await sessions.revoke(connection, me.account_id, hashed, visit.now)
        else:
            await sessions.revoke_all(connection, me.account_id, visit.now, but=me.token_hash)
        await audit.note(connection, visit.by, "account.session_ended", visit.now, subject=me.login, all=not hashed)
    return Redirect("/account?said=session_ended", status_code=303)


async def _knows(db: Database, visit: Visit, password: str) -> None:
    """Refused unless it is the present password: a browser that was left open changes nothing."""
    await signin.confirm(db, visit.session.login, password, visit.address, visit.now)


async def _page(
    request: Request[Any, Any, Any],
    visit: Visit,
    db: Database,
    refused: Refused | None = None,
    secret: str = "",
) -> Response[str]:
    me = visit.session
    async with db.identity() as connection:
        places = await sessions.places(connection, me.account_id, visit.now)
        account = await accounts.by_id(connection, me.account_id)
    secret = secret or accounts.new_totp_secret()
    issuer = translator("en")("common.brand")
    drawn = segno.make(accounts.totp_address(secret, me.login, issuer), error="m").svg_inline(
        scale=5, border=2, light="#fff", title="QR"
    )
    entries = [Entry("admin.menu.account", "/account", "user")]
    if me.operator:
        entries.insert(0, Entry("admin.menu.platform", "/platform", "building-store"))
    entries.insert(len(entries) - 1, Entry("admin.menu.my_shops", "/merchant", "shopping-bag"))
    return admin_page(
        request,
        "account/account.html",
        menu=Menu(me.name, "/account", tuple(entries)),
        session=me,
        refused=refused,
        places=places,
        account_name=account.name if account else me.name,
        secret=secret,
        qr=drawn,
        least=accounts.LEAST_PASSWORD,
    )


HANDLERS = [account_page, set_name, set_password, totp_on, totp_off, end_session]
