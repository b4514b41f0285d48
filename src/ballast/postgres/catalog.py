"""What a database is made of, read from its catalog into records.

The records are stored in the vault as JSON, and their field names are part of its format. Where PostgreSQL has a
one-letter code for something, the letter is kept. Columns are named by their `attnum`, which survives a rename.

All of it comes from one statement, and so from one snapshot: the transaction's, where it has one. Two things are as of
now instead. The printed forms of types and expressions come from functions that always see the latest catalog; and
sequences are outside of transactions altogether. Of schemas, all but PostgreSQL's own and the temporary ones are
read, `ballast` too.
"""

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Listed
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ballast.postgres.session import PINNED


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column that was not dropped."""

    attnum: int
    """Its number in the table: it stays when the column is renamed, and is not used again when it is dropped."""
    name: str
    type: str
    """As `format_type` prints it with an empty search path, such as `numeric(12,2)` or `public.mood`."""
    type_oid: int
    """In this database; another may give the same type of its own another number."""
    type_kind: str
    """`b` base (arrays too), `c` composite, `d` domain, `e` enum, `r` range, `m` multirange."""
    base_type: str
    """`type`, or what a domain consists of in the end."""
    not_null: bool
    """NOT NULL is declared, and holds for all rows: one declared NOT VALID (from 18) does not count."""
    default: str | None
    """The expression of the default or, with `generated`, of the generated value."""
    generated: str
    """`` (empty) ordinary, `s` stored, `v` virtual (from 18). Generated columns cannot be written."""
    identity: str
    """`` (empty) none, `a` GENERATED ALWAYS, `d` BY DEFAULT."""
    has_missing: bool
    """Rows older than the column do not hold it; they read as `missing`."""
    missing: str | None
    """The output text of that value."""
    collation: str | None
    """Qualified and quoted, if it is not the type's own."""


class UniqueIndex(msgspec.Struct, frozen=True, kw_only=True):
    """An index that can be a table's replica identity: unique, immediate, whole, valid, and on NOT NULL columns."""

    name: str
    oid: int
    columns: tuple[int, ...]
    """attnums of the key, in the index's order, without INCLUDEd columns."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """An ordinary table, a partitioned one, or a partition."""

    oid: int
    schema: str
    name: str
    kind: str
    """`r` with rows of its own, `p` partitioned."""
    persistence: str
    """`p` permanent, `u` unlogged (nothing of it is in the WAL)."""
    is_partition: bool
    root_oid: int
    """The topmost partitioned table above, or the table itself."""
    parent_oid: int | None
    """The partitioned table directly above."""
    partition_bound: str | None
    """`FOR VALUES …` or `DEFAULT`, of a partition."""
    inherits: tuple[int, ...]
    """Tables it inherits from in the old way (INHERITS), which are no partitioned tables."""
    extension: str | None
    """The extension that the table came with."""
    replica_identity: str
    """As set: `d` default (the primary key), `f` full, `i` an index, `n` nothing."""
    identity_columns: tuple[int, ...]
    """attnums that an UPDATE and a DELETE are sent with, under `d` and `i`. Empty: none, or under `f` all."""
    primary_key: tuple[int, ...]
    """attnums, in the key's order. A DEFERRABLE one is here, too, though it identifies no row for replication."""
    columns: tuple[Column, ...]
    unique_indexes: tuple[UniqueIndex, ...]
    """What can be made the replica identity, the primary key first."""
    row_security: bool
    force_row_security: bool
    """Row-level security holds for the table's owner, too."""
    relfilenode: int
    """The file of its rows: another one after TRUNCATE, a rewrite, VACUUM FULL. 0 for partitioned tables."""
    xmin: str
    """The transaction that last wrote the table's row in pg_class: a change of it means a change of the table."""
    estimated_rows: int | None
    """As the last VACUUM or ANALYZE counted; None before the first."""
    bytes: int
    """Rows with TOAST, without indexes: as of the last VACUUM or ANALYZE, or exactly if read with `measure_sizes`."""

    def column(self, attnum: int) -> Column:
        """The column of that number; KeyError if there is none."""
        for column in self.columns:
            if column.attnum == attnum:
                return column
        raise KeyError(attnum)

    def column_name(self, attnum: int) -> str:
        """The name of the column of that number; KeyError if there is none."""
        return self.column(attnum).name

    @property
    def identifies_rows(self) -> bool:
        """Whether UPDATE and DELETE are possible once the table is published."""
        return self.replica_identity == "f" or bool(self.identity_columns)


class ForeignKey(msgspec.Struct, frozen=True, kw_only=True):
    """A foreign key whose every row must find its parent; copies that only serve PostgreSQL's triggers are left out."""

    name: str
    table_oid: int
    columns: tuple[int, ...]
    ref_table_oid: int
    ref_columns: tuple[int, ...]
    """attnums in the referenced table, each for the one in `columns` at the same place."""
    deferrable: bool
    initially_deferred: bool
    on_delete: str
    """`a` no action, `r` restrict, `c` cascade, `n` set null, `d` set default."""
    on_update: str
    match_full: bool
    """Either all columns are null or none is; otherwise one null is enough to need no parent."""
    validated: bool
    """False: rows older than the constraint may break it (NOT VALID)."""
    enforced: bool
    """False: it is a mere statement, and any row may break it (NOT ENFORCED, from 18)."""
    temporal: bool
    """The last column is a PERIOD that parents together must cover (from 18)."""
    inherited: bool
    """It is a partition's part of a foreign key of the partitioned table above."""


