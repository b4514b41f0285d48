"""A member in a real browser: addresses kept, chosen and added at the checkout; a password changed, forgotten, and set anew by a
code that the shop's owner reads from the customer's page. What `test_every_page` does not come to is looked at as there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from ballast.mall import links
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from tests.deep import mostly_deep
from tests.e2e.looking import PICTURES, VIEWS, Watched, look, open_window
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import PASSWORD, with_database
from tests.integration.mall.test_sandbox import Both

PHONE, OTHER = "13900000000", "four other words now"


@pytest.fixture(scope="module")
def both(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    running = Both(mall_database, tmp_path_factory.mktemp("both"))
    try:
        running.start("mall")
        yield running
    finally:
        running.stop("mall")


def _fill(page: Page, street: str, name: str = "林小雨") -> None:
    page.locator("#name").fill(name)
    page.locator("#phone").fill("13800000000")
    page.locator("#province").select_option("浙江省")
    page.locator("#city").fill("杭州市")
    page.locator("#district").fill("西湖区")
    page.locator("#street").fill(street)


def _buy(page: Page, shop: Shop, base: str) -> None:
    page.goto(f"{base}/products/{shop.goods[0].product_id}")
    page.locator("button[value=buy]").click()
    expect(page.locator("button[value=place]")).to_be_visible()


def _login(page: Page, base: str, password: str) -> None:
    page.goto(f"{base}/login")
    page.locator("#login").fill(PHONE)
    page.locator("#password").fill(password)
    page.locator("main button").click()


@pytest.mark.parametrize("view", mostly_deep(VIEWS, "phone-zh"))
def test_addresses_and_passwords(browser: Browser, both: Both, open_shop: OpenShop, view: str) -> None:
    shop = open_shop(products=1, name="龙井茶铺")
    shop.database.run(
        "UPDATE mall.shop SET name_en = 'Longjing Tea House', service_phone = '400-800-0000' WHERE shop_id = %s",
        shop.shop_id,
    )
    base = f"{both.settings.base_url}/s/{shop.slug}"
    window, wrong = open_window(browser, view), list[str]()
    page = window.page

    def seen(name: str, status: int = 200, *, elsewhere: bool = False) -> None:
        if PICTURES or not elsewhere:
            wrong.extend(look(window, f"member-{name}", status=status))

    page.goto(f"{base}/register")
    page.locator("#name").fill("林小雨")
    page.locator("#login").fill(PHONE)
    page.locator("#password").fill(PASSWORD)
    page.locator("main button").click()
    seen("me", elsewhere=True)
    page.locator("a[href$='/me/addresses']").click()
    seen("addresses-none", elsewhere=True)

    # The first order: what is typed is kept, since the box is ticked.
    _buy(page, shop, base)
    expect(page.locator("input[name=remember]")).to_be_checked()
    _fill(page, "龙井路 1 号")
    seen("checkout-first", elsewhere=True)
    page.locator("button[value=place]").click()
    page.wait_for_url("**/orders/**")
    window.drain()

    page.goto(f"{base}/me/addresses/new")
    seen("address-new", elsewhere=True)
    _fill(
        page,
        "Long Lane 88, Building 12, Room 3401, behind the old tea market by the east gate",
        "Alexandra Hamilton-Smythe",
    )
    page.locator("input[name=usual]").check()
    page.locator("main button").click()
    expect(page.locator("[role=status]")).to_be_visible()
    seen("addresses", elsewhere=True)
    page.locator("main a[href*='/me/addresses/']").nth(1).click()
    expect(page.locator("#street")).to_have_value("龙井路 1 号")
    seen("address-edit", elsewhere=True)

    # The usual one is chosen, without a script; the fields are for another one.
    _buy(page, shop, base)
    chosen = page.locator("input[name=address]:checked")
    expect(chosen).to_have_count(1)
    expect(page.locator("#street")).to_be_hidden()
    seen("checkout-book")
    chosen.focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#address-new")).to_be_checked()
    expect(page.locator("#street")).to_be_visible()
    seen("checkout-other")
    page.locator("input[name=address]").nth(1).check(force=True)
    expect(page.locator("#street")).to_be_hidden()
    page.locator("button[value=place]").click()
    page.wait_for_url("**/orders/**")
    window.drain()
    went = shop.database.run(
        "SELECT address->>'street' FROM mall.orders WHERE shop_id = %s ORDER BY placed_at", shop.shop_id
    )
    assert went == [("龙井路 1 号",), ("龙井路 1 号",)]

    page.goto(f"{base}/me/account")
    page.locator("#present").fill("not this one")
    page.locator("#password").fill(OTHER)
    page.locator("#again").fill(OTHER)
    page.locator("form[action$='/me/password'] button").click()
    expect(page.locator("[role=alert]")).to_be_visible()
    seen("account-wrong", 409)
    page.locator("#present").fill(PASSWORD)
    page.locator("#password").fill(OTHER)
    page.locator("#again").fill(OTHER)
    page.locator("form[action$='/me/password'] button").click()
    expect(page.locator("[role=status]")).to_be_visible()
    seen("account", elsewhere=True)
    page.goto(f"{base}/me")
    page.locator("form[action$='/logout'] button").click()

    # Forgotten: a code from the shop.
    page.goto(f"{base}/login")
    seen("login", elsewhere=True)
    page.locator("a[href$='/reset']").click()
    seen("reset", elsewhere=True)
    page.locator("#login").fill(PHONE)
    page.locator("#code").fill(_code(browser, both, shop, view, wrong))
    page.locator("#password").fill(PASSWORD)
    page.locator("#again").fill(PASSWORD)
    page.locator("main button").click()
    page.wait_for_url("**/me?said=password")
    seen("me-reset", elsewhere=True)
    page.locator("form[action$='/logout'] button").click()
    _login(page, base, PASSWORD)
    page.wait_for_url("**/me")
    window.context.close()
    assert not wrong, "\n".join(wrong)


def _owner(window: Watched, both: Both, shop: Shop) -> Page:
    """The shop's owner, who follows an invitation."""

    async def invite(db: Database) -> str:
        async with db.identity() as connection:
            return await links.invite(connection, shop.shop_id, "owner", datetime.now(UTC))

    page = window.page
    page.goto(f"{both.settings.base_url}/link/{with_database(shop.database, invite)}?lang={window.lang[:2]}")
    made = {"login": f"owner-{shop.slug}", "name": "林掌柜", "password": PASSWORD, "again": PASSWORD}
    for name, value in made.items():
        page.locator(f"[name={name}]").fill(value)
    page.locator("form[action$='/account'] button").click()
    page.wait_for_url("**/merchant/**")
    window.drain()
    return page


