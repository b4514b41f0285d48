"""A browser in the tests' words: follows redirects, keeps cookies, and sends forms with the token that the page gave."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import httpx
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, Shop


class Shopper:
    """Somebody in front of a shop."""

    def __init__(self, client: TestClient[Litestar], shop: Shop) -> None:
        self.client = client
        self.base = f"/s/{shop.slug}"

    def see(self, path: str = "/", status: int = 200) -> str:
        """The page's text."""
        answer = self.client.get(self.base + path, follow_redirects=False)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:300])
        return answer.text

    def send(self, path: str, status: int = 303, **fields: Any) -> httpx.Response:
        """A form; the answer is not followed."""
        if "csrftoken" not in self.client.cookies:
            self.see("/")
        data = {"_csrf_token": self.client.cookies["csrftoken"], **fields}
        answer = self.client.post(self.base + path, data=data, follow_redirects=False)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        return answer

    def order(self, shop: Shop, **changes: Any) -> httpx.Response:
        """The first product into the cart, and the checkout's form sent; the answer to it."""
        self.send("/cart/add", sku=str(shop.goods[0].sku_ids[0]), quantity="1")
        return self.send("/checkout", changes.pop("status", 303), **(checkout_form(self.see("/checkout")) | changes))


def checkout_form(page: str) -> dict[str, Any]:
    """The form of a checkout page, filled in."""
    hidden = dict(re.findall(r'type="hidden" name="(key|shown_fen|line)" value="([^"]+)"', page))
    return {
        **hidden,
        "act": "place",
        "delivery": "ship",
        "name": "Lin",
        "phone": "13800000000",
        "province": "广东省",
        "city": "深圳市",
        "street": "1 Road",
    }


@contextlib.contextmanager
def storefront(database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    """All faces in one process; the payment provider is away."""
    with TestClient(create_app(database.settings(sandbox_url="http://127.0.0.1:9"))) as client:
        yield client
