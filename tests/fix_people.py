"""Somebody at the mall's admins without a browser: `visitor` makes one, who follows links, fills forms and keeps cookies.

- `operator` is an operator of the module's database, made by the link for the first one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall import links
from ballast.mall.db import Database
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase

PASSWORD = "four words in one"
Answer = TypeVar("Answer")


def with_database(mall: MallDatabase, work: Callable[[Database], Awaitable[Answer]]) -> Answer:
    """What a piece of async work with a database's pools comes to."""

    async def run() -> Answer:
        database = Database(mall.settings())
        await database.open()
        try:
            return await work(database)
        finally:
            await database.close()

    # In a thread of its own: the one that drives a browser has a loop already.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


@dataclass
class Visitor:
    """One browser, without the browser: cookies of its own, at an application that it shares with others."""

    client: TestClient[Litestar]
    cookies: httpx.Cookies = field(default_factory=httpx.Cookies)

    def get(self, path: str, **more: Any) -> httpx.Response:
        """A page, wherever it is redirected to."""
        return self._send("GET", path, **more)

    def post(self, path: str, fields: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        """A form, with the CSRF token that a page of this browser shows; where it is redirected to is not followed."""
        shown = re.search(r'name="_csrf_token" value="([^"]+)"', self.get("/signin").text)
        assert shown is not None
        data = {"_csrf_token": shown[1], **(fields or {})}
        return self._send("POST", path, data=data, follow_redirects=False, **more)

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        self.client.cookies = self.cookies
        answer = self.client.request(method, path, **more)
        self.cookies = self.client.cookies
        return answer

    def sign_in(self, login: str, password: str = PASSWORD, code: str = "") -> httpx.Response:
        """Fills the sign-in form."""
        return self.post("/signin", {"login": login, "password": password, "code": code})

    def make_account(self, token: str, login: str, password: str = PASSWORD) -> httpx.Response:
        """Follows a link and makes an account by it; is signed in then."""
        return self.post(
            f"/link/{token}/account", {"login": login, "name": login.title(), "password": password, "again": password}
        )

    @property
    def session(self) -> str | None:
        """The session's token."""
        return self.cookies.get("account")


def token_in(page: str) -> str:
    """The token of the link that a page shows."""
    found = re.search(r"/link/([\w-]{43})", page)
    assert found is not None, page
    return found[1]


NewVisitor = Callable[[], Visitor]


@pytest.fixture(scope="module")
def visitor(mall_database: MallDatabase) -> Iterator[NewVisitor]:
    """Makes browsers, all at one application with all faces."""
    with TestClient(create_app(mall_database.settings(pool_size=3))) as client:
        client.headers["Accept-Language"] = "en"
        yield lambda: Visitor(client)


@pytest.fixture(scope="module")
def operator(mall_database: MallDatabase, visitor: NewVisitor) -> Visitor:
    """The first operator of the module's database, `root`, signed in."""
    token = with_database(mall_database, first_operator_link)
    root = visitor()
    assert root.make_account(token, "root").headers["location"] == "/platform"
    return root


async def first_operator_link(database: Database) -> str:
    """What `ballast up` prints."""
    async with database.identity() as connection:
        return await links.first_operator(connection, datetime.now(UTC))


def shop_with_owner(operator: Visitor, visitor: NewVisitor, slug: str) -> tuple[str, Visitor]:
    """A shop that the operator opened, by its id, and its owner `owner-<slug>`, who is signed in."""
    opened = operator.post(
        "/platform/open", {"slug": slug, "name": f"Shop {slug}", "industry": "food", "plan": "basic", "language": "en"}
    )
    shop_id = re.search(r"/platform/shops/([0-9a-f-]{36})", opened.text)
    assert shop_id is not None, opened.text
    owner = visitor()
    assert owner.make_account(token_in(opened.text), f"owner-{slug}").status_code == 303
    return shop_id[1], owner
