"""What an editor chooses from: products, SKUs, categories, pictures. A search finds, or the newest are shown."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules import bigrams

_SQL = load("pick")
MOST = 30


class Product(msgspec.Struct, frozen=True):
    """A product to be chosen."""

    product_id: UUID
    title: str
    title_en: str
    picture: str | None
    status: str


class Sku(msgspec.Struct, frozen=True):
    """A SKU to be chosen."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: tuple[str, ...]
    price_fen: int


class Category(msgspec.Struct, frozen=True):
    """A category to be chosen."""

    category_id: UUID
    name: str
    name_en: str


class Picture(msgspec.Struct, frozen=True):
    """A picture of the shop; `picture` is its name in the store. Sizes in pixels."""

    picture: str
    width: int
    height: int
    created_at: datetime


async def products(connection: Connection, search: str = "", most: int = MOST) -> list[Product]:
    """What a search finds, whether it is on sale or not; without one the newest."""
    query = bigrams.query(search.replace("\x00", "")) if search.strip() else None
    if search.strip() and query is None:
        return []
    cursor = await connection.execute(_SQL.products, {"query": query, "most": most})
    return msgspec.convert(await cursor.fetchall(), list[Product])


async def products_of(connection: Connection, ids: Collection[UUID]) -> list[Product]:
    """These, in the order in which they are named; those that are not there left out."""
    cursor = await connection.execute(_SQL.products_of, {"products": list(ids)})
    found = {one.product_id: one for one in msgspec.convert(await cursor.fetchall(), list[Product])}
    return [found[one] for one in ids if one in found]


async def skus(connection: Connection, of: Sequence[Product], most: int = 100) -> list[Sku]:
    """The SKUs of these products."""
    cursor = await connection.execute(_SQL.skus, {"products": [one.product_id for one in of], "most": most})
    return msgspec.convert(await cursor.fetchall(), list[Sku])


async def categories(connection: Connection) -> list[Category]:
    """All of them."""
    return msgspec.convert(await (await connection.execute(_SQL.categories)).fetchall(), list[Category])


async def pictures(connection: Connection, most: int = 60) -> list[Picture]:
    """The latest."""
    cursor = await connection.execute(_SQL.pictures, {"most": most})
    return msgspec.convert(await cursor.fetchall(), list[Picture])


async def missing_pictures(connection: Connection, names: Collection[str]) -> set[str]:
    """Which of these pictures the shop does not have."""
    cursor = await connection.execute(_SQL.has_pictures, {"pictures": list(names)})
    return set(names) - {row["picture"] for row in await cursor.fetchall()}
