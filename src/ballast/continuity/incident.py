"""What the sentinel has decided about a loss, on disk before it acts: killed at any moment, the next one goes on from it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec

from ballast.continuity.signs import Sign
from ballast.recovery import Span
from ballast.vault.durable import remove_file, replace_file

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
        """With the moment chosen; `why`: what came after it does not come back with it, as of rows that were deleted."""
        return self.with_(at=at, why_at=why, beyond=(*self.beyond, Span(at)) if why else self.beyond)

    def is_taken_back(self, well: int, begun: bool) -> bool:
        """Whether its data was taken for lost by mistake: it has answered well `well` times in a row, nothing has been put aside
        or stopped for a rebuild (`begun`), and the record shows no rows taken from everybody."""
        return self.data_lost and well >= WELL_LOOKS and not begun and not self.why_at

    def with_(self, **changed: object) -> Incident:
        """The same with other fields."""
        return msgspec.structs.replace(self, **changed)


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
