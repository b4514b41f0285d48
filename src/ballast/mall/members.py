"""A shop's customers, as its own software reads them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("members")


class Member(msgspec.Struct, frozen=True):
    """A customer. `level` is counted from 1; 0: none."""

    customer_id: UUID
    name: str
    phone: str | None
    email: str | None
    level: int
    points: int
    spent_fen: int
    external_code: str | None
    created_at: datetime


async def listed(
    connection: Connection, *, login: str | None = None, before: UUID | None = None, most: int = 20
) -> tuple[Member, ...]:
    """Customers, the newest first; `login`: who has this phone or address; `before`: the last of the page before."""
    cursor = await connection.execute(_SQL.listed, {"login": login, "before": before, "most": most})
    return tuple(msgspec.convert(row, Member) for row in await cursor.fetchall())


async def get(connection: Connection, customer_id: UUID) -> Member:
    """A customer. Refused (`customer.unknown`) where there is none."""
    row = await (await connection.execute(_SQL.member, {"customer_id": customer_id})).fetchone()
    if row is None:
        raise Refused("customer.unknown", f"The shop has no customer {customer_id}.", "Look at the list of customers.")
    return msgspec.convert(row, Member)
