"""When segments are merged, and when a bucket gets an image of its own: rules over what the ledger says, without I/O.

Changes. Segments are merged by eights, what comes of that by fours, and so on: every change is written again once a
level, and between any base and any cut lie few pieces: at most 7 segments and 3 of each level (19 among 2,000
segments, a working day of them; three more for each four times as many). Such a merge has the rows of all buckets, as
its segments have: a tenant reads about one row group of it.

Images. That alone would let the rows to be read grow for ever, and their number with them. So a bucket that has
changed by half of itself gets a merged image, from which its reads begin anew; a smaller change is enough where many
runs lie after its base, and any change where too many do. Few changes are not worth an image while few runs hold them.

What is merged lies after the base of some bucket: nothing older is read for the newest cut any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ballast.errors import GapError
from ballast.vault.index import VaultIndex
from ballast.vault.plan import Stretch
from ballast.vault.records import SHARED_BUCKET, Cut, Merge, Segment

SEGMENTS_TOGETHER = 8
MERGES_TOGETHER = 4
FEW_ROWS = 25_000
"""Reading so many rows costs less than opening a run: no reason for an image."""
MANY_RUNS = 20
"""More than these, and an image is due when a sixteenth of the bucket has changed …"""
TOO_MANY_RUNS = 30
"""… and from here on in any case."""

Piece = Segment | Merge


class Weight(msgspec.Struct, frozen=True):
    """What a read of one bucket at the newest cut takes in."""

    base_rows: int
    change_rows: int
    change_runs: int


class Lag(msgspec.Struct, frozen=True):
    """How far merging is behind, for `status`."""

    segments: int
    """Those that hold changes and were never merged, and are read for the newest cut."""
    runs: int
    """How many runs a restore of one tenant opens for the newest cut, in the worst bucket."""

    @property
    def late(self) -> bool:
        """Whether merging does not keep up."""
        return self.segments > 8 * SEGMENTS_TOGETHER or self.runs > 2 * TOO_MANY_RUNS


def image_due(weight: Weight) -> bool:
    """Whether a bucket is to get a merged image. Grows with its changed rows."""
    if weight.change_runs >= TOO_MANY_RUNS:
        return True
    if weight.change_runs > MANY_RUNS and 16 * weight.change_rows >= weight.base_rows:
        return True
    return weight.change_rows >= max(FEW_ROWS, weight.base_rows // 2)


def image_cut(index: VaultIndex, timeline: int) -> Cut | None:
    """Where merged images are to be taken: the end of the newest segment at which nothing recorded is in doubt.

    An image of rows in doubt would carry the doubt past the gap's end. None: nowhere yet."""
    begin = index.recorded_from(timeline)
    for segment in reversed(index.segments_of(timeline)):
        if begin is None or segment.last_lsn < begin:
            return None
        cut = Cut(timeline, segment.last_lsn)
        if not index.gap_at(cut):
            return cut
    return None


def level_of(piece: Piece) -> int:
    """How often its rows were merged."""
    return piece.level if isinstance(piece, Merge) else 0


def frontier(index: VaultIndex, part: Stretch) -> list[Piece]:
    """The largest pieces of all buckets' changes in `part` that may yet become larger ones, in order.

    What of a merge across its beginning or its end lies in it is read from there, and not worth another merge. A segment
    across its end (a fork in the midst of it) is left as it is: no merge with it would lie in `part`, so that it would be due
    again and again."""
    across = index.straddling(part)
    begin = max([part.from_lsn, *(m.last_lsn for m in across if m.first_lsn < part.from_lsn)])
    end = min([part.to_lsn, *(m.first_lsn for m in across if m.last_lsn > part.to_lsn)])
    return [piece for piece in index.pieces_within(part) if piece.first_lsn >= begin and piece.last_lsn <= end]


def next_merge(pieces: Sequence[Piece]) -> list[Piece]:
    """The neighbours of one level that are to become one, the lowest level first; [] if none are due.

    Pieces without rows cost nothing to read: they are taken along, and not counted."""
    for level in sorted({level_of(piece) for piece in pieces if piece.runs}):
        wanted = MERGES_TOGETHER if level else SEGMENTS_TOGETHER
        group: list[Piece] = []
        for piece in pieces:
            fits = not piece.runs or level_of(piece) == level
            if not fits or (group and group[-1].last_lsn != piece.first_lsn):
                group = []
            if fits and (group or piece.runs):
                group.append(piece)
            if sum(1 for member in group if member.runs) == wanted:
                return group
    return []


def due(index: VaultIndex, timeline: int) -> tuple[int, list[Piece]] | None:
    """The next merge of changes: the timeline that it is on, and its pieces."""
    for part in _parts(index, timeline):
        group = next_merge(frontier(index, part))
        if group:
            return part.timeline, group
    return None


def waiting(index: VaultIndex, timeline: int) -> int:
    """How many segments with changes wait to be merged."""
    pieces: Iterable[Piece] = (piece for part in _parts(index, timeline) for piece in frontier(index, part))
    return sum(1 for piece in pieces if isinstance(piece, Segment) and piece.runs)


def lag(index: VaultIndex, timeline: int) -> Lag:
    """How far merging is behind on what leads to the end of `timeline`."""
    until = index.recorded_until(timeline)
    runs = 0
    for bucket in range(SHARED_BUCKET, index.genesis.buckets):
        try:
            runs = max(runs, len(index.plan(timeline, until, bucket).runs))
        except GapError:
            continue
    return Lag(waiting(index, timeline), runs)


def _parts(index: VaultIndex, timeline: int) -> list[Stretch]:
    return index.unmerged(timeline, index.recorded_until(timeline))
