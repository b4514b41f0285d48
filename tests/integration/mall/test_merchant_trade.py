"""The shop's own pages of orders, refunds, customers, books and figures: who sees and does what there, and in which shop."""

from __future__ import annotations

import asyncio
import csv
import io
import re
from datetime import UTC, datetime

import openpyxl
import pytest

from ballast.mall import orders
from ballast.mall.ids import new_id
from ballast.mall.rules.states import Status
from tests.fix_mall import MallDatabase, OpenShop, Shop
from tests.fix_people import NewVisitor, Visitor
from tests.integration.mall.ordering import in_shop
from tests.integration.mall.trading import many, paid_order, refund_asked, shipped, staff

ROLES = ("owner", "manager", "clerk", "finance", "viewer")


@pytest.fixture(scope="module")
def two(mall_database: MallDatabase) -> tuple[Shop, Shop]:
    """Two shops, each with an order that is paid and asked back in part, and a customer."""
    from tests.fix_mall import open_shop as fixture

    open_shop: OpenShop = fixture.__wrapped__(mall_database)  # type: ignore[attr-defined]
    return open_shop(products=1), open_shop(products=1)


@pytest.fixture(scope="module")
def people(mall_database: MallDatabase, visitor: NewVisitor, two: tuple[Shop, Shop]) -> dict[str, Visitor]:
    """Somebody of each role in the first shop."""
    return {role: staff(mall_database, visitor, two[0], role) for role in ROLES}


def _customer(shop: Shop) -> str:
    customer_id = new_id()
    shop.database.run(
        "INSERT INTO mall.customer (shop_id, customer_id, name, phone, email) VALUES (%s, %s, '林小雨', %s, %s)",
        shop.shop_id,
        customer_id,
        f"138{customer_id.int % 10**8:08}",
        f"lin-{customer_id}@example.com",
    )
    shop.database.run(
        "INSERT INTO mall.address (shop_id, address_id, customer_id, name, phone, province, street) VALUES (%s, %s, %s, '林小雨', '13712345678', '浙江省', '龙井路 1 号')",
        shop.shop_id,
        new_id(),
        customer_id,
    )
    return str(customer_id)


def _audit(shop: Shop, action: str) -> int:
    ((found,),) = shop.database.run(
        "SELECT count(*) FROM mall.audit WHERE shop_id = %s AND action = %s", shop.shop_id, action
    )
    return int(found)


def test_each_role_does_its_work_and_nothing_else(two: tuple[Shop, Shop], people: dict[str, Visitor]) -> None:
    shop = two[0]
    root = f"/merchant/{shop.slug}"
    customer = _customer(shop)
    parcel = {"carrier": "shunfeng", "tracking": "SF1234567890", "line": "1", "pieces-1": "1"}
    may = {
        "get ": ROLES,
        "get /orders": ROLES,
        "get /orders/{order}": ROLES,
        "get /orders/export.xlsx": ROLES,
        "get /orders/print?order={order}": ("owner", "manager", "clerk"),
        "get /refunds": ROLES,
        "get /refunds/{refund}": ROLES,
        "get /customers": ("owner", "manager", "clerk", "finance"),
        "get /customers/{customer}": ("owner", "manager", "clerk", "finance"),
        "get /books": ("owner", "manager", "finance"),
        "get /books/2026-11-11": ("owner", "manager", "finance"),
        "get /books/postings.csv": ("owner", "manager", "finance"),
        "post /orders/{order}/ship": ("owner", "manager", "clerk"),
        "post /orders/{order}/note": ("owner", "manager", "clerk"),
        "post /refunds/{refund}/refuse": ("owner", "manager", "finance"),
        "get /orders/{order}/refund": ("owner", "manager", "finance"),
        "post /customers/{customer}/points": ("owner", "manager"),
        "post /customers/{customer}/note": ("owner", "manager", "clerk"),
        "post /customers/{customer}/reset-code": ("owner", "manager"),
    }
    fields = {
        "ship": parcel,
        "note": {"note": "fragile"},
        "refuse": {"answer": "Not broken"},
        "points": {"points": "5", "reason": "Sorry"},
        "reset-code": {},
    }
    for role, person in people.items():
        order = paid_order(shop, 2)
        refund = refund_asked(shop, order, 1)
        for what, allowed in may.items():
            method, path = what.split(" ")
            path = root + path.format(order=order, refund=refund, customer=customer)
            if method == "get":
                answer = person.get(path)
                expected = 200 if role in allowed else 403
            else:
                sent = {"key": str(new_id()), **fields[path.rsplit("/", 1)[1]]}
                answer = person.post(path, sent)
                # A code is shown at once, and this once.
                expected = 403 if role not in allowed else 200 if path.endswith("/reset-code") else 303
            assert answer.status_code == expected, (role, what, answer.status_code, answer.text[:300])
    assert _audit(shop, "order.shipped") == 3
    assert _audit(shop, "refund.refused") == 3
    assert _audit(shop, "customer.points") == 2
    assert _audit(shop, "customer.reset_code") == 2
    assert _audit(shop, "orders.exported") == 5
    assert _audit(shop, "books.exported") == 3


