"""What a shop offers, as its own software reads and changes it: a product's status; price, code and offer of its SKUs.

A change names the version that it was made from; where somebody has changed the product since, it is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("offers")
Status = Literal["draft", "on_sale", "off_sale", "archived"]


class OfferedSku(msgspec.Struct, frozen=True):
    """A SKU with its price and stock."""

    sku_id: UUID
    code: str
    options: list[str]
    price_fen: int
    compare_at_fen: int | None
    weight_g: int
    active: bool
    on_hand: int
    reserved: int


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


class Offer(OfferSummary, frozen=True):
    """A product with its SKUs."""

    skus: tuple[OfferedSku, ...]


class Outdated(Refused):
    """Somebody has changed it since it was read."""

    def __init__(self) -> None:
        super().__init__("version.outdated", "It was changed since you read it.", "Read it again, then change it.")


class SkuChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a SKU is to be another; what is left out stays."""

    price_fen: int | UnsetType = UNSET
    compare_at_fen: int | UnsetType | None = UNSET
    code: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET


async def listed(
    connection: Connection, *, status: Status | None = None, before: UUID | None = None, most: int = 20
) -> tuple[OfferSummary, ...]:
    """Products, the newest first; `before`: the last one of the page before."""
    cursor = await connection.execute(_SQL.listed, {"status": status, "before": before, "most": most})
    return tuple(msgspec.convert(row, OfferSummary) for row in await cursor.fetchall())


async def get(connection: Connection, product_id: UUID) -> Offer:
    """A product. Refused (`product.unknown`) where there is none."""
    row = await (await connection.execute(_SQL.product, {"product_id": product_id})).fetchone()
    if row is None:
        raise _unknown(product_id)
    skus = await (await connection.execute(_SQL.skus, {"product_id": product_id})).fetchall()
    return msgspec.convert({**row, "skus": skus}, Offer)


async def set_status(
    connection: Connection, product_id: UUID, status: Status, *, version: int | None, now: datetime
) -> Offer:
    """Put it on sale, take it off, put it away.

    Args:
        version: the one that it was read with; None: whichever.

    Raises:
        Outdated; Refused: `product.unknown`, `product.nothing_to_sell` (no SKU is offered), `product.archived` (the plan's
            room has to be looked at, which the admin does).
    """
    await _is(connection, product_id, version)
    if status != "archived" and (await get(connection, product_id)).status == "archived":
        raise Refused("product.archived", "The product is put away.", "Take it out of the archive in the admin.")
    await connection.execute(_SQL.change, {"product_id": product_id, "status": status, "now": now})
    changed = await get(connection, product_id)
    if status == "on_sale" and not any(sku.active for sku in changed.skus):
        raise Refused("product.nothing_to_sell", "No SKU of the product is offered.", "Make one active first.")
    return changed


async def change_sku(
    connection: Connection, product_id: UUID, sku_id: UUID, change: SkuChange, *, version: int | None, now: datetime
) -> Offer:
    """Another price, code or offer of a SKU; the product has a new version then.

    Raises:
        Outdated; Refused: `product.unknown`, `sku.unknown`, `sku.compare_at` (a crossed-out price is above the price).
    """
    await _is(connection, product_id, version)
    this = {"product_id": product_id, "sku_id": sku_id}
    row = await (await connection.execute(_SQL.sku, this)).fetchone()
    if row is None:
        raise Refused("sku.unknown", f"The product has no SKU {sku_id}.", "Look at the product.")
    price = row["price_fen"] if change.price_fen is UNSET else change.price_fen
    compare = row["compare_at_fen"] if change.compare_at_fen is UNSET else change.compare_at_fen
    if compare is not None and compare <= price:
        raise Refused("sku.compare_at", "A crossed-out price is above the price.", "Change both, or leave it out.")
    given = {name: None if value is UNSET else value for name, value in msgspec.structs.asdict(change).items()}
    compare_given = change.compare_at_fen is not UNSET
    await connection.execute(_SQL.change_sku, {**this, **given, "compare_given": compare_given})
    await connection.execute(_SQL.change, {"product_id": product_id, "status": None, "now": now})
    return await get(connection, product_id)


async def hold(connection: Connection, product_id: UUID) -> int:
    """The product's version, which nobody else changes until the transaction ends. Refused (`product.unknown`)."""
    row = await (await connection.execute(_SQL.hold, {"product_id": product_id})).fetchone()
    if row is None:
        raise _unknown(product_id)
    version: int = row["version"]
    return version


async def _is(connection: Connection, product_id: UUID, version: int | None) -> None:
    if version not in (None, await hold(connection, product_id)):
        raise Outdated


def _unknown(product_id: UUID) -> Refused:
    return Refused("product.unknown", f"The shop has no product {product_id}.", "Look at the list of products.")
