"""Whether a customer may take a coupon, and use one that he took. What it does to an order is for `pricing`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from ballast.mall.rules.discounts import CouponTerms, Period


class CouponStatus(StrEnum):
    """What the merchant wants of it."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    """No more are given out; those given out stay good."""
    REVOKED = "revoked"
    """None is good any more."""


class ClaimStatus(StrEnum):
    """What became of a coupon that a customer took."""

    UNUSED = "unused"
    HELD = "held"
    """By an order that waits for its payment."""
    USED = "used"


class CouponReason(StrEnum):
    """Why not: keys of texts."""

    NOT_OFFERED = "coupon.not_offered"
    NOT_YET = "coupon.not_yet"
    OVER = "coupon.over"
    GONE = "coupon.gone"
    HAS_ENOUGH = "coupon.has_enough"
    NOT_YOURS = "coupon.not_yours"
    HELD = "coupon.held"
    USED = "coupon.used"
    REVOKED = "coupon.revoked"


class Coupon(msgspec.Struct, frozen=True):
    """A coupon as a shop offers it."""

    terms: CouponTerms
    status: CouponStatus
    period: Period = Period()
    """In which it is given out and used."""
    left: int | None = None
    """How many can still be given out; None: any number."""
    per_customer: int | None = 1
    """How many one customer may take; None: any number."""


class Claim(msgspec.Struct, frozen=True):
    """A coupon that a customer took."""

    customer_id: UUID
    status: ClaimStatus = ClaimStatus.UNUSED
    order_id: UUID | None = None
    """The order that holds or used it."""
    expires_at: datetime | None = None
    """Its own end, where it is good for some days after it was taken."""


def why_not_take(coupon: Coupon, taken: int, now: datetime) -> CouponReason | None:
    """Why a customer who took `taken` of it cannot take one (more) at `now`; None: he can."""
    if coupon.status != CouponStatus.ACTIVE:
        return CouponReason.NOT_OFFERED
    if coupon.period.over(now):
        return CouponReason.OVER
    if coupon.period.ahead(now):
        return CouponReason.NOT_YET
    if coupon.per_customer is not None and taken >= coupon.per_customer:
        return CouponReason.HAS_ENOUGH
    if coupon.left is not None and coupon.left <= 0:
        return CouponReason.GONE
    return None


def why_not_use(
    coupon: Coupon, claim: Claim, customer_id: UUID, now: datetime, order_id: UUID | None = None
) -> CouponReason | None:
    """Why this customer cannot use the claim at `now`; None: he can. `order_id`: the order that may hold it already."""
    if claim.customer_id != customer_id:
        return CouponReason.NOT_YOURS
    if claim.status == ClaimStatus.USED:
        return CouponReason.USED
    if claim.status == ClaimStatus.HELD and (order_id is None or claim.order_id != order_id):
        return CouponReason.HELD
    if coupon.status in (CouponStatus.REVOKED, CouponStatus.DRAFT):
        return CouponReason.REVOKED
    if coupon.period.over(now) or (claim.expires_at is not None and now >= claim.expires_at):
        return CouponReason.OVER
    if coupon.period.ahead(now):
        return CouponReason.NOT_YET
    return None
