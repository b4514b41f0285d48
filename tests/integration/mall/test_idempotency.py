"""A write that is sent twice, at once or later, is done once; one that failed can be tried again with its key."""

from __future__ import annotations

import asyncio

import pytest

from ballast.mall import idempotency
from ballast.mall.db import Connection, Database
from ballast.mall.rules.refused import Refused
from tests.fix_mall import OpenShop
from tests.integration.mall.ordering import NOW, in_shop


def test_of_many_at_once_with_one_key_one_is_done_and_all_are_answered_alike(open_shop: OpenShop) -> None:
    shop = open_shop()
    done: list[int] = []

    async def run() -> list[int]:
        db = Database(shop.database.settings())
        await db.open()

        async def one(number: int) -> int:
            async def work() -> int:
                await asyncio.sleep(0.05)
                done.append(number)
                return number

            async with db.shop(shop.shop_id) as connection:
                return await idempotency.once(connection, "s", "k", "same", int, work, NOW)

        try:
            return await asyncio.gather(*(one(number) for number in range(6)))
        finally:
            await db.close()

    assert asyncio.run(run()) == done * 6
    assert len(done) == 1


def test_the_same_key_for_something_else_is_refused_and_a_failed_deed_frees_it(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def fails() -> str:
        raise Refused("no", "no")

    async def works() -> str:
        return "yes"

    async def failing(connection: Connection) -> str:
        return await idempotency.once(connection, "s", "k", 1, str, fails, NOW)

    async def other(connection: Connection) -> str:
        return await idempotency.once(connection, "s", "k", 2, str, works, NOW)

    async def again(connection: Connection) -> str:
        return await idempotency.once(connection, "s", "k", 1, str, fails, NOW)

    with pytest.raises(Refused, match="no"):
        in_shop(shop, failing)
    assert in_shop(shop, other) == "yes"
    with pytest.raises(Refused) as refused:
        in_shop(shop, again)
    assert refused.value.key == "idempotency.differs"
