"""Spool files that cannot be read: out of the way, so that what comes after them reaches the vault, and kept for people."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ballast.errors import BallastError, IntegrityError
from ballast.vault.durable import make_folder, sync_folder
from ballast.vault.spoolfiles import header, listed

FOLDER = "damaged"
_TIMELINE = re.compile(r"(\d+)-(\d{12})\.")
_MAGIC = b"BLSPOOL"


def timeline_of(path: Path) -> int:
    """By its name, which is there even where its header cannot be read."""
    match = _TIMELINE.match(path.name)
    return int(match[1]) if match else 0


def is_damage(path: Path, error: BallastError) -> bool:
    """Whether bytes of it are not as written; a file of a newer format is none such."""
    with path.open("rb") as file:
        return isinstance(error, IntegrityError) or file.read(len(_MAGIC)) != _MAGIC


def next_start(path: Path) -> int | None:
    """The cut at which the next readable file of the same timeline begins, open or closed; None if there is none."""
    folder, timeline = path.parent, timeline_of(path)
    number = next((n for n, p in listed(folder, "spool") if p == path), 0)
    later = sorted((n, p) for kind in ("spool", "open") for n, p in listed(folder, kind) if n > number)
    for _, other in later:
        if timeline_of(other) == timeline:
            try:
                return header(other).start_lsn
            except (BallastError, FileNotFoundError):
                continue
    return None


def move(path: Path, state_dir: Path) -> Path:
    """Into `<state>/damaged/`, durably; where it is now."""
    folder = state_dir / FOLDER
    make_folder(folder)
    kept, again = folder / path.name, 0
    while kept.exists():
        again += 1
        kept = folder / f"{path.name}.{again}"
    os.rename(path, kept)
    sync_folder(folder)
    sync_folder(path.parent)
    return kept
