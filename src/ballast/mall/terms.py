"""What a shop promises, as it is stored, made into the records that the rules work with.

JSON of `mall.shipping.rules`: `[]` (nothing is asked) or
`{"unit": "weight" | "piece", "rates": [{"provinces": ["广东省", …], "first": 1000, "first_fen": 800, "extra": 500,
"extra_fen": 200, "free_from_fen": 9900 | null}]}`; a rate without provinces holds for the rest of the country.
JSON of a `scope`: `{}` (the whole shop), `{"products": [ids]}` or `{"categories": [ids]}`; products go before categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall.rules.coupons import Claim, ClaimStatus, Coupon, CouponStatus
from ballast.mall.rules.discounts import CouponTerms, FullReduction, LimitedPrice, Period, Scope, Tier
from ballast.mall.rules.levels import Level
from ballast.mall.rules.shipping import Rate, Template


class StoredScope(msgspec.Struct, frozen=True):
    """Which goods a discount is for."""

    products: tuple[UUID, ...] = ()
    categories: tuple[UUID, ...] = ()

    def scope(self) -> Scope:
        """For the rules."""
        if self.products:
            return Scope("products", frozenset(self.products))
        return Scope("categories", frozenset(self.categories)) if self.categories else Scope()


class StoredLimited(msgspec.Struct, frozen=True):
    """A row of mall.limited_price."""

    promotion_id: UUID
    name: str
    sku_id: UUID
    price_fen: int
    quota: int | None
    sold: int
    per_customer: int | None
    starts_at: datetime
    ends_at: datetime

    def price(self, bought: int = 0) -> LimitedPrice:
        """For the rules; `bought`: pieces that this customer had by it already."""
        return LimitedPrice(
            self.promotion_id,
            self.name,
            {self.sku_id: self.price_fen},
            Period(self.starts_at, self.ends_at),
            None if self.quota is None else self.quota - self.sold,
            None if self.per_customer is None else self.per_customer - bought,
        )


class StoredTier(msgspec.Struct, frozen=True):
    """From so much on, so much is taken off."""

    from_fen: int
    off_fen: int


class StoredReduction(msgspec.Struct, frozen=True):
    """A row of mall.full_reduction."""

    promotion_id: UUID
    name: str
    tiers: tuple[StoredTier, ...]
    scope: StoredScope
    starts_at: datetime
    ends_at: datetime

    def reduction(self) -> FullReduction:
        """For the rules."""
        return FullReduction(
            self.promotion_id,
            self.name,
            tuple(Tier(tier.from_fen, tier.off_fen) for tier in self.tiers),
            self.scope.scope(),
            period=Period(self.starts_at, self.ends_at),
        )


class StoredCoupon(msgspec.Struct, frozen=True):
    """A claim with its coupon: rows of mall.coupon_claim and mall.coupon."""

    claim_id: UUID
    owner_id: UUID
    order_id: UUID | None
    coupon_id: UUID
    name: str
    amount_fen: int | None
    percent_bp: int | None
    cap_fen: int | None
    threshold_fen: int
    scope: StoredScope
    starts_at: datetime
    ends_at: datetime

    def coupon(self) -> Coupon:
        """For the rules. A coupon that is stopped is given out no more; what was given out stays good."""
        terms = CouponTerms(
            self.coupon_id,
            self.name,
            self.amount_fen or 0,
            self.percent_bp or 0,
            self.cap_fen,
            self.threshold_fen,
            self.scope.scope(),
        )
        return Coupon(terms, CouponStatus.ACTIVE, Period(self.starts_at, self.ends_at))

    def claim(self) -> Claim:
        """For the rules."""
        return Claim(self.owner_id, ClaimStatus.USED if self.order_id else ClaimStatus.UNUSED, self.order_id)


class StoredLevel(msgspec.Struct, frozen=True):
    """One of mall.shop.levels."""

    name: str
    from_fen: int
    discount_bp: int = 0
    name_en: str = ""


class StoredShipping(msgspec.Struct, frozen=True):
    """mall.shipping.rules."""

    unit: Literal["weight", "piece"]
    rates: tuple[Rate, ...]


def levels(stored: Sequence[StoredLevel], points_per_yuan: int) -> tuple[Level, ...]:
    """The shop's levels, lowest first; the id of the n-th, counted from 1, is `UUID(int=n)`."""
    return tuple(
        Level(UUID(int=n), level.name, level.from_fen, level.discount_bp, points_per_yuan * 100)
        for n, level in enumerate(sorted(stored, key=lambda level: level.from_fen), 1)
    )


@lru_cache(2_000)
def template(shipping_id: UUID | None, name: str | None, rules: str | None) -> Template | None:
    """How a product is sent; None: nothing is asked for it."""
    if shipping_id is None or not rules or rules == "[]":
        return None
    stored = msgspec.json.decode(rules, type=StoredShipping)
    return Template(shipping_id, name or "", stored.unit, stored.rates)


def limited_prices(stored: Sequence[StoredLimited], bought: Mapping[UUID, int]) -> tuple[LimitedPrice, ...]:
    """For the rules, each less what this customer had by it already."""
    return tuple(one.price(bought.get(one.promotion_id, 0)) for one in stored)
