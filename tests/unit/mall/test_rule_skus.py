"""The SKU matrix, and SKUs that stay who they are when options change."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.mall.rules.refused import Refused
from ballast.mall.rules.skus import Option, Sku, Value, matrix, reconcile


def option(number: int, *names: str, first: int = 0) -> Option:
    values = tuple(Value(UUID(int=number * 1000 + first + n), name) for n, name in enumerate(names))
    return Option(UUID(int=number), f"option {number}", values)


COLOUR, SIZE = option(1, "red", "blue"), option(2, "S", "M", "L")


def skus_of(options: list[Option]) -> list[Sku]:
    ids = [o.id for o in options]
    return [Sku(UUID(int=10**6 + n), dict(zip(ids, choice, strict=True))) for n, choice in enumerate(matrix(options))]


def test_every_combination_once_the_last_option_fastest() -> None:
    combinations = matrix([COLOUR, SIZE])
    assert len(set(combinations)) == 6
    assert [c[0] for c in combinations] == [COLOUR.values[0].id] * 3 + [COLOUR.values[1].id] * 3
    assert matrix([]) == ((),)


def test_renaming_and_sorting_touch_no_sku() -> None:
    skus = skus_of([COLOUR, SIZE])
    renamed = Option(SIZE.id, "Größe", tuple(Value(v.id, f"{v.name}!") for v in reversed(SIZE.values)))
    changes = reconcile(skus, [renamed, COLOUR])
    assert (set(changes.kept), changes.added, changes.retired) == ({s.id for s in skus}, (), ())


def test_a_value_that_goes_retires_its_skus_and_brings_them_back_when_it_returns() -> None:
    skus = skus_of([COLOUR, SIZE])
    fewer = Option(SIZE.id, "size", SIZE.values[:2])
    changes = reconcile(skus, [COLOUR, fewer])
    assert changes.retired == (skus[2].id, skus[5].id)
    assert changes.added == ()
    now = [Sku(s.id, s.chosen, offered=s.id not in changes.retired) for s in skus]
    again = reconcile(now, [COLOUR, SIZE])
    assert (set(again.kept), again.added, again.retired) == ({s.id for s in skus}, (), ())


def test_a_new_option_gives_its_first_value_to_what_is_there() -> None:
    skus = skus_of([COLOUR])
    changes = reconcile(skus, [COLOUR, SIZE])
    first = SIZE.values[0].id
    assert changes.kept == {s.id: (s.chosen[COLOUR.id], first) for s in skus}
    assert len(changes.added) == 4
    assert changes.retired == ()


def test_where_an_option_goes_the_first_offered_sku_stands_for_all() -> None:
    skus = [Sku(s.id, s.chosen, offered=n > 0) for n, s in enumerate(skus_of([COLOUR, SIZE]))]
    changes = reconcile(skus, [COLOUR])
    assert set(changes.kept) == {skus[1].id, skus[3].id}
    assert changes.added == ()
    assert changes.retired == (skus[2].id, skus[4].id, skus[5].id)


def test_a_product_that_gets_its_first_options_keeps_its_sku() -> None:
    changes = reconcile([Sku(UUID(int=5), {})], [COLOUR])
    assert changes.kept == {UUID(int=5): (COLOUR.values[0].id,)}


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ([option(n, "x") for n in range(1, 5)], "sku.too_many_options"),
        ([option(1, *map(str, range(25))), option(2, *map(str, range(25)))], "sku.too_many"),
        ([option(1)], "sku.no_value"),
        ([option(1, "red", " ＲＥＤ ")], "sku.name_twice"),
        ([option(1, "red", " ")], "sku.bad_name"),
        ([option(1, "x" * 41)], "sku.bad_name"),
        ([option(1, "x"), Option(UUID(int=9), "Option  1", option(9, "y").values)], "sku.name_twice"),
    ],
)
def test_what_makes_no_matrix_is_refused(options: list[Option], key: str) -> None:
    with pytest.raises(Refused) as refused:
        matrix(options)
    assert refused.value.key == key


picked = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True), max_size=3)


@given(picked, picked)
def test_after_a_change_each_combination_has_one_sku_and_none_is_lost(
    before: list[list[int]], now: list[list[int]]
) -> None:
    def options(picks: list[list[int]]) -> list[Option]:
        return [
            Option(UUID(int=n), f"o{n}", tuple(Value(UUID(int=100 * n + v), f"v{v}") for v in values))
            for n, values in enumerate(picks, 1)
        ]

    skus = skus_of(options(before))
    changes = reconcile(skus, options(now))
    assert sorted([*changes.kept.values(), *changes.added]) == sorted(matrix(options(now)))
    assert len(set(changes.kept.values())) == len(changes.kept)
    assert {*changes.kept, *changes.retired} == {s.id for s in skus}
    if len(before) == len(now):
        for sku in skus:
            choice = tuple(sku.chosen.values())
            assert (sku.id in changes.kept) == (choice in matrix(options(now)))
