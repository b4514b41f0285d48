"""What an order costs: list price → limited-time price or member's discount → full reductions → coupon → shipping.

1. Each piece costs its list price less the member's discount (rounded for one piece, as the product's page shows it), or a
   limited-time price where that is lower; the two do not add up. Quotas go to the pieces that save most by them.
2. Full reductions, those for products first, then for categories, then for all; of one kind by id. A line takes part in
   one at most. Thresholds look at the prices of step 1.
3. The coupon, if one was chosen, on what is left of the lines that it is for; its threshold looks at the same.
4. Shipping; "free from" looks at what is left of all goods.

What is taken off several lines is split in proportion to what they cost just before (`money.allocate`).

**The shopper gets the cheapest.** Thresholds make discounts work against each other: one that takes a little off may cost
another its threshold. So every discount may be left out, and the combination with the smallest total holds; of equally
cheap ones that which saves the coupon, then the one that leaves out least. Hence no further discount ever makes an order
dearer. All combinations are tried for up to `ALL_TRIED` discounts that matter in this order; of more, one after the other
is left out from the full set as long as that makes it cheaper. (Mostly nothing is tried: the full set is as cheap as any
combination could be.)

Nothing depends on the order in which lines or promotions are given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, combinations
from uuid import UUID

from ballast.mall.rules.breakdown import Breakdown, CouponRefusal, LinePrice, Step
from ballast.mall.rules.combination import Combination, Discount, Goods
from ballast.mall.rules.discounts import CouponTerms, FullReduction, LimitedPrice, Line
from ballast.mall.rules.levels import Level
from ballast.mall.rules.shipping import Destination, Parcel, Tariff

ALL_TRIED = 6
"""So many discounts that matter make 64 combinations."""


def quote(
    lines: Sequence[Line],
    *,
    limited: Iterable[LimitedPrice] = (),
    reductions: Iterable[FullReduction] = (),
    coupon: CouponTerms | None = None,
    level: Level | None = None,
    to: Destination = Destination(),
    now: datetime,
) -> Breakdown:
    """What these lines cost at `now`, which has a time zone. Promotions out of their period are looked over.

    `limited` and `reductions`: the shop's; `coupon`: the one that was chosen; `level`: the customer's. ValueError if a SKU
    has two lines."""
    goods = Goods(lines)
    tariff = Tariff((Parcel(x.sku_id, x.template, x.quantity, x.quantity * x.weight_g) for x in goods.lines), to)
    prices = sorted((d for d in limited if d.period.holds(now)), key=lambda d: d.id)
    fulls = sorted((d for d in reductions if d.period.holds(now)), key=_rank)
    discounts: list[Discount] = [*prices, *fulls, *(d for d in (level, coupon) if d is not None)]
    options = [d for d in discounts if goods.matters(d)]
    best = _cheapest(goods, options, tariff)
    refusal = _refusal(goods, coupon, best) if coupon else None
    by_sku = {line.sku_id: price for line, price in zip(goods.lines, _line_prices(goods, best), strict=True)}
    return Breakdown(
        lines=tuple(by_sku[line.sku_id] for line in lines),
        list_fen=sum(goods.list_fen),
        goods_fen=best.goods_fen,
        shipping=best.fee,
        total_fen=best.total_fen,
        steps=tuple(_steps(goods, best, options)),
        coupon_id=coupon.id if coupon and any(best.coupon_off) else None,
        coupon_refusal=refusal,
    )


def _rank(reduction: FullReduction) -> tuple[int, UUID]:
    return ("products", "categories", "all").index(reduction.scope.kind), reduction.id


def _cheapest(goods: Goods, options: Sequence[Discount], tariff: Tariff) -> Combination:
    def tried(left_out: Collection[int]) -> tuple[tuple[int, bool, int, tuple[int, ...]], Combination]:
        given = [option for n, option in enumerate(options) if n not in left_out]
        priced = goods.priced(given, tariff)
        return (priced.total_fen, any(priced.coupon_off), len(left_out), tuple(left_out)), priced

    places = range(len(options))
    whole = tried(())
    least, least_without_coupon = goods.least_fen(options, tariff)
    if whole[1].total_fen == least and (least < least_without_coupon or not any(whole[1].coupon_off)):
        return whole[1]
    if len(options) <= ALL_TRIED:
        every = chain.from_iterable(combinations(places, size) for size in range(len(options) + 1))
        return min(map(tried, every), key=lambda found: found[0])[1]
    out: tuple[int, ...] = ()
    best = whole
    while True:
        found = min((tried((*out, n)) for n in places if n not in out), key=lambda found: found[0], default=best)
        if found[0][:2] >= best[0][:2]:
            return best[1]
        best, out = found, found[0][3]


def _refusal(goods: Goods, coupon: CouponTerms, best: Combination) -> CouponRefusal | None:
    if any(best.coupon_off):
        return None
    if not goods.cost_in_scope(coupon, goods.list_fen):
        return CouponRefusal("coupon.out_of_scope")
    costs = [line.total_fen for line in _line_prices(goods, best)]
    missing = coupon.threshold_fen - goods.cost_in_scope(coupon, costs)
    if missing > 0:
        return CouponRefusal("coupon.below_threshold", missing)
    return CouponRefusal("coupon.better_without")


def _line_prices(goods: Goods, best: Combination) -> Iterator[LinePrice]:
    for n, line in enumerate(goods.lines):
        reduction = best.reduction[n]
        off = best.limited_off[n], best.member_off[n], best.reduction_off[n], best.coupon_off[n]
        yield LinePrice(
            line.sku_id,
            line.quantity,
            goods.list_fen[n],
            *off,
            total_fen=goods.list_fen[n] - sum(off),
            limited=best.limited[n],
            reduction_id=reduction.id if reduction else None,
        )


def _steps(goods: Goods, best: Combination, options: Sequence[Discount]) -> Iterator[Step]:
    yield Step("price.goods", sum(goods.list_fen))
    for option in options:
        if isinstance(option, LimitedPrice):
            uses = [
                (x, u)
                for x, line in zip(goods.lines, best.limited, strict=True)
                for u in line
                if u.promotion_id == option.id
            ]
            off = sum(use.quantity * (line.price_fen - use.price_fen) for line, use in uses)
            if off:
                yield Step("price.limited", -off, {"name": option.name, "pieces": sum(use.quantity for _, use in uses)})
        elif isinstance(option, Level) and any(best.member_off):
            yield Step("price.member", -sum(best.member_off), {"name": option.name})
    for full, tier, off in best.tiers:
        yield Step(
            "price.reduction", -off, {"name": full.name, "threshold_fen": tier.threshold_fen, "off_fen": tier.off_fen}
        )
    for option in options:
        if isinstance(option, CouponTerms) and any(best.coupon_off):
            yield Step("price.coupon", -sum(best.coupon_off), {"name": option.name})
    if best.fee.known:
        yield Step("price.shipping", best.fee.fee_fen)
