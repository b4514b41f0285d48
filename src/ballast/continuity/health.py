"""How continuity stands, for `ballast status` and for the other processes: small files in its folder, replaced whole."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ballast.continuity.outlived import Kept
from ballast.vault import health
from ballast.vault.health import now_iso

SENTINEL_FILE, RESTORER_FILE = "sentinel.json", "restorer.json"
_STALE_S = 10.0


class Decision(msgspec.Struct, frozen=True):
    """Something that the sentinel decided."""

    at: str
    what: str


class SentinelHealth(msgspec.Struct, frozen=True):
    """Written by the sentinel every second and at each turn. Times are ISO, UTC."""

    pid: int
    written_at: str
    mode: str
    since: str = ""
    why: str = ""
    lifeboat: str = ""
    """`ready`, `launching`, `afloat`, or why it is none of these."""
    vault_away: str = ""
    """Why the record cannot be read; "": it can."""
    seen_true: bool = False
    """The application's data was there: that it is not is a loss."""
    seen_writable: bool = False
    """Home has taken writes: that it does not is a loss. One that never did is a standby that is meant to be one."""
    ours: bool = True
    """Home is a server that the platform makes and keeps running."""
    tenants: int = 0
    """Of the incident; so are the following."""
    home: int = 0
    accepted: int = 0
    """Entries that are in the intake and not at home."""
    refused: int = 0
    """Of them so many were refused at home, and are exceptions now."""
    waits_for: str = ""
    """What must happen before it goes on, and what to do."""
    trouble: str = ""
    alarm: str = ""
    """What a person must look at: the last of it, until another loss."""
    copied: int = 0
    """Number of the last entry that is in the vault's store as well."""
    closed: Kept = Kept()
    """Of what was accepted and is at home: what this machine still has."""
    kept: tuple[str, ...] = ()
    """Data folders of lost servers, which nobody but a person deletes."""
    decisions: tuple[Decision, ...] = ()
    """The last few."""


class RestorerHealth(msgspec.Struct, frozen=True):
    """Written by the restorer."""

    pid: int
    written_at: str
    stage: str
    identifier: str = ""
    """Of the new server."""
    opened: bool = False
    is_protected: bool = False
    """The new server is recorded from its first commit on, once a recorder runs."""
    tenants: int = 0
    back: int = 0
    finished: bool = False
    failures: tuple[str, ...] = ()
    error: str = ""


def write(folder: Path, name: str, found: msgspec.Struct) -> None:
    """Replace it."""
    health.write_state(folder, name, found)


def sentinel(folder: Path) -> SentinelHealth | None:
    """What the sentinel said last; None: there has never been one."""
    return health.read_state(folder, SENTINEL_FILE, SentinelHealth)


def restorer(folder: Path) -> RestorerHealth | None:
    """What the restorer said last."""
    return health.read_state(folder, RESTORER_FILE, RestorerHealth)


def is_fresh(found: SentinelHealth) -> bool:
    """Whether it was written just now."""
    from datetime import datetime

    return (datetime.fromisoformat(now_iso()) - datetime.fromisoformat(found.written_at)).total_seconds() < _STALE_S
