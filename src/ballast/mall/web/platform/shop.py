"""``/platform/shops/<id>``: how a shop stands, what it pays, what it was given, how it is reached, what was done to it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.params import Body, FromPath
from litestar.response import Redirect

from ballast.mall import audit, platform, service, staff
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.standing import moves_from
from ballast.mall.settings import Settings
from ballast.mall.web.guard import Visit
from ballast.mall.web.platform.frame import platform_page, terms


class MoveForm(msgspec.Struct):
    """Another status, and why."""

    move: Literal["suspend", "reopen", "close"]
    reason: str = ""
    grace_days: int = 30


class SubscriptionForm(msgspec.Struct):
    """So many months of a plan; `key` makes it happen once."""

    key: UUID
    plan: str
    months: int
    paid_yuan: str


class ExtensionForm(msgspec.Struct):
    """So many days more; `key` makes it happen once."""

    key: str
    days: int
    reason: str


class HostForm(msgspec.Struct):
    """A host name."""

    host: str


class IndustryForm(msgspec.Struct):
    """An industry's code."""

    industry: str


@get("/shops/{shop_id:uuid}")
async def shop_page(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
) -> Response[str]:
    """All of it on one page."""
    return await _page(request, shop_id, visit, db)


@post("/shops/{shop_id:uuid}/move")
async def move(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[MoveForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Suspend, reopen or close."""
    try:
        async with db.platform(shop_id) as connection:
            match data.move:
                case "suspend":
                    await platform.suspend(connection, shop_id, data.reason, visit.by, visit.now)
                case "reopen":
                    await platform.reopen(connection, shop_id, data.reason, visit.by, visit.now)
                case "close":
                    await platform.close(connection, shop_id, data.reason, data.grace_days, visit.by, visit.now)
    except Refused as error:
        return await _page(request, shop_id, visit, db, error)
    return _back(shop_id, f"shop_{data.move}")


@post("/shops/{shop_id:uuid}/subscribe")
async def subscribe(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[SubscriptionForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Months that were paid for."""
    try:
        paid_fen = parse_yuan(data.paid_yuan)
        async with db.platform(shop_id) as connection:
            await service.subscribe(
                connection, shop_id, data.key, data.plan, data.months, paid_fen, visit.by, visit.now
            )
    except Refused as error:
        return await _page(request, shop_id, visit, db, error)
    return _back(shop_id, "subscribed")


@post("/shops/{shop_id:uuid}/extend")
async def extend(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[ExtensionForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Days that are given."""
    try:
        async with db.platform(shop_id) as connection:
            await service.extend_service(connection, shop_id, data.key, data.days, data.reason, visit.by, visit.now)
    except Refused as error:
        return await _page(request, shop_id, visit, db, error)
    return _back(shop_id, "extended")


@post("/shops/{shop_id:uuid}/hosts/add")
async def add_host(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[HostForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another way to it."""
    try:
        async with db.platform(shop_id) as connection:
            await platform.add_host(connection, shop_id, data.host, visit.by, visit.now)
    except Refused as error:
        return await _page(request, shop_id, visit, db, error)
    return _back(shop_id, "saved")


@post("/shops/{shop_id:uuid}/hosts/remove")
async def remove_host(
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[HostForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """One way less."""
    async with db.platform(shop_id) as connection:
        await platform.remove_host(connection, shop_id, data.host, visit.by, visit.now)
    return _back(shop_id, "saved")


@post("/shops/{shop_id:uuid}/industry")
async def set_industry(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    data: Annotated[IndustryForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another industry."""
    try:
        async with db.platform(shop_id) as connection:
            await platform.set_industry(connection, shop_id, data.industry, visit.by, visit.now)
    except Refused as error:
        return await _page(request, shop_id, visit, db, error)
    return _back(shop_id, "saved")


@post("/shops/{shop_id:uuid}/owner", status_code=200)
async def invite_owner(
    request: Request[Any, Any, Any],
    shop_id: FromPath[UUID],
    visit: NamedDependency[Visit],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """Another invitation to own it, shown on this answer alone."""
    async with db.platform(shop_id) as connection:
        shop = await platform.shop(connection, shop_id)
        if shop is None:
            raise NotFoundException
        token = await platform.invite_owner(connection, shop_id, visit.by, visit.now)
    return platform_page(
        request,
        "link.html",
        visit,
        heading="platform.link.invited",
        about=shop.name,
        link=f"{settings.base_url.rstrip('/')}/link/{token}",
        explained="platform.link.owner",
        back=f"/platform/shops/{shop_id}",
    )


async def _page(
    request: Request[Any, Any, Any], shop_id: UUID, visit: Visit, db: Database, refused: Refused | None = None
) -> Response[str]:
    async with db.platform(shop_id) as connection:
        shop = await platform.shop(connection, shop_id)
        if shop is None:
            raise NotFoundException
        hosts = await platform.hosts(connection, shop_id)
        subscriptions = await service.subscriptions(connection, shop_id)
        extensions = await service.extensions(connection, shop_id)
        lines = await audit.platform_lines(connection, shop_id=shop_id, most=20)
        plans, industries = await terms(connection)
    async with db.identity(shop_id) as connection:
        members = await staff.members(connection, shop_id)
        invitations = await staff.invitations(connection, shop_id, visit.now)
    return platform_page(
        request,
        "shop.html",
        visit,
        refused,
        shop=shop,
        standing=shop.standing(visit.now).value,
        moves=moves_from(shop.status),
        hosts=hosts,
        subscriptions=subscriptions,
        extensions=extensions,
        lines=lines,
        plans=plans,
        industries=industries,
        members=members,
        invitations=invitations,
        key=new_id(),
    )


def _back(shop_id: UUID, said: str) -> Redirect:
    return Redirect(f"/platform/shops/{shop_id}?said={said}", status_code=303)


HANDLERS = [shop_page, move, subscribe, extend, add_host, remove_host, set_industry, invite_owner]
