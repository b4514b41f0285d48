"""An image: every row of some tables as of one snapshot, copied out of the server and sorted into runs by tenant.

The server's COPY lines are the rows as they are kept. Whose a row is stands in the line itself, or (for tables whose tenant
hangs on a parent) is asked for in the same statement, by joining the parents: so parents need not be copied first, nor
kept in memory. Memory is bounded whatever the size of a table or tenant (see spill.py).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import tuple_row

from ballast.errors import ProtectionError
from ballast.postgres import read_catalog
from ballast.postgres.copylines import CopyLines, scan_copy_lines
from ballast.postgres.copyout import copy_out
from ballast.vault.batch import Batch
from ballast.vault.lineage import SEPARATOR, Families, Lineage, parent_space
from ballast.vault.records import ByColumn, Relation, RunRef, SequenceState, Via
from ballast.vault.run import RunWriter
from ballast.vault.shards import Shards, rows_of, shards_here
from ballast.vault.spill import SPILL_SCHEMA, Constants, Group, Spill
from ballast.vault.tables import UNRECORDED

RUN_BYTES = 128 << 20
"""A bucket larger than this has several runs."""

Progress = Callable[[str, int], None]
"""Called with a table's qualified name and how many more of its rows were copied."""


class Taken(msgspec.Struct, frozen=True):
    """What there is to write into the ledger after `take_image`."""

    runs: tuple[RunRef, ...]
    rows: int
    bytes: int
    """COPY text before compression."""


def take_image(
    conn: psycopg.Connection[Any],
    relations: Sequence[Relation],
    *,
    timeline: int,
    lsn: int,
    schema: int,
    buckets: int,
    batch: Batch,
    scratch: Path,
    lineage: Lineage | None = None,
    known: Sequence[Relation] = (),
    progress: Progress = lambda table, rows: None,
) -> Taken:
    """Copies the rows of `relations` (leaves) as `conn` sees them, and puts them as runs into `batch`.

    `conn` is pinned, in a REPEATABLE READ transaction whose snapshot stands for the cut `lsn`; `schema` is the
    version in force there. `known`: every relation of that version, needed where parents of `relations` are not among
    them. `lineage` learns the tenants of the parents that are copied; its owner commits it at the cut, once the image is in the
    ledger. ProtectionError if a table was rewritten since the snapshot, or its rows are hidden from this role.
    """
    family = Family(known or relations)
    shards = shards_here(conn)
    scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="image-", dir=scratch))
    try:
        spill = Spill(folder, buckets, _size_of(conn, relations, shards), Constants(timeline, lsn, schema))
        rows = size = 0
        for relation in relations:
            with closing(copied(conn, relation, family, shards)) as parts:
                for lines in parts:
                    rows += len(lines)
                    size += len(lines.row.data)
                    if lineage is not None:
                        family.teach(lineage, relation, lines)
                    spill.add(_table(relation, lines))
                    progress(relation.qualified, len(lines))
        runs = [run for group in spill.groups() for run in _runs(spill, group, folder / "run.parquet", batch)]
        return Taken(tuple(runs), rows, size)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_sequences(conn: psycopg.Connection[Any]) -> tuple[SequenceState, ...]:
    """All sequences but our own, as they are now. Those that this role may not read are left out."""
    return tuple(
        SequenceState(s.schema, s.name, s.last_value, s.is_called, s.increment, s.cache)
        for s in read_catalog(conn).sequences
        if s.schema not in UNRECORDED and s.last_value is not None and s.is_called is not None
    )


def _runs(spill: Spill, group: Group, path: Path, batch: Batch) -> Iterator[RunRef]:
    writer: RunWriter | None = None

    def finished(writer: RunWriter) -> RunRef:
        facts = writer.close()
        ref = facts.ref(batch.put("run", "parquet", path), group.bucket)
        path.unlink()
        return ref

    for rows in spill.rows(group):
        writer = writer or RunWriter(path)
        writer.write(rows)
        if writer.bytes >= RUN_BYTES:
            yield finished(writer)
            writer = None
    if writer is not None:
        yield finished(writer)


