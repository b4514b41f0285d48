"""Everybody who comes to the shops: at an even pace that does not depend on how fast they answer, to one shop after the other.

So what a shop serves in a second tells how it is, not how many happened to come.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from random import Random

import aiohttp

from ballast.demo.browser import Browser, GaveUp
from ballast.demo.ledger import Ledger
from ballast.demo.shopping import Bought, Shopper
from ballast.demo.visits import OF_SHOPS, Pulse, Visit

VIEWS_OF_BUYER, VIEWS_OF_LOOKER = 7, 4
MOST_INSIDE = 800
"""Where shops do not answer, no more wait for them."""
_MOST_REMEMBERED = 200


class Crowd:
    """Shoppers by their tasks. `run` lets them come until it is cancelled; `leave` waits until the last has gone."""

    def __init__(
        self, base: str, shops: Sequence[str], ledger: Ledger, *, seed: int, orders_per_s: float, views_per_s: float,
        password: str, session: aiohttp.ClientSession,
    ) -> None:  # fmt: skip
        self._base, self._ledger, self._password, self._session = base, ledger, password, session
        self._rng = Random(f"crowd {seed}")  # noqa: S311 - the same run is to be had again
        self._shops = _in_turn(shops, self._rng)
        self._orders_per_s = orders_per_s
        self._lookers_per_s = max(0.0, views_per_s - VIEWS_OF_BUYER * orders_per_s) / VIEWS_OF_LOOKER
        self._inside: set[asyncio.Task[None]] = set()
        self._bought: deque[Bought] = deque(maxlen=_MOST_REMEMBERED)
        self._numbers = itertools.count(1)
        self._prefix = f"replay-{seed}-{int(time.time())}"
        self.visits: list[Visit] = []
        self.pulse = Pulse()
        self.shut: set[str] = set()
        """Shops whose last answer was none, or not as it should be."""
        self.gave_up: Counter[str] = Counter()
        """Why how many left without what they came for."""
        self.faults: list[BaseException] = []
        """Of the replay itself."""

    @property
    def inside(self) -> int:
        """How many are in shops now."""
        return len(self._inside)

    def seen(self, visit: Visit) -> None:
        """One more request."""
        self.visits.append(visit)
        self.pulse.count(visit)
        if visit.kind in OF_SHOPS:
            (self.shut.discard if visit.good else self.shut.add)(visit.shop)

    def browser(self, shop: str) -> Browser:
        """A new one in this shop."""
        return Browser(self._base, shop, self._session, self.seen)

    async def run(self) -> None:
        """They come, until it is cancelled."""
        async with asyncio.TaskGroup() as arrivals:
            arrivals.create_task(self._come(self._orders_per_s, self._buyer))
            if self._lookers_per_s:
                arrivals.create_task(self._come(self._lookers_per_s, self._looker))

    async def leave(self, patience_s: float) -> None:
        """Nobody comes any more; wait for those inside, and send the last away."""
        if self._inside:
            await asyncio.wait(self._inside, timeout=patience_s)
        for task in list(self._inside):
            task.cancel()
        await asyncio.gather(*self._inside, return_exceptions=True)

    async def sweep(self, shops: Sequence[str]) -> None:
        """Somebody looks into each of these shops, a few at a time."""
        few = asyncio.Semaphore(8)

        async def look(shop: str) -> None:
            async with few:
                try:
                    await self.browser(shop).see(f"/s/{shop}/")
                except GaveUp as error:
                    self.gave_up[str(error)] += 1

        await asyncio.gather(*(look(shop) for shop in shops))

    async def _come(self, per_s: float, who: Callable[[], Awaitable[None]]) -> None:
        begun = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(begun + number / per_s - time.monotonic())
            if len(self._inside) < MOST_INSIDE:
                task = asyncio.create_task(self._be(who()))
                self._inside.add(task)
                task.add_done_callback(self._inside.discard)

    async def _be(self, session: Awaitable[None]) -> None:
        try:
            await session
        except GaveUp as error:
            self.gave_up[str(error)] += 1
        except Exception as error:
            self.faults.append(error)

    async def _buyer(self) -> None:
        bought = await self._shopper(next(self._shops)).buy()
        if bought is not None:
            self._bought.append(bought)

    async def _looker(self) -> None:
        if self._bought and self._rng.random() < 0.5:
            bought = self._bought[int(self._rng.random() * len(self._bought))]
            await self._shopper(bought.browser.shop, bought.browser).come_back(bought)
        else:
            await self._shopper(next(self._shops)).look_around()

    def _shopper(self, shop: str, browser: Browser | None = None) -> Shopper:
        number = next(self._numbers)
        rng = Random(f"{self._rng.random()} {number}")  # noqa: S311
        return Shopper(browser or self.browser(shop), self._ledger, f"{self._prefix}-{number}", rng, self._password)


def _in_turn(shops: Sequence[str], rng: Random) -> Iterator[str]:
    """Each once, then each once more, in ever another order."""
    while True:
        yield from rng.sample(list(shops), len(shops))
