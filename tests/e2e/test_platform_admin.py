"""The platform's admin in a real browser: the first operator by a link, a shop, its owner with two steps, suspended."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pyotp
import pytest
from granian.constants import Interfaces
from granian.server.embed import Server
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop
from tests.fix_people import first_operator_link, with_database

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
PASSWORD = "four words in one"
# Where pictures of every page are kept for looking at, if anywhere.
PICTURES = os.environ.get("BALLAST_TEST_PICTURES")
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 800}}


@pytest.fixture(scope="module")
def address(mall_database: MallDatabase) -> Iterator[str]:
    """The platform under a real HTTP server in this process."""
    import asyncio

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    app = create_app(mall_database.settings(base_url=url, pool_size=3))
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


def _person(browser: Browser, complaints: list[str], size: str = "desktop") -> BrowserContext:
    """Somebody with a browser of their own, who reads English; what their console says is collected."""
    context = browser.new_context(locale="en-GB", viewport=SIZES[size])  # type: ignore[arg-type]
    context.set_default_timeout(15_000)

    def watch(page: Page) -> None:
        page.on("console", lambda one: complaints.append(f"{page.url}: {one.text}") if one.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("dialog", lambda dialog: dialog.accept())

    context.on("page", watch)
    return context


def _make_account(page: Page, link: str, login: str, name: str) -> None:
    page.goto(link)
    page.get_by_label("Login").fill(login)
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The password again").fill(PASSWORD)
    page.get_by_role("button", name="Make the account").click()


def _refused(complaints: list[str]) -> list[str]:
    """What a console said beyond naming an answer that is an error by intent."""
    return [one for one in complaints if "Failed to load resource: the server responded with a status of 4" not in one]


@pytest.mark.timeout(180)
def test_from_the_first_operators_link_to_a_suspended_shop(
    browser: Browser, address: str, mall_database: MallDatabase
) -> None:
    complaints: list[str] = []
    operators = _person(browser, complaints)
    root = operators.new_page()
    token = with_database(mall_database, first_operator_link)
    _make_account(root, f"{address}/link/{token}", "root@example.com", "Root")
    expect(root).to_have_title("Overview · Platform admin")
    root.goto(f"{address}/link/{token}")
    expect(root.get_by_role("heading", name="This link is over")).to_be_visible()

    root.goto(f"{address}/platform")
    root.get_by_role("navigation", name="Main menu").get_by_role("link", name="Open a shop").click()
    root.get_by_label("Name", exact=True).fill("Lin <script>alert(1)</script>")
    root.get_by_label("Address").fill("lin")
    root.get_by_label("Host name").fill("lin.example.com")
    root.get_by_role("button", name="Open a shop").click()
    invitation = root.get_by_label("Link", exact=True).input_value()
    _keep(root, "opened-desktop-en")
    root.get_by_role("link", name="Go on").click()
    expect(root.get_by_role("heading", level=1)).to_have_text("Lin <script>alert(1)</script> Open")

    owners = _person(browser, complaints, "phone")
    owner = owners.new_page()
    owner.goto(invitation)
    _keep(owner, "invitation-phone-en")
    _make_account(owner, invitation, "lin@example.com", "Lin")
    expect(owner).to_have_url(f"{address}/merchant/lin")
    owner.goto(f"{address}/account")
    secret = owner.locator("#totp-secret").inner_text()
    totp = pyotp.TOTP(secret)
    owner.get_by_label("Code", exact=True).fill(totp.at(datetime.now(UTC) - timedelta(seconds=30)))
    owner.locator("#totp-present").fill(PASSWORD)
    owner.get_by_role("button", name="Turn it on").click()
    expect(owner.get_by_role("status")).to_contain_text("Two-step sign-in is on")
    owner.locator(".account-menu summary").click()
    owner.get_by_role("button", name="Sign out").click()
    expect(owner.get_by_role("status")).to_contain_text("You are signed out")

    def sign_in(code: str) -> None:
        owner.get_by_label("Login").fill("lin@example.com")
        owner.get_by_label("Password", exact=True).fill(PASSWORD)
        owner.get_by_label("Two-step code").fill(code)
        owner.get_by_role("button", name="Sign in").click()

    sign_in("")
    expect(owner.get_by_role("alert")).to_contain_text("Login, password or code is wrong")
    sign_in(totp.now())
    expect(owner).to_have_url(f"{address}/merchant/lin")
    assert owner.goto(f"{address}/platform").status == 404  # type: ignore[union-attr]

    root.get_by_label("Why suspend it").fill("Complaints")
    root.get_by_role("button", name="Suspend").click()
    expect(root.get_by_role("status")).to_contain_text("The shop is suspended")
    owner.goto(f"{address}/merchant/lin")
    expect(owner.get_by_role("status")).to_contain_text("has suspended this shop: Complaints")
    _keep(owner, "suspended-phone-en")
    _keep(root, "suspended-desktop-en")
    root.get_by_label("Why reopen it").fill("Settled")
    root.get_by_role("button", name="Reopen").click()
    owner.reload()
    expect(owner.get_by_role("status")).to_have_count(0)
    root.get_by_label("Days", exact=True).fill("60")
    root.get_by_label("Reason", exact=True).fill("Outage")
    root.get_by_role("button", name="Extend").click()
    expect(root.get_by_role("status")).to_contain_text("The service is extended")
    assert mall_database.run("SELECT days, given_by FROM mall.service_extension") == [(60, "root@example.com")]
    operators.close()
    owners.close()
    assert _refused(complaints) == []


# Those that show how many shops there are and what they sell; `test_every_page` comes to all.
PAGES = {
    "overview": "/platform",
    "shops": "/platform/shops",
    "plans": "/platform/plans",
    "industries": "/platform/industries",
    "shop": "/platform/shops/{shop}",
}


@pytest.mark.timeout(180)
def test_pages_of_many_shops_fit_both_widths_in_both_languages_and_complain_of_nothing(
    browser: Browser, address: str, mall_database: MallDatabase, open_shop: OpenShop
) -> None:
    """Follows the story above: its operator is there."""
    shops = [open_shop(products=1) for _ in range(30)]
    with psycopg.connect(mall_database.dsn) as connection:
        for number, shop in enumerate(shops):
            connection.execute(
                "INSERT INTO mall.orders (shop_id, order_id, number, status, owner_id, delivery, items_fen, discount_fen, shipping_fen,"
                " total_fen, paid_fen, source, placed_at, pay_by) VALUES (%s, gen_random_uuid(), %s, 'paid', gen_random_uuid(), 'ship',"
                " %s, 0, 0, %s, %s, 'web', now() - make_interval(days => %s), now())",
                (shop.shop_id, f"{number:018d}", *[1000 + 700 * number] * 3, number % 20),
            )
    complaints: list[str] = []
    for size in SIZES:
        context = _person(browser, complaints, size)
        page = context.new_page()
        page.goto(f"{address}/signin")
        _keep(page, f"signin-{size}-en")
        page.get_by_label("Login").fill("root@example.com")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_title("Overview · Platform admin")
        ((lin,),) = mall_database.run("SELECT shop_id FROM mall.directory WHERE slug = 'lin'")
        # What is too wide is so on a phone first; all four are looked at where pictures are kept.
        for language, spoken in (("zh", "zh-CN"), ("en", "en"))[0 if size == "phone" or PICTURES else 1 :]:
            for name, path in PAGES.items():
                answer = page.goto(f"{address}{path.format(shop=lin)}?lang={language}")
                assert answer is not None
                assert answer.status == 200, path
                assert page.locator("html").get_attribute("lang") == spoken
                beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                unnamed = page.evaluate(
                    "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter(one => !one.labels.length).length"
                )
                _keep(page, f"{name}-{size}-{language}")
                if (beyond, unnamed) != (0, 0):
                    complaints.append(
                        f"{path} {size} {language}: {beyond} pixels too wide, {unnamed} fields without a label"
                    )
        context.close()
    assert complaints == []


def _keep(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
