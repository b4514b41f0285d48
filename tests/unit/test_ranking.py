"""The transaction that took most comes first, and the moment proposed is just before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ballast.recovery.ranking import Summary, TableCount, merged, proposed, ranked

COUNTS = st.builds(
    TableCount,
    st.sampled_from(["public.a", "public.b"]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(0, 5),
    st.just(""),
    st.sampled_from([True, True, True, False]),
)


def summary(number: int, tables: list[TableCount]) -> Summary:
    return Summary(f"1/0/{number}", number, None, "lin", None, merged(tables))


SUMMARIES = st.lists(st.lists(COUNTS, min_size=1, max_size=4), max_size=8).map(
    lambda several: [summary(number, tables) for number, tables in enumerate(several)]
)


@given(SUMMARIES, st.integers(1, 9))
def test_the_worst_come_first_and_a_limit_keeps_them(summaries: list[Summary], limit: int) -> None:
    found = ranked(summaries)
    assert sorted(found, key=lambda s: s.position) == sorted(summaries, key=lambda s: s.position)
    known = [s for s in found if all(table.counted for table in s.tables)]
    assert [s.deleted for s in known] == sorted((s.deleted for s in known), reverse=True)
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
