"""The door before the application: who is inside stays, one more is told to come again."""

from __future__ import annotations

import asyncio
from typing import Any

from ballast.mall.web.shedding import Shedding


class _Slow:
    """An application that answers when it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.may_answer.wait()
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        await send({"type": "http.response.start", "status": 200, "headers": []})


async def _ask(app: Any, path: str) -> dict[str, Any]:
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app({"type": "http", "path": path}, None, send)
    return said[0]


def test_one_more_than_is_let_in_is_told_to_come_again_and_later_finds_room() -> None:
    async def story() -> None:
        slow = _Slow()
        door = Shedding(slow, 2, lambda: False)
        inside = [asyncio.create_task(_ask(door, path)) for path in ("/", "/broken")]
        await asyncio.sleep(0)
        page, program = await _ask(door, "/s/lin/"), await _ask(door, "/api/v1/shops/lin")
        for answer in (page, program):
            assert answer["status"] == 503
            assert (b"retry-after", b"1") in answer["headers"]
        assert (b"content-type", b"application/problem+json") in program["headers"]
        health = asyncio.create_task(_ask(door, "/healthz"))
        slow.may_answer.set()
        first, broken = await asyncio.gather(*inside, return_exceptions=True)
        assert isinstance(first, dict)
        assert first["status"] == 200
        assert isinstance(broken, RuntimeError)
        assert (await health)["status"] == 200
        both = await asyncio.gather(_ask(door, "/"), _ask(door, "/"))
        assert [answer["status"] for answer in both] == [200, 200]

    asyncio.run(story())
