"""The worker: procrastinate finds over all shops what is due, and does it in each shop's own transaction."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from ballast.mall import jobs, outbox
from ballast.mall.db import Connection, Database
from tests.fix_mall import MallDatabase, OpenShop
from tests.integration.mall.ordering import buy, guest, in_shop, stock_of


def test_a_worker_expires_orders_and_hands_out_events_of_every_shop(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shops = [open_shop(products=1) for _ in range(3)]
    past = datetime.now(UTC) - timedelta(hours=1)
    for shop in shops:
        in_shop(shop, lambda c, shop=shop: buy(c, guest(), shop.goods[0].sku_ids[0], 2, now=past))  # type: ignore[misc]
    jobs.install(mall_database.dsn)
    jobs.install(mall_database.dsn)
    heard: list[str] = []

    async def hear(_: Connection, event: outbox.OutEvent) -> None:
        heard.append(event.kind)

    async def work() -> None:
        db = Database(mall_database.settings())
        await db.open()
        app = jobs.queue(mall_database.dsn, db, {}, [hear], secret=mall_database.secret)
        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(install_signal_handlers=False, delete_jobs="always", concurrency=3)
            )
            for _ in range(400):
                if heard.count("order.cancelled") == 3:
                    break
                await asyncio.sleep(0.05)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)
        await db.close()

    asyncio.run(work())
    assert sorted(heard) == ["order.cancelled"] * 3 + ["order.placed"] * 3
    assert [stock_of(shop, shop.goods[0].sku_ids[0]) for shop in shops] == [(100, 0)] * 3
    assert mall_database.run(
        "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'procrastinate%%' AND schemaname <> 'procrastinate'"
    ) == [(0,)]
