"""A merchant in a real browser: a product with a matrix of SKUs and pictures, from the empty list into the storefront."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ballast.mall import staff
from ballast.mall.audit import By
from ballast.mall.db import Database
from ballast.mall.web.app import create_app
from tests.deep import mostly_deep
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import PASSWORD, with_database

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
"""A folder to keep screenshots in, to be looked at."""
WIDTHS = {"phone-zh": (390, 844, "zh-CN"), "desktop-en": (1280, 800, "en-GB")}


@pytest.fixture(scope="module")
def address(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The mall under a real HTTP server in this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    app = create_app(
        mall_database.settings(base_url=url, pool_size=3, pictures=str(tmp_path_factory.mktemp("pictures")))
    )
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


def _photo(folder: Path, name: str, colour: str) -> Path:
    image = Image.new("RGB", (1600, 1600), colour)
    ImageDraw.Draw(image).ellipse((300, 300, 1300, 1300), fill="white")
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    (folder / name).write_bytes(out.getvalue())
    return folder / name


def _invite(shop: Shop) -> str:
    async def work(database: Database) -> str:
        async with database.identity() as connection:
            return await staff.invite(connection, shop.shop_id, "owner", By(None, "test"), datetime.now(UTC))

    return with_database(shop.database, work)


def _person(browser: Browser, size: str) -> tuple[BrowserContext, list[str]]:
    width, height, locale = WIDTHS[size]
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    context.set_default_timeout(20_000)
    complaints: list[str] = []

    def watch(page: Page) -> None:
        page.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))

    context.on("page", watch)
    return context, complaints


def _look(page: Page, name: str, *, whole: bool = True) -> None:
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"{name} is {overflow} px too wide"
    unnamed = page.evaluate(
        "[...document.querySelectorAll('main input:not([type=hidden]), main select, main textarea')]"
        ".filter(one => !one.labels?.length && !one.ariaLabel).map(one => one.outerHTML)"
    )
    assert unnamed == [], f"{name} has fields without a label"
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=whole)


@pytest.mark.parametrize("size", mostly_deep(WIDTHS, "desktop-en"))
@pytest.mark.timeout(180)
def test_a_product_from_the_empty_list_into_the_storefront(
    browser: Browser, address: str, open_shop: OpenShop, tmp_path: Path, size: str
) -> None:
    shop = open_shop(f"goods-{size}", name="龙井茶铺 Longjing")
    context, complaints = _person(browser, size)
    page = context.new_page()
    zh = size.endswith("zh")

    def say(chinese: str, english: str) -> str:
        return chinese if zh else english

    page.goto(f"{address}/link/{_invite(shop)}?lang={say('zh', 'en')}")
    for field, value in (("login", f"owner-{size}"), ("name", "林小雨"), ("password", PASSWORD), ("again", PASSWORD)):
        page.locator(f"form[action$='/account'] [name={field}]").fill(value)
    page.locator("form[action$='/account'] button[type=submit]").click()
    page.wait_for_url(f"**/merchant/{shop.slug}")
    base = f"{address}/merchant/{shop.slug}"

    page.goto(f"{base}/categories")
    for name, english, parent in (
        ("茶叶", "Tea", None),
        ("绿茶", "Green tea", say("茶叶", "Tea")),
        ("茶具", "Ware", None),
    ):
        page.locator("#name").fill(name)
        page.locator("#name_en").fill(english)
        if parent:
            page.locator("#parent").select_option(label=parent)
        page.get_by_role("button", name=say("添加", "Add"), exact=True).click()
        expect(page.get_by_role("status")).to_be_visible()
    page.locator("summary.category").nth(1).click()
    _look(page, f"categories-{size}")

    page.goto(f"{base}/products")
    _look(page, f"products-none-{size}")
    page.get_by_role("link", name=say("新建商品", "New product")).first.click()
    page.locator("#title").fill("明前龙井 <script>alert(1)</script>")
    page.locator("#title_en").fill("Longjing <b>green</b> tea")
    page.locator("#description").fill("清香甘醇\n\n回味悠长")
    page.locator("#external_code").fill("LJ-1")
    page.get_by_label(say("绿茶", "Green tea")).check()
    page.locator("#option0_name").fill("颜色")
    page.locator("#option0_name_en").fill("Colour")
    page.locator("#option0_more").fill("红 / Red\n蓝 / Blue")
    page.locator("#option1_name").fill("尺码")
    page.locator("#option1_more").fill("S\nM\nL")
    page.locator("#price").fill("128.00")
    page.locator("#stock").fill("8")
    _look(page, f"product-new-{size}")
    page.get_by_role("button", name=say("创建商品", "Make the product")).click()
    expect(page.get_by_role("status")).to_contain_text(say("商品已创建", "The product is made"))

    page.locator("#file").set_input_files([_photo(tmp_path, "a.jpg", "#2f855a"), _photo(tmp_path, "b.jpg", "#c05621")])
    page.get_by_role("button", name=say("上传", "Upload")).click()
    expect(page.locator(".pictures__one")).to_have_count(2)
    second = page.locator(".pictures__one input").nth(1).input_value()
    page.get_by_role("button", name=say("把图片 2 设为主图", "Make picture 2 the first")).click()
    expect(page.locator(".pictures__one input").first).to_have_value(second)
    page.locator(".pictures__one").nth(1).drag_to(page.locator(".pictures__one").first)
    page.get_by_role("button", name=say("保存顺序", "Save the order")).click()
    expect(page.locator(".pictures__one input").nth(1)).to_have_value(second)
    page.locator("[data-fills=compare_at]").fill("158.00")
    page.locator("input[name=price]").nth(2).fill("138.00")
    page.get_by_role("button", name=say("保存 SKU", "Save the SKUs")).click()
    expect(page.locator("input[name=compare_at]").nth(5)).to_have_value("158.00")
    page.get_by_role("button", name=say("上架", "Put on sale"), exact=True).click()
    expect(page.locator("h1")).to_contain_text(say("在售", "On sale"))
    _look(page, f"product-{size}")

    page.get_by_role("link", name=say("红 / S: 库存明细", "Red / S: its stock")).click()
    page.locator("#pieces-receive").fill("4")
    page.locator("#reason-receive").fill("新到")
    page.locator("form:has(#pieces-receive) button").click()
    expect(page.get_by_role("cell", name="+4")).to_be_visible()
    _look(page, f"stock-sku-{size}")

    page.goto(f"{base}/products/file")
    (tmp_path / "p.csv").write_text(
        "product_code,name_zh,price_yuan,stock\nA1,茶壶,88.00,5\nA2,茶杯,abc,5\nA3,茶盘,45,5\n", encoding="utf-8"
    )
    page.locator("#file").set_input_files(tmp_path / "p.csv")
    page.get_by_role("button", name=say("只检查", "Only look")).click()
    expect(page.locator("#outcome h2")).to_be_visible()
    _look(page, f"file-{size}")
    page.get_by_role("button", name=say("导入", "Import"), exact=True).click()
    expect(page.locator("#outcome h2")).to_have_text(say("导入结果", "What was imported"))

    page.goto(f"{base}/products")
    page.locator("[data-check-all]").check()
    page.locator("#act").select_option("percent")
    page.locator(".bulk__amount").fill("-10")
    _look(page, f"products-{size}")
    page.get_by_role("button", name=say("应用到所选商品", "Apply to the chosen")).click()
    expect(page.get_by_role("status")).to_be_visible()
    expect(page.get_by_text("¥79.20")).to_be_visible()
    page.goto(f"{base}/stock")
    _look(page, f"stock-{size}")

    page.goto(f"{base}/pictures")
    expect(page.locator(".pictures__one")).to_have_count(2)
    _look(page, f"pictures-{size}")

    product_id = shop.database.run(
        "SELECT product_id FROM mall.product WHERE shop_id = %s AND external_code = 'LJ-1'", shop.shop_id
    )[0][0]
    page.goto(f"{address}/s/{shop.slug}/products/{product_id}")
    expect(page.locator("h1")).to_have_text(say("明前龙井 <script>alert(1)</script>", "Longjing <b>green</b> tea"))
    expect(page.locator(".choice")).to_have_count(6)
    for n in range(2):
        shown = page.locator(".product__picture").nth(n)
        shown.scroll_into_view_if_needed()
        expect(shown).to_have_js_property("naturalWidth", 1080)
    _look(page, f"store-product-{size}")
    page.goto(f"{address}/s/{shop.slug}/products")
    expect(page.locator("img.picture").first).to_have_js_property("naturalWidth", 480)
    _look(page, f"store-list-{size}", whole=False)
    context.close()
    assert complaints == []
