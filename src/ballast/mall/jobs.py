"""What happens by itself: orders whose time of payment is over, receipt and closing by time, the outbox, refunds to be paid.

Every piece of work is a plain function over all shops: it looks for what is due as the platform's role, which reads over all
shops, and does each in a transaction of its shop (never two shops in one). All can run at the same time in several workers, and
be broken off anywhere: what is done is looked at again under the row's lock. `worker` runs them, each again and again: all are
found by looking, so there is no queue, and a platform where nothing happens writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import psycopg

from ballast.errors import BallastError
from ballast.mall import housekeeping, orders, outbox, platform, queries, signin, webhooks
from ballast.mall.db import Database, Recovering
from ballast.mall.payments.callbacks import send_refund
from ballast.mall.payments.provider import Provider
from ballast.mall.turns import Turns

_log = logging.getLogger(__name__)

MOST = 500
"""So much is done at once; the rest is found the next time."""
REFUND_AGAIN = timedelta(minutes=10)


async def expire(db: Database, now: datetime, *, most: int = MOST) -> int:
    """Cancel orders whose time of payment is over: their goods are free again. Returns how many were cancelled."""
    return await _by_time(db, queries.load("orders").to_expire, {"now": now, "most": most}, now)


async def settle(db: Database, now: datetime, *, most: int = MOST) -> int:
    """Receive what nobody confirmed in time; close what was received `orders.AFTER_SALES` ago. Returns how many orders moved."""
    due = {"now": now, "close_before": now - orders.AFTER_SALES, "most": most}
    return await _by_time(db, queries.load("orders").to_settle, due, now)


async def hand_out(db: Database, subscribers: Sequence[outbox.Subscriber], now: datetime, *, most: int = MOST) -> int:
    """Hand out what waits in the outboxes. Returns how many events were."""
    async with db.platform() as connection:
        rows = await (await connection.execute(queries.load("outbox").shops_waiting, {"most": most})).fetchall()
    return sum(
        [await _guarded(db, row["shop_id"], f"outbox of {row['shop_id']}", _dispatch, subscribers, now) for row in rows]
    )


async def pay_back(db: Database, providers: Mapping[str, Provider], now: datetime, *, most: int = 50) -> int:
    """Ask providers to pay refunds back, those that failed again after `REFUND_AGAIN`. Returns how many were taken up."""
    async with db.platform() as connection:
        rows = await (
            await connection.execute(
                queries.load("aftersales").to_send, {"again_before": now - REFUND_AGAIN, "most": most}
            )
        ).fetchall()
    return sum(
        [
            await _guarded(
                db, row["shop_id"], f"refund {row['refund_id']}", send_refund, row["refund_id"], providers, now
            )
            for row in rows
        ]
    )


async def close_shops(db: Database, now: datetime) -> int:
    """Close shops whose grace period is over, when all are at home. Returns how many."""
    if db.away:
        return 0
    async with db.platform() as connection:
        return len(await platform.close_due(connection, now))


async def forget_attempts(db: Database, now: datetime) -> int:
    """Forget attempts to sign in that do not count any more, when all are at home."""
    if db.away:
        return 0
    async with db.identity() as connection:
        await signin.forget_old_attempts(connection, now)
    return 0


async def _by_time(db: Database, statement: str, parameters: Mapping[str, object], now: datetime) -> int:
    async with db.platform() as connection:
        due = await (await connection.execute(statement, parameters)).fetchall()
    moved = 0
    for one in due:
        moved += await _guarded(
            db, one["shop_id"], f"order {one['order_id']}", _move, one["order_id"], one["what"], now
        )
    return moved


async def _move(db: Database, shop_id: UUID, order_id: UUID, what: str, now: datetime) -> bool:
    async with db.shop(shop_id) as connection:
        if what == "expire":
            return await orders.expire(connection, order_id, now)
        if what == "receive":
            return await orders.auto_receive(connection, order_id, now)
        return await orders.close(connection, order_id, actor="job", now=now)


async def _dispatch(db: Database, shop_id: UUID, subscribers: Sequence[outbox.Subscriber], now: datetime) -> int:
    async with db.shop(shop_id) as connection:
        return await outbox.dispatch(connection, subscribers, now)


async def _guarded(
    db: Database, shop_id: UUID, what: str, work: Callable[..., Awaitable[int]], *arguments: object
) -> int:
    """One piece that cannot be done keeps none of the others from being done; it is found again the next time. Of a shop that is
    afloat nothing is done: it is found when the shop is home."""
    if db.afloat(shop_id):
        return 0
    try:
        return await work(db, shop_id, *arguments)
    except (BallastError, psycopg.Error) as error:
        if not db.afloat(shop_id):
            _log.warning("%s: %s", what, error)
        return 0


class Job(NamedTuple):
    """What is to be done every `every_s` seconds, as long as a worker lives."""

    name: str
    every_s: float
    work: Callable[[datetime], Awaitable[int]]


def jobs_of(
    db: Database,
    providers: Mapping[str, Provider],
    subscribers: Sequence[outbox.Subscriber],
    sender: webhooks.Sender,
) -> tuple[Job, ...]:
    """All that is done, and how often. `run` does it.

    Args:
        subscribers: who is told of events besides the shops' webhooks.
        sender: of the shops' webhooks.
    """
    return (
        Job("mall.expire", 5, lambda now: expire(db, now)),
        Job("mall.settle", 60, lambda now: settle(db, now)),
        Job("mall.hand_out", 2, lambda now: hand_out(db, [webhooks.subscribe, *subscribers], now)),
        Job("mall.pay_back", 3, lambda now: pay_back(db, providers, now)),
        Job("mall.deliver", 2, sender.begin_due),
        Job("mall.close_shops", 60, lambda now: close_shops(db, now)),
        Job("mall.forget_attempts", 900, lambda now: forget_attempts(db, now)),
        Job("mall.tidy", 3600, lambda now: housekeeping.tidy(db, now)),
    )


async def run(dsn: str, jobs: Sequence[Job], stop: asyncio.Event, *, finish_s: float = 10.0) -> bool:
    """Does each of them, at once and then in its time, until `stop`; what is being done then has `finish_s` to end.

    A run that takes longer than its interval is not overtaken by the next. What cannot be done now (the database is away, shops
    are not back) is found the next time.

    Args:
        dsn: as mall_platform: there the turns are taken.

    Returns:
        Whether all had ended. What had not goes on: to cancel it could end the wait of a COMMIT for the recorder, and let it
        stand unrecorded. Who ends the process by `os._exit` leaves it to the server.
    """
    turns = Turns(dsn)
    loops = [asyncio.create_task(_again_and_again(turns, one, stop)) for one in jobs]
    await stop.wait()
    _, going_on = await asyncio.wait(loops, timeout=finish_s)
    if not going_on:
        await turns.close()
    return not going_on


async def _again_and_again(turns: Turns, job: Job, stop: asyncio.Event) -> None:
    said = ""
    while not stop.is_set():
        now_said = ""
        try:
            if await turns.take(job.name):
                try:
                    await job.work(datetime.now(UTC))
                finally:
                    await turns.give(job.name)
        except Recovering as error:
            _log.info("%s waits: %s", job.name, error)
        except (BallastError, psycopg.Error) as error:
            now_said = str(error)
            if now_said != said:  # not every second while the database is away
                _log.warning("%s: %s", job.name, error)
        except (
            Exception
        ):  # a fault of ours in one kind of work: the others are done all the same, and this is tried again
            _log.exception("%s broke", job.name)
        said = now_said
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), job.every_s)
