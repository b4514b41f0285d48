"""Payments in the tests' words: begin one, and what the provider tells of it, signed as the sandbox provider signs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import msgspec

from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.payments import signing
from ballast.mall.payments.callbacks import take
from ballast.mall.payments.provider import Opened
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.payments.start import start
from ballast.mall.settings import Settings
from tests.fix_mall import Shop
from tests.integration.mall.ordering import NOW

T = TypeVar("T")


class Offline(Sandbox):
    """The sandbox provider's client with the other half left out: for tests in which callbacks are made by hand."""

    async def create(
        self, shop_id: UUID, payment_id: UUID, *, amount_fen: int, title: str, expires_at: datetime, return_url: str
    ) -> Opened:
        return Opened(f"p-{payment_id}", "http://pay.example/")

    async def refund(self, shop_id: UUID, refund_id: UUID, payment_id: UUID, *, amount_fen: int) -> str:
        return f"r-{refund_id}"


class Till:
    """A shop's database and provider, for the time of one test."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.settings: Settings = shop.database.settings(pool_size=4)
        self.db = Database(self.settings)
        self.provider = Offline(self.settings)

    async def act(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` gives, in a transaction of the shop."""
        async with self.db.shop(self.shop.shop_id) as connection:
            return await work(connection)

    async def begin(self, order_id: UUID, now: datetime = NOW) -> UUID:
        """Begin a payment; its id."""
        await start(self.db, self.shop.shop_id, order_id, self.provider, owner=None, return_url="http://x/", now=now)
        found = self.shop.database.run(
            "SELECT payment_id FROM mall.payment WHERE order_id = %s ORDER BY created_at DESC, payment_id DESC LIMIT 1",
            order_id,
        )
        return UUID(str(found[0][0]))

    async def told(
        self, kind: str, reference: UUID, amount_fen: int, *, callback_id: str = "", now: datetime | None = None
    ) -> str:
        """The provider tells; what was made of it. `now`: when it is heard."""
        body = msgspec.json.encode(
            {
                "callback_id": callback_id or str(new_id()),
                "kind": kind,
                "reference": reference,
                "code": f"{kind[0]}-{reference}",
                "amount_fen": amount_fen,
            }
        )
        at = now or datetime.now(UTC)
        key = signing.key_of(self.settings.secret, self.shop.shop_id)
        headers = {signing.HEADER: signing.sign(key, body, int(at.timestamp()))}
        return await take(self.db, self.shop.shop_id, self.provider, headers, body, at)


def at_till(shop: Shop, story: Callable[[Till], Awaitable[T]]) -> T:
    """Run a story of payments in a shop."""

    async def run() -> T:
        till = Till(shop)
        await till.db.open()
        try:
            return await story(till)
        finally:
            await till.provider.close()
            await till.db.close()

    return asyncio.run(run())


def books_of(shop: Shop) -> dict[str, int]:
    """How the accounts stand; every day and every transaction adds up to nothing."""
    for group in ("day", "transaction_id"):
        wrong = shop.database.run(
            f"SELECT {group} FROM mall.posting WHERE shop_id = %s GROUP BY {group} HAVING sum(amount_fen) <> 0",
            shop.shop_id,
        )
        assert wrong == []
    return {
        str(account): int(amount)
        for account, amount in shop.database.run(
            "SELECT account, sum(amount_fen) FROM mall.posting WHERE shop_id = %s GROUP BY 1", shop.shop_id
        )
        if amount
    }
