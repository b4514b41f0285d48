"""``/merchant/<slug>/promotions/reductions``: full reductions (满减) in tiers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

from ballast.mall import promotions
from ballast.mall.db import Connection, Database
from ballast.mall.promotions import MOST_TIERS, NewReduction
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredTier
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.promotions import scope
from ballast.mall.web.merchant.promotions.turning import turning
from ballast.mall.web.merchant.typed import filled, moment, typed_moment, yuan

_A_PAGE = 50


@get("/promotions/reductions", opt=needs(Permission.EDIT_PROMOTIONS))
async def reductions_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """The newest first."""
    return await _list(request, shop_visit, db, before=before)


@get("/promotions/reductions/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def new_reduction(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """The empty form: a week from now on."""
    now = shop_visit.visit.now
    week = {"starts_at": typed_moment(now), "ends_at": typed_moment(now + timedelta(days=7)), "scope": "all"}
    return await _new(request, shop_visit, db, filled(week))


@post("/promotions/reductions/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def add_reduction(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new one; ``act=find`` looks for products and makes none."""
    sent = await form(request)
    if sent.text("act") == "find":
        return await _new(request, shop_visit, db, sent)

    async def work(connection: Connection) -> None:
        made = NewReduction(
            name=sent.text("name", 100),
            name_en=sent.text("name_en", 100),
            tiers=_tiers(sent),
            scope=scope.read(sent),
            starts_at=moment(sent, "starts_at"),
            ends_at=moment(sent, "ends_at"),
        )
        await promotions.add_reduction(connection, shop_visit.shop.shop_id, made, shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _new(request, shop_visit, db, sent, error),
        f"{root(shop_visit)}/promotions/reductions?said=saved",
    )


def _tiers(sent: Form) -> tuple[StoredTier, ...]:
    """Those of which something was typed."""
    return tuple(
        StoredTier(yuan(sent, f"from-{n}"), yuan(sent, f"off-{n}"))
        for n in range(MOST_TIERS)
        if sent.text(f"from-{n}") or sent.text(f"off-{n}")
    )


async def _list(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    before: UUID | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await promotions.reductions(connection, before=before, most=_A_PAGE + 1)
    now = shop_visit.visit.now
    return merchant_page(
        request,
        "promotions/reductions.html",
        shop_visit,
        refused,
        reductions=[
            (one, promotions.state(one.starts_at, one.ends_at, one.stopped_at, now)) for one in found[:_A_PAGE]
        ],
        older=with_query(request, before=str(found[_A_PAGE - 1].promotion_id)) if len(found) > _A_PAGE else "",
        tab="reductions",
    )


async def _new(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, sent: Form, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        goods = await scope.choices(connection, sent)
    return merchant_page(
        request,
        "promotions/reduction_new.html",
        shop_visit,
        refused,
        sent=sent,
        tab="reductions",
        tiers=range(MOST_TIERS),
        **goods,
    )


_turn = turning("reduction", "/promotions/reductions", _list, "/promotions/reductions")
HANDLERS = [
    reductions_page,
    new_reduction,
    add_reduction,
    _turn,
]
