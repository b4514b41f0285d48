"""The ledger's part of `verify`: numbers, signatures and chain, and whether the stretches fit together.

`Ledger.read` stops at the first thing that is wrong. Here every entry is judged by itself, so that one that was
edited is named and its neighbours are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from ballast.errors import BallastError, IntegrityError, NotFound
from ballast.vault import signing
from ballast.vault.fault import Fault, Harm, Kind, fault
from ballast.vault.index import VaultIndex
from ballast.vault.ledger import PREFIX, Head, decode, encode, entry_name, read_head, sha256, signed_part
from ballast.vault.records import (
    Body,
    Cut,
    Entry,
    Gap,
    Genesis,
    Image,
    Mapping,
    Merge,
    SchemaDump,
    SchemaVersion,
    Segment,
    Timeline,
)
from ballast.vault.store import Store

_NAME = re.compile(r"ledger/(\d{12})\.json")
_CONCURRENT_GETS = 16
_NEAR = 1000
"""A number further than this from the one before it belongs to the ledger only if its entry is signed."""


class Walked(msgspec.Struct, frozen=True):
    """The ledger as found."""

    entries: tuple[Entry, ...]
    """Those that are genuine, in order."""
    doubtful: tuple[Entry, ...]
    """Those that can be read but are not genuine: good for explaining what they name, for nothing else."""
    faults: tuple[Fault, ...]
    strays: tuple[str, ...]
    """Names under ledger/ that are no entry's."""
    public: str
    """The key that the ledger was held against; "" if none could be trusted."""
    last: int
    """The highest number there is, or must be."""

    @property
    def whole(self) -> bool:
        """Whether every entry is there and genuine."""
        return len(self.entries) == self.last


class _Found(msgspec.Struct, frozen=True):
    number: int
    data: bytes
    entry: Entry | None
    why: str
    """Why there is no entry."""


def walk(store: Store, state_dir: Path | str | None) -> Walked:
    """Read and judge every entry. With `state_dir`, its head is the anchor. StoreError where the store is silent."""
    anchor = read_head(state_dir) if state_dir is not None else None
    names = [name for name, _ in store.list(PREFIX)]
    numbers = sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))
    strays = tuple(name for name in names if not _NAME.fullmatch(name) or name == entry_name(0))
    numbers = [number for number in numbers if number]
    with ThreadPoolExecutor(_CONCURRENT_GETS) as pool:
        found = {f.number: f for f in pool.map(lambda n: _look(store, n), numbers) if f is not None}
    public = _key(found, anchor)
    last = max(_reach(found, public), anchor.number if anchor else 0)
    strays += tuple(entry_name(number) for number in found if number > last)
    found = {number: here for number, here in found.items() if number <= last}
    judge = _Judge(found, public, anchor, last)
    faults: list[Fault] = []
    genuine: list[Entry] = []
    doubtful: list[Entry] = []
    reached = 0
    for number in [*sorted(found), last + 1]:
        if number > reached + 1:
            faults.append(judge.hole(reached + 1, number - 1))
        reached = number
        if number > last:
            break
        problem = judge.fault(found[number])
        if problem is not None:
            faults.append(problem)
        entry = found[number].entry
        if entry is not None:
            (genuine if problem is None else doubtful).append(entry)
    return Walked(tuple(genuine), tuple(doubtful), tuple(faults), strays, public, last)


def _reach(found: dict[int, _Found], public: str) -> int:
    """The last number that belongs to the ledger. Anybody who may put objects can put one at any number: what stands
    far after all others counts only if it is signed."""
    last = 0
    for number, here in sorted(found.items()):
        entry = here.entry
        near = number <= last + _NEAR
        if near or (
            entry is not None
            and entry.number == number
            and public != ""
            and signing.verify(public, signed_part(entry), entry.signature)
        ):
            last = number
    return last


def fold(entries: Sequence[Entry]) -> tuple[VaultIndex, list[Fault]]:
    """The index over entries of which some may be missing."""
    index, faults = VaultIndex(), []
    for entry in entries:
        index.head = entry.number - 1
        try:
            index.apply(entry)
        except IntegrityError as error:
            faults.append(fault(Kind.POSITION, entry_name(entry.number), error.what, harm_of(entry.body)))
    return index, faults


