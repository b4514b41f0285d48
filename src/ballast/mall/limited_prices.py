"""Limited-time prices (限时折扣): a SKU costs less for a time, perhaps for a number of pieces.

Two of one SKU never hold at the same time: which of them a shopper would get is nobody's guess, and merchants take it for a
fault. Making one waits for the other (one lock a shop), and a conflict is told by name and period.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import audit, promotions
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.promotions import Named
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("promotions")
MOST_AT_ONCE = 100


class Price(msgspec.Struct, frozen=True):
    """What a SKU costs meanwhile; `quota` and `per_customer` in pieces, None: any number."""

    sku_id: UUID
    price_fen: int
    quota: int | None = None
    per_customer: int | None = None


class LimitedPrice(Named, frozen=True, kw_only=True):
    """One that is there."""

    promotion_id: UUID
    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: tuple[str, ...]
    list_fen: int
    price_fen: int
    quota: int | None
    sold: int
    per_customer: int | None
    stopped_at: datetime | None


class Overlap(Refused):
    """Another limited-time price of the same goods holds at that time. `others`: (goods, name, from, until)."""

    def __init__(self, others: Sequence[tuple[str, str, datetime, datetime]]) -> None:
        goods, name, starts_at, ends_at = others[0]
        super().__init__(
            "limited.overlaps",
            f"{goods} has the limited-time price {name!r} from {starts_at:%Y-%m-%d %H:%M} until {ends_at:%Y-%m-%d %H:%M} UTC.",
            "Stop that one, or take another period.",
            count=len(others),
        )
        self.others = tuple(others)


async def limited_prices(connection: Connection, *, before: UUID | None = None, most: int = 50) -> list[LimitedPrice]:
    """The shop's, newest first."""
    cursor = await connection.execute(_SQL.limited_prices, {"before": before, "most": most})
    return msgspec.convert(await cursor.fetchall(), list[LimitedPrice])


async def add(
    connection: Connection, shop_id: UUID, named: Named, prices: Sequence[Price], by: By, now: datetime
) -> list[UUID]:
    """One for each of these SKUs, all or none; their ids.

    Raises:
        Overlap: with those that are there.
        Refused: a price is not below the list price, a number is not positive, a SKU is not there.
    """
    promotions.check(named)
    if not 1 <= len(prices) <= MOST_AT_ONCE or len({one.sku_id for one in prices}) < len(prices):
        raise Refused("limited.none", f"Give a price for 1 to {MOST_AT_ONCE} SKUs.", most=MOST_AT_ONCE)
    skus = [one.sku_id for one in prices]
    await connection.execute(_SQL.one_limited_at_a_time)
    rows = await (await connection.execute(_SQL.list_prices, {"skus": skus})).fetchall()
    lists = {row["sku_id"]: row["price_fen"] for row in rows}
    if set(lists) != set(skus):
        raise Refused("promotion.goods", "Some of these SKUs are not there.", "Choose again.")
    for one in prices:
        if not 0 <= one.price_fen < lists[one.sku_id]:
            raise Refused("limited.price", "A limited-time price is below the list price.", "Correct it.")
        if any(number is not None and not 1 <= number <= 10_000_000 for number in (one.quota, one.per_customer)):
            raise Refused("limited.numbers", "Numbers of pieces are 1 at least.", "Correct them.")
    await _no_other(connection, skus, named.starts_at, named.ends_at, [])
    made = [new_id() for _ in prices]
    for promotion_id, one in zip(made, prices, strict=True):
        await connection.execute(
            _SQL.add_limited,
            {**msgspec.structs.asdict(named), **msgspec.structs.asdict(one), "promotion_id": promotion_id},
        )
    await audit.note_in_shop(connection, by, "limited.made", now, shop_id=shop_id, subject=named.name, skus=len(prices))
    return made


async def resume(connection: Connection, shop_id: UUID, promotion_id: UUID, by: By, now: datetime) -> None:
    """One that was stopped goes on. Overlap where another took its place."""
    await connection.execute(_SQL.one_limited_at_a_time)
    row = await (await connection.execute(_SQL.limited_price, {"promotion_id": promotion_id})).fetchone()
    if row is None:
        raise promotions.unknown(promotion_id)
    await _no_other(connection, [row["sku_id"]], row["starts_at"], row["ends_at"], [promotion_id])
    await promotions.stop(connection, shop_id, "limited", promotion_id, True, by, now)


async def _no_other(
    connection: Connection, skus: Sequence[UUID], starts_at: datetime, ends_at: datetime, but: Sequence[UUID]
) -> None:
    asked = {"skus": list(skus), "starts_at": starts_at, "ends_at": ends_at, "but": list(but)}
    rows = await (await connection.execute(_SQL.overlapping, asked)).fetchall()
    if rows:
        raise Overlap(
            [(" ".join([row["title"], *row["options"]]), row["name"], row["starts_at"], row["ends_at"]) for row in rows]
        )
