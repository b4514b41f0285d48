"""What a shop's people look for and do: found by any filter, sent in parts, handed over, money given back, points by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import openpyxl
import pytest

from ballast.mall import aftersales, customers, fulfilment, order_export, orders, refund_desk, statements
from ballast.mall.bookkeeping import day_of
from ballast.mall.db import Connection
from ballast.mall.fulfilment import Filter
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules import books
from ballast.mall.rules.books import Account
from ballast.mall.rules.refunding import RefundState
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import RefundStatus, Status
from tests.fix_mall import OpenShop, Shop
from tests.integration.mall.ordering import NOW, in_shop, stock_of
from tests.integration.mall.paying import Till, at_till, books_of
from tests.integration.mall.trading import history, many, paid_order, refund_asked, shipped

Act = Callable[[Connection], Any]


def _act(shop: Shop, act: Act) -> Any:
    return at_till(shop, lambda till: till.act(act))


def _export(shop: Shop, wanted: Filter, *, masked: bool = False) -> list[tuple[Any, ...]]:
    """The rows of the file, without their headings."""
    file = io.BytesIO()
    asked = order_export.Wanted(wanted, "en", masked, lambda name: name)
    assert isinstance(in_shop(shop, lambda c: order_export.write(c, asked, file)), int)
    sheet = openpyxl.load_workbook(file).worksheets[0]
    return [tuple(row) for row in sheet.iter_rows(min_row=2)]


FILTERS = {
    "all": (Filter(), {0, 1, 2, 3}),
    "state": (Filter(statuses=(Status.CANCELLED,)), {1}),
    "days": (Filter(since=NOW - timedelta(days=2), until=NOW - timedelta(days=1)), {1}),
    "number": (Filter(text="{number}"), {2}),
    "spoken number": (Filter(text="{spoken}"), {2}),
    "phone": (Filter(text="13900001234"), {0, 1, 2}),
    "part of a name": (Filter(text="大明"), {0, 1, 2}),
    "product": (Filter(text="product 1"), {2}),
    "pick-up": (Filter(delivery="pickup"), {3}),
    "nothing": (Filter(text="' OR 1=1 --"), set()),
}


@pytest.fixture(scope="module")
def filled(mall_database: Any) -> Shop:
    """Three orders of the past and one that is picked up."""
    from tests.fix_mall import open_shop as fixture

    shop: Shop = fixture.__wrapped__(mall_database)(products=2)  # type: ignore[attr-defined]
    day = timedelta(days=1)
    made = history(
        shop,
        [
            (NOW - 3 * day, 1000, True, 0, 1, 0, "web"),
            (NOW - 1.5 * day, 2000, False, 0, 1, 0, "web"),
            (NOW - day, 3000, True, 500, 2, 1, "import"),
        ],
    )
    shop.numbers = [one.number for one in made]  # type: ignore[attr-defined]
    shop.made = [one.order_id for one in made] + [paid_order(shop, delivery="pickup")]  # type: ignore[attr-defined]
    return shop


@pytest.mark.parametrize("name", FILTERS)
def test_list_counts_and_export_agree_about_what_a_filter_finds(filled: Any, name: str) -> None:
    wanted, expected = FILTERS[name]
    number = filled.numbers[2]
    text = (
        wanted.text.format(number=number[:8], spoken=f"{number[:6]}-{number[6:9]}")
        if "{" in wanted.text
        else wanted.text
    )
    wanted = Filter(wanted.statuses, wanted.delivery, wanted.since, wanted.until, None, text)
    found = _act(filled, lambda c: fulfilment.page(c, wanted))
    assert {filled.made.index(one.order_id) for one in found} == expected
    assert [one.placed_at for one in found] == sorted((one.placed_at for one in found), reverse=True)
    counted = _act(filled, lambda c: fulfilment.counts(c, wanted))
    for status in wanted.statuses or Status:
        assert counted[status] == sum(one.status == status for one in found)
    rows = _export(filled, wanted)
    assert [row[0].value for row in rows] == [one.number for one in found]


def test_of_very_many_orders_names_are_looked_for_in_the_newest_numbers_and_phones_in_all(
    filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fulfilment, "NEWEST", 2)

    def found(text: str, **more: Any) -> tuple[set[int], bool]:
        wanted = _act(filled, lambda c: fulfilment.searched(c, Filter(text=text, **more)))
        listed = _act(filled, lambda c: fulfilment.page(c, wanted))
        assert sum(_act(filled, lambda c: fulfilment.counts(c, wanted)).values()) == len(listed)
        return {filled.made.index(one.order_id) for one in listed}, wanted.partly

    assert found("13900001234") == ({0, 1, 2}, True)
    assert found(filled.numbers[0]) == ({0}, True)
    names, partly = found("大明")
    assert (names < {0, 1, 2}, partly) == (True, True)
    assert found("大明", until=NOW - timedelta(days=2)) == ({0}, False)


def test_what_was_typed_is_looked_for_by_indexes_where_there_are_many(open_shop: OpenShop) -> None:
    shop = open_shop()
    many(shop, 2_000)
    shop.database.run("ANALYZE mall.orders")

    async def explained(c: Connection) -> str:
        given = {**Filter().parameters(), "text": "13900001234", "digits": "2611", "newest": 10}
        rows = await c.execute(b"EXPLAIN " + load("fulfilment").found.encode(), given, prepare=False)
        return "\n".join(row["QUERY PLAN"] for row in await rows.fetchall())

    plan = _act(shop, explained)
    assert ("orders_phone" in plan, "orders_shop_id_number_key" in plan) == (True, True), plan
    assert "Seq Scan on orders" not in plan, plan


def test_ten_thousand_orders_are_paged_without_gaps_and_counted(open_shop: OpenShop) -> None:
    shop = open_shop()
    assert _act(shop, lambda c: fulfilment.page(c, Filter())) == ()
    many(shop, 10_050)
    assert _act(shop, lambda c: fulfilment.counts(c, Filter()))[Status.CLOSED] == fulfilment.COUNTED

    async def through(till: Till) -> list[UUID]:
        seen: list[UUID] = []
        before = None
        while True:
            found = await till.act(lambda c, at=before: fulfilment.page(c, Filter(), before=at, most=1000))
            if not found:
                return seen
            seen += [one.order_id for one in found]
            assert all(len(one.lines) == 2 for one in found)
            before = orders.Cursor(found[-1].placed_at, found[-1].order_id)

    seen = at_till(shop, through)
    assert len(seen) == len(set(seen)) == 10_050


def test_an_export_holds_formulas_as_text_and_adds_up(open_shop: OpenShop) -> None:
    shop = open_shop()
    many(shop, 300)
    shop.database.run("UPDATE mall.orders SET note = '@SUM(1)' WHERE shop_id = %s", shop.shop_id)
    rows = _export(shop, Filter())
    names = [name for name, _, _ in order_export.COLUMNS]
    title, note = names.index("title"), names.index("note")
    assert len(rows) == 600
    assert {row[title].value for row in rows} == {'=HYPERLINK("http://x")'}
    assert {cell.data_type for row in rows for cell in row if cell.value is not None} == {"s", "n", "d"}
    assert all(row[at].quotePrefix for row in rows for at in (title, note) if row[at].value)
    assert sum(row[names.index("line_total_fen")].value for row in rows) == pytest.approx(3000)
    assert sum(row[names.index("total_fen")].value or 0 for row in rows) == pytest.approx(3000)
    assert rows[0][names.index("placed_at")].value == datetime(2026, 10, 1, 13)
    masked = _export(shop, Filter(), masked=True)
    assert {row[names.index("buyer_name")].value for row in masked} == {"B**"}


def test_parcels_leave_one_after_another_and_never_more_than_was_bought(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    order_id = paid_order(shop, 3)
    shipped(shop, order_id, 2)
    assert _act(shop, lambda c: orders.get(c, order_id)).status == Status.PARTLY_SHIPPED
    with pytest.raises(Refused, match="More of line 1"):
        shipped(shop, order_id, 2)
    with pytest.raises(Refused, match="Nothing of the order"):
        shipped(shop, order_id, 0)
    shipped(shop, order_id, 1)
    order = _act(shop, lambda c: orders.get(c, order_id))
    assert (order.status, order.lines[0].shipped_quantity, len(order.shipments)) == (Status.SHIPPED, 3, 2)
    with pytest.raises(Refused, match="not picked up"):
        _act(shop, lambda c: fulfilment.hand_over(c, order_id, actor="a", now=NOW, shipment_id=new_id()))


def test_a_pick_up_is_handed_over_once_and_is_not_sent(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    order_id = paid_order(shop, 2, delivery="pickup")
    with pytest.raises(Refused, match="not sent"):
        shipped(shop, order_id, 2)
    key = new_id()
    for _ in range(2):
        _act(shop, lambda c: fulfilment.hand_over(c, order_id, actor="account:x", now=NOW, shipment_id=key))
    order = _act(shop, lambda c: orders.get(c, order_id))
    assert (order.status, len(order.shipments), order.shipments[0].carrier) == (Status.RECEIVED, 1, "pickup")


def test_less_than_was_asked_for_is_approved_and_the_rest_can_be_asked_for_again(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    order_id = paid_order(shop, 3)
    shipped(shop, order_id, 3)
    refund_id = refund_asked(shop, order_id, 2)

    async def story(till: Till) -> None:
        for wrong in (0, -1, 2001):
            with pytest.raises(Refused) as refused:
                await till.act(
                    lambda c, n=wrong: aftersales.approve(c, refund_id, actor="a", now=NOW, amount_fen=n)  # type: ignore[misc]
                )
            assert refused.value.key == "refund.amount"
        await till.act(lambda c: aftersales.approve(c, refund_id, actor="a", now=NOW, amount_fen=1501))
        left = await till.act(lambda c: aftersales.refundable(c, order_id))
        assert left.left_fen == 3000 - 1501
        assert await till.told("refund.succeeded", refund_id, 1501) == "refunded"
        rest = await till.act(
            lambda c: fulfilment.give_back(
                c,
                order_id,
                None,
                shipping_fen=0,
                with_return=False,
                reason="Sorry",
                actor="a",
                now=NOW,
                refund_id=new_id(),
            )
        )
        assert (await till.act(lambda c: refund_desk.one(c, rest))).amount_fen == 1499
        assert await till.told("refund.succeeded", rest, 1499) == "refunded"

    at_till(shop, story)
    order = _act(shop, lambda c: orders.get(c, order_id))
    assert (order.refund_status, order.refunded_fen, order.status) == (RefundStatus.REFUNDED, 3000, Status.CLOSED)
    assert books_of(shop) == {"sales": -3000, "refunds": 3000}


@pytest.mark.parametrize("restock", [True, False])
def test_goods_come_back_into_stock_or_not_and_the_money_goes_back_less_what_is_kept(
    open_shop: OpenShop, restock: bool
) -> None:
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    order_id = paid_order(shop, 3)
    shipped(shop, order_id, 3)
    refund_id = refund_asked(shop, order_id, 2, with_return=True)

    async def story(till: Till) -> None:
        await till.act(lambda c: aftersales.approve(c, refund_id, actor="a", now=NOW))
        await till.act(lambda c: aftersales.goods_back(c, refund_id, restock=restock, actor="a", now=NOW))
        await till.act(lambda c: aftersales.pay_back(c, refund_id, actor="a", now=NOW, amount_fen=1800))
        refund = await till.act(lambda c: refund_desk.one(c, refund_id))
        assert (refund.status, refund.amount_fen) == (RefundState.PROCESSING, 1800)
        assert await till.told("refund.failed", refund_id, 1800) == "failed"
        # A provider that was asked for an amount is asked for the same again.
        await till.act(lambda c: aftersales.pay_back(c, refund_id, actor="a", now=NOW, amount_fen=1))
        assert await till.told("refund.succeeded", refund_id, 1800) == "refunded"

    at_till(shop, story)
    assert stock_of(shop, sku) == (99 if restock else 97, 0)
    assert books_of(shop) == {"provider": 1200, "sales": -3000, "refunds": 1800}


@pytest.mark.parametrize(
    ("sent", "stock", "status"), [(0, 100, Status.CANCELLED), (1, 100, Status.CLOSED), (3, 100, Status.CLOSED)]
)
def test_what_never_left_does_not_come_back_but_is_free_again(
    open_shop: OpenShop, sent: int, stock: int, status: Status
) -> None:
    """All of an order with return, of which only a part was sent: each piece is in stock once, and none is sent any more."""
    shop = open_shop(products=1)
    sku = shop.goods[0].sku_ids[0]
    order_id = paid_order(shop, 3)
    if sent:
        shipped(shop, order_id, sent)
    refund_id = refund_asked(shop, order_id, 3, with_return=True)

    async def story(till: Till) -> None:
        await till.act(lambda c: aftersales.approve(c, refund_id, actor="a", now=NOW))
        await till.act(lambda c: aftersales.goods_back(c, refund_id, restock=True, actor="a", now=NOW))
        assert stock_of(shop, sku) == (97 + sent, 0)
        await till.act(lambda c: aftersales.pay_back(c, refund_id, actor="a", now=NOW))
        assert await till.told("refund.succeeded", refund_id, 3000) == "refunded"

    at_till(shop, story)
    order = _act(shop, lambda c: orders.get(c, order_id))
    assert (stock_of(shop, sku), order.status, order.lines[0].to_send) == ((stock, 0), status, 0)


def test_the_desk_shows_refunds_by_state_page_by_page(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    order_id = paid_order(shop, 5)
    asked = [refund_asked(shop, order_id, 1) for _ in range(5)]
    _act(shop, lambda c: aftersales.refuse(c, asked[0], actor="a", now=NOW, answer="No"))
    counted = _act(shop, refund_desk.counts)
    assert (counted[RefundState.REQUESTED], counted[RefundState.REFUSED]) == (4, 1)
    first = _act(shop, lambda c: refund_desk.page(c, [RefundState.REQUESTED], most=3))
    mark = refund_desk.Cursor(first[-1].created_at, first[-1].refund_id)
    rest = _act(shop, lambda c: refund_desk.page(c, [RefundState.REQUESTED], before=mark, most=3))
    assert [one.refund_id for one in (*first, *rest)] == sorted(asked[1:], reverse=True)
    with pytest.raises(aftersales.UnknownRefund):
        _act(shop, lambda c: refund_desk.one(c, new_id()))


def _member(shop: Shop, name: str, *, points: int = 0, spent: int = 0, level: int = 0) -> UUID:
    customer_id = new_id()
    shop.database.run(
        "INSERT INTO mall.customer (shop_id, customer_id, name, phone, points, spent_fen, level) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        shop.shop_id, customer_id, name, f"139{customer_id.int % 10**8:08}", points, spent, level,
    )  # fmt: skip
    return customer_id


def test_customers_are_sorted_found_and_paged(open_shop: OpenShop) -> None:
    shop = open_shop()
    made = [_member(shop, f"客{n}", points=n % 3, spent=n * 100, level=n % 2) for n in range(7)]

    async def through(till: Till, sort: customers.Sort) -> list[UUID]:
        seen: list[UUID] = []
        before = None
        while found := await till.act(lambda c, at=before: customers.page(c, sort=sort, before=at, most=3)):
            seen += [one.customer_id for one in found]
            before = customers.Cursor(found[-1].key, found[-1].customer_id)
        return seen

    newest = sorted(made, reverse=True)
    assert at_till(shop, lambda till: through(till, "new")) == newest
    assert at_till(shop, lambda till: through(till, "spent")) == made[::-1]
    by_points = sorted(made, key=lambda one: (made.index(one) % 3, one), reverse=True)
    assert at_till(shop, lambda till: through(till, "points")) == by_points
    assert [one.name for one in _act(shop, lambda c: customers.page(c, text="客3"))] == ["客3"]
    assert len(_act(shop, lambda c: customers.page(c, level=1))) == 3


def test_points_by_hand_are_given_once_with_a_reason_and_never_more_are_taken_than_there_are(
    open_shop: OpenShop,
) -> None:
    shop = open_shop()
    customer = _member(shop, "Lin", points=10)

    def adjust(change: int, reason: str = "Sorry", entry: UUID | None = None) -> bool:
        return bool(
            _act(
                shop,
                lambda c: customers.adjust_points(c, customer, change, reason, entry_id=entry or new_id(), now=NOW),
            )
        )

    key = new_id()
    assert (adjust(5, entry=key), adjust(5, entry=key)) == (True, False)
    for change, reason, wrong in [(5, " ", "points.reason"), (0, "x", "points.number"), (-16, "x", "points.short")]:
        with pytest.raises(Refused) as refused:
            adjust(change, reason)
        assert refused.value.key == wrong
    assert adjust(-15)
    assert _act(shop, lambda c: customers.one(c, customer)).points == 0
    assert [one.points for one in _act(shop, lambda c: customers.points(c, customer))] == [-15, 5]


def test_the_statement_is_what_the_rules_make_of_the_transactions(open_shop: OpenShop) -> None:
    shop = open_shop(products=1)
    china = timedelta(hours=8)
    days = [NOW - timedelta(days=n) for n in (9, 3, 3, 0)]
    model: list[books.Transaction] = []
    for at in days:
        order_id = paid_order(shop, 2, now=at)
        model.append(books.paid(new_id(), order_id, (at + china).date(), list_fen=2000, discount_fen=0, shipping_fen=0))
    refund_id = refund_asked(shop, order_id, 1)

    async def back(till: Till) -> None:
        await till.act(lambda c: aftersales.approve(c, refund_id, actor="a", now=NOW))
        await till.told("refund.succeeded", refund_id, 1000, now=NOW)

    at_till(shop, back)
    model.append(books.refunded(refund_id, order_id, day_of(NOW), goods_fen=1000, shipping_fen=0))
    first, last = day_of(days[1]), day_of(NOW)
    found: statements.Statement = _act(shop, lambda c: statements.statement(c, first, last))
    moved, closing = books.by_day(model), books.balances(model)
    assert {day.day: day.moved for day in found.days} == {day: moved[day] for day in moved if day >= first}
    assert {day.day: day.closing for day in found.days} == {day: closing[day] for day in closing if day >= first}
    assert found.opening == closing[day_of(days[0])]
    assert sum(found.closing.values()) == 0
    assert found.revenue_fen == 3 * 2000 - 1000

    async def through(till: Till) -> tuple[list[statements.Posting], list[statements.Posting]]:
        pages: list[statements.Posting] = []
        after = None
        while page := await till.act(lambda c, at=after: statements.postings(c, first, last, after=at, most=2)):
            pages += page
            after = statements.read_place(page[-1].place.text)

        async def stream(connection: Connection) -> list[statements.Posting]:
            return [one async for one in statements.all_postings(connection, first, last)]

        return pages, await till.act(stream)

    pages, stream = at_till(shop, through)
    assert pages == stream
    assert len(pages) == 8
    assert sum(one.amount_fen for one in pages if one.account == Account.PROVIDER) == 5000


def test_several_orders_come_in_the_order_asked_or_not_at_all(filled: Any, open_shop: OpenShop) -> None:
    chosen = [filled.made[2], filled.made[0], filled.made[2]]
    assert [one.order_id for one in _act(filled, lambda c: fulfilment.several(c, chosen))] == chosen[:2]
    other = open_shop()
    with pytest.raises(orders.Unknown):
        _act(other, lambda c: fulfilment.several(c, chosen))
