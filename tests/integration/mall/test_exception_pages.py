"""Exceptions on pages: what the shop's people see and do, what the shopper is told, and the notice while the database is away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import exceptions
from ballast.mall.ids import token_hash
from ballast.mall.owner import Owner
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import NewVisitor
from tests.integration.mall.calling import shopper_of
from tests.integration.mall.journals import kept_apart
from tests.integration.mall.ordering import in_shop, stock_of
from tests.integration.mall.shopping import Shopper, storefront
from tests.integration.mall.trading import staff


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


def _excepted(shop: Shop, owner: Owner, *, paid: bool = True) -> UUID:
    """An order of his that waits; its goods are sold out."""
    skus = [goods.sku_ids[0] for goods in shop.goods[:1]]
    order_id = in_shop(shop, lambda c: kept_apart(c, owner, skus, paid=paid))
    shop.database.run("UPDATE mall.stock SET on_hand = 0 WHERE sku_id = %s", skus[0])
    return order_id


def _exception_of(shop: Shop, order_id: UUID) -> str:
    return str(shop.database.run("SELECT exception_id FROM mall.exception WHERE order_id = %s", order_id)[0][0])


def _status(shop: Shop, order_id: UUID) -> str:
    return str(shop.database.run("SELECT status FROM mall.orders WHERE order_id = %s", order_id)[0][0])


def _said(shop: Shop) -> list[str]:
    return [
        str(action)
        for (action,) in shop.database.run(
            "SELECT action FROM mall.audit WHERE shop_id = %s AND action LIKE 'exception.%%' ORDER BY at", shop.shop_id
        )
    ]


def test_the_shop_sees_what_waits_and_keeps_an_order(
    mall_database: MallDatabase, visitor: NewVisitor, open_shop: OpenShop
) -> None:
    shop = open_shop(products=2)
    order_id = _excepted(shop, Owner(visitor_id=UUID(int=1)))
    clerk, viewer = (staff(mall_database, visitor, shop, role) for role in ("clerk", "viewer"))
    root = f"/merchant/{shop.slug}"
    one = f"{root}/exceptions/{_exception_of(shop, order_id)}"
    home = clerk.get(f"{root}?lang=en").text
    assert re.search(r'href="[^"]+/exceptions"><span>Exceptions to settle</span><strong>1</strong>', home)
    assert "Sold out, or not enough in stock" in clerk.get(f"{root}/exceptions").text
    assert "2 pieces that are missing" in clerk.get(one).text
    # Who may only look is not shown a name, and may do nothing.
    seen = viewer.get(f"{one}?lang=en").text
    assert "Your role cannot settle it" in seen
    assert "Lin" not in viewer.get(f"{root}/exceptions").text.replace("line", "")
    assert viewer.post(f"{one}/accept").status_code == 403
    assert clerk.post(f"{one}/refund").status_code == 403

    answer = clerk.post(f"{one}/accept")
    assert answer.headers["location"].endswith("?said=exception_accepted")
    assert _status(shop, order_id) == "paid"
    assert stock_of(shop, shop.goods[0].sku_ids[0]) == (0, 0)
    assert _said(shop) == ["exception.accepted"]
    assert "The order is kept." in clerk.get(answer.headers["location"]).text
    assert clerk.post(f"{one}/accept").status_code == 422
    assert "Kept" in clerk.get(f"{root}/exceptions?state=settled").text
    assert clerk.get(f"{root}/exceptions/{UUID(int=5)}").status_code == 404


def test_other_goods_are_chosen_line_by_line(
    mall_database: MallDatabase, visitor: NewVisitor, open_shop: OpenShop
) -> None:
    shop = open_shop(products=2)
    order_id = _excepted(shop, Owner(visitor_id=UUID(int=2)))
    manager = staff(mall_database, visitor, shop, "manager")
    one = f"/merchant/{shop.slug}/exceptions/{_exception_of(shop, order_id)}"
    other = shop.goods[1].sku_ids[0]
    assert f'value="{other}"' in manager.get(one).text
    nothing = manager.post(f"{one}/substitute", {"line": "1", "instead-1": ""})
    assert (nothing.status_code, _said(shop)) == (422, [])
    manager.post(f"{one}/substitute", {"line": "1", "instead-1": str(other)})
    assert (_status(shop, order_id), stock_of(shop, other)) == ("paid", (98, 0))
    assert _said(shop) == ["exception.substituted"]


def test_another_shop_s_exception_is_not_there(
    mall_database: MallDatabase, visitor: NewVisitor, open_shop: OpenShop
) -> None:
    shop, other = open_shop(products=1), open_shop(products=1)
    order_id = _excepted(other, Owner(visitor_id=UUID(int=3)))
    owner = staff(mall_database, visitor, shop, "owner")
    one = f"/merchant/{shop.slug}/exceptions/{_exception_of(other, order_id)}"
    assert owner.get(one).status_code == 404
    for what in ("accept", "refund", "note", "substitute"):
        assert owner.post(f"{one}/{what}").status_code in (404, 422)
    assert in_shop(other, exceptions.counts) == {"open": 1, "settled": 0}


def test_the_shopper_is_told_at_the_address_of_his_order(
    client: TestClient[Litestar], mall_database: MallDatabase, visitor: NewVisitor, open_shop: OpenShop
) -> None:
    shop = open_shop(products=2)
    browser = Shopper(client, shop)
    browser.send("/cart/add", sku=str(shop.goods[1].sku_ids[0]), quantity="1")
    (((guest_id,)),) = shop.database.run("SELECT visitor_id FROM mall.visitor WHERE shop_id = %s", shop.shop_id)
    order_id = _excepted(shop, Owner(visitor_id=guest_id))
    for at in (f"/orders/{order_id}?lang=en", "/orders?lang=en"):
        assert "The shop has to look at your order" in browser.see(at)
    told = browser.see(f"/orders/{order_id}?lang=en")
    assert "it is sold out" in told
    assert "You have paid ¥20.00" in told
    # Where the provider sends the browser back to, and where it would pay once more, lead there.
    for path in ("paid", "pay"):
        assert (
            client.get(f"{browser.base}/orders/{order_id}/{path}", follow_redirects=False)
            .headers["location"]
            .endswith(f"/orders/{order_id}")
        )
    assert browser.send(f"/orders/{order_id}/pay").headers["location"].endswith(f"/orders/{order_id}")

    owner = staff(mall_database, visitor, shop, "owner")
    one = f"/merchant/{shop.slug}/exceptions/{_exception_of(shop, order_id)}"
    owner.post(f"{one}/refund", {"answer": "The harvest failed"})
    told = browser.see(f"/orders/{order_id}?lang=en")
    assert "could not be kept" in told
    assert "The harvest failed" in told
    assert "The money is on its way" in told
    assert _said(shop) == ["exception.refunded"]


def test_somebody_else_s_order_that_waits_is_not_there(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    order_id = _excepted(shop, Owner(visitor_id=UUID(int=4)))
    browser = Shopper(client, shop)
    browser.see(f"/orders/{order_id}", 404)
    browser.see(f"/orders/{order_id}/paid", 404)
    browser.see(f"/orders/{order_id}/pay", 404)


def test_a_program_is_told_as_well(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    caller = shopper_of(client, shop)
    ((guest_id,),) = shop.database.run(
        "SELECT visitor_id FROM mall.visitor WHERE token_hash = %s", token_hash(caller.token)
    )
    order_id = _excepted(shop, Owner(visitor_id=guest_id))
    problem = caller.call("GET", f"/orders/{order_id}", status=409)
    assert problem["code"] == "order.excepted"
    assert caller.call("POST", f"/orders/{order_id}/cancel")["status"] == "cancelled"
    (refund,) = caller.call("GET", f"/orders/{order_id}/refunds")["items"]
    assert (refund["status"], refund["amount_fen"]) == ("processing", 2000)


def test_a_shopper_need_not_wait(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    browser = Shopper(client, shop)
    browser.send("/cart/add", sku=str(shop.goods[1].sku_ids[0]), quantity="1")
    ((guest_id,),) = shop.database.run("SELECT visitor_id FROM mall.visitor WHERE shop_id = %s", shop.shop_id)
    order_id = _excepted(shop, Owner(visitor_id=guest_id), paid=False)
    assert "Cancel order" in browser.see(f"/orders/{order_id}?lang=en")
    for _ in range(2):
        browser.send(f"/orders/{order_id}/cancel")
        assert _status(shop, order_id) == "cancelled"
    assert "The shop has to look" not in browser.see("/orders?lang=en")
    assert shop.database.run(
        "SELECT kind FROM mall.outbox WHERE shop_id = %s ORDER BY created_at, event_id", shop.shop_id
    ) == [("order.excepted",), ("order.cancelled",)]
