"""The merges' part of `verify`: a merge holds what it rearranges, no more and no less.

Merged changes are the very rows of their segments: number and checksum for each relation, added up while the objects
are looked at, must be equal. Merged images are what a fold of everything before them gives, which is computed again
without them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from ballast.errors import BallastError
from ballast.vault.audit_ledger import fold, harm_of
from ballast.vault.fault import Fault, Kind, fault
from ballast.vault.index import VaultIndex
from ballast.vault.ledger import Ledger, entry_name
from ballast.vault.plan import Plan, may_hold_bucket
from ballast.vault.read import Scope, warm
from ballast.vault.records import SHARED_BUCKET, Cut, Entry, Merge, RunRef, Segment
from ballast.vault.store import Store
from ballast.vault.sums import MASK, Sums
from ballast.vault.vault import Vault


class MergeAudit:
    """Collects what merges hold and what they should."""

    def __init__(self, index: VaultIndex, entries: Sequence[Entry]) -> None:
        self._index = index
        self._merges = [e for e in entries if isinstance(e.body, Merge) and e.body.kind == "changes"]
        self._covering: defaultdict[int, list[Entry]] = defaultdict(list)
        for entry in self._merges:
            self._covering[entry.body.timeline].append(entry)  # type: ignore[union-attr]
        self._held: defaultdict[int, Sums] = defaultdict(Sums)
        self._due: defaultdict[int, Sums] = defaultdict(Sums)
        self.compared = 0

    def take(self, entry: Entry, run: RunRef, sums: Sums) -> None:
        """Take in a sound run of a segment or a merge of changes."""
        del run
        body = entry.body
        if isinstance(body, Merge):
            self._held[entry.number].add(sums)
        elif isinstance(body, Segment):
            for merge in self._covering[body.timeline]:
                stretch = merge.body
                assert isinstance(stretch, Merge)
                if stretch.first_lsn <= body.first_lsn and body.last_lsn <= stretch.last_lsn:
                    for bucket in (None,) if stretch.buckets is None else stretch.buckets:
                        self._due[merge.number].add(sums, bucket)

    def faults(self, sound: set[str], *, deep: bool) -> list[Fault]:
        """Merges that differ. Those that are damaged themselves, or whose segments are, are named elsewhere."""
        found = []
        for entry in self._merges:
            body = entry.body
            assert isinstance(body, Merge)
            segments = self._sources(body)
            if segments is None:
                continue
            runs = [*body.runs, *(run for segment in segments for run in segment.runs)]
            if not all(run.object.name in sound for run in runs):
                continue
            self.compared += 1
            held, due = self._held[entry.number], self._due[entry.number]
            for bucket, relation in sorted({*held, *due}):
                mine, theirs = held[bucket, relation], due[bucket, relation]
                if mine[0] != theirs[0] or (deep and mine[1] != theirs[1]):
                    why = _difference(relation, mine[0], theirs[0], "its segments")
                    found.append(fault(Kind.MERGE, entry_name(entry.number), why, harm_of(body)))
        return found

    def _sources(self, merge: Merge) -> list[Segment] | None:
        """The segments that tile the merge's stretch; None where none do (that is a fault of its own)."""
        segments = [
            segment
            for segment in self._index.segments_of(merge.timeline)
            if segment.first_lsn >= merge.first_lsn and segment.last_lsn <= merge.last_lsn
        ]
        ends = [merge.first_lsn, *(segment.last_lsn for segment in segments)]
        starts = [*(segment.first_lsn for segment in segments), merge.last_lsn]
        return segments if starts == ends else None


class Whole(NamedTuple):
    """Rows of one relation: how many, and the sum of their checksums."""

    rows: int
    checksum: int


_NONE = Whole(0, 0)


def image_faults(store: Store, entries: Sequence[Entry], sound: set[str]) -> tuple[int, list[Fault]]:
    """How many merged images were compared, and those that are not what comes of the history before them.

    Left out are those that rest on damaged objects, and those that an image which came later has made stale. One that
    differs is not used to judge the next."""
    vault = Vault(store, Ledger(store))
    vault.index, _ = fold(entries)
    needed = {version.relations.name for version in vault.index.schemas.values()}
    compared = 0
    found: list[Fault] = []
    wrong: set[int] = set()
    images = [e for e in entries if isinstance(e.body, Merge) and e.body.kind == "image"]
    numbers = {e.number: (e.body.timeline, e.body.last_lsn) for e in images}  # type: ignore[union-attr]
    for entry in sorted(images, key=lambda e: (e.body.last_lsn, e.number)):  # type: ignore[union-attr]
        merge = entry.body
        assert isinstance(merge, Merge)
        name = entry_name(entry.number)
        others = wrong | {n for n, at in numbers.items() if at == numbers[entry.number] and n != entry.number}
        judged = False
        every = range(SHARED_BUCKET, vault.index.genesis.buckets)
        for bucket in every if merge.buckets is None else merge.buckets:
            plans = _two_ways(vault.index, entry.number, merge, bucket, others)
            if plans is None or not sound.issuperset({*needed, *(r.object.name for plan in plans for r in plan.runs)}):
                continue
            judged = True
            reasons = _differences(vault, *plans)
            if reasons:
                wrong.add(entry.number)
                harm = msgspec.structs.replace(harm_of(merge), bucket=bucket)
                found += [fault(Kind.MERGE, name, why, harm) for why in reasons]
        compared += judged
    return compared, found


def _two_ways(
    index: VaultIndex, number: int, merge: Merge, bucket: int, others: Collection[int]
) -> tuple[Plan, Plan] | None:
    """The plans for a bucket at the merged image, from it and without it; None where it is not what is read there."""
    try:
        mine = index.plan(merge.timeline, merge.last_lsn, bucket, without=others)
        its_runs = {run for run in merge.runs if may_hold_bucket(run, bucket)}
        if (
            mine.base != Cut(merge.timeline, merge.last_lsn)
            or mine.exceptions
            or {b.run for b in mine.bases} != its_runs
        ):
            return None
        return mine, index.plan(merge.timeline, merge.last_lsn, bucket, without={*others, number})
    except BallastError:
        return None


def _differences(vault: Vault, mine: Plan, before: Plan) -> list[str]:
    try:
        held, due = _wholes(vault, mine), _wholes(vault, before)
    except BallastError as error:
        return [f"cannot be compared: {error.what}"]
    return [
        _difference(relation, here.rows, there.rows, "the history before it")
        for relation in sorted(held.keys() | due.keys())
        if (here := held.get(relation, _NONE)) != (there := due.get(relation, _NONE))
    ]


def _wholes(vault: Vault, plan: Plan) -> dict[int, Whole]:
    scope = Scope(vault, plan, warm(vault).bucket_slices(plan.bucket))
    found: dict[int, Whole] = {}
    for chunk in scope.chunks(None):
        rows, checksum = found.get(chunk.relation.number, _NONE)
        found[chunk.relation.number] = Whole(rows + chunk.rows, (checksum + chunk.checksum) & MASK)
    return found


def _difference(relation: int, held: int, due: int, source: str) -> str:
    if held == due:
        return f"of relation {relation} the merge holds as many rows as {source} ({held}), but not the same."
    return f"of relation {relation} the merge holds {held} rows, and {source} {due}."
