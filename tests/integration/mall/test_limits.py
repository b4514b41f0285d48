"""What strangers may take: orders that nobody pays, passwords tried from shop to shop, rows that somebody holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import attempts, doors
from ballast.mall.attempts import TooOften
from ballast.mall.db import Busy, Database
from ballast.mall.ids import new_id
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import ADDRESS, shopper_of
from tests.integration.mall.shopping import Shopper, checkout_form

EN = {"Accept-Language": "en"}


@pytest.fixture
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    settings = mall_database.settings(sandbox_url="http://127.0.0.1:9", unpaid_per_shopper=2, unpaid_per_address=4)
    with TestClient(create_app(settings)) as client:
        yield client


def reserved(shop: Shop) -> int:
    return int(shop.database.run("SELECT sum(reserved) FROM mall.stock WHERE shop_id = %s", shop.shop_id)[0][0])


def test_nobody_keeps_a_shops_goods_by_orders_that_he_does_not_pay(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    program = shopper_of(client, shop)
    first = program.order(sku, 30)
    program.order(sku, 30)
    refused = program.order(sku, 30, status=409)
    assert (refused["code"], refused["params"]["most"]) == ("checkout.many_unpaid", 2)
    assert "pay or cancel" in refused["detail"]
    assert reserved(shop) == 60
    # One of them cancelled, there is room for another.
    program.call("POST", f"/orders/{first['order_id']}/cancel")
    program.order(sku)
    # Whoever throws his cookies away is somebody else, at the same address: in a browser, too.
    for _ in range(2):
        shopper_of(client, shop).order(sku)
    assert shopper_of(client, shop).order(sku, status=409)["code"] == "checkout.many_unpaid_here"
    shopper = Shopper(client, shop)
    assert "未付款订单太多" in shopper.order(shop, status=409).text
    client.headers.update(EN)
    assert "from your network wait" in shopper.order(shop, status=409).text
    before = reserved(shop)
    # Another shop, or who is paid for, is not concerned.
    other = open_shop(products=1)
    shopper_of(client, other).order(other.goods[0].sku_ids[0])
    shop.database.run("UPDATE mall.orders SET status = 'paid', paid_fen = total_fen WHERE shop_id = %s", shop.shop_id)
    shopper_of(client, shop).order(sku)
    assert reserved(shop) == before + 1


def test_what_shipping_added_is_said_to_be_shipping(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    rates = {"provinces": [], "first": 1, "first_fen": 800, "extra": 1, "extra_fen": 0, "free_from_fen": None}
    shop.database.run(
        "UPDATE mall.shipping SET rules = %s WHERE shop_id = %s",
        json.dumps({"unit": "piece", "rates": [rates]}),
        shop.shop_id,
    )
    shopper = Shopper(client, shop)
    shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    form = checkout_form(shopper.see("/checkout"))
    answer = shopper.send("/checkout", 409, **form)
    assert ("运费" in answer.text, "价格有变化" in answer.text) == (True, False)
    assert "¥8.00" in answer.text
    client.headers.update(EN)
    assert "Shipping to this address, ¥8.00" in shopper.send("/checkout", 409, **form).text
    # A price that changed is one.
    shop.database.run("UPDATE mall.sku SET price_fen = 5000 WHERE shop_id = %s", shop.shop_id)
    assert "The price has changed" in shopper.send("/checkout", 409, **form).text


def test_passwords_are_not_tried_from_shop_to_shop(mall_database: MallDatabase) -> None:
    now = datetime.now(UTC)

    async def story() -> int:
        db = Database(mall_database.settings())
        await db.open()
        tries = 0
        try:
            while tries < 2 * attempts.MOST_FROM_ONE_ADDRESS_OVER_ALL_SHOPS:
                await attempts.shopper_signs_in(db, new_id(), f"{tries}@example.com", "192.0.2.9", now)
                tries += 1
        except TooOften:
            await attempts.shopper_signs_in(db, new_id(), "one@example.com", "192.0.2.10", now)
        finally:
            await db.close()
        return tries

    assert asyncio.run(story()) == attempts.MOST_FROM_ONE_ADDRESS_OVER_ALL_SHOPS


def test_who_waits_for_a_row_that_somebody_holds_is_told_to_come_again(
    mall_database: MallDatabase, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(products=1)
    monkeypatch.setattr(doors, "_SET", doors._SET.replace(f"{doors.LOCK_S}s", "100ms"))
    held = "SELECT FROM mall.stock WHERE shop_id = %s FOR UPDATE"
    with (
        TestClient(create_app(mall_database.settings(sandbox_url="http://127.0.0.1:9"))) as client,
        psycopg.connect(mall_database.dsn) as somebody,
    ):
        somebody.execute(held, (shop.shop_id,))
        program = shopper_of(client, shop)
        wanted = {"lines": [{"sku_id": str(shop.goods[0].sku_ids[0]), "quantity": 1}], "address": ADDRESS}
        refused = program.ask("POST", "/orders", {**wanted, "agreed_fen": 1000}, status=503, key="k")
        # As where all connections are taken: the database is there.
        assert (refused.json()["code"], refused.headers["retry-after"]) == ("busy", "1")
        somebody.rollback()
        program.ask("POST", "/orders", {**wanted, "agreed_fen": 1000}, status=201, key="k")


def test_a_transaction_in_which_nothing_happens_is_ended_and_its_request_told_to_come_again(
    mall_database: MallDatabase, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(products=1)
    monkeypatch.setattr(doors, "_SET", doors._SET.replace(f"{doors.IDLE_S}s", "100ms"))

    async def linger(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            await connection.execute("SELECT FROM mall.stock FOR UPDATE")
            await asyncio.sleep(0.5)
            await connection.execute("SELECT 1")

    async def story() -> Any:
        db = Database(mall_database.settings())
        await db.open()
        try:
            with pytest.raises(Busy):
                await linger(db)
            async with db.shop(shop.shop_id) as connection:
                row = await (await connection.execute("SHOW statement_timeout")).fetchone()
                return row["statement_timeout"] if row else None
        finally:
            await db.close()

    assert asyncio.run(story()) == "0"  # a COMMIT that waits for the recorder must not be broken off
