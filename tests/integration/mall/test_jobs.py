"""The worker: what is due is found over all shops, and done in each shop's own transaction; several workers take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from litestar.testing import TestClient
from psycopg.conninfo import make_conninfo

from ballast.mall import jobs, outbox, webhooks
from ballast.mall.db import Connection, Database
from ballast.mall.jobs import Job
from ballast.mall.turns import Turns
from ballast.mall.web.app import create_app
from ballast.mall.webhooks import signature
from tests.fix_mall import MallDatabase, OpenShop
from tests.integration.mall.ordering import buy, guest, in_shop, stock_of


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("waited in vain")


def test_a_worker_expires_orders_and_hands_out_events_of_every_shop(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shops = [open_shop(products=1) for _ in range(3)]
    past = datetime.now(UTC) - timedelta(hours=1)
    for shop in shops:
        in_shop(shop, lambda c, shop=shop: buy(c, guest(), shop.goods[0].sku_ids[0], 2, now=past))  # type: ignore[misc]
    heard: list[str] = []

    async def hear(_: Connection, event: outbox.OutEvent) -> None:
        heard.append(event.kind)

    async def work() -> None:
        settings = mall_database.settings()
        db, stop = Database(settings), asyncio.Event()
        await db.open()
        async with webhooks.Sender(db, signature.safe(mall_database.secret)) as sender:
            todo = jobs.jobs_of(db, {}, [hear], sender)
            running = asyncio.create_task(jobs.run(settings.platform_dsn, todo, stop))
            await _until(lambda: heard.count("order.cancelled") == 3)
            stop.set()
            await running
        await db.close()

    asyncio.run(work())
    assert sorted(heard) == ["order.cancelled"] * 3 + ["order.placed"] * 3
    assert [stock_of(shop, shop.goods[0].sku_ids[0]) for shop in shops] == [(100, 0)] * 3


def test_two_workers_do_not_do_the_same_at_once_and_who_is_gone_leaves_his_turn(mall_database: MallDatabase) -> None:
    dsn = make_conninfo(mall_database.dsn, user="mall_platform")

    async def work() -> list[bool]:
        one, other = Turns(dsn), Turns(dsn)
        taken = [await one.take("a"), await other.take("a"), await other.take("b")]
        await one.give("a")
        taken += [await other.take("a"), await one.take("a")]
        mall_database.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%% worker'"
        )
        for _ in range(100):  # the server sees that it is gone, and we do
            try:
                taken.append(await one.take("a"))
                break
            except Exception:
                await asyncio.sleep(0.02)
        await one.close()
        await other.close()
        return taken

    assert asyncio.run(work()) == [True, False, True, True, False, True]


def test_what_breaks_keeps_nothing_else_from_being_done_and_is_tried_again(mall_database: MallDatabase) -> None:
    done: list[str] = []

    async def breaks(_: datetime) -> int:
        done.append("broke")
        raise RuntimeError("a fault of ours")

    async def works(_: datetime) -> int:
        done.append("worked")
        return 1

    async def work() -> None:
        stop = asyncio.Event()
        dsn = make_conninfo(mall_database.dsn, user="mall_platform")
        running = asyncio.create_task(jobs.run(dsn, [Job("x", 0.05, breaks), Job("y", 0.05, works)], stop))
        await _until(lambda: done.count("broke") > 1 and done.count("worked") > 1)
        stop.set()
        await running

    asyncio.run(work())


def test_who_looks_after_it_hears_that_no_worker_is_there_and_what_is_late(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    settings = mall_database.settings()

    def said() -> tuple[int, str]:
        with TestClient(create_app(settings)) as client:
            answer = client.get("/healthz/worker")
            return answer.status_code, answer.text

    status, text = said()
    assert (status, "no worker" in text) == (503, True)

    async def while_there() -> tuple[int, str]:
        turns = Turns(settings.platform_dsn)
        await turns.take("anything")
        try:
            return await asyncio.to_thread(said)
        finally:
            await turns.close()

    mall_database.run("UPDATE mall.outbox SET dispatched_at = now() WHERE dispatched_at IS NULL")
    assert asyncio.run(while_there()) == (200, "ok")
    shop = open_shop(products=1)
    past = datetime.now(UTC) - timedelta(hours=1)
    in_shop(shop, lambda c: buy(c, guest(), shop.goods[0].sku_ids[0], 1, now=past))
    status, text = asyncio.run(while_there())
    assert (status, "not cancelled" in text, "not handed out" in text, "no worker" in text) == (503, True, True, False)
