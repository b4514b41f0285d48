"""Whatever an order of a file says, what is made of it adds up; or it is refused."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall import tables
from ballast.mall.imports import orders
from ballast.mall.imports.grouping import Group
from ballast.mall.imports.reading import Line
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.refused import Refused

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SHOP, CUSTOMER = UUID(int=1), UUID(int=2)
STATUSES = ("paid", "shipped", "received", "closed", "cancelled")


@st.composite
def orders_of_files(draw: st.DrawFn) -> Group:
    """An order that could stand in a file; often one that is refused."""
    goods = []
    for _ in range(draw(st.integers(1, 4))):
        price, quantity = draw(st.integers(0, 5_000)), draw(st.integers(1, 5))
        goods.append((price, quantity, draw(st.integers(0, price * quantity))))
    shipping = draw(st.sampled_from([0, 0, 1, 800]))
    total = sum(price * quantity - off for price, quantity, off in goods) + shipping
    refunded = draw(st.sampled_from([0, 0, total, draw(st.integers(0, total + 1))]))
    order = {
        "status": draw(st.sampled_from(STATUSES)),
        "placed_at": "2026-01-01 10:00",
        "shipping_yuan": plain_yuan(shipping),
        "refunded_yuan": plain_yuan(refunded) if refunded else "",
        "refunded_at": draw(st.sampled_from(["", "2026-01-02", "2026-02-01"])),
        "shipped_at": draw(st.sampled_from(["", "2026-01-03"])),
        "closed_at": draw(st.sampled_from(["", "2026-01-20"])),
    }
    lines = [
        {
            "shop": "a",
            "order": "E",
            **(order if n == 0 else {}),
            "product_name": "x",
            "price_yuan": plain_yuan(price),
            "quantity": str(quantity),
            "discount_yuan": plain_yuan(off),
        }
        for n, (price, quantity, off) in enumerate(goods)
    ]
    return Group("a", "E", tuple(Line(n, line) for n, line in enumerate(lines, 2)))


def _told(group: Group, points_per_yuan: int) -> dict[str, list[tables.Row]] | None:
    known = orders.Known({}, set(), {}, {}, frozenset(), points_per_yuan, ())
    try:
        _, told = orders.past(SHOP, orders.read(group, NOW), known, CUSTOMER)
    except Refused:
        return None
    found: dict[str, list[tables.Row]] = {}
    for row in told.rows:
        found.setdefault(row.TABLE, []).append(row)
    points = sum(row.points for row in found.get("points_entry", []) if isinstance(row, tables.PointsEntry))
    assert points == told.points
    assert told.points == told.spent_fen * points_per_yuan // 100
    return found


@given(orders_of_files(), st.integers(0, 3))
def test_what_is_told_adds_up(group: Group, points_per_yuan: int) -> None:
    found = _told(group, points_per_yuan)
    if found is None:
        return
    (order,) = found["orders"]
    assert isinstance(order, tables.Order)
    assert order.status == group.lines[0].cells["status"]
    assert order.total_fen == order.items_fen - order.discount_fen + order.shipping_fen
    assert order.paid_fen in (0, order.total_fen)
    lines = [row for row in found["order_line"] if isinstance(row, tables.OrderLine)]
    assert sum(line.total_fen for line in lines) + order.shipping_fen == order.total_fen
    for line in lines:
        assert line.total_fen == line.price_fen * line.quantity - line.discount_fen
        assert 0 <= line.refunded_fen <= line.total_fen
        assert line.shipped_quantity + line.dropped_quantity <= line.quantity
    refunds = [row for row in found.get("refund", []) if isinstance(row, tables.Refund)]
    assert sum(one.amount_fen for one in refunds) == order.refunded_fen <= order.paid_fen
    assert sum(line.refunded_fen for line in lines) + sum(one.shipping_fen for one in refunds) == order.refunded_fen
    postings = [row for row in found.get("posting", []) if isinstance(row, tables.Posting)]
    sums: Counter[object] = Counter()
    for one in postings:
        sums[one.transaction_id] += one.amount_fen
        sums[one.account] += one.amount_fen
    assert all(sums[one.transaction_id] == 0 for one in postings)
    assert sums["provider"] == order.paid_fen - order.refunded_fen
    events = [row for row in found["order_event"] if isinstance(row, tables.OrderEvent)]
    assert sorted(events, key=lambda one: (one.at, one.event_id)) == events
    assert (events[0].event, events[-1].status) == ("place", order.status)


@pytest.mark.parametrize("status", STATUSES)
def test_the_plain_order_of_each_status_is_taken(status: str) -> None:
    cells = {
        "shop": "a",
        "order": "E",
        "status": status,
        "placed_at": "2026-01-01",
        "product_name": "x",
        "price_yuan": "1",
        "quantity": "1",
    }
    assert _told(Group("a", "E", (Line(2, cells),)), 1) is not None
