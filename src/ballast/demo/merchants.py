"""A few merchants at their desks: one looks at orders and goods now and then, and gives a SKU another code."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from random import Random

from ballast.demo.browser import REFUSED, Browser, GaveUp, Page
from ballast.demo.crowd import Crowd
from ballast.demo.ledger import Asked, Edited, Ledger
from ballast.mall.seed import DEMO_LOGIN

COUNT = 3
EVERY_S = 2.0
READ_ONLY = (403, 409, 422, 503)
"""While the database is away a merchant's pages cannot be changed; one is told so, which is an answer."""
_OF_SKU = ("sku", "price", "compare_at", "weight", "code")


class Merchants:
    """Each has a shop of his own; one account owns all of them."""

    def __init__(self, crowd: Crowd, shops: Sequence[str], ledger: Ledger, *, seed: int, password: str) -> None:
        self._crowd, self._ledger, self._password = crowd, ledger, password
        rng = Random(f"merchants {seed}")  # noqa: S311 - the same run is to be had again
        self._shops = rng.sample(list(shops), min(COUNT, len(shops)))
        self.saved = self.refused = 0
        """Changes that were saved; that could not be made just now."""

    async def run(self) -> None:
        """They work, until it is cancelled."""
        async with asyncio.TaskGroup() as desks:
            for number, shop in enumerate(self._shops):
                desks.create_task(self._work(shop, number))

    async def _work(self, shop: str, number: int) -> None:
        browser: Browser | None = None
        await asyncio.sleep(number * EVERY_S / COUNT)
        for turn in itertools.count(1):
            try:
                if browser is None:
                    browser = await self._enter(shop)
                await self._edit(browser, turn)
            except GaveUp:
                pass  # he comes again; the requests are counted as they were
            await asyncio.sleep(EVERY_S)

    async def _enter(self, shop: str) -> Browser:
        browser = self._crowd.browser(shop)
        await browser.see("/signin", kind="merchant")
        sent = {"login": DEMO_LOGIN, "password": self._password, "code": "", "next": ""}
        entered = await browser.send("/signin", sent, kind="merchant")
        if entered.status != 303:
            raise GaveUp("signing in")
        return browser

    async def _edit(self, browser: Browser, turn: int) -> None:
        base = f"/merchant/{browser.shop}"
        await browser.see(f"{base}/orders", kind="merchant")
        listed = await browser.see(f"{base}/products", kind="merchant")
        products = listed.ids(f"{base}/products/")
        if not products:
            return
        path = f"{base}/products/{products[0]}"
        page = await browser.see(path, kind="merchant")
        fields = _skus(page)
        code = f"R-{turn:04}-{int(time.time()) % 1_000_000:06}"
        fields["code"][0] = code
        sent_at, sku = time.time(), fields["sku"][0]
        self._ledger.note(Asked(shop=browser.shop, at=sent_at, sent_at=sent_at, sku_id=sku, code=code))
        right = (303, *REFUSED, *READ_ONLY)
        answer = await browser.send(f"{path}/skus", fields, kind="merchant", right=right)
        if answer.status != 303 or "said=saved" not in answer.location:
            self.refused += 1
            return
        self.saved += 1
        self._ledger.note(Edited(shop=browser.shop, at=time.time(), sent_at=sent_at, sku_id=sku, code=code))


def _skus(page: Page) -> dict[str, list[str]]:
    """The form of a product's SKUs, as it stands on the page."""
    form = page.text.partition('id="skus"')[2].partition("</form>")[0]
    part = Page(200, form, {})
    rows = {name: re.findall(rf'name="{name}" value="([^"]*)"', form) for name in _OF_SKU}
    if not rows["code"]:
        raise GaveUp("no SKU to change")
    offered = re.findall(r'name="offered" value="([^"]*)" checked', form)
    return {"version": part.hidden("version")["version"], **rows, "offered": offered}
