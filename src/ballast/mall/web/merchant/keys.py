"""``/merchant/<slug>/keys``: the keys by which the shop's own software enters. A new one is shown on that answer alone."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from ballast.mall import keys
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.deed import deed
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page

_DAYS = ("90", "30", "365", "0")


@get("/keys", opt=needs(Permission.EDIT_KEYS))
async def keys_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """All of them, and the form for another."""
    return await _page(request, shop_visit, db)


@post("/keys", status_code=200, opt=needs(Permission.EDIT_KEYS))
async def make_key(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """A new key."""
    sent = await request.form()
    name, days = str(sent.get("name", "")).replace("\x00", ""), str(sent.get("days", ""))
    scopes = [str(one) for one in sent.getall("scope", [])]
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            key = await keys.make(
                connection,
                shop_visit.shop.shop_id,
                name=name,
                scopes=scopes,
                days=(int(days) if days in _DAYS else -1) or None,
                by=shop_visit.by,
                now=shop_visit.visit.now,
            )
    except Refused as error:
        return await _page(request, shop_visit, db, error, typed=name, chosen=scopes)
    return await _page(request, shop_visit, db, made=key, made_name=name)


@post("/keys/{key_id:uuid}/revoke", opt=needs(Permission.EDIT_KEYS))
async def revoke_key(
    request: Request[Any, Any, Any],
    key_id: FromPath[UUID],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
) -> Response[Any]:
    """It opens nothing any more."""

    async def work(connection: Connection) -> None:
        await keys.revoke(connection, shop_visit.shop.shop_id, key_id, shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _page(request, shop_visit, db, error),
        f"/merchant/{shop_visit.shop.slug}/keys?said=key_revoked",
    )


async def _page(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    *,
    typed: str = "",
    chosen: list[str] | None = None,
    made: str = "",
    made_name: str = "",
) -> Response[str]:
    now = shop_visit.visit.now
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await keys.listed(connection, now)
    return merchant_page(
        request,
        "keys.html",
        shop_visit,
        refused,
        keys=[(one, one.holds(now)) for one in found],
        scopes=keys.SCOPES,
        days=_DAYS,
        typed=typed,
        chosen=chosen or [],
        made=made,
        made_name=made_name,
    )


HANDLERS = [keys_page, make_key, revoke_key]
