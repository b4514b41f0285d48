"""What must be known of a table to decide whose rows are in it and how it is recorded.

Two sources say it in the same words: the catalog as read by `read_catalog`, and the messages of the event triggers, which
describe a table as it is inside of the transaction that changes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec

from ballast.postgres import Catalog, Table
from ballast.postgres import ForeignKey as CatalogForeignKey

OWN_SCHEMA = "ballast"
"""Where our own objects lie on production. Nothing in it is recorded."""

UNRECORDED = frozenset((OWN_SCHEMA, "ballast_recovery", "ballast_restore"))
"""With those in which a recovery and a restore keep what they have done so far. They are published like any table, so
they need replica identities; but whose rows they hold is no question, and no other server must get them back."""

GATE_POLICIES = tuple(f"ballast_recovery_{name}" for name in ("gate", "named", "all", "owner"))
"""Policies that a recovery puts on the owner's tables, and takes away again."""

MERGE_SCHEMA, MERGE_TENANT = "ballast_merge", "tenant"
"""Where a merge notes in the target what it has brought in, and the column that says whose it was: it comes back with them."""


class TableColumn(msgspec.Struct, frozen=True):
    """A column, with the letters of PostgreSQL's catalog. Dropped columns are not listed."""

    attnum: int
    name: str
    type: str
    not_null: bool = False
    default: str | None = None
    generated: str = ""
    identity: str = ""
    has_missing: bool = False
    missing: str | None = None
    root_attnum: int | None = None
    """In a partition: attnum of the same column in the topmost partitioned table."""


class TableKey(msgspec.Struct, frozen=True):
    """A foreign key that every row obeys (rows with a null in it excepted)."""

    name: str
    columns: tuple[int, ...]
    ref_table_oid: int
    ref_columns: tuple[int, ...]
    enforced: bool = True
    temporal: bool = False


class TableIndex(msgspec.Struct, frozen=True):
    """An index that can be a replica identity: unique, immediate, whole, valid, on NOT NULL columns."""

    name: str
    columns: tuple[int, ...]


class TableFacts(msgspec.Struct, frozen=True):
    """A table, a partitioned table or a partition."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    is_partition: bool
    root_oid: int
    root_schema: str
    root_name: str
    replica_identity: str
    identity_columns: tuple[int, ...]
    """attnums under identity `d` and `i`; empty: none, or under `f` all."""
    primary_key: tuple[int, ...]
    columns: tuple[TableColumn, ...]
    foreign_keys: tuple[TableKey, ...] = ()
    unique_indexes: tuple[TableIndex, ...] | None = ()
    """The primary key first, if it is among them. None: not known."""
    extension: str | None = None
    leaves: tuple[int, ...] = ()
    """Of a partitioned table: every table with rows below it."""

    @property
    def qualified(self) -> str:
        """`schema.name`, unquoted, as people write it."""
        return f"{self.schema}.{self.name}"

    @property
    def root_qualified(self) -> str:
        """The same of the topmost partitioned table above."""
        return f"{self.root_schema}.{self.root_name}"

    @property
    def holds_rows(self) -> bool:
        """Not partitioned itself."""
        return self.kind == "r"

    def column(self, name: str) -> TableColumn | None:
        """The column of that name."""
        return next((c for c in self.columns if c.name == name), None)

    def names(self, attnums: Iterable[int]) -> tuple[str, ...]:
        """The names of columns."""
        by_number = {c.attnum: c.name for c in self.columns}
        return tuple(by_number[attnum] for attnum in attnums)

    def attnums(self, names: Iterable[str]) -> tuple[int, ...]:
        """The numbers of columns."""
        by_name = {c.name: c.attnum for c in self.columns}
        return tuple(by_name[name] for name in names)

    def never_null(self, attnums: Iterable[int]) -> bool:
        """Whether all of these columns are NOT NULL."""
        return {c.attnum for c in self.columns if c.not_null}.issuperset(attnums)


def tables_of(catalog: Catalog, *, but: Collection[str] = UNRECORDED) -> tuple[TableFacts, ...]:
    """Every table of the catalog outside of these schemas: of those that are recorded."""
    by_oid = {t.oid: t for t in catalog.tables}
    keys: dict[int, list[CatalogForeignKey]] = {}
    for key in catalog.foreign_keys:
        keys.setdefault(key.table_oid, []).append(key)
    leaves: dict[int, list[int]] = {}
    for table in catalog.tables:
        if table.kind == "r":
            leaves.setdefault(table.root_oid, []).append(table.oid)
    return tuple(
        _facts(t, by_oid.get(t.root_oid, t), keys.get(t.oid, ()), leaves.get(t.oid, ()))
        for t in catalog.tables
        if t.schema not in but
    )


def _facts(table: Table, root: Table, keys: Iterable[CatalogForeignKey], leaves: Iterable[int]) -> TableFacts:
    in_root: Mapping[str, int] = {c.name: c.attnum for c in root.columns} if root is not table else {}
    return TableFacts(
        oid=table.oid,
        schema=table.schema,
        name=table.name,
        kind=table.kind,
        persistence=table.persistence,
        is_partition=table.is_partition,
        root_oid=table.root_oid,
        root_schema=root.schema,
        root_name=root.name,
        replica_identity=table.replica_identity,
        identity_columns=table.identity_columns,
        primary_key=table.primary_key,
        columns=tuple(
            TableColumn(
                c.attnum,
                c.name,
                c.type,
                c.not_null,
                c.default,
                c.generated,
                c.identity,
                c.has_missing,
                c.missing,
                in_root.get(c.name),
            )
            for c in table.columns
        ),
        foreign_keys=tuple(
            TableKey(k.name, k.columns, k.ref_table_oid, k.ref_columns, k.enforced, k.temporal) for k in keys
        ),
        unique_indexes=tuple(TableIndex(i.name, i.columns) for i in table.unique_indexes),
        extension=table.extension,
        leaves=tuple(leaves),
    )
