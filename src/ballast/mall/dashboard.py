"""How a shop is doing: sales, orders, visitors, by day and by hour in China; what waits for its people.

What an order brings stands on the day on which it was **placed**, as in the platform's figures, and its visitors beside it; the
books (`statements`) have money on the day on which it moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection

CHINA = ZoneInfo("Asia/Shanghai")
FEW = 5
"""So many free pieces of a SKU, or fewer, are little stock."""
COUNTED = 1_000
"""What waits is counted so far."""


class Figures(msgspec.Struct, frozen=True):
    """Of some time. `orders`: placed in it; `paid` of these, `sales_fen` what was paid for those, `refunded_fen` of that.
    `visitors`: see `traffic`."""

    orders: int = 0
    web_orders: int = 0
    paid: int = 0
    sales_fen: int = 0
    refunded_fen: int = 0
    views: int = 0
    visitors: int = 0
    carts: int = 0
    checkouts: int = 0

    @property
    def average_fen(self) -> int:
        """Of a paid order, rounded down; 0 where there is none."""
        return self.sales_fen // self.paid if self.paid else 0

    @property
    def conversion_bp(self) -> int | None:
        """Orders placed in the web shop by visitors, in basis points; None where nobody was counted."""
        return min(10_000, self.web_orders * 10_000 // self.visitors) if self.visitors else None


class Day(msgspec.Struct, frozen=True):
    """A day in China."""

    day: date
    figures: Figures


class Hour(msgspec.Struct, frozen=True):
    """An hour of today, and the same of yesterday."""

    hour: int
    today: Figures
    yesterday: Figures


class Product(msgspec.Struct, frozen=True):
    """What was bought of a product."""

    product_id: UUID | None
    title: str
    title_en: str
    pieces: int
    sales_fen: int


class ToDo(msgspec.Struct, frozen=True):
    """What waits; `COUNTED` stands for that many or more."""

    to_send: int
    to_decide: int
    awaited: int
    unpaid: int
    exceptions: int = 0
    """What was accepted while the database was away and waits for a decision (`exceptions`)."""


class Low(msgspec.Struct, frozen=True):
    """A SKU of which few are free."""

    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    code: str
    free: int


class StoppedWebhook(msgspec.Struct, frozen=True):
    """An address that is told nothing any more, since it did not answer."""

    webhook_id: UUID
    url: str
    stopped_at: datetime


class Dashboard(msgspec.Struct, frozen=True):
    """`days`: the oldest first, the last one is today. `by_now`: what yesterday had come to at this time of the day."""

    days: tuple[Day, ...]
    hours: tuple[Hour, ...]
    by_now: Figures
    top: tuple[Product, ...]
    to_do: ToDo
    low: tuple[Low, ...]
    stopped_webhooks: tuple[StoppedWebhook, ...] = ()

    @property
    def today(self) -> Figures:
        """So far."""
        return self.days[-1].figures

    @property
    def yesterday(self) -> Figures:
        """All of it."""
        return self.days[-2].figures

    @property
    def whole(self) -> Figures:
        """All days together."""
        return total(one.figures for one in self.days)


class _Counted(msgspec.Struct, frozen=True):
    hour: datetime
    orders: int
    web_orders: int
    paid: int
    sales_fen: int
    refunded_fen: int
    views: int
    visitors: int
    carts: int
    checkouts: int

    @property
    def figures(self) -> Figures:
        return Figures(*msgspec.structs.astuple(self)[1:])


async def read(connection: Connection, now: datetime, days: int = 7) -> Dashboard:
    """The dashboard of the last `days` days (2 at least), today with them."""
    text = queries.load("dashboard")
    today = now.astimezone(CHINA).date()
    since, until = midnight(today - timedelta(days=days - 1)), midnight(today + timedelta(days=1))
    cursor = await connection.execute(text.by_hour, {"since": since, "until": until})
    counted = msgspec.convert(await cursor.fetchall(), list[_Counted])
    yesterday = today - timedelta(days=1)
    cursor = await connection.execute(text.until_now, {"since": midnight(yesterday), "until": now - timedelta(days=1)})
    by_now = msgspec.convert(await cursor.fetchone(), Figures)
    cursor = await connection.execute(text.top_products, {"since": since, "until": until, "most": 10})
    top = msgspec.convert(await cursor.fetchall(), tuple[Product, ...])
    to_do = msgspec.convert(await (await connection.execute(text.to_do, {"most": COUNTED})).fetchone(), ToDo)
    low = await (await connection.execute(text.low_stock, {"few": FEW, "most": 10})).fetchall()
    stopped = await (await connection.execute(text.stopped_webhooks)).fetchall()
    of_days = _by_day(counted)
    return Dashboard(
        days=tuple(
            Day(day, total(of_days.get(day, ()))) for day in (today - timedelta(days=n) for n in reversed(range(days)))
        ),
        hours=tuple(Hour(hour, _at(counted, today, hour), _at(counted, yesterday, hour)) for hour in range(24)),
        by_now=by_now,
        top=top,
        to_do=to_do,
        low=msgspec.convert(low, tuple[Low, ...]),
        stopped_webhooks=msgspec.convert(stopped, tuple[StoppedWebhook, ...]),
    )


def midnight(day: date) -> datetime:
    """When a day begins in China."""
    return datetime.combine(day, time(), CHINA)


def total(several: Iterable[Figures]) -> Figures:
    """All of them together."""
    rows = [msgspec.structs.astuple(one) for one in several]
    return Figures(*(sum(column) for column in zip(*rows, strict=True)))


def _by_day(counted: Sequence[_Counted]) -> dict[date, list[Figures]]:
    found: dict[date, list[Figures]] = {}
    for one in counted:
        found.setdefault(one.hour.astimezone(CHINA).date(), []).append(one.figures)
    return found


def _at(counted: Sequence[_Counted], day: date, hour: int) -> Figures:
    moment = datetime.combine(day, time(hour), CHINA).astimezone(UTC)
    return next((one.figures for one in counted if one.hour == moment), Figures())