def test_nothing_of_another_shop_is_seen_or_changed(
    two: tuple[Shop, Shop], people: dict[str, Visitor], mall_database: MallDatabase
) -> None:
    mine, theirs = two
    order = paid_order(theirs, 2)
    shipped(theirs, order, 1)
    refund = refund_asked(theirs, order, 1)
    customer = _customer(theirs)
    owner = people["owner"]
    before = _everything(mall_database, theirs)
    root = f"/merchant/{mine.slug}"
    for path in (
        f"/orders/{order}",
        f"/orders/{order}/refund",
        f"/orders/print?order={order}",
        f"/refunds/{refund}",
        f"/customers/{customer}",
    ):
        assert owner.get(root + path).status_code == 404, path
        assert owner.get(f"/merchant/{theirs.slug}{path}").status_code == 404, path
    key = {"key": str(new_id())}
    for path, fields in (
        (
            f"/orders/{order}/ship",
            {"carrier": "shunfeng", "tracking": "SF1234567890", "line": "1", "pieces-1": "1", **key},
        ),
        (f"/orders/{order}/hand-over", key),
        (f"/orders/{order}/cancel", {"reason": "x"}),
        (f"/orders/{order}/note", {"note": "x"}),
        (f"/orders/{order}/refund", {"what": "all", "reason": "x", **key}),
        (f"/refunds/{refund}/approve", {"amount": "1.00"}),
        (f"/refunds/{refund}/refuse", {"answer": "x"}),
        (f"/refunds/{refund}/goods", {"restock": "yes", "pay": "yes"}),
        (f"/refunds/{refund}/pay", {}),
        (f"/customers/{customer}/points", {"points": "5", "reason": "x", **key}),
        (f"/customers/{customer}/note", {"note": "x"}),
    ):
        assert owner.post(root + path, fields).status_code == 404, path
        assert owner.post(f"/merchant/{theirs.slug}{path}", fields).status_code == 404, path
    found = owner.get(f"{root}/orders?customer={customer}").text
    assert str(order) not in found
    assert _everything(mall_database, theirs) == before


def _everything(database: MallDatabase, shop: Shop) -> list[object]:
    tables = ("orders", "order_line", "order_event", "shipment", "refund", "customer", "points_entry", "stock", "audit")
    return [
        database.run(f"SELECT to_jsonb(t)::text FROM mall.{table} t WHERE shop_id = %s ORDER BY 1", shop.shop_id)
        for table in tables
    ]


def test_who_does_not_send_parcels_reads_no_names_phones_and_streets(
    two: tuple[Shop, Shop], people: dict[str, Visitor]
) -> None:
    shop = two[0]
    order = paid_order(shop, 1)
    refund = refund_asked(shop, order, 1)
    customer = _customer(shop)
    shop.database.run("UPDATE mall.orders SET note = 'call 13987654321' WHERE order_id = %s", order)
    secrets = ("13800000000", "1 Road", "13987654321", "13712345678", "lin-", "林小雨", "龙井路")
    root = f"/merchant/{shop.slug}"
    for role, paths in {
        "viewer": [f"/orders/{order}", "/orders", f"/refunds/{refund}"],
        "finance": [f"/orders/{order}", "/orders", f"/customers/{customer}", "/customers"],
    }.items():
        for path in paths:
            page = people[role].get(root + path).text
            assert [one for one in secrets if one in page] == [], (role, path)
        file = io.BytesIO(people[role].get(f"{root}/orders/export.xlsx").content)
        cells = {str(cell) for row in openpyxl.load_workbook(file).worksheets[0].values for cell in row}
        assert not cells & {*secrets, "call 13987654321"}
    assert "13800000000" in people["clerk"].get(f"{root}/orders/{order}").text
    assert "13712345678" in people["clerk"].get(f"{root}/customers/{customer}").text


