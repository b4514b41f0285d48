"""How a drill went, as the vault keeps it: one `Note` of the ledger each, and the newest also in the state folder.

The drill itself is recovery's; what is kept of it stands here, since `status` shows it and `verify` walks over it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ballast.vault.records import Note

TOPIC = "drill"
DRILLED_FILE = "drilled.json"
"""In the state folder: the last drill that was tried, also one of which nothing could be told to the vault."""
DRILL_LOCK = "drill.lock"
MOST_DIFFERENCES = 20
"""Named in a note; all are counted."""

MOST_TENANTS = 100
"""Looked at again."""

_EVERY = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Drilled(msgspec.Struct, frozen=True):
    """One drill. Times are ISO, UTC; durations are seconds from when the scratch server began to be made."""

    at: str
    """When production's snapshot was taken, or when the drill was given up before that."""
    vault: str
    """URL."""
    equal: bool
    """Everything that was compared is the same; False also where the drill could not be carried out."""
    failure: str = ""
    """Why it could not be carried out; "" if it was."""
    timeline: int = 0
    lsn: int = 0
    """The cut at which both sides were compared."""
    seed: int = 0
    """Of the choice of tenants: the same seed at the same tenants chooses the same."""
    tenants: int = 0
    """Compared, besides the rows that all share."""
    tenants_known: int = 0
    """How many production or the vault had then."""
    tables: int = 0
    rows: int = 0
    """Restored and compared."""
    differences: int = 0
    named: tuple[str, ...] = ()
    """The first of them, a line each."""
    unequal_tenants: tuple[str, ...] = ()
    """Whose rows differ, as far as they are kept here: the next drill looks at them again, so that none is forgotten."""
    server_s: float | None = None
    """RTO: until the scratch server answered …"""
    first_tenant_s: float | None = None
    """… the first tenant was whole and proven, on a structure with its keys …"""
    half_s: float | None = None
    all_s: float | None = None
    rows_per_s: float | None = None
    """From when the server answered to the last tenant."""
    vault_behind_bytes: int | None = None
    """RPO without the recorder's disk: WAL that production had written at the snapshot and the vault did not have …"""
    vault_behind_s: float | None = None
    """… and the age, at the snapshot, of the oldest commit in it; 0.0 where no commit was missing."""
    recorder_behind_bytes: int | None = None
    """RPO: what the recorder's disk did not have. None: no recorder runs here."""
    compared_s: float | None = None
    """How long both sides took to be summed and compared."""
    total_s: float = 0.0
    production_version: int = 0
    scratch_version: int = 0
    warnings: tuple[str, ...] = ()


def note_of(drilled: Drilled) -> Note:
    """What the ledger is told."""
    return Note(TOPIC, msgspec.Raw(msgspec.json.encode(drilled)))


def history(notes: Sequence[Note]) -> list[Drilled]:
    """The drills that the ledger tells of, oldest first. Those of a later make, which cannot be read, are passed over."""
    found = []
    for note in notes:
        if note.topic == TOPIC:
            try:
                found.append(msgspec.json.decode(note.content, type=Drilled))
            except msgspec.DecodeError:
                continue
    return found


def seconds_of(every: str) -> int | None:
    """`1d`, `12h`, `30m` as seconds; None for `off`. ValueError for anything else, and for less than ten seconds."""
    if every == "off":
        return None
    match = _EVERY.fullmatch(every)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if seconds < 10:
        raise ValueError(every)
    return seconds
