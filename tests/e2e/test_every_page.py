"""Every page that the mall answers with, in a real browser: signed in as each kind of person, from the home on along all links.

A page is known by its route. Of a route that many addresses have (an order, a product) a few are opened. At the end no route of
the face may be left that nobody has come to. `looking.look` says what must hold for each.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from urllib.parse import parse_qsl, urldefrag, urljoin, urlsplit
from uuid import UUID

import httpx
import pytest
from litestar.routes import HTTPRoute
from playwright.sync_api import Browser, expect

from ballast.mall import exceptions, gift_cards, keys, review, staff
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.deed_kinds import Cancelled
from ballast.mall.gift_cards import Terms
from ballast.mall.ids import new_id
from ballast.mall.order_life import Unknown
from ballast.mall.owner import Owner
from ballast.mall.rules.reviewing import Cause, Questioned, WrongLine
from ballast.mall.seed import DEMO_LOGIN, DEMO_PHONE, Seeded, seed
from ballast.mall.settings import Settings
from ballast.mall.web.app import create_app
from ballast.mall.webhooks import endpoints, signature
from tests.deep import mostly_deep
from tests.e2e.looking import PICTURES, VIEWS, Watched, look, open_window
from tests.fix_mall import MallDatabase
from tests.fix_people import PASSWORD, first_operator_link, with_database
from tests.integration.mall.journals import kept_apart
from tests.integration.mall.test_sandbox import Both

_OF_ONE_ROUTE = 2
"""Of a route with parameters so many addresses are opened."""
_MORE = {"/merchant/{slug:str}/exceptions/{exception_id:uuid}": 3}
"""One of each kind."""
_FILES = re.compile(r"\.(csv|xlsx|json)$|^/pictures/|^/healthz|^/static")
_VARIABLE = {"uuid": "[0-9a-f-]{36}", "str": "[^/]+"}
_LINKS = """() => [
    ...[...document.querySelectorAll('a[href], iframe[src]')].map((one) => one.href || one.src),
    ...[...document.querySelectorAll('form')].filter((one) => one.method === 'get')
        .map((one) => `${one.action.split('?')[0]}?${new URLSearchParams(new FormData(one))}`),
]"""


@dataclass(frozen=True)
class Platform:
    """The running mall with seeded shops, and where it stands."""

    both: Both
    database: MallDatabase
    seeded: Seeded

    @property
    def url(self) -> str:
        return self.both.settings.base_url

    @property
    def shop(self) -> str:
        """The shop that is looked at."""
        return self.seeded.slugs[0]

    @property
    def shop_id(self) -> UUID:
        found: UUID = self.database.run("SELECT shop_id FROM mall.directory WHERE slug = %s", self.shop)[0][0]
        return found


@pytest.fixture(scope="module")
def platform(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("both")
    both = Both(mall_database, folder, pictures=str(folder / "pictures"))
    try:
        both.start("sandbox")
        both.start("mall")
        seeded = seed(both.settings, shops=2, orders=120, products=30, pictures=1, password=PASSWORD)
        yield _dressed(Platform(both, mall_database, seeded))
    finally:
        both.stop("mall")
        both.stop("sandbox")


def _dressed(platform: Platform) -> Platform:
    """What a seeded shop lacks and what has pages: a key, a webhook, gift cards, exceptions, somebody invited, an operator."""
    now, by, shop_id = datetime.now(UTC), By(None, "test"), platform.shop_id

    async def work(database: Database) -> str:
        async with database.shop(shop_id) as connection:
            safe = signature.safe(platform.database.secret)
            await endpoints.register(
                connection, shop_id, "https://example.com/hook", endpoints.KINDS[:3], by, now, safe=safe, private=True
            )
            await keys.make(connection, shop_id, name="Warehouse", scopes=keys.SCOPES, days=30, by=by, now=now)
            terms = Terms(2, 20_000, None, "周年庆 Anniversary")
            await gift_cards.issue(connection, shop_id, terms, key="k", by=by, actor="account:x", now=now)
            goods = await connection.execute(
                "SELECT sku_id FROM mall.sku JOIN mall.stock USING (shop_id, sku_id) WHERE active AND on_hand - reserved > 5 LIMIT 2"
            )
            skus = [row["sku_id"] for row in await goods.fetchall()]
            member = await (
                await connection.execute("SELECT customer_id FROM mall.customer WHERE phone = %s", (DEMO_PHONE,))
            ).fetchone()
            assert member is not None
            await kept_apart(connection, Owner(customer_id=member["customer_id"]), skus)
            gone = Cancelled(new_id(), "shopper", "visitor:x", "", now)
            await exceptions.keep(connection, "cancelled:x", "cancelled", gone, Unknown(gone.order_id), now)
            await review.question(connection, [await _doubtful(connection)], "a change", now)
        async with database.identity() as connection:
            await staff.invite(connection, shop_id, "clerk", by, now)
        return await first_operator_link(database)

    token = with_database(platform.database, work)
    with httpx.Client(base_url=platform.url) as client:
        shown = re.search(r'name="_csrf_token" value="([^"]+)"', client.get(f"/link/{token}").text)
        assert shown is not None
        made = {"_csrf_token": shown[1], "login": "root", "name": "Root", "password": PASSWORD, "again": PASSWORD}
        assert client.post(f"/link/{token}/account", data=made).headers["location"] == "/platform"
    return platform


async def _doubtful(connection: Connection) -> Questioned:
    """One of the shop's orders that are to be sent, as if it had come about by a wrong price and a swapped address."""
    cursor = await connection.execute(
        "SELECT order_id, number, owner_id, l.title, l.title_en, l.quantity FROM mall.orders JOIN mall.order_line l USING (shop_id, order_id)"
        " WHERE status = 'paid' AND delivery = 'ship' LIMIT 1"
    )
    row = await cursor.fetchone()
    assert row is not None
    line = WrongLine(1, row["title"], row["title_en"], row["quantity"], 1, 12_900)
    right = {"name": "林小雨", "phone": "13800000000", "province": "浙江省", "city": "杭州市", "street": "龙井路 1 号"}
    wrong = {**right, "name": "Mallory", "street": "Back door 1"}
    causes: tuple[Cause, ...] = ("address", "price")
    return Questioned(row["order_id"], row["number"], row["owner_id"], causes, (line,), wrong, right)


