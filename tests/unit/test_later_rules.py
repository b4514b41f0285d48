"""What a transaction does tells whether it is taken for part of a deletion."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ballast.recovery.later import KIND, Did, Packed, _add
from ballast.recovery.merge_items import MergeItem

ORDERS, LINES, CART, AUDIT = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("done", "is_of_the_deed"),
    [
        (
            [(CART, "D", "a", 2), (ORDERS, "I", "a", 1), (LINES, "I", "a", 2)],
            False,
        ),  # an order takes what was in the cart
        ([(CART, "D", "a", 2), (CART, "I", "a", 2)], False),  # a guest logs in
        ([(ORDERS, "P", "a", 1)], False),
        ([(ORDERS, "D", "a", 5)], True),
        ([(ORDERS, "D", "a", 5), (AUDIT, "I", "a", 5)], True),  # a trigger notes each
        ([(ORDERS, "D", "a", 1), (ORDERS, "D", "b", 1), (AUDIT, "I", "a", 9)], True),
        ([(CART, "D", "a", 3), (CART, "I", "a", 2)], True),
    ],
)
def test_what_is_taken_for_part_of_a_deletion(done: list[tuple[int, str, str, int]], is_of_the_deed: bool) -> None:
    did = Did()
    for relation, op, tenant, count in done:
        _add(did, {"relation": relation, "op": op, "tenant": tenant, "count_all": count})
    assert did.is_of_the_deed is is_of_the_deed


def test_items_are_held_packed_and_given_back_as_they_were() -> None:
    rows = [{"key": {"id": str(n)}, "row": {"body": "x" * 2000, "none": None}} for n in range(50)]
    items = [
        MergeItem(f"shop{n % 3}", f"recorded:1/0/{n:X}", KIND, {"changes": rows}, datetime(2020, 2, 23, n, tzinfo=UTC))
        for n in range(9)
    ]
    packed = Packed()
    for item in items:
        packed.add(item)
    assert {tenant: list(given) for tenant, given in packed.items()} == {
        tenant: [item for item in items if item.tenant == tenant] for tenant in ("shop0", "shop1", "shop2")
    }
    assert (len(packed), packed.get("nobody", ()), "nobody" in packed) == (3, (), False)
    assert [item.digest() for item in packed["shop1"]] == [item.digest() for item in items[1::3]]
