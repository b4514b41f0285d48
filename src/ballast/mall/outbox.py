"""What happened, for those who are told of it: written in the transaction in which it happened, handed out after its commit.

So nothing is told that did not happen, and nothing that happened is forgotten. Handing out is at least once: who is told
takes an event twice as once, by its `event_id`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.round_trips import later


class OutEvent(msgspec.Struct, frozen=True):
    """Something that happened in a shop: `order.placed`, `order.paid`, `refund.requested`, …"""

    event_id: UUID
    kind: str
    body: dict[str, Any]
    created_at: datetime


Subscriber = Callable[[Connection, OutEvent], Awaitable[None]]
"""Takes an event in the transaction in which it is marked as handed out: what it writes is there exactly if the mark is."""


async def write(connection: Connection, kind: str, body: Mapping[str, object], now: datetime) -> UUID:
    """Something happened in this transaction. Returns the event's id."""
    event_id = new_id()
    await later(
        connection,
        queries.load("outbox").write,
        {"event_id": event_id, "kind": kind, "body": msgspec.json.encode(body).decode(), "now": now},
    )
    return event_id


async def dispatch(connection: Connection, subscribers: Sequence[Subscriber], now: datetime, *, most: int = 100) -> int:
    """Hand out the oldest events of the shop that nobody else is handing out; all or none. Returns how many."""
    text = queries.load("outbox")
    rows = await (await connection.execute(text.take, {"most": most})).fetchall()
    for row in rows:
        event = OutEvent(row["event_id"], row["kind"], msgspec.json.decode(row["body"]), row["created_at"])
        for subscriber in subscribers:
            await subscriber(connection, event)
    if rows:
        await connection.execute(text.dispatched, {"events": [row["event_id"] for row in rows], "now": now})
    return len(rows)
