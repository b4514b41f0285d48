"""Paying with a gift card: at once or not at all, and never more than is on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import aftersales, attempts, gift_cards, jobs, orders
from ballast.mall.db import Busy, Connection, Database
from ballast.mall.gift_cards import Terms
from ballast.mall.ids import new_id
from ballast.mall.payments import gift_card as paying
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import ADDRESS, Caller, shopper_of
from tests.integration.mall.cards import BY, balance, card_order, gift_card, moves, void
from tests.integration.mall.ordering import NOW, buy, guest, in_shop, stock_of
from tests.integration.mall.paying import Till, at_till, books_of
from tests.integration.mall.shopping import storefront

_ORDERS = "SELECT count(*)::integer FROM mall.orders WHERE shop_id = %s"


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_was_refused_before(mall_database: MallDatabase) -> None:
    attempts._shut.clear()
    mall_database.run("DELETE FROM mall.signin_attempts")


def _two(caller: Caller, shop: Shop, **changes: Any) -> Any:
    return caller.order(shop.goods[0].sku_ids[0], 2, **changes)


def test_an_order_is_paid_as_it_is_placed(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    card = gift_card(shop, 5_000)
    caller = shopper_of(client, shop)
    caller.call("PUT", f"/cart/lines/{sku}", {"quantity": 2})
    placed = _two(caller, shop, key="k", gift_card=card.code)
    assert (placed["status"], placed["pay_url"], placed["total_fen"]) == ("paid", None, 2_000)
    # Sent again it is the same order, paid once; with another card it is another request.
    assert _two(caller, shop, key="k", gift_card=card.code.lower().replace("-", " ")) == placed
    other = gift_card(shop)
    assert _two(caller, shop, key="k", gift_card=other.code, status=422)["code"] == "idempotency.differs"
    order = caller.call("GET", f"/orders/{placed['order_id']}")
    assert (order["status"], order["paid_fen"]) == ("paid", 2_000)
    assert caller.call("GET", "/cart")["pieces"] == 0
    assert (balance(shop, card.card_id), balance(shop, other.card_id)) == (3_000, 10_000)
    assert moves(shop, card.card_id) == [("issued", 5_000), ("paid", -2_000)]
    assert stock_of(shop, sku) == (98, 0)
    moved = "SELECT kind, on_hand, reserved FROM mall.stock_movement WHERE sku_id = %s ORDER BY at DESC, movement_id LIMIT 2"
    assert ("sell", -2, 0) in shop.database.run(moved, sku)
    assert shop.database.run("SELECT sum(on_hand), sum(reserved) FROM mall.stock_movement WHERE sku_id = %s", sku) == [
        (98, 0)
    ]
    assert books_of(shop) == {"gift_cards": 2_000, "sales": -2_000}
    # As with any payment that comes: what is told to others, what happened, how often it was sold.
    kinds = "SELECT kind FROM mall.outbox WHERE shop_id = %s ORDER BY created_at, event_id"
    assert shop.database.run(kinds, shop.shop_id) == [("order.placed",), ("order.paid",)]
    events = in_shop(shop, lambda c: orders.get(c, UUID(placed["order_id"]))).events
    assert [one.event for one in events] == ["place", "pay"]
    assert events[1].detail["points_per_100_yuan"] == 100
    assert shop.database.run("SELECT sold FROM mall.product WHERE shop_id = %s", shop.shop_id) == [(2,)]
    paid = "SELECT provider, provider_code, amount_fen, status FROM mall.payment WHERE shop_id = %s"
    assert shop.database.run(paid, shop.shop_id) == [("gift_card", str(card.card_id), 2_000, "succeeded")]


def test_an_order_that_waits_is_paid_by_a_card_once(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    caller = shopper_of(client, shop)
    placed = _two(caller, shop)
    assert placed["status"] == "pending_payment"
    pay = f"/orders/{placed['order_id']}/payments"
    for _ in range(2):  # whose answer was not heard sends it again
        assert caller.call("POST", pay, {"gift_card": card.code}, status=201) == {"pay_url": None, "status": "paid"}
    assert balance(shop, card.card_id) == 8_000
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (98, 0)
    assert caller.call("POST", pay, {"gift_card": gift_card(shop).code}, status=409)["code"] == "payment.not_due"
    somebody = shopper_of(client, shop)
    assert somebody.call("POST", pay, {"gift_card": card.code}, status=404)["code"] == "order.unknown"


def test_what_is_no_good_card_of_the_shop_is_refused_alike_and_leaves_nothing(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop, elsewhere = open_shop(products=1), open_shop()
    now = datetime.now(UTC)
    gone, over = gift_card(shop), gift_card(shop, now=now - timedelta(days=1), until=now)
    void(shop, gone.card_id)
    caller = shopper_of(client, shop)
    waits = _two(caller, shop)["order_id"]
    refusals = []
    for code in (gone.code, over.code, gift_card(elsewhere).code, "ABCD-EFGH-JKLM-NPQR", "0000-0000-0000-0000", "x"):
        said = _two(caller, shop, gift_card=code, status=409)
        refusals.append(said)
        refusals.append(caller.call("POST", f"/orders/{waits}/payments", {"gift_card": code}, status=409))
    assert {said["code"] for said in refusals} == {"gift_card.unusable"}
    assert len({said["detail"] for said in refusals}) == 1
    assert shop.database.run(_ORDERS, shop.shop_id) == [(1,)]
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (100, 2)
    assert (balance(shop, gone.card_id), balance(shop, over.card_id)) == (0, 10_000)


def test_a_card_that_has_less_than_the_order_costs_pays_nothing(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop, 1_999)
    caller = shopper_of(client, shop)
    said = _two(caller, shop, key="k", gift_card=card.code, status=409)
    assert said["code"] == "gift_card.short"
    assert (
        said["detail"]
        == "There is ¥19.99 left on this gift card, and the order costs ¥20.00. A gift card pays a whole order."
    )
    assert (said["params"]["balance_fen"], said["params"]["total_fen"]) == (1_999, 2_000)
    assert shop.database.run(_ORDERS, shop.shop_id) == [(0,)]
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (100, 0)
    # The key is free: nothing was done with it.
    assert _two(caller, shop, key="k", gift_card=gift_card(shop, 2_000).code)["status"] == "paid"
    assert balance(shop, card.card_id) == 1_999


def test_what_is_not_in_stock_any_more_takes_nothing_off_the_card(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    sku = shop.add_product(stock=3).sku_ids[0]
    card = gift_card(shop)

    async def rush(db: Database) -> list[str]:
        async def one(key: str) -> str:
            try:
                async with db.shop(shop.shop_id) as connection:
                    await buy(connection, guest(), sku, 1, key, gift_card=card.code, last=True)
            except Refused as error:
                return error.key
            return "paid"

        return await asyncio.gather(*(one(f"k{n}") for n in range(8)))

    assert Counter(_with(shop, rush)) == {"paid": 3, "stock.short": 5}
    assert balance(shop, card.card_id) == 7_000
    assert stock_of(shop, sku) == (0, 0)


def test_who_pays_nothing_needs_no_balance(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    sku = shop.add_product(price_fen=0).sku_ids[0]
    card = gift_card(shop)
    placed = shopper_of(client, shop).order(sku, gift_card=card.code)
    assert (placed["status"], placed["total_fen"]) == ("paid", 0)
    assert balance(shop, card.card_id) == 10_000


def test_many_orders_at_once_with_one_card_spend_what_is_on_it_and_no_more(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    card = gift_card(shop, 5_500)

    async def rush(db: Database) -> list[str]:
        async def order(number: int) -> str:
            while True:
                try:
                    async with db.shop(shop.shop_id) as connection:
                        # Some are the last of their transaction, some are not.
                        last = number % 2 == 0
                        await buy(connection, guest(), sku, 1, f"k{number}", gift_card=card.code, last=last)
                    return "paid"
                except Refused as error:
                    return error.key
                except Busy:
                    await asyncio.sleep(0.05)

        async def pay(number: int) -> str:
            owner = guest()
            async with db.shop(shop.shop_id) as connection:
                placed = await buy(connection, owner, sku, 1, f"w{number}")
            try:
                async with db.shop(shop.shop_id) as connection:
                    await paying.pay(connection, placed.order_id, card.code, owner=owner, now=NOW)
            except Refused as error:
                return error.key
            return "paid"

        return await asyncio.gather(*(way(n) for n in range(20) for way in (order, pay)))

    assert Counter(_with(shop, rush)) == {"paid": 5, "gift_card.short": 35}
    assert balance(shop, card.card_id) == 500
    paid = "SELECT count(*)::integer FROM mall.orders WHERE shop_id = %s AND status = 'paid'"
    assert shop.database.run(paid, shop.shop_id) == [(5,)]
    assert books_of(shop)["gift_cards"] == 5_000


@pytest.mark.parametrize("how", ["order", "pay"])
def test_a_card_that_is_made_void_at_this_moment_pays_nothing(
    client: TestClient[Litestar], open_shop: OpenShop, how: str
) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    caller = shopper_of(client, shop)
    waits = _two(caller, shop)["order_id"]
    with psycopg.connect(shop.database.dsn) as holder, ThreadPoolExecutor(1) as thread:
        holder.execute(
            "UPDATE mall.gift_card SET status = 'voided', voided_at = now() WHERE card_id = %s", (card.card_id,)
        )
        if how == "order":
            said = thread.submit(_two, caller, shop, gift_card=card.code, status=409)
        else:
            said = thread.submit(caller.call, "POST", f"/orders/{waits}/payments", {"gift_card": card.code}, status=409)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while shop.database.run(waiting) == [(0,)]:
            assert not said.done(), said.result()
        holder.commit()
        assert said.result()["code"] == "gift_card.unusable"
    assert balance(shop, card.card_id) == 10_000
    assert shop.database.run(_ORDERS, shop.shop_id) == [(1,)]


@pytest.mark.parametrize("how", ["order", "pay"])
def test_a_card_that_is_taken_away_at_this_moment_pays_nothing(open_shop: OpenShop, how: str) -> None:
    """As where its shop goes back to before it was issued."""
    shop = open_shop(products=1)
    card, owner, sku = gift_card(shop), guest(), shop.goods[0].sku_ids[0]
    waits = in_shop(shop, lambda c: buy(c, owner, sku)).order_id

    async def story(db: Database) -> None:
        async def act() -> None:
            async with db.shop(shop.shop_id) as connection:
                if how == "order":
                    await buy(connection, owner, sku, key="other", gift_card=card.code, last=True)
                else:
                    await paying.pay(connection, waits, card.code, owner=owner, now=NOW)

        async with await psycopg.AsyncConnection.connect(shop.database.dsn) as holder:
            await holder.execute("DELETE FROM mall.gift_card_movement WHERE card_id = %s", (card.card_id,))
            await holder.execute("DELETE FROM mall.gift_card WHERE card_id = %s", (card.card_id,))
            acting = asyncio.create_task(act())
            await _until_waiting(shop, 1)
        with pytest.raises(Refused, match="has this code"):
            await acting

    _with(shop, story)
    assert shop.database.run("SELECT status FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [
        ("pending_payment",)
    ]
    assert books_of(shop) == {}


def test_who_shows_many_wrong_codes_is_refused_whatever_he_shows(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop, elsewhere = open_shop(products=1), open_shop(products=1)
    card, others = gift_card(shop), gift_card(elsewhere)
    caller = shopper_of(client, shop)
    assert _two(caller, shop, gift_card=card.code)["status"] == "paid"
    for _ in range(attempts.MOST_WRONG_CARDS_FROM_ONE_ADDRESS):
        assert _two(caller, shop, gift_card="x", status=409)["code"] == "gift_card.unusable"
    lines = [{"sku_id": str(shop.goods[0].sku_ids[0]), "quantity": 2}]
    body = {"lines": lines, "address": ADDRESS, "agreed_fen": 2_000, "gift_card": "x"}
    refused = caller.ask("POST", "/orders", body, status=429, key="last")
    assert (refused.json()["code"], int(refused.headers["retry-after"]) > 600) == ("signin.often", True)
    assert _two(caller, shop, gift_card=card.code, status=429)["code"] == "signin.often"
    # Another process hears of it with the next wrong one, since they are counted in the database.
    attempts._shut.clear()
    assert _two(caller, shop, gift_card="x", status=429)["code"] == "signin.often"
    assert _two(caller, shop)["status"] == "pending_payment"
    # … and nobody is turned away from another shop, before he has gone from one to the next.
    assert _two(shopper_of(client, elsewhere), elsewhere, gift_card=others.code)["status"] == "paid"
    left = attempts.MOST_WRONG_CARDS_OVER_ALL_SHOPS - attempts.MOST_WRONG_CARDS_FROM_ONE_ADDRESS - 2
    for number in range(left + 1):
        if number % attempts.MOST_WRONG_CARDS_FROM_ONE_ADDRESS == 0:
            another = open_shop(products=1)
            there = shopper_of(client, another)
        said = _two(there, another, gift_card="x", status=429 if number == left else 409)
    assert said["code"] == "signin.often"
    assert _two(shopper_of(client, elsewhere), elsewhere, gift_card=others.code, status=429)["code"] == "signin.often"


def test_what_is_refunded_is_on_the_card_again_also_when_that_is_void(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    first, second = (card_order(shop, card.code, 3) for _ in range(2))

    async def give_back(till: Till, order_id: UUID, pieces: int | None) -> aftersales.Refund:
        asked = [aftersales.Asked(1, pieces)] if pieces else None

        async def ask(connection: Connection) -> UUID:
            made = await aftersales.request(
                connection, order_id, asked, with_return=False, reason="x", actor="visitor:x", now=NOW
            )
            await aftersales.approve(connection, made, actor="account:x", now=NOW)
            return made

        made = await till.act(ask)
        # The job that asks providers finds it, and has paid it when it is done.
        assert await jobs.pay_back(till.db, {}, NOW) == 1
        assert await jobs.pay_back(till.db, {}, NOW) == 0
        return await till.act(lambda c: aftersales.get(c, made))

    part = at_till(shop, lambda till: give_back(till, first, 1))
    assert (part.status, part.amount_fen) == (RefundState.SUCCEEDED, 1_000)
    assert balance(shop, card.card_id) == 5_000
    assert void(shop, card.card_id) == 5_000
    at_till(shop, lambda till: give_back(till, first, None))
    at_till(shop, lambda till: give_back(till, second, None))
    stands = in_shop(shop, lambda c: orders.get(c, first))
    assert (stands.status, stands.refund_status, stands.refunded_fen) == ("cancelled", "refunded", 3_000)
    # It is there, visibly, and pays nothing: until the shop takes it off, and issues another card for it.
    assert balance(shop, card.card_id) == 5_000
    with pytest.raises(Refused, match="has this code"):
        card_order(shop, card.code)
    assert void(shop, card.card_id, "another card was issued") == 5_000
    with pytest.raises(Refused, match="void already"):
        void(shop, card.card_id)
    assert moves(shop, card.card_id) == [
        ("issued", 10_000),
        ("paid", -3_000),
        ("paid", -3_000),
        ("refunded", 1_000),
        ("voided", -5_000),
        ("refunded", 2_000),
        ("refunded", 3_000),
        ("voided", -5_000),
    ]
    assert books_of(shop).get("gift_cards", 0) == 0


def test_an_order_whose_money_is_back_on_the_card_is_not_paid_by_being_sent_again(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    caller = shopper_of(client, shop)
    placed = _two(caller, shop, key="k", gift_card=card.code)
    pay = f"/orders/{placed['order_id']}/payments"
    assert caller.call("POST", pay, {"gift_card": card.code}, status=201)["status"] == "paid"

    async def cancel(till: Till) -> int:
        order_id = UUID(placed["order_id"])
        await till.act(lambda c: aftersales.cancel_paid(c, order_id, actor="a", reason="x", now=NOW))
        return await jobs.pay_back(till.db, {}, NOW)

    assert at_till(shop, cancel) == 1
    assert caller.call("POST", pay, {"gift_card": card.code}, status=409)["code"] == "payment.not_due"
    again = _two(caller, shop, key="k", gift_card=card.code)
    assert (again["order_id"], again["status"]) == (placed["order_id"], "cancelled")
    assert balance(shop, card.card_id) == 10_000


def test_money_is_given_back_to_no_card_that_did_not_pay(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    order_id = card_order(shop, card.code, 1)

    async def story(till: Till) -> RefundState:
        refund = await till.act(lambda c: aftersales.cancel_paid(c, order_id, actor="a", reason="x", now=NOW))
        shop.database.run(
            "UPDATE mall.gift_card_movement SET movement_id = gen_random_uuid() WHERE order_id = %s", order_id
        )
        assert await jobs.pay_back(till.db, {}, NOW) == 0
        return (await till.act(lambda c: aftersales.get(c, refund))).status

    assert at_till(shop, story) == RefundState.FAILED
    assert balance(shop, card.card_id) == 9_000


@pytest.mark.parametrize("promise", ["quota", "coupon"])
def test_a_refund_and_an_order_with_the_same_card_and_promise_do_not_wait_for_each_other_for_ever(
    open_shop: OpenShop, promise: str
) -> None:
    shop = open_shop(products=1)
    sku, card, owners = shop.goods[0].sku_ids[0], gift_card(shop), [guest(), guest()]
    claims = _promised(shop, promise, owners)

    async def story(db: Database) -> int:
        async def order(number: int) -> UUID:
            async with db.shop(shop.shop_id) as connection:
                placed = await buy(
                    connection,
                    owners[number],
                    sku,
                    key=f"k{number}",
                    claim_id=claims[number],
                    gift_card=card.code,
                    last=True,
                )
            return placed.order_id

        first = await order(0)
        async with db.shop(shop.shop_id) as connection:
            await aftersales.cancel_paid(connection, first, actor="a", reason="x", now=NOW)
        holder = await psycopg.AsyncConnection.connect(shop.database.dsn)
        async with holder:
            await holder.execute("SELECT FROM mall.gift_card WHERE card_id = %s FOR UPDATE", (card.card_id,))
            back = asyncio.create_task(jobs.pay_back(db, {}, NOW))
            await _until_waiting(shop, 1)
            second = asyncio.create_task(order(1))
            await _until_waiting(shop, 2)
        await second
        return await back

    assert _with(shop, story) == 1
    assert balance(shop, card.card_id) == 10_000 - (700 if promise == "quota" else 900)


def _promised(shop: Shop, promise: str, owners: list[Any]) -> list[UUID | None]:
    """A limited-time price, or a coupon of which each has one: the claims."""
    run, made, ends = shop.database.run, new_id(), NOW + timedelta(days=1)
    if promise == "quota":
        run(
            "INSERT INTO mall.limited_price (shop_id, promotion_id, sku_id, name, price_fen, quota, starts_at, ends_at)"
            " VALUES (%s, %s, %s, 'limited', 700, 10, %s, %s)",
            *(shop.shop_id, made, shop.goods[0].sku_ids[0], NOW, ends),
        )
        return [None for _ in owners]
    run(
        "INSERT INTO mall.coupon (shop_id, coupon_id, name, kind, amount_fen, starts_at, ends_at) VALUES (%s, %s, 'c', 'fixed', 100, %s, %s)",
        *(shop.shop_id, made, NOW, ends),
    )
    claims = [new_id() for _ in owners]
    for claim, owner in zip(claims, owners, strict=True):
        run(
            "INSERT INTO mall.coupon_claim (shop_id, claim_id, coupon_id, owner_id) VALUES (%s, %s, %s, %s)",
            *(shop.shop_id, claim, made, owner.id),
        )
    return [*claims]


async def _until_waiting(shop: Shop, sessions: int) -> None:
    waiting = (
        "SELECT count(*)::integer FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while await asyncio.to_thread(shop.database.run, waiting) != [(sessions,)]:
        await asyncio.sleep(0.02)


def test_a_refund_that_a_card_cannot_hold_fails_with_the_reason_until_its_balance_is_put_right(
    open_shop: OpenShop,
) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop)
    order_id = card_order(shop, card.code, 3)
    shop.database.run("UPDATE mall.gift_card SET balance_fen = initial_fen WHERE card_id = %s", card.card_id)

    async def story(till: Till) -> None:
        made = await till.act(lambda c: aftersales.cancel_paid(c, order_id, actor="a", reason="x", now=NOW))
        assert await jobs.pay_back(till.db, {}, NOW) == 0
        refund = await till.act(lambda c: aftersales.get(c, made))
        assert (refund.status, "more than it was issued for" in refund.answer) == (RefundState.FAILED, True)
        shop.database.run("UPDATE mall.gift_card SET balance_fen = 7000 WHERE card_id = %s", card.card_id)
        assert await jobs.pay_back(till.db, {}, NOW + jobs.REFUND_AGAIN) == 1

    at_till(shop, story)
    assert balance(shop, card.card_id) == 10_000


_DEEDS = st.lists(st.sampled_from(["pay", "pay", "give_back", "void"]), max_size=12)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_DEEDS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_balance_is_the_sum_of_its_movements_whatever_happens(
    open_shop: OpenShop, deeds: list[str], pieces: int, dice: Any
) -> None:
    shop = open_shop(products=1)
    card, sku = gift_card(shop, pieces * 1_000), shop.goods[0].sku_ids[0]
    paid: list[UUID] = []

    async def story(till: Till) -> None:
        for deed in deeds:
            with contextlib.suppress(Refused):
                if deed == "pay":
                    key, count = str(new_id()), dice.randrange(1, 12)
                    placed = await till.act(lambda c, k=key, n=count: buy(c, guest(), sku, n, k, gift_card=card.code))  # type: ignore[misc]
                    paid.append(placed.order_id)
                elif deed == "give_back" and paid:
                    order_id = dice.choice(paid)
                    asked = [aftersales.Asked(1, dice.randrange(1, 4))]
                    made = await till.act(
                        lambda c, o=order_id, a=asked: aftersales.request(  # type: ignore[misc]
                            c, o, a, with_return=False, reason="", actor="x", now=NOW
                        )
                    )
                    await till.act(lambda c, r=made: aftersales.approve(c, r, actor="a", now=NOW))  # type: ignore[misc]
                    assert await jobs.pay_back(till.db, {}, NOW) == 1
                elif deed == "void":
                    await till.act(
                        lambda c: gift_cards.void(c, shop.shop_id, card.card_id, "x", by=BY, actor="a", now=NOW)
                    )

    at_till(shop, story)
    left = balance(shop, card.card_id)
    assert 0 <= left <= pieces * 1_000
    voided = -sum(amount for kind, amount in moves(shop, card.card_id) if kind == "voided")
    assert books_of(shop).get("gift_cards", 0) == pieces * 1_000 - voided - left


def test_cards_are_issued_once_and_their_codes_told_once(open_shop: OpenShop) -> None:
    shop = open_shop()
    terms = Terms(3, 20_000, NOW + timedelta(days=365), "新年 New year")

    def issue(terms: Terms, key: str = "k") -> Any:
        return in_shop(
            shop, lambda c: gift_cards.issue(c, shop.shop_id, terms, key=key, by=BY, actor="account:x", now=NOW)
        )

    made = issue(terms)
    assert len({one.code for one in made}) == 3
    with pytest.raises(Refused, match="issued before"):
        issue(terms)
    cards = in_shop(shop, lambda c: gift_cards.page(c))
    assert [one.card_id for one in cards] == sorted((one.card_id for one in made), reverse=True)
    assert {(one.balance_fen, one.note, one.state(NOW)) for one in cards} == {(20_000, terms.note, "good")}
    assert {one.state(NOW + timedelta(days=365)) for one in cards} == {"over"}
    [found] = in_shop(shop, lambda c: gift_cards.page(c, last4=made[1].code[-4:].lower()))
    assert found.card_id == made[1].card_id
    assert in_shop(shop, lambda c: gift_cards.owed_fen(c, NOW)) == 60_000
    # Nothing of a code is kept but its end.
    plain = [one.code.replace("-", "")[:12] for one in made]
    for table in ("gift_card", "gift_card_movement", "audit", "idempotency"):
        kept = str(shop.database.run(f"SELECT t::text FROM mall.{table} t WHERE shop_id = %s", shop.shop_id))
        assert kept != "[]"
        assert not any(code in kept.replace("-", "").upper() for code in plain)
    wrong = {
        "gift_card.how_many": Terms(0, 100),
        "gift_card.amount": Terms(1, 0),
        "gift_card.ends_before": Terms(1, 100, NOW),
    }
    for key, terms in wrong.items():
        with pytest.raises(Refused) as refused:
            issue(terms, key)
        assert refused.value.key == key
    with pytest.raises(Refused, match="without a reason"):
        void(shop, made[0].card_id, " ")
    with pytest.raises(gift_cards.UnknownCard):
        void(shop, new_id())
    noted = "SELECT action, subject FROM mall.audit WHERE shop_id = %s"
    assert shop.database.run(noted, shop.shop_id) == [("gift_card.issued", "新年 New year")]


def _with(shop: Shop, story: Any) -> Any:
    async def run() -> Any:
        db = Database(shop.database.settings(pool_size=16, max_waiting=100))
        await db.open()
        try:
            return await asyncio.wait_for(story(db), 60)
        finally:
            await db.close()

    return asyncio.run(run())
