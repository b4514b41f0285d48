"""How the whole platform is doing, in numbers. As mall_platform, who reads over all shops."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from ballast.mall.db import Connection
from ballast.mall.queries import load

_SQL = load("figures")
_CHINA = ZoneInfo("Asia/Shanghai")
ENDING = timedelta(days=30)


class Day(msgspec.Struct, frozen=True):
    """A day in China. `orders` placed on it, `paid` of them, `gmv_fen` what was paid for those, `refunded_fen` of that."""

    day: date
    orders: int
    paid: int
    gmv_fen: int
    refunded_fen: int
    shops_opened: int


class Figures(msgspec.Struct, frozen=True):
    """`shops` by status. Of the open ones `lapsed` are not paid for any more, `ending` not beyond thirty days. `days`:
    the oldest first, the last is today."""

    shops: dict[str, int]
    lapsed: int
    ending: int
    days: list[Day]

    @property
    def today(self) -> Day:
        """Today, so far."""
        return self.days[-1]


async def overview(connection: Connection, now: datetime, days: int = 30) -> Figures:
    """The platform now, and day by day."""
    counted = await (await connection.execute(_SQL.shops_by_status, {"now": now, "soon": now + ENDING})).fetchall()
    last = now.astimezone(_CHINA).date()
    first = last - timedelta(days=days - 1)
    since = datetime.combine(first, time(), _CHINA)
    cursor = await connection.execute(_SQL.by_day, {"first": first, "last": last, "since": since})
    return Figures(
        shops={row["status"]: row["shops"] for row in counted},
        lapsed=sum(row["lapsed"] for row in counted),
        ending=sum(row["ending"] for row in counted),
        days=msgspec.convert(await cursor.fetchall(), list[Day]),
    )
