"""What a provider tells: once, twice, late, in the wrong order, or by somebody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from ballast.mall import orders
from ballast.mall.ids import new_id
from ballast.mall.jobs import pay_back
from ballast.mall.order_life import Unknown
from ballast.mall.payments import signing
from ballast.mall.payments.callbacks import UnknownReference, take
from ballast.mall.payments.provider import Forged
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status
from tests.fix_mall import OpenShop
from tests.integration.mall.ordering import NOW, buy, guest, stock_of
from tests.integration.mall.paying import Till, at_till, books_of


def test_a_payment_sells_the_goods_once_however_often_it_is_told(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]

    async def story(till: Till) -> list[str]:
        order = await till.act(lambda c: buy(c, guest(), sku, 2))
        payment = await till.begin(order.order_id)
        assert await till.begin(order.order_id) == payment
        tell = [till.told("payment.succeeded", payment, 2000, callback_id="one") for _ in range(4)]
        outcomes = sorted(await asyncio.gather(*tell))
        outcomes.append(await till.told("payment.succeeded", payment, 2000, callback_id="two"))
        outcomes.append(await till.told("payment.failed", payment, 2000, callback_id="three"))
        assert (await till.act(lambda c: orders.get(c, order.order_id))).status == Status.PAID
        with pytest.raises(Refused, match="does not wait"):
            await till.begin(order.order_id)
        return outcomes

    assert at_till(shop, story) == ["paid", "repeated", "repeated", "repeated", "known", "overtaken"]
    assert stock_of(shop, sku) == (98, 0)
    assert books_of(shop) == {"provider": 2000, "sales": -2000}
    assert shop.database.run("SELECT sold FROM mall.product WHERE shop_id = %s", shop.shop_id) == [(2,)]


def test_a_success_after_a_failure_counts_and_a_wrong_amount_does_not(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(till: Till) -> None:
        order = await till.act(lambda c: buy(c, guest(), shop.goods[0].sku_ids[0]))
        payment = await till.begin(order.order_id)
        assert await till.told("payment.failed", payment, 1000) == "failed"
        assert await till.told("payment.succeeded", payment, 1) == "amount_differs"
        assert (await till.act(lambda c: orders.get(c, order.order_id))).status == Status.PENDING_PAYMENT
        assert await till.told("payment.succeeded", payment, 1000) == "paid"

    at_till(shop, story)
    assert books_of(shop) == {"provider": 1000, "sales": -1000}


def test_a_payment_after_the_cancellation_and_a_second_one_go_back_by_themselves(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]

    async def story(till: Till) -> None:
        late = await till.act(lambda c: buy(c, guest(), sku))
        payment = await till.begin(late.order_id)
        assert await till.act(lambda c: orders.expire(c, late.order_id, NOW + timedelta(hours=1)))
        assert await till.told("payment.succeeded", payment, 1000) == "sent_back"

        twice = await till.act(lambda c: buy(c, guest(), sku))
        first = await till.begin(twice.order_id)
        await till.told("payment.failed", first, 1000)
        second = await till.begin(twice.order_id)
        assert second != first
        assert await till.told("payment.succeeded", second, 1000) == "paid"
        assert await till.told("payment.succeeded", first, 1000) == "sent_back"
        assert books_of(shop) == {"provider": 3000, "sales": -1000, "undue": -2000}

        now = datetime.now(UTC)
        assert await pay_back(till.db, {"sandbox": till.provider}, now) == 2
        assert await pay_back(till.db, {"sandbox": till.provider}, now) == 0
        for (refund,) in shop.database.run("SELECT refund_id FROM mall.refund WHERE shop_id = %s", shop.shop_id):
            assert await till.told("refund.succeeded", refund, 1000) == "refunded"
            assert await till.told("refund.succeeded", refund, 1000) == "known"

    at_till(shop, story)
    assert books_of(shop) == {"provider": 1000, "sales": -1000}
    assert stock_of(shop, sku) == (99, 0)


def test_forged_old_and_foreign_callbacks_change_nothing(open_shop: OpenShop) -> None:
    shop, other = open_shop(products=1), open_shop(products=1)

    async def story(till: Till) -> None:
        order = await till.act(lambda c: buy(c, guest(), shop.goods[0].sku_ids[0]))
        payment = await till.begin(order.order_id)
        now = datetime.now(UTC)
        told = {"kind": "payment.succeeded", "reference": payment, "code": "x", "amount_fen": 1000, "callback_id": "f"}
        body = msgspec.json.encode(told)
        at = int(now.timestamp())
        good, foreign = (signing.key_of(till.settings.secret, one.shop_id) for one in (shop, other))
        forged = [
            (body, ""),
            (body, "t=1,v1=zz"),
            (body, signing.sign(foreign, body, at)),
            (body, signing.sign(good, body, at - 3600)),
            (body.replace(b"1000", b"1001"), signing.sign(good, body, at)),
        ]
        for content, signature in forged:
            with pytest.raises(Forged):
                await take(till.db, shop.shop_id, till.provider, {signing.HEADER: signature}, content, now)
        # Another shop signs for itself, and names a payment that is not its own.
        headers = {signing.HEADER: signing.sign(foreign, body, at)}
        with pytest.raises(UnknownReference):
            await take(till.db, other.shop_id, till.provider, headers, body, now)
        with pytest.raises(UnknownReference):
            await till.told("refund.succeeded", new_id(), 1000)
        with pytest.raises(Unknown):
            await till.act(lambda c: orders.get(c, order.order_id, owner=guest()))

    at_till(shop, story)
    assert books_of(shop) == {}
    assert shop.database.run("SELECT count(*) FROM mall.payment_callback WHERE shop_id = %s", shop.shop_id) == [(0,)]
