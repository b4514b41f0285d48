"""Many at once on few pieces, on real connections; and a process that is killed in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from ballast.mall import jobs, stock
from ballast.mall.db import Busy, Database
from tests.fix_mall import OpenShop, Shop
from tests.integration.mall.ordering import NOW, buy, guest, stock_of

_BROKEN = """
SELECT count(*) FROM mall.orders o WHERE o.shop_id = %s AND NOT (
    EXISTS (SELECT FROM mall.order_line l WHERE l.order_id = o.order_id)
    AND EXISTS (SELECT FROM mall.order_event e WHERE e.order_id = o.order_id)
    AND EXISTS (SELECT FROM mall.outbox x WHERE (x.body->>'order_id')::uuid = o.order_id)
    AND EXISTS (SELECT FROM mall.idempotency i WHERE (i.answer->>'order_id')::uuid = o.order_id)
    AND EXISTS (SELECT FROM mall.stock_movement m WHERE m.order_id = o.order_id AND m.kind = 'reserve'))
"""
_MOVED = "SELECT sum(on_hand), sum(reserved) FROM mall.stock_movement WHERE sku_id = %s"


async def _buyer(db: Database, shop_id: UUID, sku: UUID, key: str) -> bool:
    owner = guest()
    while True:
        try:
            async with db.shop(shop_id) as connection:
                await buy(connection, owner, sku, 1, key, now=datetime.now(UTC))
            return True
        except stock.OutOfStock:
            return False
        except Busy:
            await asyncio.sleep(0.05)


def test_200_buyers_of_the_last_50_pieces_buy_exactly_50(open_shop: OpenShop) -> None:
    shop = open_shop()
    sku = shop.add_product(stock=50).sku_ids[0]

    async def rush() -> list[bool]:
        db = Database(shop.database.settings(pool_size=25, max_waiting=200))
        await db.open()
        try:
            return await asyncio.gather(*(_buyer(db, shop.shop_id, sku, f"k{n}") for n in range(200)))
        finally:
            await db.close()

    bought = asyncio.run(rush())
    assert bought.count(True) == 50
    assert stock_of(shop, sku) == (50, 50)
    assert shop.database.run(_MOVED, sku) == [(50, 50)]
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(50,)]
    assert shop.database.run(_BROKEN, shop.shop_id) == [(0,)]


def test_orders_of_several_goods_in_any_order_do_not_wait_for_each_other_for_ever(open_shop: OpenShop) -> None:
    shop = open_shop(products=6)
    skus = [goods.sku_ids[0] for goods in shop.goods]

    async def one(db: Database, n: int) -> None:
        turned = skus[n % 6 :] + skus[: n % 6]
        async with db.shop(shop.shop_id) as connection:
            await stock.receive(connection, dict.fromkeys(turned[: 2 + n % 5], 1), actor="test", now=NOW)

    async def rush() -> None:
        db = Database(shop.database.settings(pool_size=20, max_waiting=200))
        await db.open()
        try:
            await asyncio.gather(*(one(db, n) for n in range(120)))
        finally:
            await db.close()

    asyncio.run(rush())
    for sku in skus:
        assert shop.database.run(_MOVED, sku) == [stock_of(shop, sku)]


def test_a_process_killed_in_the_middle_leaves_no_half_order_and_its_stock_comes_back(open_shop: OpenShop) -> None:
    shop = open_shop()
    sku = shop.add_product(stock=400).sku_ids[0]
    settings = shop.database.settings()
    arguments = [sys.executable, "-m", __name__, settings.app_dsn, str(shop.shop_id), str(sku)]
    processes = [subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) for _ in "12"]
    try:
        _wait_for_orders(shop, 20)
        processes[0].send_signal(signal.SIGKILL)
        assert processes[1].wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    _wait_until_alone(shop)
    [(made,)] = shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id)
    assert 20 <= made < 400
    assert shop.database.run(_BROKEN, shop.shop_id) == [(0,)]
    assert stock_of(shop, sku) == (400, made)

    async def expire() -> int:
        db = Database(settings)
        await db.open()
        try:
            assert await jobs.expire(db, datetime.now(UTC), most=1000) == 0
            return await jobs.expire(db, datetime.now(UTC) + timedelta(hours=1), most=1000)
        finally:
            await db.close()

    assert asyncio.run(expire()) >= made
    assert stock_of(shop, sku) == (400, 0)
    assert shop.database.run(_MOVED, sku) == [(400, 0)]


def _wait_for_orders(shop: Shop, count: int) -> None:
    until = time.monotonic() + 60
    while shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id)[0][0] < count:
        assert time.monotonic() < until, "the buyers made no orders"
        time.sleep(0.02)


def _wait_until_alone(shop: Shop) -> None:
    """Until the server has noticed that the killed process is gone."""
    until = time.monotonic() + 30
    busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while shop.database.run(busy)[0][0]:
        assert time.monotonic() < until, "a connection of a killed process is still there"
        time.sleep(0.05)


async def _buy_on(app_dsn: str, shop_id: UUID, sku: UUID) -> None:
    from ballast.mall.settings import Settings

    db = Database(Settings(app_dsn=app_dsn, identity_dsn=app_dsn, platform_dsn=app_dsn, pool_size=6))
    await db.open()
    with contextlib.suppress(asyncio.CancelledError):
        for round_ in range(15):
            await asyncio.gather(*(_buyer(db, shop_id, sku, f"{os.getpid()}-{round_}-{n}") for n in range(10)))
    await db.close()


if __name__ == "__main__":
    asyncio.run(_buy_on(sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3])))
