"""What shops accept elsewhere comes home: the same rows, once, by the mall's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from uuid import UUID

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import membership, passwords
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.payments import signing
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import ADDRESS, Caller, shopper_of
from tests.integration.mall.journals import Journalled, come_home, kinds, listening, rows, twin
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.paying import Offline
from tests.integration.mall.shopping import Shopper, checkout_form
from tests.integration.mall.test_coupons import make
from tests.integration.mall.trading import paid_order, shipped


@pytest.fixture
def afloat(monkeypatch: pytest.MonkeyPatch) -> type[Journalled]:
    """Web processes of this test write down what is done."""
    kind = listening()
    monkeypatch.setattr("ballast.mall.web.app.Database", kind)
    monkeypatch.setattr("ballast.mall.payments.providers.Sandbox", Offline)
    return kind


@contextmanager
def storefront(database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    """All faces in one process, with a provider of its own."""
    with TestClient(create_app(database.settings(base_url=f"http://{new_id()}"))) as client:
        yield client


PLACE = {
    "name": "Lin",
    "phone": "13800000000",
    "province": "广东省",
    "city": "深圳市",
    "district": "",
    "street": "1 Road",
}


def provider_tells(client: TestClient[Litestar], shop: Shop, kind: str, reference: object, amount_fen: int) -> str:
    """A callback, as the provider sends it."""
    body = msgspec.json.encode(
        {
            "callback_id": str(new_id()),
            "kind": kind,
            "reference": str(reference),
            "code": f"p-{reference}",
            "amount_fen": amount_fen,
        }
    )
    key = signing.key_of(shop.database.secret, shop.shop_id)
    headers = {signing.HEADER: signing.sign(key, body, int(datetime.now(UTC).timestamp()))}
    answer: httpx.Response = client.post(f"/pay/callback/sandbox/{shop.shop_id}", content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def payment_of(shop: Shop, order_id: str) -> tuple[UUID, int]:
    """Its last payment, and what it is about."""
    found = shop.database.run(
        "SELECT payment_id, amount_fen FROM mall.payment WHERE order_id = %s ORDER BY created_at DESC LIMIT 1", order_id
    )
    return found[0][0], int(found[0][1])


def test_a_shopper_s_day_in_the_storefront_is_the_same_at_home(
    afloat: type[Journalled], mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=3)
    first, second = (goods.sku_ids[0] for goods in shop.goods[:2])
    coupon_id = make(shop, amount_fen=100)
    with twin(mall_database) as home, storefront(mall_database) as client:
        browser = Shopper(client, shop)
        browser.send("/cart/add", sku=str(first), quantity="2")
        browser.send("/cart/add", sku=str(first), quantity="1")
        browser.send("/cart/add", sku=str(second), quantity="1")
        browser.send("/cart/set", sku=str(second), quantity="0")
        browser.send("/coupons", key=str(new_id()), coupon=str(coupon_id))
        claim = shop.database.run("SELECT claim_id FROM mall.coupon_claim WHERE shop_id = %s", shop.shop_id)[0][0]
        form = checkout_form(browser.see("/checkout"))
        ordered = browser.send("/checkout", **form | {"coupon": str(claim), "shown_fen": "2900"})
        again = browser.send("/checkout", **form | {"coupon": str(claim), "shown_fen": "2900"})
        assert ordered.headers["location"] == again.headers["location"]
        order_id = ordered.headers["location"].split("/")[-2]
        browser.see(f"/orders/{order_id}")
        payment, amount = payment_of(shop, order_id)
        assert (amount, provider_tells(client, shop, "payment.succeeded", payment, amount)) == (2900, "paid")
        browser.send("/register", login="13900001111", password="long enough 1", name="Lin")
        browser.see("/me")
        browser.send("/logout")
        browser.send("/login", login="13900001111", password="long enough 1")
        browser.send("/me/name", name="Lin Xiaoyu")
        for usual in ("", "yes"):
            browser.send(f"/me/addresses/{new_id()}", **PLACE, usual=usual)
        ((kept,),) = shop.database.run(
            "SELECT address_id FROM mall.address WHERE shop_id = %s AND is_default", shop.shop_id
        )
        browser.send(f"/me/addresses/{kept}/delete")
        browser.send("/me/password", present="long enough 1", password="long enough 2", again="long enough 2")
        asked = {"key": str(new_id()), "what": "all", "reason": "changed my mind"}
        browser.send(f"/orders/{order_id}/refund", **asked)
        browser.send(f"/orders/{order_id}/refund", **asked)
        refund = shop.database.run("SELECT refund_id FROM mall.refund WHERE order_id = %s", order_id)[0][0]
        browser.send(f"/refunds/{refund}/withdraw")
        # Another one, cancelled; and its payment that comes too late goes back.
        other = browser.order(shop).headers["location"].split("/")[-2]
        payment, amount = payment_of(shop, other)
        browser.send(f"/orders/{other}/cancel")
        browser.send(f"/orders/{other}/cancel")
        assert provider_tells(client, shop, "payment.succeeded", payment, amount) == "sent_back"
        with client.portal() as portal:  # what was counted has no weight; it may have been written by itself before
            portal.call(client.app.state.traffic.flush, client.app.state.db)

        noted = afloat.all_deeds()
        assert set(kinds(noted)) == {
            "visitor_opened", "cart_set", "cart_removed", "coupon_taken", "checkout", "payment_begun", "payment_opened", "callback",
            "registered", "logged_out", "logged_in", "member_renamed", "address_saved", "address_deleted", "password_changed",
            "logged_out_elsewhere", "refund_asked", "refund_withdrawn", "cancelled",
        }  # fmt: skip
        assert kinds(noted).count("checkout") == 2
        report = come_home(home, noted)
        assert (report.refused, report.applied) == ((), len(noted))
        assert rows(home, shop) == rows(mall_database, shop)

        # Once more by another register: what is there stays as it is.
        home.run("DROP SCHEMA ballast_merge CASCADE")
        assert come_home(home, noted).refused == ()
        assert rows(home, shop) == rows(mall_database, shop)


def test_a_program_s_day_by_the_api_is_the_same_at_home(
    afloat: type[Journalled], mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=2)
    sku = shop.goods[0].sku_ids[0]
    sent = paid_order(shop, quantity=2)
    shipped(shop, sent, 2)
    with twin(mall_database) as home, storefront(mall_database) as client:
        caller = shopper_of(client, shop)
        member = caller.call("POST", "/sign-up", {"login": "a@b.cn", "password": "long enough 1"}, status=201)
        caller.token = member["token"]
        customer = UUID(member["visitor"]["customer_id"])
        for database in (mall_database, home):  # an order that he had before
            database.run(
                "UPDATE mall.orders SET owner_id = %s WHERE order_id = %s AND shop_id = %s",
                customer,
                sent,
                shop.shop_id,
            )
        caller.call("PUT", f"/cart/lines/{sku}", {"quantity": 3})
        caller.call("DELETE", f"/cart/lines/{sku}")
        placed = caller.order(sku, 2)
        caller.call("POST", f"/orders/{placed['order_id']}/payments", status=201)
        caller.call("POST", f"/orders/{placed['order_id']}/payments", status=201)
        payment, amount = payment_of(shop, placed["order_id"])
        assert provider_tells(client, shop, "payment.failed", payment, amount) == "failed"
        assert provider_tells(client, shop, "payment.succeeded", payment, amount) == "paid"
        caller.call("POST", f"/orders/{sent}/receive")
        caller.call("POST", f"/orders/{sent}/receive")
        body = {"reason": "broken", "with_return": True, "lines": [{"line": 1, "quantity": 1}]}
        key = str(new_id())
        asked = caller.call("POST", f"/orders/{sent}/refunds", body, status=201, key=key)
        assert caller.call("POST", f"/orders/{sent}/refunds", body, status=201, key=key) == asked
        cancelled = caller.order(sku)
        caller.call("POST", f"/orders/{cancelled['order_id']}/cancel")
        caller.call("POST", "/sign-out")
        # Somebody else, with as few requests as can be.
        guest = Caller(client, caller.root)
        guest.token = guest.call("PUT", f"/cart/lines/{sku}", {"quantity": 1})["token"]
        paid = guest.order(sku, key="once", pay=True)
        assert guest.order(sku, key="once", pay=True) == paid
        payment, amount = payment_of(shop, paid["order_id"])
        assert provider_tells(client, shop, "payment.succeeded", payment, amount) == "paid"

        noted = afloat.all_deeds()
        assert {"received", "answered", "refund_asked", "cart_removed"} <= set(kinds(noted))
        report = come_home(home, noted)
        assert (report.refused, report.applied) == ((), len(noted))
        assert rows(home, shop) == rows(mall_database, shop)


def test_what_members_change_about_themselves_is_the_same_at_home(
    afloat: type[Journalled], mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    login = {"login": "13900002222", "password": "long enough 1"}
    with storefront(mall_database) as client:
        member = shopper_of(client, shop)
        member.token = member.call("POST", "/sign-up", login, status=201)["token"]
        customer = UUID(member.call("GET", "/me")["customer_id"])
        code, now = membership.new_code(), datetime.now(UTC)

        async def give(connection: Connection) -> None:
            hashed = await passwords.hashed(code)
            await membership.give_code(connection, shop.shop_id, customer, hashed, By(None, "owner"), now)

        in_shop(shop, give)
    with twin(mall_database) as home, storefront(mall_database) as client:
        afloat.all_deeds().clear()
        member.client = client
        kept = [member.call("POST", "/me/addresses", ADDRESS, status=201, key=f"{n}") for n in range(3)]
        assert member.call("POST", "/me/addresses", ADDRESS, status=201, key="2") == kept[2]
        first, second = (f"/me/addresses/{one['address_id']}" for one in kept[:2])
        member.call("PUT", second, {**ADDRESS, "street": "9 Road", "is_default": True})
        member.call("DELETE", first)
        member.call("PATCH", "/me", {"name": "Lin"})
        member.call("PUT", "/me/password", {"present": login["password"], "password": "long enough 2"})
        # The shop had given him a code when its database was lost: a password that was changed has ended it.
        reset = {"login": login["login"], "code": code, "password": "long enough 3"}
        member.call("POST", "/reset-password", reset, status=403)

        browser = Shopper(client, shop)
        browser.send("/login", login=login["login"], password="long enough 2")
        browser.order(shop, address="new", street="7 Road", remember="1")
        noted = afloat.all_deeds()
        assert {"address_saved", "address_deleted", "member_renamed", "password_changed"} <= set(kinds(noted))
        tables = ("customer", "address", "reset_code", "idempotency")
        for _ in range(2):
            assert come_home(home, noted).refused == ()
            assert {one: rows(home, shop)[one] for one in tables} == {
                one: rows(mall_database, shop)[one] for one in tables
            }
            home.run("DROP SCHEMA ballast_merge CASCADE")


def test_a_password_that_was_set_by_a_code_is_so_at_home(
    afloat: type[Journalled], mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop()
    login = {"login": "13900003333", "password": "long enough 1"}
    code, now = membership.new_code(), datetime.now(UTC)
    with storefront(mall_database) as client:
        member = shopper_of(client, shop)
        member.token = member.call("POST", "/sign-up", login, status=201)["token"]
        customer = UUID(member.call("GET", "/me")["customer_id"])

        async def give(connection: Connection) -> None:
            hashed = await passwords.hashed(code)
            await membership.give_code(connection, shop.shop_id, customer, hashed, By(None, "owner"), now)

        in_shop(shop, give)
    with twin(mall_database) as home, storefront(mall_database) as client:
        afloat.all_deeds().clear()
        other = shopper_of(client, shop)
        other.token = other.call("POST", "/reset-password", {**login, "code": code, "password": "long enough 2"})[
            "token"
        ]
        noted = afloat.all_deeds()
        for _ in range(2):
            assert come_home(home, noted).refused == ()
            assert rows(home, shop) == rows(mall_database, shop)
            said = "SELECT action, actor, address FROM mall.audit WHERE shop_id = %s ORDER BY audit_id"
            assert home.run(said, shop.shop_id) == mall_database.run(said, shop.shop_id)
            home.run("DROP SCHEMA ballast_merge CASCADE")
