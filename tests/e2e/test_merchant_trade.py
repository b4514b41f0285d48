"""An order in a real browser from both sides: bought and paid, sent, brought back, its money paid back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from ballast.mall import jobs, links
from ballast.mall.db import Database
from ballast.mall.ids import new_id
from ballast.mall.payments.providers import providers
from tests.deep import mostly_deep
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import PASSWORD, with_database
from tests.integration.mall.test_sandbox import Both
from tests.integration.mall.trading import history, paid_order, refund_asked

_PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
"""A folder to keep screenshots in, to be looked at."""
_SAID = {
    "zh-CN": {"state": "待发货", "sent": "已发货", "carrier": "顺丰速运", "asked": "待处理", "paying": "退款中", "back": "已退款"},
    "en-GB": {"state": "To send", "sent": "Shipped", "carrier": "SF Express", "asked": "Requested", "paying": "Being paid back", "back": "Paid back"},
}  # fmt: skip


@pytest.fixture
def both(mall_database: MallDatabase, tmp_path: Path) -> Iterator[Both]:
    with Both(mall_database, tmp_path) as running:
        yield running


def _person(browser: Browser, complaints: list[str], width: int, height: int, locale: str) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    context.set_default_timeout(30_000)

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context.on("console", heard)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("dialog", lambda dialog: dialog.accept())
    return context


def _merchant(context: BrowserContext, database: MallDatabase, shop: Shop, base: str) -> Page:
    """The shop's owner, who follows an invitation."""

    async def invite(db: Database) -> str:
        async with db.identity() as connection:
            return await links.invite(connection, shop.shop_id, "owner", datetime.now(UTC))

    page = context.new_page()
    page.goto(f"{base}/link/{with_database(database, invite)}")
    for name, value in {
        "login": f"owner-{shop.slug}",
        "name": "林掌柜",
        "password": PASSWORD,
        "again": PASSWORD,
    }.items():
        page.locator(f"input[name={name}]").last.fill(value)
    page.locator("input[name=again]").press("Enter")
    page.wait_for_url(f"**/merchant/{shop.slug}**")
    return page


