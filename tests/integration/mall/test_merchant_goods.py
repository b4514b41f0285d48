"""Products, pictures, categories and stock as a merchant's staff has them: services and pages on a real server."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from PIL import Image

from ballast.mall import categories, product_file, product_list, products, stock_list
from ballast.mall.audit import By
from ballast.mall.categories import Written
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.product_list import Wanted
from ballast.mall.product_record import Deed, Facts, Product, Terms
from ballast.mall.rules import specs
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.repricing import Change
from ballast.mall.rules.specs import Spec, SpecValue
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import NewVisitor, Visitor, shop_with_owner, with_database


def deed(shop_id: UUID) -> Deed:
    return Deed(shop_id, By(None, "lin", "127.0.0.1"), datetime.now(UTC))


def act(shop: Shop, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    """A piece of work in a transaction of the shop."""

    async def run(database: Database) -> Any:
        async with database.shop(shop.shop_id) as connection:
            return await work(connection)

    return with_database(shop.database, run)


def of(shop: Shop, product_id: UUID) -> Product:
    found = act(shop, lambda c: products.get(c, product_id))
    assert isinstance(found, Product)
    return found


def spec(name: str, *values: str) -> Spec:
    option = specs.option_id(name, [])
    return Spec(option, name, "", tuple(SpecValue(specs.value_id(option, one, []), one) for one in values))


def make(shop: Shop, facts: Facts | None = None, *matrix: Spec, pieces: int = 5, price_fen: int = 1000) -> Product:
    product_id = new_id()
    act(
        shop,
        lambda c: products.make(
            c, product_id, facts or Facts("茶"), matrix, Terms(price_fen), deed(shop.shop_id), pieces=pieces
        ),
    )
    return of(shop, product_id)


def refused(shop: Shop, work: Callable[[Connection], Awaitable[Any]]) -> str:
    with pytest.raises(Refused) as error:
        act(shop, work)
    return error.value.key


def test_a_product_is_made_once_with_its_matrix_stock_movements_and_record(open_shop: OpenShop) -> None:
    shop = open_shop()
    product_id = new_id()
    facts = Facts("<script>alert(1)</script>", description="<p onclick=x>好<script>1</script></p>", external_code="T-1")
    matrix = (spec("颜色", "红", "蓝"), spec("尺码", "S", "M", "L"))

    async def twice(connection: Connection) -> list[bool]:
        return [
            await products.make(
                connection, product_id, facts, matrix, Terms(990, 1990, 200), deed(shop.shop_id), pieces=3
            )
            for _ in range(2)
        ]

    assert act(shop, twice) == [True, False]
    product = of(shop, product_id)
    assert product.facts.title == "<script>alert(1)</script>"
    assert product.facts.description == "<p>好</p>"
    assert [one.options for one in product.skus][:2] == [("红", "S"), ("红", "M")]
    assert {(one.price_fen, one.compare_at_fen, one.weight_g, one.on_hand) for one in product.skus} == {
        (990, 1990, 200, 3)
    }
    assert (product.min_price_fen, product.max_price_fen, product.status) == (990, 990, "draft")
    moved = shop.database.run(
        "SELECT kind, on_hand, actor, count(*) FROM mall.stock_movement WHERE shop_id = %s GROUP BY 1, 2, 3",
        shop.shop_id,
    )
    assert moved == [("receive", 3, "lin", 6)]
    assert shop.database.run("SELECT action FROM mall.audit WHERE shop_id = %s", shop.shop_id) == [("product.made",)]
    assert refused(
        shop, lambda c: products.make(c, new_id(), Facts("x", external_code="T-1"), (), Terms(1), deed(shop.shop_id))
    ) == "product.code_taken"  # fmt: skip


def test_options_change_and_stock_and_orders_keep_their_skus(open_shop: OpenShop) -> None:
    shop = open_shop()
    product = make(shop, None, spec("颜色", "红", "蓝"))
    red, blue = product.skus
    values = product.specs[0].values
    renamed = Spec(
        product.specs[0].id, "颜色", "Colour", (SpecValue(values[0].id, "蓝"), SpecValue(values[1].id, "红"))
    )
    by = deed(shop.shop_id)
    act(
        shop,
        lambda c: products.set_options(
            c, product.product_id, product.version, (renamed, spec("尺码", "S", "M")), Terms(1500), by
        ),
    )
    after = of(shop, product.product_id)
    assert {one.options: (one.sku_id, one.on_hand) for one in after.skus if one.on_hand} == {
        ("蓝", "S"): (red.sku_id, 5),
        ("红", "S"): (blue.sku_id, 5),
    }
    assert {one.price_fen for one in after.skus if one.options[1] == "M"} == {1500}
    assert (after.min_price_fen, after.max_price_fen) == (1000, 1500)
    # Whoever saw the product as it was before is told so.
    assert (
        refused(shop, lambda c: products.change(c, product.product_id, product.version, Facts("x"), by))
        == "product.meanwhile"
    )
    act(shop, lambda c: products.set_options(c, product.product_id, None, (), Terms(1), by))
    assert [(one.options, one.sku_id) for one in of(shop, product.product_id).offered] == [((), red.sku_id)]


def test_the_list_finds_filters_sorts_and_pages(open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop(products=3)
    assert act(shop, lambda c: product_list.listed(c, Wanted())).rows == ()
    prices = [700, 300, 500, 100, 900]
    made = [
        make(shop, Facts(f"龙井茶 {n} Tea", external_code=f"C{n}"), pieces=n * 5, price_fen=price)
        for n, price in enumerate(prices)
    ]
    act(shop, lambda c: products.set_status(c, [made[0].product_id], "on_sale", deed(shop.shop_id)))

    def titles(wanted: Wanted, after: str = "", most: int = 50) -> list[str]:
        return [one.title[4] for one in act(shop, lambda c: product_list.listed(c, wanted, after, most)).rows]

    assert titles(Wanted()) == list("43210")
    assert titles(Wanted(sort="cheap")) == list("31204")
    assert titles(Wanted(sort="dear")) == list("40213")
    assert titles(Wanted(status="on_sale")) == ["0"]
    assert titles(Wanted(low=5)) == list("10")
    assert titles(Wanted("井茶", sort="cheap")) == list("31204")
    assert titles(Wanted("C3")) == ["3"]
    assert titles(Wanted("tea'; DROP TABLE mall.product; --")) == []
    assert titles(Wanted("%")) == []
    assert titles(Wanted(), after="no place") == list("43210")
    seen, after = [], ""
    while True:
        page = act(shop, lambda c, after=after: product_list.listed(c, Wanted(sort="cheap"), after, 2))
        assert page.matching == 5
        seen += [one.title[4] for one in page.rows]
        if page.after is None:
            break
        after = page.after
    assert seen == list("31204")
    # Another shop's product is not changed by an id that was guessed.
    theirs = other.goods[0].product_id
    assert (
        act(
            shop,
            lambda c: product_list.reprice(
                c, [theirs, made[0].product_id], Change("percent", -1000), deed(shop.shop_id)
            ),
        )
        == 1
    )
    assert act(shop, lambda c: product_list.set_status(c, [theirs], "archived", deed(shop.shop_id))) == 0
    assert of(shop, made[0].product_id).min_price_fen == 630
    assert other.database.run("SELECT status, min_price_fen FROM mall.product WHERE product_id = %s", theirs) == [
        ("on_sale", 1000)
    ]


def test_many_prices_change_together_or_none(open_shop: OpenShop) -> None:
    shop = open_shop()
    cheap, dear = make(shop, price_fen=100), make(shop, price_fen=5000)
    chosen = [cheap.product_id, dear.product_id]
    by = deed(shop.shop_id)
    assert refused(shop, lambda c: product_list.reprice(c, chosen, Change("yuan", -200), by)) == "price.range"
    assert of(shop, dear.product_id).min_price_fen == 5000
    act(shop, lambda c: product_list.reprice(c, chosen, Change("yuan", 50), by))
    assert [of(shop, one).skus[0].price_fen for one in chosen] == [150, 5050]
    assert refused(shop, lambda c: product_list.reprice(c, [], Change("yuan", 50), by)) == "product.none_chosen"


def test_the_plan_is_kept_also_by_those_who_come_together(open_shop: OpenShop) -> None:
    shop = open_shop(products=2)
    shop.database.run(
        "INSERT INTO mall.plan (code, name_zh, name_en, month_fen, max_products, max_staff) VALUES ('tiny', 't', 't', 0, 5, 5) ON CONFLICT DO NOTHING"
    )
    shop.database.run("UPDATE mall.directory SET plan = 'tiny' WHERE shop_id = %s", shop.shop_id)

    async def one(database: Database) -> str:
        try:
            async with database.shop(shop.shop_id) as connection:
                await products.make(connection, new_id(), Facts("茶"), (), Terms(1), deed(shop.shop_id))
        except Refused as error:
            return error.key
        return "made"

    async def together(database: Database) -> list[str]:
        return list(await asyncio.gather(*(one(database) for _ in range(6))))

    outcomes = with_database(shop.database, together)
    assert sorted(outcomes) == ["made"] * 3 + ["product.full"] * 3
    by = deed(shop.shop_id)
    first = shop.goods[0].product_id
    act(shop, lambda c: products.set_status(c, [first], "archived", by))
    make(shop)
    assert refused(shop, lambda c: products.set_status(c, [first], "on_sale", by)) == "product.full"


def test_categories_are_a_tree_of_two_levels(open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop()
    by = deed(shop.shop_id)
    top, second, below = new_id(), new_id(), new_id()

    async def build(connection: Connection) -> None:
        for category_id, written in (
            (top, Written("茶")),
            (second, Written("壶")),
            (below, Written("绿茶", "Green", top)),
        ):
            await categories.add(connection, category_id, written, by)

    act(shop, build)
    assert refused(shop, lambda c: categories.add(c, new_id(), Written("x", parent_id=below), by)) == "category.level"
    assert refused(shop, lambda c: categories.change(c, top, Written("茶", parent_id=second), by)) == "category.level"
    assert (
        refused(shop, lambda c: categories.change(c, second, Written("壶", parent_id=second), by)) == "category.level"
    )
    assert refused(shop, lambda c: categories.remove(c, top, by)) == "category.has_below"
    act(shop, lambda c: categories.move(c, second, -1, by))
    assert [one.name for one in act(shop, categories.all_of) if one.parent_id is None] == ["壶", "茶"]
    product = make(shop, Facts("龙井", categories=(below, new_id())))
    assert product.facts.categories == (below,)
    assert (
        refused(other, lambda c: categories.change(c, top, Written("mine"), deed(other.shop_id))) == "category.unknown"
    )
    assert (
        refused(other, lambda c: categories.add(c, new_id(), Written("x", parent_id=top), deed(other.shop_id)))
        == "category.unknown"
    )
    assert make(other, Facts("x", categories=(below,))).facts.categories == ()
    act(shop, lambda c: categories.remove(c, below, by))
    assert of(shop, product.product_id).facts.categories == ()


def test_stock_is_received_and_counted_once_a_key(open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop()
    sku = make(shop, pieces=5).skus[0].sku_id
    by = deed(shop.shop_id)
    for _ in range(2):
        act(shop, lambda c: stock_list.receive(c, sku, 7, "", "key-1", by))
    assert act(shop, lambda c: stock_list.one(c, sku)).on_hand == 12
    bare = shop.add_product().sku_ids[0]
    shop.database.run("DELETE FROM mall.stock WHERE sku_id = %s", bare)
    assert refused(shop, lambda c: stock_list.receive(c, sku, 8, "", "key-1", by)) == "idempotency.differs"
    assert refused(shop, lambda c: stock_list.receive(c, sku, 7, "", "", by)) == "form.key"
    act(shop, lambda c: stock_list.receive(c, bare, 2, "", "key-bare", by))
    assert act(shop, lambda c: stock_list.one(c, bare)).on_hand == 2
    shop.database.run("UPDATE mall.stock SET reserved = 4 WHERE sku_id = %s", sku)
    assert refused(shop, lambda c: stock_list.count(c, sku, 3, "lost", "key-2", by)) == "stock.short"
    assert refused(shop, lambda c: stock_list.count(c, sku, 9, " ", "key-2", by)) == "stock.reason"
    assert refused(shop, lambda c: stock_list.count(c, sku, 10**9, "x", "key-2", by)) == "stock.range"
    act(shop, lambda c: stock_list.count(c, sku, 4, "盘点", "key-2", by))
    assert act(shop, lambda c: stock_list.one(c, sku)).free == 0
    assert shop.database.run("SELECT sum(on_hand) FROM mall.stock_movement WHERE sku_id = %s", sku) == [(4,)]
    assert refused(other, lambda c: stock_list.receive(c, sku, 7, "", "k", deed(other.shop_id))) == "stock.unknown_sku"
    assert [one.sku_id for one in act(shop, lambda c: stock_list.listed(c, low=3))[0]] == [bare, sku]


FILE = """product_code,name_zh,name_en,category,status,sku_code,options,price_yuan,list_price_yuan,stock,weight_g,description
T1,纯棉T恤,Tee,女装>上衣,on_sale,T1-RS,颜色|Colour=红|Red;尺码=S,59.00,79.00,30,200,'=1+1
T1,纯棉T恤,Tee,女装>上衣,on_sale,T1-RM,颜色|Colour=红|Red;尺码=M,59.00,79.00,20,200,
T1,纯棉T恤,Tee,,on_sale,T1-BS,颜色|Colour=蓝|Blue;尺码=S,abc,79.00,20,200,
B1,"壶, 手工",,,,B1,,128.00,,3,,
,no code,,,,,,1.00,,,,
C1,茶,,一>二>三,,,,1.00,,,,
D1,茶,,,on_sale,,,9.00,8.00,,,
"""


def _take(shop: Shop, text: str | bytes, *, only_look: bool = False) -> product_file.Outcome:
    data = text if isinstance(text, bytes) else text.encode()
    return with_database(
        shop.database,
        lambda database: product_file.take(database, deed(shop.shop_id), io.BytesIO(data), only_look=only_look),
    )


def _rows_of(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.database.run(
        "SELECT p.external_code, p.title, p.title_en, p.status, k.code, k.options, k.price_fen, k.compare_at_fen, s.on_hand, k.active"
        " FROM mall.product p JOIN mall.sku k USING (shop_id, product_id) JOIN mall.stock s USING (shop_id, sku_id)"
        " WHERE p.shop_id = %s ORDER BY p.external_code, k.options",
        shop.shop_id,
    )


def test_a_file_is_looked_at_then_imported_then_changes_nothing(open_shop: OpenShop) -> None:
    shop = open_shop()
    for only_look in (True, False):
        outcome = _take(shop, FILE, only_look=only_look)
        assert (outcome.lines, outcome.made, outcome.changed, outcome.bad_lines) == (7, 2, 0, 4)
        assert {one.line: one.refused.key for one in outcome.bad} == {
            4: "money.unreadable", 6: "csv.empty", 7: "category.deep", 8: "sku.compare_at",
        }  # fmt: skip
        assert bool(_rows_of(shop)) != only_look
    rows = _rows_of(shop)
    assert rows == [
        ("B1", "壶, 手工", "", "draft", "B1", [], 12800, None, 3, True),
        ("T1", "纯棉T恤", "Tee", "on_sale", "T1-RM", ["红", "M"], 5900, 7900, 20, True),
        ("T1", "纯棉T恤", "Tee", "on_sale", "T1-RS", ["红", "S"], 5900, 7900, 30, True),
    ]
    again = _take(shop, FILE)
    assert (again.made, again.changed, again.same) == (0, 0, 2)
    assert _rows_of(shop) == rows
    more = FILE.splitlines()[0] + "\nT1,纯棉T恤,,,,T1-BM,颜色=蓝;尺码=M,61.00,,7,,\nB1,壶,,,,B1,,128.00,,,,\n"
    outcome = _take(shop, more)
    assert (outcome.made, outcome.changed, outcome.bad_lines) == (0, 2, 0)
    offered = {tuple(row[5]): (row[6], row[8]) for row in _rows_of(shop) if row[0] == "T1" and row[9]}
    assert offered == {("红", "S"): (5900, 30), ("红", "M"): (5900, 20), ("蓝", "M"): (6100, 7)}
    assert shop.database.run("SELECT count(*) FROM mall.category WHERE shop_id = %s", shop.shop_id) == [(2,)]


def test_what_is_written_reads_again_and_no_spreadsheet_runs_it(open_shop: OpenShop) -> None:
    shop, other = open_shop(), open_shop(products=2)
    make(shop, Facts("=cmd|'/c calc'!A1", "+1", external_code="@SUM(1)", description="-2"), spec("颜;色", "a=b", "c|d"))
    odd = new_id()
    act(shop, lambda c: categories.add(c, odd, Written("茶;>壶=|"), deed(shop.shop_id)))
    make(shop, Facts("没有编码", categories=(odd,)))
    _take(shop, FILE)

    async def written(database: Database) -> bytes:
        return b"".join([piece async for piece in product_file.written(database, shop.shop_id, Wanted())])

    data = with_database(shop.database, written)
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"))))
    assert len(rows) == 1 + 2 + 1 + 3
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
    before = shop.database.run(
        "SELECT product_id, title, title_en, version FROM mall.product WHERE shop_id = %s", shop.shop_id
    )
    again = _take(shop, data)
    assert (again.made, again.changed, again.same, again.bad_lines) == (0, 0, 4, 0)
    assert (
        shop.database.run(
            "SELECT product_id, title, title_en, version FROM mall.product WHERE shop_id = %s", shop.shop_id
        )
        == before
    )
    assert shop.database.run("SELECT count(*) FROM mall.category WHERE shop_id = %s", shop.shop_id) == [(3,)]
    # As a Chinese Excel saves it; into another shop it makes new products, and its old ones stay apart.
    elsewhere = _take(other, data.decode("utf-8-sig").encode("gb18030"))
    assert (elsewhere.made, elsewhere.bad_lines) == (4, 0)
    assert other.database.run("SELECT count(*) FROM mall.product WHERE shop_id = %s", other.shop_id) == [(6,)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff\xfe",
        b"a,b\n1,2\n",
        b'product_code,name_zh,price_yuan\n"A,b,1\n',
        b"product_code,name_zh,price_yuan\n" + b'"' + b"x" * 200_000 + b'",b,1\n',
    ],
)
def test_what_is_no_such_file_is_refused_as_a_whole(open_shop: OpenShop, data: bytes) -> None:
    shop = open_shop()
    with pytest.raises(Refused) as error:
        _take(shop, data)
    assert error.value.key.startswith("csv.")


# The pages.


@pytest.fixture(scope="module")
def people(operator: Visitor, visitor: NewVisitor) -> dict[str, tuple[str, Visitor]]:
    """Two shops with their owners."""
    return {slug: shop_with_owner(operator, visitor, slug) for slug in ("lin", "wang")}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeymodule: pytest.MonkeyPatch) -> Path:
    where = tmp_path_factory.mktemp("shop")
    monkeymodule.chdir(where)
    return where


@pytest.fixture(scope="module")
def monkeymodule() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def picture(colour: str = "red", size: tuple[int, int] = (600, 400)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB" if size[0] < 5000 else "1", size, colour).save(out, "PNG")
    return out.getvalue()


def new_product(owner: Visitor, slug: str, **fields: Any) -> str:
    """Through the form; its path."""
    shown = owner.get(f"/merchant/{slug}/products/new").text
    product_id = re.search(r'name="product_id" value="([^"]+)"', shown)
    assert product_id is not None
    sent = owner.post(
        f"/merchant/{slug}/products/new",
        {"product_id": product_id[1], "title": "茶", "price": "12.80", "stock": "5", **fields},
    )
    assert sent.status_code == 303, sent.text
    assert sent.headers["location"].startswith(f"/merchant/{slug}/products/{product_id[1]}")
    return f"/merchant/{slug}/products/{product_id[1]}"


def version(owner: Visitor, path: str) -> str:
    found = re.search(r'name="version" value="(\d+)"', owner.get(path).text)
    assert found is not None
    return found[1]


def test_a_product_with_pictures_comes_into_the_storefront(
    people: dict[str, tuple[str, Visitor]], visitor: NewVisitor
) -> None:
    shop_id, owner = people["lin"]
    path = new_product(
        owner, "lin", title="<script>alert(1)</script>", title_en='"><img src=x onerror=alert(2)>',
        description="<b>好</b><script>alert(3)</script>", option0_name="颜色", option0_more="红 / Red\n蓝 / Blue",
    )  # fmt: skip
    sent = owner.post(
        f"{path}/pictures",
        files=[("file", ("a.png", picture(), "image/png")), ("file", ("b.png", picture("blue"), "image/png"))],
    )
    assert sent.status_code == 303, sent.text
    page = owner.get(path).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    hashes = re.findall(r'name="picture" value="([0-9a-f]{64})"', page)
    assert len(set(hashes)) == 2
    assert (
        owner.post(
            f"{path}/pictures/order", {"picture": hashes, "first": hashes[1], "version": version(owner, path)}
        ).status_code
        == 303
    )
    assert owner.post(f"{path}/status", {"status": "on_sale"}).status_code == 303
    guest = visitor()
    shown = guest.get(f"/s/lin/products/{path.rpartition('/')[2]}").text
    assert shown.index(hashes[1]) < shown.index(hashes[0])
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown or "&lt;img" in shown
    assert "Red" in shown

    # The pictures themselves.
    for width, pixels in (("", 600), ("?w=100", 160), ("?w=480", 480), ("?w=99999", 600), ("?w=x", 600)):
        answer = guest.get(f"/pictures/{shop_id}/{hashes[0]}{width}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/webp"
        assert "immutable" in answer.headers["cache-control"]
        assert "set-cookie" not in answer.headers
        assert Image.open(io.BytesIO(answer.content)).size[0] == pixels
    tag = guest.get(f"/pictures/{shop_id}/{hashes[0]}").headers["etag"]
    assert guest.get(f"/pictures/{shop_id}/{hashes[0]}", headers={"If-None-Match": tag}).status_code == 304
    other = people["wang"][0]
    for wrong in (
        f"/pictures/{other}/{hashes[0]}", f"/pictures/{shop_id}/{'0' * 64}", f"/pictures/{shop_id}/{hashes[0].upper()}",
        f"/pictures/{shop_id}/..%2f..%2fetc%2fpasswd", f"/pictures/{shop_id}/{hashes[0]}-160.webp", f"/pictures/..%2f/{hashes[0]}",
        f"/pictures/not-a-shop/{hashes[0]}", f"/pictures/{shop_id}/%00",
    ):  # fmt: skip
        assert guest.get(wrong).status_code in (400, 404), wrong


def test_pictures_that_must_not_come_in(
    people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase, folder: Path
) -> None:
    shop_id, owner = people["wang"]
    path = new_product(owner, "wang")
    for name, data, reason in (
        ("a.png", b"<svg onload=alert(1)>", "no picture"),
        ("a.png", picture("white", (9000, 9000)), "million pixels"),
        ("a.png", b"\x89PNG" + bytes(11 << 20), "10 MB"),
    ):
        answer = owner.post(f"{path}/pictures", files=[("file", (name, data, "image/png"))])
        assert (answer.status_code, reason in answer.text) == (422, True), answer.text[-500:]
    assert owner.post(f"{path}/pictures", files=[("file", ("", b"", "image/png"))]).status_code == 422
    assert owner.post(f"{path}/pictures", files=[("file", ("a.png", bytes(25 << 20), "image/png"))]).status_code == 413
    assert owner.post(path, {"title": "x" * (3 << 20)}).status_code == 413
    assert (
        owner.post(f"{path}/pictures", files=[("file", ("../../evil.png", picture("green"), "image/png"))]).status_code
        == 303
    )
    kept = [one for one in folder.rglob("*") if one.is_file()]
    assert all(
        re.fullmatch(rf"pictures/({shop_id}|[0-9a-f-]{{36}})/[0-9a-f]{{64}}-\d+\.webp", str(one.relative_to(folder)))
        for one in kept
    )
    assert mall_database.run("SELECT count(*) FROM mall.picture WHERE shop_id = %s", shop_id) == [(1,)]
    # The same picture again is the same, and a product has it once.
    assert owner.post(f"{path}/pictures", files=[("file", ("b.png", picture("green"), "image/png"))]).status_code == 303
    assert [one for one in folder.rglob("*") if one.is_file()] == kept
    many = [("file", (f"{n}.png", picture(size=(n + 1, 1)), "image/png")) for n in range(13)]
    assert owner.post(f"{path}/pictures", files=many).status_code == 422


def test_the_shops_pictures_are_listed_and_added_to(
    people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase
) -> None:
    shop_id, owner = people["lin"]
    many = [("file", (f"{n}.png", picture("navy", (200 + n, 50)), "image/png")) for n in range(3)]
    assert owner.post("/merchant/lin/pictures", files=many).status_code == 303
    assert owner.post("/merchant/lin/pictures", files=[("file", ("a.png", b"no", "image/png"))]).status_code == 422
    page = owner.get("/merchant/lin/pictures").text
    names = [row[0] for row in mall_database.run("SELECT picture FROM mall.picture WHERE shop_id = %s", shop_id)]
    assert len(names) >= 3
    assert all(f"/pictures/{shop_id}/{name}?w=480" in page for name in names)
    assert owner.get(f"/merchant/lin/pictures?before={names[0]}").status_code == 200
    assert owner.get("/merchant/wang/pictures").status_code == 404


def test_pictures_take_no_more_room_than_the_plan_allows(
    people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase, folder: Path
) -> None:
    shop_id, owner = people["lin"]
    path = new_product(owner, "lin")
    mall_database.run(
        "INSERT INTO mall.plan (code, name_zh, name_en, month_fen, max_products, max_staff, max_pictures_mb)"
        " VALUES ('small', 's', 's', 0, 5000, 5, 1) ON CONFLICT DO NOTHING"
    )
    mall_database.run(
        "INSERT INTO mall.picture (shop_id, picture, media_type, width, height, size_bytes) VALUES (%s, %s, 'image/webp', 1, 1, 999990)",
        shop_id,
        "0" * 64,
    )
    mall_database.run("UPDATE mall.directory SET plan = 'small' WHERE shop_id = %s", shop_id)
    count = "SELECT count(*) FROM mall.picture WHERE shop_id = %s"
    before = mall_database.run(count, shop_id)
    try:
        for room in (0, 10):  # none at all: nothing is worked on; too little: nothing is noted
            mall_database.run(
                "UPDATE mall.picture SET size_bytes = 1000000 - %s - (SELECT COALESCE(sum(size_bytes), 0) FROM mall.picture o"
                " WHERE o.shop_id = picture.shop_id AND o.picture <> picture.picture) WHERE shop_id = %s AND picture = %s",
                room,
                shop_id,
                "0" * 64,
            )
            files = [file for file in folder.rglob("*") if file.is_file()]
            for to in ("/merchant/lin/pictures", f"{path}/pictures"):
                answer = owner.post(to, files=[("file", ("a.png", picture("olive", (40 + room, 40)), "image/png"))])
                assert (answer.status_code, "1 MB" in answer.text) == (422, True), answer.text[-500:]
            assert (files == [file for file in folder.rglob("*") if file.is_file()]) is (room == 0)
        assert mall_database.run(count, shop_id) == before
    finally:
        mall_database.run("UPDATE mall.directory SET plan = 'basic' WHERE shop_id = %s", shop_id)
        mall_database.run("DELETE FROM mall.picture WHERE shop_id = %s AND picture = %s", shop_id, "0" * 64)


def test_what_is_another_shops_is_nobodys(people: dict[str, tuple[str, Visitor]], visitor: NewVisitor) -> None:
    lin, wang = people["lin"][1], people["wang"][1]
    theirs = new_product(wang, "wang", title="Wang's tea", option0_name="颜色", option0_more="红")
    wang.post(f"{theirs}/pictures", files=[("file", ("a.png", picture("black"), "image/png"))])
    shown = wang.get(theirs).text
    sku = re.search(r'name="sku" value="([^"]+)"', shown)
    hashes = re.findall(r'name="picture" value="([0-9a-f]{64})"', shown)
    assert sku is not None
    product_id = theirs.rpartition("/")[2]
    mine = new_product(lin, "lin")
    for path in (
        theirs,
        f"/merchant/lin/products/{product_id}",
        f"/merchant/lin/stock/{sku[1]}",
        f"/merchant/wang/stock/{sku[1]}",
        "/merchant/wang/products",
        "/merchant/wang/products/export.csv",
        "/merchant/wang/categories",
    ):
        assert lin.get(path).status_code == 404, path
    attempts: list[httpx.Response] = [
        lin.post(f"/merchant/lin/products/{product_id}", {"title": "mine", "version": "1"}),
        lin.post(
            f"/merchant/lin/products/{product_id}/skus",
            {"sku": sku[1], "price": "0.01", "compare_at": "", "weight": "", "code": "", "version": "1"},
        ),
        lin.post(f"/merchant/lin/products/{product_id}/options", {"version": "1"}),
        lin.post(f"/merchant/lin/products/{product_id}/status", {"status": "archived"}),
        lin.post(f"/merchant/lin/products/{product_id}/pictures", files=[("file", ("a.png", picture(), "image/png"))]),
        lin.post(f"/merchant/lin/products/{product_id}/pictures/order", {"version": "1"}),
        lin.post(f"/merchant/lin/stock/{sku[1]}", {"act": "count", "pieces": "0", "reason": "x", "key": "k"}),
        lin.post(f"{theirs}/status", {"status": "archived"}),
    ]
    assert {one.status_code for one in attempts} <= {404, 422}
    # A SKU of theirs among mine, and their picture for my product.
    lin.post(
        f"{mine}/skus",
        {"sku": sku[1], "price": "0.01", "compare_at": "", "weight": "", "code": "", "version": version(lin, mine)},
    )
    assert lin.post(f"{mine}/pictures/order", {"picture": hashes, "version": version(lin, mine)}).status_code == 422
    lin.post("/merchant/lin/products/bulk", {"product": product_id, "act": "archived"})
    assert (
        lin.post(
            "/merchant/lin/products/new", {"product_id": product_id, "title": "mine too", "price": "1"}
        ).status_code
        == 303
    )
    page = wang.get(theirs).text
    assert "Wang&#39;s tea" in page
    assert 'value="12.80"' in page
    assert "Draft" in page
    guest = visitor()
    assert "/signin" in str(guest.get("/merchant/lin/products").url)
    assert guest.post(f"{mine}/status", {"status": "archived"}).headers["location"] == "/signin"


def test_who_may_only_look_changes_nothing(people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase) -> None:
    shop_id, owner = people["lin"]
    path = new_product(owner, "lin")
    mall_database.run("UPDATE mall.staff SET role = 'viewer' WHERE shop_id = %s", shop_id)
    try:
        page = owner.get(path)
        assert page.status_code == 200
        assert "Save the SKUs" not in page.text
        assert owner.get("/merchant/lin/products").status_code == 200
        for target in (
            path,
            f"{path}/status",
            f"{path}/pictures",
            "/merchant/lin/products/bulk",
            "/merchant/lin/products/file",
            "/merchant/lin/categories",
        ):
            assert owner.post(target, {"status": "archived"}).status_code == 403, target
    finally:
        mall_database.run("UPDATE mall.staff SET role = 'owner' WHERE shop_id = %s", shop_id)


def test_forms_that_are_wrong_say_why_and_keep_what_was_typed(people: dict[str, tuple[str, Visitor]]) -> None:
    _, owner = people["lin"]
    answer = owner.post(
        "/merchant/lin/products/new",
        {
            "product_id": str(new_id()),
            "title": "半成品",
            "price": "1,000",
            "option0_name": "颜色",
            "option0_more": "红\n蓝",
        },
    )
    assert answer.status_code == 422
    assert 'value="半成品"' in answer.text
    assert 'value="蓝"' in answer.text
    path = new_product(owner, "lin")
    sku = re.search(r'name="sku" value="([^"]+)"', owner.get(path).text)
    assert sku is not None
    rows = {
        "sku": sku[1],
        "price": "7.77",
        "compare_at": "7.00",
        "weight": "",
        "code": "K",
        "version": version(owner, path),
    }
    answer = owner.post(f"{path}/skus", rows)
    assert answer.status_code == 422
    assert 'value="7.77"' in answer.text
    assert owner.post(f"{path}/skus", rows | {"compare_at": ""}).status_code == 303
    assert owner.post(f"{path}/status", {"status": "on_sale"}).status_code == 422, "nothing is offered"
    assert owner.post(f"{path}/skus", rows | {"price": "1", "offered": sku[1]}).status_code == 422, "changed meanwhile"
    for target, fields in (
        ("", {"title": "x", "version": "x"}),
        ("", {"title": "x", "category": "no id"}),
        ("/skus", {"sku": "no id"}),
    ):
        assert owner.post(f"{path}{target}", fields).status_code in (400, 404)
    for query in ("q=%27%22%3E%00", "category=x", "after=9.9", "sort=drop", "status=x", "low=maybe", "q=" + "x" * 101):
        assert owner.get(f"/merchant/lin/products?{query}").status_code in (200, 400, 404), query
    bad = owner.client.post(
        f"{path}/pictures",
        content=b'--b\r\nContent-Disposition: form-data; name="_csrf_token"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert bad.status_code in (400, 403)
    bad = owner.client.post(
        path, content=b"_csrf_token=%ff", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert bad.status_code in (400, 403)


def test_a_file_through_the_page_and_out_again(
    people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase
) -> None:
    shop_id, owner = people["wang"]
    before = mall_database.run("SELECT count(*) FROM mall.product WHERE shop_id = %s", shop_id)[0][0]
    for number, (fields, made) in enumerate((({"act": "look"}, 0), ({"act": "import"}, 2))):
        answer = owner.post(
            "/merchant/wang/products/file", fields, files=[("file", ("p.csv", FILE.encode(), "text/csv"))]
        )
        assert answer.status_code == 200, number
        assert "cannot be read as a number" in answer.text
        assert mall_database.run("SELECT count(*) FROM mall.product WHERE shop_id = %s", shop_id)[0][0] == before + made
    refused = owner.post("/merchant/wang/products/file", files=[("file", ("p.csv", b"\x00", "text/csv"))])
    assert refused.status_code == 422
    out = owner.get("/merchant/wang/products/export.csv?q=T1")
    assert "attachment" in out.headers["content-disposition"]
    assert [row["sku_code"] for row in csv.DictReader(io.StringIO(out.content.decode("utf-8-sig")))] == [
        "T1-RS",
        "T1-RM",
    ]
    assert b"product_code" in owner.get("/merchant/wang/products/template.csv").content


def test_pages_with_many_products_and_what_the_record_says(
    people: dict[str, tuple[str, Visitor]], mall_database: MallDatabase
) -> None:
    shop_id, owner = people["lin"]
    with psycopg.connect(mall_database.dsn) as connection:
        connection.execute(
            "INSERT INTO mall.product (shop_id, product_id, title, search) SELECT %s, gen_random_uuid(), 'P' || n, '' FROM generate_series(1, 10000) n",
            (shop_id,),
        )
        connection.execute(
            "INSERT INTO mall.sku (shop_id, sku_id, product_id, price_fen) SELECT shop_id, gen_random_uuid(), product_id, 100 FROM mall.product p"
            " WHERE shop_id = %s AND NOT EXISTS (SELECT FROM mall.sku k WHERE k.product_id = p.product_id)",
            (shop_id,),
        )
    page = owner.get("/merchant/lin/products?sort=position")
    later = re.search(r'href="([^"]+)" rel="next"', page.text)
    assert later is not None
    assert page.text.count('name="product" value=') == 50
    second = owner.get(later[1].replace("&amp;", "&"))
    assert second.text.count('name="product" value=') == 50
    assert not set(re.findall(r'name="product" value="([^"]+)"', page.text)) & set(
        re.findall(r'name="product" value="([^"]+)"', second.text)
    )
    chosen = re.findall(r'name="product" value="([^"]+)"', page.text)
    sent = owner.post(
        "/merchant/lin/products/bulk",
        {"product": chosen, "act": "percent", "amount": "+50", "back": "/merchant/lin/products?q=x"},
    )
    assert sent.headers["location"] == "/merchant/lin/products?q=x&said=saved"
    assert (
        owner.post(
            "/merchant/lin/products/bulk", {"product": chosen, "act": "on_sale", "back": "//evil.example"}
        ).headers["location"]
        == "/merchant/lin/products?said=saved"
    )
    assert (
        mall_database.run(
            "SELECT count(*) FROM mall.product WHERE shop_id = %s AND min_price_fen = 150 AND status = 'on_sale'",
            shop_id,
        )[0][0]
        >= 45
    )
    assert owner.get("/merchant/lin/stock?low=true").text.count("/merchant/lin/stock/") >= 50
    actions = {
        row[0] for row in mall_database.run("SELECT DISTINCT action FROM mall.audit WHERE shop_id = %s", shop_id)
    }
    assert {"product.made", "product.pictures", "product.on_sale", "product.repriced", "product.terms"} <= actions
