"""The mall under the vault: a drill is equal, one shop goes back while the others sell, what a rogue changed is undone beside what
was sold meanwhile, and after a loss of everything each shop is served as soon as somebody comes to it.

The tests of this file share a platform and follow one another; the last one loses its server.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.migrate import migrate
from ballast.mall.seed import DEMO_LOGIN, seed
from ballast.mall.web.app import create_app
from ballast.postgres import EmbeddedServer
from ballast.recovery import Wish, recover
from ballast.up import tenants
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from ballast.vault.vault import Vault
from tests import fix_postgres
from tests.commands import ballast
from tests.fix_mall import Goods, MallDatabase, Shop
from tests.fix_people import Visitor, first_operator_link, token_in, with_database
from tests.fix_protected import Protected
from tests.folders import new_folder
from tests.integration.mall.bringing import books_balance, environment, rows, stock_adds_up
from tests.integration.mall.rogue import ADDRESSES, BALANCES, PRICES, Member, at_once, parcel_leaves
from tests.integration.mall.shopping import Shopper, checkout_form
from tests.kept import contents

SHOPS, ORDERS, PRODUCTS = 20, 8, 5
PASSWORD = "four plain words here"
_CHILDREN_FIRST = ("posting", "refund", "payment", "shipment", "order_event", "order_line", "orders")
_FOREIGN_KEYS = """
SELECT conrelid::regclass::text, confrelid::regclass::text,
       (SELECT array_agg(attname ORDER BY n) FROM unnest(conkey) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a USING (attnum) WHERE attrelid = conrelid),
       (SELECT array_agg(attname ORDER BY n) FROM unnest(confkey) WITH ORDINALITY k(attnum, n) JOIN pg_attribute a USING (attnum) WHERE attrelid = confrelid)
  FROM pg_constraint WHERE contype = 'f' AND connamespace = 'mall'::regnamespace
"""


@dataclass
class Platform:
    """A seeded mall, its recorder and its vault."""

    server: EmbeddedServer
    database: MallDatabase
    protected: Protected
    slugs: tuple[str, ...]

    def shop(self, number: int) -> Shop:
        """A seeded shop, and one of its goods."""
        slug = self.slugs[number]
        [(shop_id, product_id, sku_id)] = self.database.run(
            "SELECT k.shop_id, k.product_id, k.sku_id FROM mall.directory d JOIN mall.product p USING (shop_id)"
            " JOIN mall.sku k USING (shop_id, product_id) JOIN mall.stock s USING (shop_id, sku_id)"
            " WHERE d.slug = %s AND p.status = 'on_sale' AND k.active ORDER BY s.on_hand - s.reserved DESC LIMIT 1",
            slug,
        )
        return Shop(self.database, shop_id, slug, [Goods(product_id, [sku_id])])

    def whole(self) -> None:
        """Foreign keys hold, books balance, stock adds up: in every shop."""
        for child, parent, columns, keys in self.database.run(_FOREIGN_KEYS):
            pairs = " AND ".join(f"p.{key} = c.{column}" for column, key in zip(columns, keys, strict=True))
            full = " AND ".join(f"c.{column} IS NOT NULL" for column in columns)
            orphans = (
                f"SELECT count(*) FROM {child} c WHERE {full} AND NOT EXISTS (SELECT FROM {parent} p WHERE {pairs})"
            )
            assert self.database.run(orphans) == [(0,)], (child, parent)
        books_balance(self.database)
        stock_adds_up(self.database)

    def command(self, *arguments: str, code: int = 0) -> str:
        """A command with the settings of this platform, which must be content; what it says."""
        said = ballast(*arguments, "--config", str(self.protected.config_path))
        assert said.returncode == code, said.stdout + said.stderr
        return said.stdout

    def told(self, *arguments: str, code: int = 0) -> Any:
        """The same as its JSON."""
        return json.loads(self.command(*arguments, "--json", code=code))


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    folder = new_folder()
    server = EmbeddedServer(folder / "server", settings={"fsync": "off"})
    protected = None
    try:
        server.start()
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE mall")
        database = MallDatabase(server.dsn("mall"))
        migrate(database.dsn)
        with psycopg.connect(database.dsn) as connection:
            shared = tenants.shared(connection)
        db = fix_postgres.Database(server, 18, "mall")
        protected = Protected(db, folder, Tenants(column="shop_id", shared=tuple(shared), counters=tenants.COUNTERS))
        protected.protect()
        protected.start()
        kept = {"pictures": str(folder / "pictures"), "sandbox_file": str(folder / "sandbox.sqlite")}
        seeded = seed(
            database.settings(**kept), shops=SHOPS, orders=ORDERS, products=PRODUCTS, pictures=0, password=PASSWORD
        )
        yield Platform(server, database, protected, seeded.slugs)
    finally:
        if protected is not None:
            protected.end()
        server.discard()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def web(platform: Platform, **settings: Any) -> Iterator[TestClient[Litestar]]:
    """A web process's application, as it goes on through all that happens to the database."""
    with TestClient(create_app(platform.database.settings(sandbox_url="http://127.0.0.1:9", **settings))) as client:
        client.headers["Accept-Language"] = "en"
        yield client


