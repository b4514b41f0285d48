"""Whether a stream may go on where the spool ends: asked at every connection, before the first byte. Pure."""

from __future__ import annotations

import msgspec

from ballast.errors import ProtectionError
from ballast.postgres.lsn import format_lsn, parse_lsn
from ballast.postgres.replication import Identity
from ballast.vault.slot import SlotState


class Origin(msgspec.Struct, frozen=True):
    """What is recorded: a timeline of a vault, and the server and database that it is the history of."""

    vault_id: str
    timeline: int
    system_identifier: str
    database: str
    recorded_until: int
    """The cut before which everything is in the vault."""


class Fork(ProtectionError):
    """The server does not continue the history that was recorded. Nobody but a person can say what to do."""


class SlotLost(ProtectionError):
    """The slot is missing, or the server has thrown away what it was to keep."""


class SlotTaken(ProtectionError):
    """Another recorder reads the slot just now; what it was sent is not missing."""


class Missing(msgspec.Struct, frozen=True):
    """The server will not send what lies between these cuts: a gap."""

    from_lsn: int
    to_lsn: int


_DECIDE = (
    "If this is a server restored or promoted from a copy, the vault holds commits that it lacks: run "
    "`ballast protect` on it to begin a new timeline. If the dsn is wrong, correct it. Nothing recorded is touched."
)


def examine(
    origin: Origin,
    durable: int,
    server: Identity,
    slot: SlotState | None,
    *,
    left_at: int | None,
    slot_name: str,
) -> Missing | None:
    """None: the stream continues at `durable`. `left_at`: where the server left the timeline that was recorded last
    (None: it is still on it). Fork, SlotLost."""
    if server.system_identifier != origin.system_identifier:
        raise Fork(
            f"The server is another one: its system identifier is {server.system_identifier}, and timeline "
            f"{origin.timeline} of the vault is the history of {origin.system_identifier}.",
            _DECIDE,
        )
    if server.database != origin.database:
        raise Fork(
            f"The dsn leads to the database {server.database}, and timeline {origin.timeline} of the vault is the "
            f"history of {origin.database}.",
            "Correct the dsn, or run `ballast protect` for that database with a vault and a state_dir of its own.",
        )
    if left_at is not None and left_at < durable:
        raise Fork(
            f"The server was promoted at {format_lsn(left_at)}, and commits up to {format_lsn(durable)} were recorded "
            "from the one before it: it lacks them.",
            _DECIDE,
        )
    if server.flush_lsn < durable:
        raise Fork(
            f"The server's log ends at {format_lsn(server.flush_lsn)}, before {format_lsn(durable)}, up to which it "
            "was recorded: it lacks commits that the vault has.",
            _DECIDE,
        )
    if slot is None:
        raise SlotLost(
            f"The replication slot {slot_name} is gone from production: NOT PROTECTED.",
            "Find out who dropped it, then run `ballast protect` again: it takes a new image, and what was in between "
            "is a gap.",
        )
    if slot.lost:
        raise SlotLost(
            f"Production has invalidated the replication slot {slot_name} (wal_status lost): NOT PROTECTED.",
            "Raise max_slot_wal_keep_size, drop the slot and run `ballast protect` again: it takes a new image, and "
            "what was in between is a gap.",
        )
    return Missing(durable, slot.confirmed_flush) if slot.confirmed_flush > durable else None


def left_timeline(history: str, timeline: int) -> int | None:
    """Where a server left `timeline`, by its timeline history file; None where that was never its own."""
    for line in history.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] == str(timeline):
            return parse_lsn(fields[1])
    return None
