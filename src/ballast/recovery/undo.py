"""`undo`: what one transaction changed is reversed, for all tenants that it touched, in one transaction.

The record gives each row as it was just before the transaction and just after it. Deleted rows come back, inserted ones go,
updated ones become what they were. A row that later changes touched is a conflict (`reversal.py`): by default nothing
is done then. A row that was changed and changed back is none, since only what stands is looked at. Rows are locked and
changed as in a rewind (`amend.py`), with the same guarantees beside concurrent writes. The structure is not undone.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ballast.errors import GapError, RestoreError
from ballast.recovery import amend, roster
from ballast.recovery.amend import Attempt, until_done
from ballast.recovery.copying import Lines, Step, converse, in_servers_words
from ballast.recovery.livetable import LiveTable, standing
from ballast.recovery.named import as_named_now
from ballast.recovery.restore import Restorer
from ballast.recovery.reversal import Effect, OnConflict, Reversal, effects, joined, reversal
from ballast.recovery.rewind import elsewhere, lines_of, position_on
from ballast.recovery.rewound import Left, Rewound, key_values, told
from ballast.recovery.rights import require_rights
from ballast.recovery.target import Target
from ballast.recovery.transaction import Touched, Transaction, find_transaction, touched
from ballast.vault import Vault, read_rows, tenants
from ballast.vault.buckets import bucket_of
from ballast.vault.records import Cut, Relation

_ONE_BY_ONE = 64
"""So many tenants are read each for itself; of more, whole buckets."""
_NAMED = 3


class Undoing(msgspec.Struct, frozen=True):
    """What is to be undone, and how."""

    transaction: str
    """Its number or position."""
    on_conflict: OnConflict = "refuse"
    dry_run: bool = False
    by: str = ""
    """Who asks for it."""
    reason: str = ""


def undo(vault: Vault, dsn: str, asked: Undoing) -> Rewound:
    """Reverses a transaction in the database of `dsn`, or (`dry_run`) says what that would do.

    RestoreError with nothing changed: conflicts where they are to be refused (a dry run tells them in its answer), tables
    that the transaction dropped or changed, or that are gone since, missing rights, foreign keys that would not hold.
    ConfigError, GapError for a transaction that is not there."""
    started = time.monotonic()
    transaction, segment = find_transaction(vault, asked.transaction)
    what = touched(vault, transaction, segment)
    _refuse_inexact(vault, transaction, what)
    with Restorer(vault, dsn) as server, in_servers_words():
        catalog = server.catalog()
        done = _Done(vault, transaction, what, server)
        roster.refuse_missing(server.connection, done.tenants)
        if not asked.dry_run:
            needs = amend.needs_of(done.target, [table.table.oid for table in done.tables])
            require_rights(server.connection, catalog, needs, create=False)
        found = until_done(server.connection, lambda how: _try(vault, server, done, asked, how))
    warnings = elsewhere(vault, catalog)
    if transaction.tag is not None:
        warnings.append(f"the transaction also changed the structure ({transaction.tag}): that is not undone")
    return msgspec.structs.replace(
        found,
        before=found.before if not elsewhere(vault, catalog) else None,
        warnings=tuple(warnings),
        elapsed_s=time.monotonic() - started,
    )


def _try(vault: Vault, server: Restorer, done: _Done, asked: Undoing, how: Attempt) -> Rewound:
    conn = server.connection
    begun = amend.looking() if asked.dry_run else amend.opening(done.tenants)
    looks = [done.looks(table, lock=how.locks and not asked.dry_run) for table in done.tables]
    steps: list[Step] = [*begun, *(Lines(look) for each in looks for look in each)]
    answers = iter(converse(conn, steps)[len(begun) :])
    found: list[tuple[LiveTable, Reversal]] = []
    for table, each in zip(done.tables, looks, strict=True):
        rows = [row for _ in each for row in standing(next(answers))]
        found.append((table, reversal(done.effects[table.table.oid], rows, table.key, asked.on_conflict)))
    conflicts = [
        Left(
            table.title,
            key_values(table, conflict.effect.line),
            table.values(conflict.effect.after) if conflict.effect.after is not None else None,
            table.values(conflict.found) if conflict.found is not None else None,
        )
        for table, each_found in found
        for conflict in each_found.conflicts
    ]
    if conflicts and asked.on_conflict == "refuse" and not asked.dry_run:
        raise _conflicting(done.transaction, conflicts)
    parts = [(table, each.difference) for table, each in found if not each.difference.is_nothing]
    rewound = Rewound(
        False,
        tuple(told(table, difference) for table, difference in parts),
        _actor(asked, done.transaction),
        0.0,
        tries=how.number,
        conflicts=tuple(conflicts),
        already=sum(each.already for _, each in found),
    )
    if asked.dry_run or not parts:
        amend.roll_back(conn)
        return rewound
    if how.replaces:
        parts = [(table, difference.without_changes()) for table, difference in parts]
    amended = amend.amend(conn, done.target, parts, rewound.actor)
    before = position_on(vault, amended.before_lsn)
    return msgspec.structs.replace(rewound, done=True, xid=amended.xid, before=before)


class _Done:
    """What the transaction did, table by table of the server."""

    def __init__(self, vault: Vault, transaction: Transaction, what: Touched, server: Restorer) -> None:
        self.transaction = transaction
        self._vault, self._what = vault, what
        before, after = (vault.relations_at(cut) for cut in (transaction.before, transaction.after))
        self._refuse_dropped(what, before, after)
        catalog = server.catalog()
        now = vault.schema(max(vault.index.schemas))
        before, after = (as_named_now(relations, now, catalog) for relations in (before, after))
        chosen = {number: after[number] for number in what.relations if number in after}
        self.target = Target(catalog, after, chosen)
        if self.target.missing:
            names = ", ".join(relation.qualified for relation in self.target.missing[:5])
            raise RestoreError(
                f"the database no longer has these tables, to which the transaction wrote: {names}",
                "Create them again first, or bring single tenants back with `ballast rewind`.",
            )
        former = Target(catalog, before, {number: before[number] for number in chosen if number in before})
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for number, place in self.target.places.items():
            groups[place.table.oid].append(number)
            was = former.places.get(number)
            if was is not None and was.columns != place.columns:
                raise RestoreError(
                    f"the transaction changed the columns of {place.relation.qualified} as well as its rows",
                    "Change them back by hand and bring the rows back with `ballast rewind`, tenant by tenant.",
                )
        self.tables = [LiveTable(self.target, [self.target.places[n] for n in group]) for group in groups.values()]
        self.tenants = self._tenants()
        self.effects = self._effects(former, groups)

    def looks(self, table: LiveTable, *, lock: bool) -> list[str]:
        """Statements that give the live rows that count for one table."""
        done = self.effects[table.table.oid]
        # Without a key, what went is not looked for: it just comes back.
        lines = [effect.line for effect in done if table.key or effect.after is not None]
        return [table.look(condition, lock=lock) for condition in table.about(lines)] if lines else []

    def _tenants(self) -> Collection[str | None]:
        if not self._what.truncated:
            return self._what.by_tenant
        return {None, *self._what.by_tenant, *tenants(self._vault, self.transaction.before)}

    def _effects(self, former: Target, groups: Mapping[int, Sequence[int]]) -> dict[int, tuple[Effect, ...]]:
        found: defaultdict[int, list[Effect]] = defaultdict(list)
        keys = {table.table.oid: table.key for table in self.tables}
        for scope in self._scopes():
            before = self._lines(former, self.transaction.before, scope)
            after = self._lines(self.target, self.transaction.after, scope)
            for oid in before.keys() | after.keys():
                found[oid] += effects(before.get(oid, ()), after.get(oid, ()), keys[oid])
        return {oid: joined(found[oid], keys[oid]) for oid in groups}

    def _lines(self, target: Target, cut: Cut, scope: Mapping[str, Any]) -> Mapping[int, list[bytes]]:
        lines: defaultdict[int, list[bytes]] = defaultdict(list)
        for chunk in read_rows(self._vault, cut, relations=frozenset(target.places), **scope):
            place = target.places[chunk.relation.number]
            lines[place.table.oid] += lines_of(place.fit(chunk).buffer)
        return lines

    def _scopes(self) -> Iterator[Mapping[str, Any]]:
        """What to read of the record: the tenants, or where they are many, their buckets."""
        count = self._vault.index.genesis.buckets
        if not self._what.truncated and len(self._what.by_tenant) <= _ONE_BY_ONE:
            yield from ({"tenant": tenant} for tenant in self._what.by_tenant)
        elif self._what.truncated:
            yield from ({"bucket": bucket} for bucket in range(-1, count))
        else:
            yield from ({"bucket": b} for b in sorted({bucket_of(tenant, count) for tenant in self._what.by_tenant}))

    @staticmethod
    def _refuse_dropped(what: Touched, before: Mapping[int, Relation], after: Mapping[int, Relation]) -> None:
        dropped = sorted(relation.qualified for number, relation in before.items() if number not in after)
        if dropped:
            raise RestoreError(
                f"the transaction dropped {', '.join(dropped)}: a table is not made again by an undo",
                "Restore it into an empty database (`ballast restore --table …`), create it from there, and bring the rows back.",
            )


def _refuse_inexact(vault: Vault, transaction: Transaction, what: Touched) -> None:
    relations = vault.relations_at(transaction.before)
    for cut in (transaction.before, transaction.after):
        for number in sorted(what.relations):
            if vault.index.gap_at(cut, number):
                name = relations[number].qualified if number in relations else f"table {number}"
                raise GapError(
                    f"The record of {name} is not exact at transaction {transaction.xid} ({transaction.position}).",
                    "What it changed there is not known for certain: rewind the tenants to a moment outside of the gap.",
                )


def _conflicting(transaction: Transaction, conflicts: Sequence[Left]) -> RestoreError:
    shown = "; ".join(f"{left.table} {_key(left)}" for left in conflicts[:_NAMED])
    more = f" and {len(conflicts) - _NAMED:,} more" if len(conflicts) > _NAMED else ""
    return RestoreError(
        f"later changes touched {len(conflicts):,} of the rows that transaction {transaction.xid} changed: {shown}{more}",
        "Nothing was changed. See what happened to them (`ballast history`), then choose: --on-conflict skip leaves these rows as"
        " they are, --on-conflict force makes them what they were before the transaction.",
    )


def _key(left: Left) -> str:
    values = left.key or left.made or left.found or {}
    return "(" + ", ".join(f"{name} = {value}" for name, value in values.items()) + ")"


def _actor(asked: Undoing, transaction: Transaction) -> str:
    said = f"{asked.by or 'ballast'}, undoing transaction {transaction.xid} ({transaction.position})"
    return f"{said}: {asked.reason}" if asked.reason else said
