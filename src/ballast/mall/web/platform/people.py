"""``/platform/people``: the operators; any account, to help somebody who cannot sign in or to keep somebody out."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.params import Body, QueryParameter
from litestar.response import Redirect

from ballast.mall import accounts, audit, links, operators, sessions
from ballast.mall.db import Database
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page


class PersonForm(msgspec.Struct):
    """What is done with an account."""

    deed: Literal["dismiss", "disable", "enable", "password_link", "totp_off"]
    account_id: UUID


@get("/people")
async def people_page(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
    q: Annotated[str, QueryParameter(max_length=100)] = "",
) -> Response[str]:
    """The operators, or who is looked for."""
    return await _page(request, visit, db, q)


@post("/people/invite", status_code=200)
async def invite(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """An invitation among the operators, shown on this answer alone."""
    async with db.platform() as connection:
        token = await operators.invite(connection, visit.by, visit.now)
    return _link(request, visit, settings, token, "platform.link.invited", "", "platform.link.operator")


@post("/people/do", status_code=200)
async def do(
    request: Request[Any, Any, Any],
    visit: NamedDependency[Visit],
    data: Annotated[PersonForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """One deed with one account."""
    try:
        if data.deed in ("password_link", "totp_off"):
            async with db.identity() as connection:
                account = await accounts.by_id(connection, data.account_id)
                if account is None:
                    raise Refused("account.unknown", f"There is no account {data.account_id}.")
                if data.deed == "password_link":
                    token = await links.new_password(connection, data.account_id, visit.by, visit.now)
                else:
                    await accounts.turn_totp_off(connection, data.account_id)
                    await audit.note(connection, visit.by, "account.totp_off", visit.now, subject=account.login)
            if data.deed == "password_link":
                return _link(
                    request,
                    visit,
                    settings,
                    token,
                    "platform.link.password",
                    account.login,
                    "platform.link.password_how",
                )
        else:
            async with db.platform() as connection:
                deed = {"dismiss": operators.dismiss, "disable": operators.disable, "enable": operators.enable}[
                    data.deed
                ]
                await deed(connection, data.account_id, visit.by, visit.now)
            if data.deed == "disable":  # its sessions hold no more; nor again when it is enabled
                async with db.identity() as connection:
                    await sessions.revoke_all(connection, data.account_id, visit.now)
    except Refused as error:
        return await _page(request, visit, db, "", error)
    return Redirect("/platform/people?said=saved", status_code=303)


def _link(
    request: Request[Any, Any, Any],
    visit: Visit,
    settings: Settings,
    token: str,
    heading: str,
    about: str,
    explained: str,
) -> Response[str]:
    return platform_page(
        request,
        "link.html",
        visit,
        heading=heading,
        about=about,
        link=f"{settings.base_url.rstrip('/')}/link/{token}",
        explained=explained,
        back="/platform/people",
    )


async def _page(
    request: Request[Any, Any, Any], visit: Visit, db: Database, text: str, refused: Refused | None = None
) -> Response[str]:
    async with db.platform() as connection:
        found = await operators.people(connection, text)
    return platform_page(request, "people.html", visit, refused, people=found, text=text)


HANDLERS = [people_page, invite, do]