def _invited(platform: Platform) -> str:
    async def work(database: Database) -> str:
        async with database.identity() as connection:
            return await staff.invite(connection, platform.shop_id, "clerk", By(None, "test"), datetime.now(UTC))

    return with_database(platform.database, work)


def _stranger(window: Watched, platform: Platform) -> list[str]:
    shop = f"/s/{platform.shop}"
    return [
        "/signin",
        f"/link/{_invited(platform)}",
        f"/link/{'x' * 43}",
        "/api/v1/docs",
        "/api/v1/openapi.json",
        f"{shop}/login",
        f"{shop}/register",
        f"{shop}/reset",
        f"{shop}/me",
    ]


def _shopper(window: Watched, platform: Platform) -> list[str]:
    """A member who has had orders, has placed one that is not paid, and has something in the cart."""
    page, shop = window.page, f"{platform.url}/s/{platform.shop}"
    page.goto(f"{shop}/login")
    page.locator("#login").fill(DEMO_PHONE)
    page.locator("#password").fill(PASSWORD)
    page.locator("main button").click()
    product = platform.database.run(
        "SELECT product_id FROM mall.product WHERE shop_id = %s AND status = 'on_sale' ORDER BY min_price_fen DESC LIMIT 1",
        platform.shop_id,
    )[0][0]
    # One order is paid, at the provider's; one is not; something is in the cart.
    for pays in (True, False):
        page.goto(f"{shop}/products/{product}")
        page.locator("button[value=buy]").click()
        page.locator("#address-new").check(force=True)  # he has an address in his book
        page.locator("#name").fill("林小雨")
        page.locator("#phone").fill("13800000000")
        page.locator("#province").select_option("浙江省")
        page.locator("#city").fill("杭州市")
        page.locator("#street").fill("龙井路 1 号")
        page.locator("button[value=place]").click()
        page.wait_for_url("**/pay")
        to_pay = page.url
        if pays:
            page.locator("#pay").click()
            page.locator("button[value=pay]").click()
            page.wait_for_url("**/paid")
            expect(page.locator("h1")).to_have_text("支付成功" if window.lang == "zh-CN" else "Paid")
            paid = page.url
    page.goto(f"{shop}/products/{product}")
    page.locator("button[value=cart]").click()
    expect(page.locator("main h1")).to_be_visible()
    page.wait_for_load_state("networkidle")
    waits = platform.database.run("SELECT order_id FROM mall.exception WHERE kind = 'checkout'")[0][0]
    return [
        f"{shop}/",
        f"{shop}/login",
        f"{shop}/register",
        f"{shop}/reset",
        to_pay,
        paid,
        f"{paid.removesuffix('/paid')}/refund",
        f"{shop}/orders/{waits}",
    ]


def _sign_in(window: Watched, platform: Platform, login: str) -> None:
    # An account has a language of its own, which goes before the browser's; what was chosen goes before both.
    window.page.goto(f"{platform.url}/signin?lang={window.lang[:2]}")
    window.page.locator("#login").fill(login)
    window.page.locator("#password").fill(PASSWORD)
    window.page.locator("main button").click()
    window.page.wait_for_url(re.compile(r"/(merchant|platform)"))


