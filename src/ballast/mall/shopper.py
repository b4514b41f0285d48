"""What a checkout can offer a shopper: his coupons, and the address of his last order."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.owner import Owner
from ballast.mall.quoting import Address


class HeldCoupon(msgspec.Struct, frozen=True):
    """A coupon that he took and did not use."""

    claim_id: UUID
    name: str
    name_en: str
    threshold_fen: int
    ends_at: datetime


async def coupons(connection: Connection, owner: Owner, now: datetime) -> tuple[HeldCoupon, ...]:
    """His coupons that hold now, the one that ends first first."""
    cursor = await connection.execute(queries.load("shopper").usable_coupons, {"owner_id": owner.id, "now": now})
    return tuple(HeldCoupon(**row) for row in await cursor.fetchall())


async def last_address(connection: Connection, owner: Owner) -> Address:
    """Where his last order went; empty for the first one."""
    row = await (await connection.execute(queries.load("shopper").last_address, {"owner_id": owner.id})).fetchone()
    if row is None:
        return Address()
    if row["address"]:
        return msgspec.json.decode(row["address"], type=Address)
    return Address(row["buyer_name"], row["buyer_phone"])
