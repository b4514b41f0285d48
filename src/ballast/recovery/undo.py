"""`undo`: what some transactions changed is reversed, for all tenants that they touched or for some, in one transaction.

The record gives each row as it was just before each transaction and just after it. Deleted rows come back, inserted ones go,
updated ones become what they were. A row that later changes touched is a conflict (`reversal.py`): by default nothing
is done then. A row that was changed and changed back is none, since only what stands is looked at. Rows are locked and
changed as in a rewind (`amend.py`), with the same guarantees beside concurrent writes. The structure is not undone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ballast.errors import ConfigError, RestoreError
from ballast.recovery import amend, roster
from ballast.recovery.amend import Attempt, until_done
from ballast.recovery.checks import broken
from ballast.recovery.copying import Lines, Step, converse, in_servers_words
from ballast.recovery.difference import Standing
from ballast.recovery.done import Done, Found, find
from ballast.recovery.livetable import LiveTable, standing
from ballast.recovery.ranking import UNDOING
from ballast.recovery.reached import reached
from ballast.recovery.restore import Restorer
from ballast.recovery.reversal import Conflict, OnConflict, Reversal, reversal
from ballast.recovery.rewind import elsewhere, position_on
from ballast.recovery.rewound import Left, OfTenant, Rewound, key_values, told
from ballast.recovery.rights import require_rights
from ballast.vault import Vault

_NAMED = 3
_AT_ONCE = 20
"""So many positions find room in what the record tells of an actor."""
_BY = 100
"""Characters of a name."""


class Undoing(msgspec.Struct, frozen=True):
    """What is to be undone, and how."""

    transactions: tuple[str, ...]
    """Their numbers or positions."""
    on_conflict: OnConflict = "refuse"
    dry_run: bool = False
    by: str = ""
    """Who asks for it."""
    reason: str = ""
    tenants: tuple[str, ...] | None = None
    """Only their rows; None: all that were touched, and the shared ones."""
    counters: tuple[str, ...] = ()
    """Columns (`schema.table.column`) that count: see `reversal.merged`."""


def undo(vault: Vault, dsn: str, asked: Undoing, *, state_dir: Path | None = None) -> Rewound:
    """Reverses transactions in the database of `dsn`, or (`dry_run`) says what that would do.

    Rows for which it was done already are left out, as far as the record tells: counters must not go back twice. So merging
    waits until the vault has all that was committed before (`state_dir`: the recorder's, if it is on this machine).

    RestoreError with nothing changed: conflicts where they are to be refused (a dry run tells them in its answer), tables
    that a transaction dropped or changed, or that are gone since, missing rights, foreign keys that would not hold.
    ConfigError, GapError for a transaction that is not there, a tenant that none touched, a counter that is no column."""
    started = time.monotonic()
    if len(asked.transactions) > _AT_ONCE:
        raise ConfigError(
            f"{len(asked.transactions)} transactions are more than are undone at once: {_AT_ONCE}.",
            "Undo the newest of them first.",
        )
    with Restorer(vault, dsn) as server, in_servers_words():
        catalog = server.catalog()
        if asked.on_conflict == "merge" and not elsewhere(vault, catalog):
            _until_recorded(vault, server, dsn, state_dir)
        found = find(vault, asked.transactions, asked.tenants)
        done = Done(vault, found, catalog)
        counters = _Counters(asked.counters, done.tables)
        roster.refuse_missing(server.connection, done.tenants)
        if not asked.dry_run:
            needs = amend.needs_of(done.target, [table.table.oid for table in done.tables])
            require_rights(server.connection, catalog, needs, create=False)
        undone = until_done(server.connection, lambda how: _try(vault, server, done, found, counters, asked, how))
    warnings = elsewhere(vault, catalog)
    return msgspec.structs.replace(
        undone,
        before=undone.before if not warnings else None,
        warnings=(*warnings, *_structure(found)),
        elapsed_s=time.monotonic() - started,
    )


def _try(
    vault: Vault,
    server: Restorer,
    done: Done,
    undone: Sequence[Found],
    counters: _Counters,
    asked: Undoing,
    how: Attempt,
) -> Rewound:
    conn = server.connection
    begun = amend.looking() if asked.dry_run else amend.opening(done.tenants)
    looks = [done.looks(table, lock=how.locks and not asked.dry_run) for table in done.tables]
    steps: list[Step] = [*begun, *(Lines(look) for each in looks for look in each)]
    answers = iter(converse(conn, steps)[len(begun) :])
    found: list[tuple[LiveTable, Reversal]] = []
    for table, each in zip(done.tables, looks, strict=True):
        rows = [row for _ in each for row in standing(next(answers))]
        turned = _turned(conn, done, table, rows, counters, asked.on_conflict)
        found.append((table, turned))
    conflicts = [_left(table, conflict) for table, turned in found for conflict in turned.conflicts]
    if conflicts and asked.on_conflict == "refuse" and not asked.dry_run:
        raise _conflicting(undone, conflicts)
    parts = [(table, each.difference) for table, each in found if not each.difference.is_nothing]
    rewound = Rewound(
        False,
        tuple(told(table, difference) for table, difference in parts),
        _actor(asked, undone),
        0.0,
        tries=how.number,
        conflicts=tuple(conflicts),
        already=done.undone + sum(each.already for _, each in found),
        by_tenant=_by_tenant(found),
    )
    if asked.dry_run or not parts:
        amend.roll_back(conn)
        return rewound
    if how.replaces:
        parts = [(table, difference.without_changes()) for table, difference in parts]
    amended = amend.amend(conn, done.target, parts, rewound.actor)
    before = position_on(vault, amended.before_lsn)
    return msgspec.structs.replace(rewound, done=True, xid=amended.xid, before=before)


def _until_recorded(vault: Vault, server: Restorer, dsn: str, state_dir: Path | None) -> None:
    """An earlier undo of the same transactions may have been committed a moment ago."""
    row = server.connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
    server.connection.rollback()
    assert row is not None
    reached(vault, position_on(vault, int(row[0])), dsn=dsn, state_dir=state_dir)


def _turned(
    conn: psycopg.Connection[Any],
    done: Done,
    table: LiveTable,
    rows: Sequence[Standing],
    counters: _Counters,
    on_conflict: OnConflict,
) -> Reversal:
    """Where merging would lead to rows that the table refuses, they are merged less, or not at all."""
    barred = frozenset[bytes]()
    while True:
        turned = reversal(done.of(table), rows, table.key, on_conflict, counters.of(table), barred)
        merged = [conflict.merged for conflict in turned.conflicts if conflict.merged is not None]
        refused = broken(conn, table, merged) if merged else frozenset[bytes]()
        if not refused:
            return turned
        barred |= refused


class _Counters:
    """Which columns count, by table."""

    def __init__(self, named: Sequence[str], tables: Sequence[LiveTable]) -> None:
        self._named: dict[str, set[str]] = {}
        for name in named:
            table, _, column = name.rpartition(".")
            self._named.setdefault(table, set()).add(column)
        for live in tables:
            unknown = self._named.get(live.title, set()) - set(live.columns)
            if unknown:
                raise ConfigError(
                    f"{live.title} has no column {min(unknown)}, which is named as a counter.",
                    "Correct [tenants] counters in ballast.toml, or --counter.",
                )

    def of(self, table: LiveTable) -> frozenset[int]:
        """Positions in the table's lines."""
        names = self._named.get(table.title, set())
        return frozenset(position for position, name in enumerate(table.columns) if name in names)


def _left(table: LiveTable, conflict: Conflict) -> Left:
    before, made, found, becomes = (
        table.values(line) if line is not None else None
        for line in (conflict.before, conflict.made, conflict.found, conflict.becomes)
    )
    mergeable = conflict.merged is not None
    return Left(
        table.title,
        key_values(table, conflict.line),
        made,
        found,
        before,
        becomes,
        table.tenant(conflict.line),
        mergeable,
    )


def _by_tenant(found: Iterable[tuple[LiveTable, Reversal]]) -> tuple[OfTenant, ...]:
    put_back, merged, left = (Counter[str | None]() for _ in "123")
    for table, turned in found:
        kept = {conflict.becomes for conflict in turned.conflicts}
        change = turned.difference
        for line in (*change.back, *(c.line for c in change.changes), *(row.line for row in change.gone)):
            if line not in kept:
                put_back[table.tenant(line)] += 1
        for conflict in turned.conflicts:
            (left if conflict.becomes == conflict.found else merged)[table.tenant(conflict.line)] += 1
    names = sorted(put_back.keys() | merged.keys() | left.keys(), key=lambda name: (name is None, name))
    return tuple(OfTenant(name, put_back[name], merged[name], left[name]) for name in names)


def _structure(found: Sequence[Found]) -> Iterator[str]:
    for each in found:
        if each.transaction.tag is not None:
            yield (
                f"transaction {each.transaction.xid} also changed the structure ({each.transaction.tag}): that is not undone"
            )


def _conflicting(undone: Sequence[Found], conflicts: Sequence[Left]) -> RestoreError:
    shown = "; ".join(f"{left.table} {_key(left)}" for left in conflicts[:_NAMED])
    more = f" and {len(conflicts) - _NAMED:,} more" if len(conflicts) > _NAMED else ""
    mergeable = sum(left.mergeable for left in conflicts)
    return RestoreError(
        f"later changes touched {len(conflicts):,} of the rows that {_names(undone)} changed: {shown}{more}",
        "Nothing was changed. See what happened to them (--dry-run), then choose: --on-conflict merge undoes what it can and"
        f" keeps the later changes beside it ({mergeable:,} of these rows), --on-conflict skip leaves these rows as they are,"
        " --on-conflict force makes them what they were before.",
    )


def _key(left: Left) -> str:
    values = left.key or left.made or left.found or {}
    return "(" + ", ".join(f"{name} = {value}" for name, value in values.items()) + ")"


def _names(undone: Sequence[Found]) -> str:
    numbers = [f"{each.transaction.xid} ({each.transaction.position})" for each in reversed(undone)]
    return f"transaction{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"


def _actor(asked: Undoing, undone: Sequence[Found]) -> str:
    whose = f" for {len(asked.tenants):,} tenants" if asked.tenants is not None else ""
    said = f"{(asked.by or 'ballast')[:_BY]}, {UNDOING}{_names(undone).removeprefix('transaction')}{whose}"
    return f"{said}: {asked.reason}" if asked.reason else said
