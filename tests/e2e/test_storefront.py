"""A shopper with a phone, in a real browser: from the home page to the paid order, with the provider's page in between."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, expect

from tests.deep import mostly_deep
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.test_sandbox import Both

_PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
"""A folder to keep screenshots in, to be looked at."""


@pytest.fixture
def both(mall_database: MallDatabase, tmp_path: Path) -> Iterator[Both]:
    with Both(mall_database, tmp_path) as running:
        yield running


def _dressed(shop: Shop) -> None:
    tea = shop.add_product("明前龙井 特级绿茶 250g", price_fen=12800, title_en="Longjing green tea, 250 g", skus=3)
    shop.add_product("手工紫砂壶", price_fen=36800, title_en="Hand-made clay teapot")
    shop.add_product("桂花乌龙", price_fen=6800, title_en="Osmanthus oolong")
    shop.database.run(
        "UPDATE mall.product SET subtitle = '当季新茶，产地直发', subtitle_en = 'This season, from the garden', sold = 1280,"
        " description = '<p>清香甘醇，回味悠长。</p>', description_en = '<p>Fresh and sweet.</p>' WHERE product_id = %s",
        tea.product_id,
    )
    shop.database.run(
        "UPDATE mall.shop SET service_phone = '400-800-0000', pickup_address = '西湖区龙井路 1 号' WHERE shop_id = %s",
        shop.shop_id,
    )


def _open(browser: Browser, *, width: int, height: int, locale: str) -> tuple[BrowserContext, list[str]]:
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    context.set_default_timeout(30_000)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context.on("console", heard)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    return context, complaints


@pytest.mark.parametrize(
    ("width", "height", "locale"),
    mostly_deep([(390, 844, "zh-CN"), (1280, 800, "en-GB")], (390, 844, "zh-CN")),
    ids=["phone-zh", "desktop-en"],
)
def test_browse_cart_checkout_pay(
    browser: Browser, both: Both, open_shop: OpenShop, width: int, height: int, locale: str
) -> None:
    shop = open_shop(name="龙井茶铺")
    shop.database.run("UPDATE mall.shop SET name_en = 'Longjing Tea House' WHERE shop_id = %s", shop.shop_id)
    _dressed(shop)
    context, complaints = _open(browser, width=width, height=height, locale=locale)
    page = context.new_page()

    def look(name: str) -> None:
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name} is {overflow} px too wide"
        if _PICTURES:
            page.screenshot(path=f"{_PICTURES}/{name}-{locale}.png", full_page=name == "checkout")

    page.goto(f"{both.settings.base_url}/s/{shop.slug}/")
    look("home")
    page.locator(".tabs__tab").nth(1).click()
    look("categories")
    page.goto(f"{both.settings.base_url}/s/{shop.slug}/products/{shop.goods[0].product_id}")
    page.locator("input[name=sku]").nth(1).check(force=True)
    page.locator("input[name=quantity]").fill("2")
    look("product")
    page.locator("button[value=cart]").click()
    expect(page.locator(".tabs__badge")).to_have_text("2")
    look("cart")
    page.locator("a[href$='/checkout']").click()
    page.locator("#name").fill("林小雨")
    page.locator("#phone").fill("13800000000")
    page.locator("#province").select_option("浙江省")
    page.locator("#city").fill("杭州市")
    page.locator("#street").fill("龙井路 1 号")
    look("checkout")
    page.locator("button[value=place]").click()
    look("pay")
    page.locator("#pay").click()
    page.locator("button[value=pay]").click()
    expect(page.locator("h1")).to_have_text("支付成功" if locale == "zh-CN" else "Paid")
    look("paid")
    page.locator("main a").click()
    expect(page.locator(".state")).to_have_text("待发货" if locale == "zh-CN" else "To be sent")
    look("order")
    page.locator(".tabs__tab").nth(3).click()
    look("me")
    context.close()
    assert complaints == []
    assert shop.database.run("SELECT status, paid_fen FROM mall.orders WHERE shop_id = %s", shop.shop_id) == [
        ("paid", 25600)
    ]
