"""Who comes back next: those asked for, those with a rank, the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ballast.recovery.precedence import Precedence

GROUPS = [["a", "b", "c"], ["d", "e", "f", "g"]]


def all_units(precedence: Precedence) -> list[tuple[str, ...]]:
    return list(iter(precedence.next_unit, None))


def test_the_rest_comes_in_the_order_of_reading_and_no_unit_mixes_what_is_not_read_together() -> None:
    assert all_units(Precedence(GROUPS, {}, unit=2)) == [("a", "b"), ("c",), ("d", "e"), ("f", "g")]


def test_ranked_tenants_come_first_one_by_one_and_unknown_ranks_are_nobodys() -> None:
    precedence = Precedence(GROUPS, {"g": 1, "b": 2, "zz": 0}, unit=10)
    assert all_units(precedence) == [("g",), ("b",), ("a", "c"), ("d", "e", "f")]


def test_who_is_asked_for_comes_before_everybody_and_once() -> None:
    precedence = Precedence(GROUPS, {"g": 1}, unit=2)
    assert precedence.ask("e")
    assert not precedence.ask("e")
    assert precedence.ask("c")
    assert [precedence.next_asked(9) for _ in range(3)] == [("e",), ("c",), None]
    assert not precedence.ask("e")
    assert all_units(precedence) == [("g",), ("a", "b"), ("d",), ("f",)]


def test_many_who_wait_are_served_together_as_far_as_they_are_read_together() -> None:
    precedence = Precedence(GROUPS, {}, unit=1)
    for tenant in ("d", "a", "e", "f", "g"):
        precedence.ask(tenant)
    assert precedence.next_asked(2) == ("d", "e")
    assert precedence.next_asked(2) == ("a",)
    assert precedence.next_asked(2) == ("f",)
    assert precedence.next_asked(1) == ("g",)


def test_who_is_in_a_hurry_comes_before_who_asked_earlier_and_waits_for_nobody_else() -> None:
    precedence = Precedence(GROUPS, {}, unit=1)
    for tenant in ("d", "a", "e"):
        assert precedence.ask(tenant)
    assert precedence.ask("f", urgent=True)
    assert not precedence.ask("e", urgent=True)
    assert not precedence.ask("never there", urgent=True)
    assert [precedence.next_asked(1) for _ in range(4)] == [("f", "e"), ("d",), ("a",), None]
    assert not precedence.ask("e", urgent=True)


def test_one_that_waits_to_be_served_is_left_out_of_units() -> None:
    precedence = Precedence([["a", "b"]], {}, unit=2)
    precedence.ask("b")
    assert precedence.next_unit() == ("a",)
    assert precedence.next_asked() == ("b",)


def test_nobody_is_fetched_who_is_under_way_back_or_unknown() -> None:
    precedence = Precedence([["a", "b"]], {}, unit=1)
    assert precedence.next_unit() == ("a",)
    assert precedence.is_missing("a")
    assert not precedence.ask("a")
    precedence.back(["a"])
    assert not precedence.is_missing("a")
    assert not precedence.ask("a")
    assert not precedence.ask("nobody")
    assert precedence.missing == 1


def test_the_first_ranks_are_kept_strictly_later_ones_by_windows() -> None:
    names = [f"t{n:03}" for n in range(400)]
    ranks = {name: float(-n) for n, name in enumerate(names)}
    order = [tenant for unit in all_units(Precedence([names], ranks, unit=10)) for tenant in unit]
    assert order[:32] == names[::-1][:32]
    assert order[32:96] == sorted(names[::-1][32:96])
    assert sorted(order) == names


@given(st.data())
def test_everybody_comes_exactly_once_whatever_is_asked_and_in_between(data: st.DataObject) -> None:
    names = [f"t{n}" for n in range(data.draw(st.integers(0, 40)))]
    cut = data.draw(st.integers(0, len(names)))
    ranks = data.draw(st.dictionaries(st.sampled_from(names or ["t"]), st.floats(0, 9), max_size=20))
    precedence = Precedence([names[:cut], names[cut:]], ranks, unit=data.draw(st.integers(1, 5)))
    came: list[str] = []
    while True:
        for tenant in data.draw(st.lists(st.sampled_from([*names, "stranger"]), max_size=3)):
            precedence.ask(tenant)
        asked = precedence.next_asked(data.draw(st.integers(1, 4))) if data.draw(st.booleans()) else None
        unit = asked or precedence.next_unit()
        if unit is None:
            break
        came += unit
        precedence.back(unit)
    while (asked := precedence.next_asked()) is not None:
        came += asked
        precedence.back(asked)
    assert sorted(came) == sorted(names)
    assert precedence.missing == 0