def _table(relation: Relation, lines: CopyLines) -> pa.Table:
    numbers = pa.array(np.full(len(lines), relation.number, np.int32))
    columns = [lines.partition.to_text(), numbers, lines.key.to_arrow(), lines.row.to_arrow()]
    return pa.Table.from_arrays(columns, schema=SPILL_SCHEMA)


def _size_of(conn: psycopg.Connection[Any], relations: Sequence[Relation], shards: Shards) -> int:
    """Bytes of the tables on the server, about as many as their text has."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(
            "SELECT sum(pg_catalog.pg_table_size(oid))::bigint FROM pg_catalog.pg_class"
            " WHERE oid = ANY (%s::oid[]) OR oid = ANY (%s::regclass[])",
            ([r.oid for r in relations], [name for r in relations for name in shards.get(r.oid, ())]),
        ).fetchone()
    return int(row[0] or 0) if row else 0


# Reading a table


def copied(
    conn: psycopg.Connection[Any], relation: Relation, family: Family, shards: Shards = MappingProxyType({})
) -> Generator[CopyLines, None, None]:
    """A table's rows, some MB at a time, with their tenants in `partition`; with Citus those that this node has."""
    place = {attnum: i for i, attnum in enumerate(relation.row_columns)}
    tenant = family.tenant_of(conn, relation)
    ahead = 1 if tenant is not None else 0
    partition = 0
    if tenant is None:
        partition = place[relation.tenant.attnum] if isinstance(relation.tenant, ByColumn) else -1
    key = [place[attnum] + ahead for attnum in relation.key]
    try:
        with closing(copy_out(conn, _statement(relation, tenant, shards.get(relation.oid)))) as chunks:
            for chunk in chunks:
                lines = scan_copy_lines(chunk, len(place) + ahead, key, partition, skip_first_column=bool(ahead))
                yield lines if partition >= 0 else msgspec.structs.replace(lines, partition=_nobody(lines))
    except psycopg.errors.InsufficientPrivilege as refused:
        raise ProtectionError(
            f"The server does not let this role read every row: {refused.diag.message_primary}.",
            "Protect with a role that may read all tables and has BYPASSRLS (or is a superuser).",
        ) from refused
    _refuse_rewritten(conn, relation)


def _nobody(lines: CopyLines) -> Any:
    return msgspec.structs.replace(lines.partition, valid=np.zeros(len(lines), np.bool_))


def _statement(relation: Relation, tenant: _Tenant | None, shards: tuple[str, ...] | None) -> sql.Composed:
    names = {c.attnum: c.name for c in relation.columns}
    columns: list[sql.Composable] = [sql.Identifier("t", names[attnum]) for attnum in relation.row_columns]
    joins: sql.Composable = sql.SQL("")
    if tenant is not None:
        columns = [tenant.value, *columns]
        joins = tenant.joins
    table = rows_of(sql.Identifier(relation.schema, relation.name), list(names.values()), shards)
    return sql.SQL("COPY (SELECT {} FROM {} AS t{}) TO STDOUT").format(sql.SQL(", ").join(columns), table, joins)


def _refuse_rewritten(conn: psycopg.Connection[Any], relation: Relation) -> None:
    """A snapshot does not show a table's former file: rows truncated or rewritten since are not there any more.

    Asked once the copy holds its lock, so that nothing can change after the answer."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        # pg_class is read by the snapshot, the function looks at what holds now.
        row = cursor.execute(
            "SELECT relfilenode = pg_catalog.pg_relation_filenode(oid) FROM pg_catalog.pg_class WHERE oid = %s",
            (relation.oid,),
        ).fetchone()
    if row is not None and row[0] is False:
        raise ProtectionError(
            f"Table {relation.qualified} was truncated or rewritten while the image was being taken.",
            "Run the command again.",
        )


# Whose a row is


class _Tenant(msgspec.Struct, frozen=True):
    """How a statement about table `t` asks for its rows' tenant."""

    value: sql.Composable
    joins: sql.Composable


