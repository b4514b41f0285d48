"""Rows of a shop were wrong for a while and were put back: its orders of that time that came about by them become exceptions, so
that the shop decides about each (`answering`). Which they are says `rules.reviewing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import exceptions, queries
from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.reviewing import Changed, Placed, Questioned, orders_named, questioned

KIND = exceptions.QUESTIONED
_EARLIER = timedelta(minutes=1)
"""An order's time is taken when its request comes, and prices are read after that; web and database have their own clocks."""


async def look(
    connection: Connection, changed: Sequence[Changed], *, since: datetime, until: datetime
) -> tuple[Questioned, ...]:
    """Orders of the shop that came about by rows that were wrong from `since` to `until`.

    Args:
        changed: those rows, the oldest change first.
    """
    given = {"since": since - _EARLIER, "until": until, "orders": list(orders_named(changed))}
    cursor = await connection.execute(queries.load("review").between, given)
    return questioned(changed, [msgspec.convert(row, Placed) for row in await cursor.fetchall()])


async def question(connection: Connection, found: Sequence[Questioned], incident: str, now: datetime) -> int:
    """Make each an exception of the shop. One that was made for the same incident is not made again.

    Args:
        incident: names what was wrong; the same for the same.

    Returns:
        How many are new.
    """
    new = 0
    for one in found:
        doubt = Refused(f"review.{one.causes[0]}", f"Order {one.number} came about by what was wrong.", "Look at it.")
        new += await exceptions.keep(connection, f"{KIND}:{one.order_id}:{incident}", KIND, one, doubt, now)
    return new


async def still_wrong(connection: Connection, changed: Sequence[Changed]) -> int:
    """How many prices still are as they were set wrong: they were not put back, and orders go on coming about by them."""
    wrong = {
        UUID(one.wrong["sku_id"] or ""): int(one.wrong["price_fen"] or 0)
        for one in changed
        if one.table == "sku" and one.wrong and (one.before or {}).get("price_fen") != one.wrong["price_fen"]
    }
    cursor = await connection.execute(queries.load("review").prices, {"skus": list(wrong)})
    return sum(wrong[row["sku_id"]] == row["price_fen"] for row in await cursor.fetchall())
