"""What the imager read in production's catalog for the sealer: `<state>/catalog.json`, there until the sealer has used it.

The sealer never asks production itself. A snapshot whose position is known has to wait for the transactions that run, and
with `acknowledge = "store"` these wait for the sealer in turn.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ballast.vault.durable import remove_file, replace_file
from ballast.vault.tables import TableFacts

CATALOG_FILE = "catalog.json"
WISH_ID = "catalog"


class CatalogRead(msgspec.Struct, frozen=True):
    """All tables as of a cut, read from production where the stream did not say enough."""

    lsn: int
    tables: tuple[TableFacts, ...]
    timeline: int = 0


def is_there(state_dir: Path) -> bool:
    """Whether the sealer has yet to use one."""
    return (state_dir / CATALOG_FILE).exists()


def leave(state_dir: Path, found: CatalogRead) -> None:
    """Durable when this returns."""
    replace_file(state_dir / CATALOG_FILE, msgspec.json.encode(found))


class Inbox:
    """The sealer's side."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / CATALOG_FILE
        self._seen = 0

    def look(self) -> CatalogRead | None:
        """What has come since the last look. What nobody can read is dropped: it is asked for again."""
        try:
            changed = self._path.stat().st_mtime_ns
            if changed == self._seen:
                return None
            self._seen = changed
            return msgspec.json.decode(self._path.read_bytes(), type=CatalogRead)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            remove_file(self._path)
            return None

    def done(self) -> None:
        """It is used, or of no use. One that has come meanwhile stays."""
        if self._path.exists() and self._path.stat().st_mtime_ns == self._seen:
            remove_file(self._path)