class Family:
    """All relations of a schema version, asked whose the rows of one of them are."""

    def __init__(self, relations: Iterable[Relation]) -> None:
        self._families = Families(relations)
        self._by_table: dict[int, Relation] = {}
        for relation in self._families.by_oid.values():
            self._by_table.setdefault(relation.root_oid or relation.oid, relation)

    def tenant_of(self, conn: psycopg.Connection[Any], relation: Relation) -> _Tenant | None:
        """None: no parent is asked."""
        if not isinstance(relation.tenant, Via):
            return None
        names = {c.attnum: c.name for c in relation.columns}
        rule: object = relation.tenant
        joins: list[sql.Composable] = []
        child = "t"
        while isinstance(rule, Via):
            parent = self._by_table.get(rule.parent)
            if parent is None:
                self._refuse_unknown(conn, relation, rule.parent)
                return _Tenant(sql.SQL("NULL"), sql.SQL(""))
            alias = f"p{len(joins)}"
            root_names = {a: c.name for c, a in zip(parent.columns, _root_attnums(parent), strict=True)}
            same = [
                sql.SQL("{} = {}").format(sql.Identifier(alias, root_names[theirs]), sql.Identifier(child, names[ours]))
                for ours, theirs in zip(rule.columns, rule.parent_columns, strict=True)
            ]
            table = sql.Identifier(parent.root_schema, parent.root_name)
            # Partitions together; but of an ordinary table not those that inherit from it.
            joins.append(
                sql.SQL(" LEFT JOIN {} {} AS {} ON {}").format(
                    sql.SQL("" if parent.root_oid else "ONLY"),
                    table,
                    sql.Identifier(alias),
                    sql.SQL(" AND ").join(same),
                )
            )
            child, rule = alias, parent.tenant
            names = {c.attnum: c.name for c in parent.columns}
        value = sql.Identifier(child, names[rule.attnum]) if isinstance(rule, ByColumn) else sql.SQL("NULL")
        return _Tenant(value, sql.Composed(joins))

    @staticmethod
    def _refuse_unknown(conn: psycopg.Connection[Any], relation: Relation, oid: int) -> None:
        """A partitioned table without partitions is no relation, and has no rows. Any other parent must be known."""
        with conn.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute("SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = %s", (oid,)).fetchone()
        if row is None or row[0] != "p":
            raise ValueError(f"the parent (oid {oid}) of {relation.qualified} is not among the known relations")

    def teach(self, lineage: Lineage, relation: Relation, lines: CopyLines) -> None:
        """What rows of other tables will be looked up by, as the sealer learns it from changes (segment.py)."""
        rule = relation.tenant
        if isinstance(rule, Via) and len(rule.columns) > 1:
            lineage.keep(relation.oid, _pairs(lines))
        to_leaf = {root: c.attnum for c, root in zip(relation.columns, _root_attnums(relation), strict=True)}
        for columns in self._families.parents.get(relation.oid, ()):
            leaf_columns = tuple(to_leaf[attnum] for attnum in columns)
            named = lines
            if leaf_columns != relation.key:
                places = [relation.row_columns.index(attnum) for attnum in leaf_columns]
                again = scan_copy_lines(lines.row.data, len(relation.row_columns), places)
                named = msgspec.structs.replace(lines, key=again.key)
            lineage.keep(parent_space(relation.root_oid or relation.oid, columns), _pairs(named))


def _root_attnums(relation: Relation) -> tuple[int, ...]:
    """For each column its number in the table that children name."""
    return relation.root_attnums or tuple(c.attnum for c in relation.columns)


def _pairs(lines: CopyLines) -> Iterator[tuple[bytes, str | None]]:
    keys = lines.key.to_arrow().to_pylist()
    tenants = lines.partition.to_text().to_pylist()
    for key, tenant in zip(keys, tenants, strict=True):
        if b"\\N" not in key or b"\\N" not in key.split(SEPARATOR):
            yield key, tenant
