"""The figures of a shop are those of its orders and visits, day by day and hour by hour in China."""

from __future__ import annotations

import asyncio
import random
import re
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from litestar.testing import TestClient

from ballast.mall import dashboard, traffic
from ballast.mall.db import Busy, Database
from ballast.mall.ids import new_id
from ballast.mall.traffic import Traffic
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import NewVisitor, with_database
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.trading import Sold, history, paid_order, refund_asked, staff

NOW = datetime(2026, 11, 11, 4, 30, tzinfo=UTC)
"""Half past noon in China."""
CHINA = timedelta(hours=8)


def _random_orders(seed: int) -> list[tuple[datetime, int, bool, int, int, int, str]]:
    dice = random.Random(seed)
    made = []
    for _ in range(120):
        # From before the seven days on, with many at both sides of midnight in China.
        at = NOW - timedelta(minutes=dice.randrange(9 * 24 * 60))
        if dice.random() < 0.3:
            at = at.replace(hour=dice.choice([15, 16]), minute=dice.choice([0, 59]))
        if at > NOW:
            continue
        total, paid = dice.randrange(100, 100_000), dice.random() < 0.7
        refunded = dice.choice([0, 0, total]) if paid else 0
        made.append(
            (
                at,
                total,
                paid,
                refunded,
                dice.randrange(1, 4),
                dice.randrange(3),
                dice.choice(["web", "web", "api", "import"]),
            )
        )
    return made


def _figures(sold: list[Sold], visits: dict[datetime, tuple[int, int, int, int]]) -> dashboard.Figures:
    return dashboard.Figures(
        orders=len(sold),
        web_orders=sum(one.source == "web" for one in sold),
        paid=sum(one.paid for one in sold),
        sales_fen=sum(one.total_fen for one in sold if one.paid),
        refunded_fen=sum(one.refunded_fen for one in sold),
        views=sum(one[0] for one in visits.values()),
        visitors=sum(one[1] for one in visits.values()),
        carts=sum(one[2] for one in visits.values()),
        checkouts=sum(one[3] for one in visits.values()),
    )


@pytest.mark.parametrize("days", [7, 30])
def test_every_total_is_the_models(open_shop: OpenShop, days: int) -> None:
    shop, other = open_shop(products=3), open_shop(products=3)
    sold = history(shop, _random_orders(days))
    history(other, _random_orders(99))
    dice = random.Random(days)
    visits = {
        (NOW - timedelta(hours=n)).replace(minute=0): (
            dice.randrange(900),
            dice.randrange(300),
            dice.randrange(90),
            dice.randrange(30),
        )
        for n in dice.sample(range(9 * 24), 60)
    }
    for hour, counts in visits.items():
        shop.database.run(
            "INSERT INTO mall.visit_hour (shop_id, hour, views, visitors, carts, checkouts) VALUES (%s, %s, %s, %s, %s, %s)",
            shop.shop_id, hour, *counts,
        )  # fmt: skip
    found = in_shop(shop, lambda c: dashboard.read(c, NOW, days))

    today = (NOW + CHINA).date()
    assert [one.day for one in found.days] == [today - timedelta(days=n) for n in reversed(range(days))]
    for day in found.days:
        expected = _figures(
            [one for one in sold if (one.placed_at + CHINA).date() == day.day],
            {at: counts for at, counts in visits.items() if (at + CHINA).date() == day.day},
        )
        assert day.figures == expected, day.day
    for hour in found.hours:
        for figures, day_of in ((hour.today, today), (hour.yesterday, today - timedelta(days=1))):

            def within(at: datetime, wanted: object = (day_of, hour.hour)) -> bool:
                return ((at + CHINA).date(), (at + CHINA).hour) == wanted

            assert figures == _figures(
                [one for one in sold if within(one.placed_at)], {at: n for at, n in visits.items() if within(at)}
            )
    shown = [one for one in sold if (one.placed_at + CHINA).date() > today - timedelta(days=days)]
    assert found.whole.sales_fen == sum(one.total_fen for one in shown if one.paid)
    assert found.whole.average_fen == found.whole.sales_fen // found.whole.paid
    by_now = [
        one
        for one in sold
        if (one.placed_at + CHINA).date() == today - timedelta(days=1) and one.placed_at < NOW - timedelta(days=1)
    ]
    assert (found.by_now.orders, found.by_now.sales_fen) == (
        len(by_now),
        sum(one.total_fen for one in by_now if one.paid),
    )
    best = sorted(
        (
            (
                sum(o.total_fen for o in shown if o.paid and o.product == n),
                sum(o.pieces for o in shown if o.paid and o.product == n),
            )
            for n in range(3)
        ),
        reverse=True,
    )
    assert [(one.sales_fen, one.pieces) for one in found.top] == best


