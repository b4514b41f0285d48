"""What a shop shows: itself, its pages, categories and products. Only reading, and only what anybody may see.

Lists are paged by key: `after` is the place of the last product of the page before, so that page 500 costs what page 1 does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.rules import bigrams, blocks
from ballast.mall.rules.refused import Refused

_BEFORE_ALL = (-(2**31), UUID(int=0))


class Entry(msgspec.Struct, frozen=True):
    """A shop as the directory has it."""

    shop_id: UUID
    slug: str
    name: str
    status: str


class MenuItem(msgspec.Struct, frozen=True):
    """A free page that the shop's menu leads to."""

    slug: str
    title: str
    title_en: str


class Look(msgspec.Struct, frozen=True):
    """How a shop presents itself."""

    name: str
    name_en: str
    intro: str
    intro_en: str
    notice: str
    notice_en: str
    logo_picture: str | None
    service_phone: str
    language: str
    theme_colour: str
    pickup_address: str
    return_address: str
    levels: str
    """JSON, for `terms.levels`."""
    points_per_yuan: int
    menu: tuple[MenuItem, ...]


class Page(msgspec.Struct, frozen=True):
    """A published page."""

    title: str
    title_en: str
    blocks: tuple[blocks.AnyBlock, ...]


class Category(msgspec.Struct, frozen=True):
    """A visible category."""

    category_id: UUID
    parent_id: UUID | None
    name: str
    name_en: str
    picture: str | None


class Item(msgspec.Struct, frozen=True):
    """A product in a list."""

    product_id: UUID
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    picture: str | None
    min_price_fen: int
    max_price_fen: int
    sold: int
    position: int

    @property
    def place(self) -> str:
        """Where it stands in a list: `after` of the next page."""
        return f"{self.position}.{self.product_id}"


class Items(msgspec.Struct, frozen=True):
    """A page of products. `after`: of the next page; None: this is the last one."""

    items: tuple[Item, ...]
    after: str | None


class SpecValue(msgspec.Struct, frozen=True):
    """One value that can be chosen."""

    value: str
    value_en: str = ""


class Spec(msgspec.Struct, frozen=True):
    """One thing to choose: a size, a colour."""

    name: str
    name_en: str = ""
    values: tuple[SpecValue, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """A SKU of a product."""

    sku_id: UUID
    options: list[str]
    price_fen: int
    compare_at_fen: int | None
    free: int
    """Pieces that can be bought now."""
    limited_fen: int | None
    """A limited-time price that holds now."""
    limited_until: datetime | None

    @property
    def now_fen(self) -> int:
        """What one piece costs now, before what depends on the whole order."""
        return self.price_fen if self.limited_fen is None else self.limited_fen


class Product(msgspec.Struct, frozen=True):
    """A product with all that can be chosen of it."""

    product_id: UUID
    title: str
    title_en: str
    subtitle: str
    subtitle_en: str
    description: str
    """HTML, sanitised when it was written."""
    description_en: str
    specs: tuple[Spec, ...]
    pictures: list[str]
    min_price_fen: int
    max_price_fen: int
    sold: int
    choices: tuple[Choice, ...]


async def entry(connection: Connection, slug: str) -> Entry | None:
    """The shop of a slug, whatever its status; None: there is none. Any connection will do (`Database.directory`)."""
    row = await (await connection.execute(queries.load("catalog").shop, {"slug": slug})).fetchone()
    return Entry(**row) if row else None


async def look(connection: Connection) -> Look:
    """How the shop of this transaction presents itself."""
    row = await (await connection.execute(queries.load("catalog").look)).fetchone()
    if row is None:
        raise Refused("shop.not_open", "The shop has no data.", "Come back later.")
    return msgspec.convert({**row, "menu": msgspec.json.decode(row["menu"])}, Look)


async def page(connection: Connection, slug: str) -> Page | None:
    """A published page ("" is the home page); None where there is none, or none that can be shown."""
    row = await (await connection.execute(queries.load("catalog").page, {"slug": slug})).fetchone()
    if row is None:
        return None
    written = row["published"]
    try:
        read = blocks.page_from_json(written if written.startswith("{") else f'{{"blocks":{written}}}')
    except Refused:
        return None
    return Page(row["title"], row["title_en"], read.blocks)


async def categories(connection: Connection) -> tuple[Category, ...]:
    """All visible categories, in the shop's order."""
    cursor = await connection.execute(queries.load("catalog").categories)
    return tuple(Category(**row) for row in await cursor.fetchall())


async def category(connection: Connection, category_id: UUID) -> Category | None:
    """A visible category."""
    cursor = await connection.execute(queries.load("catalog").category, {"category_id": category_id})
    row = await cursor.fetchone()
    return Category(**row) if row else None


async def products(
    connection: Connection, *, category_id: UUID | None = None, search: str = "", after: str = "", most: int = 20
) -> Items:
    """A page of products, of the whole shop, a category, or what a search finds.

    Args:
        search: as it was typed; goes before `category_id`.
        after: `Items.after` of the page before; what cannot be read means the first page.
    """
    text = queries.load("catalog")
    position, product_id = _read_place(after)
    asked: dict[str, Any] = {"after_position": position, "after_id": product_id, "most": most + 1}
    statement = text.listed
    if search:
        query = bigrams.query(search.replace("\x00", ""))
        if query is None:
            return Items((), None)
        statement, asked = text.found, {**asked, "query": query}
    elif category_id:
        statement, asked = text.listed_of_category, {**asked, "category_id": category_id}
    rows = await (await connection.execute(statement, asked)).fetchall()
    items = tuple(Item(**row) for row in rows[:most])
    return Items(items, items[-1].place if len(rows) > most else None)


async def newest(connection: Connection, most: int) -> tuple[Item, ...]:
    """The products that were made last."""
    return await _items(connection, queries.load("catalog").newest, {"most": most})


async def of_block(connection: Connection, block: blocks.ProductList) -> tuple[Item, ...]:
    """What a block of a decorated page shows; chosen products in the order in which they were chosen."""
    text = queries.load("catalog")
    if block.source == "category":
        return (await products(connection, category_id=block.category_id, most=block.most)).items
    if block.source == "chosen":
        found = {
            item.product_id: item
            for item in await _items(connection, text.chosen, {"products": list(block.product_ids)})
        }
        return tuple(found[one] for one in block.product_ids if one in found)[: block.most]
    statement = text.newest if block.source == "newest" else text.bestselling
    return await _items(connection, statement, {"most": block.most})


async def product(connection: Connection, product_id: UUID, now: datetime) -> Product | None:
    """A product that is on sale, with its SKUs; None: there is none."""
    cursor = await connection.execute(queries.load("catalog").product, {"product_id": product_id, "now": now})
    row = await cursor.fetchone()
    if row is None:
        return None
    specs = msgspec.json.decode(row["specs"], type=tuple[Spec, ...])
    choices = msgspec.json.decode(row["choices"] or "[]", type=tuple[Choice, ...])
    return Product(**{**row, "specs": specs, "choices": choices})


async def _items(connection: Connection, statement: str, asked: dict[str, Any]) -> tuple[Item, ...]:
    return tuple(Item(**row) for row in await (await connection.execute(statement.encode(), asked)).fetchall())


def _read_place(after: str) -> tuple[int, UUID]:
    position, _, product_id = after.partition(".")
    try:
        place = int(position), UUID(product_id)
    except ValueError:
        return _BEFORE_ALL
    return place if abs(place[0]) < 2**31 else _BEFORE_ALL
