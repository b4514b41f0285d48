"""The API as its two kinds of callers use it: a shopper's program buys, a shop's own software sells."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.ids import new_id
from ballast.mall.web.api.answers import cursor_of
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import ADDRESS, Caller, key_of, shopper_of, software_of
from tests.integration.mall.ordering import stock_of
from tests.integration.mall.paying import Till, at_till
from tests.integration.mall.shopping import storefront


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


def _paid(shop: Shop, order_id: str) -> None:
    """The provider tells that the order was paid."""

    async def pay(till: Till) -> None:
        now = datetime.now(UTC)
        payment = await till.begin(UUID(order_id), now)
        total = shop.database.run("SELECT total_fen FROM mall.orders WHERE order_id = %s", order_id)[0][0]
        assert await till.told("payment.succeeded", payment, int(total)) == "paid"

    at_till(shop, pay)


def test_a_program_shops_as_a_guest_and_stays_known_as_a_member(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=3)
    sku = shop.goods[0].sku_ids[0]
    caller = shopper_of(client, shop)
    assert caller.call("GET", "")["slug"] == shop.slug
    listed = caller.call("GET", "/products?limit=2")
    rest = caller.call("GET", listed["next"])
    assert {one["product_id"] for page in (listed, rest) for one in page["items"]} == {
        str(goods.product_id) for goods in shop.goods
    }
    assert rest["next"] is None
    product = caller.call("GET", f"/products/{shop.goods[0].product_id}")
    assert (product["choices"][0]["sku_id"], product["choices"][0]["now_fen"]) == (str(sku), 1000)

    for _ in range(2):  # putting is not adding
        cart = caller.call("PUT", f"/cart/lines/{sku}", {"quantity": 3})
    assert [(line["quantity"], line["buyable"]) for line in cart["lines"]] == [(3, True)]
    guest = caller.token
    member = caller.call("POST", "/sign-up", {"login": "13900000000", "password": "four words in one"}, status=201)
    caller.token = member["token"]
    assert caller.call("GET", "/cart")["pieces"] == 3
    Caller(client, caller.root, guest).ask("GET", "/cart", status=401)

    placed = caller.order(sku, 3, key="first")
    assert caller.order(sku, 3, key="first") == placed  # said twice, done once
    assert stock_of(shop, sku) == (100, 3)
    assert caller.call("GET", "/cart")["pieces"] == 0
    [listed_order] = caller.call("GET", "/orders")["items"]
    assert (listed_order["order_id"], listed_order["total_fen"]) == (placed["order_id"], 3000)
    differs = caller.order(sku, 2, key="first", status=422)
    assert differs["code"] == "idempotency.differs"
    order = caller.call("POST", f"/orders/{placed['order_id']}/cancel")
    assert order["status"] == "cancelled"
    assert stock_of(shop, sku) == (100, 0)
    again = caller.call("POST", f"/orders/{placed['order_id']}/receive", status=409)
    assert again["code"] == "order.illegal_transition"
    caller.call("POST", f"/orders/{placed['order_id']}/payments", status=409)
    caller.token = caller.call("POST", "/sign-out")["token"]
    assert caller.call("GET", "/orders")["items"] == []
    entered = caller.call("POST", "/sign-in", {"login": "13900000000", "password": "four words in one"})
    caller.token = entered["token"]
    assert len(caller.call("GET", "/orders?status=cancelled")["items"]) == 1


def test_the_first_goods_in_a_cart_make_the_guest(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop, elsewhere = open_shop(products=2), open_shop(products=1)
    first, second = (f"/cart/lines/{goods.sku_ids[0]}" for goods in shop.goods)
    caller = Caller(client, f"/api/v1/shops/{shop.slug}")
    visitors = "SELECT count(*)::integer FROM mall.visitor WHERE shop_id = %s"
    foreign = f"/cart/lines/{elsewhere.goods[0].sku_ids[0]}"
    assert caller.call("PUT", foreign, {"quantity": 1}, status=409)["code"] == "cart.not_on_sale"
    for path in ("/cart", "/orders"):
        caller.ask("GET", path, status=401)
    caller.ask("DELETE", first, status=401)
    Caller(client, caller.root, "no token of ours").ask("PUT", first, {"quantity": 1}, status=401)
    assert shop.database.run(visitors, shop.shop_id) == [(0,)]  # whoever put nothing into a cart is nobody

    begun = caller.call("PUT", first, {"quantity": 2})
    assert (begun["pieces"], len(begun["token"])) == (2, 43)
    caller.token = begun["token"]
    assert caller.call("PUT", second, {"quantity": 1}) | {"lines": []} == {"lines": [], "pieces": 3, "token": None}
    assert caller.call("GET", "/cart")["pieces"] == 3
    assert caller.call("GET", "/me")["customer_id"] is None
    assert shop.database.run(visitors, shop.shop_id) == [(1,)]
    Caller(client, f"/api/v1/shops/{elsewhere.slug}", caller.token).ask("PUT", foreign, {"quantity": 1}, status=401)
    other = Caller(client, caller.root)
    assert other.call("PUT", first, {"quantity": 1})["token"] != caller.token


def test_a_token_that_ended_elsewhere_is_good_for_nothing_here_either(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    line, lines = f"/cart/lines/{sku}", [{"sku_id": str(sku), "quantity": 1}]
    caller = Caller(client, f"/api/v1/shops/{shop.slug}")
    caller.token = caller.call("PUT", line, {"quantity": 1})["token"]
    order = f"/orders/{caller.order(sku)['order_id']}"
    caller.call("PUT", line, {"quantity": 2})
    asked = {"lines": lines, "address": ADDRESS, "agreed_fen": 1000}
    # As another process does it, of which this one hears nothing.
    shop.database.run("UPDATE mall.visitor SET expires_at = now() WHERE shop_id = %s", shop.shop_id)
    for method, path, body in (
        ("GET", "/cart", None),
        ("PUT", line, {"quantity": 5}),
        ("DELETE", line, None),
        ("POST", "/quotes", {"lines": lines}),
        ("POST", "/orders", asked),
        ("GET", order, None),
        ("POST", f"{order}/payments", None),
    ):
        caller.ask(method, path, body, status=401, key="k" if path == "/orders" else "")
    kept = "SELECT (SELECT sum(quantity)::integer FROM mall.cart_line WHERE shop_id = s), (SELECT count(*)::integer FROM mall.orders"
    kept += " WHERE shop_id = s), (SELECT count(*)::integer FROM mall.payment WHERE shop_id = s) FROM (SELECT %s::uuid AS s) x"
    assert shop.database.run(kept, shop.shop_id) == [(2, 1, 0)]


def test_an_order_stands_whatever_becomes_of_the_payment_that_was_begun_with_it(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    priced, free = shop.add_product().sku_ids[0], shop.add_product(price_fen=0).sku_ids[0]
    caller = shopper_of(client, shop)
    begun = "SELECT count(*)::integer FROM mall.payment WHERE order_id = %s AND provider = 'sandbox'"
    for _ in range(2):  # the provider is away
        placed = caller.order(priced, key="k", pay=True)
        assert (placed["pay_url"], placed["total_fen"]) == (None, 1000)
    assert shop.database.run(begun, placed["order_id"]) == [(1,)]
    assert caller.order(priced, key="k", pay=False) == placed
    caller.call("POST", f"/orders/{placed['order_id']}/cancel")
    assert caller.order(priced, key="k", pay=True)["pay_url"] is None
    nothing = caller.order(free, pay=True)
    assert nothing["pay_url"] is None
    assert caller.call("GET", f"/orders/{nothing['order_id']}")["status"] == "paid"
    refused = caller.order(priced, pay=True, agreed_fen=1, status=409)
    assert refused["code"] == "checkout.price_changed"
    assert shop.database.run("SELECT count(*)::integer FROM mall.payment WHERE shop_id = %s", shop.shop_id) == [(2,)]
    assert shop.database.run("SELECT count(*)::integer FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(2,)]


def test_what_changed_since_it_was_agreed_is_not_ordered(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    sku = shop.add_product(stock=2).sku_ids[0]
    caller = shopper_of(client, shop)
    changed = caller.order(sku, agreed_fen=1, status=409)
    assert (changed["code"], changed["params"]["total_fen"]) == ("checkout.price_changed", 1000)
    short = caller.order(sku, 3, status=409)
    assert (short["code"], short["params"]["free"]) == ("stock.short", {str(sku): 2})
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(0,)]
    caller.call("POST", "/orders", {"lines": []}, status=400, key="k")
    lines = [{"sku_id": str(sku), "quantity": 1}]
    caller.call("POST", "/orders", {"lines": lines, "address": ADDRESS, "agreed_fen": 1000}, status=400)  # no key


def test_a_shops_own_software_sends_what_was_paid_and_decides_about_a_refund(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop()
    sku = shop.add_product(price_fen=500).sku_ids[0]
    caller, software = shopper_of(client, shop), software_of(client, shop)
    placed = caller.order(sku, 2)
    order = f"/orders/{placed['order_id']}"
    _paid(shop, placed["order_id"])
    assert software.call("GET", "/orders?status=paid")["items"][0]["order_id"] == placed["order_id"]
    for q, there in (("13800000000", 1), ("Lin", 1), (placed["number"][:6], 1), ("nobody", 0)):
        assert len(software.call("GET", f"/orders?q={q}")["items"]) == there, q
    parcel = {"carrier": "SF", "tracking": "SF1", "lines": [{"line": 1, "quantity": 1}]}
    sent = software.call("POST", f"{order}/shipments", parcel, status=201, key="parcel")
    assert software.call("POST", f"{order}/shipments", parcel, status=201, key="parcel") == sent
    assert software.call("GET", order)["status"] == "partly_shipped"
    too_many = software.call(
        "POST", f"{order}/shipments", {**parcel, "lines": [{"line": 1, "quantity": 5}]}, status=409, key="other"
    )
    assert too_many["code"] == "order.ship_too_many"
    software.call("POST", f"{order}/shipments", {"carrier": "SF"}, status=201, key="rest")
    assert caller.call("POST", f"{order}/receive")["status"] == "received"

    wanted = {"reason": "broken", "lines": [{"line": 1, "quantity": 1}]}
    asked = caller.call("POST", f"{order}/refunds", wanted, status=201, key="back")
    assert caller.call("POST", f"{order}/refunds", wanted, status=201, key="back") == asked
    refund = f"/refunds/{asked['refund_id']}"
    read = software.ask("GET", refund)
    assert read.json()["amount_fen"] == 500
    assert software.call("POST", f"{refund}/approve", {}, status=428)["code"] == "version.needed"
    assert software.call("POST", f"{refund}/approve", {}, status=412, If_Match='"v99"')["code"] == "version.outdated"
    approved = software.ask("POST", f"{refund}/approve", {}, If_Match=read.headers["etag"])
    assert approved.json()["status"] == "processing"
    software.call("POST", f"{refund}/approve", {}, status=412, If_Match=read.headers["etag"])
    assert [one["refund_id"] for one in software.call("GET", "/refunds")["items"]] == [asked["refund_id"]]
    done = shop.database.run("SELECT action FROM mall.audit WHERE shop_id = %s AND actor LIKE 'bk_%%'", shop.shop_id)
    assert [action for (action,) in done] == ["order.shipped", "order.shipped", "refund.approved"]


def test_prices_and_stock_change_only_from_what_was_read(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    goods = shop.add_product(skus=2)
    software = software_of(client, shop)
    product, sku = f"/products/{goods.product_id}", f"/products/{goods.product_id}/skus/{goods.sku_ids[0]}"
    read = software.ask("GET", product)
    cheaper = software.ask("PATCH", sku, {"price_fen": 700, "compare_at_fen": 900}, If_Match=read.headers["etag"])
    assert (cheaper.json()["min_price_fen"], cheaper.json()["max_price_fen"]) == (700, 1000)
    software.call("PATCH", sku, {"price_fen": 800}, status=412, If_Match=read.headers["etag"])
    assert software.call("PATCH", sku, {"price_fen": 900}, status=422, If_Match="*")["code"] == "sku.compare_at"
    software.call("PATCH", sku, {"prise_fen": 1}, status=400, If_Match="*")
    software.call("PATCH", sku, {"price_fen": 800}, status=428)
    shopper = shopper_of(client, shop)
    assert shopper.call("GET", product)["choices"][0]["price_fen"] == 700
    off = software.call("PATCH", product, {"status": "off_sale"}, If_Match=cheaper.headers["etag"])
    assert off["status"] == "off_sale"
    shopper.call("GET", product, status=404)
    software.call("PATCH", product, {"status": "archived"}, If_Match="*")
    assert software.call("PATCH", product, {"status": "draft"}, If_Match="*")["status"] == "draft"

    stock = f"/stock/{goods.sku_ids[0]}"
    level = software.ask("GET", stock)
    moved = software.call("POST", f"{stock}/movements", {"pieces": -40}, status=201, key="m")
    assert software.call("POST", f"{stock}/movements", {"pieces": -40}, status=201, key="m") == moved
    assert (moved["on_hand"], moved["free"]) == (60, 60)
    software.call("PUT", stock, {"on_hand": 5}, status=412, If_Match=level.headers["etag"])
    assert software.call("POST", f"{stock}/movements", {"pieces": -61}, status=409, key="n")["code"] == "stock.short"
    counted = software.ask("PUT", stock, {"on_hand": 5}, If_Match=software.ask("GET", stock).headers["etag"])
    assert counted.json()["on_hand"] == 5
    kinds = [one["kind"] for one in software.call("GET", f"{stock}/movements?limit=2")["items"]]
    assert kinds == ["adjust", "adjust"]
    assert stock_of(shop, goods.sku_ids[0]) == (5, 0)


def test_a_key_opens_what_it_is_good_for_and_nothing_once_it_is_revoked_or_over(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    reader = software_of(client, shop, ["products.write"])
    reader.call("GET", "/products")  # who may write may read
    assert reader.call("GET", "/orders", status=403)["code"] == "auth.forbidden"
    reader.call("GET", "/customers", status=403)
    stored = shop.database.run(
        "SELECT name, secret_hash, last_used_at FROM mall.api_key WHERE shop_id = %s", shop.shop_id
    )
    assert stored[0][2] is not None
    assert reader.token not in repr(stored)
    over = Caller(client, "/api/v1/merchant", key_of(shop, days=1, now=datetime.now(UTC) - timedelta(days=2)))
    place = len(reader.token) - 20
    other = "A" if reader.token[place] != "A" else "B"
    mistyped = Caller(client, "/api/v1/merchant", f"{reader.token[:place]}{other}{reader.token[place + 1 :]}")
    another = open_shop()
    forged = Caller(client, "/api/v1/merchant", reader.token.replace("_", f"_{another.shop_id.hex}", 1))
    for caller in (
        over,
        mistyped,
        forged,
        Caller(client, "/api/v1/merchant", "bk_"),
        Caller(client, "/api/v1/merchant"),
    ):
        answer = caller.ask("GET", "/products", status=401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    shop.database.run("UPDATE mall.directory SET status = 'suspended' WHERE shop_id = %s", shop.shop_id)
    reader.call("GET", "/products")  # looked at, and not changed
    change = f"/products/{shop.goods[0].product_id}"
    assert reader.call("PATCH", change, {"status": "draft"}, status=403, If_Match="*")["code"] == "shop.not_open"
    shop.database.run("UPDATE mall.api_key SET revoked_at = now() WHERE shop_id = %s", shop.shop_id)
    reader.call("GET", "/products", status=401)


def test_unchanged_answers_are_not_sent_again(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    caller = shopper_of(client, shop)
    path = f"/products/{shop.goods[0].product_id}"
    etag = caller.ask("GET", path).headers["etag"]
    same = caller.ask("GET", path, status=304, If_None_Match=f'"other", W/{etag}')
    assert (same.content, same.headers["etag"]) == (b"", etag)
    shop.database.run("UPDATE mall.stock SET on_hand = 7 WHERE shop_id = %s", shop.shop_id)
    assert caller.ask("GET", path, If_None_Match=etag).headers["etag"] != etag
    software = software_of(client, shop)
    etag = software.ask("GET", path).headers["etag"]
    shop.database.run("UPDATE mall.stock SET on_hand = 8 WHERE shop_id = %s", shop.shop_id)
    newer = software.ask("GET", path, If_None_Match=etag)  # another answer, the same version of the product
    software.call("PATCH", path, {"status": "off_sale"}, If_Match=etag)
    assert newer.headers["etag"] != etag


def test_every_error_is_a_problem_in_the_callers_language(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    caller = shopper_of(client, shop)
    found = {
        ("GET", "/api/v1/nothing", 404): "not_found",
        ("GET", f"/products/{new_id()}", 404): "not_found",
        ("GET", f"/orders/{new_id()}", 404): "order.unknown",
        ("DELETE", "/products", 405): "method.not_allowed",
        ("GET", "/products?limit=0", 400): "request.invalid",
        ("GET", "/products?cursor=x", 400): "cursor.unreadable",
        ("GET", f"/products?cursor={cursor_of('2026', 'x')}", 400): "cursor.unreadable",
        ("GET", "/api/v1/shops/no-such-shop/products", 404): "not_found",
    }
    for (method, path, status), code in found.items():
        answer = caller.ask(method, path, status=status)
        assert answer.headers["content-type"].startswith("application/problem+json"), path
        problem = answer.json()
        assert (problem["status"], problem["code"]) == (status, code), path
        assert problem["type"] == f"urn:ballast:problem:{code}"
    assert caller.ask("DELETE", "/products", status=405).headers["allow"]
    headers = {"Authorization": f"Bearer {caller.token}"}
    root = client.base_url.join(caller.root)
    text = client.post(f"{root}/quotes", content="a=b", headers={**headers, "Content-Type": "text/plain"})
    assert (text.status_code, text.json()["code"]) == (415, "request.media_type")
    for named in ({}, {"Authorization": "Bearer nobody's"}):  # who may not come in is told that first
        unread = client.post("/api/v1/merchant/pictures", content="x", headers={**named, "Content-Type": "text/plain"})
        assert unread.status_code == 401
    broken = client.post(f"{root}/quotes", content="{", headers={**headers, "Content-Type": "application/json"})
    assert broken.status_code == 400
    large = client.post(
        f"{root}/quotes", content=b" " * (3 << 20), headers={**headers, "Content-Type": "application/json"}
    )
    assert (large.status_code, large.json()["code"]) == (413, "request.too_large")
    missing = client.get(f"{root}/orders/{new_id()}", headers={**headers, "Accept-Language": "zh-CN"}).json()
    assert missing["detail"] == "没有这个订单。"
    unknown = caller.call("POST", "/quotes", {"lines": [], "colour": 1}, status=400)
    assert unknown["errors"]


def test_who_calls_too_often_waits_and_others_do_not(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop, other = open_shop(products=1), open_shop(products=1)
    limits = {"api_caller_per_minute": 5, "api_shop_per_minute": 30, "sandbox_url": "http://127.0.0.1:9"}
    with TestClient(create_app(mall_database.settings(**limits))) as client:
        caller, neighbour = shopper_of(client, shop), shopper_of(client, shop)
        left = [int(caller.ask("GET", "/products").headers["ratelimit-remaining"]) for _ in range(5)]
        assert left == [4, 3, 2, 1, 0]
        stopped = caller.ask("GET", "/products", status=429)
        assert stopped.json()["code"] == "too_many_requests"
        assert int(stopped.headers["retry-after"]) >= 1
        neighbour.call("GET", "/products")
        for _ in range(30):
            if client.get(f"/api/v1/shops/{shop.slug}").status_code == 429:
                break
        else:
            pytest.fail("a shop could be called without an end")
        assert client.get(f"/api/v1/shops/{other.slug}").status_code == 200


def test_only_our_own_proxies_say_who_calls(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop()
    settings = mall_database.settings(trusted_proxies="10.0.0.0/8", api_address_per_minute=2)

    async def calls(peer: str, *callers: str) -> list[int]:
        app = create_app(settings)
        transport = httpx.ASGITransport(app, client=(peer, 1))
        async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            path = f"/api/v1/shops/{shop.slug}"
            return [(await client.get(path, headers={"X-Forwarded-For": one})).status_code for one in callers]

    from_proxy = asyncio.run(calls("10.0.0.9", *["198.51.100.1"] * 3, "198.51.100.2", "198.51.100.2, 198.51.100.1"))
    assert from_proxy == [200, 200, 429, 200, 429]
    assert asyncio.run(calls("203.0.113.5", "198.51.100.1", "198.51.100.2", "198.51.100.3")) == [200, 200, 429]


def test_while_the_database_is_away_the_api_says_so_as_a_problem(mall_database: MallDatabase) -> None:
    with TestClient(create_app(mall_database.settings(app_dsn="host=/nowhere"))) as client:
        answer = client.get("/api/v1/shops/tea", headers={"Accept-Language": "en"})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "busy", "1")


def test_passwords_cannot_be_tried_for_ever(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    caller = shopper_of(client, shop)
    caller.token = caller.call(
        "POST", "/sign-up", {"login": "lin@example.com", "password": "four words in one"}, status=201
    )["token"]
    wrong = {"login": "lin@example.com", "password": "wrong"}
    guest = shopper_of(client, shop)
    for _ in range(5):
        assert guest.call("POST", "/sign-in", wrong, status=401)["code"] == "login.wrong"
    stopped = guest.ask("POST", "/sign-in", {**wrong, "password": "four words in one"}, status=429)
    assert stopped.json()["code"] == "signin.often"
    assert int(stopped.headers["retry-after"]) > 60
    for form in ("login", "register"):  # pages count in the same buckets
        page = client.get(f"/s/{shop.slug}/{form}")
        data = {"_csrf_token": client.cookies["csrftoken"], **wrong}
        assert page.status_code == 200
        if form == "login":
            assert client.post(f"/s/{shop.slug}/login", data=data).status_code == 429
    elsewhere = open_shop()
    assert shopper_of(client, elsewhere).call("POST", "/sign-in", wrong, status=401)["code"] == "login.wrong"


def test_another_shopper_of_the_same_shop_sees_and_changes_nothing(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    buyer, other = shopper_of(client, shop), shopper_of(client, shop)
    order = f"/orders/{buyer.order(shop.goods[0].sku_ids[0])['order_id']}"
    assert other.call("GET", "/orders")["items"] == []
    for method, path in (
        ("GET", order),
        ("GET", f"{order}/refunds"),
        *[("POST", f"{order}/{act}") for act in ("payments", "cancel", "receive")],
    ):
        assert other.call(method, path, status=404)["code"] == "order.unknown"
    assert other.call("POST", f"{order}/refunds", {}, status=404, key="k")["code"] == "order.unknown"
    assert buyer.call("GET", order)["status"] == "pending_payment"
    Caller(client, buyer.root, software_of(client, shop).token).ask("GET", order, status=401)
    Caller(client, "/api/v1/merchant", buyer.token).ask("GET", order, status=401)


def test_a_payment_waits_for_its_provider(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    caller = shopper_of(client, shop)
    placed = caller.order(shop.goods[0].sku_ids[0])
    away = caller.ask("POST", f"/orders/{placed['order_id']}/payments", status=503)
    assert (away.json()["code"], away.headers["retry-after"]) == ("payment.provider_away", "5")
