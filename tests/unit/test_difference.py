"""The difference leads from what stands to what should stand, touches nothing else, and undoing a transaction is its inverse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ballast.recovery.difference import Change, Difference, Standing, difference, moved
from ballast.recovery.reversal import Effect, OnConflict, effects, joined, reversal
from ballast.vault.layout import key_of

FIELDS = st.sampled_from([b"1", b"2", b"3", rb"\N", rb"a\tb", b""])
LINES = st.lists(st.builds(lambda key, value: key + b"\t" + value + b"\n", FIELDS, FIELDS), max_size=12)
KEYS = st.sampled_from([(), (0,), (0, 1)])


def stand(lines: Iterable[bytes]) -> list[Standing]:
    return [Standing(b"%d" % n, line) for n, line in enumerate(lines)]


def applied(standing: Sequence[Standing], found: Difference) -> Counter[bytes]:
    """What is there when the difference was applied to the rows, each named by its version and there only once."""
    rows = {row.version: row.line for row in standing}
    assert len(rows) == len(standing)
    for row in found.gone:
        assert rows.pop(row.version) == row.line
    for change in found.changes:
        assert rows.pop(change.standing.version) == change.standing.line
        rows[b"new " + change.standing.version] = change.line
    return Counter([*rows.values(), *found.back])


def keyed(lines: Iterable[bytes], key: Sequence[int]) -> list[bytes]:
    """At most one row a key, as a table with that key has."""
    return list({key_of(line, key): line for line in lines}.values()) if key else list(lines)


@given(LINES, LINES, KEYS)
def test_it_leads_to_what_should_be(should: list[bytes], now: list[bytes], key: tuple[int, ...]) -> None:
    standing = stand(now)
    found = difference(should, standing, key)
    assert applied(standing, found) == Counter(should)
    assert applied(standing, found.without_changes()) == Counter(should)
    assert Counter(found.same) <= Counter(now) & Counter(should)
    assert difference(should, stand(should), key).is_nothing


@given(LINES, LINES, KEYS)
def test_nothing_more_is_touched_than_must_be(should: list[bytes], now: list[bytes], key: tuple[int, ...]) -> None:
    should, now = keyed(should, key), keyed(now, key)
    found = difference(should, stand(now), key)
    assert Counter(found.same) == Counter(should) & Counter(now)
    for change in found.changes:
        assert key
        assert key_of(change.standing.line, key) == key_of(change.line, key)
        assert moved(change)
        assert not set(moved(change)) & set(key)
    if key:
        came, went = ({key_of(line, key) for line in lines} for lines in (found.back, [r.line for r in found.gone]))
        assert not came & went


@given(LINES, LINES, KEYS)
def test_undoing_a_transaction_gives_what_was_before(
    before: list[bytes], after: list[bytes], key: tuple[int, ...]
) -> None:
    before, after = keyed(before, key), keyed(after, key)
    done = effects(before, after, key)
    standing = stand(after)
    back = reversal([done], standing, key, "refuse")
    assert not back.conflicts
    assert applied(standing, back.difference) == Counter(before)


@given(LINES, LINES, LINES, st.sampled_from([(0,), (0, 1)]))
def test_rows_that_were_changed_since_are_conflicts(
    before: list[bytes], after: list[bytes], now: list[bytes], key: tuple[int, ...]
) -> None:
    before, after, now = (keyed(lines, key) for lines in (before, after, now))
    was, made, found = ({key_of(line, key): line for line in lines} for lines in (before, after, now))
    done = effects(before, after, key)
    touched = {key_of(effect.line, key) for effect in done}
    assert touched == {k for k in was.keys() | made.keys() if was.get(k) != made.get(k)}
    standing = stand(now)
    conflicting = {k for k in touched if found.get(k) not in (made.get(k), was.get(k))}

    refused = reversal([done], standing, key, "refuse")
    assert {key_of(conflict.line, key) for conflict in refused.conflicts} == conflicting
    assert all(conflict.found == found.get(key_of(conflict.line, key)) for conflict in refused.conflicts)
    for way, settled in (("skip", touched - conflicting), ("force", touched)):
        policy: OnConflict = "skip" if way == "skip" else "force"
        result = applied(standing, reversal([done], standing, key, policy).difference)
        expected = {**found, **{k: was[k] for k in settled if k in was}}
        for k in settled - was.keys():
            expected.pop(k, None)
        assert result == Counter(expected.values())


@given(LINES, LINES, st.sampled_from([(0,), (0, 1)]))
def test_tenant_by_tenant_or_together_it_is_the_same(
    before: list[bytes], after: list[bytes], key: tuple[int, ...]
) -> None:
    """The last field is the tenant: a row whose tenant changed is in one scope before and in another after."""
    before, after = keyed(before, key), keyed(after, key)
    tenants = {line.split(b"\t")[1] for line in (*before, *after)}
    parts = [
        effect
        for tenant in tenants
        for effect in effects(*([line for line in s if line.split(b"\t")[1] == tenant] for s in (before, after)), key)
    ]
    together = effects(before, after, key)
    assert sorted(map(repr, joined(parts, key))) == sorted(map(repr, together))


@pytest.mark.parametrize("policy", ["refuse", "skip", "force"])
def test_without_a_key_a_row_that_is_not_found_is_a_conflict(policy: OnConflict) -> None:
    done = (Effect(None, b"new\n"),)
    found = reversal([done], stand([b"x\n"]), (), policy)
    assert [(c.before, c.made) for c in found.conflicts] == [(None, b"new\n")]
    assert found.difference.is_nothing
    removed = reversal([(Effect(b"old\n", None),)], stand([b"x\n"]), (), policy)
    assert not removed.conflicts
    assert removed.difference.back == (b"old\n",)


def test_without_a_key_one_row_of_two_equal_ones_goes() -> None:
    found = reversal([(Effect(None, b"twice\n"),)], stand([b"twice\n", b"twice\n"]), (), "refuse")
    assert len(found.difference.gone) == 1


def test_two_rows_under_one_key_change_the_one_that_differs() -> None:
    found = difference([b"1\ta\n", b"1\tb\n"], stand([b"1\ta\n", b"1\tc\n"]), (0,))
    assert found.changes == (Change(Standing(b"1", b"1\tc\n"), b"1\tb\n"),)
    assert not found.back
    assert not found.gone
