"""Whose rows are those that only a parent names: parent's key to tenant, kept beside the stream.

A row of a table without a tenant column belongs to whom its parent belongs (`Via`). The stream does not carry the parent,
so the sealer remembers every parent's tenant, in SQLite in the state folder. Deleted parents stay: the children that
their deletion takes along come after them in the stream. Everything here can be made anew from the vault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ballast.postgres.copytext import split_row
from ballast.vault.records import ByColumn, Cut, Relation, Via

_CREATE = """
CREATE TABLE IF NOT EXISTS tenant_of (relation INTEGER, key BLOB, tenant TEXT, PRIMARY KEY (relation, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sealed (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), timeline INTEGER, lsn INTEGER);
"""
_FIND = "SELECT tenant FROM tenant_of WHERE relation = ? AND key = ?"
_KEEP = "INSERT INTO tenant_of VALUES (?, ?, ?) ON CONFLICT (relation, key) DO UPDATE SET tenant = excluded.tenant"
_REACHED = (
    "INSERT INTO sealed VALUES (1, ?, ?) ON CONFLICT (only_one) DO UPDATE"
    " SET timeline = excluded.timeline, lsn = excluded.lsn"
)
SEPARATOR = b"\t"


class Unknown(msgspec.Struct, frozen=True):
    """No parent of that key is known (yet)."""


UNKNOWN = Unknown()


class Lineage:
    """The tenants of parents' keys as of one cut. What is learned counts at once, and is kept by `commit`."""

    def __init__(self, path: Path | str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        # Losing the newest to a power cut only means making it anew from the vault.
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_CREATE)
        self._fresh: dict[tuple[int, bytes], str | None] = {}

    @property
    def cut(self) -> Cut | None:
        """Up to where it is kept; None: nothing is."""
        row = self._db.execute("SELECT timeline, lsn FROM sealed").fetchone()
        return None if row is None else Cut(*row)

    def find(self, parent: int, key: bytes) -> str | Unknown | None:
        """The tenant of the row of `parent` (oid) with this key (COPY text by tabs), or UNKNOWN."""
        fresh = self._fresh.get((parent, key), UNKNOWN)
        if fresh is not UNKNOWN:
            return fresh
        row = self._db.execute(_FIND, (parent, key)).fetchone()
        return UNKNOWN if row is None else row[0]

    def learn(self, parent: int, key: bytes, tenant: str | None) -> None:
        """The row of `parent` with this key belongs to `tenant` from here on."""
        self._fresh[parent, key] = tenant

    def keep(self, parent: int, tenants: Iterable[tuple[bytes, str | None]]) -> None:
        """Learn much at once, as an image says it: kept right away, since it may not fit into memory."""
        self._db.execute("BEGIN")
        self._db.executemany(_KEEP, ((parent, key, tenant) for key, tenant in tenants))
        self._db.execute("COMMIT")

    def commit(self, cut: Cut) -> None:
        """Keep what was learned up to `cut`."""
        self._db.execute("BEGIN")
        self._db.executemany(_KEEP, [(oid, key, tenant) for (oid, key), tenant in self._fresh.items()])
        self._db.execute(_REACHED, (cut.timeline, cut.lsn))
        self._db.execute("COMMIT")
        self._fresh.clear()

    def forget_fresh(self) -> None:
        """What was learned since the last commit does not count: it will come again."""
        self._fresh.clear()

    def clear(self) -> None:
        """Forget everything, to be made anew."""
        self._fresh.clear()
        self._db.executescript("DELETE FROM tenant_of; DELETE FROM sealed;")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class Families:
    """Which relations are parents, by which columns, in one schema version."""

    def __init__(self, relations: Iterable[Relation]) -> None:
        self.by_oid: Mapping[int, Relation] = {relation.oid: relation for relation in relations}
        self._tops: dict[int, int] = {}
        referred: dict[int, set[tuple[int, ...]]] = {}
        for relation in self.by_oid.values():
            if isinstance(relation.tenant, Via):
                referred.setdefault(relation.tenant.parent, set()).add(relation.tenant.parent_columns)
        self.parents: Mapping[int, tuple[tuple[int, ...], ...]] = {
            relation.oid: tuple(sorted(found))
            for relation in self.by_oid.values()
            if (found := referred.get(relation.oid) or referred.get(relation.root_oid or relation.oid))
        }
        """oid of each parent table (of each of its leaves) to the column lists by which children name it."""

    def __bool__(self) -> bool:
        return bool(self.parents)

    def children_of(self, oid: int) -> list[int]:
        """Numbers of the relations whose tenant hangs on this one, directly or further down."""
        relation = self.by_oid[oid]
        names = {oid, relation.root_oid}
        direct = [r for r in self.by_oid.values() if isinstance(r.tenant, Via) and r.tenant.parent in names]
        return [r.number for r in direct] + [n for r in direct if r.oid != oid for n in self.children_of(r.oid)]

    def in_order(self) -> list[Relation]:
        """The parents, each after those that it hangs on itself."""
        parents = [self.by_oid[oid] for oid in self.parents]
        return sorted(parents, key=self._depth)

    def _depth(self, relation: Relation) -> int:
        rule = relation.tenant
        if not isinstance(rule, Via) or rule.parent not in self.by_oid:
            return 0
        return 1 + self._depth(self.by_oid[rule.parent])


def on_leaf(relation: Relation, columns: tuple[int, ...]) -> tuple[int, ...]:
    """attnums of a partitioned table as this leaf of it has them; a table that is no partition has its own."""
    if not relation.root_attnums:
        return columns
    here = {root: column.attnum for column, root in zip(relation.columns, relation.root_attnums, strict=True)}
    return tuple(here[attnum] for attnum in columns)


def values_of(line: bytes, relation: Relation, attnums: Iterable[int]) -> bytes | None:
    """The values of some columns of a COPY line, as COPY text by tabs; None if one of them is null."""
    fields = line.rstrip(b"\n").split(SEPARATOR)
    picked = [fields[relation.row_columns.index(attnum)] for attnum in attnums]
    return None if b"\\N" in picked else SEPARATOR.join(picked)


def tenant_of_line(line: bytes, relation: Relation, lineage: Lineage) -> str | None:
    """Whose row this is, by the relation's rule; None also where no parent is known."""
    rule = relation.tenant
    if isinstance(rule, ByColumn):
        value = split_row(line)[relation.row_columns.index(rule.attnum)]
        return None if value is None else value.decode()
    if isinstance(rule, Via):
        key = values_of(line, relation, rule.columns)
        found = UNKNOWN if key is None else lineage.find(parent_space(rule.parent, rule.parent_columns), key)
        return None if isinstance(found, Unknown) else found
    return None


def parent_space(oid: int, columns: tuple[int, ...]) -> int:
    """The number under which keys of these columns of that table are kept: one table may be named by several keys."""
    space = oid
    for attnum in columns:
        space = space * 2048 + attnum
    return space & 0x7FFF_FFFF_FFFF_FFFF
