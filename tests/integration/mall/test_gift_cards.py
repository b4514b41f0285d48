"""Paying with a gift card: at once or not at all, and never more than is on it."""

from __future__ import annotations

from ballast.mall.rules.refused import Refused  # noqa: F401
from tests.fix_mall import OpenShop
from tests.integration.mall.calling import shopper_of
from tests.integration.mall.cards import balance, gift_card, moves
from tests.integration.mall.ordering import stock_of
from tests.integration.mall.paying import books_of
from tests.integration.mall.shopping import storefront


def test_an_order_is_paid_as_it_is_placed(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    card = gift_card(shop, 5_000)
    with storefront(shop.database) as client:
        caller = shopper_of(client, shop)
        caller.call("PUT", f"/cart/lines/{sku}", {"quantity": 2})
        placed = caller.order(sku, 2, key="k", gift_card=card.code)
        assert (placed["status"], placed["pay_url"], placed["total_fen"]) == ("paid", None, 2_000)
        # Sent again it is the same, paid once.
        assert caller.order(sku, 2, key="k", gift_card=card.code.lower().replace("-", " ")) == placed
        order = caller.call("GET", f"/orders/{placed['order_id']}")
        assert (order["status"], order["paid_fen"]) == ("paid", 2_000)
        assert caller.call("GET", "/cart")["pieces"] == 0
    assert balance(shop, card.card_id) == 3_000
    assert moves(shop, card.card_id) == [("issued", 5_000), ("paid", -2_000)]
    assert stock_of(shop, sku) == (98, 0)
    assert books_of(shop) == {"gift_cards": 2_000, "sales": -2_000}
