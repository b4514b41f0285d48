"""From a cart to an order, on a real server: what is reserved, what it costs, what happens when it is asked twice or at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from ballast.mall import cart, checkout, orders, stock
from ballast.mall.checkout import Placed, PriceChanged, Wanted
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import PaymentBegun
from ballast.mall.ids import new_id
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


def test_a_price_that_changed_is_shown_before_it_is_asked(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    sku, owner = shop.goods[0].sku_ids[0], guest()
    shop.database.run("UPDATE mall.sku SET price_fen = 1500 WHERE sku_id = %s", sku)
    with pytest.raises(PriceChanged) as refused:
        in_shop(shop, lambda c: buy(c, owner, sku, 2, shown_fen=2000))
    assert refused.value.quote.total_fen == 3000
    assert stock_of(shop, sku) == (100, 0)
    # Nothing of the refused request is left: the same key orders at the new price.
    assert in_shop(shop, lambda c: buy(c, owner, sku, 2, shown_fen=3000)).total_fen == 3000


def test_what_is_short_is_named_and_nothing_is_reserved(open_shop: OpenShop) -> None:
    shop = open_shop()
    plenty, few = shop.add_product().sku_ids[0], shop.add_product(stock=2).sku_ids[0]
    wanted = [Wanted(plenty, 1), Wanted(few, 3)]

    with pytest.raises(stock.OutOfStock) as refused:
        in_shop(shop, lambda c: checkout.place(c, guest(), wanted, key="k", address=HOME, shown_fen=None, now=NOW))
    assert refused.value.free == {few: 2}
    assert (stock_of(shop, plenty), stock_of(shop, few)) == ((100, 0), (2, 0))


def test_goods_that_somebody_else_took_while_the_order_was_written_with_its_payment(open_shop: OpenShop) -> None:
    shop = open_shop()
    plenty, last = shop.add_product().sku_ids[0], shop.add_product(stock=5).sku_ids[0]
    wanted, owner = [Wanted(plenty, 1), Wanted(last, 4)], guest()

    def placing(reserved: int) -> Callable[[Connection], Awaitable[Placed]]:
        def begin(placed: Placed) -> PaymentBegun:
            shop.database.run("UPDATE mall.stock SET reserved = %s WHERE sku_id = %s", reserved, last)
            return PaymentBegun(placed.order_id, owner.id, new_id(), "sandbox", placed.total_fen, NOW)

        return lambda connection: checkout.place(
            connection, owner, wanted, key="k", address=HOME, shown_fen=5000, now=NOW, begin=begin, last=True
        )

    with pytest.raises(stock.OutOfStock) as refused:
        in_shop(shop, placing(2))
    assert refused.value.free == {last: 3}
    kept = "SELECT (SELECT count(*) FROM mall.orders WHERE shop_id = s), (SELECT count(*) FROM mall.payment WHERE shop_id = s)"
    kept += " FROM (SELECT %s::uuid AS s) x"
    assert shop.database.run(kept, shop.shop_id) == [(0, 0)]
    assert (stock_of(shop, plenty), stock_of(shop, last)) == ((100, 0), (5, 2))
    shop.database.run("UPDATE mall.stock SET reserved = 0 WHERE sku_id = %s", last)
    in_shop(shop, placing(1))  # the same key: nothing was left of the first
    assert shop.database.run(kept, shop.shop_id) == [(1, 1)]
    assert (stock_of(shop, plenty), stock_of(shop, last)) == ((100, 1), (5, 5))


def test_what_is_not_on_sale_or_of_another_shop_cannot_be_ordered(open_shop: OpenShop) -> None:
    shop, other = open_shop(products=1), open_shop(products=1)
    with pytest.raises(Refused, match="No longer on sale"):
        in_shop(shop, lambda c: buy(c, guest(), other.goods[0].sku_ids[0]))
    shop.database.run("UPDATE mall.product SET status = 'off_sale' WHERE shop_id = %s", shop.shop_id)
    with pytest.raises(Refused, match="No longer on sale"):
        in_shop(shop, lambda c: buy(c, guest(), shop.goods[0].sku_ids[0]))
    shop.database.run("UPDATE mall.directory SET status = 'suspended' WHERE shop_id = %s", shop.shop_id)
    with pytest.raises(Refused, match="takes no orders"):
        in_shop(shop, lambda c: buy(c, guest(), shop.goods[0].sku_ids[0]))


def test_promotions_shipping_and_coupon_of_the_database_make_the_price_and_come_back_with_a_cancellation(
    open_shop: OpenShop,
) -> None:
    shop = open_shop(products=1)
    sku, owner = shop.goods[0].sku_ids[0], guest()
    limited, coupon, claim = new_id(), new_id(), new_id()
    run, begins, ends = shop.database.run, NOW - timedelta(days=1), NOW + timedelta(days=1)
    run(
        "INSERT INTO mall.limited_price (shop_id, promotion_id, sku_id, name, price_fen, quota, per_customer, starts_at, ends_at)"
        " VALUES (%s, %s, %s, 'limited', 700, 10, 3, %s, %s)",
        *(shop.shop_id, limited, sku, begins, ends),
    )
    run(
        "INSERT INTO mall.full_reduction (shop_id, promotion_id, name, tiers, starts_at, ends_at)"
        """ VALUES (%s, %s, 'full', '[{"from_fen": 3000, "off_fen": 300}]', %s, %s)""",
        *(shop.shop_id, new_id(), begins, ends),
    )
    run(
        "INSERT INTO mall.coupon (shop_id, coupon_id, name, kind, amount_fen, starts_at, ends_at) VALUES (%s, %s, 'c', 'fixed', 100, %s, %s)",
        *(shop.shop_id, coupon, begins, ends),
    )
    run(
        "INSERT INTO mall.coupon_claim (shop_id, claim_id, coupon_id, owner_id) VALUES (%s, %s, %s, %s)",
        *(shop.shop_id, claim, coupon, owner.id),
    )
    run(
        """UPDATE mall.shipping SET rules = '{"unit": "piece", "rates": [{"provinces": [], "first": 1, "first_fen": 800, "extra": 1,"""
        """ "extra_fen": 0}]}' WHERE shop_id = %s""",
        shop.shop_id,
    )
    # 3 at 700 and 1 at 1000 are 3100, less 300, less 100, and 800 of shipping.
    placed = in_shop(shop, lambda c: buy(c, owner, sku, 4, claim_id=claim))
    assert placed.total_fen == 3500
    used = "SELECT (SELECT sold FROM mall.limited_price WHERE promotion_id = %s), (SELECT used FROM mall.coupon WHERE coupon_id = %s)"
    assert run(used, limited, coupon) == [(3, 1)]
    with pytest.raises(Refused, match="coupon cannot be used"):
        in_shop(shop, lambda c: buy(c, owner, sku, 4, "other", claim_id=claim))
    # He has had his three pieces.
    assert in_shop(shop, lambda c: checkout.quote(c, owner, [Wanted(sku, 1)], address=HOME, now=NOW)).total_fen == 1800

    in_shop(shop, lambda c: orders.cancel(c, placed.order_id, by="shopper", actor="test", now=NOW, owner=owner))
    assert run(used, limited, coupon) == [(0, 0)]
    assert stock_of(shop, sku) == (100, 0)
    assert in_shop(shop, lambda c: buy(c, owner, sku, 4, "again", claim_id=claim)).total_fen == 3500


def test_an_order_that_costs_nothing_is_paid_by_being_placed(open_shop: OpenShop) -> None:
    shop = open_shop()
    sku = shop.add_product(price_fen=0).sku_ids[0]
    placed = in_shop(shop, lambda c: buy(c, guest(), sku))
    assert in_shop(shop, lambda c: orders.get(c, placed.order_id)).status == Status.PAID
    assert stock_of(shop, sku) == (99, 0)
