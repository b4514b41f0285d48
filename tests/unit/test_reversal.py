"""Transactions are reversed beside what was done since: what is left is as if they had not happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ballast.recovery.difference import Standing
from ballast.recovery.reversal import Effect, OnConflict, Reversal, merged, reversal

COUNTER = (3,)
HARMFUL = st.tuples(st.just("harm"), st.sampled_from(["price", "stock"]), st.integers(-9, 9))
HONEST = st.tuples(st.just("good"), st.sampled_from(["title", "stock"]), st.integers(-9, 9))


def line(price: int, title: int, stock: int) -> bytes:
    return f"key\t{price}\t{title}\t{stock}\n".encode()


def after(row: Sequence[int], column: str, value: int) -> tuple[int, int, int]:
    price, title, stock = row
    return (
        (value, title, stock)
        if column == "price"
        else (price, value, stock)
        if column == "title"
        else (price, title, stock + value)
    )


def outcome(found: Reversal, standing: bytes) -> bytes:
    """The one row, reversed."""
    difference = found.difference
    assert not difference.back
    assert not difference.gone
    return difference.changes[0].line if difference.changes else standing


@example([("harm", "stock", 6), ("good", "title", 1), ("harm", "stock", -6)])
@given(st.lists(HARMFUL | HONEST, max_size=8))
def test_merging_leaves_what_honest_transactions_did(steps: list[tuple[str, str, int]]) -> None:
    """They write to columns of their own, and all add to the same counter."""
    row = honest = (100, 0, 50)
    harm: list[tuple[Effect, ...]] = []
    for who, column, value in steps:
        then = after(row, column, value)
        if who == "good":
            honest = after(honest, column, value)
        elif then != row:
            harm.insert(0, (Effect(line(*row), line(*then)),))
        row = then
    standing = [Standing(b"1", line(*row))]
    found = reversal(harm, standing, (0,), "merge", COUNTER)
    if harm:  # what is where it was before the first of them counts as put right
        assume(line(*row).split(b"\t")[3] != (harm[-1][0].before or b"").split(b"\t")[3] or row == honest)
    assert outcome(found, line(*row)) == line(*honest)
    refused = reversal(harm, standing, (0,), "refuse", COUNTER)
    assert all(conflict.becomes == conflict.found for conflict in refused.conflicts)
    forced = reversal(harm, standing, (0,), "force", COUNTER)
    if harm:
        assert outcome(forced, line(*row)) == harm[-1][0].before


def test_a_column_that_was_changed_since_is_left() -> None:
    effect = Effect(line(100, 0, 50), line(1, 0, 999))
    assert merged(effect, line(120, 7, 999), COUNTER) == line(120, 7, 50), "somebody gave it a price since"
    assert merged(effect, line(1, 7, 996), COUNTER) == line(100, 7, 47)
    assert merged(effect, line(1, 7, 996), ()) == line(100, 7, 996), "nobody said that it counts"
    assert merged(effect, line(100, 7, 999), COUNTER) == line(100, 7, 50), "the price was put right by hand"
    priced = Effect(line(100, 0, 50), line(1, 0, 50))
    found = reversal([(priced,)], [Standing(b"1", line(120, 7, 50))], (0,), "merge", COUNTER)
    assert [(c.becomes, c.merged) for c in found.conflicts] == [(line(120, 7, 50), None)]
    assert found.difference.is_nothing


@pytest.mark.parametrize(("was", "made", "now", "back"), [("1.50", "9.75", "8.75", "0.50"), (r"\N", "5", "4", None), ("1", "NaN", "NaN1", None)])  # fmt: skip
def test_what_can_be_counted_back(was: str, made: str, now: str, back: str | None) -> None:
    effect = Effect(*(f"key\t1\t1\t{value}\n".encode() for value in (was, made)))
    expected = f"key\t1\t2\t{now if back is None else back}\n".encode()
    assert merged(effect, f"key\t1\t2\t{now}\n".encode(), COUNTER) == expected


def test_a_row_that_the_table_would_refuse_is_not_merged() -> None:
    effect = Effect(line(100, 0, 5), line(100, 0, 900))
    sold = line(100, 0, 880)
    found = reversal([(effect,)], [Standing(b"1", sold)], (0,), "merge", COUNTER)
    assert outcome(found, sold) == line(100, 0, -15)
    barred = reversal([(effect,)], [Standing(b"1", sold)], (0,), "merge", COUNTER, {line(100, 0, -15)})
    assert outcome(barred, sold) == sold
    assert barred.conflicts[0].merged is None


@pytest.mark.parametrize("policy", ["skip", "merge"])
def test_of_two_the_newer_is_reversed_though_the_older_is_not(policy: OnConflict) -> None:
    older, newer = Effect(line(100, 0, 5), line(1, 0, 5)), Effect(line(50, 0, 5), line(2, 0, 5))
    found = reversal([(newer,), (older,)], [Standing(b"1", line(2, 0, 5))], (0,), policy)
    assert outcome(found, line(2, 0, 5)) == line(50, 0, 5), "50 was somebody else's"
    assert len(found.conflicts) == 1


def test_what_one_made_and_another_removed_comes_to_nothing() -> None:
    made, removed = Effect(None, line(1, 1, 1)), Effect(line(1, 1, 1), None)
    for key in ((0,), ()):
        found = reversal([(removed,), (made,)], [], key, "refuse")
        assert found == Reversal(found.difference, (), 0)
        assert found.difference.is_nothing
        back = reversal([(made,), (removed,)], [Standing(b"1", line(1, 1, 1))], key, "refuse")
        assert back.difference.is_nothing
        assert Counter(back.conflicts) == Counter()
