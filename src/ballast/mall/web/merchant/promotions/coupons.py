"""``/merchant/<slug>/promotions``: the coupons, how many were taken and used; making, changing, stopping one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from ballast.mall import promotions
from ballast.mall.db import Connection, Database
from ballast.mall.promotions import NewCoupon
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.promotions import scope
from ballast.mall.web.merchant.promotions.turning import turning
from ballast.mall.web.merchant.typed import (
    filled,
    moment,
    typed_moment,
    whole,
    whole_or_none,
    yuan,
    yuan_or_none,
)

_A_PAGE = 50


@get("/promotions", opt=needs(Permission.EDIT_PROMOTIONS))
async def coupons_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """The newest first."""
    return await _list(request, shop_visit, db, before=before)


@get("/promotions/coupons/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def new_coupon(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """The empty form: a week from now on."""
    now = shop_visit.visit.now
    empty = filled(
        {
            "kind": "fixed",
            "scope": "all",
            "per_customer": 1,
            "threshold": "0",
            "starts_at": typed_moment(now),
            "ends_at": typed_moment(now + timedelta(days=7)),
        }
    )
    return await _new(request, shop_visit, db, empty)


@post("/promotions/coupons/new", opt=needs(Permission.EDIT_PROMOTIONS))
async def add_coupon(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """A new coupon; ``act=find`` looks for products and makes none."""
    sent = await form(request)
    if sent.text("act") == "find":
        return await _new(request, shop_visit, db, sent)

    async def work(connection: Connection) -> None:
        made = _read(sent)
        await promotions.add_coupon(connection, shop_visit.shop.shop_id, made, shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _new(request, shop_visit, db, sent, error),
        f"{root(shop_visit)}/promotions?said=saved",
    )


@get("/promotions/coupons/{coupon_id:uuid}", opt=needs(Permission.EDIT_PROMOTIONS))
async def coupon_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    coupon_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[str]:
    """What may be changed of one."""
    return await _one(request, shop_visit, db, coupon_id, None)


@post("/promotions/coupons/{coupon_id:uuid}", opt=needs(Permission.EDIT_PROMOTIONS))
async def change_coupon(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    coupon_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Another name, number or end."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await promotions.change_coupon(
            connection,
            shop_visit.shop.shop_id,
            coupon_id,
            name=sent.text("name", 100),
            name_en=sent.text("name_en", 100),
            per_customer=whole(sent, "per_customer"),
            stock=whole_or_none(sent, "stock"),
            ends_at=moment(sent, "ends_at"),
            by=shop_visit.by,
            now=shop_visit.visit.now,
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _one(request, shop_visit, db, coupon_id, sent, error),
        f"{root(shop_visit)}/promotions?said=saved",
    )


def _read(sent: Form) -> NewCoupon:
    fixed = sent.text("kind") != "percent"
    return NewCoupon(
        name=sent.text("name", 100),
        name_en=sent.text("name_en", 100),
        code=sent.text("code", 30),
        amount_fen=yuan(sent, "amount") if fixed else None,
        # Hundredths of a percent are to a percent what fen are to yuan.
        percent_bp=None if fixed else yuan(sent, "percent"),
        cap_fen=None if fixed else yuan_or_none(sent, "cap"),
        threshold_fen=yuan_or_none(sent, "threshold") or 0,
        scope=scope.read(sent),
        per_customer=whole(sent, "per_customer"),
        stock=whole_or_none(sent, "stock"),
        starts_at=moment(sent, "starts_at"),
        ends_at=moment(sent, "ends_at"),
    )


async def _list(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    refused: Refused | None = None,
    before: UUID | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await promotions.coupons(connection, before=before, most=_A_PAGE + 1)
    now = shop_visit.visit.now
    return merchant_page(
        request,
        "promotions/coupons.html",
        shop_visit,
        refused,
        coupons=[(one, promotions.state(one.starts_at, one.ends_at, one.stopped_at, now)) for one in found[:_A_PAGE]],
        older=with_query(request, before=str(found[_A_PAGE - 1].coupon_id)) if len(found) > _A_PAGE else "",
        tab="coupons",
    )


async def _new(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, sent: Form, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        goods = await scope.choices(connection, sent)
    return merchant_page(request, "promotions/coupon_new.html", shop_visit, refused, sent=sent, tab="coupons", **goods)


async def _one(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    coupon_id: UUID,
    sent: Form | None,
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await promotions.coupon(connection, coupon_id)
    shown = sent or filled(
        {
            "name": found.name,
            "name_en": found.name_en,
            "per_customer": found.per_customer,
            "stock": found.stock,
            "ends_at": typed_moment(found.ends_at),
        }
    )
    return merchant_page(
        request, "promotions/coupon.html", shop_visit, refused, coupon=found, sent=shown, tab="coupons"
    )


_turn = turning("coupon", "/promotions/coupons", _list, "/promotions")
HANDLERS = [
    coupons_page,
    new_coupon,
    add_coupon,
    coupon_page,
    change_coupon,
    _turn,
]
