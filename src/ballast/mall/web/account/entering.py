"""``/signin`` and ``/signout``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect

from ballast.mall import accounts, sessions, signin
from ballast.mall.db import Database
from ballast.mall.ids import token_hash
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web import guard
from ballast.mall.web.address import inside
from ballast.mall.web.render import page
from ballast.mall.web.shell import other_language, refused_text
from ballast.mall.web.texts import language_of


class SignInForm(msgspec.Struct):
    """What is typed; `next` is where it leads."""

    login: str
    password: str
    code: str = ""
    next: str = ""


@get("/signin")
async def signin_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The form."""
    return _form(request, "", request.query_params.get("next", ""))


@post("/signin")
async def enter(
    request: Request[Any, Any, Any],
    data: Annotated[SignInForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """A session in a cookie of a new token, and a new CSRF token: neither was known to anybody before."""
    attempt = signin.Attempt(
        login=data.login,
        password=data.password,
        code=data.code,
        address=guard.address_of(request),
        agent=request.headers.get("user-agent", ""),
        replaces=request.cookies.get(guard.COOKIE, ""),
    )
    try:
        entered = await signin.sign_in(db, accounts.safe(settings.secret), attempt, datetime.now(UTC))
    except signin.TooOften as error:
        return _form(request, data.login, data.next, error, 429, {"Retry-After": str(error.wait_s)})
    except Refused as error:
        return _form(request, data.login, data.next, error, 422)
    home = "/platform" if entered.account.operator else "/merchant"
    answer = Redirect(inside(data.next, home), status_code=303)
    answer.set_cookie(session_cookie(entered.token, settings))
    answer.delete_cookie("csrftoken")
    return answer


@post("/signout")
async def leave(request: Request[Any, Any, Any], db: NamedDependency[Database]) -> Response[Any]:
    """The session ends, here and in the database."""
    token, now = request.cookies.get(guard.COOKIE, ""), datetime.now(UTC)
    async with db.identity(passing=True) as connection:
        session = await sessions.look_up(connection, token, now)
        if session is not None:
            await sessions.revoke(connection, session.account_id, token_hash(token), now)
    answer = Redirect("/signin?said=signed_out", status_code=303)
    answer.delete_cookie(guard.COOKIE)
    answer.delete_cookie("csrftoken")
    return answer


def session_cookie(token: str, settings: Settings) -> Cookie:
    """Out of reach of scripts, and not sent by what other sites post here."""
    return Cookie(
        key=guard.COOKIE,
        value=token,
        path="/",
        max_age=int(sessions.LASTS.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=settings.secure_cookies,
    )


def _form(
    request: Request[Any, Any, Any],
    login: str,
    back: str,
    refused: Refused | None = None,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response[str]:
    language = language_of(request)
    return page(
        request,
        "account/signin.html",
        status=status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        login=login,
        back=inside(back, ""),
        said=request.query_params.get("said", "") in ("signed_out", "password_set"),
        said_name=request.query_params.get("said", ""),
        refused=refused_text(refused, language) if refused else "",
        other_language=other_language(request),
    )


HANDLERS = [signin_page, enter, leave]
