"""What a seeded shop sells: categories, products with their options, SKUs with their prices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import product
from random import Random
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.ids import derived, part_of
from ballast.mall.rules.bigrams import document
from ballast.mall.seed.words import Trade, words

_WITHOUT_CHOICE = 0.35
_ROUND_TO = 100


class Item(msgspec.Struct, frozen=True):
    """A SKU that can be sold, with what an order line says of it."""

    sku: tables.Sku
    title: str
    title_en: str
    picture: str | None
    categories: frozenset[UUID]


class Range(msgspec.Struct, frozen=True):
    """All that a shop sells. `sold` of a product is known only when its orders are."""

    categories: Sequence[tables.Category]
    products: Sequence[tables.Product]
    in_category: Sequence[tables.ProductCategory]
    items: Sequence[Item]


def make(rng: Random, shop_id: UUID, trade: Trade, count: int, pictures: Sequence[str], now: datetime) -> Range:
    """`count` products. `pictures`: hashes to choose from; may be empty."""
    categories = [
        tables.Category(derived(now, shop_id, "category", n), None, name[0], name[1], n)
        for n, (name, _) in enumerate(trade.categories)
    ]
    names = [
        (place, quality, goods)
        for place, (_, every) in enumerate(trade.categories)
        for goods in every
        for quality in trade.qualities
    ]
    rng.shuffle(names)
    products: list[tables.Product] = []
    in_category: list[tables.ProductCategory] = []
    items: list[Item] = []
    for n in range(count):
        place, quality, goods = names[n % len(names)]
        again = n // len(names) + 1
        title = f"{quality[0]}{goods[0]}" + (f" {again}号" if again > 1 else "")
        title_en = f"{quality[1]} {goods[1]}" + (f" No. {again}" if again > 1 else "")
        # Made over the last year, the first of the list last: the newest are not those that stand first.
        made_at = now - timedelta(days=100 + 300 * rng.random(), seconds=n)
        product_id = derived(made_at, shop_id, "product", n)
        shown = (pictures[int(rng.random() * len(pictures))],) if pictures else ()
        choices = () if rng.random() < _WITHOUT_CHOICE else trade.choices
        category = categories[place].category_id
        skus = _skus(rng, product_id, trade, choices, f"{trade.slug.upper()}-{n + 1:04}")
        prices = [sku.price_fen for sku in skus]
        subtitle, subtitle_en = words().intros[int(rng.random() * len(words().intros))]
        story, story_en = words().stories[int(rng.random() * len(words().stories))]
        products.append(
            tables.Product(
                product_id=product_id,
                status="on_sale" if n == 0 or rng.random() < 0.96 else "off_sale",
                title=title,
                title_en=title_en,
                subtitle=subtitle,
                subtitle_en=subtitle_en,
                description=f"<p>{title}。{story}</p>",
                description_en=f"<p>{title_en}. {story_en}</p>",
                specs=[
                    {
                        "name": one.name[0],
                        "name_en": one.name[1],
                        "values": [{"value": zh, "value_en": en} for zh, en in one.values],
                    }
                    for one in choices
                ],
                pictures=shown,
                min_price_fen=min(prices),
                max_price_fen=max(prices),
                sold=0,
                search=_search(title, title_en, subtitle, subtitle_en),
                external_code=None,
                position=n,
                created_at=made_at,
                updated_at=made_at,
            )
        )
        in_category.append(tables.ProductCategory(product_id, category))
        picture = shown[0] if shown else None
        items += [Item(sku, title, title_en, picture, frozenset({category})) for sku in skus]
    return Range(categories, products, in_category, items)


def _skus(rng: Random, product_id: UUID, trade: Trade, choices: Sequence[object], code: str) -> list[tables.Sku]:
    low, high = trade.prices
    # Many cheap things, few dear ones.
    base = low + int((high - low) * rng.random() ** 3)
    grams = trade.grams[0] + int((trade.grams[1] - trade.grams[0]) * rng.random())
    every = list(product(*([value[0] for value in one.values] for one in trade.choices))) if choices else [()]
    found = []
    for n, options in enumerate(every):
        price = max(_ROUND_TO, round(base * (1 + 0.25 * (n % 4)) / _ROUND_TO) * _ROUND_TO - 10)
        before = price + round(price * 0.2 / _ROUND_TO + 1) * _ROUND_TO if rng.random() < 0.2 else None
        found.append(
            tables.Sku(
                sku_id=part_of(product_id, n + 1),
                product_id=product_id,
                code=f"{code}-{n + 1:02}",
                options=options,
                price_fen=price,
                compare_at_fen=before,
                weight_g=grams,
                position=n,
            )
        )
    return found


@lru_cache(maxsize=50_000)
def _search(title: str, title_en: str, subtitle: str, subtitle_en: str) -> str:
    """Many shops sell goods of one name: worked out once."""
    return document((title, "A"), (title_en, "A"), (subtitle, "B"), (subtitle_en, "B"))
