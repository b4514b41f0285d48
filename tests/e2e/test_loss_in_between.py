"""A shopper in a real browser buys while the platform's database is removed between two of his clicks: each gap is tried (by `make test-all`;
those before a basket, an order and a payment each time).

He sees no error and waits for nothing that he would notice; afterwards his order is in the new database, once, and paid once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from ballast.continuity.board import Board
from ballast.continuity.helm import BOARD
from tests.deep import mostly_deep
from tests.fix_mall import Shop, open_a_shop
from tests.folders import new_folder
from tests.integration.test_up import Up

Step = Callable[[Page, Up, Shop], None]


def _to_home(page: Page, up: Up, shop: Shop) -> None:
    page.goto(f"{up.url}/s/{shop.slug}/")


def _to_product(page: Page, up: Up, shop: Shop) -> None:
    page.goto(f"{up.url}/s/{shop.slug}/products/{shop.goods[0].product_id}")


def _into_cart(page: Page, up: Up, shop: Shop) -> None:
    page.locator("button[value=cart]").click()
    expect(page.locator(".tabs__badge")).to_have_text("1")


def _to_checkout(page: Page, up: Up, shop: Shop) -> None:
    page.locator("a[href$='/checkout']").click()
    expect(page.locator("#name")).to_be_visible()


def _place(page: Page, up: Up, shop: Shop) -> None:
    page.locator("#name").fill("林小雨")
    page.locator("#phone").fill("13800000000")
    page.locator("#province").select_option("浙江省")
    page.locator("#city").fill("杭州市")
    page.locator("#street").fill("龙井路 1 号")
    page.locator("button[value=place]").click()
    expect(page.locator("#pay")).to_be_visible()


def _to_provider(page: Page, up: Up, shop: Shop) -> None:
    page.locator("#pay").click()
    expect(page.locator("button[value=pay]")).to_be_visible()


def _pay(page: Page, up: Up, shop: Shop) -> None:
    page.locator("button[value=pay]").click()
    expect(page.locator("h1")).to_have_text("支付成功")


def _to_order(page: Page, up: Up, shop: Shop) -> None:
    page.locator("main a").click()
    expect(page.locator(".state")).to_have_text("待发货")


ORDERS: list[str] = []
"""Of this run of the tests, which share a platform."""
STEPS: tuple[Step, ...] = (_to_home, _to_product, _into_cart, _to_checkout, _place, _to_provider, _pay, _to_order)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    folder = new_folder()
    running = Up(folder / "data")
    running.folder.mkdir(mode=0o755)
    try:
        running.ensure()
        running.shop = open_a_shop(running.database, "lin", products=1)
        yield running
    finally:
        running.discard()
        shutil.rmtree(folder, ignore_errors=True)


def _lose(up: Up) -> None:
    """As who deletes a database does it: its processes killed, its files removed."""
    up.server.kill()
    shutil.rmtree(up.folder / "server" / "pgdata", ignore_errors=True)


@pytest.mark.parametrize(
    "gap",
    mostly_deep(range(1, len(STEPS)), *map(STEPS.index, (_into_cart, _place, _pay))),
    ids=lambda gap: f"before{STEPS[gap].__name__}",
)
def test_the_database_is_removed_between_two_clicks(browser: Browser, up: Up, gap: int) -> None:
    up.ensure()
    shop = up.shop
    assert shop is not None
    board = Board(up.folder / "continuity" / BOARD)
    up.until(lambda: board.course().mode == "home", "everybody to be at home")
    context = browser.new_context(viewport={"width": 390, "height": 844}, locale="zh-CN")
    context.set_default_timeout(30_000)
    page = context.new_page()
    wrong: list[str] = []

    def heard(response: Response) -> None:
        if response.status >= 400:
            wrong.append(f"{response.status} {response.url}")

    context.on("response", heard)
    before = board.course().number
    for number, step in enumerate(STEPS):
        if number == gap:
            _lose(up)
        step(page, up, shop)
    order = page.url.rsplit("/", 1)[1].partition("?")[0]
    up.until(lambda: board.course().number > before and board.course().mode == "home", "everybody to be home again")
    page.reload()
    expect(page.locator(".state")).to_have_text("待发货")
    context.close()
    assert wrong == []
    found = up.database.run(
        "SELECT o.status, count(p.payment_id) FILTER (WHERE p.status = 'succeeded'), count(DISTINCT o.order_id)"
        " FROM mall.orders o LEFT JOIN mall.payment p USING (shop_id, order_id)"
        " WHERE o.buyer_name = '林小雨' AND o.order_id = %s GROUP BY 1",
        order,
    )
    assert found == [("paid", 1, 1)]
    ORDERS.append(order)
    assert up.database.run("SELECT count(*) FROM mall.orders") == [(len(ORDERS),)], "one of each run"
