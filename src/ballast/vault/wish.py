"""What is asked of the vault's writers by others: a gap to be written down, a new image, dump or reading of the catalog.

A wish is one small file in `<state>/wishes/`, durable before `leave` returns, and removed by whoever has granted it; so
it survives a crash of either side. The guardian (which never touches the vault) and the sealer leave them;
the sealer writes their gaps into the ledger, and the imager grants them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from ballast.vault.durable import make_folder, remove_file, replace_file
from ballast.vault.health import now_iso

_FOLDER = "wishes"

Kind = Literal[
    "image",  # rows are not exact in the vault: take them anew (and close the gap of this wish)
    "dump",  # the structure has changed: pg_dump
    "catalog",  # the stream did not say enough of the structure: read the catalog
    "seal",  # seal up to `to_lsn` now, even where nothing but the canary is in it
]

DUMP_NOW = "dump-now"
"""Name of a wish for a dump that somebody waits for; others wait where dumps come one after the other."""
FOR_IMAGER: frozenset[Kind] = frozenset({"image", "dump", "catalog"})


class Wish(msgspec.Struct, frozen=True):
    """One thing to be done, and why."""

    id: str
    """Also the `gap_id` of the gap that it closes, where `from_lsn` is not None."""
    kind: Kind
    timeline: int
    reason: str
    wished_at: str
    oids: tuple[int, ...] | None = None
    """Tables concerned; None: all."""
    from_lsn: int | None = None
    """From this cut on the record of these tables is not to be trusted: a gap, until an image is taken."""
    to_lsn: int | None = None
    """Nothing before this cut can be had any more (a slot that moved on): the image must be taken after it."""
    held: bool = False
    """Capture is still broken: the gap is to be written down, and an image would not close it yet."""


def leave(
    state_dir: Path | str,
    kind: Kind,
    timeline: int,
    reason: str,
    *,
    oids: Iterable[int] | None = None,
    from_lsn: int | None = None,
    to_lsn: int | None = None,
    id: str = "",
    held: bool = False,
) -> Wish:
    """Ask for something, durably. With an `id` of the caller's own, asking twice is asking once."""
    wish = Wish(
        id or secrets.token_hex(8), kind, timeline, reason, now_iso(),
        None if oids is None else tuple(sorted(oids)), from_lsn, to_lsn, held,
    )  # fmt: skip
    path = _path(state_dir, wish.id)
    if not path.exists():
        make_folder(path.parent)
        replace_file(path, msgspec.json.encode(wish))
    return wish


def release(state_dir: Path | str, wish_id: str) -> None:
    """What was held may be granted from now on; nothing happens where there is no such wish."""
    for wish in pending(state_dir):
        if wish.id == wish_id and wish.held:
            replace_file(_path(state_dir, wish_id), msgspec.json.encode(msgspec.structs.replace(wish, held=False)))


def pending(state_dir: Path | str) -> list[Wish]:
    """What was asked for and is not granted yet, oldest first."""
    waiting = folder(state_dir)
    found = []
    for path in waiting.glob("*.json") if waiting.is_dir() else ():
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Wish))
        except FileNotFoundError:
            continue
    return sorted(found, key=lambda wish: (wish.wished_at, wish.id))


def granted(state_dir: Path | str, wish: Wish) -> None:
    """It is done, and what it led to is in the ledger."""
    remove_file(_path(state_dir, wish.id))


def folder(state_dir: Path | str) -> Path:
    """Where they lie."""
    return Path(state_dir) / _FOLDER


def _path(state_dir: Path | str, wish_id: str) -> Path:
    return folder(state_dir) / f"{wish_id}.json"
