"""A plan names every change that matters exactly once, whatever was merged, imaged, lost or forked before."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ballast.errors import ConfigError, GapError
from ballast.vault.index import VaultIndex
from ballast.vault.plan import Plan, may_hold, may_hold_bucket
from ballast.vault.records import (
    Body,
    Cut,
    Entry,
    Gap,
    Genesis,
    Image,
    Merge,
    ObjectRef,
    RunRef,
    SchemaVersion,
    Segment,
    Timeline,
    Truncation,
)

RELATIONS = (1, 2, 3)
BUCKETS = (-1, 0, 1)
Fact = tuple[str, int, int, int, int]
"""What happened ("change" or "truncation"), to which relation, in which bucket, on which timeline, at which LSN."""


@dataclass
class History:
    """An index with, beside it, what each run would hold: facts instead of rows.

    `truth` is what the server did. Segments hold only what was `seen` of it; images hold the truth."""

    truth: list[Fact] = field(default_factory=list)
    unseen: set[Fact] = field(default_factory=set)
    index: VaultIndex = field(default_factory=VaultIndex)
    held: dict[str, list[Fact]] = field(default_factory=dict)

    def add(self, body: Body) -> None:
        self.index.apply(Entry(self.index.head + 1, "", "2026-01-01T00:00:00+00:00", "", body))

    def run(self, facts: list[Fact], bucket: int | None) -> RunRef:
        name = f"run-{len(self.held)}"
        self.held[name] = facts
        tenants = sorted({tenant_of(b) or "" for _, _, b, _, _ in facts})
        return RunRef(
            ObjectRef(name, 1, ""),
            len(facts),
            bucket,
            tenants[0] or None if tenants else None,
            tenants[-1] or None if tenants else None,
            tuple(sorted({r for _, r, _, _, _ in facts})),
        )

    def past(self, timeline: int, lsn: int) -> list[Fact]:
        """The true facts before a cut, along its chain of timelines."""
        ends = {part.timeline: part.to_lsn for part in self.index.chain(Cut(timeline, lsn))}
        return [fact for fact in self.truth if fact[3] in ends and fact[4] < ends[fact[3]]]

    def image(self, timeline: int, lsn: int, relations: tuple[int, ...] | None) -> None:
        held = [f for f in self.past(timeline, lsn) if relations is None or f[1] in relations]
        runs = [self.run([f for f in held if f[2] == b], b) for b in BUCKETS]
        self.add(Image(timeline, lsn, 1, relations, tuple(r for r in runs if r.rows), (), "test"))

    def segment(self, timeline: int, first: int, last: int, *, split: bool) -> None:
        seen = [f for f in self.truth if f[3] == timeline and first <= f[4] < last and f not in self.unseen]
        changes = [f for f in seen if f[0] == "change"]
        truncations = {(f[4], f[1]) for f in seen if f[0] == "truncation"}
        groups = [(None, changes[::2]), (None, changes[1::2])] if split else [(None, changes)]
        self.add(
            Segment(
                timeline,
                first,
                last,
                None,
                None,
                tuple(self.run(facts, bucket) for bucket, facts in groups if facts),
                None,
                tuple(Truncation(lsn, 1, (relation,)) for lsn, relation in sorted(truncations)),
                (),
                len(changes),
            )
        )

    def merge_changes(self, timeline: int, buckets: tuple[int, ...] | None, first: int, last: int) -> None:
        facts = [
            f
            for f in self.truth
            if f[0] == "change"
            and f[2] in (buckets or BUCKETS)
            and f[3] == timeline
            and first <= f[4] < last
            and f not in self.unseen
        ]
        self.add(Merge(timeline, "changes", buckets, 1, first, last, 1, self.runs(facts, buckets)))

    def merge_image(self, timeline: int, buckets: tuple[int, ...] | None, lsn: int) -> None:
        """What a merger would write now: only what the vault can tell it."""
        plans = [self.index.plan(timeline, lsn, bucket) for bucket in buckets or BUCKETS]
        facts = [fact for plan in plans for fact in self.read(plan).elements()]
        self.add(Merge(timeline, "image", buckets, 1, lsn, lsn, 1, self.runs(facts, buckets)))

    def runs(self, facts: list[Fact], buckets: tuple[int, ...] | None) -> tuple[RunRef, ...]:
        only = buckets[0] if buckets is not None and len(buckets) == 1 else None
        return (self.run(facts, only),) if facts else ()

    def read(self, plan: Plan) -> Counter[Fact]:
        """What a fold would take in, each fact as often as it comes."""
        found: Counter[Fact] = Counter()
        for base in plan.bases:
            found.update(f for f in self.held[base.run.object.name] if f[2] == plan.bucket and f[1] in base.relations)
        for change in plan.changes:
            for fact in self.held[change.run.object.name]:
                at = Cut(fact[3], fact[4])
                if (
                    fact[2] == plan.bucket
                    and fact[1] in change.relations
                    and change.from_lsn <= fact[4] < change.to_lsn
                    and at >= plan.base_of(fact[1])
                ):
                    found[fact] += 1
        for truncation in plan.truncations:
            for relation in truncation.relations:
                found["truncation", relation, plan.bucket, truncation.timeline, truncation.lsn] += 1
        return found

    def expected(self, timeline: int, lsn: int, bucket: int) -> Counter[Fact]:
        """Brute force: of each relation, the truth up to its newest image, and what was seen from there."""
        chain = {part.timeline: part.to_lsn for part in self.index.chain(Cut(timeline, lsn))}
        found: Counter[Fact] = Counter()
        for relation in RELATIONS:
            images = [
                Cut(image.timeline, image.lsn)
                for image in self.index.images
                if image.timeline in chain
                and image.lsn <= chain[image.timeline]
                and (image.relations is None or relation in image.relations)
            ]
            base = max(images)
            for fact in self.past(timeline, lsn):
                known = Cut(fact[3], fact[4]) < base or fact not in self.unseen
                if known and fact[1:3] == (relation, bucket):
                    found[fact] += 1
        return found


def tenant_of(bucket: int) -> str | None:
    return None if bucket == -1 else f"tenant {bucket}"


END = 24


@st.composite
def histories(draw: st.DrawFn) -> History:
    history = History()
    history.add(Genesis(1, "v", "", 2, "test"))
    forked = draw(st.booleans())
    for timeline in (1, 2) if forked else (1,):
        for _ in range(draw(st.integers(0, 20))):
            what = draw(st.sampled_from(["change"] * 4 + ["truncation"]))
            relation, lsn = draw(st.sampled_from(RELATIONS)), draw(st.integers(1, END - 1))
            buckets = BUCKETS if what == "truncation" else [draw(st.sampled_from(BUCKETS))]
            unseen = draw(st.integers(0, 5)) == 0
            for bucket in buckets:
                fact = (what, relation, bucket, timeline, lsn)
                if fact not in history.truth:
                    history.truth.append(fact)
                    if unseen:
                        history.unseen.add(fact)
        _record(draw, history, timeline, fork=draw(st.integers(4, END)) if timeline == 2 else None)
    return history


def _record(draw: st.DrawFn, history: History, timeline: int, fork: int | None) -> None:
    parent = None if fork is None else 1
    history.add(Timeline(timeline, "s", "d", 180000, "slot", "pub", 1, parent, fork))
    if parent is None or draw(st.booleans()):
        history.image(timeline, 1, None)
    bounds = sorted({1, END, *draw(st.lists(st.integers(2, END - 1), max_size=8))})
    for first, last in itertools.pairwise(bounds):
        history.segment(timeline, first, last, split=draw(st.booleans()))
        for _ in range(draw(st.integers(0, 3))):
            buckets = draw(st.sampled_from([None, (-1,), (0,), (1,), (0, 1)]))
            kind = draw(st.sampled_from(["image", "partial image", "merged image", "changes", "changes"]))
            at = draw(st.integers(1, last))
            if kind == "image":
                history.image(timeline, at, None)
            elif kind == "partial image":
                history.image(timeline, at, tuple(draw(st.sets(st.sampled_from(RELATIONS), min_size=1))))
            elif kind == "merged image":
                history.merge_image(timeline, buckets, at)
            else:
                history.merge_changes(timeline, buckets, *sorted((at, draw(st.integers(1, last)))))


@settings(max_examples=400, deadline=None)
@given(histories(), st.data())
def test_every_change_that_matters_is_read_exactly_once(history: History, data: st.DataObject) -> None:
    timeline = data.draw(st.sampled_from(sorted(history.index.timelines)))
    cut = data.draw(st.integers(1, END))
    for bucket in BUCKETS:
        plan = history.index.plan(timeline, cut, bucket)
        assert history.read(plan) == history.expected(timeline, cut, bucket)
        assert all(change.from_lsn < change.to_lsn <= END for change in plan.changes)
        assert all(may_hold_bucket(run, bucket) for run in plan.runs)
        positions = [(t.timeline, t.lsn, t.seq) for t in plan.truncations]
        assert positions == sorted(positions)
        assert history.read(plan.for_tenant(tenant_of(bucket))) == history.read(plan)


def simple(segments: int = 8) -> History:
    """A change in each bucket and relation at every LSN, a segment for each LSN from 1 on, an image at 1."""
    history = History([("change", r, b, 1, lsn) for lsn in range(1, segments + 1) for r in RELATIONS for b in BUCKETS])
    history.add(Genesis(1, "v", "", 2, "test"))
    history.add(Timeline(1, "s", "d", 180000, "slot", "pub", 1))
    history.image(1, 1, None)
    for lsn in range(1, segments + 1):
        history.segment(1, lsn, lsn + 1, split=False)
    return history


def stretches(plan: Plan) -> list[tuple[int, int]]:
    return [(change.from_lsn, change.to_lsn) for change in plan.changes]


def test_merges_replace_the_segments_that_they_cover() -> None:
    history = simple()
    assert len(history.index.plan(1, 9, 0).changes) == 8
    history.merge_changes(1, (0,), 1, 5)
    assert stretches(history.index.plan(1, 9, 0)) == [(1, 5), (5, 6), (6, 7), (7, 8), (8, 9)]
    assert len(history.index.plan(1, 9, 1).changes) == 8
    history.merge_changes(1, (0,), 5, 9)
    history.merge_changes(1, (0,), 1, 9)  # a level higher
    assert stretches(history.index.plan(1, 9, 0)) == [(1, 9)]
    assert stretches(history.index.plan(1, 7, 0)) == [(1, 7)]


def test_overlapping_merges_become_an_exact_tiling() -> None:
    history = simple()
    history.merge_changes(1, (0,), 1, 6)
    history.merge_changes(1, (0,), 3, 9)
    plan = history.index.plan(1, 9, 0)
    assert len(plan.changes) == 2
    assert plan.changes[0].to_lsn == plan.changes[1].from_lsn
    assert history.read(plan) == history.expected(1, 9, 0)


def test_a_merged_image_ends_the_need_for_what_was_before() -> None:
    history = simple()
    history.merge_image(1, (0,), 7)
    plan = history.index.plan(1, 9, 0)
    assert (plan.base, stretches(plan)) == (Cut(1, 7), [(7, 8), (8, 9)])
    assert history.index.plan(1, 6, 0).base == Cut(1, 1)
    assert history.index.plan(1, 9, 1).base == Cut(1, 1)


def test_a_table_imaged_again_has_its_own_base() -> None:
    history = simple()
    history.image(1, 5, (2,))
    plan = history.index.plan(1, 9, 0)
    assert plan.base == Cut(1, 1)
    assert plan.exceptions == {2: Cut(1, 5)}
    assert {change.relations for change in plan.changes if change.to_lsn <= 5} == {(1, 3)}
    assert [base.relations for base in plan.bases if base.lsn == 5] == [(2,)]


def test_a_merged_image_is_stale_for_what_was_imaged_later_at_an_earlier_position() -> None:
    history = simple()
    hidden = ("change", 2, 0, 1, 3)
    history.unseen.add(hidden)
    history.merge_image(1, (0,), 7)
    history.image(1, 5, (2,))  # closes the gap, and came to the ledger after the merge
    plan = history.index.plan(1, 9, 0)
    assert (plan.base, plan.exceptions) == (Cut(1, 7), {2: Cut(1, 5)})
    assert history.read(plan)[hidden] == 1


def test_a_hole_is_named_and_not_passed_over() -> None:
    history = simple(3)
    history.segment(1, 6, 9, split=False)
    with pytest.raises(GapError, match=r"1/0/4 to 1/0/6 are not in the vault"):
        history.index.plan(1, 9, 0)
    with pytest.raises(GapError, match=r"1/0/4 to the cut"):
        history.index.plan(1, 5, 0)
    assert len(history.index.plan(1, 4, 0).changes) == 3
    history.image(1, 6, None)
    assert history.index.plan(1, 9, 0).base == Cut(1, 6)


def test_what_is_not_recorded_is_refused() -> None:
    history = simple(3)
    with pytest.raises(GapError, match="past what is recorded: 1/0/4"):
        history.index.plan(1, 5, 0)
    with pytest.raises(ConfigError, match="no timeline 7"):
        history.index.plan(7, 2, 0)
    with pytest.raises(GapError, match="No image"):
        history.index.plan(1, 0, 0)


def test_many_segments_are_planned_in_one_go() -> None:
    history = simple(1)
    body = history.index.segments[0]
    for lsn in range(2, 20_000):
        history.add(msgspec.structs.replace(body, first_lsn=lsn, last_lsn=lsn + 1))
    # What is tried again for each segment would take minutes here, and meet the test's own limit.
    assert len(history.index.plan(1, 20_000, 0).changes) == 19_999


def test_a_gap_makes_moments_inexact_between_its_ends_only() -> None:
    history = simple()
    gap = Gap("g", 1, 3, None, (2,), "lost", "2026-01-01")
    history.add(gap)
    assert [bool(history.index.gap_at(Cut(1, lsn))) for lsn in range(1, 10)] == [False] * 3 + [True] * 6
    history.image(1, 6, (2,))
    history.add(msgspec.structs.replace(gap, to_lsn=6))
    assert [lsn for lsn in range(1, 10) if history.index.gap_at(Cut(1, lsn))] == [4, 5]
    assert history.index.gap_at(Cut(1, 5), relation=1) == ()
    assert len(history.index.gap_at(Cut(1, 5), relation=2)) == 1


def test_the_schema_in_force_is_that_of_the_commits_before_the_cut() -> None:
    history = simple()
    for version, (lsn, seq) in enumerate([(1, 0), (4, 2), (4, 5), (6, 0)], start=1):
        history.add(SchemaVersion(version, 1, lsn, seq, ObjectRef(f"s{version}", 1, ""), "test"))
    assert [history.index.schema_at(Cut(1, lsn)).version for lsn in (1, 4, 5, 6, 7)] == [1, 1, 3, 4, 4]
    with pytest.raises(GapError):
        history.index.schema_at(Cut(1, 0))


def ranged(low: str | None, high: str | None, bucket: int | None = None) -> RunRef:
    return RunRef(ObjectRef("r", 1, ""), 1, bucket, low, high, (1,))


@pytest.mark.parametrize(
    ("run", "tenant", "expected"),
    [
        (ranged("b", "d"), "c", True),
        (ranged("b", "d"), "b", True),
        (ranged("b", "d"), "d", True),
        (ranged("b", "d"), "da", False),
        (ranged("b", "d"), "a", False),
        (ranged("b", "d"), None, False),
        (ranged(None, "d"), "a", True),
        (ranged(None, "d"), None, True),
        (ranged(None, None), None, True),
        (ranged(None, None), "a", False),
        (ranged("z", "\U00010000"), "\uffff", True),  # bytes of UTF-8, not UTF-16 units
        (ranged("", "d"), "", True),
    ],
)
def test_a_run_is_skipped_by_its_range_of_tenants(run: RunRef, tenant: str | None, expected: bool) -> None:
    assert may_hold(run, tenant) is expected


def test_a_run_is_skipped_by_its_bucket() -> None:
    assert may_hold_bucket(ranged("b", "d"), 3)
    assert may_hold_bucket(ranged("b", "d", 3), 3)
    assert not may_hold_bucket(ranged("b", "d", 3), 4)
    assert not may_hold_bucket(ranged("b", "d"), -1)
    assert may_hold_bucket(ranged(None, "d"), -1)
    assert not may_hold_bucket(ranged(None, None), 3)
