"""What one shopper does in a shop, from the first page to the last: he looks around, or he buys."""

from __future__ import annotations

import asyncio
import time
from random import Random
from urllib.parse import quote

import msgspec

from ballast.demo.browser import REFUSED, Browser, Fields, GaveUp, Page
from ballast.demo.ledger import Ledger, Numbered, Ordered, Paid
from ballast.mall.seed import DEMO_PHONE

THINKS_S = (0.35, 0.5)
"""Between two pages."""
_RECEIVER = {"name": "林晓", "phone": "13800000000", "province": "广东省", "city": "深圳市", "street": "人民路1号"}
_SEARCHED = ("新", "好", "礼", "色")
_MEMBERS = 0.04
"""Of those who buy, so many log in first, and as many again register."""
_WAITS_FOR_PAYMENT_S = 30.0


class Bought(msgspec.Struct, frozen=True):
    """An order that somebody may come back for."""

    browser: Browser
    order_id: str


class Shopper:
    """One of them, with his own chances."""

    def __init__(self, browser: Browser, ledger: Ledger, mark: str, rng: Random, password: str) -> None:
        """`mark`: tells his orders from all others. `password`: of the shop's demo customer."""
        self._browser, self._ledger, self._mark, self._rng, self._password = browser, ledger, mark, rng, password
        self._base = f"/s/{browser.shop}"

    async def look_around(self) -> None:
        """Home, categories, one of them, two products. GaveUp."""
        await self._see("/")
        categories = (await self._see("/categories")).ids(f"{self._base}/products?category=")
        listed = await self._see(f"/products?category={self._one_of(categories)}" if categories else "/products")
        products = listed.ids(f"{self._base}/products/")
        for _ in range(2 if products else 0):
            await self._see(f"/products/{self._one_of(products)}")

    async def come_back(self, bought: Bought) -> None:
        """See how an order of before is: it must be there, wherever the shop is served from. GaveUp."""
        await self._see("/orders")
        await self._see(f"/orders/{bought.order_id}")
        await self._see("/")

    async def buy(self) -> Bought | None:
        """From the home page to a paid order. None: a rule said no, or there was nothing to be had. GaveUp."""
        await self._see("/")
        await self._enter()
        product = await self._choose()
        sku = product.search(r'name="sku" value="([0-9a-f-]{36})" required checked') if product else None
        if product is None or sku is None:
            return None
        added = await self._send("/cart/add", {"sku": sku, "quantity": "1", "then": "buy"})
        if added.status != 303:
            return None
        checkout = await self._see("/checkout", right=(200, 303))
        if checkout.status != 200:
            return None
        order_id = await self._place(checkout)
        if order_id is None:
            return None
        await self._pay(order_id)
        return Bought(self._browser, order_id)

    async def _enter(self) -> None:
        chance = self._rng.random()
        if chance < _MEMBERS:
            await self._see("/login", right=(200, 303))
            await self._send("/login", {"login": DEMO_PHONE, "password": self._password}, right=(303, *REFUSED, 429))
        elif chance < 2 * _MEMBERS:
            await self._see("/register")
            entry = {"login": f"{self._mark}@example.com", "password": f"{self._mark} of nobody", "name": "林晓"}
            await self._send("/register", entry, right=(303, *REFUSED, 429))

    async def _choose(self) -> Page | None:
        searched = self._rng.random() < 0.3
        listed = await self._see(f"/products?q={quote(self._one_of(_SEARCHED))}" if searched else "/products")
        products = listed.ids(f"{self._base}/products/")
        if not products:
            products = (await self._see("/products")).ids(f"{self._base}/products/")
        return await self._see(f"/products/{self._one_of(products)}") if products else None

    async def _place(self, form: Page) -> str | None:
        """Fill in the form, have it priced, send it; once more where the price has changed meanwhile."""
        delivery = {"delivery": "ship", "note": self._mark, **_RECEIVER}
        hidden = form.hidden("key", "shown_fen", "line")
        form = await self._send("/checkout", {**hidden, **delivery, "act": "quote"}, right=(200, *REFUSED))
        for _ in range(2):
            hidden = form.hidden("key", "shown_fen", "line")
            if "key" not in hidden:
                return None
            await self._think()
            sent_at = time.time()
            answer = await self._browser.send(
                f"{self._base}/checkout", {**hidden, **delivery, "act": "place"}, kind="order"
            )
            if answer.status == 303:
                return self._ordered(answer, hidden, sent_at)
            form = answer
        return None

    def _ordered(self, answer: Page, hidden: dict[str, list[str]], sent_at: float) -> str | None:
        parts = answer.location.partition("?")[0].split("/")
        if "orders" not in parts:
            return None  # back to the cart: it was sold out
        order_id = parts[parts.index("orders") + 1]
        lines = tuple((sku, int(pieces)) for sku, _, pieces in (one.partition(":") for one in hidden["line"]))
        self._ledger.note(
            Ordered(
                shop=self._browser.shop,
                at=time.time(),
                sent_at=sent_at,
                order_id=order_id,
                mark=self._mark,
                lines=lines,
                total_fen=int(hidden["shown_fen"][0]),
            )
        )
        return order_id

    async def _pay(self, order_id: str) -> None:
        page = await self._see(f"/orders/{order_id}/pay", right=(200, 303))
        if page.status == 303:  # the provider could not be asked when the order was placed
            await self._see(f"/orders/{order_id}")
            await self._send(f"/orders/{order_id}/pay", {})
            page = await self._see(f"/orders/{order_id}/pay", right=(200, 303))
        url = page.search(r'id="pay" href="([^"]+)"')
        if (number := page.search(r"(\d{6}-\d{6}-\d{6})")) is not None:
            self._ledger.note(
                Numbered(
                    shop=self._browser.shop,
                    at=time.time(),
                    sent_at=time.time(),
                    order_id=order_id,
                    number=number.replace("-", ""),
                )
            )
        if url is None:
            raise GaveUp("no way to pay")
        await self._browser.see(url, kind="payment")
        await self._think()
        await self._browser.send(url, {"decision": "pay"}, kind="payment", right=(303,))
        until = time.monotonic() + _WAITS_FOR_PAYMENT_S
        page = await self._see(f"/orders/{order_id}/paid")
        while page.reloads and time.monotonic() < until:
            await asyncio.sleep(1.0)
            page = await self._browser.see(f"{self._base}/orders/{order_id}/paid", kind="form")
        sent_at = time.time()
        page = await self._see(f"/orders/{order_id}")
        if f"/orders/{order_id}/refund" not in page.text:  # what is paid can be asked back
            raise GaveUp("the payment was not confirmed")
        self._ledger.note(Paid(shop=self._browser.shop, at=time.time(), sent_at=sent_at, order_id=order_id))

    async def _see(self, path: str, right: tuple[int, ...] = (200,)) -> Page:
        await self._think()
        return await self._browser.see(self._base + path, right=right)

    async def _send(self, path: str, fields: Fields, right: tuple[int, ...] = (303, *REFUSED)) -> Page:
        await self._think()
        return await self._browser.send(self._base + path, fields, right=right)

    async def _think(self) -> None:
        await asyncio.sleep(self._rng.uniform(*THINKS_S))

    def _one_of(self, of: tuple[str, ...] | list[str]) -> str:
        return of[int(self._rng.random() * len(of))]
