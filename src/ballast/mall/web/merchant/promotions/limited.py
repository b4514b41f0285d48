"""``/merchant/<slug>/promotions/limited``: limited-time prices (限时折扣), SKU by SKU. A search shows SKUs; those
that are given a price get one. What overlaps is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from ballast.mall import limited_prices, pick, promotions
from ballast.mall.db import Connection, Database
from ballast.mall.promotions import Named
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.promotions.turning import turning
from ballast.mall.web.merchant.typed import filled, ids, moment, typed_moment, whole_or_none, yuan

_A_PAGE = 50


@get("/promotions/limited", opt=needs(Permission.EDIT_PROMOTIONS))
async def limited_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """The newest first."""
    return await _list(request, shop_visit, db, before=before)


@get("/promotions/limited/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def new_limited(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    q: Annotated[str, QueryParameter(max_length=100)] = "",
) -> Response[str]:
    """The SKUs that ``?q=`` finds, with fields for their prices; a day from now on."""
    now = shop_visit.visit.now
    day = {"q": q, "starts_at": typed_moment(now), "ends_at": typed_moment(now + timedelta(days=1))}
    return await _new(request, shop_visit, db, filled(day))


@post("/promotions/limited/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def add_limited(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """One for each SKU that was given a price."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        named = Named(
            name=sent.text("name", 100),
            name_en=sent.text("name_en", 100),
            starts_at=moment(sent, "starts_at"),
            ends_at=moment(sent, "ends_at"),
        )
        prices = [
            limited_prices.Price(
                sku, yuan(sent, f"price-{sku}"), whole_or_none(sent, f"quota-{sku}"), whole_or_none(sent, f"each-{sku}")
            )
            for sku in ids(sent, "sku")
            if sent.text(f"price-{sku}")
        ]
        await limited_prices.add(
            connection, shop_visit.shop.shop_id, named, prices, shop_visit.by, shop_visit.visit.now
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _new(request, shop_visit, db, sent, error),
        f"{root(shop_visit)}/promotions/limited?said=saved",
    )


async def _list(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    before: UUID | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await limited_prices.limited_prices(connection, before=before, most=_A_PAGE + 1)
    now = shop_visit.visit.now
    return merchant_page(
        request,
        "promotions/limited.html",
        shop_visit,
        refused,
        prices=[(one, promotions.state(one.starts_at, one.ends_at, one.stopped_at, now)) for one in found[:_A_PAGE]],
        older=with_query(request, before=str(found[_A_PAGE - 1].promotion_id)) if len(found) > _A_PAGE else "",
        overlaps=refused.others if isinstance(refused, limited_prices.Overlap) else (),
        tab="limited",
    )


async def _new(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, sent: Form, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await pick.products(connection, sent.text("q"), 20)
        skus = await pick.skus(connection, found)
    return merchant_page(
        request,
        "promotions/limited_new.html",
        shop_visit,
        refused,
        sent=sent,
        skus=skus,
        overlaps=refused.others if isinstance(refused, limited_prices.Overlap) else (),
        tab="limited",
    )


_turn = turning("limited", "/promotions/limited", _list, "/promotions/limited")
HANDLERS = [
    limited_page,
    new_limited,
    add_limited,
    _turn,
]
