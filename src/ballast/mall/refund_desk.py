"""Refunds as the shop's people work through them. What happens to one is in `aftersales`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall import aftersales, queries
from ballast.mall.aftersales import Refund, UnknownRefund
from ballast.mall.db import Connection
from ballast.mall.fulfilment import COUNTED
from ballast.mall.rules.refunding import RefundState


class Listed(msgspec.Struct, frozen=True):
    """A refund in the list."""

    refund_id: UUID
    order_id: UUID
    number: str
    """Of the order."""
    buyer_name: str
    status: RefundState
    with_return: bool
    amount_fen: int
    reason: str
    requested_by: str
    created_at: datetime
    undue: bool


class Cursor(msgspec.Struct, frozen=True):
    """The last refund of the page before."""

    created_at: datetime
    refund_id: UUID


async def page(
    connection: Connection, statuses: Sequence[RefundState] = (), *, before: Cursor | None = None, most: int = 50
) -> tuple[Listed, ...]:
    """A page of refunds in these states (none named: all), newest first."""
    cursor = await connection.execute(
        queries.load("refund_desk").page,
        {
            "statuses": [one.value for one in statuses] or None,
            "before_at": before.created_at if before else None,
            "before_id": before.refund_id if before else None,
            "most": most,
        },
    )
    return tuple(msgspec.convert(row, Listed) for row in await cursor.fetchall())


async def counts(connection: Connection) -> dict[RefundState, int]:
    """How many are in each state; `COUNTED` stands for that many or more."""
    given = {"each": [one.value for one in RefundState], "most": COUNTED}
    cursor = await connection.execute(queries.load("refund_desk").counts, given)
    return {RefundState(row["status"]): row["refunds"] for row in await cursor.fetchall()}


async def one(connection: Connection, refund_id: UUID) -> Refund:
    """A refund, to be looked at: nothing is locked. Raises UnknownRefund."""
    cursor = await connection.execute(queries.load("aftersales").order_of, {"refund_id": refund_id})
    row = await cursor.fetchone()
    found = await aftersales.list_of(connection, order_id=row["order_id"], most=1000) if row else ()
    for refund in found:
        if refund.refund_id == refund_id:
            return refund
    raise UnknownRefund(refund_id)
