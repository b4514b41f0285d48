"""What some transactions did to the rows of a server's tables, read from the record: each row before and after each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ballast.errors import ConfigError, GapError, RestoreError
from ballast.postgres import Catalog
from ballast.recovery.livetable import LiveTable
from ballast.recovery.named import as_named_now
from ballast.recovery.reversal import Effect, effects, joined
from ballast.recovery.rewind import lines_of
from ballast.recovery.target import Target
from ballast.recovery.transaction import Touched, Transaction, find_transaction, touched, undoers
from ballast.vault import Vault, read_rows, tenants
from ballast.vault.buckets import bucket_of
from ballast.vault.layout import key_of
from ballast.vault.records import Cut, Relation

_ONE_BY_ONE = 64
"""So many tenants are read each for itself; of more, whole buckets."""


class Found(msgspec.Struct, frozen=True):
    """A transaction and whose rows of which tables it wrote to."""

    transaction: Transaction
    touched: Touched

    def of(self, wanted: Collection[str] | None) -> Found:
        """As far as it concerns these tenants; None: all, and the shared rows."""
        if wanted is None:
            return self
        by_tenant = {tenant: numbers for tenant, numbers in self.touched.by_tenant.items() if tenant in wanted}
        by_tenant |= {
            t: by_tenant.get(t, frozenset()) | self.touched.truncated for t in wanted if self.touched.truncated
        }
        return Found(self.transaction, Touched(by_tenant, frozenset()))

    def scopes(self, vault: Vault) -> Iterator[Mapping[str, Any]]:
        """What to read of the record: the tenants, or where they are many, their buckets."""
        count = vault.index.genesis.buckets
        if self.touched.truncated:
            yield from ({"bucket": bucket} for bucket in range(-1, count))
        elif len(self.touched.by_tenant) <= _ONE_BY_ONE:
            yield from ({"tenant": tenant} for tenant in self.touched.by_tenant)
        else:
            yield from ({"bucket": b} for b in sorted({bucket_of(tenant, count) for tenant in self.touched.by_tenant}))

    def tenants(self, vault: Vault) -> set[str | None]:
        """Whose rows it wrote to; None: shared ones."""
        if not self.touched.truncated:
            return set(self.touched.by_tenant)
        return {None, *self.touched.by_tenant, *tenants(vault, self.transaction.before)}


def find(vault: Vault, named: Sequence[str], wanted: Collection[str] | None = None) -> tuple[Found, ...]:
    """These transactions (by number or position), the newest first, as far as they concern `wanted` (see `Found.of`).

    ConfigError, GapError: one is not there; GapError: what it did is not known for certain; ConfigError for a tenant that
    none of them touched."""
    every: dict[tuple[int, int], Found] = {}
    for name in named:
        transaction, segment = find_transaction(vault, name)
        found = Found(transaction, touched(vault, transaction, segment))
        _refuse_inexact(vault, found)
        every[transaction.timeline, transaction.lsn] = found
    if not every:
        raise ConfigError("No transaction was named.", "`ballast changes` shows their numbers.")
    _refuse_untouched(vault, every.values(), wanted)
    return tuple(found.of(wanted) for _, found in sorted(every.items(), reverse=True))


class Done:
    """What they did, table by table of the server. Rows for which that was undone already are left out."""

    def __init__(self, vault: Vault, found: Sequence[Found], catalog: Catalog) -> None:
        """`found`: the newest first."""
        self.undone = 0
        """So many rows were left out."""
        self._vault, self._catalog, self._now = vault, catalog, vault.schema(max(vault.index.schemas))
        for each in found:
            _refuse_dropped(vault, each)
        newest = self._as_of(found[0].transaction.after)
        chosen = frozenset[int]().union(*(each.touched.relations for each in found))
        self.target = Target(catalog, newest, {number: newest[number] for number in chosen if number in newest})
        gone = [relation.qualified for relation in self.target.missing]
        gone += [f"table {number} of the record" for number in sorted(chosen - newest.keys())]
        if gone:
            raise RestoreError(
                f"the database no longer has these tables, to which the transaction wrote: {', '.join(gone[:5])}",
                "Create them again first, or bring single tenants back with `ballast rewind`.",
            )
        groups: defaultdict[int, list[int]] = defaultdict(list)
        for number, place in self.target.places.items():
            groups[place.table.oid].append(number)
        self.tables = [LiveTable(self.target, [self.target.places[n] for n in group]) for group in groups.values()]
        self.tenants = set[str | None]().union(*(each.tenants(vault) for each in found))
        self._keys = {table.table.oid: table.key for table in self.tables}
        self._each = [self._not_undone(each) for each in found]

    def of(self, table: LiveTable) -> list[tuple[Effect, ...]]:
        """What was done to a table's rows, the newest transaction first."""
        return [each.get(table.table.oid, ()) for each in self._each]

    def looks(self, table: LiveTable, *, lock: bool) -> list[str]:
        """Statements that give the live rows that count for one table."""
        # Without a key, what went is not looked for: it just comes back.
        lines = [effect.line for each in self.of(table) for effect in each if table.key or effect.after is not None]
        return [table.look(condition, lock=lock) for condition in table.about(lines)] if lines else []

    def _as_of(self, cut: Cut) -> dict[int, Relation]:
        return as_named_now(self._vault.relations_at(cut), self._now, self._catalog)

    def _not_undone(self, found: Found) -> Mapping[int, tuple[Effect, ...]]:
        every = self._effects(found)
        undone = self._undone(found)
        left = {
            oid: tuple(effect for effect in effects_of_one if key_of(effect.line, self._keys[oid]) not in undone[oid])
            for oid, effects_of_one in every.items()
        }
        self.undone += sum(map(len, every.values())) - sum(map(len, left.values()))
        return left

    def _undone(self, found: Found) -> defaultdict[int, set[bytes]]:
        """Keys of rows, by table, that an undo of this transaction wrote to, and no undo of that one after it."""
        keys: defaultdict[int, set[bytes]] = defaultdict(set)
        for position in undoers(self._vault, found.transaction):
            transaction, segment = find_transaction(self._vault, position)
            by_tenant = touched(self._vault, transaction, segment).by_tenant
            mine = {tenant: numbers & found.touched.relations for tenant, numbers in by_tenant.items()}
            undo = Found(
                transaction, Touched({tenant: numbers for tenant, numbers in mine.items() if numbers}, frozenset())
            )
            again = self._undone(undo)
            for oid, written in self._effects(undo).items():
                if self._keys[oid]:
                    keys[oid] |= {key_of(effect.line, self._keys[oid]) for effect in written} - again[oid]
        return keys

    def _effects(self, found: Found) -> Mapping[int, tuple[Effect, ...]]:
        before, after = found.transaction.before, found.transaction.after
        former, latter = self._reading(found, before), self._reading(found, after)
        collected: defaultdict[int, list[Effect]] = defaultdict(list)
        for scope in found.scopes(self._vault):
            earlier, later = self._lines(former, before, scope), self._lines(latter, after, scope)
            for oid in earlier.keys() | later.keys():
                collected[oid] += effects(earlier.get(oid, ()), later.get(oid, ()), self._keys[oid])
        return {oid: joined(parts, self._keys[oid]) for oid, parts in collected.items()}

    def _reading(self, found: Found, cut: Cut) -> Target:
        """Where the rows of that moment belong now. RestoreError where they have other columns than the newest."""
        relations = self._as_of(cut)
        chosen = {number: relations[number] for number in found.touched.relations if number in relations}
        target = Target(self._catalog, relations, chosen)
        for number, place in target.places.items():
            if place.columns != self.target.places[number].columns:
                raise RestoreError(
                    f"the columns of {place.relation.qualified} changed in or between the transactions, as well as its rows",
                    "Undo those before and after that change each by itself; where one changed both, change the columns back by"
                    " hand and bring the rows back with `ballast rewind`, tenant by tenant.",
                )
        return target

    def _lines(self, target: Target, cut: Cut, scope: Mapping[str, Any]) -> Mapping[int, list[bytes]]:
        lines: defaultdict[int, list[bytes]] = defaultdict(list)
        for chunk in read_rows(self._vault, cut, relations=frozenset(target.places), **scope):
            place = target.places[chunk.relation.number]
            lines[place.table.oid] += lines_of(place.fit(chunk).buffer)
        return lines


