"""What an order costs and why: per line, as needed for refunds, and as steps that a page shows.

It is stored with the order as JSON and never worked out again: promotions change, what was agreed does not.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from ballast.mall.rules.shipping import Fee


class LimitedUse(msgspec.Struct, frozen=True):
    """Pieces of a line that have a limited-time price; they count against its quotas."""

    promotion_id: UUID
    quantity: int
    price_fen: int
    """Of one piece."""


class LinePrice(msgspec.Struct, frozen=True):
    """What one line costs. All amounts are of the whole line; what is taken off is positive."""

    sku_id: UUID
    quantity: int
    list_fen: int
    limited_off_fen: int
    member_off_fen: int
    reduction_off_fen: int
    coupon_off_fen: int
    total_fen: int
    """What is paid for it, without shipping: at most so much can be refunded."""
    limited: tuple[LimitedUse, ...] = ()
    reduction_id: UUID | None = None
    """The full reduction that it takes part in."""


class Step(msgspec.Struct, frozen=True):
    """One row of the shown calculation. `key` names its text in either language, `params` fill it."""

    key: str
    amount_fen: int
    """Negative where something is taken off."""
    params: dict[str, str | int] = {}


class CouponRefusal(msgspec.Struct, frozen=True):
    """Why the chosen coupon does nothing here: `coupon.out_of_scope`, `coupon.below_threshold` or `coupon.better_without`."""

    key: str
    missing_fen: int = 0
    """How much more of what it is for would make it usable."""


class Breakdown(msgspec.Struct, frozen=True):
    """What an order costs: `total_fen` = the lines' totals + shipping = the steps' amounts, to the fen."""

    lines: tuple[LinePrice, ...]
    """In the order in which they were asked."""
    list_fen: int
    goods_fen: int
    """All lines after all discounts."""
    shipping: Fee
    total_fen: int
    steps: tuple[Step, ...]
    coupon_id: UUID | None = None
    """The coupon that is used up by this order; None also where one was chosen and does nothing."""
    coupon_refusal: CouponRefusal | None = None

    @property
    def discount_fen(self) -> int:
        """All that is taken off the goods."""
        return self.list_fen - self.goods_fen

    @property
    def orderable(self) -> bool:
        """Whether it is sent to there, and what that costs is known."""
        return self.shipping.known and not self.shipping.unserved
