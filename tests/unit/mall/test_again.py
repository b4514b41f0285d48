"""Requests that wait for the lifeboat: when it is open those of people who buy are made again first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litestar.types import Receive, Scope, Send

from ballast.continuity.board import Told
from ballast.continuity.course import Course
from ballast.continuity.signs import Sign
from ballast.mall.db import Database, Turned
from ballast.mall.settings import Settings
from ballast.mall.web import again

_LOOKING, _BUYING = ("GET", "/s/tea/"), ("POST", "/s/tea/orders/1/pay")


def _scope(method: str, path: str) -> Scope:
    made: Any = {"type": "http", "method": method, "path": path, "headers": []}
    return made  # type: ignore[no-any-return]


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _answered(message: Any) -> None:
    pass


def test_who_buys_is_answered_before_those_who_waited_as_well_and_look_around(tmp_path: Path) -> None:
    told = Told(tmp_path / "board")
    lost = Course().lost(Sign.GONE, datetime.now(UTC))
    told.tell(lost)
    ended: list[str] = []
    waiting: list[str] = []

    async def story() -> None:
        db = Database(Settings(app_dsn="", identity_dsn="", platform_dsn="", secret="s" * 32, continuity=str(tmp_path)))

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            path: str = scope["path"]  # type: ignore[typeddict-item]
            if db.launching:
                waiting.append(path)
                again.note(scope, Turned("there is no lifeboat yet", lost.number))
                return
            await asyncio.sleep(0.1 if path == _BUYING[1] else 0)
            ended.append(path)
            await send({"type": "http.response.start", "status": 200, "headers": []})

        door = again.Again(application, db)
        requests = [
            asyncio.create_task(door(_scope(*one), _nothing, _answered)) for one in (_LOOKING, _BUYING, _LOOKING)
        ]
        while len(waiting) < len(requests):
            await asyncio.sleep(0.01)
        told.tell(lost.launched("host=/nowhere", None))
        await asyncio.wait_for(asyncio.gather(*requests), 10)

    asyncio.run(story())
    told.close()
    assert ended == [_BUYING[1], _LOOKING[1], _LOOKING[1]]
