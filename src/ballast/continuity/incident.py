"""What the sentinel has decided about a loss, on disk before it acts: killed at any moment, the next one goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from ballast.continuity.signs import OF_DATA, Sign
from ballast.recovery import Span
from ballast.vault.durable import remove_file, replace_file
from ballast.vault.moment import cut_of
from ballast.vault.records import Cut

_FILE = "incident.json"
WELL_LOOKS = 3
"""So many good looks in a row make a server that is well."""


class Incident(msgspec.Struct, frozen=True, omit_defaults=True):
    """One loss, from its first sign until everybody is home."""

    since: datetime
    why: Sign
    lost: str = ""
    """System identifier of the server that was home."""
    timeline: int = 0
    """Of its record."""
    only: tuple[str, ...] | None = None
    """The tenants that it is about; None: all."""
    data_lost: bool = False
    """It cannot come back by itself: it is to be recovered."""
    why_lost: str = ""
    ordered: bool = False
    """The recovery may begin: it needs no word, or it was given."""
    at: str = ""
    """Position to recover to; "": not chosen yet."""
    why_at: str = ""
    """Of rows that were taken, as the record shows, or by a person's word."""
    moments: dict[str, str] = {}
    """Of `only`: the position to which each goes back."""
    rewound: tuple[str, ...] = ()
    """Of `only`: those who are back there."""
    beyond: tuple[Span, ...] = ()
    """What comes after a moment that was chosen, and is brought in again. A second loss changes nothing about it."""
    opened: str = ""
    """Identifier of the server in which the rows of it that all share were brought in."""
    is_opened: bool = False
    """Somebody went home since then: whatever becomes of that server, they are in the record."""
    boat: int = 0
    """Number of the lifeboat's folder."""
    boat_at: str = ""
    """Position that it is built as of."""
    foretold: str = ""
    """Position of the deletion before which the lifeboat is, as it was seen in the spool; "": all that was recorded has been
    looked at."""
    relaunch: bool = False
    """Home was lost again since the lifeboat was launched: whoever was back there meanwhile needs another one."""
    boot: str = ""
    """Of the machine when the lifeboat was launched: its data does not outlive a power cut."""

    def going_back(self, at: str, why: str) -> Incident:
        """With the moment chosen; `why`: what came after it does not come back with it, as of rows that were deleted. Then it
        is a moment at which nobody was being put back by himself."""
        if not why:
            return self.with_(at=at, why_at=why)
        since, others = before_all(at, self.beyond)
        return self.with_(at=since, why_at=why, beyond=(*others, Span(since)))

    @property
    def is_emptied(self) -> bool:
        """Whether rows were seen to be gone and the record shows that they were taken from everybody: nothing that is there by
        now, as a shop that was being put back, makes it whole."""
        told = any(span.tenant is None and span.since == self.at for span in self.beyond)
        return told and self.why in OF_DATA

    @property
    def not_put_back(self) -> tuple[Span, ...]:
        """Of `beyond`: of tenants who were to be put back when all was lost, and were not."""
        return tuple(s for s in self.beyond if s.tenant is not None and not s.until and s.tenant not in self.moments)

    def is_taken_back(self, well: int, begun: bool) -> bool:
        """Whether its data was taken for lost by mistake: it has answered well `well` times in a row, nothing has been put aside
        or stopped for a rebuild (`begun`), and the record shows no rows taken from everybody."""
        return self.data_lost and well >= WELL_LOOKS and not begun and not self.why_at

    def with_(self, **changed: object) -> Incident:
        """The same with other fields."""
        return msgspec.structs.replace(self, **changed)


def before_all(at: str, spans: Sequence[Span]) -> tuple[str, tuple[Span, ...]]:
    """The moment `at`, or where that lies between the deletion of a tenant's rows and his return (one of `spans`), the moment
    before that; and those of the spans that lie before it: what comes after it is everybody's. Pure."""
    start, left = cut_of(at), list(spans)
    while within := [s for s in left if _is_cut(s, start)]:
        start = min([start, *(cut_of(s.since) for s in within)])
        left = [s for s in left if s not in within]
    return next((s.since for s in spans if cut_of(s.since) == start), at), tuple(left)


def _is_cut(span: Span, start: Cut) -> bool:
    """Whether it goes on after `start`, in the same timeline."""
    on_it = span.tenant is not None and cut_of(span.since).timeline == start.timeline
    return on_it and (not span.until or cut_of(span.until) > start)


def read(folder: Path) -> Incident | None:
    """The one under way."""
    try:
        return msgspec.json.decode((folder / _FILE).read_bytes(), type=Incident)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(folder: Path, incident: Incident) -> Incident:
    """Durable when this returns."""
    replace_file(folder / _FILE, msgspec.json.encode(incident))
    return incident


def forget(folder: Path) -> None:
    """It is over."""
    remove_file(folder / _FILE)


def boot_id() -> str:
    """Tells one start of this machine from another; "" where that is not told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
