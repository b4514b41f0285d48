"""What a seeded shop promises: how it sends, its coupons, full reductions, limited-time prices, levels; and its pages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.ids import derived
from ballast.mall.rules import blocks
from ballast.mall.rules.discounts import CouponTerms, FullReduction, Tier
from ballast.mall.rules.shipping import Rate, Template
from ballast.mall.seed.goods import Range
from ballast.mall.seed.words import Pair, words

LEVELS: tuple[dict[str, Any], ...] = (
    {"name": "银卡", "name_en": "Silver", "from_fen": 50_000, "discount_bp": 200},
    {"name": "金卡", "name_en": "Gold", "from_fen": 200_000, "discount_bp": 500},
)
_BEGAN = timedelta(days=200)
_GOES_ON = timedelta(days=365)
_TIERS = ({"from_fen": 19_900, "off_fen": 2_000}, {"from_fen": 39_900, "off_fen": 5_000})


class Promises(msgspec.Struct, frozen=True):
    """Rows, and what the rules need of them to price the orders."""

    shipping: tables.Shipping
    template: Template
    coupons: tuple[tables.Coupon, tables.Coupon]
    terms: CouponTerms
    """Of the first coupon: the one that orders used."""
    full: tables.FullReductionRow
    reduction: FullReduction
    limited: tuple[tables.LimitedPriceRow, ...]


def make(rng: Random, shop_id: UUID, goods: Range, now: datetime) -> Promises:
    """The promises of a shop that has these goods."""
    rates = (
        Rate(provinces=words().far, first=1, first_fen=1_500, extra=1, extra_fen=300),
        Rate(provinces=(), first=1, first_fen=800, extra=2, extra_fen=200, free_from_fen=9_900),
    )
    shipping_id = derived(now, shop_id, "shipping")
    starts, ends = now - _BEGAN, now + _GOES_ON
    coupon_ids = [derived(now, shop_id, "coupon", n) for n in range(2)]
    coupons = (
        tables.Coupon(
            coupon_ids[0],
            "新客立减10元",
            "10 yuan off",
            None,
            "fixed",
            1_000,
            None,
            None,
            10_000,
            None,
            0,
            0,
            starts,
            ends,
        ),
        tables.Coupon(
            coupon_ids[1],
            "全场九折券",
            "10 % off",
            "JIU9",
            "percent",
            None,
            1_000,
            3_000,
            5_000,
            1_000,
            0,
            0,
            starts,
            ends,
        ),
    )
    full_id = derived(now, shop_id, "full_reduction")
    on_sale = {one.product_id for one in goods.products if one.status == "on_sale"}
    dear = [one for one in goods.items if one.sku.product_id in on_sale and one.sku.price_fen >= 2_000]
    chosen = dear[int(rng.random() * len(dear))] if dear else None
    limited = (
        ()
        if chosen is None
        else (
            tables.LimitedPriceRow(
                derived(now, shop_id, "limited"),
                chosen.sku.sku_id,
                "限时特惠",
                "Limited offer",
                chosen.sku.price_fen * 8 // 10,
                200,
                2,
                now,
                now + timedelta(days=7),
            ),
        )
    )
    return Promises(
        tables.Shipping(shipping_id, "默认运费 Standard", {"unit": "piece", "rates": rates}, True),
        Template(shipping_id, "默认运费 Standard", "piece", rates),
        coupons,
        CouponTerms(coupon_ids[0], coupons[0].name, off_fen=1_000, threshold_fen=10_000),
        tables.FullReductionRow(full_id, "满减优惠", "Spend and save", _TIERS, starts, ends),
        FullReduction(full_id, "满减优惠", tuple(Tier(one["from_fen"], one["off_fen"]) for one in _TIERS)),
        limited,
    )


def pages(
    shop_id: UUID, slug: str, intro: Pair, goods: Range, pictures: Sequence[str], now: datetime
) -> list[tables.Page]:
    """The home page and a free one, in blocks."""

    def block_id(name: str) -> UUID:
        return derived(now, shop_id, "block", name)

    def address(picture: str) -> str:
        return f"/pictures/{shop_id}/{picture}"

    home: list[blocks.AnyBlock] = []
    if pictures:
        slides = tuple(
            blocks.Slide(picture=address(one), alt=intro[0], link=f"/s/{slug}/products") for one in pictures[:3]
        )
        home.append(blocks.Banner(id=block_id("banner"), slides=slides))
    home.append(blocks.Notice(id=block_id("notice"), text="满199减20，满399减50 · Save 20 from 199, 50 from 399"))
    if pictures:
        cells = tuple(
            blocks.Cell(
                picture=address(pictures[n % len(pictures)]),
                alt=one.name,
                label=one.name,
                link=f"/s/{slug}/products?category={one.category_id}",
            )
            for n, one in enumerate(goods.categories)
        )
        home.append(blocks.Grid(id=block_id("grid"), cells=cells, columns=4))
    home.append(blocks.ProductList(id=block_id("best"), source="bestselling", title="大家都在买 Bestsellers", most=6))
    first = goods.categories[0]
    home.append(
        blocks.ProductList(
            id=block_id("category"),
            source="category",
            category_id=first.category_id,
            title=f"{first.name} {first.name_en}",
            most=6,
        )
    )
    home.append(blocks.ProductList(id=block_id("new"), source="newest", title="新品上架 New in", most=10))
    about: list[blocks.AnyBlock] = [
        blocks.Text(
            id=block_id("about"),
            heading="关于我们 About us",
            text="\n\n".join((*intro, *(text for pair in words().stories for text in pair))),
        )
    ]
    return [
        _page(derived(now, shop_id, "page", "home"), "", "首页", "Home", home, False, now),
        _page(derived(now, shop_id, "page", "about"), "about", "关于我们", "About us", about, True, now),
    ]


def _page(
    page_id: UUID, slug: str, title: str, title_en: str, shown: list[blocks.AnyBlock], in_menu: bool, now: datetime
) -> tables.Page:
    written = msgspec.Raw(blocks.page_to_json(blocks.Page(tuple(shown))))
    return tables.Page(page_id, slug, title, title_en, written, written, now, in_menu, 0, now)
