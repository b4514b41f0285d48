"""How long files of the intake that were closed are kept: all of them is merged and at home, and they hold people's addresses.

One goes when it is old enough, or when all of them together take more room than they may, the oldest first. Before it goes its
copy in the store is read back and is the same, byte by byte; nothing in it is open, and nothing in it became an exception about
which nobody has decided yet. The newest stays: the chain of hashes goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psycopg

from ballast.continuity.duplicate import Duplicate
from ballast.continuity.entries import Entry, open_entries
from ballast.continuity.intake import closed_files
from ballast.errors import BallastError
from ballast.recovery import refusals
from ballast.vault.durable import remove_file

_entries = msgspec.json.Decoder(Entry)


class Rule(msgspec.Struct, frozen=True):
    """How long they are kept."""

    days: int = 90
    most_bytes: int = 1 << 30


class Kept(msgspec.Struct, frozen=True):
    """What there is of them."""

    files: int = 0
    bytes: int = 0
    since: str = ""
    """When the last entry of the oldest was accepted."""
    because: str = ""
    """Why one that has outlived the rule is there all the same; "": there is none."""


Undecided = Callable[[], Collection[tuple[str, str]]]
"""Tenant and key of everything about which nobody has decided yet. BallastError, psycopg.Error: it cannot be told just now."""


def undecided(dsn: str, query: str) -> Collection[tuple[str, str]]:
    """What was refused at home and is open, and what the application's `query` tells beside that."""
    found = {(refusal.tenant, refusal.key) for refusal in refusals(dsn)}
    if query:
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute("SET row_security = off")  # what a policy hides is not decided: that is an error then
            found |= {(str(tenant), str(key)) for tenant, key in conn.execute(query.encode()).fetchall()}
    return found


def forget(folder: Path, rule: Rule, copy: Duplicate, open_ones: Undecided, now: datetime | None = None) -> Kept:
    """Removes those of the intake in `folder` that have outlived `rule`; what is left. BallastError, OSError: try again."""
    now, because = now or datetime.now(UTC), ""
    waiting: Collection[tuple[str, str]] | None = None
    for path in outlived(folder, rule, now):
        if waiting is None:
            try:
                waiting = open_ones()
            except (BallastError, psycopg.Error) as error:
                return look(folder, f"it cannot be told whether somebody has to decide about something in it: {error}")
        why = _needed(path.read_bytes(), copy, waiting)
        if why:
            because = because or f"{path.name}: {why}"
        else:
            remove_file(path)
    return look(folder, because)


def _needed(data: bytes, copy: Duplicate, waiting: Collection[tuple[str, str]]) -> str:
    """Why somebody may still need it; "": nobody does."""
    entries = [_entries.decode(line) for line in data.splitlines()]
    mine = [entry for entry in entries if (entry.tenant, entry.key) in waiting]
    if open_entries(entries):
        return "something in it is not at home"
    if mine:
        return f"nobody has decided about {mine[0].kind} {mine[0].key} of {mine[0].tenant}"
    return "" if copy.holds(data) else "its copy in the store is not the same"


def outlived(folder: Path, rule: Rule, now: datetime) -> list[Path]:
    """The oldest first. The newest never is."""
    files = closed_files(folder)
    total = sum(path.stat().st_size for path in files)
    found = []
    for path in files[:-1]:
        size, at = path.stat().st_size, _time(path)
        if now - at > timedelta(days=rule.days) or total > rule.most_bytes:
            found.append(path)
            total -= size
    return found


def look(folder: Path, because: str = "") -> Kept:
    """What there is."""
    files = closed_files(folder)
    size = sum(path.stat().st_size for path in files)
    return Kept(len(files), size, _time(files[0]).isoformat(timespec="seconds") if files else "", because)


def _time(path: Path) -> datetime:
    """When it was last written to: a file that is closed keeps that."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)
