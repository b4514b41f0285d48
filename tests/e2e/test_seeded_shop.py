"""A seeded shop in a real browser, and its orders with the real (sandbox) provider: it is a shop like any other."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import pytest
from playwright.sync_api import Browser

from ballast.mall import aftersales, jobs
from ballast.mall.db import Database
from ballast.mall.payments.sandbox import Sandbox
from ballast.mall.rules.refunding import RefundState
from ballast.mall.seed import Seeded, seed
from tests.fix_mall import MallDatabase
from tests.integration.mall.bringing import books_balance
from tests.integration.mall.test_sandbox import Both

T = TypeVar("T")
_PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
"""A folder to keep screenshots in, to be looked at."""


def _apart(work: Callable[[], T]) -> T:
    """In a thread of its own: Playwright has an event loop running in this one."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()


@pytest.fixture(scope="module")
def both(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with Both(mall_database, tmp_path_factory.mktemp("both")) as running:
        yield running


@pytest.fixture(scope="module")
def seeded(both: Both) -> Seeded:
    return _apart(lambda: seed(both.settings, shops=3, orders=80, products=30, pictures=0, password="four plain words"))


def test_pages_of_shops_of_each_kind_are_in_order(
    mall_database: MallDatabase, browser: Browser, both: Both, seeded: Seeded
) -> None:
    """Of one shop `test_every_page` looks at all; what is too wide is so on a phone first."""
    locale = "zh-CN"
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale=locale)
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page = context.new_page()
    for slug in seeded.slugs[:2]:
        shop = f"{both.settings.base_url}/s/{slug}"
        product = mall_database.run(
            "SELECT product_id FROM mall.product p JOIN mall.directory d USING (shop_id) WHERE slug = %s AND p.status = 'on_sale'"
            " AND jsonb_array_length(specs) > 0 LIMIT 1",
            slug,
        )[0][0]
        for name, path in (
            ("home", "/"),
            ("products", "/products"),
            ("product", f"/products/{product}"),
            ("about", "/p/about"),
        ):
            page.goto(shop + path)
            overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{path} is {overflow} px too wide"
            if _PICTURES:
                page.screenshot(path=f"{_PICTURES}/{slug}-{name}-{locale}.png")
    assert complaints == []
    context.close()


def test_money_of_a_seeded_order_goes_back_through_the_provider(
    mall_database: MallDatabase, both: Both, seeded: Seeded
) -> None:
    shop_id, refund_id = mall_database.run(
        "SELECT shop_id, refund_id FROM mall.refund WHERE status = 'requested' LIMIT 1"
    )[0]

    async def give_back(shop: UUID, refund: UUID) -> RefundState:
        db = Database(both.settings)
        provider = Sandbox(both.settings)
        await db.open()
        try:
            async with db.shop(shop) as connection:
                await aftersales.approve(connection, refund, actor="test", now=datetime.now(UTC))
            assert await jobs.pay_back(db, {"sandbox": provider}, datetime.now(UTC)) == 1
            until = time.monotonic() + 20
            while True:
                async with db.shop(shop) as connection:
                    status = (await aftersales.get(connection, refund)).status
                if status == RefundState.SUCCEEDED or time.monotonic() > until:
                    return status
                await asyncio.sleep(0.1)
        finally:
            await provider.close()
            await db.close()

    assert _apart(lambda: asyncio.run(give_back(shop_id, refund_id))) == RefundState.SUCCEEDED
    books_balance(mall_database)
