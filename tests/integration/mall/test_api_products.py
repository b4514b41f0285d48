"""A shop's own software makes and changes products through the API, by the rules of the merchant's pages."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from PIL import Image

from ballast.mall.ids import new_id
from ballast.mall.web.app import create_app
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.integration.mall.calling import Caller, shopper_of, software_of

SIZES = [{"name": "尺码", "name_en": "Size", "values": [{"value": "S"}, {"value": "M", "value_en": "Medium"}]}]


@pytest.fixture(scope="module")
def client(mall_database: MallDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient[Litestar]]:
    folder: Path = tmp_path_factory.mktemp("pictures")
    with TestClient(create_app(mall_database.settings(pictures=str(folder)))) as client:
        yield client


def _shirt(**changes: Any) -> dict[str, Any]:
    skus = [
        {"options": ["S"], "price_fen": 900, "stock": 3, "code": "S-1"},
        {"options": ["M"], "price_fen": 1100, "compare_at_fen": 1500, "stock": 4, "weight_g": 200},
    ]
    return {"title": "衬衫", "title_en": "Shirt", "options": SIZES, "skus": skus, "status": "on_sale", **changes}


def _send(software: Caller, kind: str, size: tuple[int, int] = (1200, 900)) -> Any:
    made = io.BytesIO()
    Image.new("RGB", size, (30, 120, len(kind))).save(made, kind)
    headers = {"Authorization": f"Bearer {software.token}", "Content-Type": f"image/{kind.lower()}"}
    answer = software.client.post(f"{software.root}/pictures", content=made.getvalue(), headers=headers)
    assert answer.status_code == 201, answer.text
    return answer


def _category(shop: Shop) -> str:
    category_id = new_id()
    statement = "INSERT INTO mall.category (shop_id, category_id, name, visible) VALUES (%s, %s, '衣', false)"
    shop.database.run(statement, shop.shop_id, category_id)
    return str(category_id)


def test_a_product_is_made_whole_and_once(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    software, shopper = software_of(client, shop), shopper_of(client, shop)
    category = _category(shop)
    assert [one["category_id"] for one in software.call("GET", "/categories")["items"]] == [category]
    [shipping] = software.call("GET", "/shippings")["items"]
    pictures = [_send(software, kind).json()["picture"] for kind in ("PNG", "JPEG")]
    body = _shirt(
        categories=[category],
        pictures=pictures,
        external_code="SH-1",
        shipping_id=shipping["shipping_id"],
        description="<p>Cotton</p><script>x</script>",
    )
    made = software.ask("POST", "/products", body, status=201, key="one")
    assert software.ask("POST", "/products", body, status=201, key="one").json() == made.json()
    assert software.call("POST", "/products", {**body, "title": "x"}, status=422, key="one")["code"] == (
        "idempotency.differs"
    )
    product = made.json()
    assert client.get(made.headers["location"], headers={"Authorization": f"Bearer {software.token}"}).json() == product
    assert (product["status"], product["pictures"], product["categories"]) == ("on_sale", pictures, [category])
    assert product["description"] == "<p>Cotton</p>"
    assert product["options"][0]["values"][1] == {"value": "M", "value_en": "Medium"}
    skus = {one["options"][0]: one for one in product["skus"]}
    assert [(skus[size]["price_fen"], skus[size]["on_hand"], skus[size]["code"]) for size in "SM"] == [
        (900, 3, "S-1"),
        (1100, 4, ""),
    ]
    shown = shopper.call("GET", f"/products/{product['product_id']}")
    assert [(one["options"], one["now_fen"], one["free"]) for one in shown["choices"]] == [
        (["S"], 900, 3),
        (["M"], 1100, 4),
    ]
    assert shopper.call("GET", "/products?q=衬衫")["items"][0]["picture"] == pictures[0]
    assert len(software.call("GET", "/products")["items"]) == 1
    said = shop.database.run("SELECT action, actor FROM mall.audit WHERE shop_id = %s", shop.shop_id)
    assert {action for action, _ in said} >= {"pictures.added", "product.made", "product.on_sale"}
    assert all(actor.startswith("bk_") for action, actor in said if action.startswith("p"))


def test_what_is_left_out_of_a_change_stays(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    software = software_of(client, shop)
    made = software.ask("POST", "/products", _shirt(subtitle="棉"), status=201, key="one")
    path = f"/products/{made.json()['product_id']}"
    changed = software.ask("PATCH", path, {"title": "T 恤"}, If_Match=made.headers["etag"])
    assert (changed.json()["title"], changed.json()["subtitle"]) == ("T 恤", "棉")
    assert software.call("PATCH", path, {"title": "x"}, status=412, If_Match=made.headers["etag"])["code"] == (
        "version.outdated"
    )
    software.call("PATCH", path, {"title": "x"}, status=428)
    software.call("PATCH", path, {"titel": "x"}, status=400, If_Match="*")

    # One more value, one fewer; the SKU that stays keeps its id and its stock.
    larger = [{"name": "尺码", "name_en": "Size", "values": [{"value": "M"}, {"value": "L"}, {"value": "XL"}]}]
    body = {
        "options": larger,
        "skus": [{"options": ["M"], "price_fen": 1000}, {"options": ["L"], "price_fen": 1200, "stock": 7}],
    }
    after = software.ask("PATCH", path, body, If_Match=changed.headers["etag"]).json()
    skus = {one["options"][0]: one for one in after["skus"]}
    before = {one["options"][0]: one for one in made.json()["skus"]}
    assert skus["M"]["sku_id"] == before["M"]["sku_id"]
    assert {
        size: (one["active"], one["price_fen"], one["compare_at_fen"], one["on_hand"]) for size, one in skus.items()
    } == {
        "M": (True, 1000, 1500, 4),
        "L": (True, 1200, None, 7),
        "XL": (False, 1100, None, 0),
        "S": (False, 900, None, 3),
    }
    assert (after["min_price_fen"], after["max_price_fen"]) == (1000, 1200)
    stays = software.call("PATCH", path, {"skus": [{"options": ["L"], "stock": 9}]}, status=422, If_Match="*")
    assert stays["code"] == "sku.stock_by_itself"
    off = software.call("PATCH", path, {"skus": [{"options": ["L"], "active": False}]}, If_Match="*")
    assert [one["options"] for one in off["skus"] if one["active"]] == [["M"]]
    assert software.call("PATCH", path, {"shipping_id": None, "categories": []}, If_Match="*")["title"] == "T 恤"
    gone = software.call("PATCH", f"{path}/skus/{before['S']['sku_id']}", {"active": True}, status=422, If_Match="*")
    assert gone["code"] == "sku.unknown_options"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"skus": []}, 400, "request.invalid"),
        ({"skus": [{"options": ["S"]}]}, 400, "request.invalid"),
        ({"skus": [{"options": ["XXL"], "price_fen": 1}]}, 422, "sku.unknown_options"),
        ({"skus": [{"options": ["S"], "price_fen": 1}] * 2}, 422, "sku.twice"),
        ({"skus": [{"options": ["S"], "price_fen": 5, "compare_at_fen": 5}]}, 422, "sku.compare_at"),
        ({"options": [], "skus": [{"options": ["S"], "price_fen": 1}]}, 422, "sku.unknown_options"),
        ({"options": SIZES * 2}, 422, "sku.name_twice"),
        ({"pictures": ["ab" * 32]}, 404, "picture.unknown"),
        ({"categories": [str(new_id())]}, 404, "category.unknown"),
        ({"shipping_id": str(new_id())}, 404, "shipping.unknown"),
        ({"external_code": "TAKEN"}, 409, "product.code_taken"),
        ({"title": "  "}, 422, "product.title"),
        ({"title": "a\x00b"}, 400, "request.unreadable"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    client: TestClient[Litestar], open_shop: OpenShop, changes: dict[str, Any], status: int, code: str
) -> None:
    shop = open_shop()
    software = software_of(client, shop)
    plain = {"title": "Other", "external_code": "TAKEN", "skus": [{"price_fen": 1}]}
    assert software.call("POST", "/products", plain, status=201, key="first")["status"] == "draft"
    refused = software.call("POST", "/products", _shirt(**changes), status=status, key="second")
    assert refused["code"] == code
    assert len(software.call("GET", "/products")["items"]) == 1


def test_a_plan_is_full_and_a_key_without_stock_brings_none(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop()
    software = software_of(client, shop, ["products.write"])
    software.call("POST", "/products", _shirt(), status=403, key="a")
    without = [{"options": ["S"], "price_fen": 900}, {"options": ["M"], "price_fen": 900}]
    made = software.call("POST", "/products", _shirt(skus=without), status=201, key="b")
    assert [one["on_hand"] for one in made["skus"]] == [0, 0]
    statement = "INSERT INTO mall.plan (code, name_zh, name_en, month_fen, max_products, max_staff, rank) VALUES ('tiny', '', '', 0, 1, 1, 1)"
    shop.database.run(statement)
    shop.database.run("UPDATE mall.directory SET plan = 'tiny' WHERE shop_id = %s", shop.shop_id)
    assert software.call("POST", "/products", _shirt(skus=without), status=409, key="c")["code"] == "product.full"
    path = f"/products/{made['product_id']}"
    software.call("PATCH", path, {"status": "archived"}, If_Match="*")
    other = software.call("POST", "/products", _shirt(skus=without), status=201, key="d")
    assert other["product_id"] != made["product_id"]
    assert software.call("PATCH", path, {"status": "on_sale"}, status=409, If_Match="*")["code"] == "product.full"


def test_pictures_are_named_by_what_they_show(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop()
    software = software_of(client, shop)
    first = _send(software, "PNG")
    assert (first.status_code, first.json()["width"], first.json()["height"]) == (201, 1080, 810)
    assert _send(software, "PNG").json() == first.json()
    assert client.get(first.json()["url"]).headers["content-type"] == "image/webp"
    _send(software, "GIF", (40, 40))
    page = software.call("GET", "/pictures?limit=1")
    rest = software.call("GET", page["next"])
    assert {one["picture"] for one in page["items"] + rest["items"]} >= {first.json()["picture"]}
    assert rest["next"] is None
    headers = {"Authorization": f"Bearer {software.token}", "Content-Type": "image/png"}
    none = client.post("/api/v1/merchant/pictures", content=b"no picture", headers=headers)
    assert (none.status_code, none.json()["code"]) == (422, "picture.unreadable")
    large = client.post("/api/v1/merchant/pictures", content=b"x" * (10 << 20) + b"x", headers=headers)
    assert large.status_code == 413
    # What another shop has is none of this one's.
    mixed = _shirt(pictures=[first.json()["picture"]])
    refused = software_of(client, other).call("POST", "/products", mixed, status=404, key="k")
    assert refused["code"] == "picture.unknown"


def test_head_is_answered_as_get_without_a_body(client: TestClient[Litestar], open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    path = f"/api/v1/shops/{shop.slug}/products/{shop.goods[0].product_id}"
    read, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == read.headers["etag"]
    assert head.headers["content-length"] == read.headers["content-length"]
    assert client.head(path, headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    assert client.head("/api/v1/merchant/key").status_code == 401
    assert client.head(f"/api/v1/shops/{shop.slug}/visitors").status_code == 405
