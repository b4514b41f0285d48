"""``/merchant/<slug>/staff``: who works in the shop, in which role; who was invited. Owners only."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import staff
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import ROLES, Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root

MemberDeed = Literal["role", "remove", "sessions"]


@get("/staff", opt=needs(Permission.EDIT_STAFF))
async def staff_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """Who works here, and how many may."""
    return await _page(request, shop_visit, db)


@post("/staff/invite", status_code=200, opt=needs(Permission.EDIT_STAFF))
async def invite(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """A link by which somebody joins, shown on this answer alone."""
    role = (await form(request)).text("role")
    try:
        async with db.identity(shop_visit.shop.shop_id) as connection:
            token = await staff.invite(connection, shop_visit.shop.shop_id, role, shop_visit.by, shop_visit.visit.now)
    except Refused as error:
        return await _page(request, shop_visit, db, error)
    return merchant_page(
        request, "shop/invited.html", shop_visit, role=role, link=f"{settings.base_url.rstrip('/')}/link/{token}"
    )


@post("/staff/withdraw", opt=needs(Permission.EDIT_STAFF))
async def withdraw(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """An invitation leads nowhere any more."""
    link = (await form(request)).text("link")

    async def work(connection: Connection) -> None:
        await staff.withdraw(connection, shop_visit.shop.shop_id, link, shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.identity(shop_visit.shop.shop_id),
        work,
        lambda error: _page(request, shop_visit, db, error),
        f"{root(shop_visit)}/staff?said=saved",
    )


@post("/staff/{account_id:uuid}/{what:str}", opt=needs(Permission.EDIT_STAFF))
async def change_member(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    account_id: FromPath[UUID],
    what: FromPath[MemberDeed],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another role; out; signed out everywhere. The last owner stays one."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        shop_id, by, now = shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now
        match what:
            case "role":
                await staff.set_role(connection, shop_id, account_id, sent.text("role"), by, now)
            case "remove":
                await staff.remove(connection, shop_id, account_id, by, now)
            case "sessions":
                await staff.end_sessions(connection, shop_id, account_id, by, now)

    # Who has removed himself, or is an owner no more, has no business on this page.
    still = what == "sessions" or account_id != shop_visit.visit.session.account_id or sent.text("role") == "owner"
    to = f"{root(shop_visit)}/staff?said=saved" if still else "/merchant"
    return await deed(
        db.identity(shop_visit.shop.shop_id), work, lambda error: _page(request, shop_visit, db, error), to
    )


async def _page(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, refused: Refused | None = None
) -> Response[str]:
    async with db.identity(shop_visit.shop.shop_id) as connection:
        members = await staff.members(connection, shop_visit.shop.shop_id)
        invitations = await staff.invitations(connection, shop_visit.shop.shop_id, shop_visit.visit.now)
        most = await staff.most(connection, shop_visit.shop.shop_id)
    return merchant_page(
        request,
        "shop/staff.html",
        shop_visit,
        refused,
        members=members,
        invitations=invitations,
        most=most,
        roles=ROLES,
        me=shop_visit.visit.session.account_id,
    )


HANDLERS = [staff_page, invite, withdraw, change_member]