def test_an_order_goes_through_the_pages(two: tuple[Shop, Shop], people: dict[str, Visitor]) -> None:
    shop = two[0]
    clerk, finance = people["clerk"], people["finance"]
    order = paid_order(shop, 3)
    here = f"/merchant/{shop.slug}/orders/{order}"
    page = clerk.get(here).text
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key is not None
    parcel = {"key": key[1], "line": "1", "pieces-1": "2", "carrier": "zhongtong", "tracking": "ZT 1234567890"}
    for wrong, said in [
        ({"carrier": ""}, "Choose a carrier"),
        ({"tracking": "x"}, "6 to 40 letters"),
        ({"pieces-1": "4"}, "More of line 1"),
        ({"pieces-1": "0"}, "Nothing is in this parcel"),
    ]:
        answer = clerk.post(f"{here}/ship", parcel | wrong)
        assert (answer.status_code, said in answer.text) == (422, True), (wrong, answer.text)
    assert clerk.post(f"{here}/ship", parcel | {"pieces-1": "many"}).status_code == 400
    # A form that is sent twice is one parcel.
    for _ in range(2):
        assert clerk.post(f"{here}/ship", parcel).headers["location"] == f"{here}?said=order_shipped"
    assert clerk.post(f"{here}/note", {"note": "<script>alert(1)</script>"}).status_code == 303
    page = clerk.get(here).text
    assert "ZTO Express" in page
    assert "ZT1234567890" in page
    assert "<script>alert(1)" not in page
    assert page.count("Clerk-") >= 1
    assert "stands elsewhere" in clerk.post(f"{here}/cancel", {"reason": "x"}).text

    given = finance.post(
        f"{here}/refund",
        {"key": str(new_id()), "what": "some", "line": "1", "pieces-1": "1", "amount-1": "8.00", "reason": "Late"},
    )
    refund = given.headers["location"].split("?")[0]
    assert "Being paid back" in finance.get(refund).text
    too_much = finance.post(
        f"{here}/refund",
        {"key": str(new_id()), "what": "some", "line": "1", "pieces-1": "0", "amount-1": "22.01", "reason": "x"},
    )
    assert (too_much.status_code, "more than is left of the line" in too_much.text) == (422, True)
    order_now = in_shop(shop, lambda c: orders.get(c, order))
    assert (order_now.status, order_now.lines[0].shipped_quantity, order_now.lines[0].dropped_quantity) == (
        Status.PARTLY_SHIPPED,
        2,
        1,
    )


def test_an_unpaid_order_is_cancelled_with_a_reason(two: tuple[Shop, Shop], people: dict[str, Visitor]) -> None:
    from tests.integration.mall.ordering import buy, guest

    shop = two[0]
    now = datetime.now(UTC)
    order = in_shop(shop, lambda c: buy(c, guest(), shop.goods[0].sku_ids[0], 1, str(new_id()), now=now)).order_id
    here = f"/merchant/{shop.slug}/orders/{order}"
    assert "Say why it is cancelled" in people["clerk"].post(f"{here}/cancel", {"reason": " "}).text
    assert people["clerk"].post(f"{here}/cancel", {"reason": "Out of tea"}).status_code == 303
    assert "Out of tea" in people["viewer"].get(here).text


def test_a_refund_is_decided_by_finance_and_its_goods_are_taken_by_a_clerk(
    two: tuple[Shop, Shop], people: dict[str, Visitor]
) -> None:
    shop = two[0]
    order = paid_order(shop, 3)
    shipped(shop, order, 3)
    refund = refund_asked(shop, order, 2, with_return=True)
    here = f"/merchant/{shop.slug}/refunds/{refund}"
    clerk, finance = people["clerk"], people["finance"]
    listed = f"/merchant/{shop.slug}/refunds"
    assert str(refund) in finance.get(listed).text
    assert "not above 20.00 yuan" in finance.post(f"{here}/approve", {"amount": "20.01"}).text
    assert "cannot be read" in finance.post(f"{here}/approve", {"amount": "ten"}).text
    assert finance.post(f"{here}/approve", {"amount": "20.00", "answer": "Send it back"}).status_code == 303
    assert str(refund) in finance.get(f"{listed}?state=awaiting_return").text
    assert finance.post(f"{here}/goods", {"restock": "yes"}).status_code == 403
    # A clerk may take the goods, and not have the money go back.
    assert clerk.post(f"{here}/goods", {"restock": "yes", "pay": "yes"}).status_code == 303
    assert "Goods are back" in clerk.get(here).text
    assert finance.post(f"{here}/pay", {"amount": "15.00"}).status_code == 303
    assert "Being paid back" in finance.get(here).text
    assert "¥15.00" in finance.get(here).text
    assert "stands elsewhere" in finance.post(f"{here}/refuse", {"answer": "x"}).text


