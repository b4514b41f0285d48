"""From what a person asks for ("18:55", a position, "newest") to the cut that answers it.

A time is resolved once, to the first commit in LSN order past it, as PostgreSQL's own recovery does; everything is
then cut by that commit's LSN. Commit timestamps run slightly backwards in LSN order, so the time alone would cut
different tables at different commits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import GapError, UsageError
from ballast.postgres.lsn import format_lsn, parse_lsn
from ballast.vault.index import VaultIndex
from ballast.vault.plan import Stretch
from ballast.vault.records import Cut, Gap, Segment

_AHEAD = timedelta(minutes=5)
"""So far production's clock may be ahead of ours."""
_BACKWARDS = timedelta(seconds=10)
"""A segment is skipped only if its latest commit is this much before the time asked for: far more than the
milliseconds by which timestamps were seen to run backwards (a stepped server clock can exceed it)."""

_POSITION = re.compile(r"(?:(\d{1,9})/)?([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")


class Resolved(msgspec.Struct, frozen=True):
    """A cut, and how it was found."""

    cut: Cut
    committed_at: datetime | None
    """When the last transaction before the cut was committed (UTC); None if none is recorded on this history."""
    how: str
    """For people: what was asked, as understood, and what it led to."""
    gaps: tuple[Gap, ...]
    """Gaps that make this cut inexact for some relation; empty: exact."""

    @property
    def exact(self) -> bool:
        """Whether no gap touches the cut."""
        return not self.gaps


ReadTransactions = Callable[[Segment], pa.Table | None]
"""The segment's transactions table (columns lsn, committed_at, …), None where it has none."""


def resolve(index: VaultIndex, read: ReadTransactions, at: str | None, *, now: datetime) -> Resolved:
    """The cut for `at`: None (newest), a position `[timeline/]X/Y`, or a time (ISO 8601; without a zone: local).

    `now` says what today is and which zone is local: a naive one means the system's. UsageError for what cannot be
    understood, or only by guessing; GapError for a moment that the vault does not hold."""
    if at is None or at.strip().lower() in ("newest", "latest"):
        timeline = index.newest_timeline
        cut = Cut(timeline, _until(index, timeline))
        return _resolved(index, read, cut, f"the newest that is recorded: {show(cut)}")
    text = at.strip()
    if not text:
        raise UsageError("The moment is empty.", 'Name a time or a position, or "newest".')
    if position := _POSITION.fullmatch(text):
        return _at_position(index, read, position[1], position[2])
    time = _understand(text, now)
    if time > (now if now.tzinfo is not None else now.astimezone()) + _AHEAD:
        raise UsageError(
            f"{time.isoformat(sep=' ')} has not come yet: it is {now.isoformat(sep=' ', timespec='seconds')}.",
            'Say which moment is meant, with its zone; "newest" is all that is recorded.',
        )
    return _at_time(index, read, time, text)


def is_position(at: str) -> bool:
    """Whether this names a position, which is one node's own, and no time."""
    return _POSITION.fullmatch(at.strip()) is not None


def show(cut: Cut) -> str:
    """`timeline/X/Y`, the spelling that `resolve` reads."""
    return f"{cut.timeline}/{format_lsn(cut.lsn)}"


def cut_of(position: str) -> Cut:
    """The cut that `show` wrote, of `timeline/X/Y`. ValueError for any other spelling."""
    timeline, _, lsn = position.partition("/")
    return Cut(int(timeline), parse_lsn(lsn))


def _at_position(index: VaultIndex, read: ReadTransactions, timeline: str | None, lsn: str) -> Resolved:
    cut = Cut(int(timeline) if timeline else index.newest_timeline, parse_lsn(lsn))
    until = _until(index, cut.timeline)
    begin = index.recorded_from(cut.timeline)
    assert begin is not None  # _until has seen to it
    if cut.lsn > until:
        raise GapError(
            f"Position {show(cut)} is not recorded yet: the newest is {show(Cut(cut.timeline, until))}.",
            "Choose an earlier one, or wait until the recorder has sealed it.",
        )
    if cut.lsn < begin:
        raise GapError(
            f"Position {show(cut)} is before the vault begins: the earliest is {show(Cut(cut.timeline, begin))}.",
            "Choose a later one.",
        )
    return _resolved(index, read, cut, f"position {show(cut)}")


def _at_time(index: VaultIndex, read: ReadTransactions, time: datetime, asked: str) -> Resolved:
    timeline = index.newest_timeline
    until = _until(index, timeline)
    chain = index.chain(Cut(timeline, until))
    understood = f"{time.isoformat(sep=' ')}" + ("" if _same(asked, time) else f" (asked: {asked})")
    earliest = _earliest(index, read, chain)
    if earliest is not None and time < earliest:
        raise GapError(
            f"{understood} is before the vault begins: the earliest moment is"
            f" {earliest.astimezone(time.tzinfo).isoformat(sep=' ')}.",
            "Choose that or a later one.",
        )
    first_past = _first_commit_past(index, read, chain, time)
    if first_past is None:
        cut = Cut(timeline, until)
        found = _resolved(index, read, cut, "")
        last = "no commit" if found.committed_at is None else _in_zone(found.committed_at, time)
        how = f"{understood} is past the last recorded commit ({last}), so the newest: {show(cut)}"
        return msgspec.structs.replace(found, how=how, gaps=(*found.gaps, *_missed(index, cut, time)))
    cut, committed_at = first_past
    begin = index.recorded_from(cut.timeline)
    if begin is not None and cut.lsn < begin:
        cut = Cut(cut.timeline, begin)
    how = (
        f"{understood}: everything before the first commit past it,"
        f" which is {show(cut)} of {_in_zone(committed_at, time)}"
    )
    found = _resolved(index, read, cut, how)
    return msgspec.structs.replace(found, gaps=(*found.gaps, *_missed(index, cut, time)))


