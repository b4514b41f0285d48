"""Whether the record ends in a transaction that emptied the platform, and the last moment before it.

A loss of files leaves nothing in the record: the newest moment is the right one. Who deletes rows is recorded like anybody else,
so the newest moment is then an empty platform. The last minutes of the record are looked through as they come, a segment once;
a transaction that took rows of at least half of the tenants from a table, or truncated or dropped one, is a reason to look
closely. Emptied tables prove nothing: an application empties some of its own, and whoever went back before that for no reason
would lose what was done since. It takes half of all rows of all tenants, gone within one deed and not there again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pyarrow.compute as pc

from ballast.continuity.counts import Counts, grown
from ballast.continuity.unsealed import Tail, Unsealed
from ballast.vault import Resolved, Vault, tenants
from ballast.vault.moment import show
from ballast.vault.read import warm
from ballast.vault.records import Cut, Segment, Shared
from ballast.vault.tablename import versions_of

_BACK = timedelta(minutes=15)
TOGETHER = timedelta(seconds=90)
"""Tables that are emptied one after another are one deed while less than this lies between two of them."""
_SHARE = 0.5
_NEAR = 0.1
"""Where so large a part of the tenants is hit they are counted anew."""
_FEW_ROWS = 100
"""In a platform that has hardly anything a cart that is emptied may be half of it."""


class Wipe(msgspec.Struct, frozen=True):
    """A transaction that may have emptied these tables."""

    cut: Cut
    """Just before it."""
    at: datetime | None
    relations: frozenset[int]


class Chosen(msgspec.Struct, frozen=True):
    """The moment to go back to."""

    resolved: Resolved
    why: str
    """For people: of a wipe; "" for the newest moment."""


class Foretold(msgspec.Struct, frozen=True):
    """The moment to go back to as all that is sealed, and the spool, show it."""

    cut: Cut
    """What the record has to hold for it."""
    deletion: Cut
    """The transaction with which it is told when everything is sealed."""
    why: str
    """For people."""


class Wipes:
    """Of one open vault. Of one thread at a time."""

    def __init__(self, vault: Vault, is_wanted: Callable[[], bool] = lambda: False) -> None:
        """`is_wanted`: somebody waits for whoever looks ahead."""
        self._vault = vault
        self._seen: set[tuple[int, int]] = set()
        self._suspects: list[Wipe] = []
        self._active: dict[str, None] = {}
        self._counts = Counts(vault, is_wanted)
        self._known, self._known_at = 0, 0.0

    @property
    def active(self) -> list[str]:
        """Tenants of whom something was recorded in the last segments, the latest first."""
        return list(reversed(self._active))

    def look(self, *, ahead: bool = False) -> None:
        """Take in what was sealed since. `ahead`: nobody waits, and what costs more is worked out, too."""
        vault = self._vault
        timeline = vault.index.newest_timeline
        segments = [s for s in vault.index.segments_of(timeline) if (timeline, s.first_lsn) not in self._seen]
        if not segments:
            self._count([suspect.cut for suspect in self._suspects], ahead)
            return
        latest = max((at for at in map(_time, segments) if at is not None), default=None)
        if time.monotonic() - self._known_at > _BACK.total_seconds():
            self._known = 0  # there may be far fewer by now
        for segment in segments:
            self._seen.add((timeline, segment.first_lsn))
            at = _time(segment)
            if at is None or latest is None or at < latest - _BACK:
                continue
            self._suspects += self._suspects_in(segment)
        self._suspects += self._drops(timeline, segments[0].first_lsn)
        self._suspects = [s for s in self._suspects if s.at is None or latest is None or s.at >= latest - _BACK]
        self._count([suspect.cut for suspect in self._suspects], ahead)

    def _count(self, marks: Sequence[Cut], ahead: bool) -> None:
        self._counts.follow(marks, anew=ahead)
        if ahead and self._counts.newest is not None:
            self._tenants_known(self._counts.newest)

    def choose(self) -> Chosen:
        """The newest moment, or the last before the platform was emptied."""
        newest = self._vault.resolve(None)
        deed = last_deed([s for s in self._suspects if s.cut.timeline == newest.cut.timeline])
        if not deed:
            return Chosen(newest, "")
        had, have = self._counts.at(deed[0].cut), self._counts.at(newest.cut)
        while not is_wiped(had.total(), have.total()):
            # It may have begun with something else, when there was not much yet.
            deed = deed[1:]
            if not deed:
                return Chosen(newest, "")
            had = self._counts.at(deed[0].cut)
        before = deed[0].cut
        names = self._vault.relations_at(before)
        shown = sorted(names[n].qualified for wipe in deed for n in wipe.relations if n in names and had[n] > have[n])
        shown = list(dict.fromkeys(shown))
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        there = {number: had[number] for number in self._counts.of_tenants(before)}
        begin = self._begin(before, deed[0].at, there) if len(deed) > 1 else before
        return Chosen(
            self._vault.resolve(show(begin)),
            f"just before {', '.join(shown[:3])}{more} were emptied: of {had.total():,} rows of all tenants {have.total():,}"
            f" were left, at {deed[0].at}",
        )

    @property
    def oids(self) -> frozenset[int]:
        """The tables of the newest moment."""
        newest = self._counts.newest
        return frozenset() if newest is None else frozenset(r.oid for r in self._vault.relations_at(newest).values())

    @property
    def sealed(self) -> Cut | None:
        """Up to where `look` has taken everything in."""
        return self._counts.newest

    def foretell(self, tail: Tail) -> Foretold | None:
        """Before the `tail` of the record is sealed: the moment that `choose` will give when it is; None: it cannot be told, or
        there is no deletion."""
        newest, steps = self._counts.newest, tail.transactions
        if newest is None or any(step.unclear for step in steps):
            return None
        ours = self._counts.of_tenants(newest)
        relations = [r for r in self._vault.relations_at(newest).values() if r.number in ours]
        oids = frozenset(r.oid for r in relations)
        known = self._tenants_known(newest)
        # Whoever takes fewer rows from each table can have hit half of the tenants in none.
        large = [s for s in steps if any(s.taken.get(oid, 0) >= _SHARE * known for oid in oids)]
        if not large:
            chosen = self.choose() if self._suspects else None
            if chosen is None or not chosen.why:
                return None
            before = chosen.resolved.cut
            had = self._counts.at(before).total()
            left = self._counts.at(newest).total() + sum(s.grown(oids) for s in steps)
            return Foretold(before, before, chosen.why) if is_wiped(had, left) else None
        deletion = large[0]
        if len(large) > 1 or any(_is_near(s, deletion) for s in self._suspects if s.cut.timeline == newest.timeline):
            return None
        if not deletion.is_apart and deletion.since > newest.lsn:
            return None
        had = self._counts.at(newest).total() + sum(s.grown(oids) for s in steps if s.lsn < deletion.lsn)
        left = had + sum(s.grown(oids) for s in steps if s.lsn >= deletion.lsn)
        if not is_wiped(had, left) or tail.hit(deletion.lsn, relations, known) < _SHARE * known:
            return None
        return Foretold(
            Cut(newest.timeline, deletion.since), Cut(newest.timeline, deletion.lsn),
            f"of {had:,} rows of all tenants {left:,} were left, at {deletion.at}",
        )  # fmt: skip

    def _tenants_known(self, cut: Cut) -> int:
        if not self._known:
            self._count_tenants(cut)
        return self._known

    def _count_tenants(self, cut: Cut) -> None:
        self._known, self._known_at = len(tenants(self._vault, cut)), time.monotonic()

    def _begin(self, before: Cut, at: datetime | None, had: Mapping[int, int]) -> Cut:
        """Where a deed of several transactions began that went on at `before`, when there were so many rows: a table in which few
        tenants have rows raises no suspicion, nor does one that is emptied tenant by tenant, and others may have filled it again.
        What they did since then is brought in again."""
        steps: list[tuple[int, int, int]] = []
        for segment in reversed(self._vault.index.segments_of(before.timeline)):
            if segment.first_lsn >= before.lsn:
                continue
            when = _time(segment)
            if when is None or at is None or at - when > TOGETHER:
                break
            for run in segment.runs:
                for rows in warm(self._vault).open(run).slices(None, None, columns=("lsn", "op")):
                    steps += [step for step in grown(rows) if step[1] < before.lsn]
        return Cut(before.timeline, min([*took_most(steps, had), before.lsn]))

    def _suspects_in(self, segment: Segment) -> list[Wipe]:
        ours = self._counts.of_tenants(Cut(segment.timeline, segment.first_lsn))
        for run in segment.runs:
            for tenant in warm(self._vault).tenants(run):
                if tenant is not None:
                    self._active.pop(tenant, None)
                    self._active[tenant] = None
        found: dict[int, set[int]] = {}
        for truncation in segment.truncations:
            found.setdefault(truncation.lsn, set()).update(ours & set(truncation.relations))
        hit: dict[tuple[int, int], set[str]] = {}
        for run in segment.runs:
            for rows in warm(self._vault).open(run).slices(None, ours, columns=("lsn", "op")):
                deleted = rows.filter(pc.equal(rows["op"].cast("string"), "D"))
                once = deleted.select(["lsn", "relation", "tenant"])
                once = once.set_column(2, "tenant", once["tenant"].cast("string"))
                for one in once.group_by(["lsn", "relation", "tenant"]).aggregate([]).to_pylist():
                    hit.setdefault((one["lsn"], one["relation"]), set()).add(one["tenant"])
        counted = -1
        for (lsn, relation), whose in sorted(hit.items(), key=lambda one: one[0]):
            if len(whose) >= _NEAR * self._known and counted != lsn:
                # There may be more or fewer than when they were counted.
                self._count_tenants(Cut(segment.timeline, lsn))
                counted = lsn
            if len(whose) >= _SHARE * self._known:
                found.setdefault(lsn, set()).add(relation)
        at = _time(segment)
        return [Wipe(Cut(segment.timeline, lsn), at, frozenset(which)) for lsn, which in found.items() if which]

    def _drops(self, timeline: int, since: int) -> Iterable[Wipe]:
        """Tables that are not in the structure any more."""
        found: list[Wipe] = []
        index = self._vault.index
        chain = index.chain(Cut(timeline, index.recorded_until(timeline)))
        versions = [v for v in versions_of(self._vault, chain) if v.timeline == timeline]
        for before, after in pairwise(versions):
            if after.lsn < since:
                continue
            had = self._vault.schema(before.version)
            gone = had.keys() - self._vault.schema(after.version).keys()
            gone = {n for n in gone if not isinstance(had[n].tenant, Shared)}
            if gone:
                found.append(Wipe(Cut(timeline, after.lsn - (after.seq == 0)), None, frozenset(gone)))
        return found


def is_wiped(had: int, have: int) -> bool:
    """Whether a platform that had so many rows and has so many now was emptied."""
    return had - have >= max(_FEW_ROWS, _SHARE * had)


def took_most(steps: Iterable[tuple[int, int, int]], had: Mapping[int, int]) -> set[int]:
    """Positions of transactions that took rows from one of the tables that lost half of the rows that they had, or more, to such
    ones, whatever was added to them since. Pure.

    Args:
        steps: (relation, position, rows added less rows deleted).
        had: rows of each table after them.
    """
    steps = list(steps)
    gained: Counter[int] = Counter()
    grew: Counter[int] = Counter()
    for relation, lsn, by in steps:
        gained[lsn] += by
        grew[relation] += by
    takes = [(relation, lsn, -by) for relation, lsn, by in steps if by < 0 and gained[lsn] < 0 and relation in had]
    took: Counter[int] = Counter()
    for relation, _, rows in takes:
        took[relation] += rows
    there = {relation: had[relation] - grew[relation] for relation in took}
    return {lsn for relation, lsn, _ in takes if there[relation] > 0 and took[relation] >= _SHARE * there[relation]}


def last_deed(suspects: Sequence[Wipe]) -> list[Wipe]:
    """The last of them, and those that came shortly before it, the first one first."""
    deed: list[Wipe] = []
    for wipe in sorted(suspects, key=lambda wipe: wipe.cut.lsn, reverse=True):
        if deed and None not in (wipe.at, deed[-1].at) and _apart(wipe, deed[-1]) > TOGETHER:
            break
        deed.append(wipe)
    return deed[::-1]


def _is_near(suspect: Wipe, deletion: Unsealed) -> bool:
    """Whether the two may be of one deed. A segment's time is that of its last transaction."""
    return suspect.at is None or abs(deletion.at - suspect.at) <= 2 * TOGETHER


def _apart(earlier: Wipe, later: Wipe) -> timedelta:
    assert earlier.at is not None
    assert later.at is not None
    return later.at - earlier.at


def _time(segment: Segment) -> datetime | None:
    return None if segment.last_committed_at is None else datetime.fromisoformat(segment.last_committed_at)