def _merchant(window: Watched, platform: Platform) -> list[str]:
    _sign_in(window, platform, DEMO_LOGIN)
    # Whether there is a refund to decide on depends on the day: one that is decided has the same page.
    return ["/merchant", f"/merchant/{platform.shop}", f"/merchant/{platform.shop}/refunds?state=all"]


def _operator(window: Watched, platform: Platform) -> list[str]:
    _sign_in(window, platform, "root")
    return ["/platform", "/account"]


# Who looks, and the paths that are his to follow.
_FACES = {
    "stranger": (_stranger, ("/signin", "/link", "/api")),
    "shopper": (_shopper, ("/s/",)),
    "merchant": (_merchant, ("/merchant",)),
    "operator": (_operator, ("/platform", "/account")),
}


_EACH_TIME = (
    ("stranger", "phone-zh"),
    ("shopper", "phone-zh"),
    ("merchant", "desktop-en"),
    ("operator", "desktop-en"),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("face", "view"), mostly_deep(product(_FACES, VIEWS), *_EACH_TIME))
def test_every_page_of_the_face_is_in_order(platform: Platform, browser: Browser, face: str, view: str) -> None:
    enter, own = _FACES[face]
    window = open_window(browser, view)
    routes = _routes()
    queue = deque(urljoin(platform.url, one) for one in enter(window, platform))
    window.drain()
    opened: set[str] = set(queue)
    times: Counter[tuple[str, tuple[str, ...]]] = Counter()
    wrong: list[str] = []
    starts = len(queue)
    while queue:
        url = queue.popleft()
        path = urlsplit(url).path.rstrip("/") or "/"
        route = _route_of(routes, path)
        known = (route, tuple(sorted(name for name, _ in parse_qsl(urlsplit(url).query))))
        starts -= 1
        if starts < 0 and times[known] >= _at_most(route):
            continue
        times[known] += 1
        if _FILES.search(path):
            if (status := window.context.request.get(url, max_retries=2).status) != 200:
                wrong.append(f"{path}: {status}")
            continue
        answer = window.page.goto(url)
        if path == "/api/v1/docs":
            window.page.locator("main h1").wait_for()
        status = answer.status if answer else 0
        if status != (410 if "x" * 43 in path else 200):
            wrong.append(f"{path}: {status}")
        landed = _route_of(routes, urlsplit(window.page.url).path.rstrip("/") or "/")
        times[(landed, ())] += landed != route
        name = re.sub(r"[^\w]+", "-", f"{face}{landed.replace('{slug:str}/', '')}").strip("-")
        wrong += look(
            window,
            f"{name}-{times[known]}{'-'.join(known[1])}",
            status=status,
            axe=path != "/api/v1/docs",  # Swagger UI's own
        )
        for found in window.page.evaluate(_LINKS):
            found = urldefrag(found).url
            if (
                found.startswith(f"{platform.url}/")
                and urlsplit(found).path.startswith(own)
                and found not in opened
                and "lang=" not in found
            ):
                opened.add(found)
                queue.append(found)
    window.context.close()
    if PICTURES:
        Path(PICTURES, f"{face}-{view}.txt").write_text("\n".join(wrong))
    come_to = {route for route, _ in times}
    missed = sorted(route for route in routes if route.startswith(own) and route not in come_to)
    assert not missed, f"nobody came to {missed}"
    assert not wrong, "\n".join(wrong)


def _routes() -> dict[str, re.Pattern[str]]:
    """The paths of all that answers to GET, those with the fewest variables first."""
    found = {
        one.path: re.compile(
            "".join(
                re.escape(part) if at % 2 == 0 else _VARIABLE[part.split(":")[1]]
                for at, part in enumerate(re.split(r"[{}]", one.path))
            )
        )
        for one in create_app(Settings(app_dsn="", identity_dsn="", platform_dsn="", secret="x" * 32)).routes
        if isinstance(one, HTTPRoute)
        and "GET" in one.methods
        and not one.path.startswith(("/static", "/api/v1/shops", "/api/v1/merchant"))
    }
    return dict(sorted(found.items(), key=lambda one: one[0].count("{")))


def _at_most(route: str) -> int:
    return _MORE.get(route, _OF_ONE_ROUTE if "{" in route.replace("{slug:str}", "") else 1)


def _route_of(routes: dict[str, re.Pattern[str]], path: str) -> str:
    """The one that answers to a path; a path that none does stands for itself."""
    return next((route for route, pattern in routes.items() if pattern.fullmatch(path)), path)