def _filled(shop: Shop) -> None:
    """Some days of trade, so that there is something to look at."""
    now = datetime.now(UTC)
    history(
        shop,
        [
            (
                now - timedelta(hours=7 * n),
                6800 + 3100 * (n % 5),
                n % 4 > 0,
                0,
                1 + n % 3,
                n % 3,
                "web" if n % 3 else "api",
            )
            for n in range(1, 60)
        ],
    )
    shop.database.run(
        "INSERT INTO mall.visit_hour (shop_id, hour, views, visitors, carts, checkouts)"
        " SELECT %s, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 40 + n %% 17, 9 + n %% 5, 4, 2 FROM generate_series(1, 180) n",
        shop.shop_id,
    )
    shop.database.run(
        'UPDATE mall.shop SET levels = \'[{"name": "银卡", "name_en": "Silver", "from_fen": 0}, {"name": "金卡", "name_en": "Gold", "from_fen": 100000}]\''
        " WHERE shop_id = %s",
        shop.shop_id,
    )
    for n in range(3):
        customer_id = new_id()
        shop.database.run(
            "INSERT INTO mall.customer (shop_id, customer_id, name, phone, level, points, spent_fen) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            shop.shop_id, customer_id, ["王大明", "李娜", "Alex Chen"][n], f"1390000000{n}", 1 + n % 2, 120 * n, 98_000 * n,
        )  # fmt: skip
        shop.database.run(
            "INSERT INTO mall.address (shop_id, address_id, customer_id, name, phone, province, city, street, is_default) VALUES (%s, %s, %s, '王大明', '13900000000', '浙江省', '杭州市', '龙井路 1 号', true)",
            shop.shop_id, new_id(), customer_id,
        )  # fmt: skip
        shop.database.run(
            "UPDATE mall.orders SET customer_id = %s WHERE shop_id = %s AND order_id IN (SELECT order_id FROM mall.orders WHERE shop_id = %s ORDER BY order_id LIMIT 5 OFFSET %s)",
            customer_id, shop.shop_id, shop.shop_id, 5 * n,
        )  # fmt: skip


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("width", "height", "locale"),
    mostly_deep([(390, 844, "zh-CN"), (1280, 800, "en-GB")], (1280, 800, "en-GB")),
    ids=["phone-zh", "desktop-en"],
)
def test_bought_sent_brought_back_and_paid_back(
    browser: Browser,
    both: Both,
    mall_database: MallDatabase,
    open_shop: OpenShop,
    width: int,
    height: int,
    locale: str,
) -> None:
    said = _SAID[locale]
    language = locale[:2]
    base = both.settings.base_url
    shop = open_shop(name="龙井茶铺 Tea House")
    shop.add_product("明前龙井 特级绿茶 250g", price_fen=12800, title_en="Longjing green tea, 250 g", stock=4)
    shop.add_product("手工紫砂壶", price_fen=36800, title_en="Hand-made clay teapot")
    shop.add_product("桂花乌龙", price_fen=6800, title_en="Osmanthus oolong")
    _filled(shop)
    complaints: list[str] = []
    buyers = _person(browser, complaints, width, height, locale)
    shoppers, store = buyers.new_page(), f"{base}/s/{shop.slug}"
    owners = _person(browser, complaints, width, height, locale)
    owner = _merchant(owners, mall_database, shop, base)
    root = f"{base}/merchant/{shop.slug}"

    def look(page: Page, name: str) -> None:
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if _PICTURES:
            page.screenshot(path=f"{_PICTURES}/merchant-{name}-{locale}.png", full_page=True)
        assert overflow <= 0, f"{name} is {overflow} px too wide"

    # The shopper buys two and pays.
    shoppers.goto(f"{store}/products/{shop.goods[0].product_id}")
    shoppers.locator("input[name=quantity]").fill("2")
    shoppers.locator("button[value=buy]").click()
    for field, value in {"name": "林小雨", "phone": "13800000000", "city": "杭州市", "street": "龙井路 1 号"}.items():
        shoppers.locator(f"#{field}").fill(value)
    shoppers.locator("#province").select_option("浙江省")
    shoppers.locator("button[value=place]").click()
    shoppers.locator("#pay").click()
    shoppers.locator("button[value=pay]").click()
    shoppers.locator("main a").click()
    expect(shoppers.locator(".state")).to_be_visible()
    order = shoppers.url.split("/orders/")[1].split("?")[0]

    # The merchant sees that it waits, and sends one of the two, then the other.
    owner.goto(f"{root}?lang={language}")
    expect(owner.locator("canvas")).to_have_count(2)
    look(owner, "dashboard")
    owner.locator("a[href$='state=to_send']").first.click()
    expect(owner.locator("tbody tr")).to_have_count(1)
    owner.goto(f"{root}/orders")
    look(owner, "orders")
    owner.locator(f"a[href$='/orders/{order}']").click()
    expect(owner.locator("h1")).to_contain_text(said["state"])
    look(owner, "order")
    for number in (1, 2):
        if number == 1:
            owner.locator("input.pieces").fill("1")
        owner.locator("#carrier").select_option("shunfeng")
        owner.locator("#tracking").fill(f"SF100000000{number}")
        owner.locator("form[action$='/ship'] button").click()
        expect(owner.locator(".alert-success")).to_be_visible()
    expect(owner.locator("h1")).to_contain_text(said["sent"])
    look(owner, "order-shipped")
    owner.goto(f"{root}/orders/print?order={order}")
    look(owner, "slips")
    expect(owner.locator("[data-print]")).to_be_visible()

    # The shopper has it, and wants his money for one of them back.
    shoppers.reload()
    expect(shoppers.locator("body")).to_contain_text(said["carrier"])
    shoppers.locator("form[action$='/receive'] button").click()
    shoppers.locator("a[href$='/refund']").click()
    shoppers.locator("input[value=some]").check(force=True)
    shoppers.locator("input[name='pieces-1']").fill("1")
    shoppers.locator("input[name=return]").check(force=True)
    shoppers.locator("[name=reason]").fill("杯子碎了 broken")
    shoppers.locator("form[action$='/refund'] button").last.click()

    # The merchant agrees to less, gets the goods, and pays back.
    owner.goto(f"{root}/refunds")
    look(owner, "refunds")
    owner.locator("tbody a").first.click()
    expect(owner.locator("h1")).to_contain_text(said["asked"])
    look(owner, "refund")
    owner.locator("#amount").fill("100.00")
    owner.locator("#answer").fill("请寄回")
    owner.locator("form[action$='/approve'] button").click()
    refund = owner.url.split("?")[0]
    shoppers.goto(f"{store}/orders/{order}")
    shoppers.locator("input[name=carrier]").fill("SF")
    shoppers.locator("input[name=code]").fill("SF9000000001")
    shoppers.locator("form[action$='/goods'] button").click()
    owner.goto(refund)
    look(owner, "refund-goods")
    owner.locator("form[action$='/goods'] button").click()
    expect(owner.locator("h1")).to_contain_text(said["paying"])

    async def pay_back(db: Database) -> int:
        return await jobs.pay_back(db, providers(both.settings), datetime.now(UTC))

    assert with_database(mall_database, pay_back) == 1
    for _ in range(60):
        owner.goto(refund)
        if said["back"] in owner.locator("h1").inner_text():
            break
        owner.wait_for_timeout(100)
    expect(owner.locator("h1")).to_contain_text(said["back"])
    look(owner, "refund-back")

    # And it stands in the books, and the rest can be looked at.
    owner.goto(f"{root}/books")
    expect(owner.locator("main")).to_contain_text("¥156.00")
    look(owner, "books")
    owner.locator("tbody th a").first.click()
    look(owner, "books-day")
    owner.goto(f"{root}/customers?sort=spent")
    look(owner, "customers")
    owner.locator("tbody a").first.click()
    owner.locator("#points").fill("50")
    owner.locator("#reason").fill("生日 birthday")
    owner.locator("form[action$='/points'] button").click()
    expect(owner.locator("tbody").last).to_contain_text("+50")
    look(owner, "customer")
    owner.goto(f"{root}/orders/{order}/refund")
    look(owner, "give-back")
    buyers.close()
    owners.close()
    assert complaints == []
    assert shop.database.run("SELECT refunded_fen, status FROM mall.orders WHERE order_id = %s", order) == [
        (10000, "received")
    ]
    assert shop.database.run("SELECT on_hand FROM mall.stock WHERE sku_id = %s", shop.goods[0].sku_ids[0]) == [(3,)]