def bought(client: TestClient[Litestar], shop: Shop) -> None:
    """Somebody new buys there, at the price that the address makes it."""
    client.cookies = httpx.Cookies()  # somebody new
    shopper = Shopper(client, shop)
    shopper.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
    page = shopper.see("/checkout")
    for _ in "12":
        data = {"_csrf_token": client.cookies["csrftoken"], **checkout_form(page)}
        answer = client.post(f"{shopper.base}/checkout", data=data, follow_redirects=False)
        if answer.status_code == 303:
            return
        page = answer.text
    raise AssertionError((answer.status_code, re.findall(r'role="alert"[^<]*<?[^<]*', page), page[:500]))


def of_shop(platform: Platform, shop: Shop) -> dict[str, list[bytes]]:
    """All that a shop has, but how many looked at it: that is written when it suits."""
    found = contents(platform.protected.db, but=("visit_hour",))
    name = str(shop.shop_id).encode()
    return {
        table: [line for line in lines if name in line] for table, lines in found.items() if table.startswith("mall.")
    }


def test_a_drill_of_all_shops_is_equal(platform: Platform) -> None:
    with web(platform) as client:
        bought(client, platform.shop(3))
    said = platform.command("drill", "--all")
    assert "EQUAL" in said
    assert f"{SHOPS} of {SHOPS} tenants" in said


def test_a_shop_goes_back_with_all_that_hangs_together_while_others_sell(platform: Platform) -> None:
    harmed, selling = platform.shop(0), platform.shop(1)
    good, cut = of_shop(platform, harmed), show(platform.protected.look().cut)
    before = rows(platform.database)["orders"]
    for table in _CHILDREN_FIRST:
        platform.database.run(f"DELETE FROM mall.{table} WHERE shop_id = %s", harmed.shop_id)
    platform.database.run("UPDATE mall.sku SET price_fen = 1, compare_at_fen = NULL WHERE shop_id = %s", harmed.shop_id)
    platform.database.run("DELETE FROM mall.stock WHERE shop_id = %s", harmed.shop_id)
    assert of_shop(platform, harmed) != good
    with web(platform) as client:
        bought(client, selling)
        changed = platform.command("changes", "--vault", platform.protected.config.vault, "--tenant", str(harmed.shop_id), "--from", cut)  # fmt: skip
        assert "mall.orders" in changed
        platform.command("rewind", "--tenant", str(harmed.shop_id), "--at", cut)
        assert of_shop(platform, harmed) == good
        assert rows(platform.database)["orders"] == before + 1, "what others sold meanwhile stays"
        platform.whole()
        bought(client, harmed)
    platform.whole()
    platform.protected.verified()


