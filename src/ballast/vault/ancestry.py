"""From which timeline, and from which cut of it, the history of a server goes on. Pure.

A server that was recovered from this vault goes on from the cut that its marker names. One that was promoted from a standby
goes on from where it left PostgreSQL's own timeline: its system identifier stays the same, and its history file says where. In
both cases the record up to there holds for it as well, and what the vault has past that cut is a side branch.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ballast.postgres.lsn import format_lsn
from ballast.postgres.replication import Identity
from ballast.vault.index import VaultIndex
from ballast.vault.marker import Marker
from ballast.vault.records import Cut, Timeline


class Descent(msgspec.Struct, frozen=True):
    """Where a new timeline comes from."""

    parent: Cut
    how: Literal["recovered", "promoted"]
    recovery: str | None = None
    """`Marker.recovery`."""
    finished: bool = True
    """Whether everything of the parent's is on the server already."""
    left_out: bool = True
    """Whether what still comes back is left out of the stream."""

    @property
    def told(self) -> str:
        """For people."""
        at = f"{self.parent.timeline}/{format_lsn(self.parent.lsn)}"
        if self.how == "promoted":
            return f"The server was promoted, and has every commit up to {at}: the new timeline goes on from there."
        under_way = "" if self.finished else ", and tenants still come back"
        return f"The server was recovered as of {at}{under_way}: the new timeline goes on from there."


def recovered(index: VaultIndex, marker: Marker | None, identity: Identity) -> Descent | None:
    """What the marker says. None: there is none, or of another vault, or the timeline that it leads to has begun already."""
    if marker is None or not index.timelines or marker.vault_id != index.genesis.vault_id:
        return None
    if has_begun(index, marker, identity):
        return None
    cut = marker.cut
    begin = index.recorded_from(cut.timeline) if cut.timeline in index.timelines else None
    if begin is None or not begin <= cut.lsn <= index.recorded_until(cut.timeline):
        return None
    return Descent(cut, "recovered", marker.recovery, marker.finished, marker.left_out)


def has_begun(index: VaultIndex, marker: Marker, identity: Identity) -> bool:
    """Whether the vault has the timeline of this recovery already, as its newest or before it."""
    return any(_is_of(known, marker, identity) for known in _line(index, index.newest_timeline))


def promoted(index: VaultIndex, identity: Identity, left_at: int | None) -> Descent | None:
    """For a server that left its own timeline at `left_at` (0: nobody knows where) without commits that were recorded.

    None where that is no cut of this server's history: it was, say, brought back from an older copy of its disk."""
    if not left_at:
        return None
    for known in _line(index, index.newest_timeline):
        if (known.system_identifier, known.database) != (identity.system_identifier, identity.database):
            return None
        begin = index.recorded_from(known.timeline)
        if (
            begin is not None
            and known.start_lsn <= left_at
            and begin <= left_at <= index.recorded_until(known.timeline)
        ):
            return Descent(Cut(known.timeline, left_at), "promoted")
    return None


def _is_of(timeline: Timeline, marker: Marker, identity: Identity) -> bool:
    of_server = (timeline.system_identifier, timeline.database) == (identity.system_identifier, identity.database)
    of_cut = (timeline.parent, timeline.fork_lsn) == (marker.cut.timeline, marker.cut.lsn)
    return of_server and of_cut and timeline.recovery == marker.recovery


def _line(index: VaultIndex, number: int) -> list[Timeline]:
    """A timeline and those that it comes from, the newest first."""
    found = [index.timelines[number]]
    while (parent := found[-1].parent) is not None:
        found.append(index.timelines[parent])
    return found