def harm_of(body: Body) -> Harm:
    """What depends on an entry."""
    match body:
        case Segment():
            return Harm(body.timeline, body.first_lsn, body.last_lsn)
        case Merge():
            only = body.buckets[0] if body.buckets is not None and len(body.buckets) == 1 else None
            return Harm(body.timeline, body.first_lsn, body.last_lsn, bucket=only)
        case Image():
            return Harm(body.timeline, body.lsn, body.lsn, relations=body.relations)
        case Gap():
            return Harm(body.timeline, body.from_lsn, body.to_lsn, relations=body.relations)
        case Timeline():
            return Harm(body.timeline, body.start_lsn)
        case SchemaVersion() | SchemaDump():
            return Harm(body.timeline, body.lsn)
        case Mapping():
            return Harm(body.timeline)
        case _:
            return Harm()


def tiling_faults(index: VaultIndex, name_of: dict[int, str]) -> list[Fault]:
    """Holes and overlaps between segments. `name_of`: the entry's name by the identity of its body."""
    faults = []
    for timeline, begun in sorted(index.timelines.items()):
        reached, before = begun.start_lsn, "the start of the timeline"
        for segment in index.segments_of(timeline):
            name = name_of[id(segment)]
            if segment.first_lsn > reached and not _told(index, timeline, reached, segment.first_lsn):
                harm = Harm(timeline, reached, segment.first_lsn)
                why = f"the changes between {before} and this segment are not in the vault, and no gap says so."
                faults.append(fault(Kind.HOLE, name, why, harm))
            if segment.first_lsn < reached:
                harm = Harm(timeline, segment.first_lsn, min(reached, segment.last_lsn))
                faults.append(fault(Kind.OVERLAP, name, f"the segment repeats changes of {before}.", harm))
            if segment.last_lsn > reached:
                reached, before = segment.last_lsn, name
    return faults


def position_faults(index: VaultIndex, entries: Sequence[Entry]) -> Iterator[Fault]:
    """Entries that speak of what cannot be."""
    for entry in entries:
        for why in _impossible(index, entry.body):
            yield fault(Kind.POSITION, entry_name(entry.number), why, harm_of(entry.body))


def _look(store: Store, number: int) -> _Found | None:
    try:
        data = store.get(entry_name(number))
    except NotFound:
        return None
    try:
        return _Found(number, data, decode(data, entry_name(number)), "")
    except BallastError as error:
        return _Found(number, data, None, error.what)


def _key(found: dict[int, _Found], anchor: Head | None) -> str:
    """The key to trust: the recorder's own; else that of a genesis entry which holds together with what follows."""
    if anchor is not None and anchor.public_key:
        return anchor.public_key
    first = found.get(1)
    if first is None or first.entry is None or not isinstance(first.entry.body, Genesis):
        return ""
    public = first.entry.body.public_key
    # An edited genesis may still name the right key, or not: the next entry tells.
    witnesses = [f.entry for n, f in sorted(found.items()) if n <= 2 and f.entry is not None]
    return public if any(signing.verify(public, signed_part(e), e.signature) for e in witnesses) else ""


