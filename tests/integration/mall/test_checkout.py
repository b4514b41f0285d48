"""From a cart to an order, on a real server: what is reserved, what it costs, what happens when it is asked twice or at once."""

from __future__ import annotations

import pytest

from ballast.mall import cart, checkout, orders
from ballast.mall.checkout import Placed, Wanted
from ballast.mall.db import Connection
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Status
from tests.fix_mall import OpenShop
from tests.integration.mall.ordering import HOME, NOW, buy, guest, in_shop, stock_of


def test_an_order_reserves_its_goods_and_empties_the_cart(open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    one, two = (goods.sku_ids[0] for goods in shop.goods)
    owner = guest()

    async def act(connection: Connection) -> Placed:
        await cart.add(connection, owner, one, 2, NOW)
        await cart.add(connection, owner, two, 1, NOW)
        wanted = [Wanted(line.sku_id, line.quantity) for line in await cart.lines(connection, owner)]
        quote = await checkout.quote(connection, owner, wanted, address=HOME, now=NOW)
        assert (quote.total_fen, quote.short) == (3000, {})
        return await checkout.place(
            connection, owner, wanted, key="k", address=HOME, shown_fen=quote.total_fen, now=NOW
        )

    placed = in_shop(shop, act)
    order = in_shop(shop, lambda c: orders.get(c, placed.order_id, owner=owner))
    assert (order.status, order.total_fen, order.number) == (Status.PENDING_PAYMENT, 3000, placed.number)
    assert [(line.sku_id, line.quantity, line.total_fen) for line in order.lines] == [(one, 2, 2000), (two, 1, 1000)]
    assert [event.event for event in order.events] == ["place"]
    assert stock_of(shop, one) == (100, 2)
    assert in_shop(shop, lambda c: cart.count(c, owner)) == 0
    assert shop.database.run("SELECT kind FROM mall.outbox WHERE shop_id = %s", shop.shop_id) == [("order.placed",)]


def test_the_same_key_is_the_same_order_and_another_request_with_it_is_refused(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku, owner = shop.goods[0].sku_ids[0], guest()
    first = in_shop(shop, lambda c: buy(c, owner, sku, 60))
    again = in_shop(shop, lambda c: buy(c, owner, sku, 60))
    assert (again.order_id, again.repeated, first.repeated) == (first.order_id, True, False)
    with pytest.raises(Refused, match="another request"):
        in_shop(shop, lambda c: buy(c, owner, sku, 61))
    assert stock_of(shop, sku) == (100, 60)
