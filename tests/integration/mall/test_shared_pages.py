"""Pages that are kept for all who only look: the same for everybody, but for the form's token; and for nobody else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from ballast.mall.web import shared
from ballast.mall.web.app import create_app
from ballast.mall.web.shared import SharedPages
from tests.fix_mall import OpenShop, Shop


class _Front:
    """The mall with shared pages before it. `browser()`: somebody who has not been there yet."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        settings = shop.database.settings()
        self.mall = create_app(settings)
        self.kept_shown = 0
        self.app = SharedPages(self.mall, self.mall, secret=settings.secret, shown=self._shown)
        self.page = f"/s/{shop.slug}/products/{shop.goods[0].product_id}"

    def _shown(self, *_: Any) -> None:
        self.kept_shown += 1

    def browser(self, **headers: str) -> httpx.AsyncClient:
        """A browser with a cookie jar."""
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://mall", headers=headers)

    def price(self, fen: int) -> None:
        """Another price of the first product."""
        self.shop.database.run("UPDATE mall.sku SET price_fen = %s WHERE shop_id = %s", fen, self.shop.shop_id)

    def later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So much later that everything is asked anew."""
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + 60)


def _told(shop: Shop, story: Callable[[_Front], Awaitable[None]]) -> None:
    async def run() -> None:
        front = _Front(shop)
        await front.mall.state.db.open()
        try:
            await story(front)
        finally:
            await front.mall.state.db.close()

    asyncio.run(run())


def _token(page: str) -> str:
    found = re.search(r'name="_csrf_token" value="([^"]*)"', page)
    assert found
    return found[1]


def test_two_browsers_get_one_page_with_a_token_each_and_both_can_buy(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        pages = []
        for _ in range(2):
            async with front.browser() as browser:
                answer = await browser.get(front.page)
                token = _token(answer.text)
                assert answer.cookies["csrftoken"] == token
                pages.append(answer.text.replace(token, ""))
                again = await browser.get(front.page)
                assert _token(again.text) == token
                assert "set-cookie" not in again.headers
                sent = {"_csrf_token": token, "sku": str(shop.goods[0].sku_ids[0]), "quantity": "2"}
                put = await browser.post(f"/s/{shop.slug}/cart/add", data=sent)
                assert put.status_code == 303, put.text[:300]
                # From now on he is somebody: his own page, with his cart.
                assert 'tabs__badge">2<' in (await browser.get(front.page)).text
        assert pages[0] == pages[1]
        assert front.kept_shown == 3

    _told(shop, story)


def test_a_new_price_is_seen_by_shoppers_and_staff_at_once_and_by_all_others_seconds_later(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        async with front.browser() as browser:
            assert "¥10.00" in (await browser.get(front.page)).text
            front.price(77700)
            assert "¥10.00" in (await browser.get(front.page)).text
            for known in ("visitor", "account"):
                browser.cookies.set(known, "whatever")
                assert "¥777.00" in (await browser.get(front.page)).text
                browser.cookies.delete(known)
            front.later(monkeypatch)
            assert "¥777.00" in (await browser.get(front.page)).text

    _told(shop, story)


def test_a_token_that_is_none_does_not_come_into_the_page(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        bad = 'a"><script>1</script>'
        async with front.browser(cookie=f"csrftoken={bad}") as browser:
            for _ in range(2):
                answer = await browser.get(front.page)
                assert "<script>1" not in answer.text
                assert _token(answer.text) == re.search(r"csrftoken=([0-9a-f]{128});", answer.headers["set-cookie"])[1]  # type: ignore[index]

    _told(shop, story)


def test_each_language_has_its_page_and_a_chosen_one_is_remembered(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        for _ in range(2):
            for accepted, lang in (("en-GB,en", "en"), ("zh-CN,zh", "zh-CN"), ("fr", "zh-CN")):
                async with front.browser(**{"accept-language": accepted}) as browser:
                    assert f'<html lang="{lang}">' in (await browser.get(front.page)).text
                    chosen = await browser.get(front.page + "?lang=en")
                    assert '<html lang="en">' in chosen.text
                    assert chosen.cookies["lang"] == "en"
                    assert '<html lang="en">' in (await browser.get(front.page)).text

    _told(shop, story)


def test_what_is_not_there_is_not_kept_and_a_suspended_shop_shows_nothing(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        hide = "UPDATE mall.product SET status = %s WHERE shop_id = %s"
        async with front.browser() as browser:
            shop.database.run(hide, "off_sale", shop.shop_id)
            assert (await browser.get(front.page)).status_code == 404
            shop.database.run(hide, "on_sale", shop.shop_id)
            assert (await browser.get(front.page)).status_code == 200
            shop.database.run("UPDATE mall.directory SET status = 'suspended' WHERE shop_id = %s", shop.shop_id)
            front.later(monkeypatch)
            assert (await browser.get(front.page)).status_code == 403

    _told(shop, story)


def test_many_who_ask_at_once_wait_for_one_page_and_what_fails_is_made_again(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        async with front.browser() as browser:
            answers = await asyncio.gather(*(browser.get(front.page) for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
            assert front.kept_shown == 9
            assert len({_token(answer.text) for answer in answers}) == 10

    _told(shop, story)


def test_whoever_asks_for_much_that_is_new_does_not_drive_out_what_all_look_at(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_shop(products=1)
    monkeypatch.setattr(shared, "MOST_PAGES", 3)

    async def story(front: _Front) -> None:
        async with front.browser() as browser:

            async def kept(url: str) -> bool:
                before = front.kept_shown
                assert (await browser.get(url)).status_code == 200
                return front.kept_shown > before

            assert not await kept(front.page)
            for n in range(6):
                assert not await kept(f"/s/{shop.slug}/products?q=tea{n}")
                assert await kept(front.page)
            assert not await kept(f"/s/{shop.slug}/products?q=tea0")
            # What no page reads makes no other page, and is in none.
            for n in range(3):
                assert await kept(f"{front.page}?utm_source=friend{n}&from=timeline")
            assert await kept(f"/s/{shop.slug}/products?from=timeline&q=tea0")

    _told(shop, story)


def test_a_query_that_no_text_can_be_is_answered_as_without_these_pages(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)

    async def story(front: _Front) -> None:
        async with front.browser() as browser:
            found = await browser.get(f"/s/{shop.slug}/products", params={"q": "茶 & tea"})
            assert "茶 &amp; tea" in found.text
            for bad in ("q=%ff%fe", "q=%00", "lang=%ff", "&&&=&q", "after=%"):
                browser.cookies.set("visitor", "x")
                made = (await browser.get(f"/s/{shop.slug}/products?{bad}")).status_code
                browser.cookies.delete("visitor")
                assert (await browser.get(f"/s/{shop.slug}/products?{bad}")).status_code == made < 500

    _told(shop, story)