class Sequence(msgspec.Struct, frozen=True, kw_only=True):
    """A sequence, with the columns that it feeds."""

    schema: str
    name: str
    oid: int
    persistence: str
    """`p` permanent, `u` unlogged."""
    data_type: str
    """`smallint`, `integer` or `bigint`."""
    start: int
    increment: int
    min: int
    max: int
    cache: int
    """How many values a session takes at once; those it does not use are lost."""
    cycle: bool
    owned_by: tuple[int, int] | None
    """(table oid, attnum) of the column that it is dropped with."""
    feeds: tuple[tuple[int, int], ...]
    """(table oid, attnum) of every column whose default calls it, or whose identity it is. A default that names the
    sequence in a text put together at run time is not known to PostgreSQL either."""
    last_value: int | None = None
    """None: this role may not read it, or it has been dropped meanwhile."""
    is_called: bool | None = None
    """Whether `last_value` was handed out; if not, it will be the next."""


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """A database's tables, foreign keys and sequences, ordered by name."""

    database: str
    encoding: str
    """Of the server, such as `UTF8`."""
    locale_provider: str
    """`c` the C library, `i` ICU, `b` PostgreSQL's own (from 17)."""
    locale: str
    server_version_num: int
    system_identifier: str
    """Of the cluster, given once by initdb: copies of a cluster share it."""
    tables: tuple[Table, ...]
    foreign_keys: tuple[ForeignKey, ...]
    sequences: tuple[Sequence, ...]


def read_catalog(
    conn: psycopg.Connection[Any], schemas: Listed[str] | None = None, *, measure_sizes: bool = False
) -> Catalog:
    """The database that `conn` is connected to, or some schemas of it.

    `measure_sizes` asks the file system for each table's size, and waits where a table is locked in ACCESS EXCLUSIVE
    mode; without it only generated columns of such a table and locked sequences are waited for.
    """
    with _pinned(conn):
        catalog = _read(conn, schemas=None if schemas is None else list(schemas), measure_sizes=measure_sizes)
        values = _sequence_values(conn, catalog.sequences)
    sequences = tuple(
        msgspec.structs.replace(s, last_value=values[s.oid][0], is_called=values[s.oid][1]) if s.oid in values else s
        for s in catalog.sequences
    )
    return msgspec.structs.replace(catalog, sequences=sequences)


def read_table(conn: psycopg.Connection[Any], oid: int, *, measure_sizes: bool = False) -> Table | None:
    """One table, or None if there is none with that oid outside of PostgreSQL's own schemas."""
    with _pinned(conn):
        tables = _read(conn, oid=oid, measure_sizes=measure_sizes).tables
    return tables[0] if tables else None


def count_large_objects(conn: psycopg.Connection[Any]) -> int:
    """How many large objects the database holds. They are not in the replication stream."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    return int(row[0]) if row else 0


# `missing` is a value's text like those of rows, so it is printed like them; the caller's time-outs stay.
_PIN = "".join(f"SET LOCAL {name} = '{value}';" for name, value in PINNED.items() if not name.endswith("_timeout"))


@contextmanager
def _pinned(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Settings on which the text of values and names depends; the (sub)transaction's end brings back the caller's."""
    with conn.transaction(force_rollback=True), conn.cursor() as cursor:
        cursor.execute(_PIN.encode())
        yield


def _read(
    conn: psycopg.Connection[Any],
    *,
    schemas: list[str] | None = None,
    oid: int | None = None,
    measure_sizes: bool,
) -> Catalog:
    statement = (files(__package__) / "catalog.sql").read_bytes()
    asked = {"schemas": schemas, "oid": oid, "measure_sizes": measure_sizes}
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(statement, asked).fetchone()
    assert row is not None  # there is a row for the current database
    return msgspec.json.decode(row[0], type=Catalog)


_AT_ONCE = 200  # subqueries in one statement


def _sequence_values(conn: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> dict[int, tuple[int, bool]]:
    """By oid. Selected rather than asked of `pg_sequence_last_value`, which keeps a lock until the transaction ends."""
    values: dict[int, tuple[int, bool]] = {}
    left = list(sequences)
    while left:
        some, left = left[:_AT_ONCE], left[_AT_ONCE:]
        try:
            values |= _select_values(conn, some)
        except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
            for one in some:
                try:
                    values |= _select_values(conn, [one])
                except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
                    continue
    return values


def _select_values(conn: psycopg.Connection[Any], sequences: Iterable[Sequence]) -> dict[int, tuple[int, bool]]:
    select = sql.SQL("SELECT {}::bigint, last_value, is_called FROM {}")
    each = [select.format(sql.Literal(s.oid), sql.Identifier(s.schema, s.name)) for s in sequences]
    with conn.transaction(), conn.cursor(row_factory=tuple_row) as cursor:
        rows = cursor.execute(sql.SQL(" UNION ALL ").join(each)).fetchall()
    return {oid: (last_value, is_called) for oid, last_value, is_called in rows}
