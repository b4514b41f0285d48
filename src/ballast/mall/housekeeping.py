"""What is deleted by itself: traces of what is over and that nothing asks for any more. All else stays for ever.

Of a shop: keys of writes, events that were handed out and messages that webhooks have, when they are `KEPT` old; codes for
another password, and guests whose time is over, with their carts. Of accounts: sessions and links that ended. Small batches,
each a transaction of its own: nobody waits long for a lock, and who is killed in between leaves the rest to the next run. What
waits cannot be deleted at all: the tables' policies say so too (``migrations/0006.isolation.sql``).
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from ballast.errors import BallastError
from ballast.mall.db import Connection, Database
from ballast.mall.queries import load

_log = logging.getLogger(__name__)
_SQL = load("housekeeping")

KEPT = timedelta(days=30)
ENDED = timedelta(days=1)
"""What ended is let go so much later: no request that still uses it is under way."""
BATCH = 1_000
_ROUNDS = 200
"""Batches of one shop in one run; the rest is left to the next."""


async def tidy(db: Database, now: datetime, *, batch: int = BATCH) -> int:
    """Delete what is over, in every shop and of the accounts. Returns how many rows went (those of carts not counted).

    Nothing is, before all are at home."""
    if db.away:
        return 0
    async with db.platform() as connection:
        shops = await (await connection.execute(_SQL.shops)).fetchall()
    gone = await _accounts(db, now, batch)
    for row in shops:
        try:
            gone += await _shop(db, row["shop_id"], now, batch)
        except (
            BallastError,
            psycopg.Error,
        ) as error:  # the others are tidied all the same; it is tried again next time
            _log.warning("housekeeping of shop %s: %s", row["shop_id"], error)
    return gone


async def _shop(db: Database, shop_id: UUID, now: datetime, batch: int) -> int:
    # Messages before the events that they are about.
    statements = (_SQL.keys, _SQL.messages, _SQL.events, _SQL.codes, _SQL.guests)
    gone = 0
    for _ in range(_ROUNDS):
        async with db.shop(shop_id) as connection:
            counts = [await _delete(connection, one, now, batch) for one in statements]
        gone += sum(counts)
        if max(counts) < batch:
            break
    return gone


async def _accounts(db: Database, now: datetime, batch: int) -> int:
    gone = 0
    for _ in range(_ROUNDS):
        async with db.identity() as connection:
            counts = [await _delete(connection, one, now, batch) for one in (_SQL.sessions, _SQL.links)]
        gone += sum(counts)
        if max(counts) < batch:
            break
    return gone


async def _delete(connection: Connection, statement: str, now: datetime, batch: int) -> int:
    values = {"before": now - KEPT, "ended_before": now - ENDED, "most": batch}
    cursor = await connection.execute(statement, values)
    row: dict[str, Any] | None = await cursor.fetchone() if cursor.description else None
    return int(row["gone"]) if row else cursor.rowcount
