"""What is merged when: a tenant's read opens few runs however long the vault lives, and little is written for it."""

from __future__ import annotations

import random

import pytest

from ballast.vault.index import VaultIndex
from ballast.vault.merge_rules import (
    FEW_ROWS,
    MANY_RUNS,
    TOO_MANY_RUNS,
    Piece,
    Weight,
    due,
    frontier,
    image_cut,
    image_due,
    lag,
    level_of,
    next_merge,
    waiting,
)
from ballast.vault.plan import Stretch
from ballast.vault.records import Body, Cut, Entry, Gap, Genesis, Image, Merge, ObjectRef, RunRef, Segment, Timeline

BUCKETS = 4


class Ledger:
    """An index to which segments, and the merges that are due, are added; rows are only counted."""

    def __init__(self) -> None:
        self.index = VaultIndex()
        self.at = 100
        self.written = 0
        self.add(Genesis(1, "v", "", BUCKETS, "test"))
        self.add(Timeline(1, "s", "d", 180000, "slot", "pub", 100))
        self.add(Image(1, 100, 1, None, (run(1000),), (), "test"))

    def add(self, body: Body) -> None:
        self.index.apply(Entry(self.index.head + 1, "", "2026-01-01T00:00:00+00:00", "", body))

    def segment(self, rows: int = 10) -> None:
        runs = (run(rows),) if rows else ()
        self.add(Segment(1, self.at, self.at + 10, None, None, runs, None, (), (), rows))
        self.at += 10

    def merge(self) -> None:
        """Everything that is due."""
        while (found := due(self.index, 1)) is not None:
            timeline, pieces = found
            rows = sum(r.rows for piece in pieces for r in piece.runs)
            level = max(map(level_of, pieces)) + 1
            runs = (run(rows),) if rows else ()
            self.add(Merge(timeline, "changes", None, level, pieces[0].first_lsn, pieces[-1].last_lsn, 1, runs))
            self.written += rows

    def image(self, buckets: tuple[int, ...] | None, at: int | None = None) -> None:
        lsn = at or self.at
        self.add(Merge(1, "image", buckets, 1, lsn, lsn, 1, (run(1000),)))

    def runs_at(self, lsn: int, bucket: int = 0) -> int:
        return len(self.index.plan(1, lsn, bucket).changes)


def run(rows: int) -> RunRef:
    return RunRef(ObjectRef(f"r{random.random()}", 1, ""), rows, None, "a", "z", (1,))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_seven_segments_wait_and_the_eighth_has_them_merged(ledger: Ledger) -> None:
    for _ in range(7):
        ledger.segment()
    assert due(ledger.index, 1) is None
    assert waiting(ledger.index, 1) == 7
    ledger.segment()
    ledger.merge()
    assert waiting(ledger.index, 1) == 0
    assert ledger.runs_at(ledger.at) == 1
    assert lag(ledger.index, 1).runs == 2  # with the image's


def test_few_runs_are_read_at_any_cut_and_few_rows_written(ledger: Ledger) -> None:
    for count in range(1, 2000):
        ledger.segment()
        ledger.merge()
        if count % 37 == 0:
            assert ledger.runs_at(ledger.at) <= 19
    assert all(ledger.runs_at(cut) <= 19 for cut in range(110, ledger.at, 370))
    assert ledger.written <= 5 * 2000 * 10  # each change once a level
    assert len(ledger.index.merges) < 2000 / 8 * 4 / 3 + 1


def test_a_long_wait_is_made_up_for(ledger: Ledger) -> None:
    for _ in range(300):
        ledger.segment()
    assert lag(ledger.index, 1).late
    assert (waiting(ledger.index, 1), ledger.runs_at(ledger.at)) == (300, 300)
    ledger.merge()
    assert not lag(ledger.index, 1).late
    assert (waiting(ledger.index, 1), ledger.runs_at(ledger.at)) == (4, 8)


def test_segments_without_rows_cost_nothing(ledger: Ledger) -> None:
    for count in range(100):
        ledger.segment(rows=10 if count % 10 == 0 else 0)
    assert waiting(ledger.index, 1) == 10
    ledger.merge()
    assert waiting(ledger.index, 1) == 2
    assert len(ledger.index.merges) == 1


def test_nothing_is_merged_that_every_bucket_has_an_image_after(ledger: Ledger) -> None:
    for _ in range(16):
        ledger.segment()
    ledger.image((-1, 0, 1, 2))
    assert waiting(ledger.index, 1) == 16  # bucket 3 still reads them
    ledger.image((3,))
    assert waiting(ledger.index, 1) == 0
    ledger.merge()
    assert [m.kind for m in ledger.index.merges] == ["image", "image"]


