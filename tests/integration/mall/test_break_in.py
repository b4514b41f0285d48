"""Shop A's shopper, staff and software against shop B, at every route that there is: refused, nothing seen, nothing changed.

Routes are taken from the application itself, so that one that somebody adds is tried as well; a path parameter for which
there is no value fails the test, until one is given in `breaking`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.ids import new_id
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, Shop
from tests.fix_people import Visitor, first_operator_link, shop_with_owner, with_database
from tests.integration.mall.breaking import MARK, Way, body_of, checksum, form_of, furnish, query_names, values_of, ways
from tests.integration.mall.calling import key_of, shopper_of

# What anybody may look at: a storefront's pages and pictures, and the API's answers about them.
PUBLIC_IDS = {"product_id", "page", "picture", "file_path", "provider", "token"}
# Answered alike whatever the id names.
HARMLESS = {"delete_cart_line": "takes out of one's own cart what is not in it"}
REFUSED = {401, 403, 404, 405, 409, 410, 422}
INJECTIONS = ("' OR '1'='1", "'; DROP TABLE mall.orders; --", "\x00", "1e999", "-1", "9" * 400)


@dataclass
class Scene:
    """Both shops, and who breaks in."""

    database: MallDatabase
    client: TestClient[Litestar]
    mine: Shop
    victim: Shop
    values: dict[str, Any]
    staff: httpx.Cookies
    guest: httpx.Cookies
    token: str
    key: str

    def send(
        self, way: Way, path: str, caller: str, *, csrf: bool = True, content: bytes | None = None
    ) -> httpx.Response:
        """One request of a caller: its cookies, its token, its CSRF token, a body that fits."""
        cookies = self.staff if caller == "staff" else self.guest
        self.client.cookies = httpx.Cookies(cookies)
        headers = {"Idempotency-Key": str(new_id()), "If-Match": "*", "Accept-Language": "en"}
        if caller in ("token", "key"):
            headers["Authorization"] = f"Bearer {self.token if caller == 'token' else self.key}"
        if csrf:
            headers["X-CSRFToken"] = str(cookies.get("csrftoken"))
        more: dict[str, Any] = {}
        if content is not None:
            more["content"] = content
            headers["Content-Type"] = "application/json" if way.face == "api" else "application/x-www-form-urlencoded"
        elif way.changes and way.face == "api":
            more["json"] = body_of(way.data, self.values) if way.data is not None else None
        elif way.changes:
            more["data"] = body_of(way.data, self.values) if way.data is not None else form_of(self.values)
        return self.client.request(way.method, path, headers=headers, follow_redirects=False, **more)


@pytest.fixture(scope="module")
def app(mall_database: MallDatabase) -> Litestar:
    much = 10**9
    return create_app(
        mall_database.settings(
            pool_size=3,
            sandbox_url="http://127.0.0.1:9",
            api_caller_per_minute=much,
            api_address_per_minute=much,
            api_shop_per_minute=much,
        )
    )


@pytest.fixture(scope="module")
def scene(mall_database: MallDatabase, app: Litestar) -> Iterator[Scene]:
    with TestClient(app) as client:
        client.headers["Accept-Language"] = "en"
        root = Visitor(client)
        root.make_account(with_database(mall_database, first_operator_link), "root")
        shops = {}
        for slug in ("mine", "theirs"):
            shop_id, owner = shop_with_owner(root, lambda: Visitor(client), slug)
            shops[slug] = (Shop(mall_database, UUID(shop_id), slug), owner)
        mine, owner = shops["mine"]
        victim = shops["theirs"][0]
        mine.add_product("mine")
        account = mall_database.run("SELECT account_id FROM mall.staff WHERE shop_id = %s", victim.shop_id)[0][0]
        other = mall_database.run("SELECT account_id FROM mall.account WHERE login = 'root'")[0][0]
        assert account != other
        furnish(mall_database, victim, other)
        client.cookies = httpx.Cookies()
        client.get(f"/s/{mine.slug}/")
        form = {"_csrf_token": client.cookies["csrftoken"], "sku": str(mine.goods[0].sku_ids[0])}
        assert client.post(f"/s/{mine.slug}/cart/add", data=form, follow_redirects=False).status_code == 303
        # A member has more to ask for than a guest.
        login = {"login": "13900000000", "password": "four words in one"}
        register = {"_csrf_token": client.cookies["csrftoken"], **login}
        assert client.post(f"/s/{mine.slug}/register", data=register, follow_redirects=False).status_code == 303
        guest = httpx.Cookies(client.cookies)
        program = shopper_of(client, mine)
        program.token = program.call("POST", "/sign-in", login)["token"]
        owner.get("/signin")
        yield Scene(
            mall_database,
            client,
            mine,
            victim,
            values_of(mall_database, victim),
            owner.cookies,
            guest,
            program.token,
            key_of(mine),
        )


def _callers(way: Way) -> tuple[str, ...]:
    return ("token", "key") if way.face == "api" else ("guest", "staff")


def _is_refused(way: Way, answer: httpx.Response) -> bool:
    if answer.status_code == 303:
        return answer.headers["location"].startswith("/signin") or answer.headers["location"].endswith("/login")
    # A handler that reads its form itself may miss a field before it looks for the thing.
    own_form = way.changes and way.face != "api" and way.data is None
    return answer.status_code in REFUSED or (own_form and answer.status_code == 400)


def test_every_route_that_names_a_thing_refuses_another_shops(app: Litestar, scene: Scene) -> None:
    before = checksum(scene.database, scene.victim)
    wrong = []
    tried = 0
    for way in ways(app):
        if not way.names:
            continue
        theirs = way.paths(scene.values)
        mixed = way.paths({**scene.values, "slug": scene.mine.slug})
        attempts = {*mixed} if way.ids else set()
        if way.face != "s" or (way.ids and not set(way.ids) <= PUBLIC_IDS):
            attempts.update(theirs)
        for path in sorted(attempts):
            for caller in _callers(way):
                if way.handler.fn.__name__ in HARMLESS and path in mixed:
                    continue
                public = not way.changes and (path in theirs or not way.ids) and set(way.ids) <= PUBLIC_IDS
                answer = scene.send(way, path, caller)
                tried += 1
                if answer.status_code >= 500 and answer.status_code != 503:
                    wrong.append(f"{way} as {caller}: {answer.status_code} {answer.text[:200]}")
                elif not public and not _is_refused(way, answer):
                    wrong.append(f"{way} as {caller}, {path}: {answer.status_code} {answer.text[:300]}")
                elif not public and MARK in answer.text.replace(path, ""):
                    wrong.append(f"{way} as {caller}, {path} shows what is the victim's")
    assert wrong == []
    assert tried > 150
    assert checksum(scene.database, scene.victim) == before


def test_another_shops_ids_in_a_body_change_nothing_there(app: Litestar, scene: Scene) -> None:
    before = checksum(scene.database, scene.victim)
    for way in ways(app):
        if way.changes and way.face in ("s", "api", "merchant") and not way.ids and not way.ends_a_session:
            for caller in _callers(way):
                answer = scene.send(way, way.paths({**scene.values, "slug": scene.mine.slug})[0], caller)
                assert answer.status_code < 500, (str(way), answer.text[:300])
                assert MARK not in answer.text, str(way)
    assert checksum(scene.database, scene.victim) == before


def test_no_form_is_taken_without_its_token(app: Litestar, scene: Scene) -> None:
    tried = 0
    for way in ways(app):
        if way.changes and way.face not in ("api", "pay"):
            answer = scene.send(way, way.paths({**scene.values, "slug": scene.mine.slug})[0], "staff", csrf=False)
            assert answer.status_code == 403, str(way)
            tried += 1
    assert tried > 30


def test_a_body_that_is_too_large_is_not_read(app: Litestar, scene: Scene) -> None:
    for way in ways(app):
        limit = way.handler.resolve_request_max_body_size()
        if way.changes and limit and limit <= 4 << 20 and not way.ends_a_session:
            path = way.paths({**scene.values, "slug": scene.mine.slug})[0]
            for caller in _callers(way)[1:]:
                answer = scene.send(way, path, caller, content=b"a" * (limit + 1))
                # Who may not enter is told so before; a handler that takes no body does not read one.
                refused = answer.status_code in (413, 403, 404)
                assert refused or (way.data is None and answer.status_code < 500), (str(way), answer.status_code)


def test_a_query_is_a_text_and_never_a_statement(app: Litestar, scene: Scene) -> None:
    before = checksum(scene.database, scene.victim)
    tried = 0
    for way in ways(app):
        # (Of the last, one says 503 where no worker is, as here.)
        if way.method != "GET" or way.face in ("static", "pictures", "healthz"):
            continue
        values = {**scene.values, "slug": scene.mine.slug, "order_id": new_id()}
        for name in query_names(way.handler):
            if name in way.names:
                continue
            for text in INJECTIONS:
                answer = scene.send(way, f"{way.paths(values)[0]}?{name}={quote(text)}", _callers(way)[-1])
                assert answer.status_code < 500, (str(way), name, text, answer.text[:300])
                assert MARK not in answer.text, (str(way), name, text)
                tried += 1
    assert tried > 500
    assert checksum(scene.database, scene.victim) == before


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/..%2fsettings.py",
        "/static/own/%2e%2e%2f%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/own/admin.css%00.py",
        "/s/../platform",
        "/s/mine/..%2f..%2fplatform",
        "/s/mine%2f..%2ftheirs/me",
        "/s/%00/",
        "/s/'/products",
        "/s/" + "a" * 5000 + "/",
        "/s/mine/p/..%2f..%2f",
        "/s/mine/p/%00",
        "/api/v1/shops/..%2f..%2fplatform",
        "/api/v1/shops/mine/products/%00",
        "/merchant/mine/..%2ftheirs/",
        "/merchant/%00/",
        "/%ff%fe",
    ],
)
def test_a_path_leads_nowhere_else(scene: Scene, path: str) -> None:
    scene.client.cookies = httpx.Cookies(scene.staff)
    answer = scene.client.get(path, follow_redirects=False)
    assert answer.status_code in (303, 400, 403, 404, 405), answer.text[:200]
    assert MARK not in answer.text
    assert "from __future__" not in answer.text
    assert "root:" not in answer.text
