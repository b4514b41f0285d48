"""The replication slot on production: where it stands, and how much WAL is kept for it."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import msgspec
import psycopg

_QUERY = files("ballast.vault").joinpath("slot.sql").read_text(encoding="utf-8")

ALARM_AT = 0.5
"""Share of max_slot_wal_keep_size from which on it is an alarm: beyond the whole of it the slot is invalidated."""


class SlotState(msgspec.Struct, frozen=True):
    """The slot, as production's catalog has it at one moment."""

    wal_status: str
    """reserved, extended, unreserved or lost."""
    confirmed_flush: int
    """Cut before which the server will not send anything again (and may have forgotten it)."""
    active: bool
    held_bytes: int | None
    """WAL kept for it; None once it is lost."""
    limit_bytes: int | None
    """max_slot_wal_keep_size; None: no limit, a recorder that stays away fills production's disk."""
    server_lsn: int
    """How far production's WAL is flushed."""

    @property
    def lost(self) -> bool:
        """Whether the server has thrown away what was not recorded yet."""
        return self.wal_status == "lost"

    @property
    def alarming(self) -> bool:
        """Whether so much WAL is kept that the slot may soon be invalidated."""
        return self.wal_status in ("unreserved", "lost") or (
            self.held_bytes is not None
            and self.limit_bytes is not None
            and self.held_bytes >= ALARM_AT * self.limit_bytes
        )


def read_slot(conn: psycopg.Connection[Any], slot: str) -> SlotState | None:
    """The slot, or None if there is none of that name."""
    row = conn.execute(_QUERY.encode(), {"slot": slot}).fetchone()
    if row is None:
        return None
    wal_status, confirmed, active, held, limit, server = row
    return SlotState(wal_status or "lost", confirmed or 0, active, held, limit, server)