def test_what_waits_is_counted_and_scarce_goods_are_named(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    shop.add_product("少 Scarce", stock=5)
    shop.add_product("无 None", stock=0)
    shop.add_product("多 Enough", stock=6)
    order = paid_order(shop, 2)
    paid_order(shop, 1)
    refund_asked(shop, order, 1)
    found = in_shop(shop, lambda c: dashboard.read(c, NOW))
    assert found.to_do == dashboard.ToDo(to_send=2, to_decide=1, awaited=0, unpaid=0)
    assert [(one.title, one.free) for one in found.low] == [("无 None", 0), ("少 Scarce", 5)]


def test_the_page_shows_them_with_a_table_and_without_scripts(
    open_shop: OpenShop, mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    shop = open_shop(products=1)
    now = datetime.now(UTC)
    paid_order(shop, 3, now=now)
    shop.database.run(
        "INSERT INTO mall.visit_hour (shop_id, hour, views, visitors) VALUES (%s, date_trunc('hour', now(), 'UTC'), 40, 8)",
        shop.shop_id,
    )
    viewer = staff(mall_database, visitor, shop, "viewer")
    page = viewer.get(f"/merchant/{shop.slug}").text
    assert "12.50%" in page
    assert page.count("¥30.00") >= 3
    assert page.count("data-chart=") == 2
    assert re.search(
        r"<tbody><tr><th[^>]*>[-0-9]+</th><td class=\"number\">30.00</td><td class=\"number\">1</td>", page
    )
    assert f'href="/merchant/{shop.slug}/orders?state=to_send"' in page


def _visits(shop: Shop) -> list[tuple[datetime, int, int, int, int]]:
    return shop.database.run(
        "SELECT hour, views, visitors, carts, checkouts FROM mall.visit_hour WHERE shop_id = %s ORDER BY hour",
        shop.shop_id,
    )  # type: ignore[return-value]


def test_two_processes_count_into_the_same_hours(open_shop: OpenShop, mall_database: MallDatabase) -> None:
    shop, other = open_shop(), open_shop()
    at = datetime(2026, 11, 11, 15, 59, 59, tzinfo=UTC)  # a second before midnight in China

    async def story(db: Database) -> None:
        for _ in range(2):
            one = Traffic()
            for seconds in (0, 0.5, 1):
                one.view(shop.shop_id, "10.0.0.1", "Firefox", "zh", at + timedelta(seconds=seconds))
            one.view(shop.shop_id, "10.0.0.2", "Firefox", "zh", at)
            one.view(shop.shop_id, "10.0.0.3", "Googlebot/2.1", "", at)
            one.step(shop.shop_id, "carts", at)
            one.step(shop.shop_id, "checkouts", at + timedelta(seconds=1))
            one.view(other.shop_id, "10.0.0.1", "Firefox", "zh", at)
            assert await one.flush(db) == 2
            assert await one.flush(db) == 0

    with_database(mall_database, story)
    hour = datetime(2026, 11, 11, 15, tzinfo=UTC)
    # Of each process: two visitors before midnight; after it one of them is new again, since it is another day.
    assert _visits(shop) == [(hour, 6, 4, 2, 0), (hour + timedelta(hours=1), 2, 2, 0, 2)]
    assert _visits(other) == [(hour, 2, 2, 0, 0)]


def test_counts_wait_while_the_database_is_away_and_none_is_lost(
    open_shop: OpenShop, mall_database: MallDatabase
) -> None:
    shop = open_shop()
    at = datetime(2026, 11, 11, 1, tzinfo=UTC)
    counted = Traffic()
    counted.view(shop.shop_id, "10.0.0.1", "Firefox", "zh", at)

    async def away() -> None:
        db = Database(mall_database.settings(app_dsn="host=127.0.0.1 port=9 connect_timeout=1"))
        await db.open()
        try:
            with pytest.raises((Busy, psycopg.Error)):
                await counted.flush(db)
        finally:
            await db.close()

    asyncio.run(away())
    counted.view(shop.shop_id, "10.0.0.2", "Firefox", "zh", at)
    with_database(mall_database, counted.flush)
    assert _visits(shop) == [(at, 2, 2, 0, 0)]


def test_more_shops_than_are_written_at_once_have_their_turn(
    open_shop: OpenShop, mall_database: MallDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "MOST_SHOPS", 2)
    shops = [open_shop() for _ in range(3)]
    counted = Traffic()
    for shop in shops:
        counted.view(shop.shop_id, "10.0.0.1", "Firefox", "zh", NOW)

    async def story(db: Database) -> list[int]:
        return [await counted.flush(db) for _ in range(3)]

    assert with_database(mall_database, story) == [2, 1, 0]
    assert [len(_visits(shop)) for shop in shops] == [1, 1, 1]


def test_the_storefront_counts_what_it_shows_and_writes_it_at_the_latest_when_it_stops(
    open_shop: OpenShop, mall_database: MallDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "EVERY_S", 3600.0)
    shop = open_shop(products=1)
    product: UUID = shop.goods[0].product_id
    with TestClient(create_app(mall_database.settings())) as client:
        base = f"/s/{shop.slug}"
        for path in ("/", f"/products/{product}", "/cart", f"/products/{new_id()}"):
            client.get(base + path)
        client.get(base + "/", headers={"user-agent": "Mozilla/5.0 (compatible; bingbot/2.0)"})
        data = {"_csrf_token": client.cookies["csrftoken"], "sku": str(shop.goods[0].sku_ids[0]), "quantity": "1"}
        assert client.post(f"{base}/cart/add", data=data, follow_redirects=False).status_code == 303
        assert client.get(f"{base}/checkout").status_code == 200
        assert _visits(shop) == []
    assert [row[1:] for row in _visits(shop)] == [(4, 1, 1, 1)]


def test_counts_are_written_while_the_process_runs(
    open_shop: OpenShop, mall_database: MallDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "EVERY_S", 0.05)
    shop = open_shop()
    with TestClient(create_app(mall_database.settings())) as client:
        for seen in (1, 2):
            client.get(f"/s/{shop.slug}/")
            for _ in range(200):
                if sum(row[1] for row in _visits(shop)) == seen:
                    break
                time.sleep(0.05)
            assert sum(row[1] for row in _visits(shop)) == seen
