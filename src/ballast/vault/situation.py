"""What a run of `ballast protect` has to do, given what the vault holds and what the server is now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ballast.errors import ConfigError
from ballast.postgres.lsn import format_lsn
from ballast.postgres.replication import Identity
from ballast.vault import continuation
from ballast.vault.ancestry import Descent
from ballast.vault.continuation import Fork, Origin, SlotLost
from ballast.vault.differences import Difference
from ballast.vault.records import Relation, Shared, TenantRule
from ballast.vault.slot import SlotState
from ballast.vault.tenancy import TenantMap

Kind = Literal[
    "begin",  # nothing is protected yet
    "keep",  # all is as it should be
    "repair",  # our objects on the server were changed: put right, and imaged again by the recorder
    "rebase",  # the record breaks off here: a new slot and image on the same timeline, a gap in between
    "fork",  # another server, or one that lacks recorded commits: a timeline of its own
]

_BLINDING = frozenset({"publication", "event_trigger", "coverage"})


class Situation(msgspec.Struct, frozen=True):
    """What is to be done, and why."""

    kind: Kind
    why: tuple[str, ...] = ()
    timeline: int = 0
    """The newest timeline of the vault; 0: none."""
    until: int = 0
    """The cut before which everything of it is recorded."""
    blind: bool = False
    """With `repair`: changes may have been missed, so that rows must be imaged again."""
    descent: Descent | None = None
    """With `fork`: where the new timeline comes from; None: from nothing that is recorded."""


class Seen(msgspec.Struct, frozen=True):
    """The server as it is."""

    identity: Identity
    left_at: int | None
    """Where it left its own timeline that was recorded last; None: it did not."""
    slot: SlotState | None
    spooled: int
    """The cut before which everything is in the vault or the spool; read after the slot."""
    differences: tuple[Difference, ...]
    """Between what was noted at `protect` and now."""
    unpublished: tuple[str, ...]
    unsettled: tuple[str, ...]
    """Tables whose replica identity does not do."""
    installed: bool


def judge(
    origin: Origin | None,
    seen: Seen,
    in_force: Mapping[int, TenantRule],
    mapping: TenantMap,
    slot_name: str,
) -> Situation:
    """`in_force`: oid → rule of every recorded table, in the newest schema version. ConfigError for another database."""
    if origin is None:
        return Situation("begin")
    if seen.identity.database != origin.database:
        raise ConfigError(
            f"The DSN leads to database {seen.identity.database}, and the vault holds the history of {origin.database}.",
            "Correct the DSN, or give that database a vault, a state folder and a ballast.toml of its own.",
        )
    timeline, until = origin.timeline, origin.recorded_until
    try:
        missing = continuation.examine(
            origin, max(until, seen.spooled), seen.identity, seen.slot, left_at=seen.left_at, slot_name=slot_name
        )
    except Fork as fork:
        return Situation("fork", (fork.what,), timeline, until)
    except SlotLost as lost:
        return Situation("rebase", (lost.what,), timeline, until)
    if missing is not None:
        why = (
            f"The slot {slot_name} begins at {format_lsn(missing.to_lsn)}, after {format_lsn(missing.from_lsn)}, up to"
            " which it is recorded."
        )
        return Situation("rebase", (why,), timeline, until)
    moved = changed_rules(in_force, mapping)
    if moved:
        return Situation(
            "rebase", tuple(f"Table {name} has another tenant rule now." for name in moved), timeline, until
        )
    reasons = [f"{d.text}." for d in seen.differences if d.kind in _BLINDING]
    reasons += [f"Table {name} is not published." for name in seen.unpublished]
    if not seen.installed:
        reasons.append("The schema ballast on production is gone, or was made by an older version.")
    blind = bool(reasons)
    reasons += [f"Table {name} needs another replica identity." for name in seen.unsettled]
    return Situation("repair" if reasons else "keep", tuple(reasons), timeline, until, blind)


def changed_rules(in_force: Mapping[int, TenantRule], mapping: TenantMap) -> list[str]:
    """Tables whose recorded rows lie under other tenants than the configuration says now."""
    moved = []
    for answer in mapping.answers:
        before, now = in_force.get(answer.table.oid), mapping.rules.get(answer.table.oid)
        if before is None or now is None or before == now:
            continue
        if not (isinstance(before, Shared) and isinstance(now, Shared)):
            moved.append(answer.table.qualified)
    return moved


def rules_of(relations: Iterable[Relation]) -> dict[int, TenantRule]:
    """oid → rule."""
    return {r.oid: r.tenant for r in relations}
