"""A shop under a host name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from ballast.mall.web import hosts
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.shopping import Shopper, storefront
from tests.integration.mall.test_sandbox import Both


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase) -> Iterator[TestClient[Litestar]]:
    with storefront(mall_database) as client:
        yield client


def _named(shop: Shop, host: str) -> str:
    shop.database.run("INSERT INTO mall.hostname (host, shop_id) VALUES (%s, %s)", host, shop.shop_id)
    return f"http://{host}"


def test_a_shop_stands_at_the_root_of_its_own_host(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    url = _named(shop, "tea.example.com")
    page = client.get(f"{url}/")
    assert page.status_code == 200
    assert f"/s/{shop.slug}" not in page.text
    assert re.search(r'href="/products/[0-9a-f-]{36}"', page.text)
    data = {"_csrf_token": client.cookies["csrftoken"], "sku": str(shop.goods[0].sku_ids[0]), "quantity": "2"}
    added = client.post(f"{url}/cart/add", data=data, follow_redirects=False)
    assert (added.status_code, added.headers["location"]) == (303, "/cart?said=added")
    assert "Path=/;" in added.headers["set-cookie"]
    assert "商品0" in client.get(f"{url}/cart").text
    assert client.get("http://TEA.example.com:8443/me?lang=en").status_code == 200
    # The address that everybody knows goes on, there and at the platform.
    assert client.get(f"{url}/s/{shop.slug}/products").status_code == 200
    assert client.get(f"/s/{shop.slug}/products").status_code == 200
    shop.database.run("UPDATE mall.directory SET status = 'suspended' WHERE shop_id = %s", shop.shop_id)


@pytest.mark.parametrize("path", ["/merchant", "/platform", "/signin", "/s/other/", "/account", "/link/x", "//etc"])
def test_nothing_else_stands_there(client: TestClient[Litestar], open_shop: OpenShop, path: str) -> None:
    shop = open_shop()
    if path == "/s/other/":
        path = f"/s/{open_shop().slug}/"
    url = _named(shop, f"{shop.slug}.example.com")
    assert client.get(f"{url}{path}", follow_redirects=False).status_code == 404


def test_what_is_the_processes_own_answers_under_every_host(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    url = _named(shop, "shared.example.com")
    for path in ("/healthz", "/static/own/storefront.css", "/api/v1/openapi.json", f"/api/v1/shops/{shop.slug}"):
        assert client.get(f"{url}{path}").status_code == 200, path
    assert client.get("http://nobody.example.com/signin").status_code == 200


def test_the_browser_comes_back_from_paying_to_the_host_that_it_left(
    mall_database: MallDatabase, open_shop: OpenShop, tmp_path: Path
) -> None:
    both = Both(mall_database, tmp_path)
    both.start("sandbox")
    try:
        shop = open_shop(products=1)
        url = _named(shop, "paid.example.com")
        settings = msgspec.structs.replace(both.settings, base_url="https://platform.example")
        for root, base, back in (
            (url, "", "https://paid.example.com/orders/"),
            ("https://platform.example", f"/s/{shop.slug}", f"https://platform.example/s/{shop.slug}/orders/"),
        ):
            # The provider's client belongs to settings and to one loop: each application has settings of its own.
            own = msgspec.structs.replace(settings, pool_size=2 + len(base))
            with TestClient(create_app(own), base_url=root) as client:
                shopper = Shopper(client, shop)
                shopper.base = base
                to_pay = client.get(shopper.order(shop).headers["location"]).text
            provider = re.search(rf'href="({settings.sandbox_url}[^"]+)"', to_pay)
            assert provider is not None
            decided = httpx.post(provider[1], data={"decision": "decline"})
            assert re.fullmatch(rf"{back}[0-9a-f-]{{36}}/paid", decided.headers["location"])
    finally:
        both.stop("sandbox")


def test_while_the_database_is_away_a_host_is_503_and_not_404(mall_database: MallDatabase) -> None:
    settings = mall_database.settings(app_dsn="host=/nowhere", base_url="http://platform.example")
    with TestClient(create_app(settings), base_url="http://tea.example.com") as client:
        assert client.get("/products").status_code == 503


def test_what_a_host_leads_to_is_asked_again_after_a_while(
    mall_database: MallDatabase, open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "KNOWN_FOR_S", 0.0)
    shop = open_shop()
    with storefront(mall_database) as client:
        assert client.get("http://later.example.com/categories").status_code == 404
        url = _named(shop, "later.example.com")
        assert client.get(f"{url}/categories").status_code == 200
        shop.database.run("DELETE FROM mall.hostname WHERE host = 'later.example.com'")
        assert client.get(f"{url}/categories").status_code == 404
