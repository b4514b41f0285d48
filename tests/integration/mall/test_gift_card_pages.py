"""Gift cards in front of a shop: the form on the pay page, what it refuses, how the order says that it was paid."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import attempts
from tests.fix_mall import MallDatabase, OpenShop
from tests.integration.mall.cards import balance, gift_card
from tests.integration.mall.shopping import Shopper, storefront


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


@pytest.fixture(autouse=True)
def nobody_was_refused_before(mall_database: MallDatabase) -> None:
    attempts._shut.clear()
    mall_database.run("DELETE FROM mall.signin_attempts")


def test_who_has_a_gift_card_pays_though_the_provider_is_away(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    card, small = gift_card(shop, now=datetime.now(UTC)), gift_card(shop, 999, now=datetime.now(UTC))
    shopper = Shopper(client, shop)
    order = re.findall(r"/orders/[0-9a-f-]{36}", shopper.order(shop).headers["location"])[0]
    assert f"{order}/pay" in re.findall(r'href="[^"]*(/orders/[^"]+)"', shopper.see(order))
    page = shopper.see(f"{order}/pay?lang=en")
    assert "Gift card" in page
    assert 'id="pay"' not in page
    for code, said in (("x", "No gift card of this shop"), (small.code, "There is ¥9.99 left on this gift card")):
        refused = shopper.send(f"{order}/pay/card", 409, gift_card=code)
        assert said in refused.text
        assert refused.text.count(f'value="{code}"') == 1  # there, and in no other field
    paid = shopper.send(f"{order}/pay/card", gift_card=f" {card.code.lower()} ")
    assert paid.headers["location"].endswith(f"{order}?said=by_card")
    page = shopper.see(f"{order}?said=by_card")
    assert "Paid with your gift card" in page
    assert f"Gift card ending in {card.code[-4:]}" in page
    assert f"礼品卡（尾号 {card.code[-4:]}）" in shopper.see(f"{order}?lang=zh")
    # Sent again, and looked for again: it is paid.
    shopper.send(f"{order}/pay/card", gift_card=card.code)
    assert shopper.send(f"{order}/pay/card", gift_card=small.code).headers["location"].endswith(order)
    assert shopper.client.get(shopper.base + f"{order}/pay", follow_redirects=False).status_code == 303
    assert (balance(shop, card.card_id), balance(shop, small.card_id)) == (9_000, 999)


def test_somebody_elses_order_is_paid_by_nobody(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    card = gift_card(shop, now=datetime.now(UTC))
    shopper = Shopper(client, shop)
    order = re.findall(r"/orders/[0-9a-f-]{36}", shopper.order(shop).headers["location"])[0]
    client.cookies.clear()
    somebody = Shopper(client, shop)
    somebody.send(f"{order}/pay/card", 404, gift_card=card.code)
    somebody.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    somebody.send(f"{order}/pay/card", 404, gift_card=card.code)
    assert balance(shop, card.card_id) == 10_000


def test_who_tries_many_codes_must_wait(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shopper = Shopper(client, shop)
    order = re.findall(r"/orders/[0-9a-f-]{36}", shopper.order(shop).headers["location"])[0]
    for _ in range(attempts.MOST_WRONG_CARDS_FROM_ONE_ADDRESS):
        shopper.send(f"{order}/pay/card", 409, gift_card="ABCD-EFGH-JKLM-NPQR")
    for _ in range(2):
        assert "尝试次数过多" in shopper.send(f"{order}/pay/card", 409, gift_card="x").text
