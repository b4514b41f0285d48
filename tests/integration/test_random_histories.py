"""Random schemas, random transactions, random positions: the vault at a position is the source under its snapshot.

Two sessions write at once; in between a third looks at production under snapshots whose positions are known. Merges run
meanwhile. `BALLAST_HISTORIES=50 pytest tests/integration/test_random_histories.py` tries more seeds, half of them on each
PostgreSQL.
"""

import os
import random
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from ballast.vault.config import Tenants
from tests.fix_postgres import Database
from tests.fix_protected import Look, Protected, assert_equal

HISTORIES = int(os.environ.get("BALLAST_HISTORIES", "1"))
LOOKS = 5

VALUES: dict[str, tuple[str, ...]] = {
    "int": ("0", "-1", "2147483647", "NULL"),
    "bigint": ("-9223372036854775808", "7", "NULL"),
    "numeric": ("'NaN'", "'Infinity'", "1e100", "0.10", "-123456789012345678901234567890.123", "NULL"),
    "double precision": ("'NaN'", "'-Infinity'", "0.1", "1e-300", "-0.0"),
    "text": ("''", "NULL", r"E'tab\tnew\nline\\back'", r"E'\\.'", r"E'\\N'", "'店🛒'", "repeat('long ', 3000)", "repeat(md5(random()::text), 400)"),
    "bytea": (r"'\x00ff5c'", "''", "NULL"),
    "jsonb": ("""'{"a": [1, null, "x\\ty"]}'""", "'null'", "(SELECT jsonb_agg(md5(g::text)) FROM generate_series(1, 400) g)"),
    "timestamptz": ("'infinity'", "'0044-03-15 BC'", "'2026-03-01 18:55:00.123456+08'", "NULL"),
    "date": ("'-infinity'", "'2026-02-23'"),
    "interval": ("'1 year -2 days 03:04:05.6'", "'-1 mon'"),
    "uuid": ("'00000000-0000-0000-0000-000000000001'", "gen_random_uuid()"),
    "inet": ("'::1/128'", "'10.0.0.0/8'"),
    "int4range": ("'empty'", "'[1,5)'", "'(,)'"),
    "int4multirange": ("'{}'", "'{[1,3),[7,9)}'"),
    "text[]": ("'{}'", r"""'{NULL,"NULL","a,b","\"",""}'""", "'{{a},{b}}'"),
    "bit varying(9)": ("B''", "B'101'"),
    "point": ("'(1.5,-2)'",),
    "mood": ("'sad'", "'ok'"),
    "pair": ("ROW(1, 'a,b')", "ROW(NULL, '')"),
}  # fmt: skip
SHOP_TYPES = ("int", "text", "uuid")


