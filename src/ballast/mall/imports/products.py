"""Products out of lines, and into a shop: categories, product, SKUs, their stock; a product whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import queries, richtext, tables
from ballast.mall.db import Connection
from ballast.mall.ids import derived, part_of
from ballast.mall.imports import values
from ballast.mall.imports.columns import OF_PRODUCT
from ballast.mall.imports.grouping import Group
from ballast.mall.rules import bigrams
from ballast.mall.rules.refused import Refused

ACTOR = "import"
_MOST_FEN = 100_000_000_000
_STATUSES = {
    "draft": "draft", "on_sale": "on_sale", "off_sale": "off_sale", "archived": "archived",
    "草稿": "draft", "在售": "on_sale", "上架": "on_sale", "下架": "off_sale",
}  # fmt: skip

Said = tuple[str, str]
"""In Chinese and English; the second may be empty."""


class Variant(msgspec.Struct, frozen=True):
    """A SKU as a line says it."""

    code: str
    options: tuple[str, ...]
    price_fen: int
    list_price_fen: int | None
    stock: int
    weight_g: int


class Brought(msgspec.Struct, frozen=True):
    """A product as its lines say it."""

    code: str
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    description: str
    description_en: str
    categories: tuple[tuple[Said, ...], ...]
    status: str
    created_at: datetime | None
    specs: tuple[tuple[Said, tuple[Said, ...]], ...]
    variants: tuple[Variant, ...]


def read(group: Group, now: datetime) -> Brought:
    """A product. Refused (with the line's number in front where it is not the first): a cell cannot be read, lines contradict
    each other."""
    first = group.lines[0].cells
    for line in group.lines[1:]:
        for column in OF_PRODUCT:
            said = line.cells.get(column, "")
            if said and said != first.get(column, ""):
                raise _at(
                    line.number, f"{column}: it is not what the product's first line says.", "Make them the same."
                )
    pairs = [_options(line.cells.get("options", "")) for line in group.lines]
    names = [option for option, _ in pairs[0]]
    variants: list[Variant] = []
    matrix: list[dict[str, Said]] = [{} for _ in names]
    for line, chosen in zip(group.lines, pairs, strict=True):
        if [option[0] for option, _ in chosen] != [name[0] for name in names]:
            raise _at(
                line.number,
                "options: they are others than in the product's first line.",
                "Give all the same, in one order.",
            )
        for known, (_, value) in zip(matrix, chosen, strict=True):
            known.setdefault(value[0], value)
        try:
            variants.append(_variant(line.cells, tuple(value[0] for _, value in chosen)))
        except Refused as error:
            raise _at(line.number, error.what, error.do) from None
    if len(names) > 3:
        raise Refused("import.options", "options: it has more than three.", "Three are possible.")
    if len({one.options for one in variants}) < len(variants):
        raise Refused("import.options", "options: two lines have the same.", "Each SKU has its own.")
    return Brought(
        code=values.code(first, "product_code", needed=True),
        title=values.text(first, "name_zh", 120, needed=True),
        title_en=values.text(first, "name_en", 200),
        subtitle=values.text(first, "subtitle_zh", 200),
        subtitle_en=values.text(first, "subtitle_en", 300),
        description=richtext.clean(values.text(first, "description", 60_000), drop_foreign=True),
        description_en=richtext.clean(values.text(first, "description_en", 60_000), drop_foreign=True),
        categories=tuple(_paths(values.text(first, "category", 1_000))),
        status=values.choice(first, "status", _STATUSES, default="on_sale"),
        created_at=values.moment(first, "created_at", now),
        specs=tuple((name, tuple(known.values())) for name, known in zip(names, matrix, strict=True)),
        variants=tuple(variants),
    )


class Shelf(msgspec.Struct):
    """What a shop has already, for a batch of products."""

    there: dict[str, tuple[UUID, set[tuple[str, ...]]]]
    """By code: the product, and the options of its SKUs."""
    categories: dict[tuple[UUID | None, str], UUID]
    """By parent and name."""
    products: int
    most_products: int
    opened_at: datetime
    position: int


async def shelf(connection: Connection, codes: Sequence[str]) -> Shelf:
    """Read it."""
    text = queries.load("imports")
    shop = await (await connection.execute(text.shelf)).fetchone()
    assert shop is not None
    there: dict[str, tuple[UUID, set[tuple[str, ...]]]] = {}
    for row in await (await connection.execute(text.products_there, {"codes": list(codes)})).fetchall():
        product = there.setdefault(row["external_code"], (row["product_id"], set()))
        if row["options"] is not None:
            product[1].add(tuple(row["options"]))
    found = await (await connection.execute(text.categories)).fetchall()
    return Shelf(
        there,
        {(row["parent_id"], row["name"]): row["category_id"] for row in found},
        shop["products"],
        shop["max_products"],
        shop["opened_at"],
        shop["position"],
    )


def rows_of(shop_id: UUID, product: Brought, known: Shelf, now: datetime) -> list[tables.Row]:
    """Its rows, with those of categories that the shop has not yet. `known` has them from then on.

    Raises:
        Refused: the shop's plan has no room for it.
    """
    if product.status != "archived" and known.products >= known.most_products:
        raise Refused(
            "product.full",
            f"The shop's plan allows {known.most_products} products.",
            "Give it a larger plan, or archive some of its products.",
        )
    made_at = product.created_at or known.opened_at
    # The last of the file is the newest where nothing says when they were made.
    product_id = derived(made_at, shop_id, "product", product.code)
    rows: list[tables.Row] = []
    wanted = {_category(shop_id, path, known, made_at, rows) for path in product.categories}
    prices = [one.price_fen for one in product.variants]
    known.position += 1
    rows.append(
        tables.Product(
            product_id=product_id,
            status=product.status,
            title=product.title,
            title_en=product.title_en,
            subtitle=product.subtitle,
            subtitle_en=product.subtitle_en,
            description=product.description,
            description_en=product.description_en,
            specs=[
                {
                    "name": name[0],
                    "name_en": name[1],
                    "values": [{"value": zh, "value_en": en} for zh, en in every],
                }
                for name, every in product.specs
            ],
            pictures=(),
            min_price_fen=min(prices),
            max_price_fen=max(prices),
            sold=0,
            search=_search(product),
            external_code=product.code,
            position=known.position,
            created_at=made_at,
            updated_at=now,
        )
    )
    rows += [tables.ProductCategory(product_id, category_id) for category_id in sorted(wanted)]
    for n, one in enumerate(product.variants):
        sku_id = part_of(product_id, n + 1)
        rows.append(
            tables.Sku(sku_id, product_id, one.code, one.options, one.price_fen, one.list_price_fen, one.weight_g, n)
        )
        rows.append(tables.Stock(sku_id, one.stock, 0))
        if one.stock:
            rows.append(
                tables.StockMovement(
                    derived(now, sku_id, "import"), sku_id, "import", one.stock, 0, None, ACTOR, "", now
                )
            )
    known.there[product.code] = product_id, {one.options for one in product.variants}
    known.products += product.status != "archived"
    return rows


def _category(shop_id: UUID, path: Sequence[Said], known: Shelf, made_at: datetime, rows: list[tables.Row]) -> UUID:
    parent: UUID | None = None
    for name, name_en in path:
        here = known.categories.get((parent, name))
        if here is None:
            here = derived(made_at, shop_id, "category", parent, name)
            known.categories[parent, name] = here
            rows.append(tables.Category(here, parent, name, name_en, len(known.categories)))
        parent = here
    assert parent is not None
    return parent


def _variant(cells: Mapping[str, str], options: tuple[str, ...]) -> Variant:
    price = values.yuan(cells, "price_yuan", needed=True)
    before = values.yuan(cells, "list_price_yuan")
    assert price is not None
    if max(price, before or 0) > _MOST_FEN:
        raise values.refused("price_yuan", "it is more than a thousand million.", "Correct it.")
    if before is not None and before <= price:
        raise values.refused("list_price_yuan", "it is not above the price.", "Leave it empty, or raise it.")
    return Variant(
        values.code(cells, "sku_code"),
        options,
        price,
        before,
        values.whole(cells, "stock", 0, 10**9) or 0,
        values.whole(cells, "weight_g", 0, 10**9) or 0,
    )


def _options(written: str) -> list[tuple[Said, Said]]:
    found = []
    for pair in filter(str.strip, written.split(";")):
        option, sign, value = pair.partition("=")
        name, chosen = _said(option), _said(value)
        if not sign or not name[0] or not chosen[0] or max(map(len, (*name, *chosen))) > 40:
            raise values.refused(
                "options", f"{pair[:60]!r} cannot be read.", "Write it like 颜色|Colour=红|Red;尺码|Size=S."
            )
        found.append((name, chosen))
    return found


def _paths(written: str) -> list[tuple[Said, ...]]:
    found = []
    for path in filter(str.strip, written.split(";")):
        names = tuple(_said(one) for one in path.split(">"))
        if len(names) > 2 or not all(name[0] and len(name[0]) <= 40 and len(name[1]) <= 60 for name in names):
            raise values.refused(
                "category", f"{path[:60]!r} cannot be read.", "Write it like 女装>上衣, of two levels at most."
            )
        found.append(names)
    return found


def _said(text: str) -> Said:
    zh, _, en = text.partition("|")
    return zh.strip(), en.strip()


def _search(product: Brought) -> str:
    return bigrams.document(
        (product.title, "A"),
        (product.title_en, "A"),
        (product.subtitle, "B"),
        (product.subtitle_en, "B"),
        (richtext.plain(product.description), "D"),
        (richtext.plain(product.description_en), "D"),
    )


def _at(number: int, what: str, do: str) -> Refused:
    return Refused("import.line", f"Line {number}: {what}", do, line=number)


def lacks(product: Brought, options: set[tuple[str, ...]]) -> bool:
    """Whether the product in the shop, whose SKUs have these options, is without one of those that the file names."""
    return any(one.options not in options for one in product.variants)
