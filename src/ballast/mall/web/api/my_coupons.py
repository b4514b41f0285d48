"""For a shopper's program: coupons that the shop offers, taking one, those that the shopper holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid5

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from ballast.mall import attempts, coupons
from ballast.mall.coupons import Held
from ballast.mall.db import Database
from ballast.mall.owner import Owner
from ballast.mall.rules.refused import Refused
from ballast.mall.web.api.calls import VISITOR, Key, shopper
from ballast.mall.web.api.shapes import (
    CouponInfo,
    CouponList,
    CouponRequest,
    OfferedCouponInfo,
    OfferedCouponList,
    TakenInfo,
    shaped,
)
from ballast.mall.web.guard import address_of
from ballast.mall.web.store.visit import entry_of


@get("/coupons", security=VISITOR)
async def list_offered_coupons(request: Request[Any, Any, Any], slug: FromPath[str]) -> OfferedCouponList:
    """Coupons that the shop offers, and whether this shopper can take one. Those with a code are for who knows it."""
    async with shopper(request, slug) as call:
        found = await coupons.offered(call.connection, call.owner, call.now)
    return OfferedCouponList(tuple(shaped(one, OfferedCouponInfo) for one in found))


@get("/me/coupons", security=VISITOR)
async def list_coupons(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    used: Annotated[
        bool, QueryParameter(description="Also those that were used, are over, or are not good yet.")
    ] = False,
) -> CouponList:
    """Coupons that can be used now: their `claim_id` goes into a quote or an order."""
    async with shopper(request, slug) as call:
        found = [_held(one, call.now) for one in await coupons.held(call.connection, call.owner, call.now)]
    return CouponList(tuple(one for one in found if used or one.state == "good"))


@post("/me/coupons", security=VISITOR)
async def take_coupon(
    request: Request[Any, Any, Any],
    slug: FromPath[str],
    db: NamedDependency[Database],
    data: JSONBody[CouponRequest],
    key: Key,
) -> TakenInfo:
    """Take a coupon: one that is offered, or by the code that somebody told. The same key takes one."""
    if (data.coupon_id is None) == (not data.code.strip()):
        raise Refused("coupon.which", "A coupon's id or a code is needed, and not both.", "Send one of the two.")
    shop_id = (await entry_of(db, slug)).shop_id
    async with shopper(request, slug) as call:
        _ = call.known
    await attempts.shopper_takes_coupon(db, shop_id, address_of(request), datetime.now(UTC))
    async with shopper(request, slug) as call:
        claim_id = _claim_id(call.owner, key)
        await coupons.take(call.connection, call.owner, claim_id, call.now, coupon_id=data.coupon_id, code=data.code)
    return TakenInfo(claim_id)


def _claim_id(owner: Owner, key: str) -> UUID:
    """The claim of a key. As in a form the claim's own id makes the deed one, wherever it is done again."""
    return uuid5(owner.id, key)


def _held(one: Held, now: datetime) -> CouponInfo:
    return msgspec.convert({**msgspec.structs.asdict(one), "state": one.state(now)}, CouponInfo, from_attributes=True)


HANDLERS = [list_offered_coupons, list_coupons, take_coupon]
