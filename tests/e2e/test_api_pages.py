"""The API's document and the page of keys in a real browser: under the pages' own policy, nothing from elsewhere, no complaint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, expect, sync_playwright

from tests.e2e.test_platform_admin import CHROMIUM, address
from tests.fix_mall import MallDatabase, OpenShop
from tests.fix_people import NewVisitor, Visitor, shop_with_owner

__all__ = ["address"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
_PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
PHONE, DESKTOP = (390, 844, "zh-CN"), (1280, 800, "en-GB")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def _open(browser: Browser, size: tuple[int, int, str]) -> tuple[BrowserContext, list[str]]:
    width, height, locale = size
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    context.set_default_timeout(20_000)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    context.on("console", heard)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    return context, complaints


@pytest.mark.parametrize("size", [pytest.param(PHONE, marks=pytest.mark.deep), DESKTOP], ids=["phone", "desktop"])
def test_the_document_can_be_read_and_tried_out(
    browser: Browser, address: str, open_shop: OpenShop, size: tuple[int, int, str]
) -> None:
    shop = open_shop()
    context, complaints = _open(browser, size)
    page = context.new_page()
    elsewhere: list[str] = []
    page.on(
        "request",
        lambda request: elsewhere.append(request.url) if not request.url.startswith((address, "data:")) else None,
    )
    page.goto(f"{address}/api/v1/docs")
    operation = page.locator("#operations-shopper-getShop")
    operation.locator(".opblock-summary-control").click()
    if _PICTURES:
        page.screenshot(path=f"{_PICTURES}/api-docs-{size[0]}.png")
    operation.get_by_role("button", name=re.compile("Try it out")).click()
    operation.locator("input").first.fill(shop.slug)
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table .response-col_status").nth(1)).to_contain_text("200")
    assert elsewhere == []
    assert complaints == []
    context.close()


@pytest.mark.parametrize("size", [PHONE, pytest.param(DESKTOP, marks=pytest.mark.deep)], ids=["phone", "desktop"])
def test_a_key_is_made_and_revoked(
    browser: Browser,
    address: str,
    mall_database: MallDatabase,
    operator: Visitor,
    visitor: NewVisitor,
    size: tuple[int, int, str],
) -> None:
    owner = shop_with_owner(operator, visitor, f"keys{size[0]}")[1]
    context, complaints = _open(browser, size)
    context.add_cookies([{"name": "account", "value": str(owner.session), "url": address}])
    page = context.new_page()
    language = size[2][:2]
    page.goto(f"{address}/merchant/keys{size[0]}/keys?lang={language}")
    page.fill("#name", "收银 till")
    page.check("input[value='orders.read']")
    page.check("input[value='stock.write']")
    page.locator("main form button[type=submit], form[action$='/keys'] button[type=submit]").last.click()
    key = page.locator("#key").input_value()
    assert re.fullmatch(r"bk_[0-9a-f]{8}_[\w-]{86}", key)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    if _PICTURES:
        page.screenshot(path=f"{_PICTURES}/keys-{size[0]}.png", full_page=True)
    read = context.request.get(f"{address}/api/v1/merchant/orders", headers={"Authorization": f"Bearer {key}"})
    assert read.status == 200
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("form[action$='/revoke'] button").click()
    expect(page.locator(".alert")).to_be_visible()
    read = context.request.get(f"{address}/api/v1/merchant/orders", headers={"Authorization": f"Bearer {key}"})
    assert read.status == 401
    assert complaints == []
    context.close()
