"""A write that may be sent twice and is done once: the same key with the same request gives the answer of the first time.

The key's line is written in the transaction of the deed: where the deed is rolled back, the key is free again. (Placing an
order has its own way, with fewer round trips: `checkout`.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from ballast.mall import deeds
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import Answered
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("idempotency")
T = TypeVar("T")


async def once(
    connection: Connection,
    scope: str,
    key: str,
    asked: object,
    kind: type[T],
    work: Callable[[], Awaitable[T]],
    now: datetime,
) -> T:
    """Do it, or give what was answered when it was done.

    Args:
        scope: whose keys these are, and for what: the same key in another scope is another.
        asked: the whole request, for msgspec to encode: the same key with another request is refused.
        kind: what `work` gives, to read it again.

    Raises:
        Refused: `form.key` (there is none), `idempotency.differs`; what `work` raises.
    """
    if not 1 <= len(key) <= 200:
        raise Refused("form.key", "The request has no key.", "Load the page again.")
    hashed = hashlib.sha256(msgspec.json.encode(asked)).digest()
    this = {"scope": scope, "key": key}
    claimed = await connection.execute(_SQL.claim, {**this, "request_hash": hashed, "now": now})
    if await claimed.fetchone() is not None:
        answer = await work()
        text = msgspec.json.encode(answer).decode()
        await connection.execute(_SQL.answer, {**this, "answer": text})
        answered = Answered(scope, key, hashed, text, now)
        deeds.note(connection, "answered", answered, key=f"{scope}:{key}", beside=True)
        return answer
    row = await (await connection.execute(_SQL.answered, this)).fetchone()
    if row is None or row["request_hash"] != hashed or row["answer"] is None:
        raise Refused("idempotency.differs", "This key was used for another request.", "Take a new key.")
    deeds.of_no_weight(connection)
    return msgspec.json.decode(row["answer"], type=kind)


async def answer_again(connection: Connection, deed: Answered) -> None:
    """What was answered elsewhere is the answer here; where there is one already, that."""
    await connection.execute(
        _SQL.answered_elsewhere,
        {
            "scope": deed.scope,
            "key": deed.key,
            "request_hash": deed.request_hash,
            "answer": deed.answer,
            "now": deed.at,
        },
    )