def test_what_a_page_is_asked_for_may_be_anything(two: tuple[Shop, Shop], people: dict[str, Visitor]) -> None:
    root = f"/merchant/{two[0].slug}"
    owner = people["owner"]
    for path, status in {
        "/orders?since=yesterday&until=2026-13-40&state=x&delivery=drone&before=x|y&q=%25_%27": 200,
        "/orders?before=2026-11-11T00:00:00|zz": 200,
        "/orders?customer=x": 404,
        "/orders/print": 200,
        "/orders/print?order=x": 404,
        "/orders/not-an-id": 404,
        "/refunds?state=x&before=x": 200,
        "/customers?level=x&sort=x&before=9|x&q=%00": 200,
        "/customers?sort=spent&before=99999999999999999999|00000000-0000-0000-0000-000000000000": 200,
        "/books?first=x&last=0001-01-01": 200,
        "/books?first=2999-12-31&last=2000-01-01": 200,
        "/books/never": 404,
        "/books/2026-11-11?after=x|y|z": 200,
        "?days=x": 200,
    }.items():
        assert owner.get(root + path).status_code == status, path


def test_pages_are_fine_with_nothing_and_with_ten_thousand_orders(
    open_shop: OpenShop, mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    shop = open_shop()
    owner = staff(mall_database, visitor, shop, "owner")
    root = f"/merchant/{shop.slug}"
    paths = ("", "/orders", "/refunds", "/customers", "/books")
    for path in paths:
        assert owner.get(root + path).status_code == 200
    many(shop, 10_050)
    page = owner.get(f"{root}/orders").text
    assert page.count('name="order"') == 50
    assert "10000+" in page
    older = re.search(r'href="([^"]+)" rel="next"', page)
    assert older is not None
    second = owner.get(older[1].replace("&amp;", "&")).text
    assert not set(re.findall(r'name="order" value="([^"]+)"', page)) & set(
        re.findall(r'name="order" value="([^"]+)"', second)
    )
    assert owner.get(root).status_code == 200


def test_the_books_are_shown_and_given_as_csv(
    open_shop: OpenShop, mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    shop = open_shop(products=1)
    paid_order(shop, 3)
    finance = staff(mall_database, visitor, shop, "finance")
    root = f"/merchant/{shop.slug}/books"
    page = finance.get(f"{root}?first=2026-11-01&last=2026-11-30").text
    assert "¥30.00" in page
    assert "add up to ¥0.00" in page
    assert "Owed by the provider" in finance.get(f"{root}/2026-11-11").text
    text = finance.get(f"{root}/postings.csv?first=2026-11-01&last=2026-11-30").content.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(one["Account"], one["Debit"], one["Credit"]) for one in rows] == [
        ("Owed by the provider", "30.00", ""),
        ("Sales (list price)", "", "30.00"),
    ]
    assert re.fullmatch(r"\d{6}-\d{6}-\d{6}", rows[0]["Order"])


def test_a_suspended_shop_is_looked_at_and_not_changed(
    open_shop: OpenShop, mall_database: MallDatabase, visitor: NewVisitor
) -> None:
    shop = open_shop(products=1)
    order = paid_order(shop, 1)
    owner = staff(mall_database, visitor, shop, "owner")
    mall_database.run(
        "UPDATE mall.directory SET status = 'suspended', status_reason = 'x' WHERE shop_id = %s", shop.shop_id
    )
    here = f"/merchant/{shop.slug}/orders/{order}"
    page = owner.get(here).text
    assert "It has left" not in page
    assert owner.post(f"{here}/note", {"note": "x"}).status_code == 403
    assert owner.get(f"/merchant/{shop.slug}/orders/export.xlsx").status_code == 200


def test_slips_have_all_that_a_packer_needs_and_one_order_each(
    two: tuple[Shop, Shop], people: dict[str, Visitor]
) -> None:
    shop = two[0]
    chosen = [paid_order(shop, 2), paid_order(shop, 1, delivery="pickup")]
    page = people["clerk"].get(f"/merchant/{shop.slug}/orders/print?order={chosen[0]}&order={chosen[1]}").text
    assert page.count('<article class="slip">') == 2
    assert "深圳市" in page
    assert "Is picked up" in page


def test_two_exports_at_once_are_one_too_many(two: tuple[Shop, Shop], people: dict[str, Visitor]) -> None:
    from ballast.mall import order_export

    asyncio.run(order_export._one_at_a_time.acquire())
    try:
        answer = people["owner"].get(f"/merchant/{two[0].slug}/orders/export.xlsx")
    finally:
        order_export._one_at_a_time.release()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