def _refuse_dropped(vault: Vault, found: Found) -> None:
    before, after = (vault.relations_at(cut) for cut in (found.transaction.before, found.transaction.after))
    dropped = sorted(relation.qualified for number, relation in before.items() if number not in after)
    if dropped:
        raise RestoreError(
            f"the transaction dropped {', '.join(dropped)}: a table is not made again by an undo",
            "Restore it into an empty database (`ballast restore --table …`), create it from there, and bring the rows back.",
        )


def _refuse_inexact(vault: Vault, found: Found) -> None:
    transaction = found.transaction
    relations = vault.relations_at(transaction.before)
    for cut in (transaction.before, transaction.after):
        for number in sorted(found.touched.relations):
            if vault.index.gap_at(cut, number):
                name = relations[number].qualified if number in relations else f"table {number}"
                raise GapError(
                    f"The record of {name} is not exact at transaction {transaction.xid} ({transaction.position}).",
                    "What it changed there is not known for certain: rewind the tenants to a moment outside of the gap.",
                )


def _refuse_untouched(vault: Vault, every: Collection[Found], wanted: Collection[str] | None) -> None:
    if wanted is None:
        return
    hit: set[str | None] = set().union(*(found.tenants(vault) for found in every))
    unhit = [tenant for tenant in wanted if tenant not in hit]
    if unhit:
        names = ", ".join(f"{found.transaction.xid}" for found in every)
        raise ConfigError(
            f"Nothing of tenant {unhit[0]!r} was changed by transaction {names}.",
            "`ballast changes --transaction …` shows whose rows were.",
        )
