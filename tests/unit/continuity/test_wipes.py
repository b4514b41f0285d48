"""Which transactions belong to one deed, and when a platform counts as emptied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ballast.continuity.wipes import Wipe, is_wiped, last_deed, took_most
from ballast.vault.records import Cut

NOON = datetime(2020, 2, 23, 18, 56, tzinfo=UTC)


def wipe(lsn: int, seconds: float | None) -> Wipe:
    at = None if seconds is None else NOON + timedelta(seconds=seconds)
    return Wipe(Cut(1, lsn), at, frozenset({lsn}))


def test_tables_that_are_emptied_one_after_another_are_one_deed_and_what_came_long_before_is_another() -> None:
    found = [wipe(50, 60), wipe(10, -600), wipe(30, 0), wipe(40, 50)]
    assert [one.cut.lsn for one in last_deed(found)] == [30, 40, 50]
    assert last_deed([]) == []
    assert [one.cut.lsn for one in last_deed([wipe(10, 0), wipe(20, None)])] == [10, 20]


def test_half_of_all_rows_are_a_wipe_and_a_cart_of_a_small_platform_is_none() -> None:
    assert is_wiped(10_000, 0)
    assert is_wiped(10_000, 4_900)
    assert not is_wiped(10_000, 5_100)
    assert not is_wiped(60, 0)
    assert not is_wiped(0, 0)


def test_a_table_that_is_emptied_tenant_by_tenant_and_filled_again_by_others_is_of_the_deed() -> None:
    orders, cart, item, note = 1, 2, 3, 4
    deleted = [(orders, lsn, -50) for lsn in range(10, 18)]
    sold = [step for lsn in range(20, 300, 2) for step in ((orders, lsn, 2), (cart, lsn, -1))]
    few = [(item, 5, -3), (note, 7, -2), (cart, 9, -1)]
    assert took_most([*few, *deleted, *sold], {orders: 280, cart: 900, item: 500, note: 0}) == {7, *range(10, 18)}
    assert took_most(sold, {orders: 280, cart: 900}) == set()
    assert took_most([(cart, 10, 1), (cart, 20, -1)], {cart: 0}) == set()
