"""A database kept in a vault by looks: each `look` writes structure, dump and rows of one snapshot, without a recorder.

A restore to the cut of a look must give what the look saw. Structure and rows come about as they do in production; only
the changes in between are not told.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from ballast.postgres import read_catalog
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import signing
from ballast.vault.batch import Batch
from ballast.vault.config import Tenants
from ballast.vault.dump import take_dump
from ballast.vault.image import read_sequences, take_image
from ballast.vault.lineage import Lineage
from ballast.vault.records import Cut, Gap, Genesis, Image, SchemaDump, SchemaVersion, Timeline
from ballast.vault.registry import Registry
from ballast.vault.tables import tables_of
from ballast.vault.vault import Vault
from tests.fix_postgres import Database

Contents = dict[str, list[bytes]]
"""Table (`schema.name`) to its sorted COPY lines."""


class Kept:
    """A vault on `folder` for the database `db`."""

    def __init__(
        self, db: Database, folder: Path, tenants: Tenants | None = None, *, buckets: int = 4, url: str = ""
    ) -> None:
        self.db = db
        self.state, self.url = folder / "state", url or str(folder / "vault")
        self.registry = Registry(tenants or Tenants(column="tenant"))
        key = signing.create_key(self.state / signing.KEY_FILE)
        genesis = Genesis(1, "kept", key.public, buckets, "tests")
        self.vault = Vault.create(self.url, genesis, state_dir=self.state)
        self._version = 0
        self.pre_data_prefix = b""

    def look(self, *, dump: bool = True) -> Cut:
        """What the database holds now, into the vault; `dump` False leaves the older scripts in force."""
        state = self.state
        with snapshot_at_cut(self.db.dsn) as (conn, lsn):
            if not self.vault.index.timelines:
                version = conn.info.server_version
                self.vault.append(Timeline(1, "7000", self.db.name, version, "ballast", "ballast", lsn))
            catalog = read_catalog(conn)
            change = self.registry.read(tables_of(catalog), "look")
            with Batch(self.vault.store, state, "look", 1, lsn, lsn) as batch:
                if change.changes_relations or not self._version:
                    self._version += 1
                    ref = batch.put("relations", "json", self.registry.encode())
                    self.vault.append(SchemaVersion(self._version, 1, lsn, 0, ref, "look"))
                if dump:
                    (snapshot,) = conn.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
                    taken = take_dump(self.db.dsn, snapshot, conn.info.server_version // 10000)
                    scripts = (self.pre_data_prefix + taken.pre_data, taken.post_data, taken.roles)
                    refs = [batch.put("dump", "sql", script) for script in scripts]
                    self.vault.append(SchemaDump(1, lsn, self._version, *refs, conn.info.server_version))
                lineage = Lineage(state / f"lineage-{lsn}.db")
                image = take_image(
                    conn,
                    self.registry.relations,
                    timeline=1,
                    lsn=lsn,
                    schema=self._version,
                    buckets=self.vault.index.genesis.buckets,
                    batch=batch,
                    scratch=state / "scratch",
                    lineage=lineage,
                )
                lineage.close()
                sequences = read_sequences(conn)
                self.vault.append(Image(1, lsn, self._version, None, image.runs, sequences, "look"))
                batch.done()
        return Cut(1, lsn)

    def gap(self, cut: Cut, tables: list[str] | None = None) -> None:
        """Says that around `cut` the record cannot be trusted for these tables (None: all)."""
        numbers = None if tables is None else tuple(r.number for r in self.registry.relations if r.name in tables)
        self.vault.append(Gap("gap", 1, cut.lsn - 8, cut.lsn + 8, numbers, "test", "2026-03-01T00:00:00+00:00"))


def contents(db: Database, *, where: dict[str, str] | None = None, but: tuple[str, ...] = ()) -> Contents:
    """Every table's rows, whole; `where` chooses the tables and gives a condition for each."""
    found: Contents = {}
    with psycopg.connect(db.dsn, autocommit=True, options="-c search_path= -c extra_float_digits=1") as conn:
        for table in read_catalog(conn).tables:
            name = f"{table.schema}.{table.name}"
            if table.kind != "r" or table.name in but or (where is not None and table.name not in where):
                continue
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            condition = where[table.name] if where is not None else "true"
            query = f'COPY (SELECT {columns} FROM ONLY "{table.schema}"."{table.name}" WHERE {condition}) TO STDOUT'
            with conn.cursor().copy(query.encode()) as copy:
                found[name] = sorted(b"".join(bytes(block) for block in copy).splitlines())
    return found


def structure(db: Database) -> list[tuple[str, ...]]:
    """Names and definitions of constraints, indexes, triggers, policies, columns, in order, for comparison."""
    return db.query(
        """SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = ANY (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
           UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes
            WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'
           UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger
            WHERE NOT tgisinternal
           UNION ALL SELECT 'policy', tablename, policyname, coalesce(qual, '') || coalesce(with_check, '') FROM pg_policies
           UNION ALL SELECT 'column', table_schema || '.' || table_name, column_name, concat_ws(' ', data_type, is_nullable,
                     column_default, is_identity, identity_generation, generation_expression)
                FROM information_schema.columns WHERE table_schema !~ '^pg_' AND table_schema <> 'information_schema'
           ORDER BY 1, 2, 3, 4"""
    )


def sequence_values(db: Database) -> dict[str, int]:
    """The next value of each sequence (taken: the sequence has moved on)."""
    names = db.query("SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename) FROM pg_sequences")
    return {name: int(db.query("SELECT nextval(%s)", name)[0][0]) for (name,) in names}
