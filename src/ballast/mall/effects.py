"""What follows a change of an order, in the same transaction: `rules.states.Effect`, done.

Always in this order, in which placing takes them too: quotas, coupon, stock, products, member.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import queries, stock, terms
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.round_trips import later
from ballast.mall.rules import levels
from ballast.mall.rules.breakdown import Breakdown


class Ordered(msgspec.Struct, frozen=True):
    """A line of an order as it was placed; pieces."""

    product_id: UUID | None
    sku_id: UUID | None
    quantity: int


class OrderPieces(msgspec.Struct, frozen=True):
    """A line of an order as far as goods move; pieces."""

    line: int
    product_id: UUID | None
    sku_id: UUID | None
    quantity: int
    shipped_quantity: int
    dropped_quantity: int
    """Their money goes back before they left: they are not sent."""
    refunded_quantity: int
    """Succeeded."""
    refunded_fen: int
    total_fen: int

    @property
    def to_send(self) -> int:
        """What still has to leave."""
        return self.quantity - self.shipped_quantity - self.dropped_quantity


def limited_uses(breakdown: Breakdown) -> dict[UUID, int]:
    """Pieces by limited-time price."""
    uses: dict[UUID, int] = {}
    for line in breakdown.lines:
        for use in line.limited:
            uses[use.promotion_id] = uses.get(use.promotion_id, 0) + use.quantity
    return uses


async def pieces(connection: Connection, order_id: UUID) -> tuple[OrderPieces, ...]:
    """The lines of an order."""
    cursor = await connection.execute(queries.load("orders").pieces, {"order_id": order_id})
    return tuple(OrderPieces(**row) for row in await cursor.fetchall())


async def sell_stock(
    connection: Connection, order_id: UUID, goods: str, *, actor: str, now: datetime, moved: bool = False
) -> None:
    """Reserved pieces become sold ones. `goods`: of the order that is locked. `moved`: they have left, unreserved."""
    lines = msgspec.json.decode(goods, type=tuple[Ordered, ...])
    if not moved:
        await stock.sell(connection, _by_sku(lines), order_id, actor=actor, now=now)
    await _count_sold(connection, lines)


async def release(connection: Connection, order_id: UUID, goods: str, *, actor: str, now: datetime) -> None:
    """Reserved pieces are free again. `goods`: of the order that is locked."""
    lines = msgspec.json.decode(goods, type=tuple[Ordered, ...])
    await stock.release(connection, _by_sku(lines), order_id, actor=actor, now=now)


async def release_limited(connection: Connection, breakdown: str) -> None:
    """A cancelled order counts against no quota. `breakdown`: JSON, as stored; `{}` of an imported order."""
    if breakdown == "{}":
        return
    if uses := limited_uses(msgspec.json.decode(breakdown, type=Breakdown)):
        await connection.execute(
            queries.load("orders").release_limited, {"promotions": list(uses), "pieces": list(uses.values())}
        )


async def return_coupon(connection: Connection, order_id: UUID, claim_id: UUID | None) -> None:
    """The coupon of a cancelled order can be used again."""
    if claim_id:
        await connection.execute(queries.load("orders").return_coupon, {"claim_id": claim_id, "order_id": order_id})


async def restock(
    connection: Connection, order_id: UUID, never_left: Mapping[int, int], *, actor: str, now: datetime
) -> None:
    """Pieces whose money went back and that never left (line → pieces) can be sold again."""
    lines = [line for line in await pieces(connection, order_id) if never_left.get(line.line)]
    back: dict[UUID, int] = {}
    for line in lines:
        if line.sku_id:
            back[line.sku_id] = back.get(line.sku_id, 0) + never_left[line.line]
    await stock.take_back(connection, back, order_id, actor=actor, now=now)


async def settle_member(
    connection: Connection,
    customer_id: UUID | None,
    order_id: UUID,
    *,
    paid_fen: int,
    refunded_fen: int,
    spent_change_fen: int,
    reason: str,
    now: datetime,
) -> None:
    """Give or take points until the order has earned what `levels.points` says; what he has spent, and so his level."""
    if customer_id is None:
        return
    text = queries.load("orders")
    cursor = await connection.execute(text.member, {"customer_id": customer_id, "order_id": order_id})
    row: dict[str, Any] | None = await cursor.fetchone()
    if row is None:
        return
    rate = row["rate"] if row["rate"] is not None else row["points_per_yuan"] * 100
    change = levels.points_to_settle(paid_fen, refunded_fen, rate, row["settled"])
    spent = max(0, row["spent_fen"] + spent_change_fen)
    stored = msgspec.json.decode(row["levels"], type=tuple[terms.StoredLevel, ...])
    level = levels.level_at(terms.levels(stored, row["points_per_yuan"]), spent)
    await connection.execute(
        text.settle_member,
        {
            "customer_id": customer_id,
            "spent_fen": spent,
            "level": level.id.int if level else 0,
            "points": change,
        },
    )
    if change:
        await connection.execute(
            text.points_entry,
            {
                "entry_id": new_id(),
                "customer_id": customer_id,
                "points": change,
                "reason": reason,
                "order_id": order_id,
                "now": now,
            },
        )


def _by_sku(lines: tuple[Ordered, ...]) -> dict[UUID, int]:
    found: dict[UUID, int] = {}
    for line in lines:
        if line.sku_id:
            found[line.sku_id] = found.get(line.sku_id, 0) + line.quantity
    return found


async def _count_sold(connection: Connection, lines: tuple[Ordered, ...]) -> None:
    found: dict[UUID, int] = {}
    for line in lines:
        if line.product_id:
            found[line.product_id] = found.get(line.product_id, 0) + line.quantity
    if found:
        await later(
            connection,
            queries.load("orders").count_sold,
            {"products": list(found), "pieces": list(found.values())},
        )