def test_a_merge_that_began_before_the_images_is_not_merged_again(ledger: Ledger) -> None:
    for _ in range(8):
        ledger.segment()
    ledger.merge()
    ledger.image(None, at=ledger.at - 30)
    for _ in range(8 * 3):
        ledger.segment()
    ledger.merge()
    pieces = frontier(ledger.index, Stretch(1, ledger.at - 270, ledger.at))
    assert [(p.first_lsn, level_of(p)) for p in pieces] == [(180, 1), (260, 1), (340, 1)]
    assert ledger.runs_at(ledger.at) == 4


@pytest.mark.parametrize(
    ("fork", "expected", "runs"), [(175, [], 9), (255, [(1, 100, 180)], 10), (260, [(1, 100, 180), (1, 180, 260)], 3)]
)
def test_merging_comes_to_an_end_where_a_fork_lies_in_the_midst_of_a_segment(
    ledger: Ledger, fork: int, expected: list[tuple[int, int, int]], runs: int
) -> None:
    for _ in range(16):
        ledger.segment()
    ledger.add(Timeline(2, "s", "d", 180000, "slot", "pub", 5, 1, fork))
    ledger.add(Segment(2, 5, 50, None, None, (run(10),), None, (), (), 10))
    merges = []
    while (found := due(ledger.index, 2)) is not None:
        timeline, pieces = found
        assert len(merges) < 10, "the same is due again and again"
        merges.append((timeline, pieces[0].first_lsn, pieces[-1].last_lsn))
        ledger.add(Merge(timeline, "changes", None, 1, pieces[0].first_lsn, pieces[-1].last_lsn, 1, (run(80),)))
    assert merges == expected
    assert len(ledger.index.plan(2, 50, 0).changes) == runs


def test_a_hole_is_never_merged_over(ledger: Ledger) -> None:
    for _ in range(5):
        ledger.segment()
    ledger.at += 10
    for _ in range(5):
        ledger.segment()
    segments = list(ledger.index.segments_of(1))
    assert next_merge(segments) == []
    ledger.segment(), ledger.segment(), ledger.segment()
    merged = next_merge(list(ledger.index.segments_of(1)))
    assert [piece.first_lsn for piece in merged] == list(range(160, 240, 10))


def test_an_older_level_does_not_wait_for_a_newer_one() -> None:
    def piece(first: int, level: int) -> Piece:
        runs = (run(1),)
        if level:
            return Merge(1, "changes", None, level, first, first + 1, 1, runs)
        return Segment(1, first, first + 1, None, None, runs, None, (), (), 1)

    def firsts(levels: list[int]) -> list[int]:
        return [p.first_lsn for p in next_merge([piece(n, level) for n, level in enumerate(levels)])]

    assert firsts([2, 1, 1, 1, 0, 0]) == []
    assert firsts([2, 1, 1, 1, 1, 0, 0]) == [1, 2, 3, 4]
    assert firsts([1, 1, 1, 1, *[0] * 8]) == list(range(4, 12))
    assert firsts([0, 0, 1, 1, 1, 2, 1]) == []


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (Weight(1_000_000, 499_999, 7), False),
        (Weight(1_000_000, 500_000, 7), True),
        (Weight(100, FEW_ROWS - 1, 7), False),
        (Weight(0, FEW_ROWS, 1), True),
        (Weight(1600, 100, MANY_RUNS), False),
        (Weight(1600, 100, MANY_RUNS + 1), True),
        (Weight(1600, 99, MANY_RUNS + 1), False),
        (Weight(10**9, 0, TOO_MANY_RUNS), True),
    ],
)
def test_an_image_is_due_when_much_has_changed_or_lies_in_many_runs(weight: Weight, expected: bool) -> None:
    assert image_due(weight) is expected


def test_no_image_is_taken_where_rows_are_in_doubt(ledger: Ledger) -> None:
    assert image_cut(ledger.index, 1) is None
    for _ in range(5):
        ledger.segment()
    assert image_cut(ledger.index, 1) == Cut(1, 150)
    ledger.add(Gap("g", 1, 125, None, (2,), "lost", "2026-01-01"))
    assert image_cut(ledger.index, 1) == Cut(1, 120)
    ledger.add(Image(1, 145, 1, (2,), (), (), "again"))
    ledger.add(Gap("g", 1, 125, 145, (2,), "lost", "2026-01-01"))
    assert image_cut(ledger.index, 1) == Cut(1, 150)
