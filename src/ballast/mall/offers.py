"""What a shop offers, in pages, as its own software reads it. What it changes is in `product_wanted`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall.db import Connection
from ballast.mall.product_record import Status
from ballast.mall.queries import load

_SQL = load("offers")


class OfferSummary(msgspec.Struct, frozen=True):
    """A product in a list, whatever its status."""

    product_id: UUID
    status: Status
    title: str
    title_en: str
    min_price_fen: int
    max_price_fen: int
    sold: int
    external_code: str | None
    version: int
    created_at: datetime
    updated_at: datetime


async def listed(
    connection: Connection, *, status: Status | None = None, before: UUID | None = None, most: int = 20
) -> tuple[OfferSummary, ...]:
    """Products, the newest first; `before`: the last one of the page before."""
    cursor = await connection.execute(_SQL.listed, {"status": status, "before": before, "most": most})
    return tuple(msgspec.convert(row, OfferSummary) for row in await cursor.fetchall())