def _code(browser: Browser, both: Both, shop: Shop, view: str, wrong: list[str]) -> str:
    """What the owner reads."""
    window = open_window(browser, view)
    page = _owner(window, both, shop)
    customer = shop.database.run("SELECT customer_id FROM mall.customer WHERE shop_id = %s", shop.shop_id)[0][0]
    page.goto(f"{both.settings.base_url}/merchant/{shop.slug}/customers/{customer}")
    page.locator("form[action*='/reset-code'] button").click()
    code = page.locator("#reset .h1").inner_text()
    wrong.extend(look(window, "merchant-reset-code"))
    page.goto(f"{both.settings.base_url}/merchant/{shop.slug}/audit")
    wrong.extend(look(window, "merchant-audit"))
    window.context.close()
    return code


@pytest.mark.parametrize("view", mostly_deep(VIEWS, "desktop-en"))
def test_a_webhook_that_was_turned_off_is_told_on_the_dashboard(
    browser: Browser, both: Both, open_shop: OpenShop, view: str
) -> None:
    shop = open_shop()
    window = open_window(browser, view)
    page = _owner(window, both, shop)
    page.goto(f"{both.settings.base_url}/merchant/{shop.slug}")
    expect(page.locator("[role=alert]")).to_have_count(0)
    for url, removed in (
        ("https://till.example.com/hooks/orders", None),
        ("https://gone.example.com", datetime.now(UTC)),
    ):
        shop.database.run(
            "INSERT INTO mall.webhook (shop_id, webhook_id, url, secret, kinds, active, failing_since, stopped_at, removed_at)"
            " VALUES (%s, %s, %s, '', '{order.paid}', false, now() - interval '5 days', now(), %s)",
            shop.shop_id, new_id(), url, removed,
        )  # fmt: skip
    page.reload()
    expect(page.locator("[role=alert]")).to_have_count(1)
    wrong = look(window, "merchant-webhook-stopped")
    page.locator("[role=alert] a").click()
    page.wait_for_url("**/webhooks/**")
    window.context.close()
    assert not wrong, "\n".join(wrong)
