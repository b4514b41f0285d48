"""A merchant's stock: what is there by SKU, and counting it anew. The movements themselves are `stock`'s."""

from __future__ import annotations

from uuid import UUID

import msgspec

from ballast.mall import idempotency, queries, stock
from ballast.mall.db import Connection
from ballast.mall.product_record import Deed, Status
from ballast.mall.products import note
from ballast.mall.rules import bigrams
from ballast.mall.rules.refused import Refused

_SQL = queries.load("stock_list")
A_PAGE = 50
LONGEST_REASON = 200
_SCOPE = "stock"


class Shelf(msgspec.Struct, frozen=True):
    """A SKU with its pieces."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    status: Status
    picture: str | None
    options: tuple[str, ...]
    code: str
    on_hand: int
    reserved: int

    @property
    def free(self) -> int:
        """Pieces that can be bought."""
        return self.on_hand - self.reserved


async def listed(
    connection: Connection, *, text: str = "", low: int | None = None, before: UUID | None = None, most: int = A_PAGE
) -> tuple[tuple[Shelf, ...], UUID | None]:
    """A page of SKUs, and the `before` of the next one (None: this is the last)."""
    typed = text.replace("\x00", "").strip()
    values = {"q": typed, "query": bigrams.query(typed) or "", "low": low, "before": before, "most": most + 1}
    rows = await (await connection.execute(_SQL.listed, values)).fetchall()
    shelves = tuple(msgspec.convert(row, Shelf) for row in rows[:most])
    return shelves, shelves[-1].sku_id if len(rows) > most else None


async def one(connection: Connection, sku_id: UUID) -> Shelf | None:
    """A SKU of the shop."""
    row = await (await connection.execute(_SQL.one, {"sku_id": sku_id})).fetchone()
    return msgspec.convert(row, Shelf) if row else None


async def receive(connection: Connection, sku_id: UUID, pieces: int, reason: str, key: str, deed: Deed) -> None:
    """So many more, once for a form's key."""
    await _known(connection, sku_id)

    async def work() -> None:
        await stock.receive(connection, {sku_id: pieces}, actor=deed.by.login, now=deed.now, reason=_reason(reason))
        await note(connection, deed, "stock.received", sku_id, pieces=pieces)

    await idempotency.once(connection, _SCOPE, key, ("receive", sku_id, pieces, reason), type(None), work, deed.now)


async def count(connection: Connection, sku_id: UUID, on_hand: int, reason: str, key: str, deed: Deed) -> None:
    """So many there are, as somebody counted, once for a form's key. Refused without a reason."""
    await _known(connection, sku_id)
    if not _reason(reason):
        raise Refused("stock.reason", "The stock is changed without a reason.", "Say why.")

    async def work() -> None:
        changed = await stock.adjust(
            connection, sku_id, on_hand, actor=deed.by.login, now=deed.now, reason=_reason(reason)
        )
        await note(connection, deed, "stock.counted", sku_id, on_hand=on_hand, changed=changed)

    await idempotency.once(connection, _SCOPE, key, ("count", sku_id, on_hand, reason), type(None), work, deed.now)


async def _known(connection: Connection, sku_id: UUID) -> None:
    if await one(connection, sku_id) is None:
        raise Refused("stock.unknown_sku", f"The shop has no SKU {sku_id}.", "Choose one of its SKUs.")
    await connection.execute(_SQL.begin, {"sku_id": sku_id})


def _reason(typed: str) -> str:
    return typed.strip()[:LONGEST_REASON]
