"""An order after its payment: parcels, receipt, refunds, points; whatever happens in whatever order, the sums hold."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ballast.mall import aftersales, jobs, orders, outbox
from ballast.mall.aftersales import Asked
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.order_life import lock, step
from ballast.mall.owner import Owner
from ballast.mall.rules.machine import IllegalTransition
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Life, RefundStatus, Status, allowed
from tests.fix_mall import OpenShop, Shop
from tests.integration.mall.ordering import NOW, buy, guest, stock_of
from tests.integration.mall.paying import Till, at_till, books_of


async def paid(till: Till, owner: Owner, sku: UUID, quantity: int, key: str = "k") -> UUID:
    order = await till.act(lambda c: buy(c, owner, sku, quantity, key))
    assert await till.told("payment.succeeded", await till.begin(order.order_id), order.total_fen) == "paid"
    return order.order_id


def _member(shop: Shop) -> Owner:
    customer = new_id()
    shop.database.run(
        "INSERT INTO mall.customer (shop_id, customer_id, phone) VALUES (%s, %s, %s)",
        *(shop.shop_id, customer, f"1{customer.int % 10**10:010}"),
    )
    return Owner(customer_id=customer)


def test_parcels_receipt_points_level_and_closing(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shop.database.run(
        """UPDATE mall.shop SET levels = '[{"name": "a", "from_fen": 1000}, {"name": "b", "from_fen": 2500}]' WHERE shop_id = %s""",
        shop.shop_id,
    )
    member = _member(shop)

    async def story(till: Till) -> None:
        order = await paid(till, member, shop.goods[0].sku_ids[0], 3)
        with pytest.raises(IllegalTransition):
            await till.act(lambda c: orders.cancel(c, order, by="merchant", actor="t", now=NOW))
        parcel = new_id()
        for _ in range(2):
            await till.act(
                lambda c: orders.ship(c, order, carrier="SF", pieces={1: 1}, actor="t", now=NOW, shipment_id=parcel)
            )
        with pytest.raises(Refused, match="More of line 1"):
            await till.act(lambda c: orders.ship(c, order, carrier="SF", pieces={1: 3}, actor="t", now=NOW))
        assert (await till.act(lambda c: orders.get(c, order))).status == Status.PARTLY_SHIPPED
        await till.act(lambda c: orders.ship(c, order, carrier="SF", actor="t", now=NOW))
        seen = await till.act(lambda c: orders.get(c, order, owner=member))
        assert (seen.status, [line.shipped_quantity for line in seen.lines], len(seen.shipments)) == ("shipped", [3], 2)

        assert await jobs.settle(till.db, NOW + timedelta(days=9)) == 0
        assert await jobs.settle(till.db, NOW + timedelta(days=11)) == 1
        stand = "SELECT points, spent_fen, level FROM mall.customer WHERE customer_id = %s"
        assert shop.database.run(stand, member.customer_id) == [(30, 3000, 2)]

        back = await till.act(
            lambda c: aftersales.request(c, order, [Asked(1, 1)], with_return=True, reason="r", actor="t", now=NOW)
        )
        after = NOW + timedelta(days=30)
        assert not await till.act(lambda c: orders.close(c, order, actor="t", now=after))
        await till.act(lambda c: aftersales.approve(c, back, actor="t", now=NOW))
        await till.act(lambda c: aftersales.send_goods_back(c, back, carrier="SF", code="1", owner=member))
        await till.act(lambda c: aftersales.goods_back(c, back, restock=True, actor="t", now=NOW))
        await till.act(lambda c: aftersales.pay_back(c, back, actor="t", now=NOW))
        assert await till.told("refund.succeeded", back, 1000) == "refunded"
        assert shop.database.run(stand, member.customer_id) == [(20, 2000, 1)]
        assert await jobs.settle(till.db, after) == 1
        assert (await till.act(lambda c: orders.get(c, order))).status == Status.CLOSED

    at_till(shop, story)
    assert books_of(shop) == {"provider": 2000, "sales": -3000, "refunds": 1000}
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (98, 0)


def test_a_paid_order_is_cancelled_by_its_refund_and_its_goods_can_be_sold_again(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(till: Till) -> None:
        order = await paid(till, guest(), shop.goods[0].sku_ids[0], 3)
        refund = await till.act(lambda c: aftersales.cancel_paid(c, order, actor="t", reason="no goods", now=NOW))
        with pytest.raises(Refused):
            await till.act(lambda c: orders.ship(c, order, carrier="SF", actor="t", now=NOW))
        assert await jobs.pay_back(till.db, {"sandbox": till.provider}, NOW) == 1
        assert await till.told("refund.failed", refund, 3000) == "failed"
        assert await jobs.pay_back(till.db, {"sandbox": till.provider}, NOW) == 0
        assert await jobs.pay_back(till.db, {"sandbox": till.provider}, NOW + timedelta(minutes=11)) == 1
        assert await till.told("refund.succeeded", refund, 3000) == "refunded"
        assert await till.told("refund.failed", refund, 3000) == "overtaken"
        seen = await till.act(lambda c: orders.get(c, order))
        assert (seen.status, seen.refund_status) == (Status.CANCELLED, RefundStatus.REFUNDED)

    at_till(shop, story)
    assert books_of(shop) == {"sales": -3000, "refunds": 3000}
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (100, 0)


def test_two_who_ask_for_all_of_it_at_once_do_not_both_get_it(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(till: Till) -> None:
        order = await paid(till, guest(), shop.goods[0].sku_ids[0], 3)

        async def ask(refund_id: UUID) -> UUID | Refused:
            try:
                return await till.act(
                    lambda c: aftersales.request(
                        c, order, None, with_return=False, reason="r", actor="t", now=NOW, refund_id=refund_id
                    )
                )
            except Refused as refused:
                return refused

        one, two = new_id(), new_id()
        answers = await asyncio.gather(ask(one), ask(two), ask(one), ask(two))
        assert sum(isinstance(answer, Refused) for answer in answers) == 2
        with pytest.raises(Refused, match="0 are left"):
            await till.act(
                lambda c: aftersales.request(c, order, [Asked(1, 1)], with_return=False, reason="", actor="t", now=NOW)
            )
        [refund] = await till.act(lambda c: aftersales.list_of(c, order_id=order))
        await till.act(lambda c: aftersales.withdraw(c, refund.refund_id, actor="t", now=NOW))
        again = await till.act(
            lambda c: aftersales.request(c, order, [Asked(1, 3)], with_return=False, reason="", actor="t", now=NOW)
        )
        assert (await till.act(lambda c: aftersales.get(c, again))).amount_fen == 3000

    at_till(shop, story)


def test_what_the_rules_do_not_foresee_is_refused_in_every_state(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(till: Till) -> int:
        order = (await till.act(lambda c: buy(c, guest(), shop.goods[0].sku_ids[0]))).order_id
        tried = 0
        for status in Status:
            shop.database.run("UPDATE mall.orders SET status = %s WHERE order_id = %s", status.value, order)
            for event in set(Event) - set(allowed(Life(status, RefundStatus.NONE))):

                async def forbidden(connection: Connection, event: Event = event) -> None:
                    await step(connection, await lock(connection, order), event, actor="t", now=NOW)

                with pytest.raises(IllegalTransition):
                    await till.act(forbidden)
                tried += 1
        return tried

    assert at_till(shop, story) > 40
    assert shop.database.run("SELECT count(*) FROM mall.order_event WHERE shop_id = %s", shop.shop_id) == [(1,)]


def test_the_outbox_is_handed_out_once_and_not_where_the_subscriber_fails(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    heard: list[str] = []

    async def hear(_: Connection, event: outbox.OutEvent) -> None:
        heard.append(event.kind)

    async def fail(_: Connection, event: outbox.OutEvent) -> None:
        raise Refused("test", "not now")

    async def story(till: Till) -> None:
        await paid(till, guest(), shop.goods[0].sku_ids[0], 1)
        shops_of_others = await jobs.hand_out(till.db, [], NOW)
        assert shops_of_others >= 2
        await paid(till, guest(), shop.goods[0].sku_ids[0], 1)
        assert await jobs.hand_out(till.db, [hear, fail], NOW) == 0
        heard.clear()
        assert await jobs.hand_out(till.db, [hear], NOW) == 2
        assert await jobs.hand_out(till.db, [hear], NOW) == 0

    at_till(shop, story)
    assert heard == ["order.placed", "order.paid"]


# Asking, approving and paying come more often than the rest: sums go wrong there if they do.
_ACTIONS = st.sampled_from(
    [
        *["ask", "ask_amount", "approve", "ok"],
        "ask",
        "ask_return",
        "ask_amount",
        "approve",
        "refuse",
        "withdraw",
        "back",
        "send",
        "ok",
        "fail",
        "ship",
        "ship_all",
        "receive",
        "late",
    ]
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(_ACTIONS, st.integers(0, 6), st.integers(1, 3)), min_size=4, max_size=25))
def test_whatever_happens_never_more_goes_back_than_was_paid_and_all_sums_hold(
    open_shop: OpenShop, plan: list[tuple[str, int, int]]
) -> None:
    shop = open_shop()
    sku = shop.add_product(price_fen=333).sku_ids[0]
    member = _member(shop)

    async def do(till: Till, order: UUID, action: str, which: int, count: int) -> None:
        found = await till.act(lambda c: aftersales.list_of(c, order_id=order))
        refund = found[which % len(found)] if found else None
        if action in ("ask", "ask_return", "ask_amount"):
            item = Asked(1, count, 100 * which if action == "ask_amount" else None)
            await till.act(
                lambda c: aftersales.request(
                    c, order, [item], with_return=action == "ask_return", reason="r", actor="t", now=NOW
                )
            )
        elif action == "ship":
            await till.act(lambda c: orders.ship(c, order, carrier="SF", pieces={1: count}, actor="t", now=NOW))
        elif action == "ship_all":
            await till.act(lambda c: orders.ship(c, order, carrier="SF", actor="t", now=NOW))
        elif action == "receive":
            await till.act(lambda c: orders.receive(c, order, actor="t", now=NOW, owner=member))
        elif action == "late":
            payments = shop.database.run("SELECT payment_id, amount_fen FROM mall.payment WHERE order_id = %s", order)
            await till.told("payment.succeeded", *payments[0])
        elif refund is None:
            return
        elif action == "approve":
            await till.act(lambda c: aftersales.approve(c, refund.refund_id, actor="t", now=NOW))
        elif action == "refuse":
            await till.act(lambda c: aftersales.refuse(c, refund.refund_id, actor="t", now=NOW, answer="no"))
        elif action == "withdraw":
            await till.act(lambda c: aftersales.withdraw(c, refund.refund_id, actor="t", now=NOW))
        elif action == "back":
            await till.act(
                lambda c: aftersales.goods_back(c, refund.refund_id, restock=bool(which % 2), actor="t", now=NOW)
            )
        elif action == "send":
            await till.act(lambda c: aftersales.pay_back(c, refund.refund_id, actor="t", now=NOW))
        else:
            kind = "refund.succeeded" if action == "ok" else "refund.failed"
            await till.told(kind, refund.refund_id, refund.amount_fen)

    async def story(till: Till) -> None:
        order = await paid(till, member, sku, 5)
        for action, which, count in plan:
            try:
                await do(till, order, action, which, count)
            except Refused:
                continue
        seen = await till.act(lambda c: orders.get(c, order))
        found = await till.act(lambda c: aftersales.list_of(c, order_id=order))
        back = sum(one.amount_fen for one in found if one.status == RefundState.SUCCEEDED)
        claimed = sum(one.amount_fen for one in found if one.status not in (RefundState.REFUSED, RefundState.WITHDRAWN))
        assert claimed <= seen.paid_fen == 1665
        assert seen.refunded_fen == back == sum(line.refunded_fen for line in seen.lines)
        assert (seen.refund_status == RefundStatus.REFUNDED) == (back == seen.paid_fen)
        accounts = books_of(shop)
        assert accounts.get("provider", 0) == seen.paid_fen - back
        assert accounts.get("refunds", 0) == back
        if seen.received_at:
            stand = "SELECT points, spent_fen FROM mall.customer WHERE customer_id = %s"
            kept = seen.paid_fen - back
            assert shop.database.run(stand, member.customer_id) == [(kept // 100, kept)]

    at_till(shop, story)
    moved = "SELECT sum(on_hand), sum(reserved) FROM mall.stock_movement WHERE sku_id = %s"
    assert shop.database.run(moved, sku) == [stock_of(shop, sku)]
