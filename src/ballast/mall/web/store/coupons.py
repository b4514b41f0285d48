"""Taking coupons (领券): what the shop offers, a code that was told, and what one has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from ballast.mall import attempts, coupons, promotions
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.rules.refused import Refused
from ballast.mall.web.forms import form
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.frame import go, shown, why
from ballast.mall.web.store.visit import entry_of, visiting


@get("/coupons")
async def coupons_page(
    request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]
) -> Response[str]:
    """What can be taken, what was, and the full reductions that hold by themselves."""
    return await _page(request, slug, db)


@post("/coupons")
async def take(request: Request[Any, Any, Any], slug: FromPath[str], db: NamedDependency[Database]) -> Response[Any]:
    """Take one: of those that are offered, or by its code. The form's key makes it one, however often it is sent."""
    sent = await form(request)
    try:
        shop_id = (await entry_of(db, slug)).shop_id
        await attempts.shopper_takes_coupon(db, shop_id, address_of(request), datetime.now(UTC))
        async with visiting(db, request, slug) as visit:
            await coupons.take(
                visit.connection,
                await visit.owner(),
                sent.id("key"),
                visit.now,
                coupon_id=sent.id("coupon") if sent.text("coupon") else None,
                code=sent.text("code", 30),
            )
    except Refused as error:
        return await _page(request, slug, db, error)
    return go(request, visit, "/coupons?said=taken")


async def _page(
    request: Request[Any, Any, Any], slug: str, db: Database, error: Refused | None = None
) -> Response[str]:
    async with visiting(db, request, slug) as visit:
        owner = visit.visitor.owner if visit.visitor else None
        mine = await coupons.held(visit.connection, owner, visit.now) if owner else ()
        return await shown(
            request,
            visit,
            "coupons.html",
            tab="me",
            status=409 if error else 200,
            problem=why(visit.language, error) if error else "",
            offers=[(one, new_id()) for one in await coupons.offered(visit.connection, owner, visit.now)],
            mine=[(one, one.state(visit.now)) for one in mine],
            reductions=await promotions.running_reductions(visit.connection, visit.now),
            key=new_id(),
        )


def routes() -> list[ControllerRouterHandler]:
    """For the storefront's router."""
    return [coupons_page, take]
