"""One recorded transaction: found by its number or position, with whose rows of which tables it touched."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import pyarrow.compute as pc

from ballast.errors import ConfigError, GapError
from ballast.postgres.lsn import format_lsn, parse_lsn
from ballast.recovery.ranking import UNDOING, undone_by
from ballast.vault import Vault
from ballast.vault.moment import show
from ballast.vault.read import warm
from ballast.vault.records import Cut, Segment

_POSITION = re.compile(r"(?:(\d{1,9})/)?([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")
_XID_BITS = 32


class Transaction(msgspec.Struct, frozen=True):
    """A committed transaction, as the record has it."""

    timeline: int
    lsn: int
    xid: int
    committed_at: datetime
    actor: str | None
    tag: str | None
    """The DDL command in it, if there was one."""

    @property
    def position(self) -> str:
        """As `history` and `changes` show it, and `--at` takes it: just before the transaction."""
        return f"{self.timeline}/{format_lsn(self.lsn)}"

    @property
    def before(self) -> Cut:
        """The cut that leaves it out, with all before it."""
        return Cut(self.timeline, self.lsn)

    @property
    def after(self) -> Cut:
        """The cut that has it, and nothing after it."""
        return Cut(self.timeline, self.lsn + 1)


class Touched(msgspec.Struct, frozen=True):
    """What a transaction wrote to: relations (numbers) by tenant (None: shared rows)."""

    by_tenant: Mapping[str | None, frozenset[int]]
    truncated: frozenset[int]
    """Relations that it emptied, everybody's rows with them."""

    @property
    def relations(self) -> frozenset[int]:
        """All of them."""
        return self.truncated.union(*self.by_tenant.values())


def find_transaction(vault: Vault, named: str) -> tuple[Transaction, Segment]:
    """The transaction of this number (xid, the newest of that number) on the newest timeline, or of position `[timeline/]X/Y`.

    Numbers begin anew on a recovered server: one that only an earlier timeline has may be another transaction than the one
    that is meant, whose commit is not recorded yet. ConfigError, which tells its position; also for what is neither.
    GapError for one that the vault does not have."""
    text = named.strip()
    if position := _POSITION.fullmatch(text):
        timeline = int(position[1]) if position[1] else vault.index.newest_timeline
        column, value = "lsn", parse_lsn(position[2])
    elif text.isdecimal():
        # The stream has 32 bits of it; pg_current_xact_id() shows more.
        timeline, column, value = vault.index.newest_timeline, "xid", int(text) % (1 << _XID_BITS)
    else:
        raise ConfigError(
            f"{named!r} is neither a transaction's number nor its position.",
            "Give one that `ballast changes` or `ballast history` shows, such as 81734 or 1/0/1A2B3C.",
        )
    until = Cut(timeline, vault.index.recorded_until(timeline))
    for part in reversed(vault.index.chain(until)):
        for segment in reversed(vault.index.segments_of(part.timeline)):
            if segment.first_lsn >= part.to_lsn or (column == "lsn" and not _within(value, segment)):
                continue
            found = _in_segment(vault, segment, column, value, part.to_lsn)
            if found is not None and column == "xid" and found.timeline != timeline:
                raise ConfigError(
                    f"timeline {timeline} has no transaction {named} up to {show(until)}; timeline {found.timeline}, before this"
                    f" server, has one, of {found.committed_at}.",
                    f"If that one is meant, give its position, {found.position}. If a new one is, wait until the recorder has"
                    " sealed it (about ten seconds).",
                )
            if found is not None:
                return found, segment
    raise GapError(
        f"The vault has no transaction {named}: it is recorded up to {show(until)}.",
        "If it is a new one, wait until the recorder has sealed it (about ten seconds); else compare with `ballast changes`.",
    )


def touched(vault: Vault, transaction: Transaction, segment: Segment) -> Touched:
    """Whose rows of which tables the transaction wrote to."""
    by_tenant: defaultdict[str | None, set[int]] = defaultdict(set)
    for run in segment.runs:
        for rows in warm(vault).open(run).slices(columns=("tenant", "relation", "lsn")):
            mine = rows.filter(pc.equal(rows["lsn"], transaction.lsn))
            for tenant, relation in set(zip(mine["tenant"].to_pylist(), mine["relation"].to_pylist(), strict=True)):
                by_tenant[tenant].add(relation)
    truncated = {n for t in segment.truncations if t.lsn == transaction.lsn for n in t.relations}
    return Touched({tenant: frozenset(numbers) for tenant, numbers in by_tenant.items()}, frozenset(truncated))


def undoers(vault: Vault, transaction: Transaction) -> list[str]:
    """Positions of the transactions that undid this one, or some tenants' part of it, the oldest first."""
    newest = vault.index.newest_timeline
    found: list[str] = []
    for part in vault.index.chain(Cut(newest, vault.index.recorded_until(newest))):
        for segment in vault.index.segments_of(part.timeline):
            if segment.timeline == transaction.timeline and segment.last_lsn <= transaction.lsn:
                continue
            table = vault.transactions(segment)
            if segment.timeline < transaction.timeline or table is None:
                continue
            for row in table.filter(pc.match_substring(table["actor"], UNDOING)).to_pylist():
                if row["lsn"] < part.to_lsn and transaction.position in undone_by(row["actor"]):
                    found.append(f"{segment.timeline}/{format_lsn(row['lsn'])}")
    return found


def _within(lsn: int, segment: Segment) -> bool:
    return segment.first_lsn <= lsn < segment.last_lsn


def _in_segment(vault: Vault, segment: Segment, column: str, value: int, until: int) -> Transaction | None:
    table = vault.transactions(segment)
    if table is None:
        return None
    found = table.filter(pc.and_(pc.equal(table[column], value), pc.less(table["lsn"], until)))
    if not found.num_rows:
        return None
    row: dict[str, Any] = max(found.to_pylist(), key=lambda each: each["lsn"])
    names = ("lsn", "xid", "committed_at", "actor", "tag")
    return Transaction(segment.timeline, *(row[name] for name in names))
