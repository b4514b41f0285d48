"""The storefront's pages and forms, without a browser: what a shopper sees, and what he must not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import orders
from ballast.mall.ids import new_id
from ballast.mall.rules import bigrams
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.paying import Till, at_till
from tests.integration.mall.shopping import Shopper, checkout_form, storefront


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


@pytest.fixture(autouse=True)
def another_browser(client: TestClient[Litestar]) -> None:
    client.cookies.clear()


def _order_of(shop: Shop) -> UUID:
    return UUID(str(shop.database.run("SELECT order_id FROM mall.orders WHERE shop_id = %s", shop.shop_id)[0][0]))


def test_a_shop_without_anything_has_all_its_pages(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shopper = Shopper(client, open_shop())
    for path in ("/", "/categories", "/products", "/products?q=茶", "/cart", "/me", "/orders", "/login", "/register"):
        shopper.see(path)
        assert 'lang="en"' in shopper.see(path + ("&" if "?" in path else "?") + "lang=en")
    assert "visitor" not in client.cookies  # only looking makes nobody known
    assert "There are no products here yet" in shopper.see("/")  # the language that was chosen stays
    shopper.see("/checkout", 303)
    for missing in ("/products/" + str(new_id()), "/p/none", "/products?category=x", "/orders/" + str(new_id()), "/no"):
        shopper.see(missing, 404)
    assert client.get("/s/no-such-shop/").status_code == 404


def test_a_shop_that_is_suspended_shows_that_and_nothing_else(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    suspended, closed = open_shop(products=1), open_shop()
    for shop, status in ((suspended, "suspended"), (closed, "closed")):
        shop.database.run("UPDATE mall.directory SET status = %s WHERE shop_id = %s", status, shop.shop_id)
    assert "暂停营业" in Shopper(client, suspended).see("/", 403)
    Shopper(client, suspended).see(f"/products/{suspended.goods[0].product_id}", 403)
    assert "店铺已关闭" in Shopper(client, closed).see("/", 410)


def test_what_a_merchant_wrote_is_text_and_never_markup(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    evil = "<script>alert(1)</script>"
    shop = open_shop(name=evil)
    goods = shop.add_product(evil, skus=2)
    shop.database.run(
        "UPDATE mall.product SET description = %s WHERE product_id = %s",
        f"<p>good</p>{evil}<img src=x onerror=alert(1)>",
        goods.product_id,
    )
    shopper = Shopper(client, shop)
    shopper.send("/cart/add", sku=str(goods.sku_ids[0]))
    for path in ("/", "/products", f"/products/{goods.product_id}", f"/products?q={evil}", "/cart", "/checkout"):
        page = shopper.see(path)
        assert "<script" not in page, path
        assert "onerror" not in page, path
    assert "<p>good</p>" in shopper.see(f"/products/{goods.product_id}")


def test_lists_are_paged_and_search_finds_chinese(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    for number in range(23):
        shop.add_product(f"红色连衣裙 {number:02d}")
    shop.add_product("Green tea")
    for goods, title in zip(shop.goods, [*[f"红色连衣裙 {n:02d}" for n in range(23)], "Green tea"], strict=True):
        shop.database.run(
            "UPDATE mall.product SET search = %s::tsvector WHERE product_id = %s",
            bigrams.document((title, "A")),
            goods.product_id,
        )
    shopper = Shopper(client, shop)
    seen: list[str] = []
    path = "/products?q=连衣裙"
    while path:
        page = shopper.see(path)
        seen += re.findall(r"good__title\">(红色连衣裙 \d\d)", page)
        on = re.search(r'rel="next" href="/s/[^/]+(/products\?[^"]+)"', page)
        path = on[1].replace("&amp;", "&") if on else ""
    assert sorted(seen) == [f"红色连衣裙 {n:02d}" for n in range(23)]
    assert "Green tea" in shopper.see("/products?q=tea")
    assert "没有找到" in shopper.see("/products?q=自行车")
    assert "没有找到" in shopper.see("/products?q=%00'--")
    shopper.see("/products?after=99999999999999.x")


def test_a_decorated_home_page_and_a_free_page(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    blocks = [
        {"type": "notice", "id": str(new_id()), "text": "满 99 包邮"},
        {"type": "text", "id": str(new_id()), "heading": "关于", "text": "<b>我们</b>"},
        {"type": "banner", "id": str(new_id()), "slides": [{"picture": "/static/own/storefront.svg", "alt": "banner"}]},
        {"type": "grid", "id": str(new_id()), "cells": [{"picture": "/static/own/storefront.svg", "label": "way"}]},
        {"type": "video_link", "id": str(new_id()), "url": "https://example.com/v", "title": "film"},
        {
            "type": "product_list",
            "id": str(new_id()),
            "source": "chosen",
            "product_ids": [str(shop.goods[0].product_id), str(new_id())],
        },
    ]
    for slug, in_menu in (("", False), ("about", True)):
        shop.database.run(
            "INSERT INTO mall.page (shop_id, page_id, slug, title, published, published_at, in_menu) VALUES (%s, %s, %s, '关于我们', %s, now(), %s)",
            shop.shop_id,
            new_id(),
            slug,
            json.dumps({"blocks": blocks}),
            in_menu,
        )
    for path in ("/", "/p/about"):
        page = Shopper(client, shop).see(path)
        assert "满 99 包邮" in page
        assert "&lt;b&gt;我们&lt;/b&gt;" in page
        assert "商品0 Product 0" in page
        assert "商品1 Product 1" not in page
        assert 'href="/s/' + shop.slug + '/p/about"' in page


def test_a_guest_buys_pays_later_and_cancels(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    sku = str(shop.goods[0].sku_ids[0])
    shopper.send("/cart/add", sku=sku, quantity="2")
    shopper.send("/cart/add", sku=sku, quantity="1", then="buy")
    assert 'value="3"' in shopper.see("/cart")
    shopper.send("/cart/set", sku=sku, quantity="2")
    filled = checkout_form(shopper.see("/checkout"))
    answer = shopper.send("/checkout", 409, **(filled | {"street": ""}))
    assert "请完整填写" in answer.text
    first = shopper.send("/checkout", **filled)
    second = shopper.send("/checkout", **filled)
    order = _order_of(shop)
    assert first.headers["location"] == second.headers["location"] == f"{shopper.base}/orders/{order}?said=no_provider"
    assert "待付款" in shopper.see(f"/orders/{order}?said=no_provider")
    assert "20.00" in shopper.see("/orders?status=pending_payment")
    assert "购物车是空的" in shopper.see("/cart")
    assert "正在确认" in shopper.see(f"/orders/{order}/paid")
    shopper.send(f"/orders/{order}/cancel")
    assert "已取消" in shopper.see(f"/orders/{order}")
    shopper.send(f"/orders/{order}/receive", 409)


def test_a_price_that_changed_is_shown_anew_and_nothing_is_ordered(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    sku = shop.goods[0].sku_ids[0]
    shopper.send("/cart/add", sku=str(sku))
    filled = checkout_form(shopper.see("/checkout"))
    shop.database.run("UPDATE mall.sku SET price_fen = 1234 WHERE sku_id = %s", sku)
    page = shopper.send("/checkout", 409, **filled).text
    assert "价格有变化" in page
    assert "12.34" in page
    assert shop.database.run("SELECT count(*) FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(0,)]
    shopper.send("/checkout", **checkout_form(page))
    shop.database.run("UPDATE mall.stock SET on_hand = reserved WHERE sku_id = %s", sku)
    shopper.send("/cart/add", sku=str(sku))
    assert "仅剩 0 件" in shopper.see("/cart")
    assert "库存不足" in shopper.send("/checkout", 409, **(filled | {"key": "k2", "shown_fen": "1234"})).text


def test_what_belongs_to_another_shop_or_another_browser_is_not_there(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    mine, other = open_shop(products=1), open_shop(products=1)
    at_other = Shopper(client, other)
    at_other.order(other)
    order = _order_of(other)
    at_other.see(f"/orders/{order}")
    at_mine = Shopper(client, mine)
    paths = [f"/orders/{order}", f"/orders/{order}/pay", f"/orders/{order}/paid", f"/orders/{order}/refund"]
    for path in [*paths, f"/products/{other.goods[0].product_id}"]:
        at_mine.see(path, 404)
    for path in (f"/orders/{order}/cancel", f"/orders/{order}/pay", f"/refunds/{order}/withdraw"):
        at_mine.send(path, 404)
    at_mine.send("/cart/add", 409, sku=str(other.goods[0].sku_ids[0]))
    at_mine.send("/cart/add", 404, sku="no-id")
    client.cookies.clear()
    for path in paths:
        Shopper(client, other).see(path, 404)


def test_a_form_without_its_token_does_nothing(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    shopper.send("/cart/add", 403, sku=str(shop.goods[0].sku_ids[0]), _csrf_token="wrong")
    for path in ("/cart/set", "/checkout", "/login", "/register", "/logout"):
        shopper.send(path, 403, _csrf_token="wrong")
    shopper.send("/checkout", 400)
    shopper.send("/checkout", 400, key="k", line="x:many")


def test_a_guest_becomes_a_member_and_keeps_cart_and_orders(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    shopper.order(shop)
    shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="4")
    assert "至少 8" in shopper.send("/register", 409, login="13800000001", password="short").text
    shopper.send("/register", login="13800000001", password="long enough", name="林")
    assert "林" in shopper.see("/me")
    assert 'value="4"' in shopper.see("/cart")
    order = _order_of(shop)
    shopper.see(f"/orders/{order}")
    shopper.send("/logout")
    shopper.see(f"/orders/{order}", 404)
    assert "不正确" in shopper.send("/login", 409, login="13800000001", password="wrong password").text
    shopper.send("/login", login="13800000001", password="long enough")
    shopper.see(f"/orders/{order}")
    assert "selected>广东省" in shopper.see("/checkout")


def test_paid_sent_received_and_asked_back(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    shopper.order(shop)
    order = _order_of(shop)

    async def pay(till: Till) -> None:
        await till.told("payment.succeeded", await till.begin(order, datetime.now(UTC)), 1000)

    at_till(shop, pay)
    assert "支付成功" in shopper.see(f"/orders/{order}/paid")
    now = datetime.now(UTC)
    in_shop(shop, lambda c: orders.ship(c, order, carrier="SF", tracking="1", actor="t", now=now))
    assert "SF" in shopper.see(f"/orders/{order}")
    shopper.send(f"/orders/{order}/receive")
    assert "已收货" in shopper.see(f"/orders/{order}")
    page = shopper.see(f"/orders/{order}/refund")
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key
    asked = {"key": key[1], "reason": "小了", "return": "yes"}
    # Nothing is chosen for him: a form sent without a choice asks for nothing.
    assert "checked" not in page.split('name="return"')[0]
    shopper.send(f"/orders/{order}/refund", 409, **asked, **{"line": "1", "pieces-1": "0"})
    too_many = {"what": "some", "line": "1", "pieces-1": "2"}
    shopper.send(f"/orders/{order}/refund", 409, **asked, **too_many)
    shopper.send(f"/orders/{order}/refund", **asked, what="all")
    shopper.send(f"/orders/{order}/refund", **asked, what="all")
    assert "等待商家处理" in shopper.see(f"/orders/{order}")
    assert "没有可退款" in shopper.see(f"/orders/{order}/refund")
    refund = shop.database.run("SELECT refund_id FROM mall.refund WHERE shop_id = %s", shop.shop_id)
    assert len(refund) == 1
    shopper.send(f"/refunds/{refund[0][0]}/goods", 409, carrier="SF", code="2")
    shopper.send(f"/refunds/{refund[0][0]}/withdraw")
    assert "已撤回" in shopper.see(f"/orders/{order}")


def test_coupon_shipping_and_limited_price_are_shown_before_they_are_agreed_to(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    rates = {"provinces": [], "first": 1, "first_fen": 800, "extra": 1, "extra_fen": 0, "free_from_fen": None}
    shop.database.run(
        "UPDATE mall.shipping SET rules = %s WHERE shop_id = %s",
        json.dumps({"unit": "piece", "rates": [rates]}),
        shop.shop_id,
    )
    shop.database.run(
        "INSERT INTO mall.limited_price (shop_id, promotion_id, sku_id, name, price_fen, starts_at, ends_at)"
        " VALUES (%s, %s, %s, '双十一', 900, now() - interval '1 day', now() + interval '1 day')",
        shop.shop_id,
        new_id(),
        sku,
    )
    shopper = Shopper(client, shop)
    assert "限时价" in shopper.see(f"/products/{shop.goods[0].product_id}")
    shopper.send("/cart/add", sku=str(sku))
    owner = shop.database.run("SELECT owner_id FROM mall.cart_line WHERE shop_id = %s", shop.shop_id)[0][0]
    coupon, claim = new_id(), new_id()
    shop.database.run(
        "INSERT INTO mall.coupon (shop_id, coupon_id, name, kind, amount_fen, starts_at, ends_at)"
        " VALUES (%s, %s, '新人券', 'fixed', 200, now() - interval '1 day', now() + interval '1 day')",
        shop.shop_id,
        coupon,
    )
    shop.database.run(
        "INSERT INTO mall.coupon_claim (shop_id, claim_id, coupon_id, owner_id) VALUES (%s, %s, %s, %s)",
        shop.shop_id,
        claim,
        coupon,
        owner,
    )
    page = shopper.see("/checkout")
    assert "新人券" in page
    filled = checkout_form(page) | {"coupon": str(claim)}
    page = shopper.send("/checkout", 200, **(filled | {"act": "quote"})).text
    assert "15.00" in page  # 9 less 2 and 8 for sending it
    for change in ({"coupon": str(new_id())}, {"shown_fen": "1"}):
        shopper.send("/checkout", 409, **(filled | {"shown_fen": "1500"} | change))
    picked_up = {"delivery": "pickup", "province": "", "street": "", "shown_fen": "700"}
    shopper.send("/checkout", **(filled | picked_up))
    order = _order_of(shop)
    assert "到店自提" in shopper.see(f"/orders/{order}")
    assert shop.database.run(
        "SELECT total_fen, used_at IS NOT NULL FROM mall.orders JOIN mall.coupon_claim USING (shop_id) WHERE shop_id = %s",
        shop.shop_id,
    ) == [(700, True)]
