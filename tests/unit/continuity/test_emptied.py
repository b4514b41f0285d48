"""To which moment a tenant whose rows are gone goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ballast.continuity.emptied import emptied
from ballast.recovery.ranking import Summary, TableCount

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def did(number: int, seconds: float, **tables: int) -> Summary:
    """A transaction that added so many rows to each table, or (below 0) took them."""
    counts = tuple(TableCount(name, inserted=max(0, n), deleted=max(0, -n)) for name, n in tables.items())
    return Summary(f"1/0/{number:X}", number, NOON + timedelta(seconds=seconds), None, None, counts)


def test_housekeeping_a_quarter_of_an_hour_before_is_no_reason_to_take_back_what_was_ordered_since() -> None:
    orders = [did(n, 10 * n, orders=1) for n in range(2, 80)]
    found = emptied([did(1, 0, log=-500), *orders, did(90, 800, orders=-178, stock=-20, shop=-1)], {})
    assert found is not None
    assert (found.at, found.had, found.left) == ("1/0/5A", 199, 0)


def test_tables_that_go_one_by_one_all_come_back_and_what_was_ordered_in_between_is_counted() -> None:
    deed = [
        did(1, -60, cart=-1),
        did(2, -50, cart=1),
        did(3, 0, address=-3),
        did(4, 1, orders=1),
        did(5, 2, cart=-1, orders=1),
        did(6, 3, orders=-500),
        did(7, 4, orders=-300),
        did(8, 40, stock=-20),
        did(9, 41, shop=-1),
    ]
    found = emptied(deed, {"orders": 2})
    assert found is not None
    assert found.at == "1/0/3"


def test_a_shop_whose_directory_row_alone_was_taken_is_a_persons_to_judge() -> None:
    found = emptied([did(1, 0, log=-200), did(2, 840, shop=-1)], {"orders": 200, "stock": 20})
    assert found is not None
    assert (found.at, found.told) == ("", "421 rows then, 220 rows now")


def test_a_table_of_which_nobody_knows_how_much_it_held_is_a_persons_to_judge_and_additions_are_none() -> None:
    cut = Summary("1/0/1", 1, NOON, None, None, (TableCount("orders", how="truncated", counted=False),))
    found = emptied([cut, did(2, 5, orders=349)], {"orders": 349})
    assert found is not None
    assert (found.at, found.told) == ("", "349 rows now")
    assert emptied([did(1, 0, orders=3)], {"orders": 3}) is None


def test_a_shop_that_was_put_back_misses_nothing() -> None:
    assert emptied([did(1, 0, orders=-50, shop=-1), did(2, 2, orders=50, shop=1)], {"orders": 50, "shop": 1}) is None


def test_a_shop_that_is_emptied_again_soon_after_it_was_put_back_goes_back_to_the_second_time() -> None:
    first = [did(1, 0, orders=-50, shop=-1, stock=-5), did(2, 2, orders=50, shop=1, stock=5)]
    sold = [did(n, n, orders=1, stock=0) for n in range(3, 30)]
    found = emptied([*first, *sold, did(40, 60, orders=-77, shop=-1, stock=-5)], {})
    assert found is not None
    assert (found.at, found.had) == ("1/0/28", 83)
