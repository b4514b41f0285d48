"""What an order costs: the stated order of discounts, and what must hold for any of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ballast.mall.rules import pricing
from ballast.mall.rules.breakdown import Breakdown, CouponRefusal
from ballast.mall.rules.discounts import CouponTerms, FullReduction, LimitedPrice, Line, Period, Scope, Tier
from ballast.mall.rules.levels import Level
from ballast.mall.rules.pricing import quote
from ballast.mall.rules.shipping import Destination, Rate, Template

NOW = datetime(2026, 11, 27, 8, tzinfo=UTC)
HERE = Destination(province="31")
SENT = Template(UUID(int=90), "standard", "piece", (Rate(("31",), 1, 1000, 2, 300, free_from_fen=9900),))
TEA, CUP = UUID(int=80), UUID(int=81)


def uid(n: int) -> UUID:
    return UUID(int=n)


def line(n: int, quantity: int, price_fen: int, *categories: UUID, template: Template | None = None) -> Line:
    return Line(uid(n), uid(10 + n), quantity, price_fen, frozenset(categories), 100, template)


def full(n: int, *tiers: tuple[int, int], scope: Scope = Scope(), counts: Any = "scope") -> FullReduction:
    return FullReduction(uid(n), f"full {n}", tuple(Tier(*tier) for tier in tiers), scope, counts)


def limited(n: int, prices: dict[int, int], left: int | None = None, mine: int | None = None) -> LimitedPrice:
    return LimitedPrice(
        uid(n), f"limited {n}", {uid(sku): price for sku, price in prices.items()}, Period(), left, mine
    )


GOLD = Level(uid(70), "gold", 0, 500)


def test_everything_in_its_order_each_step_shown_and_each_line_with_its_part() -> None:
    price = quote(
        [line(1, 2, 10_000, TEA, template=SENT), line(2, 1, 5_000, CUP, template=SENT)],
        limited=[limited(20, {1: 8_000}, left=1)],
        reductions=[full(30, (10_000, 1_000), (20_000, 3_000))],
        coupon=CouponTerms(uid(40), "tenth off", off_bp=1_000, cap_fen=1_500, threshold_fen=5_000, scope=Scope("categories", frozenset({TEA}))),
        level=GOLD,
        to=HERE,
        now=NOW,
    )  # fmt: skip
    # Tea: one at 80.00, one at 95.00; cup 47.50: 222.50, less 30.00 in proportion, less 10 % of what the tea costs then.
    assert [(step.key, step.amount_fen) for step in price.steps] == [
        ("price.goods", 25_000),
        ("price.limited", -2_000),
        ("price.member", -750),
        ("price.reduction", -3_000),
        ("price.coupon", -1_500),
        ("price.shipping", 0),
    ]
    tea, cup = price.lines
    assert (tea.list_fen, tea.limited_off_fen, tea.member_off_fen, tea.reduction_off_fen) == (20_000, 2_000, 500, 2_360)
    assert (tea.coupon_off_fen, tea.total_fen) == (1_500, 13_640)
    assert (cup.member_off_fen, cup.reduction_off_fen, cup.coupon_off_fen, cup.total_fen) == (250, 640, 0, 4_110)
    assert [(use.promotion_id, use.quantity, use.price_fen) for use in tea.limited] == [(uid(20), 1, 8_000)]
    assert (price.total_fen, price.discount_fen, price.coupon_id, price.orderable) == (17_750, 7_250, uid(40), True)
    assert price.steps[3].params == {"name": "full 30", "threshold_fen": 20_000, "off_fen": 3_000}
    assert msgspec.json.decode(msgspec.json.encode(price), type=Breakdown) == price


def test_a_quota_goes_to_the_pieces_that_save_most_and_the_rest_pays_as_usual() -> None:
    price = quote(
        [line(1, 3, 1_000), line(2, 3, 2_000)], limited=[limited(20, {1: 500, 2: 1_200}, left=9, mine=4)], now=NOW
    )
    assert [sum(use.quantity for use in x.limited) for x in price.lines] == [1, 3]
    assert [x.total_fen for x in price.lines] == [2_500, 3_600]


def test_a_limited_price_above_the_members_price_is_not_taken() -> None:
    price = quote([line(1, 1, 1_000)], limited=[limited(20, {1: 960})], level=GOLD, now=NOW)
    assert (price.lines[0].limited, price.total_fen) == ((), 950)


def test_the_members_discount_is_rounded_for_one_piece_as_it_is_shown() -> None:
    assert quote([line(1, 3, 10)], level=Level(uid(1), "x", 0, 2_500), now=NOW).total_fen == 3 * 7


def test_no_line_takes_part_in_two_full_reductions_and_the_narrower_comes_first() -> None:
    tea = full(35, (5_000, 900), scope=Scope("products", frozenset({uid(11)})))
    every = full(30, (10_000, 1_500))
    price = quote([line(1, 1, 6_000), line(2, 1, 12_000)], reductions=[every, tea], now=NOW)
    assert [(x.reduction_id, x.reduction_off_fen) for x in price.lines] == [(uid(35), 900), (uid(30), 1_500)]


def test_a_narrower_reduction_gives_way_where_that_is_cheaper() -> None:
    tea = full(35, (5_000, 900), scope=Scope("products", frozenset({uid(11)})))
    every = full(30, (10_000, 1_500))
    price = quote([line(1, 1, 6_000), line(2, 1, 5_000)], reductions=[every, tea], now=NOW)
    assert {x.reduction_id for x in price.lines} == {uid(30)}
    assert price.discount_fen == 1_500


def test_a_threshold_may_look_at_the_whole_shop() -> None:
    tea = Scope("categories", frozenset({TEA}))
    lines = [line(1, 1, 3_000, TEA), line(2, 1, 9_000, CUP)]
    assert quote(lines, reductions=[full(30, (10_000, 500), scope=tea)], now=NOW).discount_fen == 0
    shop = quote(lines, reductions=[full(30, (10_000, 500), scope=tea, counts="shop")], now=NOW)
    assert [x.reduction_off_fen for x in shop.lines] == [500, 0]
    most = quote(lines, reductions=[full(30, (10_000, 5_000), scope=tea, counts="shop")], now=NOW)
    assert [x.total_fen for x in most.lines] == [0, 9_000]


def test_a_discount_that_would_cost_another_its_threshold_is_left_out() -> None:
    goods = [line(1, 1, 10_000)]
    assert (
        quote(goods, limited=[limited(20, {1: 9_900})], reductions=[full(30, (10_000, 3_000))], now=NOW).total_fen
        == 7_000
    )
    sent = [line(1, 1, 10_000, template=SENT)]
    price = quote(sent, coupon=CouponTerms(uid(40), "two yuan", off_fen=200), to=HERE, now=NOW)
    assert (price.total_fen, price.coupon_id, price.coupon_refusal) == (
        10_000,
        None,
        CouponRefusal("coupon.better_without"),
    )


@pytest.mark.parametrize(
    ("coupon", "refusal"),
    [
        (CouponTerms(uid(40), "x", off_fen=1, scope=Scope("products", frozenset({uid(99)}))), CouponRefusal("coupon.out_of_scope")),
        (CouponTerms(uid(40), "x", off_fen=1, threshold_fen=10_001), CouponRefusal("coupon.below_threshold", 1_001)),
        (CouponTerms(uid(40), "x", off_fen=1, threshold_fen=10_000), CouponRefusal("coupon.below_threshold", 1_000)),
        (CouponTerms(uid(40), "x", off_fen=1, threshold_fen=9_000), None),
    ],
)  # fmt: skip
def test_why_a_coupon_does_nothing_is_said(coupon: CouponTerms, refusal: CouponRefusal | None) -> None:
    price = quote([line(1, 1, 10_000)], reductions=[full(30, (5_000, 1_000))], coupon=coupon, now=NOW)
    assert price.coupon_refusal == refusal
    assert (price.coupon_id is None) == (refusal is not None)


def test_a_coupon_that_saves_nothing_is_kept_for_another_day() -> None:
    price = quote(
        [line(1, 1, 500)], reductions=[full(30, (0, 500))], coupon=CouponTerms(uid(40), "x", off_fen=100), now=NOW
    )
    assert (price.total_fen, price.coupon_id) == (0, None)


def test_promotions_hold_in_their_period() -> None:
    def total(now: datetime) -> int:
        promotion = LimitedPrice(uid(20), "x", {uid(1): 1}, Period(NOW, NOW + timedelta(hours=1)))
        return quote([line(1, 1, 100)], limited=[promotion], now=now).total_fen

    moments = (NOW - timedelta(microseconds=1), NOW, NOW + timedelta(minutes=59), NOW + timedelta(hours=1))
    assert [total(now) for now in moments] == [100, 1, 1, 100]


def test_what_is_not_sent_there_or_has_no_address_cannot_be_ordered() -> None:
    goods = [line(1, 1, 100, template=SENT)]
    away = quote(goods, to=Destination(province="65"), now=NOW)
    assert (away.orderable, away.shipping.unserved) == (False, (uid(1),))
    assert not quote(goods, now=NOW).orderable
    assert quote(goods, to=Destination("pickup"), now=NOW).orderable


def test_a_sku_has_one_line() -> None:
    with pytest.raises(ValueError, match="two lines"):
        quote([line(1, 1, 1), line(1, 2, 1)], now=NOW)


def test_an_empty_cart_costs_nothing() -> None:
    assert quote([], reductions=[full(30, (0, 5))], coupon=CouponTerms(uid(40), "x", off_fen=1), now=NOW).total_fen == 0


# What must hold for any discounts. Small numbers make thresholds, quotas and remainders meet.
fen = st.integers(0, 60)
ids = st.frozensets(st.sampled_from([uid(n) for n in (11, 12, 13)]), max_size=2)
scopes = (
    st.just(Scope())
    | st.builds(Scope, st.just("products"), ids)
    | st.builds(Scope, st.just("categories"), st.frozensets(st.sampled_from([TEA, CUP]), max_size=2))
)
quota = st.none() | st.integers(0, 3)
templates = st.none() | st.builds(
    lambda fee, free: Template(uid(90), "t", "piece", (Rate((), 1, fee, 1, 3, free),)),
    st.integers(0, 20),
    st.none() | fen,
)


@st.composite
def carts(draw: st.DrawFn) -> list[Line]:
    template = draw(templates)
    skus = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3, unique=True))
    return [
        line(n, draw(st.integers(1, 3)), draw(fen), *draw(st.sets(st.sampled_from([TEA, CUP]))), template=template)
        for n in skus
    ]


def tiers(raw: list[tuple[int, int]]) -> tuple[Tier, ...]:
    thresholds = sorted({threshold for threshold, _ in raw})
    return tuple(Tier(at, off) for at, off in zip(thresholds, sorted(off for _, off in raw), strict=False))


limiteds = st.builds(
    lambda prices, left, mine: limited(0, prices, left, mine),
    st.dictionaries(st.integers(1, 3), fen, max_size=3),
    quota,
    quota,
)
fulls = st.builds(
    lambda raw, scope, counts: FullReduction(uid(0), "f", tiers(raw), scope, counts),
    st.lists(st.tuples(fen, st.integers(1, 40)), min_size=1, max_size=2),
    scopes,
    st.sampled_from(["scope", "shop"]),
)
coupons = st.builds(lambda off, at, scope: CouponTerms(uid(40), "c", off_fen=off, threshold_fen=at, scope=scope), st.integers(1, 40), fen, scopes) | st.builds(
    lambda bp, cap, at, scope: CouponTerms(uid(40), "c", off_bp=bp, cap_fen=cap, threshold_fen=at, scope=scope), st.integers(1, 10_000), st.none() | fen, fen, scopes
)  # fmt: skip
levels = st.builds(lambda bp: Level(uid(70), "l", 0, bp), st.integers(1, 10_000))
discounts = st.tuples(
    st.lists(limiteds, max_size=2), st.lists(fulls, max_size=2), st.none() | coupons, st.none() | levels
)

Discounts = tuple[list[LimitedPrice], list[FullReduction], CouponTerms | None, Level | None]


def priced(cart: Sequence[Line], these: Discounts) -> Breakdown:
    prices, reductions, coupon, level = these
    named = [msgspec.structs.replace(d, id=uid(20 + n)) for n, d in enumerate(prices)]
    fulls = [msgspec.structs.replace(d, id=uid(30 + n)) for n, d in enumerate(reductions)]
    return quote(cart, limited=named, reductions=fulls, coupon=coupon, level=level, to=HERE, now=NOW)


@given(carts(), discounts)
@settings(max_examples=80)
def test_everything_adds_up_to_the_fen_and_nothing_is_negative(cart: list[Line], these: Discounts) -> None:
    price = priced(cart, these)
    assert price.total_fen == sum(x.total_fen for x in price.lines) + price.shipping.fee_fen
    assert price.total_fen == sum(step.amount_fen for step in price.steps)
    assert price.goods_fen == sum(x.total_fen for x in price.lines) == price.list_fen - price.discount_fen
    for asked, x in zip(cart, price.lines, strict=True):
        off = (x.limited_off_fen, x.member_off_fen, x.reduction_off_fen, x.coupon_off_fen)
        assert (x.sku_id, x.quantity, x.list_fen) == (asked.sku_id, asked.quantity, asked.quantity * asked.price_fen)
        assert min(*off, x.total_fen) >= 0
        assert x.total_fen == x.list_fen - sum(off)
        assert sum(use.quantity for use in x.limited) <= x.quantity
        assert x.reduction_id is not None or x.reduction_off_fen == 0
    for n, promotion in enumerate(these[0]):
        used = sum(use.quantity for x in price.lines for use in x.limited if use.promotion_id == uid(20 + n))
        assert promotion.quota is None or used <= promotion.quota
    assert (price.coupon_id is not None) == (sum(x.coupon_off_fen for x in price.lines) > 0)
    if these[2] is not None:
        assert (price.coupon_id is None) != (price.coupon_refusal is None)


@given(carts(), discounts, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_nothing_depends_on_the_order_in_which_things_are_given(
    cart: list[Line], these: Discounts, random: Any
) -> None:
    price = priced(cart, these)
    named = [msgspec.structs.replace(d, id=uid(20 + n)) for n, d in enumerate(these[0])]
    reductions = [msgspec.structs.replace(d, id=uid(30 + n)) for n, d in enumerate(these[1])]
    for things in (shuffled := list(cart), named, reductions):
        random.shuffle(things)
    other = quote(shuffled, limited=named, reductions=reductions, coupon=these[2], level=these[3], to=HERE, now=NOW)
    assert {x.sku_id: x for x in other.lines} == {x.sku_id: x for x in price.lines}
    assert msgspec.structs.replace(other, lines=price.lines) == price


@given(carts(), discounts)
@settings(max_examples=60)
def test_no_further_discount_makes_an_order_dearer(cart: list[Line], these: Discounts) -> None:
    prices, reductions, coupon, level = these
    total = priced(cart, these).total_fen
    for n in range(len(prices)):
        fewer = [p for m, p in enumerate(prices) if m != n]
        assert total <= priced(cart, (fewer, reductions, coupon, level)).total_fen
    for n in range(len(reductions)):
        less = [r for m, r in enumerate(reductions) if m != n]
        assert total <= priced(cart, (prices, less, coupon, level)).total_fen
    assert total <= priced(cart, (prices, reductions, None, level)).total_fen
    assert total <= priced(cart, (prices, reductions, coupon, None)).total_fen


@given(carts(), discounts)
@settings(max_examples=60)
@example(
    [line(1, 1, 10)], ([], [FullReduction(uid(0), "f", (Tier(0, 10),))], CouponTerms(uid(40), "c", off_fen=1), None)
)
def test_stopping_early_never_misses_a_better_combination(cart: list[Line], these: Discounts) -> None:
    found = priced(cart, these)
    prices, reductions, coupon, level = these
    options: list[tuple[str, Any]] = [("p", p) for p in prices] + [("r", r) for r in reductions]
    options += [(kind, d) for kind, d in (("c", coupon), ("l", level)) if d is not None]
    for size in range(len(options)):
        for some in combinations(options, size):
            fewer = (
                [d for kind, d in some if kind == "p"],
                [d for kind, d in some if kind == "r"],
                next((d for kind, d in some if kind == "c"), None),
                next((d for kind, d in some if kind == "l"), None),
            )
            # Bounds would stop these alike: so the price of exactly these, nothing left out, is asked for.
            assert found.total_fen <= exactly(cart, fewer)


def exactly(cart: list[Line], these: Discounts) -> int:
    goods = pricing.Goods(cart)
    prices, reductions, coupon, level = these
    given = [*prices, *sorted(reductions, key=pricing._rank), *(d for d in (level, coupon) if d is not None)]
    named = [
        msgspec.structs.replace(d, id=uid(20 + n)) if isinstance(d, LimitedPrice) else d for n, d in enumerate(given)
    ]
    parcels = (pricing.Parcel(x.sku_id, x.template, x.quantity, 0) for x in goods.lines)
    return goods.priced(named, pricing.Tariff(parcels, HERE)).total_fen


@given(
    carts(), st.lists(limiteds, min_size=4, max_size=6), st.lists(fulls, min_size=3, max_size=4), st.none() | coupons
)
@settings(max_examples=30)
def test_of_very_many_discounts_all_still_adds_up(
    cart: list[Line], prices: list[LimitedPrice], reductions: list[FullReduction], coupon: CouponTerms | None
) -> None:
    price = priced(cart, (prices, reductions, coupon, None))
    assert price.total_fen == sum(x.total_fen for x in price.lines) + price.shipping.fee_fen
    assert (
        price.total_fen <= priced(cart, ([], [], None, None)).total_fen
        or len(prices) + len(reductions) > pricing.ALL_TRIED
    )