def _missed(index: VaultIndex, cut: Cut, time: datetime) -> Iterator[Gap]:
    """Of a timeline that goes on from a parent: gaps that end where it begins. They have no cuts, but moments: what a server
    committed between its promotion (or recovery) and its protection."""
    begun = index.timelines[cut.timeline]
    if begun.parent is None or time >= _moment(index.begun_at[cut.timeline]):
        return
    for gap in index.gaps.values():
        if gap.timeline == cut.timeline and gap.to_lsn is not None and gap.to_lsn <= begun.start_lsn:
            yield gap


def _first_commit_past(
    index: VaultIndex, read: ReadTransactions, chain: Sequence[Stretch], time: datetime
) -> tuple[Cut, datetime] | None:
    for part in chain:
        for segment in index.segments_of(part.timeline):
            if segment.first_lsn >= part.to_lsn:
                break
            latest = _latest(segment)
            if latest is not None and latest + _BACKWARDS <= time:
                continue
            transactions = _transactions(read, segment, part.to_lsn)
            if transactions is None:
                continue
            past = transactions.filter(pc.greater(transactions["committed_at"], pa.scalar(time)))
            if past.num_rows:
                return (
                    Cut(part.timeline, past["lsn"][0].as_py()),
                    past["committed_at"][0].as_py(),
                )
    return None


def _earliest(index: VaultIndex, read: ReadTransactions, chain: Sequence[Stretch]) -> datetime | None:
    """The earliest time that can be asked for: when the timeline's entry was written, which is after its first
    image's snapshot was taken, or the first commit after it, whichever is earlier."""
    root = chain[0]
    begun = index.begun_at.get(root.timeline)
    earliest = None if begun is None else _moment(begun)
    begin = index.recorded_from(root.timeline) or 0
    for segment in index.segments_of(root.timeline):
        transactions = _transactions(read, segment, root.to_lsn)
        if transactions is not None and segment.last_lsn > begin:
            after = transactions.filter(pc.greater_equal(transactions["lsn"], begin))
            if after.num_rows:
                first: datetime = after["committed_at"][0].as_py()
                return first if earliest is None else min(earliest, first)
    return earliest


def _resolved(index: VaultIndex, read: ReadTransactions, cut: Cut, how: str) -> Resolved:
    return Resolved(cut, _last_commit(index, read, cut), how, index.gap_at(cut))


def _last_commit(index: VaultIndex, read: ReadTransactions, cut: Cut) -> datetime | None:
    for part in reversed(index.chain(cut)):
        for segment in reversed(index.segments_of(part.timeline)):
            if segment.first_lsn < part.to_lsn:
                transactions = _transactions(read, segment, part.to_lsn)
                if transactions is not None and transactions.num_rows:
                    committed_at: datetime = transactions["committed_at"][-1].as_py()
                    return committed_at
    return None


def _transactions(read: ReadTransactions, segment: Segment, until: int) -> pa.Table | None:
    """The transactions of the segment before `until`, in order of LSN."""
    table = read(segment)
    if table is None:
        return None
    table = table.select(["lsn", "committed_at"])
    return table.filter(pc.less(table["lsn"], until)).sort_by("lsn")


def _until(index: VaultIndex, timeline: int) -> int:
    until = index.recorded_until(timeline)
    if index.recorded_from(timeline) is None:
        raise GapError(
            f"No image of the database is in the vault yet (timeline {timeline}).",
            "Wait until the first one is complete; `ballast status` shows its progress.",
        )
    return until


def _latest(segment: Segment) -> datetime | None:
    return None if segment.last_committed_at is None else _moment(segment.last_committed_at)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _understand(text: str, now: datetime) -> datetime:
    """A time as people write it: ISO 8601 with `T` or a space; a time alone is of today.

    Without a zone it is local, by the rules of local time at that moment (summer time), not now."""
    spelled = re.sub(r"\s*(UTC|Z)$", "+00:00", text)
    spelled = re.sub(r"\s+([+-]\d\d:?\d\d)$", r"\1", spelled)
    if re.match(r"\d{1,2}:\d\d", spelled):
        spelled = f"{now.date().isoformat()} {spelled}"
    try:
        time = datetime.fromisoformat(spelled)
    except ValueError:
        raise UsageError(
            f"{text!r} is neither a time nor a position.",
            "Write a time like 2026-03-01 18:55:00+08:00 (without a zone it is local),"
            " or a position like 0/1A2B3C or 1/0/1A2B3C.",
        ) from None
    return time if time.tzinfo is not None else _local(time, now.tzinfo, text)


def _local(time: datetime, zone: tzinfo | None, text: str) -> datetime:
    """The moment at which clocks of `zone` (None: the system's) showed `time`; UsageError where they did so twice, or never."""
    instants = {time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    readings = [instant.astimezone(zone) for instant in sorted(instants)]
    found = [reading for reading in readings if reading.replace(tzinfo=None, fold=0) == time]
    if len(found) == 1:
        return found[0]
    raise UsageError(
        f"{text!r} came twice in local time, since clocks were put back."
        if found
        else f"{text!r} never came in local time, since clocks were put forward.",
        f"Say which moment is meant: {' or '.join(reading.isoformat(sep=' ') for reading in found or readings)}.",
    )


def _same(asked: str, time: datetime) -> bool:
    return asked.replace("T", " ") == time.isoformat(sep=" ")


def _in_zone(moment: datetime, like: datetime) -> str:
    return moment.astimezone(like.tzinfo).isoformat(sep=" ")
