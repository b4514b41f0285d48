"""Who finds what was changed and undoes it, with the commands that anybody would use, while all shops sell on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ballast.demo.command import command
from ballast.demo.watching import Moment

UNSEEN_S = 5.0
"""How long nobody has noticed."""
_FINDS_S, _AGAIN_S, _COMMAND_S = 60.0, 1.0, 120.0


class Undone(msgspec.Struct, frozen=True):
    """What was done about it."""

    transactions: tuple[str, ...] = ()
    """That stood out, by position."""
    tenants: int = 0
    rows: int = 0
    """That went back, all or part of them."""
    left: int = 0
    """That were changed since and stayed."""
    orders: int = 0
    """That came about by what was wrong, and are before their shops."""
    problem: str = ""
    """Why it was not done."""


async def undo(config: Path, vault: str, since: float, note: Callable[[Moment, float], None]) -> Undone:
    """Find it, undo it, put the orders that came about meanwhile before their shops. `since`: when the day began, for a look."""
    begin = datetime.fromtimestamp(since, UTC).isoformat()
    until = time.monotonic() + _FINDS_S
    found: list[str] = []
    while not found:  # it is recorded at once, and sealed a moment later
        _, said, problem = await command(
            "changes", "--vault", vault, "--from", begin, config=config, seconds=_COMMAND_S
        )
        found = list(said["undo"]) if said else []
        if not found:
            if time.monotonic() > until:
                return Undone(problem=problem or "nothing stands out in what `ballast changes` found")
            await asyncio.sleep(_AGAIN_S)
    note("found", time.time())
    named = [word for position in found for word in ("--transaction", position)]
    _, said, problem = await command(
        "undo", *named, "--on-conflict", "merge", "--reason", "a rogue", config=config, seconds=_COMMAND_S
    )
    if said is None:
        return Undone(tuple(found), problem=problem)
    note("undone", time.time())
    shops = said["undo"]["by_tenant"]
    done = Undone(
        tuple(found),
        len(shops),
        sum(one["put_back"] + one["merged"] for one in shops),
        sum(one["left"] for one in shops),
    )
    code, told, problem = await command("mall", "review", *named, config=config, seconds=_COMMAND_S)
    if told is None or code:
        return msgspec.structs.replace(done, problem=problem or "prices still are as they were set wrong")
    note("reviewed", time.time())
    return msgspec.structs.replace(done, orders=sum(len(shop["orders"]) for shop in told))