def test_the_pages_do_without_scripts_and_by_the_keyboard(
    browser: Browser, both: Both, mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    shop = open_shop(products=1)
    with ThreadPoolExecutor(1) as thread:  # the one that drives a browser has a loop already
        order = thread.submit(paid_order, shop, 2).result()
        thread.submit(refund_asked, shop, order, 1).result()
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844}, locale="en-GB")
    context.set_default_timeout(30_000)
    owner = _merchant(context, mall_database, shop, both.settings.base_url)
    root = f"{both.settings.base_url}/merchant/{shop.slug}"
    owner.goto(f"{root}?lang=en")
    owner.locator("summary", has_text="As a table").first.click()
    expect(owner.locator("details[open] table")).to_be_visible()
    owner.goto(f"{root}/orders/{order}")
    owner.locator("#carrier").select_option("self")
    owner.locator("#tracking").press("Enter")
    expect(owner.locator("h1")).to_contain_text("Shipped")
    owner.goto(f"{root}/refunds")
    owner.locator("tbody a").first.press("Enter")
    owner.locator("#why").fill("It is not broken")
    owner.locator("#why").press("Enter")
    expect(owner.locator("h1")).to_contain_text("Refused")
    unnamed = owner.locator("main input:not([type=hidden]), main select, main textarea").evaluate_all(
        "all => all.filter(one => !one.labels?.length && !one.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    context.close()
