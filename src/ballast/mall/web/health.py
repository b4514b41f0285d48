"""For who looks after the platform: ``/healthz``, whether it serves; ``/healthz/worker``, whether the worker keeps up."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.di import NamedDependency

from ballast.mall import waiting
from ballast.mall.db import Database

_KNOWN_FOR_S = 2.0
"""Whoever asks more often hears the same: strangers may ask, too."""


@get("/healthz", media_type=MediaType.TEXT, opt={"exclude_from_csrf": True})
async def health(db: NamedDependency[Database]) -> str:
    """200 where this process reaches its database; a load balancer asks."""
    async with db.directory() as connection:
        await connection.execute("SELECT 1")
    return "ok"


@get("/healthz/worker", media_type=MediaType.TEXT, opt={"exclude_from_csrf": True})
async def worker(request: Request[Any, Any, Any], db: NamedDependency[Database]) -> Response[str]:
    """200 where a worker is connected and nothing that it does is late; else 503, and what is. Not for load balancers."""
    state = request.app.state
    seen, late = state.get("late", (-_KNOWN_FOR_S, ""))
    if time.monotonic() - seen > _KNOWN_FOR_S:
        async with db.platform() as connection:
            late = await waiting.late(connection, datetime.now(UTC))
        state.late = (time.monotonic(), late)
    return Response(late or "ok", status_code=503 if late else 200, media_type=MediaType.TEXT)


HANDLERS = [health, worker]