class _Judge(msgspec.Struct, frozen=True):
    """What an entry is held against."""

    found: dict[int, _Found]
    public: str
    anchor: Head | None
    last: int

    def fault(self, here: _Found) -> Fault | None:
        """What is wrong with an entry that is there; None if it is genuine."""
        if here.entry is None:
            verdict: tuple[Kind, str] | None = Kind.ENTRY_CHANGED, f"the entry cannot be read ({here.why})"
        else:
            verdict = self._forgery(here.entry, here.data, here.number) or self._detour(here.data, here.number)
        if verdict is None:
            return None
        harm = harm_of(here.entry.body) if here.entry is not None else Harm()
        return fault(verdict[0], entry_name(here.number), verdict[1], harm)

    def hole(self, first: int, last: int) -> Fault:
        """Numbers of which there is no entry, all of them one fault."""
        one = first == last
        if first > max(self.found, default=0):
            gone = "the entry, and it is gone" if one else f"entries {first} to {last}, and they are gone"
            return fault(
                Kind.TAIL_MISSING, entry_name(first), f"this recorder wrote {gone}: the ledger's tail was cut off."
            )
        lacking = "there is no entry of this number" if one else f"there are no entries {first} to {last}"
        return fault(Kind.ENTRY_MISSING, entry_name(first), f"{lacking}, though later ones follow.")

    def _forgery(self, entry: Entry, data: bytes, number: int) -> tuple[Kind, str] | None:
        changed, body = Kind.ENTRY_CHANGED, entry.body
        if entry.number != number:
            return changed, f"this is entry {entry.number}, put in the place of entry {number}."
        if isinstance(body, Genesis) != (number == 1):
            return changed, "the first entry, and no other, is to be a genesis entry."
        if isinstance(body, Genesis) and self.anchor and self.anchor.public_key not in ("", body.public_key):
            return (
                Kind.KEY,
                "the vault begins with another key than this recorder's: the whole ledger was replaced.",
            )
        if encode(entry) != data:
            return changed, "the entry's bytes are not those that were signed."
        if not self._signed(entry) or (number == 1 and not self.public):
            return changed, "the entry is not signed with this vault's key: it was edited or forged."
        return None

    def _detour(self, data: bytes, number: int) -> tuple[Kind, str] | None:
        digest = sha256(data)
        if self.anchor is not None and self.anchor.number == number and self.anchor.sha256 != digest:
            return (
                Kind.CHAIN,
                "the entry is signed, but is not the one that this recorder remembers writing last.",
            )
        after = self.found.get(number + 1)
        known = after.entry if after is not None else None
        if known is None or known.number != number + 1 or not self._signed(known) or known.previous == digest:
            return None
        return Kind.CHAIN, f"entry {number + 1} was signed as following another entry {number} than this one."

    def _signed(self, entry: Entry) -> bool:
        # Without a key that can be trusted (entry 1 is damaged) only the chain tells.
        return not self.public or signing.verify(self.public, signed_part(entry), entry.signature)


def _told(index: VaultIndex, timeline: int, from_lsn: int, to_lsn: int) -> bool:
    """Whether recorded gaps of all relations cover the hole."""
    gaps = sorted(
        (gap.from_lsn, gap.to_lsn)
        for gap in index.gaps.values()
        if gap.timeline == timeline and gap.relations is None and gap.to_lsn is not None
    )
    for start, end in gaps:
        if start <= from_lsn and end is not None:
            from_lsn = max(from_lsn, end)
    return from_lsn >= to_lsn


def _impossible(index: VaultIndex, body: Body) -> Iterator[str]:
    timeline = getattr(body, "timeline", None)
    if timeline is not None and timeline not in index.timelines:
        yield f"the entry speaks of timeline {timeline}, which never began."
        return
    match body:
        case Segment():
            if not index.timelines[body.timeline].start_lsn <= body.first_lsn < body.last_lsn:
                yield "the segment's positions are out of order, or before its timeline began."
            for truncation in body.truncations:
                if not body.first_lsn <= truncation.lsn < body.last_lsn:
                    yield "the segment tells of a truncation outside its stretch."
        case Merge():
            if body.first_lsn > body.last_lsn or (body.kind == "image") != (body.first_lsn == body.last_lsn):
                yield "the merge's positions are out of order."
            elif body.last_lsn > index.recorded_until(body.timeline):
                yield "the merge reaches past what is recorded."
            if body.schema not in index.schemas:
                yield f"the merge names schema version {body.schema}, which is not in the vault."
            if body.buckets is not None and (not body.buckets or len(set(body.buckets)) < len(body.buckets)):
                yield "the merge names no bucket, or one twice."
            if any(run.bucket is not None and not body.holds(run.bucket) for run in body.runs):
                yield "the merge names a run of another bucket."
        case Image():
            if body.lsn < index.timelines[body.timeline].start_lsn:
                yield "the image is from before its timeline began."
            if body.schema not in index.schemas:
                yield f"the image names schema version {body.schema}, which is not in the vault."
        case SchemaDump():
            if body.version not in index.schemas:
                yield f"the dump names schema version {body.version}, which is not in the vault."
        case Gap():
            if body.to_lsn is not None and body.to_lsn < body.from_lsn:
                yield "the gap ends before it begins."
        case Timeline():
            if body.parent is not None and body.fork_lsn is not None:
                fork = Cut(body.parent, body.fork_lsn)
                if fork.timeline in index.timelines and fork.lsn < index.timelines[fork.timeline].start_lsn:
                    yield "the timeline forks from its parent before that began."
        case _:
            return
