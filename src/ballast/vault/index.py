"""What the ledger says, arranged for asking: a fold over its entries, without any I/O.

Applying the entries 1 … n in order gives the whole vault's table of contents; a reader that has it goes on
with the entries that are new.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

import msgspec

from ballast.errors import ConfigError, GapError, IntegrityError
from ballast.postgres.lsn import format_lsn
from ballast.vault.plan import Picture, Plan, Stretch, after, lowest_base, make_plan
from ballast.vault.records import (
    MANY,
    SHARED_BUCKET,
    Abandoned,
    Body,
    Cut,
    Entry,
    Gap,
    Genesis,
    Image,
    Mapping,
    Merge,
    Note,
    ObjectRef,
    SchemaDump,
    SchemaVersion,
    Segment,
    Timeline,
)

_ANY_OTHER = -2
_PLANS_KEPT = 2048


class VaultIndex:
    """All entries applied so far, by what they say. Read the attributes; change them by `apply` only."""

    def __init__(self) -> None:
        self.head = 0
        """Number of the last entry applied."""
        self._genesis: Genesis | None = None
        self.timelines: dict[int, Timeline] = {}
        self.begun_at: dict[int, str] = {}
        """Timeline to when its entry was written (ISO, UTC)."""
        self.schemas: dict[int, SchemaVersion] = {}
        self.dumps: list[SchemaDump] = []
        self.images: list[Image] = []
        self.segments: list[Segment] = []
        self.merges: list[Merge] = []
        self.gaps: dict[str, Gap] = {}
        """By gap_id, as last told: closed ones have a `to_lsn`."""
        self.mappings: dict[int, Mapping] = {}
        """Timeline to the mapping in force now."""
        self.abandoned: list[Abandoned] = []
        self.notes: list[Note] = []
        self.objects: dict[str, ObjectRef] = {}
        """Every object that some entry names, used or abandoned."""
        self._segments: defaultdict[int, list[Segment]] = defaultdict(list)
        self._schemas: defaultdict[int, list[SchemaVersion]] = defaultdict(list)
        self._pictures: defaultdict[int, list[Picture]] = defaultdict(list)
        # By timeline and bucket; None: of all buckets.
        self._merged_pictures: defaultdict[tuple[int, int | None], list[Picture]] = defaultdict(list)
        self._merged_changes: defaultdict[tuple[int, int], list[Merge]] = defaultdict(list)
        self._levels: defaultdict[int, dict[int, list[Merge]]] = defaultdict(dict)
        """Timeline and level to the merges of all buckets' changes, in order."""
        self._truncating: defaultdict[int, list[Segment]] = defaultdict(list)
        """Segments with truncations, in order."""
        self._apart: set[int] = set()
        """Buckets of which something is stored for itself; for all others a plan reads the same."""
        self._plans: dict[tuple[int, int, int, int], Plan] = {}

    @property
    def genesis(self) -> Genesis:
        """Entry 1. ConfigError for a store without a vault."""
        if self._genesis is None:
            raise ConfigError("There is no vault here yet.", "`ballast protect` begins one.")
        return self._genesis

    @property
    def mapping(self) -> Mapping | None:
        """The mapping in force on the newest timeline."""
        return next((self.mappings[t] for t in sorted(self.mappings, reverse=True)), None)

    @property
    def newest_timeline(self) -> int:
        """The timeline that is recorded now (the highest number). ConfigError where nothing is recorded yet."""
        if not self.timelines:
            raise ConfigError("Nothing is recorded in this vault yet.", "`ballast protect` begins it.")
        return max(self.timelines)

    def apply(self, entry: Entry) -> None:
        """Take in the next entry; IntegrityError if it is not the next."""
        if entry.number != self.head + 1:
            raise IntegrityError(f"Ledger entry {entry.number} does not come after entry {self.head}.", "")
        body = entry.body
        self._apart.update(_own_buckets(body))  # first: others read meanwhile
        match body:
            case Genesis():
                self._genesis = body
            case Timeline():
                self._begin(body, entry.written_at)
            case SchemaVersion():
                self.schemas[body.version] = body
                insort(self._schemas[body.timeline], body, key=lambda s: (s.lsn, s.seq, s.version))
            case SchemaDump():
                self.dumps.append(body)
            case Image():
                self.images.append(body)
                picture = Picture(Cut(body.timeline, body.lsn), entry.number, body)
                self._pictures[body.timeline].append(picture)
            case Segment():
                self.segments.append(body)
                insort(self._segments[body.timeline], body, key=lambda s: (s.first_lsn, s.last_lsn))
                if body.truncations:
                    insort(self._truncating[body.timeline], body, key=lambda s: (s.first_lsn, s.last_lsn))
            case Merge(kind="image"):
                self.merges.append(body)
                picture = Picture(Cut(body.timeline, body.last_lsn), entry.number, body)
                for bucket in (None,) if body.buckets is None else body.buckets:
                    self._merged_pictures[body.timeline, bucket].append(picture)
            case Merge():
                self.merges.append(body)
                if body.buckets is None:
                    level = self._levels[body.timeline].setdefault(body.level, [])
                    insort(level, body, key=lambda m: (m.first_lsn, m.last_lsn))
                else:
                    for bucket in body.buckets:
                        self._merged_changes[body.timeline, bucket].append(body)
            case Gap():
                self.gaps[body.gap_id] = body
            case Mapping():
                self.mappings[body.timeline] = body
            case Abandoned():
                self.abandoned.append(body)
            case Note():
                self.notes.append(body)
        for ref in objects_of(body):
            self.objects[ref.name] = ref
        self.head = entry.number

    def _begin(self, timeline: Timeline, written_at: str) -> None:
        if timeline.parent is not None and timeline.parent not in self.timelines:
            raise IntegrityError(f"Timeline {timeline.timeline} forks from {timeline.parent}, which is unknown.", "")
        if timeline.parent is not None and timeline.parent >= timeline.timeline:
            raise IntegrityError(f"Timeline {timeline.timeline} forks from {timeline.parent}, a later one.", "")
        self.timelines[timeline.timeline] = timeline
        self.begun_at.setdefault(timeline.timeline, written_at)

    def segments_of(self, timeline: int) -> Sequence[Segment]:
        """The segments of a timeline in order of position."""
        return self._segments.get(timeline, ())

    def recorded_until(self, timeline: int) -> int:
        """The last cut (LSN) that the vault can give on `timeline`: every commit before it is here."""
        reached = [self._timeline(timeline).start_lsn]
        reached += [segment.last_lsn for segment in self.segments_of(timeline)[-1:]]
        reached += [p.at.lsn for p in self._pictures.get(timeline, ()) if p.covers(None)]
        return max(reached)

    def recorded_from(self, timeline: int) -> int | None:
        """The first cut (LSN) that the vault can give on `timeline`; None while it has no image."""
        begun = self._timeline(timeline)
        if begun.parent is not None and self.recorded_from(begun.parent) is not None:
            return begun.start_lsn
        return min((p.at.lsn for p in self._pictures.get(timeline, ()) if p.covers(None)), default=None)

    def earliest(self, timeline: int) -> Cut | None:
        """The first cut of the history that leads to `timeline`; None while there is no image on it."""
        begin = self.recorded_from(timeline)
        if begin is None:
            return None
        chain = self.chain(Cut(timeline, begin))
        known = ((part.timeline, self.recorded_from(part.timeline)) for part in chain)
        return next((Cut(number, lsn) for number, lsn in known if lsn is not None), None)

    def chain(self, cut: Cut) -> list[Stretch]:
        """The stretches of timelines, root first, that make up the history before `cut`."""
        part = self._timeline(cut.timeline)
        chain = [Stretch(cut.timeline, min(part.start_lsn, cut.lsn), cut.lsn)]
        while part.parent is not None:
            fork = part.fork_lsn if part.fork_lsn is not None else self.recorded_until(part.parent)
            part = self._timeline(part.parent)
            chain.append(Stretch(part.timeline, min(part.start_lsn, fork), fork))
        return chain[::-1]

    def plan(self, timeline: int, lsn: int, bucket: int, *, without: Collection[int] = ()) -> Plan:
        """Which runs give `bucket` (or SHARED_BUCKET) at the cut `lsn`: see `ballast.vault.plan`.

        `without`: numbers of entries whose (merged) images are not to be used. GapError where the vault does not
        hold what that needs."""
        if without:
            return self._plan(timeline, lsn, bucket, without)
        like = bucket if bucket == SHARED_BUCKET or bucket in self._apart else _ANY_OTHER
        key = (self.head, timeline, lsn, like)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(timeline, lsn, bucket, ())
            if len(self._plans) > _PLANS_KEPT:
                self._plans.clear()
            if like != _ANY_OTHER or bucket not in self._apart:
                self._plans[key] = plan
        return plan if plan.bucket == bucket else msgspec.structs.replace(plan, bucket=bucket)

    def _plan(self, timeline: int, lsn: int, bucket: int, without: Collection[int]) -> Plan:
        if lsn > self.recorded_until(timeline):
            raise GapError(
                f"{timeline}/{format_lsn(lsn)} is past what is recorded:"
                f" {timeline}/{format_lsn(self.recorded_until(timeline))}.",
                "Choose an earlier moment, or wait until the recorder has sealed it.",
            )
        chain = self.chain(Cut(timeline, lsn))
        pictures = [p for p in self._pictures_of(chain, bucket) if p.number not in without]

        def pieces_of(part: Stretch) -> Iterator[Segment | Merge]:
            yield from self._merged_changes.get((part.timeline, bucket), ())
            yield from self.straddling(part)
            yield from self.pieces_within(part)

        return make_plan(chain, bucket, pictures, pieces_of, self._truncating_within)

    def unmerged(self, timeline: int, lsn: int) -> list[Stretch]:
        """The stretches, in order, whose changes some bucket's rows at the cut are made of; none without an image."""
        chain = self.chain(Cut(timeline, lsn))
        bases = [lowest_base(self._pictures_of(chain, bucket)) for bucket in range(SHARED_BUCKET, self.genesis.buckets)]
        known = [base for base in bases if base is not None]
        return list(after(chain, min(known))) if known else []

    def pieces_within(self, part: Stretch) -> list[Segment | Merge]:
        """The largest pieces of all buckets' changes that cover `part` (as far as anything does), in order.

        Of merges those that lie in it wholly; of segments also the ones at its edges."""
        levels = self._levels.get(part.timeline, {})
        segments = self.segments_of(part.timeline)
        found: list[Segment | Merge] = []
        at = part.from_lsn
        while at < part.to_lsn:
            begun = (_beginning(levels[level], at) for level in sorted(levels, reverse=True))
            largest = next((m for m in begun if m is not None and at < m.last_lsn <= part.to_lsn), None)
            piece = largest or _reaching_past(segments, at)
            if piece is None or piece.first_lsn >= part.to_lsn:
                break
            found.append(piece)
            at = piece.last_lsn
        return found

    def straddling(self, part: Stretch) -> list[Merge]:
        """The merges of all buckets' changes across the beginning or the end of `part`."""
        found: dict[int, Merge] = {}
        for level in self._levels.get(part.timeline, {}).values():
            for edge in (part.from_lsn, part.to_lsn):
                before = bisect_left(level, edge, key=lambda m: m.first_lsn) - 1
                if before >= 0 and level[before].last_lsn > edge:
                    found[id(level[before])] = level[before]
        return list(found.values())

    def _pictures_of(self, chain: Sequence[Stretch], bucket: int) -> list[Picture]:
        return [
            picture
            for part in chain
            for known in (
                self._pictures.get(part.timeline, ()),
                self._merged_pictures.get((part.timeline, bucket), ()),
                self._merged_pictures.get((part.timeline, None), ()),
            )
            for picture in known
            if picture.at.lsn <= part.to_lsn
        ]

    def schema_at(self, cut: Cut) -> SchemaVersion:
        """The schema version in force at `cut`. GapError before the first.

        A version at (lsn, seq) is in force where its commit is before the cut; at seq 0 it stands between commits and
        holds from the cut `lsn` itself."""
        for part in reversed(self.chain(cut)):
            versions = self._schemas.get(part.timeline, [])
            at = bisect_left(versions, (part.to_lsn, 1, 0), key=lambda s: (s.lsn, s.seq, s.version))
            if at:
                return versions[at - 1]
        raise GapError(
            f"No structure is recorded at or before {cut.timeline}/{format_lsn(cut.lsn)}.",
            "Choose a later moment.",
        )

    def dump_at(self, cut: Cut) -> SchemaDump | None:
        """The latest `pg_dump` of the schema version in force at `cut`, or the last one of an earlier version.

        Where that version was dumped again, since roles have changed: the last one before the cut, or else the first, except
        of a version that stands for many commands."""
        version = self.schema_at(cut).version
        ends = {part.timeline: part.to_lsn for part in self.chain(cut)}

        def leads_here(dump: SchemaDump) -> bool:
            # A dump is taken after its version began: it is of the history where the version is, not by its own position.
            of = self.schemas.get(dump.version)
            return of is not None and of.version <= version and of.lsn <= ends.get(of.timeline, -1)

        known = [d for d in self.dumps if d.timeline in ends and leads_here(d)]
        at_most = [d for d in known if d.lsn <= ends[d.timeline] or self.schemas[d.version].reason != MANY]
        known = at_most or known  # one of somewhere else is better than none
        newest = max((d.version for d in known), default=0)
        known = sorted((d for d in known if d.version == newest), key=lambda d: (d.timeline, d.lsn))
        return next((d for d in reversed(known) if d.lsn <= ends[d.timeline]), known[0] if known else None)

    def is_dumped(self, cut: Cut) -> bool:
        """Whether `dump_at` says what only dumps tell as of `cut`; else it may be what was before, or came soon after."""
        now, dump = self.schema_at(cut), self.dump_at(cut)
        return (
            dump is not None
            and dump.version == now.version
            and (now.reason != MANY or Cut(dump.timeline, dump.lsn) == cut)
        )

    def gap_at(self, cut: Cut, relation: int | None = None) -> tuple[Gap, ...]:
        """The gaps that make `cut` inexact for `relation` (None: for any). At a gap's two ends all is exact."""
        chain = self.chain(cut)
        ends = {part.timeline: part.to_lsn for part in chain}
        return tuple(
            gap
            for gap in self.gaps.values()
            if gap.timeline in ends
            and gap.from_lsn < ends[gap.timeline]
            and (gap.to_lsn is None or ends[gap.timeline] < gap.to_lsn)
            and (relation is None or gap.relations is None or relation in gap.relations)
            and not self._imaged_after(gap, chain, relation)
        )

    def _imaged_after(self, gap: Gap, chain: Sequence[Stretch], relation: int | None) -> bool:
        """Whether later timelines of the chain have images of what the gap is about (or of `relation` alone), so that this
        gap of an ancestor does not matter."""
        later = [
            picture
            for part in chain
            if part.timeline > gap.timeline
            for picture in self._pictures.get(part.timeline, ())
            if picture.at.lsn <= part.to_lsn
        ]
        wanted = gap.relations if relation is None else (relation,)
        if wanted is None:
            return any(picture.covers(None) for picture in later)
        return all(any(picture.covers(number) for picture in later) for number in wanted)

    def _truncating_within(self, part: Stretch) -> Sequence[Segment]:
        segments = self._truncating.get(part.timeline, ())
        # The planner takes of them what is in the stretch: begin one before, which may reach into it.
        begin = max(0, bisect_right(segments, part.from_lsn, key=lambda s: s.first_lsn) - 1)
        return segments[begin : bisect_left(segments, part.to_lsn, key=lambda s: s.first_lsn)]

    def _timeline(self, timeline: int) -> Timeline:
        if timeline not in self.timelines:
            known = ", ".join(map(str, sorted(self.timelines))) or "none"
            raise ConfigError(f"There is no timeline {timeline} in this vault.", f"Known: {known}.")
        return self.timelines[timeline]


