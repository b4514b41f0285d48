"""What the platform does with shops, and who may come near it."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from ballast.mall import audit, figures, platform, service, staff
from ballast.mall.audit import By
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop
from tests.fix_people import NewVisitor, Visitor, shop_with_owner, token_in, with_database

NOW = datetime.now(UTC).replace(microsecond=0)
BY = By(None, "tester", "127.0.0.1")


def _opening(slug: str, **more: str) -> platform.Opening:
    return platform.Opening(slug=slug, name=f"Shop {slug}", industry="food", plan="basic", **more)  # type: ignore[arg-type]


def test_a_shop_is_opened_with_all_that_it_needs(mall_database: MallDatabase) -> None:
    async def story(database: Database) -> platform.Opened:
        async with database.platform() as connection:
            return await platform.open_shop(connection, _opening("full", host="Full.Example.com."), BY, NOW)

    shop_id = with_database(mall_database, story).shop_id
    found = mall_database.run(
        "SELECT (SELECT count(*) FROM mall.shop s WHERE s.shop_id = d.shop_id), (SELECT host FROM mall.hostname h WHERE h.shop_id = d.shop_id),"
        " (SELECT count(*) FROM mall.shipping s WHERE s.shop_id = d.shop_id AND is_default),"
        " (SELECT jsonb_array_length(published->'blocks') FROM mall.page p WHERE p.shop_id = d.shop_id AND slug = ''),"
        " (SELECT array_agg(role) FROM mall.account_link l WHERE l.shop_id = d.shop_id), service_until, status"
        " FROM mall.directory d WHERE shop_id = %s",
        shop_id,
    )
    assert found == [(1, "full.example.com", 1, 2, ["owner"], NOW + timedelta(days=30), "open")]


@pytest.mark.parametrize(
    ("opening", "key"),
    [
        (_opening("Up Per"), "shop.slug"),
        (_opening("half", host="taken.example.com"), "host.taken"),
        (_opening("half", host="no host"), "host.form"),
        (platform.Opening(slug="half", name="x", industry="none", plan="basic"), "terms.unknown"),
        (platform.Opening(slug="half", name=" ", industry="food", plan="basic"), "shop.name"),
        (_opening("first"), "shop.slug_taken"),
    ],
)
def test_a_shop_that_is_refused_leaves_nothing(
    mall_database: MallDatabase, opening: platform.Opening, key: str
) -> None:
    async def story(database: Database) -> None:
        async with database.platform() as connection:
            if await platform.shops(connection, platform.Wanted(text="first"), 1, NOW) == ([], 0):
                await platform.open_shop(connection, _opening("first", host="taken.example.com"), BY, NOW)
        with pytest.raises(Refused) as refused:
            async with database.platform() as connection:
                await platform.open_shop(connection, opening, BY, NOW)
        assert refused.value.key == key

    with_database(mall_database, story)
    assert mall_database.run("SELECT count(*) FROM mall.directory WHERE slug = 'half'") == [(0,)]
    assert mall_database.run("SELECT count(*) FROM mall.shop WHERE name IN ('Shop half', 'x')") == [(0,)]


def test_a_shop_is_suspended_reopened_and_closed_and_nothing_of_it_is_deleted(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=2)

    async def status(database: Database, now: datetime) -> str:
        async with database.platform() as connection:
            line = await platform.shop(connection, shop.shop_id)
        assert line is not None
        return line.standing(now).value

    async def story(database: Database) -> list[str]:
        seen = []
        async with database.platform() as connection:
            await platform.suspend(connection, shop.shop_id, "Complaints", BY, NOW)
        seen.append(await status(database, NOW))
        with pytest.raises(Refused, match="cannot suspend"):
            async with database.platform() as connection:
                await platform.suspend(connection, shop.shop_id, "again", BY, NOW)
        with pytest.raises(Refused, match="reason is missing"):
            async with database.platform() as connection:
                await platform.reopen(connection, shop.shop_id, " ", BY, NOW)
        async with database.platform() as connection:
            await platform.close(connection, shop.shop_id, "Wish of the owner", 30, BY, NOW)
        seen.append(await status(database, NOW + timedelta(days=29)))
        seen.append(await status(database, NOW + timedelta(days=30)))
        async with database.platform() as connection:
            assert shop.shop_id not in await platform.close_due(connection, NOW + timedelta(days=29))
            assert shop.shop_id in await platform.close_due(connection, NOW + timedelta(days=30))
        seen.append(await status(database, NOW))
        async with database.platform() as connection:
            await platform.reopen(connection, shop.shop_id, "Came back", BY, NOW)
            lines = await audit.shop_lines(connection, shop.shop_id)
        assert {line.action for line in lines} == {"shop.suspend", "shop.close", "shop.closed", "shop.reopen"}
        seen.append(await status(database, NOW))
        return seen

    assert with_database(mall_database, story) == ["suspended", "closing", "closed", "closed", "open"]
    assert mall_database.run("SELECT count(*) FROM mall.product WHERE shop_id = %s", shop.shop_id) == [(2,)]


def test_an_extension_is_given_once_a_key_also_by_two_at_once_and_two_keys_add_up(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop()
    mall_database.run("UPDATE mall.directory SET service_until = %s WHERE shop_id = %s", NOW, shop.shop_id)

    async def extend(database: Database, key: str, days: int = 10) -> service.Extended:
        async with database.platform() as connection:
            return await service.extend_service(connection, shop.shop_id, key, days, "Outage", BY, NOW)

    async def story(database: Database) -> list[service.Extended]:
        done = await asyncio.gather(*[extend(database, key) for key in ("a", "b", "a", "b")])
        with pytest.raises(Refused, match="with 10 days"):
            await extend(database, "a", 11)
        return list(done)

    done = with_database(mall_database, story)
    assert sorted(one.now_given for one in done) == [False, False, True, True]
    ((until,),) = mall_database.run("SELECT service_until FROM mall.directory WHERE shop_id = %s", shop.shop_id)
    assert until == NOW + timedelta(days=20) == max(one.until for one in done)


def test_a_batch_of_extensions_can_be_repeated_and_an_ended_service_is_extended_from_now(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shops = [open_shop() for _ in range(40)]
    ended = shops[0].shop_id
    mall_database.run(
        "UPDATE mall.directory SET service_until = %s WHERE shop_id = %s", NOW - timedelta(days=90), ended
    )
    asked = [service.Extension(shop.shop_id, "incident-7", 60, "Outage") for shop in shops]
    unknown = service.Extension(new_id(), "incident-7", 60, "Outage")

    async def story(database: Database) -> list[int]:
        given = []
        for batch in (asked[:25], [*asked, unknown]):
            async with database.platform() as connection:
                done = await service.extend_services(connection, batch, BY, NOW)
            given.append(sum(one.now_given for one in done))
            assert {one.shop_id for one in done} == {one.shop_id for one in batch} - {unknown.shop_id}
        return given

    assert with_database(mall_database, story) == [25, 15]
    assert mall_database.run("SELECT service_until FROM mall.directory WHERE shop_id = %s", ended) == [
        (NOW + timedelta(days=60),)
    ]


def test_a_subscription_follows_what_is_served_already_and_is_entered_once(
    mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop, key = open_shop(), new_id()
    until = NOW + timedelta(days=10)
    mall_database.run("UPDATE mall.directory SET service_until = %s WHERE shop_id = %s", until, shop.shop_id)

    async def story(database: Database) -> list[datetime]:
        ends = []
        for _ in range(2):
            async with database.platform() as connection:
                ends.append(await service.subscribe(connection, shop.shop_id, key, "flagship", 12, 99900, BY, NOW))
        return ends

    first, second = with_database(mall_database, story)
    assert first == second
    assert mall_database.run("SELECT starts_at, paid_fen FROM mall.subscription WHERE shop_id = %s", shop.shop_id) == [
        (until, 99900)
    ]
    assert mall_database.run("SELECT plan, service_until FROM mall.directory WHERE shop_id = %s", shop.shop_id) == [
        ("flagship", first)
    ]


def test_figures_count_by_the_day_in_china(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop()
    now = datetime(2031, 5, 10, 17, 0, tzinfo=UTC)  # the 11th in China
    for number, (placed, paid) in enumerate(
        [("2031-05-10 15:59Z", 100), ("2031-05-10 16:00Z", 200), ("2031-05-10 16:30Z", 0)]
    ):
        mall_database.run(
            "INSERT INTO mall.orders (shop_id, order_id, number, status, owner_id, delivery, items_fen, discount_fen, shipping_fen, total_fen,"
            " paid_fen, source, placed_at, pay_by) VALUES (%s, gen_random_uuid(), %s, 'paid', gen_random_uuid(), 'ship', %s, 0, 0, %s, %s, 'web', %s, now())",
            shop.shop_id, f"f{number}", paid or 50, paid or 50, paid, placed,
        )  # fmt: skip

    async def story(database: Database) -> figures.Figures:
        async with database.platform() as connection:
            return await figures.overview(connection, now, days=3)

    found = with_database(mall_database, story)
    assert [(f"{one.day:%d}", one.orders, one.paid, one.gmv_fen) for one in found.days] == [
        ("09", 0, 0, 0),
        ("10", 1, 1, 100),
        ("11", 2, 1, 200),
    ]


def test_shops_are_found_by_text_that_is_meant_as_it_stands(mall_database: MallDatabase, open_shop: OpenShop) -> None:
    shop = open_shop(name="100% 茶_馆")
    open_shop(name="1000 茶馆馆")

    async def find(database: Database) -> list[list[uuid.UUID]]:
        found = []
        for text in ("100%", "茶_馆", str(shop.shop_id), shop.slug, "' OR 1=1 --"):
            async with database.platform() as connection:
                lines, _ = await platform.shops(connection, platform.Wanted(text=text), 1, NOW)
            found.append([line.shop_id for line in lines])
        return found

    assert with_database(mall_database, find) == [[shop.shop_id]] * 4 + [[]]


def test_nobody_but_an_operator_comes_to_any_page_of_the_platform(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    shop_id, owner = shop_with_owner(operator, visitor, "mine")
    for path, methods in _routes(create_app(mall_database.settings()), "/platform"):
        there = path.replace("{shop_id:uuid}", shop_id)
        for method in methods:
            stranger = visitor()
            if method == "GET":
                assert stranger.get(there, follow_redirects=False).headers["location"].startswith("/signin"), there
                assert owner.get(there).status_code == 404, there
            else:
                assert stranger.post(there).headers["location"] == "/signin", there
                assert owner.post(there, {"move": "close", "reason": "x"}).status_code == 404, there
    assert mall_database.run("SELECT status FROM mall.directory WHERE shop_id = %s", uuid.UUID(shop_id)) == [("open",)]


def test_staff_of_one_shop_do_not_come_into_another(visitor: NewVisitor, operator: Visitor) -> None:
    _, mine = shop_with_owner(operator, visitor, "here")
    shop_with_owner(operator, visitor, "there")
    assert mine.get("/merchant/here").status_code == 200
    assert mine.get("/merchant").url.path == "/merchant/here"
    assert mine.get("/merchant/there").status_code == 404
    assert mine.get("/merchant/nowhere").status_code == 404
    assert operator.get("/merchant/here").status_code == 404  # who runs the platform is no staff of its shops


def test_many_at_once_are_each_seen_as_themselves(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    _, owner = shop_with_owner(operator, visitor, "crowd")
    tokens = {"root": operator.session, "owner-crowd": owner.session}

    async def story() -> list[tuple[str, str]]:
        async with AsyncTestClient(create_app(mall_database.settings(pool_size=3))) as client:

            async def ask(login: str, token: str | None) -> tuple[str, str]:
                answer = await client.get("/account", headers={"Cookie": f"account={token}"})
                shown = re.search(r'text-secondary text-truncate">([^<]+)<', answer.text)
                return login, shown[1] if shown else ""

            return list(await asyncio.gather(*[ask(*one) for _ in range(20) for one in tokens.items()]))

    assert all(login == shown for login, shown in asyncio.run(story()))


def test_every_page_of_a_shop_names_what_it_asks_for(mall_database: MallDatabase) -> None:
    app = create_app(mall_database.settings())
    handlers = [
        handler
        for route in app.routes
        if route.path.startswith("/merchant/{slug:str}")
        for handler in getattr(route, "route_handlers", [])
        if "OPTIONS" not in handler.http_methods
    ]
    assert handlers
    assert all(isinstance(handler.opt.get("permission"), Permission) for handler in handlers)


def test_a_removed_member_is_out_at_the_next_request_and_a_closed_shop_shows_only_to_its_owner(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    shop_id, owner = shop_with_owner(operator, visitor, "team")
    shop = uuid.UUID(shop_id)

    async def invite(database: Database) -> str:
        async with database.identity() as connection:
            return await staff.invite(connection, shop, "clerk", BY, NOW)

    clerk, viewer = visitor(), visitor()
    for browser, login in ((clerk, "clerk-team"), (viewer, "viewer-team")):
        assert browser.make_account(with_database(mall_database, invite), login).status_code == 303
        assert browser.get("/merchant/team").status_code == 200
    ((clerk_id,),) = mall_database.run("SELECT account_id FROM mall.account WHERE login = 'clerk-team'")

    async def remove(database: Database) -> None:
        async with database.identity() as connection:
            await staff.remove(connection, shop, clerk_id, BY, NOW)

    with_database(mall_database, remove)
    assert clerk.get("/merchant/team").status_code == 404
    mall_database.run("UPDATE mall.directory SET status = 'closed' WHERE shop_id = %s", shop)
    assert viewer.get("/merchant/team").status_code == 403
    assert owner.get("/merchant/team").status_code == 200


def test_a_shop_keeps_one_owner_even_when_two_are_removed_at_once(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    shop_id, _ = shop_with_owner(operator, visitor, "pair")
    second = visitor()
    second.make_account(token_in(operator.post(f"/platform/shops/{shop_id}/owner").text), "second-pair")
    owners = [
        row[0] for row in mall_database.run("SELECT account_id FROM mall.staff WHERE shop_id = %s", uuid.UUID(shop_id))
    ]
    assert len(owners) == 2

    async def story(database: Database) -> list[object]:
        async def remove(account_id: uuid.UUID) -> None:
            async with database.identity() as connection:
                await staff.remove(connection, uuid.UUID(shop_id), account_id, BY, NOW)

        return list(await asyncio.gather(*map(remove, owners), return_exceptions=True))

    outcomes = with_database(mall_database, story)
    assert sorted(str(type(one).__name__) for one in outcomes) == ["NoneType", "Refused"]


def test_a_shop_has_no_more_staff_than_its_plan_allows(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    shop_id, _ = shop_with_owner(operator, visitor, "small")
    mall_database.run("INSERT INTO mall.plan VALUES ('tiny', '小', 'Tiny', 0, 1, 2) ON CONFLICT DO NOTHING")
    mall_database.run("UPDATE mall.directory SET plan = 'tiny' WHERE shop_id = %s", uuid.UUID(shop_id))

    async def invite(database: Database) -> list[str]:
        tokens = []
        for _ in range(2):
            async with database.identity() as connection:
                tokens.append(await staff.invite(connection, uuid.UUID(shop_id), "viewer", BY, NOW))
        return tokens

    one, other = with_database(mall_database, invite)
    assert visitor().make_account(one, "one-small").status_code == 303
    refused = visitor().make_account(other, "other-small")
    assert "The plan allows 2 staff" in refused.text
    assert mall_database.run("SELECT count(*) FROM mall.account WHERE login = 'other-small'") == [(0,)]


def test_a_shop_ends_the_sessions_of_its_own_people_alone(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    first_id, person = shop_with_owner(operator, visitor, "ends-one")
    second_id, boss = shop_with_owner(operator, visitor, "ends-two")
    token = token_in(operator.post(f"/platform/shops/{second_id}/owner").text)
    assert person.post(f"/link/{token}/join").status_code == 303
    ids = dict(mall_database.run("SELECT login, account_id FROM mall.account"))
    refused = boss.post(f"/merchant/ends-two/staff/{ids['owner-ends-one']}/sessions")
    assert (refused.status_code, "used beyond this shop" in refused.text) == (422, True)
    assert person.get("/merchant/ends-one").url.path == "/merchant/ends-one"
    # His own he may end; and those of who works for this shop alone.
    mall_database.run(
        "UPDATE mall.staff SET removed_at = now() WHERE shop_id = %s AND account_id = %s",
        first_id,
        ids["owner-ends-one"],
    )
    assert boss.post(f"/merchant/ends-two/staff/{ids['owner-ends-one']}/sessions").status_code == 303
    assert person.get("/merchant/ends-two").url.path == "/signin"
    assert boss.post(f"/merchant/ends-two/staff/{ids['owner-ends-two']}/sessions").status_code == 303


def test_an_invitation_is_followed_by_an_account_that_is_there_once(
    mall_database: MallDatabase, visitor: NewVisitor, operator: Visitor
) -> None:
    first_id, person = shop_with_owner(operator, visitor, "one")
    second_id, _ = shop_with_owner(operator, visitor, "two")
    token = token_in(operator.post(f"/platform/shops/{second_id}/owner").text)
    assert "Join as owner-one" in person.get(f"/link/{token}").text
    assert person.post(f"/link/{token}/join").headers["location"] == "/merchant"
    assert re.findall(r'href="/merchant/(\w+)"', person.get("/merchant").text) == ["one", "two"]
    assert visitor().make_account(token, "too-late").status_code == 410
    again = token_in(operator.post(f"/platform/shops/{first_id}/owner").text)
    assert "works in the shop already" in person.post(f"/link/{again}/join").text


def test_the_last_operator_stays_and_one_that_is_dismissed_is_out(
    visitor: NewVisitor, operator: Visitor, mall_database: MallDatabase
) -> None:
    second = visitor()
    assert second.make_account(token_in(operator.post("/platform/people/invite").text), "second").status_code == 303
    assert second.get("/platform").status_code == 200
    ids = dict(mall_database.run("SELECT login, account_id::text FROM mall.account WHERE operator"))  # type: ignore[arg-type]
    assert operator.post("/platform/people/do", {"deed": "dismiss", "account_id": ids["second"]}).status_code == 303
    assert second.get("/platform").status_code == 404
    for deed in ("disable", "enable"):
        operator.post("/platform/people/do", {"deed": deed, "account_id": ids["second"]})
    assert second.get("/account", follow_redirects=False).status_code == 303  # an old session does not come back
    last = operator.post("/platform/people/do", {"deed": "disable", "account_id": ids["root"]})
    assert "keeps one operator at least" in last.text


def test_what_a_merchant_wrote_is_text_on_the_platforms_pages(operator: Visitor, open_shop: OpenShop) -> None:
    shop = open_shop(name="<script>alert(1)</script>")
    for path in ("/platform/shops", f"/platform/shops/{shop.shop_id}"):
        page = operator.get(path).text
        assert "&lt;script&gt;alert(1)" in page
        assert "<script>alert" not in page


def _routes(app: Litestar, under: str) -> list[tuple[str, set[str]]]:
    found = [(route.path, set(getattr(route, "methods", ())) & {"GET", "POST"}) for route in app.routes]
    return [one for one in found if one[0] == under or one[0].startswith(under + "/")]