def test_what_a_rogue_changed_is_undone_beside_what_was_sold_meanwhile(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(platform.database).items():
        monkeypatch.setenv(name, value)
    database, vault = platform.database, platform.protected.config.vault
    hit, selling = [platform.shop(number) for number in (7, 8, 9)], platform.shop(10)
    first, second = Member.of(hit[0]), Member.of(hit[1])
    good, elsewhere = [of_shop(platform, shop) for shop in hit], of_shop(platform, platform.shop(11))
    home, [(points,)] = (
        first.address,
        database.run("SELECT sum(points) FROM mall.customer WHERE shop_id = %s", hit[0].shop_id),
    )
    [(mine, mine_fen), (other, _)] = database.run(
        "SELECT sku_id, price_fen FROM mall.sku WHERE shop_id = %s ORDER BY sku_id = %s, sku_id LIMIT 2", hit[2].shop_id, hit[2].goods[0].sku_ids[0]
    )  # fmt: skip
    waits, leaves = first.pays_for(), second.pays_for(2)
    begin = show(platform.protected.look().cut)

    with web(platform) as client:
        at_once(database, hit, PRICES)
        for _ in "12":
            bought(client, hit[0])
        at_once(database, hit, *ADDRESSES)
        at_once(database, hit, *BALANCES)
        cheap = first.pays_for()
        parcel_leaves(hit[1], leaves, 2)
        bought(client, selling)
        # Two of its prices the shop mends itself, one of them to another price than before.
        for sku, fen in ((mine, mine_fen), (other, 77_700)):
            database.run("UPDATE mall.sku SET price_fen = %s, compare_at_fen = NULL WHERE sku_id = %s", fen, sku)
    platform.protected.sealed(platform.protected.look().cut)

    found = platform.told("changes", "--vault", vault, "--from", begin)
    worst = found["transactions"][: len(found["undo"])]
    assert sorted(found["undo"]) == sorted(one["position"] for one in worst)
    assert [(one["tenants"], one["hit"]) for one in worst] == [(3, sorted(str(shop.shop_id) for shop in hit))] * 3
    named = [word for position in found["undo"] for word in ("--transaction", position)]
    assert f"ballast undo {' '.join(named)} --dry-run" in platform.command("changes", "--vault", vault, "--from", begin)
    looked = platform.command("changes", "--vault", vault, *named, "--tenant", str(hit[0].shop_id))
    assert re.search(r"mall\.sku: \d+ changed\n    price_fen: \d+ → 1 ", looked), looked
    assert f"name: {home.name} → Mallory" in looked
    assert "points: " in looked

    shown = platform.told("undo", *named, "--dry-run", code=1)["undo"]
    [clash] = [one for one in shown["conflicts"] if other.hex == UUID(one["key"].get("sku_id", str(other))).hex and one["table"] == "mall.sku"]  # fmt: skip
    assert (clash["made"]["price_fen"], clash["found"]["price_fen"], clash["tenant"]) == (
        "1",
        "77700",
        str(hit[2].shop_id),
    )
    assert clash["before"]["price_fen"] not in ("1", "77700")
    stop, failed = threading.Event(), list[Exception]()
    with web(platform) as client, ThreadPoolExecutor(1) as pool:
        running = pool.submit(_go_on_buying, client, selling, stop, failed)
        done = platform.told("undo", *named, "--on-conflict", "merge", "--reason", "a rogue")["undo"]
        stop.set()
        sold = running.result(60)
    assert not failed, failed
    assert sold
    assert {one["tenant"]: one["left"] for one in done["by_tenant"]} == {
        str(shop.shop_id): int(shop is hit[2]) for shop in hit
    }
    assert first.address == home
    assert database.run("SELECT sum(points) FROM mall.customer WHERE shop_id = %s", hit[0].shop_id) == [(points,)]
    assert database.run("SELECT price_fen FROM mall.sku WHERE sku_id IN (%s, %s) ORDER BY price_fen = 77700", mine, other) == [(mine_fen,), (77_700,)]  # fmt: skip
    for shop, former in zip(hit, good, strict=True):
        now = of_shop(platform, shop)
        assert now["mall.address"] == former["mall.address"]
        if shop is not hit[2]:
            assert now["mall.sku"] == former["mall.sku"]
    assert of_shop(platform, platform.shop(11)) == elsewhere
    platform.whole()

    reviewed = {one["slug"]: one for one in platform.told("mall", "review", *named)}
    assert {slug: sorted(order["causes"] for order in one["orders"]) for slug, one in reviewed.items()} == {
        hit[0].slug: [["address", "price"], ["price"], ["price"]], hit[1].slug: [["sent"]], hit[2].slug: [],
    }  # fmt: skip
    assert waits not in [UUID(order["order_id"]) for one in reviewed.values() for order in one["orders"]]
    assert not any(one["new"] for one in platform.told("mall", "review", *named)), "they are exceptions already"
    with web(platform) as client:
        merchant = Visitor(client)
        assert merchant.sign_in(DEMO_LOGIN, PASSWORD).status_code == 303
        _decide(platform, merchant, hit[0], cheap)
        _decide(platform, merchant, hit[1], leaves)
    platform.whole()
    platform.protected.verified()


def _go_on_buying(client: TestClient[Litestar], shop: Shop, stop: threading.Event, failed: list[Exception]) -> int:
    sold = 0
    try:
        while not stop.is_set() or not sold:
            bought(client, shop)
            sold += 1
    except Exception as error:
        failed.append(error)
    return sold


def _decide(platform: Platform, merchant: Visitor, shop: Shop, order_id: UUID) -> None:
    """The shop's people: this order goes where it was to go or, where it has left, its money comes back after the goods. Of the
    others the first stands, and who ordered the next is asked for the right price."""
    root = f"/merchant/{shop.slug}/exceptions"
    others = 0
    for exception_id in sorted(set(re.findall(rf"{root}/([0-9a-f-]{{36}})", merchant.get(root).text))):
        at = f"{root}/{exception_id}"
        [(about,)] = platform.database.run("SELECT order_id FROM mall.exception WHERE exception_id = %s", exception_id)
        page = merchant.get(at).text
        if about != order_id and not others:
            assert "价格有误" in page
            assert merchant.post(f"{at}/stand").status_code == 303
            others += 1
        elif about != order_id:
            words = re.search(r'<textarea[^>]*name="answer"[^>]*>([^<]+)<', page)
            assert words is not None
            assert merchant.post(f"{at}/give-back", {"remedy": "ask", "answer": ""}).status_code == 422
            assert merchant.post(f"{at}/give-back", {"remedy": "ask", "answer": words[1]}).status_code == 303
            told = platform.database.run("SELECT status, cancel_reason FROM mall.orders WHERE order_id = %s", about)
            assert told == [("cancelled", words[1])]
        elif "包裹寄往了" in page:
            assert merchant.post(f"{at}/address").status_code == 422
            back = {"remedy": "refund", "answer": "It went astray"}
            assert merchant.post(f"{at}/give-back", back).status_code == 303
            sent = "SELECT status, with_return FROM mall.refund WHERE order_id = %s"
            assert platform.database.run(sent, about) == [("awaiting_return", True)]
        else:
            assert "Mallory" in page
            assert merchant.post(f"{at}/address").status_code == 303
            [(name,)] = platform.database.run("SELECT address->>'name' FROM mall.orders WHERE order_id = %s", about)
            assert name not in ("Mallory", "")
        assert merchant.post(f"{at}/stand").status_code == 422, "it is settled"
    left = "SELECT count(*) FROM mall.exception WHERE settled_at IS NULL AND shop_id = %s"
    assert platform.database.run(left, shop.shop_id) == [(0,)]


def test_after_the_loss_of_everything_a_shop_is_there_when_somebody_comes(platform: Platform) -> None:
    asked, unasked = platform.shop(4), platform.shop(5)
    token = with_database(platform.database, first_operator_link)
    over = threading.Event()
    with web(platform) as client, ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as at_end:
        at_end.callback(over.set)
        operator = Visitor(client)
        assert operator.make_account(token, "root").status_code == 303
        merchant = Visitor(client)
        assert merchant.sign_in(DEMO_LOGIN, PASSWORD).status_code == 303
        assert operator.get("/platform").status_code == 200
        guest = Visitor(client)
        before, sums = rows(platform.database), of_shop(platform, unasked)

        platform.server.discard()  # killed, and its folder is removed
        platform.protected.stop()
        lost = _settled(guest, f"/s/{asked.slug}/", 503)
        assert int(lost.headers["retry-after"]) > 0

        platform.server.start()
        with psycopg.connect(platform.server.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE mall")
        assert _settled(guest, f"/s/{asked.slug}/", 503).headers["retry-after"]
        vault = Vault.open(platform.protected.config.vault)
        running = pool.submit(recover, vault, vault.resolve(None), platform.database.dsn, Wish(asked_only=over))
        _settled(guest, f"/s/{asked.slug}/", 200, until=lambda: not running.done())
        back = platform.database.run("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL")
        assert back == [(str(asked.shop_id),)], "nobody asked for another one"
        bought(client, asked)
        # Merchants of a shop wait for that shop alone; what looks at all shops says that it cannot yet.
        _settled(merchant, f"/merchant/{unasked.slug}", 200)
        for visitor, path in ((operator, "/platform"), (merchant, "/merchant")):
            # The first answer may be that a connection of long ago is broken.
            told = [visitor.get(path) for _ in "12"][1]
            assert (told.status_code, told.headers["retry-after"]) == (503, "10"), told.text
            assert "brought back" in told.text
        assert operator.get("/platform/shops").status_code == 200
        opened = operator.post(
            "/platform/open", {"slug": "new", "name": "New", "industry": "food", "plan": "basic", "language": "en"}
        )
        assert opened.status_code == 200, opened.text
        assert token_in(opened.text)
        client.cookies = httpx.Cookies()  # somebody new
        assert client.get("/s/new/").status_code == 200
        over.set()
        running.result(30)

        # Nobody recovers just now: a shop that is not back is not served, and not as an empty one either.
        third = platform.slugs[6]
        client.cookies = httpx.Cookies()  # somebody new
        waiting = client.get(f"/s/{third}/")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
        refused = client.get(f"/api/v1/shops/{third}")
        assert (refused.status_code, refused.json()["code"]) == (503, "coming_back")

        assert recover(vault, vault.resolve(None), platform.database.dsn).proven
        for slug in platform.slugs:
            assert client.get(f"/s/{slug}/").status_code == 200
        assert operator.get("/platform").status_code == 200
        assert not client.app.state.db.recovering
    after = rows(platform.database)
    # One order and one shop more, and who came and went; what was there is there.
    assert {table: after[table] for table in ("product", "sku", "posting", "refund")} == {
        table: before[table] for table in ("product", "sku", "posting", "refund")
    }
    assert (after["orders"], after["shop"]) == (before["orders"] + 1, before["shop"] + 1)
    assert of_shop(platform, unasked) == sums
    platform.whole()


def _settled(visitor: Visitor, path: str, status: int, until: Callable[[], bool] = lambda: True) -> httpx.Response:
    """The answer, when it is that; meanwhile it may be 503 and nothing else that a browser would take for an answer."""
    deadline = time.monotonic() + 60
    while True:
        answer = visitor.get(path)
        if answer.status_code == status:
            return answer
        assert answer.status_code in (200, 503), answer.text
        assert until(), "it has ended"
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
