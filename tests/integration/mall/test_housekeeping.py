"""What is over goes by itself, shop by shop; what waits, what is young, and what belongs to an order or a member stays."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ballast.mall import housekeeping, visitors
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.ordering import buy, in_shop

NOW = datetime(2026, 11, 11, 4, tzinfo=UTC)
OLD, YOUNG = NOW - timedelta(days=31), NOW - timedelta(days=29)


def tidy(database: MallDatabase, batch: int = 2) -> int:
    async def run() -> int:
        db = Database(database.settings())
        await db.open()
        try:
            return await housekeeping.tidy(db, NOW, batch=batch)
        finally:
            await db.close()

    return asyncio.run(run())


def went_out(shop: Shop) -> dict[str, UUID]:
    """Events and messages of every age and standing, by what they are."""
    run, hook = shop.database.run, new_id()
    run(
        "INSERT INTO mall.webhook (shop_id, webhook_id, url, secret, kinds) VALUES (%s, %s, 'https://x.example', 's', '{}')",
        shop.shop_id,
        hook,
    )
    events = {
        "old": (OLD, "delivered", OLD),
        "given up": (OLD, "given_up", OLD),
        "heard late": (OLD, "delivered", YOUNG),
        "waiting": (OLD, "waiting", OLD),
        "not handed out": (None, None, None),
        "young": (YOUNG, "delivered", YOUNG),
    }
    ids = {name: new_id() for name in events}
    for name, (dispatched, status, updated) in events.items():
        run(
            "INSERT INTO mall.outbox (shop_id, event_id, kind, body, created_at, dispatched_at) VALUES (%s, %s, 'x', '{}', %s, %s)",
            shop.shop_id,
            ids[name],
            OLD,
            dispatched,
        )
        if status:
            run(
                "INSERT INTO mall.webhook_delivery (shop_id, delivery_id, webhook_id, event_id, status, updated_at)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                *(shop.shop_id, new_id(), hook, ids[name], status, updated),
            )
    return ids


def test_events_messages_and_keys_go_when_they_are_old_and_nothing_that_waits(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shops = [open_shop(), open_shop()]
    ids = [went_out(shop) for shop in shops]
    for shop in shops:
        for number, at in enumerate([OLD] * 5 + [YOUNG]):
            mall_database.run(
                "INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, created_at) VALUES (%s, 's', %s, '', %s)",
                *(shop.shop_id, str(number), at),
            )
    assert tidy(mall_database) == 2 * (2 + 2 + 5)
    for shop, events in zip(shops, ids, strict=True):
        left = {
            one for (one,) in shop.database.run("SELECT event_id FROM mall.outbox WHERE shop_id = %s", shop.shop_id)
        }
        assert {name for name, one in events.items() if one in left} == {
            "heard late",
            "waiting",
            "not handed out",
            "young",
        }
        told = shop.database.run("SELECT event_id FROM mall.webhook_delivery WHERE shop_id = %s", shop.shop_id)
        assert {one for (one,) in told} == {events[name] for name in ("heard late", "waiting", "young")}
        assert shop.database.run("SELECT key FROM mall.idempotency WHERE shop_id = %s", shop.shop_id) == [("5",)]
    assert tidy(mall_database) == 0


def test_the_application_itself_cannot_delete_what_waits_nor_another_shops(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop, other = open_shop(), open_shop()
    went_out(shop)
    went_out(other)
    with psycopg.connect(make_conninfo(mall_database.dsn, user="mall_app")) as connection:
        connection.execute("SELECT set_config('mall.shop', %s, true)", (str(shop.shop_id),))
        connection.execute("DELETE FROM mall.webhook_delivery")
        connection.execute(
            "DELETE FROM mall.outbox o WHERE NOT EXISTS (SELECT FROM mall.webhook_delivery d WHERE d.event_id = o.event_id)"
        )
    of = "SELECT count(*)::integer FROM mall.{} WHERE shop_id = %s"
    counts = [
        mall_database.run(of.format(table), one.shop_id)[0][0]
        for one in (shop, other)
        for table in ("webhook_delivery", "outbox")
    ]
    assert counts == [1, 2, 5, 6]
    for role, table in (("mall_identity", "account"), ("mall_platform", "outbox"), ("mall_app", "orders")):
        with (
            psycopg.connect(make_conninfo(mall_database.dsn, user=role)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute(f"DELETE FROM mall.{table}")


def test_guests_whose_time_is_over_go_with_their_carts_but_no_member_and_nobody_who_ordered(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    long_ago = NOW - visitors.STAYS - timedelta(days=2)

    async def come(connection: Connection) -> dict[str, UUID]:
        came = {
            name: (await visitors.open_guest(connection, long_ago)).visitor
            for name in ("left", "left with a cart", "ordered", "member")
        }
        came["here"] = (await visitors.open_guest(connection, NOW - timedelta(days=60))).visitor
        for name in ("left with a cart", "here"):
            await connection.execute(
                "INSERT INTO mall.cart_line (shop_id, owner_id, sku_id, quantity) VALUES (mall.current_shop(), %s, %s, 1)",
                (came[name].visitor_id, sku),
            )
        await buy(connection, Owner(came["ordered"].visitor_id), sku, now=long_ago)
        logged_in = await visitors.register(
            connection, came["member"], login="a@example.com", password_hash="none", name="A", now=long_ago
        )
        return {name: one.visitor_id for name, one in {**came, "as member": logged_in.visitor}.items()}

    came = in_shop(shop, come)
    tidy(mall_database, batch=1)
    left = {one for (one,) in mall_database.run("SELECT visitor_id FROM mall.visitor WHERE shop_id = %s", shop.shop_id)}
    # Who became a member was a guest before: that token ended when he did.
    assert {name for name, one in came.items() if one in left} == {"ordered", "here", "as member"}
    assert mall_database.run("SELECT owner_id FROM mall.cart_line WHERE shop_id = %s", shop.shop_id) == [
        (came["here"],)
    ]
    for table in ("orders", "customer"):
        assert mall_database.run(f"SELECT count(*) FROM mall.{table} WHERE shop_id = %s", shop.shop_id) == [(1,)]


def test_sessions_and_links_go_when_they_ended(mall_database: MallDatabase) -> None:
    run, account = mall_database.run, new_id()
    run("INSERT INTO mall.account (account_id, login, name, password_hash) VALUES (%s, 'lin', 'Lin', 'x')", account)
    week, hour = timedelta(days=7), timedelta(hours=1)
    ends = {
        "over": (NOW - week, None),
        "revoked": (NOW + week, NOW - week),
        "just over": (NOW - hour, None),
        "just revoked": (NOW + week, NOW - hour),
        "good": (NOW + week, None),
    }
    hashes = {name: secrets.token_bytes(32) for name in ends}
    for name, (expires, ended) in ends.items():
        run(
            "INSERT INTO mall.account_session (token_hash, account_id, expires_at, revoked_at) VALUES (%s, %s, %s, %s)",
            *(hashes[name], account, expires, ended),
        )
        run(
            "INSERT INTO mall.account_link (token_hash, purpose, account_id, expires_at, used_at) VALUES (%s, 'new_password', %s, %s, %s)",
            *(hashes[name], account, expires, ended),
        )
    tidy(mall_database, batch=1)
    for table in ("account_session", "account_link"):
        left = {one for (one,) in run(f"SELECT token_hash FROM mall.{table}")}
        assert left == {hashes[name] for name in ("just over", "just revoked", "good")}
    assert run("SELECT login FROM mall.account") == [("lin",)]


def test_codes_for_another_password_go_when_their_time_is_over(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop()
    for name, ends in (("over", NOW - timedelta(days=2)), ("good", NOW + timedelta(minutes=15))):
        customer = new_id()
        run = shop.database.run
        run("INSERT INTO mall.customer (shop_id, customer_id, name) VALUES (%s, %s, %s)", shop.shop_id, customer, name)
        run(
            "INSERT INTO mall.reset_code (shop_id, customer_id, code_hash, expires_at) VALUES (%s, %s, %s, %s)",
            *(shop.shop_id, customer, name, ends),
        )
    tidy(mall_database)
    left = shop.database.run("SELECT code_hash FROM mall.reset_code WHERE shop_id = %s", shop.shop_id)
    assert left == [("good",)]
