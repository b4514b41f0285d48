"""Gift cards in a real browser from both sides: issued, handed out, paid with (without a script, too), refunded to, made void."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import unquote
from uuid import UUID

import pytest
from playwright.sync_api import Browser, Page, expect

from ballast.mall import aftersales, jobs, links
from ballast.mall.db import Database
from tests.deep import mostly_deep
from tests.e2e.looking import VIEWS, look, open_window
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import PASSWORD, with_database
from tests.integration.mall.cards import balance
from tests.integration.mall.test_sandbox import Both

_SAID = {
    "phone-zh": {"paid": "已用礼品卡付款", "short": "礼品卡须一次付清整个订单", "no": "请核对卡号", "by": "礼品卡（尾号"},
    "desktop-en": {"paid": "Paid with your gift card", "short": "A gift card pays a whole order", "no": "check the code", "by": "Gift card ending in"},
}  # fmt: skip


@pytest.fixture(scope="module")
def both(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with Both(mall_database, tmp_path_factory.mktemp("both")) as running:
        yield running


def _enter(page: Page, database: MallDatabase, shop: Shop, base: str, view: str) -> None:
    async def invite(db: Database) -> str:
        async with db.identity() as connection:
            return await links.invite(connection, shop.shop_id, "owner", datetime.now(UTC))

    page.goto(f"{base}/link/{with_database(database, invite)}")
    names = {"login": f"owner-{shop.slug}-{view}", "name": "林掌柜", "password": PASSWORD, "again": PASSWORD}
    for name, value in names.items():
        page.locator(f"input[name={name}]").last.fill(value)
    page.locator("input[name=again]").press("Enter")
    page.wait_for_url(f"**/merchant/{shop.slug}**")


def _order(page: Page, shop: Shop, base: str) -> str:
    """The first goods, ordered; the order's address."""
    page.goto(f"{base}/products/{shop.goods[0].product_id}")
    page.locator("button[value=buy]").click()
    page.locator("#name").fill("林小雨")
    page.locator("#phone").fill("13800000000")
    page.locator("#province").select_option("浙江省")
    page.locator("#city").fill("杭州市")
    page.locator("#street").fill("龙井路 1 号")
    page.locator("button[value=place]").click()
    page.wait_for_url("**/pay")
    return page.url.removesuffix("/pay")


@pytest.mark.parametrize("view", mostly_deep(VIEWS, "phone-zh"))
def test_a_card_from_its_issue_to_its_end(
    browser: Browser, both: Both, mall_database: MallDatabase, open_shop: OpenShop, view: str
) -> None:
    shop = open_shop(products=1, name="龙井茶铺")
    said, origin = _SAID[view], both.settings.base_url
    window, wrong = open_window(browser, view), list[str]()
    desk, admin = window.page, f"{origin}/merchant/{shop.slug}/gift-cards"
    window.page.on("dialog", lambda dialog: dialog.accept())

    def seen(name: str, status: int = 200) -> None:
        wrong.extend(look(window, f"gift-{name}", status=status))

    _enter(desk, mall_database, shop, origin, view)
    window.drain()
    desk.goto(admin)
    seen("cards-none")
    desk.locator("a[href$='/gift-cards/new']").first.click()
    desk.locator("#amount").fill("0")
    desk.locator("#note").fill("中秋节回馈老顾客 Mid-Autumn festival")
    desk.locator("button[value=page]").click()
    seen("new-refused", 422)
    desk.locator("#amount").fill("30")
    desk.locator("#cards").fill("3")
    desk.locator("#until").fill("2099-12-31")
    seen("new", 422)  # it is the same page still
    desk.locator("button[value=page]").click()
    codes = desk.locator("code").all_inner_texts()
    assert len(set(codes)) == 3
    seen("issued")
    file = unquote(desk.locator("#csv").get_attribute("href") or "").partition(",")[2]
    assert [row[0] for row in csv.reader(io.StringIO(file.lstrip("\ufeff")))][1:] == codes

    # The shopper has no script.
    shopper = browser.new_context(
        viewport=desk.viewport_size,
        locale=VIEWS[view][2],
        java_script_enabled=False,  # type: ignore[arg-type]
    )
    shopper.set_default_timeout(30_000)
    page = shopper.new_page()
    store = f"{origin}/s/{shop.slug}"
    order = _order(page, shop, store)
    expect(page.locator("#pay")).to_be_visible()
    page.locator("#gift_card").fill("ABCD-EFGH-JKLM-NPQR")
    page.locator("form[action$='/pay/card'] button").click()
    expect(page.locator("main, body").first).to_contain_text(said["no"])
    page.locator("#gift_card").fill(codes[0].lower())
    page.locator("form[action$='/pay/card'] button").click()
    expect(page.locator("[role=status]").first).to_contain_text(said["paid"])
    expect(page.locator(".facts")).to_contain_text(f"{said['by']} {codes[0][-4:]}")
    shop.database.run("UPDATE mall.sku SET price_fen = 4500 WHERE shop_id = %s", shop.shop_id)
    _order(page, shop, store)
    page.locator("#gift_card").fill(codes[1])
    page.locator("form[action$='/pay/card'] button").click()
    expect(page.locator("main, body").first).to_contain_text(said["short"])
    # What he sees, looked at: with his cookies, in a window with a script.
    window.context.add_cookies(shopper.cookies())  # type: ignore[arg-type]
    waits = page.url.removesuffix("/pay/card")
    for name, path in (("order-paid", order), ("order-waits", waits), ("pay", f"{waits}/pay")):
        desk.goto(path)
        seen(name)
    desk.locator("#gift_card").fill(codes[1])
    desk.locator("form[action$='/pay/card'] button").click()
    seen("pay-short", 409)
    shopper.close()
    # What the browser has to say of that answer may come late, and is of no page that follows.
    desk.goto(store)
    window.drain()

    # All of it goes back to the card, and the card is made void.
    desk.goto(f"{origin}/merchant/{shop.slug}/orders/{order.rpartition('/')[2]}")
    seen("merchant-order")

    async def give_back(db: Database) -> UUID:
        now, order_id = datetime.now(UTC), UUID(order.rpartition("/")[2])
        async with db.shop(shop.shop_id) as connection:
            made = await aftersales.cancel_paid(connection, order_id, actor="account:x", reason="缺货", now=now)
        assert await jobs.pay_back(db, {}, now) == 1
        return made

    desk.goto(f"{origin}/merchant/{shop.slug}/refunds/{with_database(mall_database, give_back)}")
    seen("merchant-refund")
    desk.goto(admin)
    seen("cards")
    desk.locator("#q").fill(codes[0][-4:].lower())
    desk.locator("form[role=search] button").click()
    desk.locator("table a").click()
    seen("card")
    card_id = UUID(desk.url.rpartition("/")[2])
    assert balance(shop, card_id) == 3_000
    desk.locator("#reason").fill("丢失 Lost")
    desk.locator("form[action$='/void'] button").click()
    expect(desk.locator("#reason")).to_have_count(0)
    seen("card-void")
    assert balance(shop, card_id) == 0
    desk.goto(f"{origin}/merchant/{shop.slug}/books")
    seen("books")
    assert wrong == []
    window.context.close()
