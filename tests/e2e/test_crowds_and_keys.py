"""Shops with nothing, one thing and ten thousand things to sell; a name that would like to be markup; an order made by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import pytest
from playwright.sync_api import Browser, Page, expect

from ballast.mall import staff
from ballast.mall.audit import By
from ballast.mall.db import Database
from tests.deep import mostly_deep
from tests.e2e.looking import VIEWS, look, open_window
from tests.fix_mall import MallDatabase, Shop, open_a_shop
from tests.fix_people import PASSWORD, with_database
from tests.integration.mall.test_sandbox import Both

_MANY = 10_000
_MARKUP = "<script>alert(1)</script>"
# The pages that show how much a shop sells, and those that are alike in all three.
_STORE, _STORE_ALIKE = ("", "products", "categories", "products?q=Tea"), ("cart", "coupons")
_MERCHANT = ("", "products", "stock")
_MERCHANT_ALIKE = ("categories", "orders", "refunds", "customers", "books", "pictures", "promotions", "pages", "audit")


@dataclass(frozen=True)
class Shops:
    """A shop by how much it sells; one account owns them all."""

    both: Both
    of: dict[int, Shop]

    @property
    def url(self) -> str:
        return self.both.settings.base_url


@pytest.fixture(scope="module")
def shops(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shops]:
    both = Both(mall_database, tmp_path_factory.mktemp("both"))
    try:
        both.start("sandbox")
        both.start("mall")
        made = {many: open_a_shop(mall_database, f"shop-{many}") for many in (0, 1, _MANY)}
        made[1].add_product(_MARKUP, title_en=_MARKUP)
        _fill(made[_MANY])
        yield Shops(both, made)
    finally:
        both.stop("mall")
        both.stop("sandbox")


def _fill(shop: Shop) -> None:
    """Ten thousand products, each with a SKU and stock."""
    shop.database.run(
        "CREATE TEMP TABLE many AS SELECT n, gen_random_uuid() AS product_id, gen_random_uuid() AS sku_id FROM generate_series(1, %s) n;".replace(
            "%s", str(_MANY)
        )
        + f"""
        INSERT INTO mall.product (shop_id, product_id, status, title, title_en, specs, min_price_fen, max_price_fen, search)
        SELECT '{shop.shop_id}', product_id, 'on_sale', '茶 ' || n, 'Tea ' || n, '[]', 1000 + n, 1000 + n, to_tsvector('simple', '茶 tea ' || n) FROM many;
        INSERT INTO mall.sku (shop_id, sku_id, product_id, options, price_fen, position)
        SELECT '{shop.shop_id}', sku_id, product_id, '{{}}', 1000 + n, 0 FROM many;
        INSERT INTO mall.stock (shop_id, sku_id, on_hand) SELECT '{shop.shop_id}', sku_id, 5 FROM many;
        """
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("many", "view"),
    mostly_deep(product((0, 1, _MANY), VIEWS), (0, "phone-zh"), (1, "desktop-en"), (_MANY, "desktop-en")),
)
def test_pages_of_a_shop_that_sells_so_much(shops: Shops, browser: Browser, many: int, view: str) -> None:
    shop = shops.of[many]
    window = open_window(browser, view)
    page = window.page
    wrong: list[str] = []
    store, merchant = (_STORE, _MERCHANT) if many else (_STORE + _STORE_ALIKE, _MERCHANT + _MERCHANT_ALIKE)
    for face, paths in ((f"/s/{shop.slug}", store), (f"/merchant/{shop.slug}", merchant)):
        if face.startswith("/merchant"):
            _enter(page, shops, shop, window.lang)
        for path in paths:
            answer = page.goto(f"{shops.url}{face}/{path}")
            assert answer is not None
            assert answer.status == 200
            wrong += look(window, re.sub(r"\W+", "-", f"{many}{face}/{path}"), axe=many == 0)
            if many == 1 and path in ("", "products", "stock") and not (face.startswith("/merchant") and not path):
                assert _MARKUP in page.locator("main").inner_text()
    if many == 1:
        for path in (
            f"/s/{shop.slug}/products/{shop.goods[0].product_id}",
            f"/merchant/{shop.slug}/products/{shop.goods[0].product_id}",
            f"/merchant/{shop.slug}/stock/{shop.goods[0].sku_ids[0]}",
        ):
            page.goto(shops.url + path)
            wrong += look(window, f"1-{path.split('/')[3]}-markup", axe=False)
            expect(page.locator("h1")).to_contain_text(_MARKUP)
    if many == _MANY:
        for path in (
            f"/s/{shop.slug}/products",
            f"/s/{shop.slug}/products?q=tea",
            f"/merchant/{shop.slug}/products",
            f"/merchant/{shop.slug}/stock",
        ):
            wrong += _leaf(page, shops.url + path)
    window.context.close()
    assert not wrong, "\n".join(wrong)


def _leaf(page: Page, url: str) -> list[str]:
    """Three pages of a list: each shows some, and none of those before."""
    page.goto(url)
    seen: set[str] = set()
    for _ in range(3):
        shown = set(
            page.locator("main a[href*='/products/'], main a[href*='/stock/']").evaluate_all(
                "all => all.map((one) => one.href)"
            )
        )
        shown = {one for one in shown if re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}$", one)}
        if not shown or shown & seen:
            return [f"{page.url}: {len(shown)} are shown, {len(shown & seen)} of them again"]
        seen |= shown
        page.locator("main a[rel=next]").click()
        page.wait_for_load_state()
    return []


def _enter(page: Page, shops: Shops, shop: Shop, lang: str) -> None:
    """Somebody new joins the shop by a link and is its owner."""

    async def work(database: Database) -> str:
        async with database.identity() as connection:
            return await staff.invite(connection, shop.shop_id, "owner", By(None, "test"), datetime.now(UTC))

    page.goto(f"{shops.url}/link/{with_database(shop.database, work)}?lang={lang[:2]}")
    for name, value in (
        ("login", f"owner-{shop.slug}-{lang.lower()}"),
        ("name", "Lin"),
        ("password", PASSWORD),
        ("again", PASSWORD),
    ):
        page.locator(f"#{name}").fill(value)
    page.locator("form[action$='/account'] button[type=submit]").click()
    page.wait_for_url("**/merchant/**")


def _tab_to(page: Page, selector: str) -> None:
    """Presses Tab until the element has the focus."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab never comes to {selector} on {page.url}")


