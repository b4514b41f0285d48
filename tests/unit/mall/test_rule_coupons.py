"""Who may take a coupon, and who may use it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ballast.mall.rules.coupons import Claim, ClaimStatus, Coupon, CouponStatus, why_not_take, why_not_use
from ballast.mall.rules.discounts import CouponTerms, Period

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
TERMS = CouponTerms(UUID(int=1), "ten off", off_fen=1000)
ME, ORDER = UUID(int=2), UUID(int=3)
JUST_BEFORE = timedelta(microseconds=1)


def coupon(status: CouponStatus = CouponStatus.ACTIVE, left: int | None = 5, per_customer: int | None = 2) -> Coupon:
    return Coupon(TERMS, status, Period(START, END), left, per_customer)


@pytest.mark.parametrize(
    ("offered", "taken", "now", "reason"),
    [
        (coupon(), 0, START, None),
        (coupon(), 1, END - JUST_BEFORE, None),
        (coupon(), 0, START - JUST_BEFORE, "coupon.not_yet"),
        (coupon(), 0, END, "coupon.over"),
        (coupon(), 2, START, "coupon.has_enough"),
        (coupon(left=0), 0, START, "coupon.gone"),
        (coupon(left=None, per_customer=None), 10**6, START, None),
        (coupon(CouponStatus.PAUSED), 0, START, "coupon.not_offered"),
        (coupon(CouponStatus.DRAFT), 0, START, "coupon.not_offered"),
        (coupon(CouponStatus.REVOKED), 0, START, "coupon.not_offered"),
    ],
)
def test_taking(offered: Coupon, taken: int, now: datetime, reason: str | None) -> None:
    assert why_not_take(offered, taken, now) == reason


@pytest.mark.parametrize(
    ("offered", "claim", "now", "reason"),
    [
        (coupon(), Claim(ME), START, None),
        (coupon(CouponStatus.PAUSED, left=0), Claim(ME), START, None),
        (coupon(), Claim(UUID(int=9)), START, "coupon.not_yours"),
        (coupon(), Claim(ME, ClaimStatus.USED, ORDER), START, "coupon.used"),
        (coupon(), Claim(ME, ClaimStatus.HELD, ORDER), START, None),
        (coupon(), Claim(ME, ClaimStatus.HELD, UUID(int=8)), START, "coupon.held"),
        (coupon(), Claim(ME, ClaimStatus.HELD), START, "coupon.held"),
        (coupon(CouponStatus.REVOKED), Claim(ME), START, "coupon.revoked"),
        (coupon(), Claim(ME), END, "coupon.over"),
        (coupon(), Claim(ME), START - JUST_BEFORE, "coupon.not_yet"),
        (coupon(), Claim(ME, expires_at=START + timedelta(7)), START + timedelta(7), "coupon.over"),
        (coupon(), Claim(ME, expires_at=START + timedelta(7)), START + timedelta(7) - JUST_BEFORE, None),
    ],
)
def test_using(offered: Coupon, claim: Claim, now: datetime, reason: str | None) -> None:
    assert why_not_use(offered, claim, ME, now, ORDER) == reason