class Source:
    """A random schema, and random statements that fit it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shop_type = self.chance.choice(SHOP_TYPES)
        self.tables = [f"t{n}" for n in range(self.chance.randint(2, 4))]
        self.columns: dict[str, list[str]] = {}
        self.types: dict[tuple[str, str], str] = {}
        self.lock = threading.Lock()
        self.serial = 0

    def shop(self) -> str:
        number = self.chance.randint(1, 6)
        return {
            "int": f"{number}",
            "text": f"'shop\t{number}'",
            "uuid": f"'0000000{number}-0000-0000-0000-000000000000'",
        }[self.shop_type]

    def create(self) -> list[str]:
        made = ["CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE pair AS (a int, b text)"]
        for table in self.tables:
            kinds = self.chance.sample(sorted(VALUES), self.chance.randint(1, 6))
            self.columns[table] = [f"c{n}" for n in range(len(kinds))]
            self.types |= {(table, f"c{n}"): kind for n, kind in enumerate(kinds)}
            columns = [f"shop {self.shop_type}{self.chance.choice(('', ' NOT NULL'))}", "id int NOT NULL"]
            columns += [f"c{n} {kind}" for n, kind in enumerate(kinds)]
            if self.chance.random() < 0.3:
                columns.append("twice int GENERATED ALWAYS AS (id * 2) STORED")
            self.chance.shuffle(columns)
            keys: list[str] = [self.chance.choice(("", "PRIMARY KEY (id)", "UNIQUE (id)"))]
            if f"shop {self.shop_type} NOT NULL" in columns:
                keys += ["PRIMARY KEY (shop, id)", "PRIMARY KEY (id, shop)"]
            made.append(f"CREATE TABLE {table} ({', '.join(filter(None, [*columns, self.chance.choice(keys)]))})")
        return made

    def statement(self, *, structural: bool) -> str:
        with self.lock:
            table = self.chance.choice(self.tables)
            roll = self.chance.random() * (1.0 if structural else 0.94)
            self.serial += 1
            if roll < 0.5:
                return self._insert(table)
            if roll < 0.75:
                return self._update(table)
            if roll < 0.84:
                return (
                    f"DELETE FROM {table} WHERE id % 7 = {self.chance.randint(0, 6)} AND id > {self.serial * 20 - 400}"
                )
            if roll < 0.90:
                return f"UPDATE {table} SET id = id + 1000000 WHERE id % 11 = {self.chance.randint(0, 10)}"
            if roll < 0.94:
                return f"UPDATE {table} SET shop = {self.shop()} WHERE id % 5 = {self.chance.randint(0, 4)}"
            if roll < 0.95:
                return f"TRUNCATE {table}"
            return self._ddl(table)

    def _insert(self, table: str) -> str:
        names = ["shop", "id", *self.columns[table]]
        rows = []
        for n in range(self.chance.randint(1, 20)):
            values = [self.chance.choice(VALUES[self.types[table, c]]) for c in self.columns[table]]
            rows.append(f"({', '.join([self.shop(), str(self.serial * 20 + n), *values])})")
        return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join(rows)}"

    def _update(self, table: str) -> str:
        if not self.columns[table]:
            return "SELECT 1"
        column = self.chance.choice(self.columns[table])
        value = self.chance.choice(VALUES[self.types[table, column]])
        return f"UPDATE {table} SET {column} = {value} WHERE id % 3 = {self.chance.randint(0, 2)}"

    def _ddl(self, table: str) -> str:
        roll = self.chance.random()
        if roll < 0.5 or not self.columns[table]:
            name, kind = f"n{self.serial}", self.chance.choice(("int", "text", "numeric"))
            self.columns[table].append(name)
            self.types[table, name] = kind
            return f"ALTER TABLE {table} ADD COLUMN {name} {kind}{self.chance.choice(('', ' DEFAULT 5'))}"
        column = self.columns[table].pop(self.chance.randrange(len(self.columns[table])))
        if roll < 0.75:
            return f"ALTER TABLE {table} DROP COLUMN {column}"
        self.columns[table].append(new := f"r{self.serial}")
        self.types[table, new] = self.types[table, column]
        return f"ALTER TABLE {table} RENAME COLUMN {column} TO {new}"


def write(protected: Protected, source: Source, stop: threading.Event) -> None:
    """One session: transactions of a few statements, some rolled back, some with savepoints. What fails, fails."""
    with psycopg.connect(protected.db.dsn, autocommit=True, options="-c lock_timeout=2s") as conn:
        while not stop.is_set():
            try:
                with conn.transaction():
                    structural = source.chance.random() < 0.2
                    if structural:
                        conn.execute("SELECT pg_advisory_xact_lock_shared(1)")
                    for _ in range(source.chance.randint(1, 5)):
                        try:
                            with conn.transaction():
                                conn.execute(source.statement(structural=structural))  # type: ignore[arg-type]
                                if source.chance.random() < 0.05:
                                    raise psycopg.Rollback
                        except psycopg.Error:
                            continue
                    if source.chance.random() < 0.1:
                        raise psycopg.Rollback
            except psycopg.Error:
                continue
            time.sleep(0.05)  # what is written is read back many times


def look(protected: Protected) -> Look:
    """Without DDL or TRUNCATE meanwhile, which do not heed older snapshots; rows go on changing."""
    with protected.db.connect() as conn:
        conn.execute("SELECT pg_advisory_lock(1)")
        try:
            return protected.look()
        finally:
            conn.execute("SELECT pg_advisory_unlock(1)")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "version"), [(number // 2, (18, 16)[number % 2]) for number in range(HISTORIES)])
def test_the_vault_at_any_position_is_the_source_under_its_snapshot(
    seed: int, version: int, request: pytest.FixtureRequest, new_protected: Callable[..., Protected]
) -> None:
    db: Database = request.getfixturevalue(f"pg{version}")
    source = Source(1000 * version + seed)
    db.run(*source.create())
    protected = new_protected(db, Tenants(column="shop"), merge_every_s=2.0, seal_bytes=262144)
    try:
        protected.protect()
        protected.start()
        stop = threading.Event()
        writers = [threading.Thread(target=write, args=(protected, source, stop)) for _ in range(2)]
        for writer in writers:
            writer.start()
        looks = []
        try:
            for _ in range(LOOKS):
                time.sleep(source.chance.random() * 1.5)
                looks.append(look(protected))
        finally:
            stop.set()
            for writer in writers:
                writer.join(60)
        looks.append(protected.look())
        protected.sealed(looks[-1].cut)
        protected.wishes_granted()
        vault = protected.vault()
        exact = [seen for seen in looks if not vault.index.gap_at(seen.cut)]
        assert len(exact) >= 2, "gaps nearly everywhere: this history proves nothing"
        for seen in exact:
            assert_equal(vault, seen)
        protected.verified()
    finally:
        protected.end()