def test_an_order_by_keyboard_alone(shops: Shops, browser: Browser) -> None:
    window = open_window(browser, "desktop-en")
    page, keys, shop = window.page, window.page.keyboard, shops.of[_MANY]
    page.goto(f"{shops.url}/s/{shop.slug}/products")
    keys.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    keys.press("Enter")
    keys.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)"), (
        "the skip link skips nothing"
    )
    keys.press("Enter")
    page.wait_for_url("**/products/*")
    _tab_to(page, "button[value=buy]")
    keys.press("Enter")
    page.wait_for_url("**/checkout**")
    for name, value in (("name", "Lin Xiaoyu"), ("phone", "13800000000")):
        _tab_to(page, f"#{name}")
        keys.type(value)
    _tab_to(page, "#province")
    keys.press("ArrowDown")
    assert page.locator("#province").input_value()
    for name, value in (("city", "Hangzhou"), ("street", "1 Longjing Road")):
        _tab_to(page, f"#{name}")
        keys.type(value)
    _tab_to(page, "button[value=place]")
    keys.press("Space")
    page.wait_for_url("**/pay")
    _tab_to(page, "#pay")
    keys.press("Enter")
    page.locator("button[value=pay]").wait_for()  # the provider's page is there
    _tab_to(page, "button[value=pay]")
    keys.press("Enter")
    expect(page.locator("h1")).to_have_text("Paid")
    window.context.close()
    assert shop.database.run(
        "SELECT count(*) FROM mall.orders WHERE shop_id = %s AND status = 'paid'", shop.shop_id
    ) == [(1,)]


def test_menus_by_keyboard(shops: Shops, browser: Browser) -> None:
    window = open_window(browser, "phone-zh")
    page, keys, shop = window.page, window.page.keyboard, shops.of[0]
    _enter(page, shops, shop, "zh-kb")
    page.goto(f"{shops.url}/merchant/{shop.slug}/products")
    _tab_to(page, ".navbar-toggler")
    keys.press("Enter")
    expect(page.locator(".navbar-toggler")).to_have_attribute("aria-expanded", "true")
    _tab_to(page, "#menu a[href$='/orders']")
    keys.press("Enter")
    page.wait_for_url("**/orders")
    _tab_to(page, ".account-menu summary")
    keys.press("Space")
    _tab_to(page, ".account-card a[href='/account']")
    keys.press("Escape")
    expect(page.locator(".account-menu summary")).to_be_focused()
    expect(page.locator(".account-card")).to_be_hidden()
    window.context.close()
