"""A merchant in a real browser: a coupon that a shopper takes and uses; a home page that is decorated and published; its
blocks' editors, and a log of what went wrong, at both widths."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
PASSWORD = "four words in one"
# Where pictures of every page are kept for looking at, if anywhere.
PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}
COLOURS = {"a" * 64: (200, 60, 40), "b" * 64: (40, 120, 90)}


@pytest.fixture(scope="module")
def address(mall_database: MallDatabase) -> Iterator[str]:
    """The mall under a real HTTP server in this process; its payment provider is away."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    app = create_app(mall_database.settings(base_url=url, sandbox_url="http://127.0.0.1:9", private_webhooks=True))
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    for _ in range(100):
        try:
            if httpx.get(f"{url}/healthz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield url
    server.stop()
    thread.join(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the module."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def _person(browser: Browser, complaints: list[str], size: str, locale: str) -> BrowserContext:
    """Somebody with a browser of their own; what their console says is collected. The pictures that the shop has by its
    database alone are painted here."""
    context = browser.new_context(locale=locale, viewport=SIZES[size])  # type: ignore[arg-type]
    context.set_default_timeout(15_000)

    def paint(route: Route) -> None:
        painted = io.BytesIO()
        Image.new("RGB", (800, 400), COLOURS[route.request.url.rpartition("/")[2][:64]]).save(painted, "PNG")
        route.fulfill(body=painted.getvalue(), content_type="image/png")

    def watch(page: Page) -> None:
        page.on("console", lambda one: complaints.append(f"{page.url}: {one.text}") if one.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: dialog.accept())

    context.route("**/pictures/*/*", paint)
    context.on("page", watch)
    return context


def _keep(page: Page, name: str) -> None:
    beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond <= 0, f"{name} is {beyond} px too wide"
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def _owner(shop: Shop, context: BrowserContext, address: str) -> Page:
    """The shop's owner, who comes by an invitation."""
    token = f"{shop.slug:-<43}"
    shop.database.run(
        "INSERT INTO mall.account_link (token_hash, purpose, shop_id, role, expires_at)"
        " VALUES (sha256(%s), 'invitation', %s, 'owner', now() + interval '1 day')",
        token.encode(),
        shop.shop_id,
    )
    page = context.new_page()
    page.goto(f"{address}/link/{token}?lang=en")
    page.get_by_label("Login").fill(f"{shop.slug}@example.com")
    page.get_by_label("Name", exact=True).fill("Lin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The password again").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()
    expect(page).to_have_url(f"{address}/merchant/{shop.slug}")
    return page


@pytest.mark.timeout(180)
def test_a_coupon_is_made_taken_and_used(browser: Browser, address: str, open_shop: OpenShop) -> None:
    shop = open_shop("teahouse", name="龙井茶铺")
    shop.add_product("明前龙井", price_fen=12800, title_en="Longjing green tea")
    complaints: list[str] = []
    merchants = _person(browser, complaints, "desktop", "en-GB")
    merchant = _owner(shop, merchants, address)
    merchant.get_by_role("navigation", name="Main menu").get_by_role("link", name="Promotions").click()
    merchant.get_by_role("link", name="New coupon").click()
    merchant.get_by_label("Name", exact=True).fill("新客立减")
    merchant.get_by_label("Name in English").fill("Welcome")
    merchant.get_by_label("Amount off (yuan)").fill("20")
    merchant.get_by_label("From (yuan)").fill("100")
    merchant.get_by_label("How many").fill("5")
    _keep(merchant, "coupon-new-desktop-en")
    merchant.get_by_role("button", name="Save").click()
    expect(merchant.get_by_role("status")).to_contain_text("Saved")
    expect(merchant.get_by_role("table")).to_contain_text("Welcome Running")

    shoppers = _person(browser, complaints, "phone", "zh-CN")
    shopper = shoppers.new_page()
    shopper.goto(f"{address}/s/teahouse/")
    shopper.get_by_role("navigation", name="店铺页面").get_by_role("link", name="领券").click()
    _keep(shopper, "store-coupons-phone-zh")
    shopper.get_by_role("button", name="领取 新客立减").click()
    expect(shopper.get_by_role("status")).to_contain_text("已领取")
    _keep(shopper, "store-coupons-taken-phone-zh")
    shopper.goto(f"{address}/s/teahouse/products/{shop.goods[0].product_id}")
    shopper.get_by_role("button", name="加入购物车").click()
    shopper.locator("a[href$='/checkout']").click()
    for field, text in (("name", "林小雨"), ("phone", "13800000000"), ("city", "杭州市"), ("street", "龙井路 1 号")):
        shopper.locator(f"#{field}").fill(text)
    shopper.locator("#province").select_option("浙江省")
    shopper.get_by_label("优惠券").select_option(label="新客立减")
    shopper.locator("button[value=quote]").click()
    expect(shopper.locator(".sums")).to_contain_text("−¥20.00")
    _keep(shopper, "checkout-coupon-phone-zh")
    shopper.locator("button[value=place]").click()
    expect(shopper.locator(".sums__total")).to_contain_text("108.00")
    shopper.goto(f"{address}/s/teahouse/me")
    _keep(shopper, "me-phone-zh")
    merchant.reload()
    row = merchant.get_by_role("row").filter(has_text="Welcome")
    expect(row.get_by_role("cell").nth(3)).to_have_text("1 / 5")
    expect(row.get_by_role("cell").nth(4)).to_have_text("1")
    merchant.get_by_role("button", name="Stop Welcome").click()
    expect(merchant.get_by_role("table")).to_contain_text("Welcome Stopped")
    shopper.goto(f"{address}/s/teahouse/coupons")
    expect(shopper.get_by_role("button", name="领取 新客立减")).to_have_count(0)
    merchants.close()
    shoppers.close()
    assert complaints == []


@pytest.mark.timeout(180)
def test_the_home_page_is_decorated_previewed_and_published(
    browser: Browser, address: str, open_shop: OpenShop
) -> None:
    shop = open_shop("pottery", name="陶艺小店")
    shop.add_product("手工茶壶", price_fen=36800, title_en="Hand-made pot")
    for name in COLOURS:
        shop.database.run(
            "INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes, created_at)"
            " VALUES (%s, %s, 'image/png', 800, 400, 1000, now() - make_interval(secs => %s))",
            shop.shop_id,
            name,
            ord(name[0]),
        )
    complaints: list[str] = []
    merchants = _person(browser, complaints, "desktop", "en-GB")
    merchant = _owner(shop, merchants, address)
    merchant.goto(f"{address}/merchant/pottery/pages")
    merchant.get_by_label("Title", exact=True).fill("首页")
    merchant.get_by_role("button", name="Make the home page").click()
    add = merchant.get_by_role("navigation", name="Add:")
    add.get_by_role("link", name="Product list").click()
    merchant.get_by_label("Heading").fill("New in <store>")
    merchant.get_by_role("button", name="Save").click()
    add.get_by_role("link", name="Banner").click()
    merchant.get_by_label("Picture 1").select_option(label="#1 · 800×400")
    merchant.get_by_label("What it shows").first.fill("Pots in a kiln")
    merchant.get_by_label("Picture 2").select_option(label="#2 · 800×400")
    merchant.get_by_label("Seconds each").fill("1")
    _keep(merchant, "banner-desktop-en")
    merchant.get_by_role("button", name="Save").click()
    add.get_by_role("link", name="Notice").click()
    merchant.get_by_label("Text").fill("Kiln day is Friday")
    merchant.get_by_role("button", name="Save").click()

    def order() -> list[str]:
        return [text.split()[0] for text in merchant.locator("#blocks strong").all_inner_texts()]

    assert order() == ["Product", "Banner", "Notice"]
    merchant.get_by_role("button", name="Move up Banner 2").click()
    expect(merchant.locator("#blocks strong").first).to_have_text("Banner")
    # Dragging is the same by another hand.
    handles = merchant.locator("#blocks .drag")
    with merchant.expect_navigation():
        handles.nth(2).drag_to(handles.nth(0), target_position={"x": 5, "y": 1})
    assert order() == ["Notice", "Banner", "Product"]
    preview = merchant.frame_locator("iframe")
    expect(preview.get_by_text("Kiln day is Friday")).to_be_visible()
    expect(preview.get_by_role("heading", name="New in <store>")).to_be_visible()
    _keep(merchant, "editor-desktop-en")
    shoppers = {size: _person(browser, complaints, size, "en-GB").new_page() for size in SIZES}
    for shopper in shoppers.values():
        shopper.goto(f"{address}/s/pottery/")
        expect(shopper.get_by_text("Kiln day is Friday")).to_have_count(0)
    other = merchants.new_page()
    other.goto(merchant.url)
    merchant.get_by_role("button", name="Publish").click()
    expect(merchant.get_by_role("status")).to_contain_text("Published")
    # Who has the page of before in another window is told.
    other.get_by_role("button", name="Remove Notice 1").click()
    expect(other.get_by_role("alert")).to_contain_text("Somebody else has changed the page")
    for size, shopper in shoppers.items():
        shopper.reload()
        expect(shopper.get_by_role("img", name="Pots in a kiln")).to_be_visible()
        expect(shopper.get_by_role("heading", name="New in <store>")).to_be_visible()
        expect(shopper.get_by_text("Hand-made pot")).to_be_visible()
        _keep(shopper, f"home-{size}-en")
        # The second picture comes by itself.
        expect(shopper.locator(".banner__slide").nth(1)).to_be_in_viewport(ratio=0.5, timeout=15_000)
        shopper.context.close()
    merchants.close()
    # 422 is how the refused form was answered.
    assert [one for one in complaints if "status of 422" not in one] == []


# What `test_every_page` does not come to: it opens two of the blocks' editors, and nothing has gone wrong in its shop.
PAGES = {
    "editor": "/pages/{page}",
    "block-grid": "/pages/{page}/new/grid",
    "block-products": "/pages/{page}/new/product_list",
    "block-text": "/pages/{page}/new/text",
    "block-picture": "/pages/{page}/new/picture",
    "block-video": "/pages/{page}/new/video_link",
    "reductions": "/promotions/reductions",
    "limited": "/promotions/limited",
    "webhook": "/webhooks/{webhook}",
}


@pytest.mark.timeout(240)
def test_editors_of_all_blocks_and_the_log_of_a_bad_day_fit_both_widths_and_complain_of_nothing(
    browser: Browser, address: str, mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    """Follows the stories above: their shop is there."""
    ((shop_id, page_id),) = mall_database.run(
        "SELECT shop_id, page_id FROM mall.page JOIN mall.directory d USING (shop_id) WHERE d.slug = 'pottery'"
    )
    complaints: list[str] = []
    setting_up = _person(browser, complaints, "phone", "en-GB")
    owner = setting_up.new_page()
    _sign_in(owner, address)
    owner.goto(f"{address}/merchant/pottery/webhooks")
    owner.get_by_label("Address").fill("https://shop.example.com/hooks/ballast?with=a-long-query-that-goes-on-and-on")
    owner.get_by_role("button", name="Add").click()
    expect(owner.get_by_label("Signing secret")).to_have_value(re.compile("^whsec_.{44}$"))
    _keep(owner, "webhook-secret-phone-en")
    owner.get_by_role("link", name="Go on").click()
    webhook_id = owner.url.rpartition("/")[2]
    owner.goto(f"{address}/merchant/pottery/staff")
    owner.get_by_role("button", name="Invite somebody").click()
    _keep(owner, "invited-phone-en")
    owner.goto(f"{address}/merchant/pottery/promotions/limited/new")
    owner.get_by_label("Name", exact=True).fill("秒杀")
    owner.locator("input[name^=price-]").fill("199")
    owner.get_by_role("button", name="Save").click()
    owner.goto(f"{address}/merchant/pottery/promotions/reductions/new")
    owner.get_by_label("Name", exact=True).fill("满减")
    owner.get_by_label("Tier 1: from (yuan)").fill("100")
    owner.get_by_label("Tier 1: off (yuan)").fill("10")
    owner.get_by_role("button", name="Save").click()
    expect(owner.get_by_role("status")).to_contain_text("Saved")
    setting_up.close()
    _messages(mall_database, shop_id, webhook_id)
    for size in SIZES:
        context = _person(browser, complaints, size, "en-GB")
        page = context.new_page()
        _sign_in(page, address)
        # What is too wide is so on a phone first; all four are looked at where pictures are kept.
        spoken_here = (("zh", "zh-CN"), ("en", "en"))[0 if size == "phone" or PICTURES else 1 :]
        for language, spoken in spoken_here:
            for name, path in PAGES.items():
                below = path.format(page=page_id, webhook=webhook_id)
                answer = page.goto(f"{address}/merchant/pottery{below}?lang={language}")
                assert answer is not None
                assert answer.status == 200, path
                assert page.locator("html").get_attribute("lang") == spoken
                unnamed = page.evaluate(
                    "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
                    ".filter(one => !one.labels.length && !one.ariaLabel).map(one => one.name)"
                )
                assert unnamed == [], path
                _keep(page, f"{name}-{size}-{language}")
        context.close()
    assert complaints == []


def _sign_in(page: Page, address: str) -> None:
    page.goto(f"{address}/signin?lang=en")
    page.get_by_label("Login").fill("pottery@example.com")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{address}/merchant/pottery")


def _messages(database: MallDatabase, shop_id: object, webhook_id: str) -> None:
    """A log as it looks after a bad day."""
    for number, (status, answer, said) in enumerate(
        [
            ("delivered", 200, "ok"),
            ("waiting", 503, "<h1>Service unavailable</h1>" + "x" * 300),
            ("given_up", None, "No answer within 10 seconds."),
        ]
    ):
        database.run(
            "WITH e AS (INSERT INTO mall.outbox (shop_id, event_id, kind, body) VALUES (%s, %s, 'order.paid', '{}') RETURNING shop_id, event_id)"
            " INSERT INTO mall.webhook_delivery (shop_id, delivery_id, webhook_id, event_id, status, attempts, next_at, answer_status, answer_excerpt)"
            " SELECT shop_id, event_id, %s, event_id, %s, %s, CASE WHEN %s = 'waiting' THEN now() END, %s, %s FROM e",
            shop_id,
            f"019b0000-0000-7000-8000-00000000000{number}",
            webhook_id,
            status,
            number + 1,
            status,
            answer,
            said,
        )
