"""Whether what is to happen by itself happens: a worker is there, and nothing has waited for it for long."""

from __future__ import annotations

from datetime import datetime, timedelta

from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.turns import CLASS

PATIENCE = timedelta(minutes=1)
"""Far more than a worker that keeps up needs."""


async def late(connection: Connection, now: datetime) -> str:
    """What is not as it should be, for who is on call; "": nothing. As mall_platform."""
    row = await (await connection.execute(load("waiting").oldest, {"of_workers": CLASS})).fetchone()
    if row is None:
        return ""
    found = [] if row["at_work"] else ["no worker is connected: start `python -m ballast.mall.worker`"]
    for what, since in (
        ("an order that was not paid in time is not cancelled", row["unpaid"]),
        ("an event is not handed out", row["unheard"]),
    ):
        if since is not None and now - since > PATIENCE:
            found.append(f"{what} since {since:%Y-%m-%dT%H:%M:%SZ}")
    return "; ".join(found)
