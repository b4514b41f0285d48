"""The transaction that took most comes first, and the moment proposed is just before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ballast.recovery.ranking import UNDOING, Summary, TableCount, merged, proposed, ranked, to_undo

COUNTS = st.builds(
    TableCount,
    st.sampled_from(["public.a", "public.b"]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
    st.just(""),
    st.sampled_from([True, True, True, False]),
)


def summary(number: int, tables: list[TableCount], tenants: int = 1, actor: str | None = "lin") -> Summary:
    return Summary(f"1/0/{number}", number, None, actor, None, merged(tables), 1, tenants)


SUMMARIES = st.lists(st.tuples(st.lists(COUNTS, min_size=1, max_size=4), st.integers(0, 3)), max_size=8).map(
    lambda several: [summary(number, tables, tenants) for number, (tables, tenants) in enumerate(several)]
)


@given(SUMMARIES, st.integers(1, 9))
def test_the_worst_come_first_and_a_limit_keeps_them(summaries: list[Summary], limit: int) -> None:
    found = ranked(summaries)
    assert sorted(found, key=lambda s: s.position) == sorted(summaries, key=lambda s: s.position)
    known = [s for s in found if all(table.counted for table in s.tables)]
    assert [(s.tenants > 1, s.lost) for s in known] == sorted(((s.tenants > 1, s.lost) for s in known), reverse=True)
    assert ranked(summaries, limit) == found[:limit]
    # Taken piece by piece, as segments come, it is the same.
    half = len(summaries) // 2
    assert ranked([*ranked(summaries[:half], limit), *summaries[half:]], limit) == found[:limit]


@given(SUMMARIES)
def test_the_moment_proposed_is_before_the_worst(summaries: list[Summary]) -> None:
    found = proposed(summaries)
    harmful = [s for s in summaries if s.deleted or s.updated or not all(t.counted for t in s.tables)]
    assert (found is None) == (not harmful)
    if found is not None:
        assert found.at == ranked(summaries)[0].position


def test_what_goes_over_several_tenants_is_proposed_for_undo_with_all_of_its_actor() -> None:
    prices = summary(1, [TableCount("public.a", 0, 40)], 3, None)
    swapped = summary(3, [TableCount("public.b", 0, 2)], 2, "somebody")
    alone = summary(4, [TableCount("public.b", 0, 5)], 1, "somebody")
    added = summary(5, [TableCount("public.b", 7)], 1, "somebody")
    honest = summary(2, [TableCount("public.a", 1, 5, 9)], 1, None)
    every = [honest, alone, added, swapped, prices]
    assert to_undo(every) == (prices, swapped, alone)
    assert to_undo([honest, alone]) == (honest,), "the most destructive one"
    assert to_undo([added]) == ()
    # 0/3 in hex, as positions are.
    undone = summary(6, [TableCount("public.b", 0, 2)], 2, f"lin, {UNDOING} 3 (1/0/3): why")
    assert to_undo([*every, undone]) == (prices,), "what was undone is not proposed again, nor the undo"
    every_one = summary(6, [TableCount("public.b", 0, 2)], 2, f"lin, {UNDOING}s 1 (1/0/1), 3 (1/0/3): why")
    assert to_undo([honest, prices, swapped, every_one]) == (), "all of it is undone"
    partly = summary(6, [TableCount("public.b", 0, 2)], 2, f"lin, {UNDOING}s 1 (1/0/1), 3 (1/0/3) for 2 tenants")
    assert to_undo([*every, partly]) == (prices, swapped, alone)


@given(st.lists(COUNTS, max_size=9))
def test_counts_of_a_table_add_up(tables: list[TableCount]) -> None:
    found = merged(tables)
    assert len({table.table for table in found}) == len(found)
    for name in ("inserted", "updated", "deleted"):
        assert sum(getattr(table, name) for table in found) == sum(getattr(table, name) for table in tables)
    assert all(table.counted for table in found) == all(table.counted for table in tables)


def test_it_says_who_did_what() -> None:
    found = proposed(
        [summary(7, [TableCount("public.a", deleted=1200, how="truncated"), TableCount("public.b", 0, 3)])]
    )
    assert found is not None
    assert (found.at, found.why) == (
        "1/0/7",
        "just before transaction 7 by lin, which truncated 1,200 rows of public.a",
    )
    assert proposed([summary(1, [TableCount("public.a", inserted=9)])]) is None
