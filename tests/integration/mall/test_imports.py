"""Data is brought in: what the files say is in the shop, once, and what is wrong with a line is told."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ballast.mall import aftersales, catalog, orders
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.imports import Files, Imported, run, template
from ballast.mall.rules.refused import Refused
from tests.commands import ballast
from tests.fix_mall import MallDatabase, Shop
from tests.integration.mall.bringing import ORDER, PRODUCT, SHOP, Office, books_balance, rows, stock_adds_up, written
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.shopping import Shopper, storefront

_ORDERS_OF = "SELECT count(*) FROM mall.orders o JOIN mall.directory d USING (shop_id) WHERE slug = %s"


@pytest.fixture
def office(tmp_path: Path, mall_database: MallDatabase, monkeypatch: pytest.MonkeyPatch) -> Office:
    return Office(tmp_path, mall_database, monkeypatch)


def _shop(office: Office, slug: str) -> Shop:
    return Shop(office.database, office.one("SELECT shop_id FROM mall.directory WHERE slug = %s", slug), slug)


def test_the_templates_open_a_shop_that_sells(office: Office) -> None:
    for kind in ("shops", "products", "orders"):
        (office.folder / f"{kind}.csv").write_bytes(template(kind))
    files = [
        one for kind in ("shops", "products", "orders") for one in (f"--{kind}", str(office.folder / f"{kind}.csv"))
    ]
    said = office.bring_files(*files)
    assert said.returncode == 0, (said, office.bad)
    before = rows(office.database)
    shop = _shop(office, "yunwu-tea")
    assert office.one("SELECT opened_at, service_until, plan FROM mall.directory WHERE slug = 'yunwu-tea'") == (
        datetime(2024, 3, 1, 2, tzinfo=UTC),
        datetime(2027, 12, 30, 16, tzinfo=UTC),
        "pro",
    )
    with storefront(office.database) as client:
        shopper = Shopper(client, shop)
        assert "明前龙井茶" in shopper.see("/products?q=龙井")
        assert "绿茶" in shopper.see("/categories")
        product = office.one("SELECT product_id FROM mall.product WHERE shop_id = %s", shop.shop_id)
        assert "狮峰产区" in shopper.see(f"/products/{product}")
        assert "Early Spring Longjing" in shopper.see(f"/products/{product}?lang=en")

    async def look(connection: Connection) -> orders.Order:
        found = (await orders.list_of(connection))[0]
        return await orders.get(connection, found.order_id)

    order = in_shop(shop, look)
    assert order.placed_at == datetime(2025, 4, 2, 12, 15, 8, tzinfo=UTC)
    assert (order.items_fen, order.discount_fen, order.shipping_fen, order.total_fen) == (16800, 1000, 800, 16600)
    assert [one.event for one in order.events] == ["place", "pay", "ship", "receive", "close"]
    assert order.lines[0].sku_id == office.one("SELECT sku_id FROM mall.sku WHERE shop_id = %s", shop.shop_id)
    assert order.shipments[0].tracking == "SF0000000000001"
    assert office.one("SELECT phone, spent_fen, points FROM mall.customer") == ("13800000000", 16600, 166)
    assert office.database.run("SELECT action, subject, actor FROM mall.audit ORDER BY audit_id") == [
        ("shop.opened", "yunwu-tea", "platform"),
        ("data.imported", "products", "import"),
        ("data.imported", "orders", "import"),
    ]
    books_balance(office.database)
    stock_adds_up(office.database)

    said = office.bring_files(*files)
    assert said.returncode == 0
    assert rows(office.database) == before
    counted = json.loads(said.stdout)
    assert [(counted[kind]["brought"], counted[kind]["there"]) for kind in ("shops", "products", "orders")] == [
        (0, 1)
    ] * 3


def test_templates_are_printed_as_they_are() -> None:
    for kind in ("shops", "products", "orders"):
        printed = ballast("mall", "import", "--template", kind).stdout
        assert printed.splitlines() == template(kind).decode().splitlines()  # type: ignore[arg-type]


def test_an_owner_without_an_account_is_invited_and_one_with_an_account_owns_the_shop(office: Office) -> None:
    account = new_id()
    office.database.run(
        "INSERT INTO mall.account (account_id, login, name, password_hash) VALUES (%s, 'owner@example.com', 'O', 'x')",
        account,
    )
    owned = {**SHOP, "shop": "owned", "owner_login": "Owner@example.com"}
    invited = {**SHOP, "shop": "invited", "owner_login": "new@example.com"}
    assert office.bring(shops=[owned, invited]).returncode == 0
    assert office.one("SELECT account_id, role FROM mall.staff") == (account, "owner")
    (line,) = (office.folder / "invitations.tsv").read_text().splitlines()
    slug, login, link = line.split("\t")
    assert (slug, login) == ("invited", "new@example.com")
    assert (office.folder / "invitations.tsv").stat().st_mode & 0o077 == 0
    with storefront(office.database) as client:
        assert client.get("/link/" + link.rsplit("/", 1)[1]).status_code == 200


def test_bad_lines_are_told_with_number_and_reason_and_the_rest_goes_on(office: Office) -> None:
    office.bring(shops=[SHOP])
    bad = [
        ({"price_yuan": "1,000"}, "price_yuan"),
        ({"price_yuan": "-1"}, "price_yuan"),
        ({"quantity": "0"}, "quantity"),
        ({"quantity": "1.5"}, "quantity"),
        ({"placed_at": "2025-02-30 10:00"}, "placed_at"),
        ({"placed_at": "2999-01-01"}, "to come"),
        ({"status": "unknown"}, "status"),
        ({"order": ""}, "order"),
        ({"order": "1.23457E+17"}, "spreadsheet"),
        ({"shop": "nowhere"}, "There is no shop"),
        ({"paid_at": "2025-04-01 10:00:00"}, "paid_at"),
        ({"shipped_at": "2025-05-01", "received_at": "2025-04-20"}, "received_at"),
        ({"refunded_yuan": "100.01"}, "More went back"),
        ({"status": "paid", "shipped_at": "2025-05-01"}, "shipped_at"),
        ({"status": "shipped", "refunded_yuan": "100.00"}, "closed"),
        ({"status": "cancelled", "paid_at": "2025-04-03"}, "refunded_yuan"),
        ({"discount_yuan": "100.01"}, "discount_yuan"),
        ({"buyer_name": "x" * 61}, "buyer_name"),
        ({"buyer_name": "a\x00b"}, "NUL"),
    ]
    lines = []
    for n, (change, _) in enumerate(bad):
        lines += [{**ORDER, "order": f"B{n}", **change}, {**ORDER, "order": f"G{n}a"}, {**ORDER, "order": f"G{n}b"}]
    said = office.bring(orders=lines)
    assert said.returncode == 3
    told = {number: why for _, number, _, why in office.bad}
    for n, (change, word) in enumerate(bad):
        assert word in told[3 * n + 2], (change, told[3 * n + 2])
    # One without an order number may belong to its neighbours: they wait until it is mended.
    nameless = next(n for n, (change, _) in enumerate(bad) if change == {"order": ""})
    beside = {3 * nameless + 1, 3 * nameless + 3}
    assert set(told) == {3 * n + 2 for n in range(len(bad))} | beside
    assert office.one(_ORDERS_OF, "lin") == 2 * len(bad) - 2
    books_balance(office.database)

    mended = [
        {**ORDER, "order": line["order"] or "B7"}
        for line in lines
        if line["shop"] == "lin" and "E+" not in line["order"]
    ]
    assert office.bring(orders=mended).returncode == 0
    assert office.one(_ORDERS_OF, "lin") == 3 * len(bad) - 2
    assert office.bad == []


def test_an_order_with_a_bad_line_is_not_brought_at_all(office: Office) -> None:
    office.bring(shops=[{**SHOP, "shop": "whole"}])
    whole = {**ORDER, "shop": "whole"}
    lines = [{**whole, "order": "W1"}, {**whole, "order": "W1", "quantity": "x"}, {**whole, "order": "W2"}]
    assert office.bring(orders=lines).returncode == 3
    assert [(number, about) for _, number, about, _ in office.bad] == [(2, "W1"), (3, "W1")]
    assert "Line 3" in office.bad[0][3]
    assert office.database.run(
        "SELECT external_code FROM mall.orders o JOIN mall.directory USING (shop_id) WHERE slug = 'whole'"
    ) == [("W2",)]
    # Scattered over the file: the rest of an order that is there is refused, not added.
    scattered = [{**whole, "order": "W3"}, {**whole, "order": "W4"}, {**whole, "order": "W3", "price_yuan": "5"}]
    assert office.bring(orders=scattered).returncode == 3
    assert [(number, about) for _, number, about, _ in office.bad] == [(4, "W3")]


def test_money_that_went_back_stands_in_the_books_and_on_the_lines(office: Office) -> None:
    office.bring(shops=[{**SHOP, "shop": "back"}])
    base = {**ORDER, "shop": "back", "member": "M-7", "placed_at": "2025-04-02 20:15:08"}
    lines = [
        {**base, "order": "R1", "refunded_yuan": "40", "refunded_at": "2025-04-09", "shipping_yuan": "8"},
        {**base, "order": "R1", "price_yuan": "20", "refunded_yuan": ""},
        {**base, "order": "R2", "status": "cancelled", "refunded_yuan": "100", "cancelled_at": "2025-04-03"},
        {**base, "order": "R3", "refunded_yuan": "100", "shipped_at": "2025-04-03", "refunded_at": "2025-04-09"},
        {**base, "order": "R4", "status": "cancelled"},
    ]
    assert office.bring(orders=lines).returncode == 0, office.bad
    shop = _shop(office, "back")
    found = {
        code: rest
        for code, *rest in office.database.run(
            "SELECT external_code, status, refund_status, paid_fen, refunded_fen FROM mall.orders WHERE shop_id = %s",
            shop.shop_id,
        )
    }
    assert found == {
        "R1": ["closed", "partly_refunded", 12800, 4000],
        "R2": ["cancelled", "refunded", 10000, 10000],
        "R3": ["closed", "refunded", 10000, 10000],
        "R4": ["cancelled", "none", 0, 0],
    }
    # 40 of 100 + 20: in proportion.
    assert office.database.run(
        "SELECT l.refunded_fen FROM mall.order_line l JOIN mall.orders o USING (shop_id, order_id)"
        " WHERE o.shop_id = %s AND external_code = 'R1' ORDER BY line",
        shop.shop_id,
    ) == [(3333,), (667,)]
    # What is left of R1 was spent; R3 gave its points back.
    assert office.one("SELECT spent_fen, points FROM mall.customer WHERE shop_id = %s", shop.shop_id) == (8800, 88)
    assert office.one("SELECT sum(points) FROM mall.points_entry WHERE shop_id = %s", shop.shop_id) == 88
    books_balance(office.database)

    async def ask_more_back(connection: Connection) -> None:
        order = await orders.get(
            connection, next(o.order_id for o in await orders.list_of(connection) if o.refunded_fen == 4000)
        )
        await aftersales.request(
            connection, order.order_id, None, with_return=False, reason="x", actor="a", now=datetime.now(UTC)
        )

    # Nobody here holds that money: it has to go back where it was paid.
    with pytest.raises(Refused, match="not paid through a provider of ours"):
        in_shop(shop, ask_more_back)


def test_products_come_with_their_options_categories_and_stock(office: Office) -> None:
    office.bring(shops=[{**SHOP, "shop": "goods"}])
    shirt = {
        **PRODUCT,
        "shop": "goods",
        "product_code": "S",
        "name_zh": "T恤",
        "category": "女装|Women>上衣;新品",
        "description": "<p>好</p><script>alert(1)</script>",
    }
    lines = [
        {
            **shirt,
            "sku_code": f"S-{size}",
            "options": f"颜色|Colour={colour};尺码={size}",
            "price_yuan": price,
            "stock": "3",
        }
        for size, price in (("S", "59"), ("M", "69.50"))
        for colour in ("红|Red", "蓝|Blue")
    ]
    other = {**PRODUCT, "shop": "goods", "product_code": "O", "category": "女装", "list_price_yuan": "120"}
    wrong = [
        {**other, "product_code": "P", "list_price_yuan": "100"},
        {**shirt, "product_code": "Q", "options": "颜色"},
        {**shirt, "product_code": "Q2", "category": "a>b>c"},
    ]
    said = office.bring(products=[*lines, other, *wrong])
    assert said.returncode == 3
    assert [number for _, number, _, _ in office.bad] == [7, 8, 9]
    shop = _shop(office, "goods")

    async def look(connection: Connection) -> catalog.Product | None:
        found = await catalog.products(connection, search="T恤")
        return await catalog.product(connection, found.items[0].product_id, datetime.now(UTC))

    product = in_shop(shop, look)
    assert product is not None
    assert [(spec.name, [value.value_en for value in spec.values]) for spec in product.specs] == [
        ("颜色", ["Red", "Blue"]),
        ("尺码", ["", ""]),
    ]
    assert [(one.options, one.price_fen, one.free) for one in product.choices] == [
        (["红", "S"], 5900, 3),
        (["蓝", "S"], 5900, 3),
        (["红", "M"], 6950, 3),
        (["蓝", "M"], 6950, 3),
    ]
    assert "script" not in product.description
    assert office.database.run(
        "SELECT c.name, p.name, c.name_en FROM mall.category c LEFT JOIN mall.category p ON p.shop_id = c.shop_id AND p.category_id = c.parent_id"
        " WHERE c.shop_id = %s ORDER BY c.position",
        shop.shop_id,
    ) == [("女装", None, "Women"), ("上衣", "女装", ""), ("新品", None, "")]
    stock_adds_up(office.database)
    # Again, and SKUs of it elsewhere in the file: what is there stays.
    assert office.bring(products=[*lines, other]).returncode == 0
    late = {**shirt, "options": "颜色=绿;尺码=S", "price_yuan": "1"}
    assert office.bring(products=[other, late]).returncode == 3
    assert "without these SKUs" in office.bad[0][3]


def test_a_file_of_a_chinese_excel_is_read(office: Office) -> None:
    office.bring(shops=[{**SHOP, "shop": "excel", "name_zh": "镕镕小店"}], encoding="gb18030")
    excel = {**ORDER, "shop": "excel", "buyer_name": "喆𠮷", "placed_at": "2025/4/2 8:05", "status": "已完成"}
    assert office.bring(orders=[{**excel, "order": "X1"}], encoding="gb18030").returncode == 0, office.bad
    assert office.bring(orders=[{**excel, "order": "X2"}], encoding="utf-8-sig").returncode == 0, office.bad
    assert office.one("SELECT name FROM mall.directory WHERE slug = 'excel'") == "镕镕小店"
    assert {
        row[0] for row in office.database.run("SELECT buyer_name FROM mall.orders WHERE external_code IN ('X1', 'X2')")
    } == {"喆𠮷"}
    # Chinese names of the columns, in another order, one of them left out.
    head = "订单号,店铺地址,状态,下单时间,商品名称,数量,单价,#内部"
    (office.folder / "zh.csv").write_text(
        f"{head}\nX3,excel,已取消,2025-01-01 10:00,茶,1,9.90,secret\n", encoding="gb18030"
    )
    assert office.bring_files("--orders", str(office.folder / "zh.csv")).returncode == 0, office.bad
    (office.folder / "zh.csv").write_text(f"{head},odd\n", encoding="gb18030")
    said = office.bring_files("--orders", str(office.folder / "zh.csv"))
    assert said.returncode == 1
    assert "'odd'" in said.stderr


def test_a_member_who_is_there_already_is_not_made_again(office: Office) -> None:
    office.bring(shops=[{**SHOP, "shop": "known", "points_per_yuan": "2"}])
    shop = _shop(office, "known")
    customer = new_id()
    office.database.run(
        "INSERT INTO mall.customer (shop_id, customer_id, phone, spent_fen) VALUES (%s, %s, '13900000001', 500)",
        shop.shop_id,
        customer,
    )
    office.database.run(
        """UPDATE mall.shop SET levels = '[{"name": "a", "from_fen": 10000}]' WHERE shop_id = %s""", shop.shop_id
    )
    base = {**ORDER, "shop": "known"}
    lines = [{**base, "order": "N1", "member": "+86 139 0000 0001"}, {**base, "order": "N2", "member": "13900000001"}]
    assert office.bring(orders=lines).returncode == 0, office.bad
    assert office.database.run(
        "SELECT customer_id, spent_fen, points, level FROM mall.customer WHERE shop_id = %s", shop.shop_id
    ) == [(customer, 20500, 400, 1)]


def test_two_imports_of_one_file_at_once_bring_it_once(office: Office) -> None:
    lines = [{**ORDER, "shop": "twice", "order": f"D{n}", "member": "M"} for n in range(500)]
    office.bring(shops=[{**SHOP, "shop": "twice"}])
    path = written(office.folder / "twice.csv", "orders", lines)

    async def both() -> list[Imported]:
        db = Database(office.database.settings())
        await db.open()
        try:
            return await asyncio.gather(
                *(
                    run(db, Files(orders=path), bad=office.folder / f"{n}.csv", invitations=path, base_url="")
                    for n in range(2)
                )
            )
        finally:
            await db.close()

    results = asyncio.run(both())
    assert sorted((one.orders.brought, one.orders.there) for one in results) == [(0, 500), (500, 0)]
    assert office.one(_ORDERS_OF, "twice") == 500
    shop = _shop(office, "twice")
    assert office.database.run("SELECT spent_fen, points FROM mall.customer WHERE shop_id = %s", shop.shop_id) == [
        (5_000_000, 50_000)
    ]
    books_balance(office.database)


def test_an_import_cannot_reach_another_shop(office: Office) -> None:
    """It writes as the role that sees one shop."""
    office.bring(shops=[{**SHOP, "shop": "mine"}, {**SHOP, "shop": "yours"}])
    mine, yours = _shop(office, "mine"), _shop(office, "yours")

    async def try_it() -> None:
        db = Database(office.database.settings())
        await db.open()
        try:
            async with db.shop(mine.shop_id) as connection:
                await connection.execute(
                    "INSERT INTO mall.customer (shop_id, customer_id) VALUES (%s, %s)", (yours.shop_id, new_id())
                )
        finally:
            await db.close()

    with pytest.raises(Exception, match="row-level security"):
        asyncio.run(try_it())
