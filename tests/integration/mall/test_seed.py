"""Seeded shops: they look like shops, they keep the rules, the same call makes the same."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ballast.mall.db import Database
from ballast.mall.jobs import expire, settle
from ballast.mall.rules.refused import Refused
from ballast.mall.seed import DEMO_LOGIN, Seeded, seed
from ballast.mall.seed.planting import planned
from tests.commands import ballast
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.bringing import books_balance, environment, rows, stock_adds_up
from tests.integration.mall.shopping import Shopper, storefront

NOW = datetime.now(UTC).replace(microsecond=0)
PASSWORD = "four plain words here"
SHOPS, ORDERS, PRODUCTS = 9, 60, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seed")


def _seed(database: MallDatabase, folder: Path, **changes: object) -> Seeded:
    settings = database.settings(pictures=str(folder / "pictures"), sandbox_file=str(folder / "sandbox.sqlite"))
    asked: dict[str, object] = {"shops": SHOPS, "orders": ORDERS, "products": PRODUCTS, "pictures": 1, "now": NOW}
    return seed(settings, **{**asked, "password": PASSWORD, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def seeded(mall_database: MallDatabase, folder: Path) -> Seeded:
    return _seed(mall_database, folder)


def _shop(database: MallDatabase, slug: str) -> Shop:
    return Shop(database, database.run("SELECT shop_id FROM mall.directory WHERE slug = %s", slug)[0][0], slug)


def test_books_stock_and_members_add_up(mall_database: MallDatabase, seeded: Seeded) -> None:
    assert (seeded.shops, seeded.there, len(seeded.slugs)) == (SHOPS, 0, SHOPS)
    books_balance(mall_database)
    stock_adds_up(mall_database)
    assert not mall_database.run(
        "SELECT c.shop_id, c.customer_id FROM mall.customer c LEFT JOIN"
        " (SELECT shop_id, customer_id, sum(points) AS points FROM mall.points_entry GROUP BY 1, 2) p USING (shop_id, customer_id)"
        " LEFT JOIN (SELECT shop_id, customer_id, sum(paid_fen - refunded_fen) AS fen FROM mall.orders WHERE received_at IS NOT NULL GROUP BY 1, 2) o"
        " USING (shop_id, customer_id) WHERE (coalesce(p.points, 0), coalesce(o.fen, 0)) <> (c.points, c.spent_fen)"
    )
    assert not mall_database.run(
        "SELECT shop_id, order_id FROM mall.orders o WHERE"
        " (items_fen, items_fen - discount_fen, refunded_fen) <> (SELECT sum(list_fen * quantity), sum(total_fen), o.refunded_fen FROM mall.order_line l"
        " WHERE l.shop_id = o.shop_id AND l.order_id = o.order_id)"
        " OR breakdown->>'total_fen' <> total_fen::text"
    )
    assert not mall_database.run(
        "SELECT p.product_id FROM mall.product p LEFT JOIN (SELECT l.shop_id, l.product_id, sum(quantity) AS pieces FROM mall.order_line l"
        " JOIN mall.orders o USING (shop_id, order_id) WHERE o.paid_at IS NOT NULL GROUP BY 1, 2) s USING (shop_id, product_id)"
        " WHERE coalesce(s.pieces, 0) <> p.sold"
    )
    assert not mall_database.run(
        "SELECT c.coupon_id FROM mall.coupon c LEFT JOIN mall.coupon_claim m USING (shop_id, coupon_id)"
        " GROUP BY c.shop_id, c.coupon_id, c.claimed, c.used HAVING (count(m.claim_id), count(m.order_id)) <> (c.claimed, c.used)"
    )


def test_orders_stand_where_their_age_has_brought_them(mall_database: MallDatabase, seeded: Seeded) -> None:
    found = {status for (status,) in mall_database.run("SELECT DISTINCT status FROM mall.orders")}
    assert found >= {"pending_payment", "paid", "shipped", "received", "closed", "cancelled"}
    assert {one for (one,) in mall_database.run("SELECT DISTINCT status FROM mall.refund")} >= {
        "succeeded",
        "refused",
        "requested",
    }
    assert mall_database.run(
        "SELECT count(*) FROM mall.orders WHERE placed_at < %s OR greatest(placed_at, paid_at, shipped_at, received_at, closed_at) > %s",
        NOW - timedelta(days=91),
        NOW,
    ) == [(0,)]

    async def jobs() -> tuple[int, int]:
        db = Database(mall_database.settings())
        await db.open()
        try:
            return await expire(db, NOW), await settle(db, NOW)
        finally:
            await db.close()

    # Whatever happens by the passing of time has happened.
    assert asyncio.run(jobs()) == (0, 0)


def test_a_shop_can_be_visited_and_bought_in(mall_database: MallDatabase, seeded: Seeded) -> None:
    with storefront(mall_database) as client:
        for slug in seeded.slugs[:3]:
            client.cookies.clear()
            shop = _shop(mall_database, slug)
            shopper = Shopper(client, shop)
            home = shopper.see("/")
            assert "大家都在买" in home
            assert "满199减20" in home
            assert ("/pictures/" in home) == (slug == seeded.slugs[0])
            for path in ("/categories", "/products", "/p/about", "/?lang=en", "/products?lang=zh"):
                shopper.see(path)
            title, product = mall_database.run(
                "SELECT title, product_id FROM mall.product WHERE shop_id = %s AND status = 'on_sale' LIMIT 1",
                shop.shop_id,
            )[0]
            assert title in shopper.see(f"/products?q={title[-2:]}")
            assert title in shopper.see(f"/products/{product}")
            shopper.send("/login", login=seeded.phone, password=PASSWORD)
            shopper.see("/me")
            shopper.see("/orders")
            order = mall_database.run(
                "SELECT order_id FROM mall.orders o JOIN mall.customer c USING (shop_id, customer_id) WHERE shop_id = %s AND phone = %s LIMIT 1",
                shop.shop_id,
                seeded.phone,
            )
            for (order_id,) in order:
                shopper.see(f"/orders/{order_id}")


def test_its_merchant_signs_in_and_owns_every_shop(mall_database: MallDatabase, seeded: Seeded) -> None:
    assert seeded.password == PASSWORD
    assert mall_database.run(
        "SELECT count(*) FROM mall.staff s JOIN mall.account a USING (account_id) WHERE a.login = %s AND role = 'owner'",
        DEMO_LOGIN,
    ) == [(SHOPS,)]


def test_seeding_again_adds_nothing_and_more_shops_come_beside(
    mall_database: MallDatabase, seeded: Seeded, folder: Path
) -> None:
    before = rows(mall_database)
    again = _seed(mall_database, folder, now=NOW + timedelta(hours=1))
    assert (again.shops, again.there, again.rows, again.password) == (0, SHOPS, 0, None)
    assert rows(mall_database) == before
    more = _seed(mall_database, folder, shops=SHOPS + 1, orders=3)
    assert (more.shops, more.there) == (1, SHOPS)
    books_balance(mall_database)


def test_broken_off_it_goes_on(mall_database: MallDatabase, seeded: Seeded, folder: Path) -> None:
    def break_off(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    few = {"shops": 4, "orders": 5, "products": 3, "seed": 11, "pictures": 0}
    with pytest.raises(KeyboardInterrupt):
        _seed(mall_database, folder, **few, watch=break_off)
    again = _seed(mall_database, folder, **few)
    assert (again.shops, again.there) == (2, 2)
    assert mall_database.run(
        "SELECT count(DISTINCT shop_id), count(*) FROM mall.orders JOIN mall.directory USING (shop_id) WHERE slug = ANY(%s)",
        list(again.slugs),
    ) == [(4, 20)]
    books_balance(mall_database)


def test_pictures_lie_where_the_rows_say(mall_database: MallDatabase, seeded: Seeded, folder: Path) -> None:
    found = mall_database.run("SELECT shop_id, picture, size_bytes FROM mall.picture")
    assert len(found) == 6
    for shop_id, picture, size_bytes in found:
        data = (folder / "pictures" / str(shop_id) / f"{picture}-1080.webp").read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (picture, size_bytes)
    assert not mall_database.run(
        "SELECT product_id FROM mall.product p, unnest(pictures) u WHERE NOT EXISTS"
        " (SELECT FROM mall.picture x WHERE x.shop_id = p.shop_id AND x.picture = u)"
    )


def test_the_sandbox_provider_knows_what_was_paid(mall_database: MallDatabase, seeded: Seeded, folder: Path) -> None:
    known = (
        sqlite3.connect(folder / "sandbox.sqlite")
        .execute("SELECT count(*), sum(amount_fen) FROM payment WHERE status = 'paid'")
        .fetchone()
    )
    paid = mall_database.run("SELECT count(*), sum(amount_fen)::bigint FROM mall.payment WHERE status = 'succeeded'")[0]
    assert known == paid


def test_another_seed_makes_other_shops_beside(mall_database: MallDatabase, seeded: Seeded, folder: Path) -> None:
    other = _seed(mall_database, folder, shops=2, seed=7)
    assert other.shops == 2
    assert not set(other.slugs) & set(seeded.slugs)
    books_balance(mall_database)


def test_an_address_that_somebody_has_is_not_taken_from_him(
    mall_database: MallDatabase, seeded: Seeded, open_shop: OpenShop, folder: Path
) -> None:
    first, taken = planned(99, 1).slug, planned(99, 2).slug
    open_shop(taken)
    with pytest.raises(Refused, match=taken):
        _seed(mall_database, folder, shops=2, seed=99)
    assert mall_database.run("SELECT count(*) FROM mall.directory WHERE slug = %s", first) == [(0,)]


def test_the_command_says_how_to_get_in(
    mall_database: MallDatabase, seeded: Seeded, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(mall_database).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    said = ballast(
        "mall", "seed", "--shops", "1", "--orders", "2", "--products", "2", "--seed", "5", "--pictures", "0", "--json"
    )
    assert said.returncode == 0
    told = json.loads(said.stdout)
    assert (told["shops"], told["login"], told["password"]) == (1, DEMO_LOGIN, None)
    assert mall_database.run("SELECT count(*) FROM mall.directory WHERE slug = %s", told["slugs"][0]) == [(1,)]
