"""Telling a shop's webhooks: written down when an event is handed out, sent by a job, at least once, with one id.

An attempt has three steps: the message is claimed for `LEASE` (a transaction), sent (none), and what came of it noted (another).
Whoever is killed between them has it sent again after the lease, under the same `webhook-id`: receivers keep what they have done
by that id. Messages of one webhook may overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import psycopg

from ballast.errors import BallastError
from ballast.mall import audit
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.outbox import OutEvent
from ballast.mall.queries import load
from ballast.mall.safe import Safe
from ballast.mall.webhooks import schedule, signature
from ballast.mall.webhooks.reach import Answer, NotReached, client, post

_log = logging.getLogger(__name__)
_SQL = load("webhooks")

LEASE = timedelta(seconds=60)
"""Longer than an attempt can take."""
MOST, OF_EACH, AT_ONCE = 500, 25, 64
GONE = 410
"""The receiver wants no more, says the standard."""


class Message(msgspec.Struct, frozen=True):
    """One that was claimed."""

    delivery_id: UUID
    webhook_id: UUID
    event_id: UUID
    attempts: int
    """This one counted."""
    url: str
    secret: str
    """Sealed, like the old one."""
    old_secret: str | None
    active: bool
    kind: str
    body: str
    created_at: datetime

    def content(self) -> bytes:
        """What is sent: `{"type", "timestamp", "data"}`, the same at every attempt."""
        told = {
            "type": self.kind,
            "timestamp": self.created_at.astimezone(UTC),
            "data": msgspec.Raw(self.body.encode()),
        }
        return msgspec.json.encode(told)


async def subscribe(connection: Connection, event: OutEvent) -> None:
    """A subscriber of the outbox: every webhook that wants this kind has a message that waits."""
    cursor = await connection.execute(_SQL.listening, {"kind": event.kind})
    for row in await cursor.fetchall():
        await connection.execute(
            _SQL.tell,
            {
                "delivery_id": new_id(),
                "webhook_id": row["webhook_id"],
                "event_id": event.event_id,
                "now": event.created_at,
            },
        )


async def deliver(db: Database, now: datetime, safe: Safe, *, private: bool = False, most: int = MOST) -> int:
    """Send what is due, many at a time. Returns how many were heard.

    Args:
        safe: `signature.safe`, where the secrets are sealed.
        private: see `reach.post`.
    """
    async with db.platform() as connection:
        due = await (await connection.execute(_SQL.due, {"now": now, "each": OF_EACH, "most": most})).fetchall()
    if not due:
        return 0
    free = asyncio.Semaphore(AT_ONCE)
    async with client() as browser:

        async def one(shop_id: UUID, delivery_id: UUID) -> bool:
            async with free:
                try:
                    return await _attempt(db, browser, shop_id, delivery_id, now, safe, private)
                except (BallastError, psycopg.Error) as error:
                    _log.warning("webhook message %s: %s", delivery_id, error)
                    return False

        return sum(await asyncio.gather(*(one(row["shop_id"], row["delivery_id"]) for row in due)))


async def _attempt(
    db: Database,
    browser: httpx.AsyncClient,
    shop_id: UUID,
    delivery_id: UUID,
    now: datetime,
    safe: Safe,
    private: bool,
) -> bool:
    async with db.shop(shop_id) as connection:
        values = {"delivery_id": delivery_id, "now": now, "leased_until": now + LEASE}
        row = await (await connection.execute(_SQL.claim, values)).fetchone()
        if row is None:
            return False
        message = msgspec.convert(row, Message)
        if not message.active:
            await _note(connection, message, None, "", now)
            return False
    answer: Answer | None = None
    try:
        content = message.content()
        secrets = [safe.open(one) for one in (message.secret, message.old_secret) if one]
        sent = signature.headers(message.event_id, content, secrets, now)
        sent |= {"content-type": "application/json", "user-agent": "Ballast-Webhooks/1"}
        answer = await post(browser, message.url, content, sent, private=private)
        said = answer.excerpt
    except NotReached as error:
        said = error.what
    heard = answer is not None and 200 <= answer.status < 300
    async with db.shop(shop_id) as connection:
        if heard:
            await _heard(connection, message, answer, now)
        else:
            await _not_heard(connection, message, answer, said, now)
    return heard


async def _heard(connection: Connection, message: Message, answer: Answer | None, now: datetime) -> None:
    # The webhook's row before the message's, here as below and in `endpoints`: nobody waits for each other.
    await connection.execute(_SQL.heard, {"webhook_id": message.webhook_id})
    await connection.execute(
        _SQL.settle, _settled(message, "delivered", None, answer, answer.excerpt if answer else "", now)
    )


async def _not_heard(connection: Connection, message: Message, answer: Answer | None, said: str, now: datetime) -> None:
    cursor = await connection.execute(_SQL.not_heard, {"webhook_id": message.webhook_id, "now": now})
    row: dict[str, Any] | None = await cursor.fetchone()
    # Turned off meanwhile, by its shop or after another message: then this one is given up too.
    active = row is not None and row["active"]
    await _note(connection, msgspec.structs.replace(message, active=active), answer, said, now)
    gone = answer is not None and answer.status == GONE
    if row and active and (gone or now - row["failing_since"] >= schedule.STOP_AFTER):
        values = {"webhook_id": message.webhook_id, "stopped_at": now, "now": now}
        await connection.execute(_SQL.turn_off, values)
        await connection.execute(_SQL.drop_waiting, values)
        shop_id = await _shop_of(connection)
        await audit.note_in_shop(
            connection, By(None, "job"), "webhook.stopped", now, shop_id=shop_id, subject=row["url"]
        )


async def _note(connection: Connection, message: Message, answer: Answer | None, said: str, now: datetime) -> None:
    """It failed: again later, or never."""
    wait = schedule.wait(message.attempts, random.random()) if message.active else None  # noqa: S311
    status, next_at = ("given_up", None) if wait is None else ("waiting", now + wait)
    await connection.execute(_SQL.settle, _settled(message, status, next_at, answer, said, now))


def _settled(
    message: Message, status: str, next_at: datetime | None, answer: Answer | None, said: str, now: datetime
) -> dict[str, object]:
    return {
        "delivery_id": message.delivery_id,
        "attempts": message.attempts,
        "status": status,
        "next_at": next_at,
        "answer_status": answer.status if answer else None,
        "answer_excerpt": said,
        "now": now,
    }


async def _shop_of(connection: Connection) -> UUID:
    row = await (await connection.execute("SELECT mall.current_shop() AS shop_id")).fetchone()
    if row is None:
        raise BallastError("The transaction names no shop.")
    found: UUID = row["shop_id"]
    return found
