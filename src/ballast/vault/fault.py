"""What `verify` finds: each fault names one entry or object, what is wrong with it, and who is hurt."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ballast.postgres.lsn import format_lsn
from ballast.vault.records import RunRef


class Kind(StrEnum):
    """The sorts of fault; the first eight are about the ledger."""

    KEY = "foreign key"
    """The ledger is signed throughout, but with another key than this recorder's."""
    ENTRY_MISSING = "entry missing"
    ENTRY_CHANGED = "entry changed"
    """An entry is not what was signed: edited, moved to another number, or forged."""
    CHAIN = "chain broken"
    """An entry is signed, but is not the one that its successor or the recorder's own head knows."""
    TAIL_MISSING = "tail missing"
    POSITION = "position"
    """An entry speaks of a timeline, position or schema version that cannot be."""
    HOLE = "hole"
    """Changes between two positions are not in the vault, and no gap says so."""
    OVERLAP = "overlap"
    """Changes between two positions are in the vault twice."""
    MISSING = "object missing"
    CUT_SHORT = "object cut short"
    CHANGED = "object changed"
    MISPLACED = "object misplaced"
    """An object holds the content of another."""
    STRAY = "stray object"
    """No entry names it."""
    CONTENT = "content"
    """An object is as it was put, but not what its entry says of it."""
    MERGE = "merge"
    """A merge does not hold what it rearranges."""
    UNREACHABLE = "unreachable"
    """The store did not answer: nothing is known about this object."""


class Harm(msgspec.Struct, frozen=True):
    """What depends on a damaged entry or object; None: cannot be told, or all."""

    timeline: int | None = None
    from_lsn: int | None = None
    to_lsn: int | None = None
    """Changes with from_lsn <= commit LSN < to_lsn; equal to `from_lsn` for whole rows as of that cut."""
    tenants: tuple[str | None, str | None] | None = None
    """The smallest and largest tenant concerned, as in `RunRef` (None: shared rows)."""
    bucket: int | None = None
    relations: tuple[int, ...] | None = None

    def __str__(self) -> str:
        parts = []
        if self.timeline is not None and self.from_lsn is not None:
            place = f"{self.timeline}/{format_lsn(self.from_lsn)}"
            if self.to_lsn is not None and self.to_lsn != self.from_lsn:
                place += f" to {self.timeline}/{format_lsn(self.to_lsn)}"
            parts.append(place)
        if self.tenants is not None:
            parts.append(_tenants(*self.tenants))
        elif self.bucket is not None:
            parts.append(f"tenants of bucket {self.bucket}")
        if self.relations:
            parts.append("relations " + ", ".join(map(str, self.relations)))
        return "; ".join(parts)

    def of(self, run: RunRef) -> Harm:
        """The same, narrowed to what one run holds."""
        return msgspec.structs.replace(
            self, tenants=(run.min_tenant, run.max_tenant), relations=run.relations, bucket=run.bucket
        )


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    kind: Kind
    what: str
    """Name of the object or ledger entry."""
    where: str
    """What of the vault is hurt, for people; "" where nothing is or it cannot be told."""
    explanation: str
    harm: Harm = Harm()

    def __str__(self) -> str:
        hurts = f" Hurt: {self.where}." if self.where else ""
        return f"{self.what}: {self.explanation}{hurts}"


class Report(msgspec.Struct, frozen=True):
    """The outcome of `verify`."""

    faults: tuple[Fault, ...]
    counts: dict[str, int]
    """What was looked at: entries, objects, bytes, rows, …"""

    @property
    def sound(self) -> bool:
        """Whether everything agrees."""
        return not self.faults


def fault(kind: Kind, what: str, explanation: str, harm: Harm | None = None) -> Fault:
    """A fault whose `where` is the harm in words."""
    harm = harm or Harm()
    return Fault(kind, what, str(harm), explanation, harm)


def _tenants(low: str | None, high: str | None) -> str:
    if low is None and high is None:
        return "shared rows"
    if low == high:
        return f"tenant {low!r}"
    if low is None:
        return f"shared rows and tenants up to {high!r}"
    return f"tenants {low!r} to {high!r}"
