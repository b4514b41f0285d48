"""Shoppers take coupons and use them: never more than there are, never more than one may have."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import attempts, coupons, promotions, shopper
from ballast.mall.audit import By
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.promotions import NewCoupon
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredScope
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.ordering import buy, guest, in_shop
from tests.integration.mall.shopping import Shopper, checkout_form, storefront

NOW = datetime.now(UTC)
BY = By(None, "tester")


def make(shop: Shop, **changes: object) -> UUID:
    terms = {
        "name": "十元券",
        "name_en": "Ten yuan",
        "amount_fen": 1000,
        "starts_at": NOW - timedelta(hours=1),
        "ends_at": NOW + timedelta(days=7),
        **changes,
    }
    coupon = NewCoupon(**terms)  # type: ignore[arg-type]
    return in_shop(shop, lambda c: promotions.add_coupon(c, shop.shop_id, coupon, BY, NOW))


def counted(shop: Shop, coupon_id: UUID) -> tuple[int, int]:
    """What the coupon says, and how many claims there are."""
    return shop.database.run(  # type: ignore[return-value]
        "SELECT claimed, (SELECT count(*) FROM mall.coupon_claim m WHERE m.coupon_id = c.coupon_id) FROM mall.coupon c WHERE coupon_id = %s",
        coupon_id,
    )[0]


def all_take(shop: Shop, coupon_id: UUID, takers: list[tuple[Owner, UUID]]) -> list[str]:
    """All at once; what each was told ("" where he has one)."""

    async def run() -> list[str]:
        db = Database(shop.database.settings(pool_size=20))
        await db.open()

        async def one(owner: Owner, key: UUID) -> str:
            try:
                async with db.shop(shop.shop_id) as connection:
                    await coupons.take(connection, owner, key, NOW, coupon_id=coupon_id)
            except Refused as error:
                return error.key
            return ""

        try:
            return list(await asyncio.gather(*(one(*taker) for taker in takers)))
        finally:
            await db.close()

    return asyncio.run(run())


def test_fifty_shoppers_at_once_take_ten_coupons_and_no_more(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop()
    coupon_id = make(shop, stock=10)
    told = all_take(shop, coupon_id, [(guest(), new_id()) for _ in range(50)])
    assert (told.count(""), told.count("coupon.gone")) == (10, 40)
    assert counted(shop, coupon_id) == (10, 10)


def test_one_shopper_in_twenty_windows_takes_as_many_as_he_may(open_shop: OpenShop) -> None:
    shop, he = open_shop(), guest()
    coupon_id = make(shop, per_customer=3)
    told = all_take(shop, coupon_id, [(he, new_id()) for _ in range(20)])
    assert (told.count(""), told.count("coupon.has_enough")) == (3, 17)
    assert counted(shop, coupon_id) == (3, 3)


def test_one_form_sent_ten_times_takes_one(open_shop: OpenShop) -> None:
    shop, he, key = open_shop(), guest(), new_id()
    coupon_id = make(shop, per_customer=5)
    assert all_take(shop, coupon_id, [(he, key)] * 10) == [""] * 10
    assert counted(shop, coupon_id) == (1, 1)
    assert all_take(shop, coupon_id, [(guest(), key)]) == ["idempotency.differs"]
    assert counted(shop, coupon_id) == (1, 1)


def test_what_is_not_offered_cannot_be_taken_and_what_was_taken_stays_good_when_it_is_stopped(
    open_shop: OpenShop,
) -> None:
    shop, other = open_shop(products=1), open_shop()
    he = guest()
    good = make(shop)
    assert all_take(shop, good, [(he, new_id())]) == [""]
    in_shop(shop, lambda c: promotions.stop(c, shop.shop_id, "coupon", good, False, BY, NOW))
    for coupon_id, key in (
        (good, "coupon.not_offered"),
        (make(shop, starts_at=NOW + timedelta(days=1)), "coupon.not_yet"),
        (make(shop, starts_at=NOW - timedelta(days=9), ends_at=NOW - timedelta(days=8)), "coupon.over"),
        (make(shop, code="GOLD"), "coupon.not_offered"),
        (make(other), "coupon.not_offered"),
        (new_id(), "coupon.not_offered"),
    ):
        assert all_take(shop, coupon_id, [(guest(), new_id())]) == [key], key
    (held,) = in_shop(shop, lambda c: shopper.coupons(c, he, NOW))
    placed = in_shop(shop, lambda c: buy(c, he, shop.goods[0].sku_ids[0], 2, claim_id=held.claim_id, now=NOW))
    assert placed.total_fen == 1000
    assert shop.database.run("SELECT used FROM mall.coupon WHERE coupon_id = %s", good) == [(1,)]


def test_a_code_is_told_and_not_shown(open_shop: OpenShop) -> None:
    shop, he = open_shop(), guest()
    make(shop, code="Gold88")

    async def by_code(connection):  # type: ignore[no-untyped-def]
        assert await coupons.offered(connection, he, NOW) == ()
        await coupons.take(connection, he, new_id(), NOW, code=" gOLD88 ")
        return await coupons.held(connection, he, NOW)

    assert [one.state(NOW) for one in in_shop(shop, by_code)] == ["good"]


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


def test_a_coupon_is_taken_on_its_page_shown_to_the_member_and_used_at_the_checkout(
    client: TestClient[Litestar], open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    make(shop, amount_fen=300, scope=StoredScope(products=(shop.goods[0].product_id,)), stock=1)
    one = Shopper(client, shop)
    page = one.see("/coupons")
    assert "visitor" not in client.cookies  # only looking makes nobody known
    key, coupon = re.findall(r'name="(?:key|coupon)" value="([^"]+)"', page)[:2]
    one.send("/coupons", key=key, coupon=coupon)
    assert "已领取" in one.see("/coupons?said=taken")
    one.send("/coupons", status=409, key=str(new_id()), coupon=coupon)
    one.send("/coupons", status=404, key="x", coupon=coupon)
    one.send("/register", login="13800000001", password="long enough", name="Lin")
    assert '<span class="weui-cell__ft">1</span>' in one.see("/me")
    one.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    checkout = one.see("/checkout")
    claim = re.search(r'<option value="([0-9a-f-]{36})" *>十元券', checkout)
    assert claim is not None
    form = checkout_form(checkout) | {"coupon": claim[1]}
    quoted = one.send("/checkout", 200, **(form | {"act": "quote"}))
    shown = re.search(r'name="shown_fen" value="(\d+)"', quoted.text)
    assert shown is not None
    one.send("/checkout", **(form | {"shown_fen": shown[1]}))
    assert shop.database.run("SELECT total_fen FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [(700,)]
    assert "已使用" in one.see("/coupons")
    client.cookies.clear()
    assert "已被领完" in Shopper(client, shop).see("/coupons")


def test_who_clears_his_cookies_drains_no_stock(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    make(shop, stock=1000)
    coupon = str(shop.database.run("SELECT coupon_id FROM mall.coupon WHERE shop_id = %s", shop.shop_id)[0][0])
    for _ in range(attempts.MOST_COUPONS_FROM_ONE_ADDRESS):
        client.cookies.pop("visitor", None)
        Shopper(client, shop).send("/coupons", key=str(new_id()), coupon=coupon)
    client.cookies.pop("visitor", None)
    assert "尝试次数过多" in Shopper(client, shop).send("/coupons", 409, key=str(new_id()), coupon=coupon).text
    taken = shop.database.run("SELECT claimed FROM mall.coupon WHERE shop_id = %s", shop.shop_id)
    assert taken == [(attempts.MOST_COUPONS_FROM_ONE_ADDRESS,)]
