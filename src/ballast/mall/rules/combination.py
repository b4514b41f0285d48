"""What an order costs when exactly these discounts are given: the arithmetic of one combination.

`pricing` says in which order discounts are applied, and chooses between combinations.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ballast.mall.rules.breakdown import LimitedUse
from ballast.mall.rules.discounts import CouponTerms, FullReduction, LimitedPrice, Line, Tier
from ballast.mall.rules.levels import Level
from ballast.mall.rules.money import allocate, share_fen
from ballast.mall.rules.shipping import Fee, Tariff

Discount = LimitedPrice | FullReduction | Level | CouponTerms


class Combination(msgspec.Struct):
    """What each line costs, by its place in `Goods.lines`; amounts of the whole line."""

    limited: list[tuple[LimitedUse, ...]]
    limited_off: list[int]
    member_off: list[int]
    reduction_off: list[int]
    reduction: list[FullReduction | None]
    coupon_off: list[int]
    tiers: list[tuple[FullReduction, Tier, int]]
    """Full reductions that take off something, and how much."""
    goods_fen: int
    fee: Fee

    @property
    def total_fen(self) -> int:
        """What is to be paid."""
        return self.goods_fen + self.fee.fee_fen


class Goods:
    """The lines of an order, in the order of their SKUs' ids: nothing depends on how they were given."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = sorted(lines, key=lambda line: line.sku_id)
        if len({line.sku_id for line in lines}) < len(lines):
            raise ValueError("A SKU has two lines in one order: put them together first.")
        self.list_fen = [line.quantity * line.price_fen for line in self.lines]

    def matters(self, discount: Discount) -> bool:
        """Whether it could take off something, other discounts aside: those that cannot need not be tried."""
        if isinstance(discount, LimitedPrice):
            lower = any(discount.prices.get(line.sku_id, line.price_fen) < line.price_fen for line in self.lines)
            return lower and discount.quota != 0
        if isinstance(discount, Level):
            return discount.discount_bp > 0
        covered = self.cost_in_scope(discount, self.list_fen)
        if isinstance(discount, CouponTerms):
            return covered >= max(1, discount.threshold_fen)
        return covered > 0 and discount.tier_at(self._counted(discount, self.list_fen)) is not None

    def cost_in_scope(self, discount: FullReduction | CouponTerms, costs: Sequence[int]) -> int:
        """What the goods that it is for cost."""
        return sum(cost for line, cost in zip(self.lines, costs, strict=True) if discount.scope.covers(line))

    def least_fen(self, options: Sequence[Discount], tariff: Tariff) -> tuple[int, int]:
        """What no combination of them can be cheaper than, with a coupon and without: as if no quota ended, every threshold were
        reached that list prices reach, and no two full reductions wanted one line."""
        level = next((d for d in options if isinstance(d, Level)), None)
        limited = [d for d in options if isinstance(d, LimitedPrice)]
        costs = []
        for line in self.lines:
            usual = line.price_fen - (share_fen(line.price_fen, level.discount_bp) if level else 0)
            costs.append(line.quantity * min([usual, *(d.prices.get(line.sku_id, usual) for d in limited)]))
        fulls = [d for d in options if isinstance(d, FullReduction)]
        tiers = [full.tier_at(self._counted(full, self.list_fen)) for full in fulls]
        fee = tariff.fee(sum(self.list_fen)).fee_fen
        goods = max(0, sum(costs) - sum(tier.off_fen for tier in tiers if tier))
        coupon = next((d for d in options if isinstance(d, CouponTerms)), None)
        if coupon is None:
            return goods + fee, goods + fee
        base = goods if coupon.scope.kind == "all" else self.cost_in_scope(coupon, costs)
        return max(0, goods - _coupon_off(coupon, base)) + fee, goods + fee

    def priced(self, given: Sequence[Discount], tariff: Tariff) -> Combination:
        """What it costs with these, applied in this order: full reductions as they stand, a coupon last."""
        level = next((d for d in given if isinstance(d, Level)), None)
        coupon = next((d for d in given if isinstance(d, CouponTerms)), None)
        none = [0] * len(self.lines)
        limited, limited_off, member_off = self._pieces([d for d in given if isinstance(d, LimitedPrice)], level)
        costs = [cost - a - b for cost, a, b in zip(self.list_fen, limited_off, member_off, strict=True)]
        before = sum(costs)
        reduction_off, tiers = list(none), []
        taking_part: list[FullReduction | None] = [None] * len(none)
        for full in (d for d in given if isinstance(d, FullReduction)):
            places = [n for n, x in enumerate(self.lines) if taking_part[n] is None and full.scope.covers(x)]
            covered = [costs[n] for n in places]
            tier = full.tier_at(sum(covered) if full.counts == "scope" else before)
            off = min(tier.off_fen, sum(covered)) if tier else 0
            if tier and off:
                tiers.append((full, tier, off))
                for n, part in zip(places, allocate(off, covered), strict=True):
                    taking_part[n], reduction_off[n] = full, part
                    costs[n] -= part
        coupon_off = none if coupon is None else self._coupon(coupon, costs)
        goods_fen = sum(costs) - sum(coupon_off)
        return Combination(
            limited,
            limited_off,
            member_off,
            reduction_off,
            taking_part,
            coupon_off,
            tiers,
            goods_fen,
            tariff.fee(goods_fen),
        )

    def _counted(self, full: FullReduction, costs: Sequence[int]) -> int:
        return self.cost_in_scope(full, costs) if full.counts == "scope" else sum(costs)

    def _pieces(
        self, limited: Sequence[LimitedPrice], level: Level | None
    ) -> tuple[list[tuple[LimitedUse, ...]], list[int], list[int]]:
        """Limited-time prices and the member's discount: what each line has of them, and what they take off it."""
        off_one = [share_fen(line.price_fen, level.discount_bp) if level else 0 for line in self.lines]
        left = [line.quantity for line in self.lines]
        uses: list[tuple[LimitedUse, ...]] = [()] * len(left)
        limited_off = [0] * len(left)
        quotas = {promotion.id: promotion.quota for promotion in limited}
        savings = (
            (line.price_fen - off_one[n] - promotion.prices.get(line.sku_id, line.price_fen), n, promotion)
            for promotion in limited
            for n, line in enumerate(self.lines)
        )
        for _, n, promotion in sorted((s for s in savings if s[0] > 0), key=lambda s: (-s[0], s[1], s[2].id)):
            quota = quotas[promotion.id]
            pieces = left[n] if quota is None else min(left[n], quota)
            if pieces:
                price_fen = promotion.prices[self.lines[n].sku_id]
                uses[n] += (LimitedUse(promotion.id, pieces, price_fen),)
                limited_off[n] += pieces * (self.lines[n].price_fen - price_fen)
                left[n] -= pieces
                quotas[promotion.id] = None if quota is None else quota - pieces
        return uses, limited_off, [pieces * off for pieces, off in zip(left, off_one, strict=True)]

    def _coupon(self, coupon: CouponTerms, costs: Sequence[int]) -> list[int]:
        covered = [cost if coupon.scope.covers(x) else 0 for x, cost in zip(self.lines, costs, strict=True)]
        base = sum(covered)
        if not base or base < coupon.threshold_fen:
            return [0] * len(covered)
        return list(allocate(_coupon_off(coupon, base), covered))


def _coupon_off(coupon: CouponTerms, base_fen: int) -> int:
    """What it takes off goods that reach its threshold."""
    if coupon.off_fen:
        return min(coupon.off_fen, base_fen)
    off = share_fen(base_fen, coupon.off_bp)
    return off if coupon.cap_fen is None else min(off, coupon.cap_fen)
