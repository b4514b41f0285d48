"""To which moment a tenant whose rows are gone goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ballast.continuity.emptied import Emptied, emptied, emptied_again
from ballast.recovery.ranking import Summary, TableCount
from ballast.recovery.rewind import put_back_to

NOON = datetime(2020, 2, 23, 12, tzinfo=UTC)


def did(number: int, seconds: float, by: str | None = None, **tables: int) -> Summary:
    """A transaction that added so many rows to each table, or (below 0) took them."""
    counts = tuple(TableCount(name, inserted=max(0, n), deleted=max(0, -n)) for name, n in tables.items())
    return Summary(f"1/0/{number:X}", number, NOON + timedelta(seconds=seconds), by, None, counts)


def test_housekeeping_a_quarter_of_an_hour_before_is_no_reason_to_take_back_what_was_ordered_since() -> None:
    orders = [did(n, 10 * n, orders=1) for n in range(2, 80)]
    found = emptied([did(1, 0, log=-500), *orders, did(90, 800, orders=-178, stock=-20, shop=-1)], {})
    assert found is not None
    assert (found.at, found.had, found.left) == ("1/0/5A", 199, 0)


def test_tables_that_go_one_by_one_all_come_back_and_what_was_ordered_in_between_is_counted() -> None:
    deed = [
        did(1, -95, cart=-1),
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


def test_what_one_table_was_given_and_lost_again_says_nothing_of_others_that_are_whole() -> None:
    rounds = [did(2 * n, n, cart=40) for n in range(2, 10)] + [did(2 * n + 1, n + 0.5, cart=-40) for n in range(2, 10)]
    whole = {"item": 300}
    for churn in (
        [did(2, 0, cart=1), did(3, 1, cart=-1), did(4, 3, cart=310), did(5, 40, cart=-310)],
        [did(2, 0, cart=1), did(3, 1, cart=-1), *sorted(rounds, key=lambda one: one.position)],
        [did(2, 0, outbox=-100), *(did(n, 1, outbox=20, orders=1) for n in range(3, 23)), did(30, 30, outbox=-400)],
    ):
        found = emptied([*churn, did(99, 50, shop=-1)], whole)
        assert found is not None
        assert found.at == ""


def test_a_table_of_which_nobody_knows_how_much_it_held_is_a_persons_to_judge_and_additions_are_none() -> None:
    cut = Summary("1/0/1", 1, NOON, None, None, (TableCount("orders", how="truncated", counted=False),))
    found = emptied([cut, did(2, 5, orders=349)], {"orders": 349})
    assert found is not None
    assert (found.at, found.told) == ("", "349 rows now")
    assert emptied([did(1, 0, orders=3)], {"orders": 3}) is None


def test_a_shop_that_was_put_back_misses_nothing() -> None:
    assert emptied([did(1, 0, orders=-50, shop=-1), did(2, 2, orders=50, shop=1)], {"orders": 50, "shop": 1}) is None


REWOUND = ", rewinding tenant 7 to 1/0/1: its rows were gone"


def emptied_twice(second_s: float, by: str, *between: Summary) -> Emptied | None:
    first = [did(1, 0, orders=-50, shop=-1, stock=-5), did(2, 2, by, orders=50, shop=1, stock=5)]
    sold = [did(n, n, orders=1, stock=0) for n in range(3, 30)]
    return emptied_again([*first, *sold, *between, did(200, second_s, orders=-77, shop=-1, stock=-5)], {}, "7")


def test_who_calls_himself_a_rewind_to_no_position_is_none() -> None:
    assert put_back_to("ballast sentinel" + REWOUND, "7") == "1/0/1"
    assert put_back_to("tom, rewinding tenant 7 to 1/0/1", "7") == "1/0/1"
    for said in ("yesterday: x", "1/0: x", "1/0/1/2: x", "1/0/-1: x", ""):
        assert put_back_to(f"ballast sentinel, rewinding tenant 7 to {said}", "7") == ""


def test_a_shop_that_is_emptied_again_after_a_person_put_it_back_goes_back_to_the_second_time() -> None:
    found = emptied_twice(60, f"Lin{REWOUND}")
    assert found is not None
    assert (found.at, found.had) == ("1/0/C8", 83)
    found = emptied_twice(60, "Lin, rewinding tenant 7 (orders) to 1/0/1")
    assert found is not None
    assert found.at == "1/0/1", "one table was put back, and the others were not"


def test_a_shop_that_is_emptied_again_while_the_sentinel_brings_it_back_goes_to_the_same_moment_as_before() -> None:
    sentinel = f"ballast sentinel{REWOUND}"
    found = emptied_twice(60, sentinel)
    assert found is not None
    assert found.at == "1/0/1", (
        "what is brought in after its return is not brought in again by what is recorded after it"
    )
    found = emptied_twice(200, sentinel)
    assert found is not None
    assert found.at == "1/0/C8"
    found = emptied_twice(
        200, sentinel, did(199, 199, "ballast sentinel, bringing in again transaction (1/0/1)", orders=0)
    )
    assert found is not None
    assert found.at == "1/0/1"
    assert emptied_again([did(1, 0, shop=-1), did(2, 2, sentinel, shop=1)], {"shop": 1}, "7") is None


def test_orders_that_come_while_tables_go_one_by_one_hide_no_table_that_went_before() -> None:
    """The table of orders is emptied, filled by others, and emptied once more, since the shop's own row refers to nothing."""
    sold = [did(n, n / 10, orders=1, stock=0) for n in range(10, 20)]
    deed = [did(1, 0, orders=-9), *sold, did(30, 3, stock=-1), did(31, 4, orders=-10), did(32, 5, shop=-1)]
    found = emptied(deed, {})
    assert found is not None
    assert (found.at, found.had) == ("1/0/1", 11)


def test_a_look_between_two_tables_finds_the_first_of_them_however_many_orders_came_since() -> None:
    sold = [did(n, n / 10, orders=1) for n in range(10, 20)]
    found = emptied([did(1, 0, orders=-50), *sold, did(30, 3, stock=-20)], {"orders": 10, "shop": 1})
    assert found is not None
    assert (found.at, found.had, found.left) == ("1/0/1", 71, 11)


def test_what_took_rows_shortly_before_counts_as_its_beginning_and_what_took_them_long_before_does_not() -> None:
    one_by_one = [did(n, n / 10, orders=-1) for n in range(1, 10)]
    sold = [did(n, n / 10, orders=1) for n in range(10, 40)]
    found = emptied([*one_by_one, *sold, did(50, 60, orders=-30), did(51, 61, stock=-20, shop=-1)], {})
    assert found is not None
    assert (found.at, found.had) == ("1/0/1", 30)
    found = emptied([*one_by_one, *sold, did(50, 160, orders=-30), did(51, 161, stock=-20, shop=-1)], {})
    assert found is not None
    assert (found.at, found.had) == ("1/0/32", 51)
