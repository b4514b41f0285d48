"""A shop's transactions while its database is away: at the lifeboat, accepted before they commit; and home again.

The lifeboat is played by another database of the same server: what is asked of it is what is asked of any. Home is reached by a
folder of sockets that can be taken away, and its connections are ended with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity.board import Told
from ballast.continuity.course import Course
from ballast.continuity.entries import Offered, Taken
from ballast.continuity.helm import BOARD, INTAKE
from ballast.continuity.intake import Intake
from ballast.continuity.signs import Sign
from ballast.mall import aftersales, deeds, exceptions, gift_cards, idempotency, jobs, links, outbox, remedies, webhooks
from ballast.mall.audit import By
from ballast.mall.db import Busy, Connection, Database, Turned
from ballast.mall.deeds import Deed
from ballast.mall.ids import new_id, token_hash
from ballast.mall.payments.callbacks import send_refund
from ballast.mall.payments.gift_card import GiftCards, pay
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.app import create_app
from ballast.mall.webhooks import signature
from ballast.recovery import MergeReport
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import Visitor
from tests.integration.mall.calling import Caller, shopper_of
from tests.integration.mall.cards import balance, card_order, gift_card
from tests.integration.mall.journals import come_home, kept_apart
from tests.integration.mall.ordering import buy, guest, in_shop
from tests.integration.mall.shopping import Shopper, checkout_form
from tests.small_disk import Hog, small_disk

LOST = Course().lost(Sign.REFUSED, datetime.now(UTC))


@dataclass
class Sea:
    """A home that can be taken away, a lifeboat, and the sentinel's word."""

    home: MallDatabase
    lifeboat: MallDatabase
    sockets: Path
    folder: Path
    told: Told

    @property
    def settings(self) -> Settings:
        by_sockets = {
            name: make_conninfo(getattr(self.home.settings(), name), host=str(self.sockets))
            for name in ("app_dsn", "identity_dsn", "platform_dsn")
        }
        return self.home.settings(**by_sockets, continuity=str(self.folder))

    def lose(self) -> None:
        self.sockets.unlink()
        self.home.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'ballast-mall'"
        )

    def bring_back(self) -> None:
        self.sockets.symlink_to(str(conninfo_to_dict(self.home.dsn)["host"]))

    def launch(self, course: Course = LOST) -> Course:
        course = course.launched(self.lifeboat.dsn, datetime.now(UTC))
        self.told.tell(course)
        return course

    def break_after(self, app: Litestar, kind: str) -> list[Any]:
        """The lifeboat's connections end once, between the intake's having a deed of this kind and the commit; what they were."""
        helm = app.state.db._helm
        real, ended = helm.take, list[Any]()

        async def take(offers: Sequence[Offered]) -> list[Taken]:
            taken: list[Taken] = await real(offers)
            if not ended and any(offer.kind == kind for offer in offers):
                ended.extend(
                    self.lifeboat.run(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND application_name = 'ballast-mall'"
                    )
                )
            return taken

        helm.take = take
        return ended

    def entries(self) -> list[tuple[str, Any]]:
        return [(deed.kind, deed.payload) for deed in self.deeds()]

    def deeds(self) -> list[Deed]:
        intake = Intake(self.folder / INTAKE, reserve_bytes=0)
        try:
            return [Deed(entry.kind, entry.key, entry.payload) for entry in intake.entries()]
        finally:
            intake.close()


@pytest.fixture
def sea(mall_database: MallDatabase, open_shop: OpenShop, tmp_path: Path) -> Iterator[tuple[Sea, Shop]]:
    shop = open_shop(products=2)
    boat = f"{conninfo_to_dict(mall_database.dsn)['dbname']}_boat"
    folder, sockets = tmp_path / "continuity", tmp_path / "sockets"
    told = Told(folder / BOARD)
    with psycopg.connect(make_conninfo(mall_database.dsn, dbname="postgres"), autocommit=True) as connection:
        name, home = sql.Identifier(boat), sql.Identifier(str(conninfo_to_dict(mall_database.dsn)["dbname"]))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, home))
        lifeboat = replace(mall_database, dsn=make_conninfo(mall_database.dsn, dbname=boat))
        found = Sea(mall_database, lifeboat, sockets, folder, told)
        found.bring_back()
        yield found, shop
        told.close()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    db = Database(settings)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


