"""The recovered server is protected itself, before its first tenant is back: from its first new commit on nothing is lost twice.

The slot is made when structure, gate and shared rows stand and no tenant's row does. So the comparison with the record, on which
the new timeline stands (see the vault's `inheritance`), takes no time; rows that come back are left out of the stream by
their origin; and what the application commits is held by the slot until the recorder reads it.

Should somebody have written before the slot was there (a new tenant; a shared table), the platform is not kept waiting for
that: it opens unprotected, says so, and is protected when all are back, with an image of the tables that differ.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ballast.errors import ProtectionError
from ballast.recovery.watcher import Onlooker
from ballast.vault.config import Config
from ballast.vault.failpoints import reach
from ballast.vault.protect import protect


class Protecting(msgspec.Struct, frozen=True):
    """By whom the new server is to be protected."""

    settings: Config
    """The recorder's, with the new server's DSN."""
    config_path: Path
    """The file is changed when the server is protected."""
    dsn: str
    """The same, perhaps with a password, which is used and never written."""


def at_opening(wanted: Protecting, onlooker: Onlooker) -> str | None:
    """The server is protected, or why it is not yet; tenants' rows are still away. What `protect` raises but for ProtectionError.

    The first origin is there by then (`mark.announce`). Run again it finds what is done."""
    try:
        at_end(wanted, onlooker)
    except ProtectionError as refused:
        onlooker.say(f"NOT PROTECTED yet: {refused.what}")
        return refused.what
    return None


def at_end(wanted: Protecting, onlooker: Onlooker) -> None:
    """The server is protected. ProtectionError, ServerError, StoreError, ConfigError: the next call goes on."""
    onlooker.begin("protection", 0)
    outcome = protect(wanted.settings, wanted.config_path, wanted.dsn, onlooker)
    reach("recover.protected")
    onlooker.say(
        f"protected: timeline {outcome.timeline}, from position {outcome.position}. Start the recorder now: ballast record"
        f" --config {wanted.config_path}"
    )
