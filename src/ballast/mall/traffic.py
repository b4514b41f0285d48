"""How many come to a shop: counted in the web process, and added to `mall.visit_hour` every few seconds.

No page view writes a row. What a process counted since it last wrote is lost with it when it is killed: a few seconds of
counts, and never anything else. Where the database is away, counts wait here for it. A write whose commit was not heard of is
made again, so that after a broken connection some may be counted twice.

A visitor is a browser seen the first time on a day (in China) in a shop, known by a hash of its address and what it says of
itself, made with a key that is drawn anew for each process and kept nowhere: no cookie is set, and from the hash nobody is
found. So several people behind one address with the same browser are one visitor; one whose requests come to several
web processes, or on both sides of a restart, is counted by each. Robots that say so are not counted at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Literal
from uuid import UUID

import psycopg

from ballast.errors import BallastError
from ballast.mall import deeds, queries
from ballast.mall.db import Database
from ballast.mall.round_trips import later

_log = logging.getLogger(__name__)

EVERY_S = 5.0
MOST_SHOPS = 250
"""So many shops are written at once, those that wait longest first: with more, counts come later and cost no more."""
MOST_WAITING = 50_000
"""Hours of shops that are kept while the database is away."""
MOST_SEEN = 500_000
"""Visitors that a process tells apart on one day; beyond them it counts views only."""
_CHINA_H = 8
_LONGEST_AGENT = 300
_ROBOT = re.compile(r"bot\b|bot/|crawl|spider|slurp|preview|monitor|curl/|wget/|python-|httpx/|go-http", re.IGNORECASE)

Step = Literal["carts", "checkouts"]


@lru_cache(10_000)
def _is_robot(agent: str) -> bool:
    return _ROBOT.search(agent) is not None


def _hour_of(now: datetime) -> int:
    return int(now.timestamp()) // 3600


@dataclass
class Counts:
    """What was counted for an hour of a shop and is not written yet."""

    views: int = 0
    visitors: int = 0
    carts: int = 0
    checkouts: int = 0

    def add(self, other: Counts) -> None:
        """Both together."""
        self.views += other.views
        self.visitors += other.visitors
        self.carts += other.carts
        self.checkouts += other.checkouts


@dataclass
class Traffic:
    """The counts of one process. Not for several threads."""

    _waiting: dict[tuple[UUID, int], Counts] = field(default_factory=dict)
    """By shop and hour, counted from 1970."""
    _seen: set[bytes] = field(default_factory=set)
    _day: int = 0
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def view(self, shop_id: UUID, address: str, agent: str, language: str, now: datetime) -> None:
        """A page was shown."""
        agent = agent[:_LONGEST_AGENT]
        if _is_robot(agent):
            return
        hour = _hour_of(now)
        counts = self._waiting.setdefault((shop_id, hour), Counts())
        counts.views += 1
        if (day := (hour + _CHINA_H) // 24) != self._day:
            self._day, self._key = day, secrets.token_bytes(16)
            self._seen.clear()
        mark = blake2b(
            b"\0".join((shop_id.bytes, address.encode(), agent.encode(), language.encode())),
            digest_size=8,
            key=self._key,
        ).digest()
        if mark not in self._seen and len(self._seen) < MOST_SEEN:
            self._seen.add(mark)
            counts.visitors += 1

    def step(self, shop_id: UUID, step: Step, now: datetime) -> None:
        """Somebody put something into the cart, or came to the checkout."""
        counts = self._waiting.setdefault((shop_id, _hour_of(now)), Counts())
        setattr(counts, step, getattr(counts, step) + 1)

    async def flush(self, db: Database) -> int:
        """Write what waits, the oldest first. Returns how many shops were written; what could not be waits on.

        Raises:
            BallastError, psycopg.Error: the database is away, or has no time.
        """
        hours: dict[UUID, list[int]] = {}
        for shop_id, hour in self._waiting:
            hours.setdefault(shop_id, []).append(hour)
        shops = list(hours)[:MOST_SHOPS]
        for shop_id in shops:
            taken = {hour: self._waiting.pop((shop_id, hour)) for hour in hours[shop_id]}
            try:
                await _write(db, shop_id, taken.items())
            except BaseException:
                for hour, counts in taken.items():
                    self._waiting.setdefault((shop_id, hour), Counts()).add(counts)
                raise
        return len(shops)

    async def run(self, db: Database) -> None:
        """Write every few seconds, until it is cancelled; then once more."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                await self._try(db)
        except asyncio.CancelledError:
            await self._try(db)
            raise

    async def _try(self, db: Database) -> None:
        try:
            await self.flush(db)
        except (BallastError, psycopg.Error) as error:
            _log.warning("visits of %d hours of shops wait to be written: %s", len(self._waiting), error)
            while len(self._waiting) > MOST_WAITING:
                self._waiting.pop(next(iter(self._waiting)))


@contextlib.asynccontextmanager
async def counting(traffic: Traffic, db: Database) -> AsyncIterator[None]:
    """For the time of a process."""
    task = asyncio.create_task(traffic.run(db))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _write(db: Database, shop_id: UUID, hours: Iterable[tuple[int, Counts]]) -> None:
    text = queries.load("traffic")
    async with db.shop(shop_id) as connection:
        deeds.of_no_weight(connection)
        await later(connection, text.lightly)
        for hour, counts in hours:
            await later(
                connection,
                text.add,
                {
                    "hour": datetime.fromtimestamp(hour * 3600, UTC),
                    "views": counts.views,
                    "visitors": counts.visitors,
                    "carts": counts.carts,
                    "checkouts": counts.checkouts,
                },
            )