async def until_turned(db: Database, shop: Shop, *, afloat: bool) -> None:
    while True:
        with contextlib.suppress(Turned, Busy):
            async with db.shop(shop.shop_id) as connection:
                row = await (await connection.execute("SELECT current_database() AS name")).fetchone()
                assert row is not None
                if row["name"].endswith("_boat") == afloat:
                    return
        await asyncio.sleep(0.02)


async def broken_off(db: Database, shop: Shop) -> None:
    async with db.shop(shop.shop_id) as connection:
        deeds.note(connection, "renamed", {"name": "never"})
        raise ZeroDivisionError


NOTED = "UPDATE mall.shop SET name = 'changed'"


async def _rename(connection: Connection) -> None:
    await connection.execute(NOTED)


def test_what_is_done_in_the_lifeboat_is_accepted_before_it_commits_and_what_nobody_notes_is_refused(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    here.launch()

    async def story() -> None:
        async with opened(here.settings) as db:
            assert db.afloat(shop.shop_id) == "fresh"
            with pytest.raises(Refused) as refused:
                async with db.shop(shop.shop_id) as connection:
                    await connection.execute(NOTED)
            assert refused.value.key == "afloat.read_only"
            # What is done once for a key is none the more brought home by the answer that is.
            with pytest.raises(Refused) as refused:
                async with db.shop(shop.shop_id) as connection:
                    await idempotency.once(
                        connection, "s", "k", None, type(None), lambda: _rename(connection), datetime.now(UTC)
                    )
            assert refused.value.key == "afloat.read_only"
            async with db.shop(shop.shop_id) as connection:
                row = await (await connection.execute("SELECT name FROM mall.shop")).fetchone()
                assert row is not None
                assert row["name"] != "changed"
                await connection.execute(NOTED)
                deeds.note(connection, "renamed", {"name": "changed"})
                assert here.entries() == []
            with pytest.raises(ZeroDivisionError):
                await broken_off(db, shop)
            async with db.shop(shop.shop_id) as connection:
                await connection.execute("UPDATE mall.shop SET name_en = 'seen'")
                deeds.of_no_weight(connection)

    asyncio.run(story())
    assert here.entries() == [("renamed", {"name": "changed"})]
    renamed = "SELECT name, name_en FROM mall.shop WHERE shop_id = %s"
    assert here.lifeboat.run(renamed, shop.shop_id) == [("changed", "seen")]
    assert here.home.run(renamed, shop.shop_id)[0][0] != "changed"


def test_a_process_goes_over_and_comes_back_without_a_restart(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea

    async def story() -> None:
        async with opened(here.settings) as db:
            await until_turned(db, shop, afloat=False)
            here.lose()
            asked = asyncio.create_task(until_turned(db, shop, afloat=True))
            said = await asyncio.to_thread(here.told.hear, 5)
            assert said
            assert said[0].startswith("lost ")
            course = here.launch()
            await asyncio.wait_for(asked, 5)
            await asyncio.wait_for(until_turned(db, shop, afloat=True), 5)
            here.bring_back()
            course = course.home_is_open()
            here.told.tell(course)
            assert db.afloat(shop.shop_id) == "fresh"
            course = course.came_home(str(shop.shop_id))
            here.told.tell(course)
            await asyncio.wait_for(until_turned(db, shop, afloat=False), 5)
            assert db.afloat(shop.shop_id) == ""
            here.told.tell(course.all_home())
            await asyncio.wait_for(until_turned(db, shop, afloat=False), 5)

    asyncio.run(story())


def test_a_request_that_meets_the_loss_is_made_again_where_the_shop_then_is(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    with TestClient[Litestar](create_app(here.settings)) as client:
        assert client.get(f"/s/{shop.slug}/").status_code == 200
        here.lose()
        with ThreadPoolExecutor(1) as sentinel:
            heard = sentinel.submit(lambda: (here.told.hear(5), here.launch()))
            page = client.get(f"/s/{shop.slug}/products/{shop.goods[1].product_id}")
            assert page.status_code == 200, page.text[:300]
            assert "Product 1" in page.text
            assert heard.result()[0]


def test_who_orders_in_a_shop_whose_rows_were_just_deleted_orders_where_it_then_is(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    with TestClient[Litestar](create_app(here.settings)) as client:
        shopper = Shopper(client, shop)
        shopper.see("/")
        here.home.run("ALTER TABLE mall.shop DISABLE TRIGGER ALL")
        here.home.run("DELETE FROM mall.shop WHERE shop_id = %s", shop.shop_id)
        with ThreadPoolExecutor(1) as sentinel:
            heard = sentinel.submit(lambda: (here.told.hear(5), here.launch()))
            shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
            assert heard.result()[0][0] == f"empty {shop.shop_id}"
        here.home.run("ALTER TABLE mall.shop ENABLE TRIGGER ALL")
    assert [kind for kind, _ in here.entries()][-1] == "cart_set"


def test_a_shop_of_its_own_may_be_afloat_while_the_others_are_at_home(
    sea: tuple[Sea, Shop], open_shop: OpenShop
) -> None:
    here, shop = sea
    other = open_shop()
    here.launch(Course().lost(Sign.EMPTY, datetime.now(UTC), frozenset({str(shop.shop_id)})))

    async def story() -> None:
        async with opened(here.settings) as db:
            await until_turned(db, shop, afloat=True)
            await until_turned(db, other, afloat=False)
            assert (db.afloat(shop.shop_id), db.afloat(other.shop_id)) == ("fresh", "")

    asyncio.run(story())


def test_an_order_that_was_accepted_and_not_done_is_done_when_it_is_sent_again(sea: tuple[Sea, Shop]) -> None:
    """The lifeboat's connections end after the intake has the order and before it commits."""
    here, shop = sea
    app = create_app(here.settings)
    ended = here.break_after(app, "checkout")
    with TestClient[Litestar](app) as client:
        here.launch()
        shopper = Shopper(client, shop)
        shopper.see("/")
        order = shopper.order(shop).headers["location"]
        assert ended
        page = shopper.see("/orders")
        assert page.count("/orders/") >= 1
    accepted = [payload["order_id"] for kind, payload in here.entries() if kind == "checkout"]
    assert len(accepted) == 1
    assert accepted[0] in order
    in_lifeboat = here.lifeboat.run("SELECT order_id::text FROM mall.orders WHERE shop_id = %s", shop.shop_id)
    assert in_lifeboat == [(accepted[0],)]
    assert here.home.run("SELECT 1 FROM mall.orders WHERE shop_id = %s", shop.shop_id) == []


LEVELS = '[{"name":"金","name_en":"Gold","from_fen":0,"discount_bp":1000}]'


@dataclass
class LastMoments:
    """Guests in a browser and by the API, and a member who has just logged in, of whom the lifeboat does not know."""

    here: Sea
    shop: Shop
    browser: Shopper
    program: Caller
    member: Shopper

    def come_home(self) -> MergeReport:
        report = come_home(self.here.home, [(self.shop.shop_id, deed) for deed in self.here.deeds()])
        assert report.refused == ()
        return report

    def orders(self) -> set[tuple[str, bool]]:
        """At home, and whether each is a member's."""
        text = "SELECT order_id::text, customer_id IS NOT NULL FROM mall.orders WHERE shop_id = %s"
        return set(self.here.home.run(text, self.shop.shop_id))


@pytest.fixture
def last(sea: tuple[Sea, Shop]) -> Iterator[LastMoments]:
    here, shop = sea
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(TestClient[Litestar](create_app(here.settings))) for _ in range(2)]
        member = Shopper(clients[1], shop)
        member.send("/register", login="13900001111", password="long enough 1", name="Lin")
        yield LastMoments(here, shop, Shopper(clients[0], shop), shopper_of(clients[0], shop), member)


def ordered(location: str) -> str:
    """Which order."""
    return re.findall(r"/orders/([0-9a-f-]{36})", location)[0]


def test_an_order_whose_end_was_not_heard_of_is_the_same_order_in_a_lifeboat_that_does_not_know_its_shopper_yet(
    last: LastMoments,
) -> None:
    here, sku = last.here, last.shop.goods[0].sku_ids[0]
    forms = []
    for shopper in (last.browser, last.member):
        shopper.send("/cart/add", sku=str(sku), quantity="1")
        forms.append(checkout_form(shopper.see("/checkout")))

    def send() -> list[str]:
        both = zip((last.browser, last.member), forms, strict=True)
        return [ordered(shopper.send("/checkout", **form).headers["location"]) for shopper, form in both] + [
            last.program.order(sku, key="once")["order_id"]
        ]

    at_home = send()
    kept = [one.client.cookies["visitor"] for one in (last.browser, last.member)]
    here.launch()
    assert send() == at_home
    assert [one.client.cookies["visitor"] for one in (last.browser, last.member)] == kept
    assert [kind for kind, _ in here.entries()].count("visitor_opened") == 3
    last.come_home()
    assert last.orders() == set(zip(at_home, (False, True, False), strict=True))


def test_what_a_member_whom_the_lifeboat_does_not_know_yet_orders_there_is_his_at_home_at_the_price_he_saw(
    last: LastMoments,
) -> None:
    here, shop = last.here, last.shop
    for database in (here.home, here.lifeboat):
        database.run("UPDATE mall.shop SET levels = %s WHERE shop_id = %s", LEVELS, shop.shop_id)
    here.home.run("UPDATE mall.customer SET level = 1 WHERE shop_id = %s", shop.shop_id)
    here.launch()
    last.member.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    form = checkout_form(last.member.see("/checkout"))
    placed = ordered(last.member.send("/checkout", **form).headers["location"])
    last.come_home()
    assert last.orders() == {(placed, True)}
    total = "SELECT total_fen FROM mall.orders WHERE order_id = %s"
    assert here.home.run(total, placed) == [(int(form["shown_fen"]),)]
    # Sent again there it is the same; another one has a member's price.
    here.told.tell(Course())
    app: Any = last.member.client.app
    with last.member.client.portal() as portal:
        portal.call(lambda: asyncio.wait_for(until_turned(app.state.db, shop, afloat=False), 5))
    assert ordered(last.member.send("/checkout", **form).headers["location"]) == placed
    assert placed in last.member.see("/orders")
    another = ordered(last.member.order(shop).headers["location"])
    assert here.home.run(total, another) != [(int(form["shown_fen"]),)]


def test_a_key_that_was_used_at_home_for_other_goods_makes_an_exception_and_pays_for_nothing_else(
    last: LastMoments,
) -> None:
    first, second = (goods.sku_ids[0] for goods in last.shop.goods)
    at_home = last.program.order(first, 2, key="once")["order_id"]
    last.here.launch()
    afloat = last.program.order(second, key="once", pay=True)["order_id"]
    assert afloat != at_home
    last.come_home()
    assert last.orders() == {(at_home, False)}
    found = "SELECT order_id::text, reason FROM mall.exception WHERE shop_id = %s"
    assert last.here.home.run(found, last.shop.shop_id) == [(afloat, "idempotency.differs")]
    assert last.here.home.run("SELECT paid_fen FROM mall.orders WHERE order_id = %s", at_home) == [(0,)]


def test_who_logs_out_in_a_lifeboat_that_does_not_know_him_yet_has_logged_out_at_home(last: LastMoments) -> None:
    token = last.member.client.cookies["visitor"]
    last.here.launch()
    last.member.send("/logout")
    last.come_home()
    good = "SELECT expires_at > now() FROM mall.visitor WHERE token_hash = %s"
    assert last.here.home.run(good, token_hash(token)) == [(False,)]
    assert last.here.home.run(good, token_hash(last.member.client.cookies["visitor"])) == [(True,)]


def test_a_token_that_is_over_or_never_was_stays_so_in_a_lifeboat_and_who_only_looks_writes_nothing(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    with TestClient[Litestar](create_app(here.settings)) as client:
        here.launch()
        shopper = Shopper(client, shop)
        shopper.send("/register", login="13900001112", password="long enough 1", name="Lin")
        caller = Caller(client, f"/api/v1/shops/{shop.slug}", client.cookies["visitor"])
        shopper.send("/logout")
        assert caller.ask("GET", "/cart", status=401)
        for caller.token in ("x", "x" * 44, "x" * 42 + "!"):  # never ours
            assert caller.ask("GET", "/cart", status=401)
        written = len(here.entries())
        caller.token = "x" * 43
        assert caller.call("GET", "/cart")["lines"] == []
        assert len(here.entries()) == written


def test_pieces_that_were_accepted_and_not_done_are_in_the_cart_once(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    app = create_app(here.settings)
    with TestClient[Litestar](app) as client:
        here.launch()
        shopper = Shopper(client, shop)
        shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
        ended = here.break_after(app, "cart_set")
        shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="2")
        assert ended
    assert [payload["quantity"] for kind, payload in here.entries() if kind == "cart_set"] == [1, 3]
    assert here.lifeboat.run("SELECT quantity FROM mall.cart_line WHERE shop_id = %s", shop.shop_id) == [(3,)]


@pytest.mark.parametrize(("nodes", "node", "left"), [(3, 0, 34), (3, 1, 33), (3, 2, 33), (1, 0, 100)])
def test_of_what_is_left_a_machine_sells_its_share_and_divides_it_once(
    sea: tuple[Sea, Shop], nodes: int, node: int, left: int
) -> None:
    here, shop = sea
    boat = sql.Identifier(str(conninfo_to_dict(here.lifeboat.dsn)["dbname"]))
    with psycopg.connect(here.lifeboat.dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET ballast.nodes = {}").format(boat, nodes))
        connection.execute(sql.SQL("ALTER DATABASE {} SET ballast.node = {}").format(boat, node))
        connection.execute("UPDATE mall.stock SET on_hand = on_hand + 7, reserved = 7")
    here.launch()

    async def story() -> list[int]:
        async with opened(here.settings) as db:
            await until_turned(db, shop, afloat=True)
            await until_turned(db, shop, afloat=True)
            async with db.shop(shop.shop_id) as connection:
                cursor = await connection.execute("SELECT on_hand - reserved AS free FROM mall.stock")
                return [row["free"] for row in await cursor.fetchall()]

    assert asyncio.run(story()) == [left, left]


@pytest.mark.parametrize(
    ("vault_away", "shoppers", "merchants"),
    [(False, "order as usual", "read only for now"), (True, "as of a while ago", "this is as of a while ago")],
)
def test_the_pages_of_a_shop_that_is_afloat_say_so_and_its_people_change_nothing(
    sea: tuple[Sea, Shop], vault_away: bool, shoppers: str, merchants: str
) -> None:
    boat, shop = sea

    async def invited() -> str:
        async with opened(boat.lifeboat.settings()) as db, db.identity() as connection:
            return await links.invite(connection, shop.shop_id, "owner", datetime.now(UTC))

    token = asyncio.run(invited())
    with TestClient(create_app(boat.lifeboat.settings())) as client:  # who works there was known before the loss
        owner = Visitor(client)
        assert owner.make_account(token, f"owner-{shop.slug}").status_code == 303
    boat.lose()
    boat.told.tell(LOST.launched(boat.lifeboat.dsn, datetime.now(UTC), vault_away=vault_away))
    with TestClient(create_app(boat.settings)) as client:
        assert shoppers in client.get(f"/s/{shop.slug}/?lang=en").text
        owner = Visitor(client, owner.cookies)
        root = f"/merchant/{shop.slug}"
        assert merchants in owner.get(f"{root}?lang=en").text
        refused = owner.post(f"{root}/categories", {"category_id": str(new_id()), "name": "Tea", "name_en": "Tea"})
        assert (refused.status_code, "everything is read only for now" in refused.text) == (422, True)
        assert boat.lifeboat.run("SELECT count(*) FROM mall.category WHERE shop_id = %s", shop.shop_id) == [(0,)]


def test_what_happens_by_itself_waits_until_a_shop_is_home(
    sea: tuple[Sea, Shop], caplog: pytest.LogCaptureFixture
) -> None:
    here, shop = sea
    now = datetime.now(UTC)
    boarded = replace(shop, database=here.lifeboat)
    in_shop(boarded, lambda c: buy(c, guest(), shop.goods[0].sku_ids[0], 2, now=now - timedelta(hours=1)))
    here.launch()

    async def hear(_: Connection, event: outbox.OutEvent) -> None:
        raise AssertionError(event)

    async def story() -> list[int]:
        async with (
            opened(here.settings) as db,
            webhooks.Sender(db, signature.safe(here.home.secret)) as sender,
        ):
            assert not await send_refund(db, shop.shop_id, new_id(), {}, now)
            todo = jobs.jobs_of(db, {}, [hear], sender)
            return [await job.work(now) for job in todo]

    assert not any(asyncio.run(story()))
    assert not [record for record in caplog.records if record.name != "ballast.mall.db"]
    found = here.lifeboat.run("SELECT status FROM mall.orders WHERE shop_id = %s", shop.shop_id)
    assert found == [("pending_payment",)]


@pytest.mark.parametrize("headers", [{}, {"host": "harmless.example.com"}])
def test_what_may_have_been_done_is_sent_again_where_that_is_harmless(
    sea: tuple[Sea, Shop], headers: dict[str, str]
) -> None:
    """A storefront's is, also under a host name of the shop's own; a merchant's page is not."""
    here, shop = sea
    if headers:
        here.home.run("INSERT INTO mall.hostname (host, shop_id) VALUES (%s, %s)", headers["host"], shop.shop_id)
    app = create_app(here.settings)
    db = app.state.db
    commit, broken = db._commit, 0

    async def commit_unheard(connection: Any, course: Any) -> None:
        nonlocal broken
        await commit(connection, course)
        if not broken:
            broken += 1
            raise Turned("not heard of", course.number, committing=True)

    with TestClient[Litestar](app) as client:
        root = "" if headers else f"/s/{shop.slug}"
        page = client.get(f"{root}/?lang=en", headers=headers)
        data = {"_csrf_token": client.cookies["csrftoken"], "sku": str(shop.goods[0].sku_ids[0]), "quantity": "2"}
        db._commit = commit_unheard
        added = client.post(f"{root}/cart/add", data=data, headers=headers, follow_redirects=False)
        assert (page.status_code, added.status_code, broken) == (200, 303, 1)
        added = client.post(f"{root}/cart/add", data=data, headers=headers, follow_redirects=False)
        broken = 0
        added = client.post(f"{root}/cart/add", data=data, headers=headers, follow_redirects=False)
        assert (added.status_code, broken) == (303, 1)
    pieces = here.home.run("SELECT max(quantity) FROM mall.cart_line WHERE shop_id = %s", shop.shop_id)
    assert pieces == [(6,)], "three times two pieces, of which two requests were made twice"


def _fill_the_cart(shopper: Shopper, shop: Shop) -> httpx.Response:
    """Until it is refused: on a full disk there is still room on the last page of a file."""
    for _ in range(60):
        wish = {
            "_csrf_token": shopper.client.cookies["csrftoken"],
            "sku": str(shop.goods[0].sku_ids[0]),
            "quantity": "1",
        }
        answer = shopper.client.post(f"{shopper.base}/cart/add", data=wish, follow_redirects=False)
        if answer.status_code != 303:
            assert answer.status_code == 409, answer.text[:500]
            return answer
    raise AssertionError("the disk takes all")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_where_the_intakes_disk_is_full_an_order_is_refused_before_it_is_paid(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    here.launch()
    placed = "SELECT count(*) FROM mall.orders WHERE shop_id = %s"
    with small_disk(here.folder / INTAKE, 24), TestClient[Litestar](create_app(here.settings)) as client:
        shopper = Shopper(client, shop)
        shopper.order(shop)
        client.get(f"{shopper.base}/?lang=en")
        hog = Hog(here.folder / INTAKE)
        added = _fill_the_cart(shopper, shop)
        assert "nothing was charged" in added.text
        form, before = checkout_form(shopper.see("/checkout")), len(here.entries())
        refused = shopper.send("/checkout", 409, **form)
        assert "nothing was charged" in refused.text
        assert here.lifeboat.run(placed, shop.shop_id) == [(1,)]
        shopper.see("/")
        assert len(here.entries()) == before
        hog.unlink()
        assert "/orders/" in shopper.send("/checkout", **form).headers["location"]
        assert here.lifeboat.run(placed, shop.shop_id) == [(2,)]
        assert [kind for kind, _ in here.entries()].count("checkout") == 2


def test_where_home_takes_no_writes_and_nobody_finds_it_lost_that_is_told(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    with TestClient[Litestar](create_app(here.settings)) as client:
        shopper = Shopper(client, shop)
        client.get(f"{shopper.base}/?lang=en")
        role = str(conninfo_to_dict(here.settings.app_dsn)["user"])
        here.home.run(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        try:
            here.lose()  # its connections, which keep what was set when they began
            here.bring_back()
            told = shopper.send("/cart/add", 503, sku=str(shop.goods[0].sku_ids[0]), quantity="1")
            page = client.get(f"{shopper.base}/products/{shop.goods[0].product_id}")
        finally:
            here.home.run(f"ALTER ROLE {role} RESET default_transaction_read_only")
    assert "nothing was charged" in told.text
    assert page.status_code == 200


def test_where_nothing_has_room_pages_are_served_and_what_would_change_something_is_refused_at_once(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    pieces = "SELECT quantity FROM mall.cart_line WHERE shop_id = %s"
    with TestClient[Litestar](create_app(here.settings)) as client:
        shopper = Shopper(client, shop)
        client.get(f"{shopper.base}/?lang=en")
        shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
        course = Course().with_room(False)
        here.told.tell(course)
        assert "Product 0" in shopper.see(f"/products/{shop.goods[0].product_id}")
        assert "Product 0" in shopper.see("/cart")
        refused = shopper.send("/cart/add", 409, sku=str(shop.goods[0].sku_ids[0]), quantity="1")
        assert "nothing was charged" in refused.text
        refused = shopper.send("/checkout", 409, **checkout_form(shopper.see("/checkout")))
        assert "nothing was charged" in refused.text
        assert here.home.run(pieces, shop.shop_id) == [(1,)]
        assert here.home.run("SELECT 1 FROM mall.orders WHERE shop_id = %s", shop.shop_id) == []
        here.told.tell(course.with_room(True))
        assert "/orders/" in shopper.order(shop).headers["location"]


def test_gift_cards_are_not_taken_in_a_lifeboat_where_the_same_balance_would_be_spent_twice(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    cards = [gift_card(replace(shop, database=place), now=datetime.now(UTC)) for place in (here.home, here.lifeboat)]
    sku = shop.goods[0].sku_ids[0]
    with TestClient[Litestar](create_app(here.settings)) as client:
        program, browser = shopper_of(client, shop), Shopper(client, shop)
        paid = program.order(sku, key="paid", gift_card=cards[0].code)
        asked_back = here.home.run("SELECT payment_id FROM mall.payment WHERE order_id = %s", paid["order_id"])
        here.lose()
        with ThreadPoolExecutor(1) as sentinel:
            # What meets the loss is made again in the lifeboat, and refused there.
            heard = sentinel.submit(lambda: (here.told.hear(5), here.launch()))
            said = program.order(sku, key="met", gift_card=cards[0].code, status=409)
            assert heard.result()[0]
        assert (said["code"], "cannot be used meanwhile" in said["detail"]) == ("gift_card.afloat", True)
        for code in (cards[0].code, cards[1].code, "ABCD-EFGH-JKLM-NPQR"):
            said = program.order(sku, gift_card=code, status=409)
            assert said["code"] == "gift_card.afloat"
        waits = program.order(sku)["order_id"]
        body = {"gift_card": cards[1].code}
        said = program.call("POST", f"/orders/{waits}/payments", body, status=409)
        assert said["code"] == "gift_card.afloat"
        # In a browser nobody is asked for one.
        order = f"/orders/{ordered(browser.order(shop).headers['location'])}"
        assert "gift_card" not in browser.see(order)
        assert browser.client.get(browser.base + f"{order}/pay", follow_redirects=False).status_code == 303
        # Whose page was there before is told.
        sent = browser.send(f"{order}/pay/card", 409, gift_card=cards[1].code)
        assert "暂时不能使用礼品卡" in sent.text
        assert 'name="gift_card"' not in sent.text
        chinese = client.post(
            f"{program.root}/orders/{waits}/payments",
            json=body,
            headers={"Authorization": f"Bearer {program.token}", "Accept-Language": "zh"},
        )
        assert "暂时不能使用礼品卡" in chinese.json()["detail"]
        assert here.lifeboat.run("SELECT DISTINCT kind FROM mall.gift_card_movement") == [("issued",)]
        # Nor does money go back to a copy of the card.
        boarded = replace(shop, database=here.lifeboat)
        with pytest.raises(Refused) as refused:
            asyncio.run(_give_back(here, shop, asked_back[0][0]))
        assert refused.value.key == "gift_card.afloat"
        assert balance(boarded, cards[1].card_id) == 10_000
    # At home the order that was placed meanwhile is paid with a card.
    come_home(here.home, [(shop.shop_id, deed) for deed in here.deeds()])
    here.bring_back()
    here.told.tell(Course())
    with TestClient[Litestar](create_app(here.settings)) as client:
        program = Caller(client, program.root, program.token)
        assert (
            program.call("POST", f"/orders/{waits}/payments", {"gift_card": cards[0].code}, status=201)["status"]
            == "paid"
        )
    assert balance(shop, cards[0].card_id) == 8_000


async def _give_back(here: Sea, shop: Shop, payment_id: Any) -> None:
    async with opened(here.settings) as db, db.shop(shop.shop_id) as connection:
        now = datetime.now(UTC)
        await GiftCards().give_back(connection, new_id(), payment_id, new_id(), 1_000, now)


def test_what_a_gift_card_has_paid_before_is_paid_also_in_the_lifeboat(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    boarded, owner = replace(shop, database=here.lifeboat), guest()
    card = gift_card(boarded)
    placed = in_shop(
        boarded, lambda c: buy(c, owner, shop.goods[0].sku_ids[0], now=datetime.now(UTC), gift_card=card.code)
    )
    here.launch()

    async def again() -> None:
        async with opened(here.settings) as db, db.shop(shop.shop_id) as connection:
            assert deeds.are_heard(connection)
            await pay(connection, placed.order_id, card.code, owner=owner, now=datetime.now(UTC))

    asyncio.run(again())
    assert here.deeds() == []
    assert balance(boarded, card.card_id) == 9_000


def test_gift_cards_are_not_issued_in_a_lifeboat_which_would_not_bring_them_home(sea: tuple[Sea, Shop]) -> None:
    here, shop = sea
    here.launch()

    async def issue() -> None:
        async with opened(here.settings) as db, db.shop(shop.shop_id) as connection:
            terms, by, now = gift_cards.Terms(1, 10_000), By(None, "owner"), datetime.now(UTC)
            await gift_cards.issue(connection, shop.shop_id, terms, key="k", by=by, actor="account:x", now=now)

    with pytest.raises(Refused) as refused:
        asyncio.run(issue())
    assert refused.value.key == "afloat.read_only"
    assert here.deeds() == []
    assert here.lifeboat.run("SELECT 1 FROM mall.gift_card WHERE shop_id = %s", shop.shop_id) == []


def test_a_shop_gives_nothing_back_in_a_lifeboat_since_only_the_half_of_it_would_come_home(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    boarded = replace(shop, database=here.lifeboat)
    order_id = card_order(boarded, gift_card(boarded).code)
    here.launch()

    async def cancel() -> None:
        async with opened(here.settings) as db, db.shop(shop.shop_id) as connection:
            now = datetime.now(UTC)
            await aftersales.cancel_paid(connection, order_id, actor="account:x", reason="x", now=now)

    with pytest.raises(Refused) as refused:
        asyncio.run(cancel())
    assert refused.value.key == "afloat.read_only"
    assert here.deeds() == []
    assert here.lifeboat.run("SELECT 1 FROM mall.refund WHERE order_id = %s", order_id) == []


def test_a_shop_decides_about_no_exception_in_a_lifeboat_since_only_the_money_would_come_home(
    sea: tuple[Sea, Shop],
) -> None:
    here, shop = sea
    boarded, owner = replace(shop, database=here.lifeboat), guest()
    order_id = in_shop(boarded, lambda c: kept_apart(c, owner, [shop.goods[0].sku_ids[0]]))
    (kept,) = in_shop(boarded, lambda c: exceptions.of_shopper(c, owner, order_id))
    here.launch()

    async def accept() -> None:
        async with opened(here.settings) as db, db.shop(shop.shop_id) as connection:
            await remedies.accept(connection, kept.exception_id, actor="account:x", now=datetime.now(UTC))

    with pytest.raises(Refused) as refused:
        asyncio.run(accept())
    assert refused.value.key == "afloat.read_only"
    assert here.deeds() == []
    assert here.lifeboat.run("SELECT 1 FROM mall.orders WHERE order_id = %s", order_id) == []
