"""Which runs give one bucket's rows at a cut, at the least cost: the heart of what a restore reads.

Bases and changes. For each relation the plan starts from one **base**: the newest image, or merged image, at or
before the cut that knows the relation. Nearly all relations share it; a table that was imaged by itself has its
own. From the base on, the changes are **tiled**: pieces (segments, and merges of changes) are chosen so that every
LSN of the stretch belongs to exactly one of them. A piece may be used in part, since every row says its LSN.

A merged image speaks for what the vault held when it was written. An image that came into the ledger
later, with an earlier position (a table imaged again to close a gap), is not in it: for the relations of
that image the merged image is stale and is passed over.

Timelines. A timeline without an image of its own goes on from its parent at the fork; positions then compare as
(timeline, lsn), for which timelines are numbered upwards from parent to child.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from ballast.errors import GapError
from ballast.postgres.lsn import format_lsn
from ballast.vault.records import SHARED_BUCKET, Cut, Image, Merge, RunRef, Segment

_ROWS_WORTH_A_RUN = 100_000
"""Reading this many rows more is as dear as opening one more run."""


class Stretch(msgspec.Struct, frozen=True):
    """Part of one timeline: from_lsn <= commit LSN < to_lsn."""

    timeline: int
    from_lsn: int
    to_lsn: int


class Base(msgspec.Struct, frozen=True):
    """Read `relations` of this run: whole rows as of `lsn` on `timeline`."""

    run: RunRef
    timeline: int
    lsn: int
    relations: tuple[int, ...]


class ChangeRun(msgspec.Struct, frozen=True):
    """Read of this run the rows of `relations` with from_lsn <= lsn < to_lsn; then ask `Plan.base_of`."""

    run: RunRef
    timeline: int
    from_lsn: int
    to_lsn: int
    relations: tuple[int, ...]


class PlannedTruncation(msgspec.Struct, frozen=True):
    """A TRUNCATE that comes after the base of these relations."""

    timeline: int
    lsn: int
    seq: int
    relations: tuple[int, ...]


class Plan(msgspec.Struct, frozen=True):
    """What to read for `bucket` at `cut`. Changes and truncations are in order of position."""

    cut: Cut
    bucket: int
    base: Cut
    """From here on changes count, unless `exceptions` has the relation."""
    exceptions: dict[int, Cut]
    """Relation to where its changes begin to count: after its own image."""
    bases: tuple[Base, ...]
    changes: tuple[ChangeRun, ...]
    truncations: tuple[PlannedTruncation, ...]

    def base_of(self, relation: int) -> Cut:
        """Changes of `relation` count when (timeline, lsn) >= this; earlier ones are in its base already."""
        return self.exceptions.get(relation, self.base)

    def for_tenant(self, tenant: str | None) -> Plan:
        """The same without the runs that cannot hold rows of `tenant` (None: shared rows)."""
        return msgspec.structs.replace(
            self,
            bases=tuple(base for base in self.bases if may_hold(base.run, tenant)),
            changes=tuple(change for change in self.changes if may_hold(change.run, tenant)),
        )

    def for_tenants(self, tenants: Collection[str]) -> Plan:
        """The same without the runs that can hold rows of none of `tenants`."""
        return msgspec.structs.replace(
            self,
            bases=tuple(base for base in self.bases if any(may_hold(base.run, t) for t in tenants)),
            changes=tuple(change for change in self.changes if any(may_hold(change.run, t) for t in tenants)),
        )

    @property
    def runs(self) -> tuple[RunRef, ...]:
        """Every run of the plan, bases first."""
        return (*(base.run for base in self.bases), *(change.run for change in self.changes))


class Picture(msgspec.Struct, frozen=True):
    """An image, or a merged image, as a possible base; `number` is its ledger entry."""

    at: Cut
    number: int
    source: Image | Merge

    def covers(self, relation: int | None) -> bool:
        """Whether it holds every row of `relation` (None: of every relation) as of `at`."""
        relations = self.source.relations if isinstance(self.source, Image) else None
        return relations is None or relation in relations


def may_hold(run: RunRef, tenant: str | None) -> bool:
    """Whether rows of `tenant` can be in `run`, by its range: bytes of UTF-8, null (shared) first."""
    if run.rows == 0:
        return False
    if tenant is None:
        return run.min_tenant is None
    if run.max_tenant is None:
        return False
    wanted = tenant.encode()
    return (run.min_tenant is None or run.min_tenant.encode() <= wanted) and wanted <= run.max_tenant.encode()


def may_hold_bucket(run: RunRef, bucket: int) -> bool:
    """Whether rows of `bucket` can be in `run`."""
    if run.rows == 0 or run.bucket not in (None, bucket):
        return False
    if run.bucket is None:
        return run.min_tenant is None if bucket == SHARED_BUCKET else run.max_tenant is not None
    return True


def make_plan(
    chain: Sequence[Stretch],
    bucket: int,
    pictures: Iterable[Picture],
    pieces_of: Callable[[Stretch], Iterable[Segment | Merge]],
    segments_of: Callable[[Stretch], Iterable[Segment]],
) -> Plan:
    """The plan for `bucket` at the end of `chain` (root timeline first, the last stretch ends at the cut).

    `pictures`: those of this chain and bucket, at or before the cut. `pieces_of(stretch)`: the segments
    and the merged changes of this bucket that lie in it, maybe more. GapError where no base is known or the changes
    have a hole."""
    cut = Cut(chain[-1].timeline, chain[-1].to_lsn)
    known = sorted(pictures, key=lambda p: (p.at, p.number))
    default = _newest(known, None)
    if default is None:
        raise GapError(
            f"No image of the database at or before {_show(cut)} is in the vault.",
            "Choose a later moment; `ballast status` names the earliest.",
        )
    chosen = _exceptions(known, default)
    exceptions = {relation: picture.at for relation, picture in chosen.items()}
    bases = [*_bases(default, bucket, lambda r: r not in chosen)]
    for picture in dict.fromkeys(chosen.values()):
        bases += _bases(picture, bucket, lambda r, p=picture: chosen.get(r) is p)  # type: ignore[misc]
    lowest = min([default.at, *exceptions.values()])

    def counts(relation: int, timeline: int, until_lsn: int) -> bool:
        base = exceptions.get(relation, default.at)
        return (base.timeline, base.lsn) < (timeline, until_lsn)

    changes: list[ChangeRun] = []
    truncations: list[PlannedTruncation] = []
    for part in after(chain, lowest):
        for piece, from_lsn, to_lsn in tile(part, pieces_of(part), bucket):
            for run in piece.runs:
                relations = tuple(r for r in run.relations if counts(r, part.timeline, to_lsn))
                if relations and may_hold_bucket(run, bucket):
                    changes.append(ChangeRun(run, part.timeline, from_lsn, to_lsn, relations))
        for segment in segments_of(part):
            for truncation in segment.truncations:
                if part.from_lsn <= truncation.lsn < part.to_lsn:
                    # one LSN past it: the base must lie at or before the truncation itself
                    relations = tuple(r for r in truncation.relations if counts(r, part.timeline, truncation.lsn + 1))
                    if relations:
                        truncations.append(PlannedTruncation(part.timeline, truncation.lsn, truncation.seq, relations))
    truncations.sort(key=lambda t: (t.timeline, t.lsn, t.seq))
    return Plan(cut, bucket, default.at, exceptions, tuple(bases), tuple(changes), tuple(truncations))


def tile(part: Stretch, pieces: Iterable[Segment | Merge], bucket: int) -> list[tuple[Segment | Merge, int, int]]:
    """Pieces, each with the stretch to use of it, that cover `part` exactly, at the least cost; in order.

    Overlapping pieces say the same, so that any exact cover is right. GapError where there is none."""
    if part.from_lsn >= part.to_lsn:
        return []
    clipped = sorted(
        (min(piece.last_lsn, part.to_lsn), max(piece.first_lsn, part.from_lsn), number, piece)
        for number, piece in enumerate(pieces)
        if piece.first_lsn < part.to_lsn and piece.last_lsn > part.from_lsn and piece.first_lsn < piece.last_lsn
    )
    # Cheapest cover of [from_lsn, end) for growing ends. `ends` and `costs` both grow: an end that is beaten by a
    # farther and cheaper one is dropped, so the first end at or past a piece's beginning is the best to go on from.
    ends, costs = [part.from_lsn], [0]
    come_by: dict[int, tuple[int, Segment | Merge]] = {}
    for end, start, _, piece in clipped:
        at = bisect_left(ends, start)
        if at == len(ends) or ends[at] >= end:
            continue
        before, cost = ends[at], costs[at] + _cost(piece, bucket)
        if ends[-1] == end and costs[-1] <= cost:
            continue
        come_by[end] = (before, piece)
        while ends and costs[-1] >= cost:
            ends.pop()
            costs.pop()
        ends.append(end)
        costs.append(cost)
    if ends[-1] != part.to_lsn:
        raise _hole(part, clipped)
    cover = []
    end = part.to_lsn
    while end > part.from_lsn:
        before, piece = come_by[end]
        cover.append((piece, before, end))
        end = before
    return cover[::-1]


def _newest(known: Sequence[Picture], relation: int | None) -> Picture | None:
    """The best base for `relation` (None: for all that have no image of their own)."""
    images = [p for p in known if isinstance(p.source, Image) and p.covers(relation)]
    for picture in reversed(known):
        if not picture.covers(relation):
            continue
        # Images at later positions were taken before we came to this one, so these are at earlier ones.
        stale = isinstance(picture.source, Merge) and any(image.number > picture.number for image in images)
        if not stale:
            return picture
    return None


def _exceptions(known: Sequence[Picture], default: Picture) -> dict[int, Picture]:
    """Relations with another base than `default`: only those that some image names can have one."""
    named = {
        relation
        for picture in known
        if isinstance(picture.source, Image) and picture.source.relations is not None
        for relation in picture.source.relations
    }
    found = {relation: _newest(known, relation) for relation in sorted(named)}
    return {relation: picture for relation, picture in found.items() if picture is not None and picture is not default}


def _bases(picture: Picture, bucket: int, wanted: Callable[[int], bool]) -> Iterable[Base]:
    for run in picture.source.runs:
        relations = tuple(r for r in run.relations if wanted(r))
        if relations and may_hold_bucket(run, bucket):
            yield Base(run, picture.at.timeline, picture.at.lsn, relations)


def lowest_base(pictures: Iterable[Picture]) -> Cut | None:
    """Where the changes that a plan over these pictures reads begin; None where no picture can be the base of all."""
    known = sorted(pictures, key=lambda p: (p.at, p.number))
    default = _newest(known, None)
    if default is None:
        return None
    return min([default.at, *(picture.at for picture in _exceptions(known, default).values())])


def after(chain: Sequence[Stretch], base: Cut) -> Iterable[Stretch]:
    """What of the chain comes after `base`."""
    for part in chain:
        if part.timeline == base.timeline:
            yield Stretch(part.timeline, base.lsn, part.to_lsn)
        elif part.timeline > base.timeline:
            yield part


def _cost(piece: Segment | Merge, bucket: int) -> int:
    """In thousandths of opening a run; at least 1, so that of two covers the one with fewer pieces wins."""
    return 1 + sum(1000 + run.rows * 1000 // _ROWS_WORTH_A_RUN for run in piece.runs if may_hold_bucket(run, bucket))


def _hole(part: Stretch, clipped: Sequence[tuple[int, int, int, Segment | Merge]]) -> GapError:
    reached = part.from_lsn
    for start, end in sorted((start, end) for end, start, _, _ in clipped):
        if start > reached:
            break
        reached = max(reached, end)
    resumes = min((start for _, start, _, _ in clipped if start > reached), default=None)
    until = "the cut" if resumes is None else _show(Cut(part.timeline, resumes))
    return GapError(
        f"The changes from {_show(Cut(part.timeline, reached))} to {until} are not in the vault.",
        f"Choose a moment up to {_show(Cut(part.timeline, reached))}, or one after the next image.",
    )


def _show(cut: Cut) -> str:
    return f"{cut.timeline}/{format_lsn(cut.lsn)}"
