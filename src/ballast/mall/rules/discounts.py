"""What makes goods cheaper, as data: limited-time prices (限时折扣), full reductions (满减) and the terms of coupons.

A period holds from its beginning on and until just before its end; None is for ever.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall.rules.money import WHOLE_BP
from ballast.mall.rules.shipping import Template


class Line(msgspec.Struct, frozen=True):
    """Some pieces of one SKU in a cart or an order; an order has one line for a SKU."""

    sku_id: UUID
    product_id: UUID
    quantity: int
    price_fen: int
    """List price of one piece."""
    category_ids: frozenset[UUID] = frozenset()
    weight_g: int = 0
    """Of one piece."""
    template: Template | None = None
    """How it is sent; None: always free."""

    def __post_init__(self) -> None:
        if self.quantity < 1 or self.price_fen < 0 or self.weight_g < 0:
            raise ValueError(
                f"A line of SKU {self.sku_id} has {self.quantity} pieces at {self.price_fen} fen and {self.weight_g} g; "
                "at least one piece is needed, and neither price nor weight may be negative."
            )


class Scope(msgspec.Struct, frozen=True):
    """Which goods a discount is for."""

    kind: Literal["all", "categories", "products"] = "all"
    ids: frozenset[UUID] = frozenset()
    """Of categories or products."""

    def covers(self, line: Line) -> bool:
        """Whether it is for this line."""
        if self.kind == "all":
            return True
        return line.product_id in self.ids if self.kind == "products" else not self.ids.isdisjoint(line.category_ids)


class Period(msgspec.Struct, frozen=True):
    """From when until when; moments with time zone."""

    starts_at: datetime | None = None
    ends_at: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether `now` is in it."""
        return not self.ahead(now) and not self.over(now)

    def ahead(self, now: datetime) -> bool:
        """Whether it has not begun."""
        return self.starts_at is not None and now < self.starts_at

    def over(self, now: datetime) -> bool:
        """Whether it has ended."""
        return self.ends_at is not None and now >= self.ends_at


class LimitedPrice(msgspec.Struct, frozen=True):
    """Lower prices of some SKUs for a time, perhaps for a number of pieces. Pieces beyond a quota have their usual price."""

    id: UUID
    name: str
    prices: dict[UUID, int]
    """SKU → fen a piece."""
    period: Period = Period()
    left: int | None = None
    """Pieces that the promotion still has, of all its SKUs together; None: no limit."""
    left_for_customer: int | None = None
    """Pieces that this customer may still have by it."""

    def __post_init__(self) -> None:
        if any(price < 0 for price in self.prices.values()):
            raise ValueError(f"The limited-time price {self.name!r} has a negative price.")

    @property
    def quota(self) -> int | None:
        """How many pieces it can give to this customer now; None: any number."""
        quotas = [max(0, left) for left in (self.left, self.left_for_customer) if left is not None]
        return min(quotas, default=None)


class Tier(msgspec.Struct, frozen=True):
    """From so much on, so much is taken off."""

    threshold_fen: int
    off_fen: int

    def __post_init__(self) -> None:
        if self.threshold_fen < 0 or self.off_fen < 1:
            raise ValueError("A tier of a full reduction begins at 0 fen or more and takes off at least 1 fen.")


class FullReduction(msgspec.Struct, frozen=True):
    """满减: of the tiers that are reached the highest takes off its amount, once."""

    id: UUID
    name: str
    tiers: tuple[Tier, ...]
    scope: Scope = Scope()
    counts: Literal["scope", "shop"] = "scope"
    """What has to reach the threshold: the goods that it is for, or all goods of the shop in the order."""
    period: Period = Period()

    def __post_init__(self) -> None:
        offs = [tier.off_fen for tier in sorted(self.tiers, key=lambda tier: tier.threshold_fen)]
        if len({tier.threshold_fen for tier in self.tiers}) < len(offs) or offs != sorted(offs):
            raise ValueError(f"The full reduction {self.name!r} takes less off for more, or has one threshold twice.")

    def tier_at(self, amount_fen: int) -> Tier | None:
        """The highest tier that the amount reaches."""
        reached = [tier for tier in self.tiers if tier.threshold_fen <= amount_fen]
        return max(reached, key=lambda tier: tier.threshold_fen, default=None)


class CouponTerms(msgspec.Struct, frozen=True):
    """What a coupon does to an order. Whether a customer may use it at all is for `coupons`."""

    id: UUID
    name: str
    off_fen: int = 0
    """So much, or …"""
    off_bp: int = 0
    """… such a share in basis points (1000 is 九折), half up, at most `cap_fen`."""
    cap_fen: int | None = None
    threshold_fen: int = 0
    """What the goods that it is for must cost, after all other discounts."""
    scope: Scope = Scope()

    def __post_init__(self) -> None:
        if bool(self.off_fen) == bool(self.off_bp) or min(self.off_fen, self.threshold_fen, self.cap_fen or 0) < 0:
            raise ValueError(f"The coupon {self.name!r} takes off either an amount or a share, and nothing negative.")
        if not 0 <= self.off_bp <= WHOLE_BP:
            raise ValueError(f"The coupon {self.name!r} takes off {self.off_bp} basis points; 1 to 10000 are possible.")
