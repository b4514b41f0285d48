"""How many rows tenants have, by relation: worked out from kinds of changes alone, without putting any row together.

Once counted, the newest moment is followed segment by segment, so that it is known without reading anything when it matters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from ballast.vault import Vault, read_rows
from ballast.vault.plan import Plan
from ballast.vault.read import warm
from ballast.vault.records import SHARED_BUCKET, Cut, Segment, Shared
from ballast.vault.tables import MERGE_SCHEMA


class Counts:
    """Of one open vault. Of one thread at a time."""

    def __init__(self, vault: Vault, is_wanted: Callable[[], bool] = lambda: False) -> None:
        """`is_wanted`: somebody waits for who counts all rows ahead; then that is left off."""
        self._vault, self._is_wanted = vault, is_wanted
        self._newest: tuple[Cut, Counter[int]] | None = None
        self._gaps: frozenset[object] = frozenset()
        self._at: dict[Cut, Counter[int]] = {}

    @property
    def newest(self) -> Cut | None:
        """The moment that `follow` has come to; None: it was not called, or there is nothing to count."""
        return self._newest[0] if self._newest is not None else None

    def of_tenants(self, cut: Cut) -> set[int]:
        """The relations that hold rows of tenants, but for what a merge notes of them."""
        relations = self._vault.relations_at(cut).values()
        return {r.number for r in relations if not isinstance(r.tenant, Shared) and r.root_schema != MERGE_SCHEMA}

    def follow(self, marks: Collection[Cut], *, anew: bool) -> None:
        """Count on up to the newest moment. `marks`: earlier ones for which it is remembered as well, if they were not passed
        before; others are forgotten. `anew`: all rows may be counted, where it cannot be counted on."""
        index = self._vault.index
        until = Cut(index.newest_timeline, index.recorded_until(index.newest_timeline))
        gaps = frozenset((gap.gap_id, gap.to_lsn) for gap in index.gaps.values())
        self._at = {cut: counts for cut, counts in self._at.items() if cut in marks}
        if self._newest is None or self._newest[0].timeline != until.timeline or self._gaps != gaps:
            is_possible = anew and index.recorded_from(until.timeline) is not None
            self._newest, self._gaps = None, gaps
            if is_possible:
                with suppress(_LeftOff):
                    self._newest = until, self.count(until, ahead=True)
            return
        since, counts = self._newest
        if since == until:
            return
        for segment in index.segments_of(until.timeline):
            if segment.last_lsn > since.lsn:
                within = [m for m in marks if m.timeline == until.timeline and since.lsn <= m.lsn and m not in self._at]
                counts = self._followed(segment, since.lsn, counts, within)
        self._newest = (until, counts)

    def at(self, cut: Cut) -> Counter[int]:
        """At this cut, of the relations that hold rows of tenants there."""
        wanted = self.of_tenants(cut)
        known = self._newest[1] if self._newest is not None and self._newest[0] == cut else self._at.get(cut)
        if known is None:
            return self.count(cut)
        return Counter({number: known[number] for number in known.keys() & wanted})

    def count(self, cut: Cut, *, ahead: bool = False) -> Counter[int]:
        """The same, where nothing is known yet: what was added less what was deleted. `ahead`: left off where somebody waits."""
        wanted, vault = self.of_tenants(cut), self._vault
        buckets = vault.index.genesis.buckets
        plans: dict[tuple[object, ...], tuple[Plan, list[int]]] = {}
        for bucket in range(SHARED_BUCKET + 1, buckets):
            plan = vault.plan(cut, bucket)
            if plan.truncations:
                return self.exactly(cut, wanted, ahead=ahead)
            plans.setdefault(_sources(plan), (plan, []))[1].append(bucket)
        counts: Counter[int] = Counter()
        for plan, whose in plans.values():
            some = None if len(plans) == 1 else whose
            for base in plan.bases:
                run = warm(vault).open(base.run)
                of_base = wanted & {*base.relations}
                for rows in run.slices(None, of_base, buckets=some, bucket_count=buckets, columns=("lsn",)):
                    self._look_up(ahead)
                    counts.update(_tally(_of_somebody(rows)["relation"]))
            for change in plan.changes:
                run = warm(vault).open(change.run)
                for rows in run.slices(
                    None, wanted & {*change.relations}, buckets=some, bucket_count=buckets, columns=("lsn", "op")
                ):
                    self._look_up(ahead)
                    for relation, lsn, by in grown(_of_somebody(rows)):
                        starts = plan.base_of(relation)
                        counted = (change.timeline, lsn) >= (starts.timeline, starts.lsn)
                        if counted and change.from_lsn <= lsn < change.to_lsn:
                            counts[relation] += by
        return counts

    def exactly(self, cut: Cut, wanted: set[int], *, ahead: bool = False) -> Counter[int]:
        """The same by reading every row."""
        counts: Counter[int] = Counter()
        for bucket in range(SHARED_BUCKET + 1, self._vault.index.genesis.buckets):
            for chunk in read_rows(self._vault, cut, relations=wanted, bucket=bucket):
                self._look_up(ahead)
                counts[chunk.relation.number] += chunk.rows
        return counts

    def _look_up(self, ahead: bool) -> None:
        if ahead and self._is_wanted():
            raise _LeftOff

    def _followed(self, segment: Segment, since: int, counts: Counter[int], marks: Collection[Cut]) -> Counter[int]:
        """After the segment, of which what lies before `since` is counted; remembers how it was at `marks`."""
        emptied: dict[int, tuple[int, int]] = {}
        for one in segment.truncations:
            for relation in one.relations:
                emptied[relation] = max(emptied.get(relation, (0, 0)), (one.lsn, one.seq))
        steps: Counter[tuple[int, int]] = Counter()
        for relation, lsn, by in self._steps(segment, emptied):
            if lsn >= since:
                steps[lsn, relation] += by
        for mark in marks:
            if mark.lsn <= segment.last_lsn and not emptied:  # else it is counted when it is wanted
                then = counts.copy()
                for (lsn, relation), by in steps.items():
                    then[relation] += by if lsn < mark.lsn else 0
                self._at[mark] = then
        after = Counter({relation: rows for relation, rows in counts.items() if relation not in emptied})
        for (_, relation), by in steps.items():
            after[relation] += by
        return after

    def _steps(self, segment: Segment, emptied: dict[int, tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
        """As `grown`; of the relations that were `emptied` in it, what came after the last time."""
        for run in (warm(self._vault).open(run) for run in segment.runs):
            if not emptied:
                for rows in run.slices(columns=("lsn", "op")):
                    yield from grown(_of_somebody(rows))
                continue
            for rows in map(_of_somebody, run.slices(columns=("lsn", "op", "seq"))):
                places = zip(
                    rows["relation"].to_pylist(), rows["lsn"].to_pylist(), rows["seq"].to_pylist(), strict=True
                )
                counts = [(lsn, seq) > emptied.get(relation, (0, 0)) for relation, lsn, seq in places]
                yield from grown(rows.filter(pa.array(counts, pa.bool_())))


class _LeftOff(Exception):
    """Somebody waits."""


def _of_somebody(rows: pa.Table) -> pa.Table:
    """Without those of no tenant, which stand beside the others where the column that says whose they are is null."""
    return rows.filter(pc.is_valid(rows["tenant"])) if rows["tenant"].null_count else rows


def grown(rows: pa.Table) -> list[tuple[int, int, int]]:
    """Of changes: (relation, position of the commit, rows added less rows deleted)."""
    table = pa.table({"relation": rows["relation"], "lsn": rows["lsn"], "op": rows["op"].cast("string")})
    found = table.group_by(["relation", "lsn", "op"]).aggregate([([], "count_all")]).to_pylist()
    signs = {"I": 1, "D": -1}
    return [(one["relation"], one["lsn"], signs.get(one["op"], 0) * one["count_all"]) for one in found]


def _sources(plan: Plan) -> tuple[object, ...]:
    """Buckets of which this is the same are read together."""
    return (
        plan.base,
        tuple(sorted(plan.exceptions.items())),
        tuple((base.run.object.name, base.relations) for base in plan.bases),
        tuple((one.run.object.name, one.from_lsn, one.to_lsn, one.relations) for one in plan.changes),
    )


def _tally(relations: pa.ChunkedArray) -> dict[int, int]:
    return {one["values"]: one["counts"] for one in pc.value_counts(relations).to_pylist()}
