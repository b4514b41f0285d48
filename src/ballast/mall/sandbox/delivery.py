"""Callbacks on their way: late, twice, in any order, again until they are heard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall.ids import new_id
from ballast.mall.payments import signing
from ballast.mall.payments.post import Failed, Post
from ballast.mall.sandbox.ledger import Ledger

_log = logging.getLogger(__name__)
_LONGEST_WAIT_S = 600.0


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How well it behaves; the worst that happens with real ones can be asked for."""

    delay_s: float = 0.3
    """A callback is sent so long after what it tells of."""
    spread_s: float = 0.0
    """Each is delayed by up to so much more, at random: later ones overtake earlier ones."""
    copies: int = 1
    """Each is sent so often."""
    retry_s: float = 1.0
    """A callback that was not heard (2xx) is sent again after so long, then twice as long, …"""
    redirect_wait_s: float = 0.0
    """A browser that has paid is sent back to the shop when the shop has heard of it, or after so long: some providers do
    that, and the shop's page then says "paid" at once. 0: it is sent back at once, as by most."""
    refuse_refunds: bool = False
    """Every refund fails."""


class Delivery:
    """Sends what is due."""

    def __init__(self, ledger: Ledger, secret: str, behaviour: Behaviour) -> None:
        self._ledger, self._secret, self.behaviour = ledger, secret, behaviour
        self._told = asyncio.Event()
        self._waited_for: dict[str, asyncio.Event] = {}

    def tell(self, payment: dict[str, Any], kind: str, reference: str, code: str, amount_fen: int) -> str:
        """Let the merchant know, later. Returns the callback's id, for `heard`."""
        callback_id = str(new_id())
        body = {
            "callback_id": callback_id,
            "kind": kind,
            "reference": reference,
            "code": code,
            "amount_fen": amount_fen,
        }
        first = time.time() + self.behaviour.delay_s
        due = [first + random.uniform(0, self.behaviour.spread_s) for _ in range(self.behaviour.copies)]  # noqa: S311
        self._ledger.notify(payment, msgspec.json.encode(body).decode(), callback_id, due)
        if self.behaviour.delay_s <= 0:
            self._told.set()
        return callback_id

    async def heard(self, callback_id: str) -> None:
        """Wait until the merchant has heard it, `redirect_wait_s` at most."""
        heard = self._waited_for[callback_id] = asyncio.Event()
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.behaviour.redirect_wait_s):
                    await heard.wait()
        finally:
            del self._waited_for[callback_id]

    async def run(self) -> None:
        """Until it is cancelled."""
        post = Post(5.0)
        under_way: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                # Nobody waits for a merchant who is slow to answer.
                for one in self._ledger.due(time.time()):
                    number: int = one["number"]
                    if number not in under_way:
                        under_way[number] = asyncio.create_task(self._send(post, one))
                # What is due at once need not wait for the next look.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._told.wait()
                self._told.clear()
                for number in [number for number, task in under_way.items() if task.done()]:
                    under_way.pop(number).result()
        finally:
            for task in under_way.values():
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)
            await post.close()

    async def _send(self, post: Post, one: dict[str, Any]) -> None:
        body = one["body"].encode()
        key = signing.key_of(self._secret, UUID(one["merchant"]))
        try:
            status, _ = await post.send(one["url"], body, {signing.HEADER: signing.sign(key, body, int(time.time()))})
            heard = 200 <= status < 300
        except Failed as error:
            _log.info("callback %s was not heard: %r", one["callback_id"], error)
            heard = False
        if heard and (waiting := self._waited_for.get(one["callback_id"])):
            waiting.set()
            await asyncio.sleep(0)  # whoever waits is answered before this is noted
        wait = min(self.behaviour.retry_s * 2 ** one["attempts"], _LONGEST_WAIT_S)
        self._ledger.run(
            "UPDATE delivery SET heard = :heard, attempts = attempts + 1, due_at = :due WHERE number = :number",
            heard=heard,
            due=time.time() + wait,
            number=one["number"],
        )
