"""Telling a shop's webhooks: written down when an event is handed out, sent by a job, at least once, with one id.

An attempt has three steps: the message is claimed for `LEASE` (a transaction), sent (none), and what came of it noted (another).
None waits for its place in line once it is claimed, so that the lease is that attempt's alone.
Whoever is killed between them has it sent again after the lease, under the same `webhook-id`: receivers keep what they have done
by that id. Messages of one webhook may overtake each other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime, timedelta
from typing import Any, Self
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
from ballast.mall.webhooks.reach import TIMEOUT_S, Answer, NotReached, client, post

_log = logging.getLogger(__name__)
_SQL = load("webhooks")

LEASE = timedelta(seconds=60)
"""Longer than an attempt can take."""
MOST, OF_EACH = 500, 25
AT_ONCE, OF_SHOP, OF_FAILING = 64, 8, 16
"""Places: of all, of one shop, of all webhooks whose last message was not heard."""
BEGIN_S = 2.0
"""What has no place by then is looked for anew: something else may have become due meanwhile."""
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


class Due(msgspec.Struct, frozen=True):
    """One that waits and whose time has come."""

    shop_id: UUID
    delivery_id: UUID
    failing: bool
    """Its webhook did not hear the last one."""


class Sender:
    """Sends what is due, many at a time, and never waits for the slow: a shop has `OF_SHOP` places, those whose last message was
    not heard share `OF_FAILING`, so that receivers that keep us waiting wait for each other. An async context manager: left, what
    is under way has `reach.TIMEOUT_S` to end.

    Args:
        safe: `signature.safe`, where the secrets are sealed.
        private: see `reach.post`.
    """

    def __init__(self, db: Database, safe: Safe, *, private: bool = False) -> None:
        self._db, self._safe, self._private = db, safe, private
        self._browser = client()
        self.heard = 0
        """How many messages were."""
        self._under_way: dict[asyncio.Task[None], Due] = {}

    async def __aenter__(self) -> Self:
        return self

    async def ended(self) -> bool:
        """Whether nothing is under way any more; waits for it, as long as an answer may take."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=TIMEOUT_S)
        return not self._under_way

    async def __aexit__(self, *_: object) -> None:
        await self.ended()
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._browser.aclose()

    async def begin_due(self, now: datetime, *, most: int = MOST, within_s: float = BEGIN_S) -> int:
        """Begin to send what is due at `now` and has a place, or gets one within that time. Returns how many were begun."""
        values = {"now": now, "each": OF_EACH, "most": most}
        async with self._db.platform() as connection:
            rows = await (await connection.execute(_SQL.due, values)).fetchall()
        due = [msgspec.convert(row, Due) for row in rows]
        left, begun = [one for one in due if not self._db.afloat(one.shop_id)], 0
        until = asyncio.get_running_loop().time() + within_s
        while True:
            waiting = [one for one in left if not self._began(one, now)]
            begun += len(left) - len(waiting)
            left, wait_s = waiting, until - asyncio.get_running_loop().time()
            if not left or wait_s <= 0:
                return begun
            await asyncio.wait(self._under_way, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)

    def _began(self, one: Due, now: datetime) -> bool:
        there = self._under_way.values()
        if any(other.delivery_id == one.delivery_id for other in there):
            return True
        if len(there) >= AT_ONCE or sum(other.shop_id == one.shop_id for other in there) >= OF_SHOP:
            return False
        if one.failing and sum(other.failing for other in there) >= OF_FAILING:
            return False
        task = asyncio.create_task(self._send(one, now))
        self._under_way[task] = one
        task.add_done_callback(self._under_way.pop)
        return True

    async def _send(self, one: Due, now: datetime) -> None:
        try:
            heard = await _attempt(
                self._db, self._browser, one.shop_id, one.delivery_id, now, self._safe, self._private
            )
        except (BallastError, psycopg.Error) as error:
            _log.warning("webhook message %s: %s", one.delivery_id, error)
        else:
            self.heard += heard


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