def _own_buckets(body: Body) -> Iterator[int]:
    """Buckets that an entry has something for alone."""
    match body:
        case Merge():
            yield from body.buckets or ()
            yield from (run.bucket for run in body.runs if run.bucket is not None)
        case Image() | Segment():
            yield from (run.bucket for run in body.runs if run.bucket is not None)


def _beginning(merges: Sequence[Merge], lsn: int) -> Merge | None:
    """The longest that begins there."""
    at = bisect_right(merges, lsn, key=lambda m: m.first_lsn) - 1
    return merges[at] if at >= 0 and merges[at].first_lsn == lsn else None


def _reaching_past(segments: Sequence[Segment], lsn: int) -> Segment | None:
    """The segment that `lsn` lies in, or the next one."""
    at = bisect_right(segments, lsn, key=lambda s: s.first_lsn)
    if at and segments[at - 1].last_lsn > lsn:
        return segments[at - 1]
    return segments[at] if at < len(segments) else None


def objects_of(body: Body) -> tuple[ObjectRef, ...]:
    """Every object that an entry names."""
    match body:
        case SchemaVersion():
            return (body.relations,)
        case SchemaDump():
            return (body.pre_data, body.post_data, body.roles)
        case Image() | Merge():
            return tuple(run.object for run in body.runs)
        case Segment():
            runs = tuple(run.object for run in body.runs)
            return runs if body.transactions is None else (*runs, body.transactions)
        case Abandoned():
            return body.objects
        case Mapping():
            return (body.fingerprint,)
        case _:
            return ()
