"""What happens by itself: orders whose time of payment is over, receipt and closing by time, the outbox, refunds to be paid.

Every piece of work is a plain function over all shops: it looks for what is due as the platform's role, which reads over all
shops, and does each in a transaction of its shop (never two shops in one). All can run at the same time in several workers, and
be broken off anywhere: what is done is looked at again under the row's lock. `worker` runs them by procrastinate, whose own
tables are in the schema `procrastinate`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import procrastinate
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ballast.errors import BallastError
from ballast.mall import housekeeping, orders, outbox, platform, queries, signin, webhooks
from ballast.mall.db import Database, Recovering
from ballast.mall.payments.callbacks import send_refund
from ballast.mall.payments.provider import Provider
from ballast.mall.webhooks import signature

_log = logging.getLogger(__name__)

SCHEMA = "procrastinate"
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
        [await _guarded(f"outbox of {row['shop_id']}", _dispatch(db, row["shop_id"], subscribers, now)) for row in rows]
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
                f"refund {row['refund_id']}", send_refund(db, row["shop_id"], row["refund_id"], providers, now)
            )
            for row in rows
        ]
    )


async def close_shops(db: Database, now: datetime) -> int:
    """Close shops whose grace period is over. Returns how many."""
    async with db.platform() as connection:
        return len(await platform.close_due(connection, now))


async def forget_attempts(db: Database, now: datetime) -> int:
    """Forget attempts to sign in that do not count any more."""
    async with db.identity() as connection:
        await signin.forget_old_attempts(connection, now)
    return 0


async def _by_time(db: Database, statement: str, parameters: Mapping[str, object], now: datetime) -> int:
    async with db.platform() as connection:
        due = await (await connection.execute(statement, parameters)).fetchall()
    moved = 0
    for one in due:
        moved += await _guarded(
            f"order {one['order_id']}", _move(db, one["shop_id"], one["order_id"], one["what"], now)
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


async def _guarded(what: str, work: Awaitable[int]) -> int:
    """One piece that cannot be done keeps none of the others from being done; it is found again the next time."""
    try:
        return await work
    except (BallastError, psycopg.Error) as error:
        _log.warning("%s: %s", what, error)
        return 0


def install(owner_dsn: str) -> None:
    """Make the queue's tables in their own schema, if they are not there."""
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('ballast.mall.jobs', 0))")
        if connection.execute("SELECT to_regclass(%s)", (f"{SCHEMA}.procrastinate_jobs",)).fetchone() == (None,):
            with connection.transaction():
                connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
                connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(SCHEMA)))
                connection.execute(procrastinate.schema.SchemaManager.get_schema().encode())


def queue(
    owner_dsn: str,
    db: Database,
    providers: Mapping[str, Provider],
    subscribers: Sequence[outbox.Subscriber],
    *,
    secret: str,
    private_webhooks: bool = False,
) -> procrastinate.App:
    """The application of the queue, with all that is to be done and how often. `install` has made its tables.

    Args:
        subscribers: who is told of events besides the shops' webhooks.
        secret, private_webhooks: of `Settings`.

    Run it: ``async with app.open_async(): await app.run_worker_async(delete_jobs="always", concurrency=4)``.
    """
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=make_conninfo(owner_dsn, options=f"-c search_path={SCHEMA}"), min_size=1, max_size=4
        )
    )

    def every(cron: str, name: str, work: Callable[[datetime], Awaitable[int]]) -> None:
        async def task(timestamp: int) -> None:
            try:
                await work(datetime.now(UTC))
            except Recovering as error:  # what is due is found when all shops are back
                _log.info("%s waits: %s", name, error)

        # Of each kind one at a time: a run that takes longer than its interval is not overtaken by the next.
        app.periodic(cron=cron)(app.task(name=name, queueing_lock=name, lock=name)(task))

    sealed_in = signature.safe(secret)
    every("* * * * * */5", "mall.expire", lambda now: expire(db, now))
    every("* * * * *", "mall.settle", lambda now: settle(db, now))
    every("* * * * * */2", "mall.hand_out", lambda now: hand_out(db, [webhooks.subscribe, *subscribers], now))
    every("* * * * * */3", "mall.pay_back", lambda now: pay_back(db, providers, now))
    every("* * * * * */2", "mall.deliver", lambda now: webhooks.deliver(db, now, sealed_in, private=private_webhooks))
    every("* * * * *", "mall.close_shops", lambda now: close_shops(db, now))
    every("*/15 * * * *", "mall.forget_attempts", lambda now: forget_attempts(db, now))
    every("17 * * * *", "mall.tidy", lambda now: housekeeping.tidy(db, now))
    return app
