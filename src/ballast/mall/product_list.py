"""The list of a merchant's products: searched, filtered, sorted, page by page, and many of them changed at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import products, queries
from ballast.mall.db import Connection
from ballast.mall.product_record import Deed, Status
from ballast.mall.rules import bigrams, repricing
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.repricing import Change

_SQL = queries.load("products")
A_PAGE = 50
MOST_AT_ONCE = 500
LOW = 10
"""So few pieces of a SKU are few."""
Sort = Literal["newest", "changed", "position", "sold", "cheap", "dear"]
SORTS: tuple[Sort, ...] = ("newest", "changed", "position", "sold", "cheap", "dear")


class Wanted(msgspec.Struct, frozen=True):
    """What the list is asked for. `text`: words, a product's code or a SKU's. `low`: SKUs with so many pieces or fewer."""

    text: str = ""
    status: str = ""
    """Empty: all but archived ones."""
    category_id: UUID | None = None
    low: int | None = None
    sort: Sort = "newest"


class Row(msgspec.Struct, frozen=True):
    """A product in the list."""

    product_id: UUID
    status: Status
    title: str
    title_en: str
    external_code: str | None
    picture: str | None
    min_price_fen: int
    max_price_fen: int
    sold: int
    updated_at: datetime
    skus: int
    free: int
    """Pieces that can be bought."""


class Listed(msgspec.Struct, frozen=True):
    """A page. `after`: of the next one; None: this is the last."""

    rows: tuple[Row, ...]
    matching: int
    after: str | None


async def listed(connection: Connection, wanted: Wanted, after: str = "", most: int = A_PAGE) -> Listed:
    """A page of products. `after` that cannot be read means the first page."""
    place, product_id = _read_place(after)
    text = wanted.text.replace("\x00", "").strip()
    rows = await (
        await connection.execute(
            _SQL.listed,
            {
                "q": text,
                "query": bigrams.query(text) or "",
                "status": wanted.status,
                "category_id": wanted.category_id,
                "low": wanted.low,
                "sort": wanted.sort,
                "after_place": place,
                "after_id": product_id,
                "most": most + 1,
            },
        )
    ).fetchall()
    last = rows[most - 1] if len(rows) > most else None
    return Listed(
        tuple(msgspec.convert(row, Row) for row in rows[:most]),
        rows[0]["matching"] if rows else 0,
        f"{last['place']}.{last['product_id']}" if last else None,
    )


async def categorise(
    connection: Connection, chosen: Sequence[UUID], category_id: UUID, deed: Deed, *, take_out: bool = False
) -> int:
    """Put products into a category, or take them out of it; how many were not there (or were)."""
    _check(chosen)
    statement = _SQL.out_of_category if take_out else _SQL.into_category
    rows = await (
        await connection.execute(statement, {"products": list(chosen), "category_id": category_id})
    ).fetchall()
    for row in rows:
        action = "product.out_of_category" if take_out else "product.into_category"
        await products.note(connection, deed, action, row["product_id"], category=str(category_id))
    return len(rows)


async def reprice(connection: Connection, chosen: Sequence[UUID], change: Change, deed: Deed) -> int:
    """Change the prices of all SKUs of products; how many products. Refused, all of it, where one has no price left."""
    _check(chosen)
    await connection.execute(_SQL.hold, {"products": list(chosen)})
    found = await products.of_ids(connection, chosen)
    prices = {sku.sku_id: repricing.changed(sku.price_fen, change) for one in found.values() for sku in one.skus}
    await connection.execute(_SQL.set_prices, {"skus": list(prices), "prices": list(prices.values())})
    await products.refresh(connection, list(found), deed)
    for product_id in found:
        await products.note(connection, deed, "product.repriced", product_id, unit=change.by, amount=change.amount)
    return len(found)


async def set_status(connection: Connection, chosen: Sequence[UUID], status: str, deed: Deed) -> int:
    """Put products on sale, off sale or away; how many stood elsewhere."""
    _check(chosen)
    return await products.set_status(connection, chosen, status, deed)


def _check(chosen: Sequence[UUID]) -> None:
    if not chosen:
        raise Refused("product.none_chosen", "No product is chosen.", "Choose one at least.")
    if len(chosen) > MOST_AT_ONCE:
        raise Refused(
            "product.many", f"{len(chosen)} products are chosen.", f"Choose {MOST_AT_ONCE} at most.", most=MOST_AT_ONCE
        )


def _read_place(after: str) -> tuple[int, UUID | None]:
    place, _, product_id = after.partition(".")
    try:
        read = int(place), UUID(product_id)
    except ValueError:
        return 0, None
    return read if abs(read[0]) < 2**62 else (0, None)
