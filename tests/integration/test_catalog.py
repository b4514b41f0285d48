"""The catalog as records: every kind of table, column, key and sequence comes out as PostgreSQL has it."""

from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.rows import dict_row

from ballast.postgres import (
    Catalog,
    Column,
    ForeignKey,
    Sequence,
    Table,
    count_large_objects,
    read_catalog,
    read_table,
    server_facts,
)
from tests.fix_postgres import Database


def catalog_of(pg: Database, *, measure_sizes: bool = False) -> Catalog:
    return read_catalog(pg.connect(), measure_sizes=measure_sizes)


def table(catalog: Catalog, name: str) -> Table:
    [found] = [t for t in catalog.tables if f"{t.schema}.{t.name}" == name or t.name == name]
    return found


def columns(catalog: Catalog, name: str) -> dict[str, Column]:
    return {c.name: c for c in table(catalog, name).columns}


def foreign_keys(catalog: Catalog, name: str) -> list[ForeignKey]:
    return [k for k in catalog.foreign_keys if k.table_oid == table(catalog, name).oid]


def sequence(catalog: Catalog, name: str) -> Sequence:
    [found] = [s for s in catalog.sequences if s.name == name]
    return found


# The whole


def test_an_empty_database_is_described(pg: Database) -> None:
    catalog = catalog_of(pg)
    assert catalog.database == pg.name
    assert catalog.server_version_num // 10000 == pg.major
    assert catalog.encoding == "UTF8"
    assert (catalog.locale_provider, catalog.locale) == ("c" if pg.major == 16 else "b", "C.UTF-8")
    assert (catalog.tables, catalog.foreign_keys, catalog.sequences) == ((), (), ())


def test_it_is_json_and_back(pg: Database) -> None:
    pg.run("CREATE TABLE t (id bigserial PRIMARY KEY, up int REFERENCES t, x text DEFAULT 'ü\"')")
    catalog = catalog_of(pg)
    assert msgspec.json.decode(msgspec.json.encode(catalog), type=Catalog) == catalog


def test_only_what_belongs_to_the_application_is_read(pg: Database) -> None:
    connection = pg.connect()
    for statement in (
        "CREATE SCHEMA ballast CREATE TABLE canary (n int)",
        'CREATE SCHEMA "Über" CREATE TABLE "a.b" (n int)',
        "CREATE TEMPORARY TABLE passing (n serial)",
        "CREATE TABLE kept (n int)",
        "CREATE VIEW seen AS TABLE kept",
        "CREATE MATERIALIZED VIEW stored AS TABLE kept",
    ):
        connection.execute(statement)
    catalog = read_catalog(connection)
    assert [(t.schema, t.name) for t in catalog.tables] == [
        ("ballast", "canary"),
        ("public", "kept"),
        ("Über", "a.b"),
    ]
    assert catalog.sequences == ()
    assert [t.name for t in read_catalog(connection, ["public"]).tables] == ["kept"]
    assert read_catalog(connection, []).tables == ()


def test_it_is_as_of_the_transactions_snapshot(pg: Database) -> None:
    pg.run("CREATE TABLE first ()")
    reader = pg.connect(autocommit=False)
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    reader.execute("SELECT 1")
    pg.run("CREATE TABLE second ()", "DROP TABLE first")
    assert [t.name for t in read_catalog(reader).tables] == ["first"]
    reader.rollback()
    assert [t.name for t in read_catalog(reader).tables] == ["second"]


def test_the_callers_settings_and_transaction_stay_as_they_were(pg: Database) -> None:
    pg.run("CREATE TABLE t (n int DEFAULT 1)")
    connection = pg.connect(autocommit=False, row_factory=dict_row)
    connection.execute("SET datestyle = 'German'")
    connection.execute("SET search_path = public, pg_catalog")
    connection.execute("CREATE TABLE mine (d date DEFAULT '2020-01-31')")
    assert len(read_catalog(connection).tables) == 2
    shown: list[Any] = connection.execute(
        "SELECT current_setting('datestyle') AS d, current_setting('search_path') AS s"
    ).fetchall()
    assert shown == [{"d": "German, DMY", "s": "public, pg_catalog"}]
    connection.commit()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    read_catalog(connection)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_a_table_locked_by_a_long_alter_does_not_hold_it_up(pg: Database) -> None:
    pg.run("CREATE TABLE busy (id serial PRIMARY KEY, n int DEFAULT 7)")
    other = pg.connect(autocommit=False)
    other.execute("LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
    connection = pg.connect()
    connection.execute("SET lock_timeout = '2s'")
    assert columns(read_catalog(connection), "busy")["n"].default == "7"
    with pytest.raises(psycopg.errors.LockNotAvailable):
        read_catalog(connection, measure_sizes=True)


def test_an_ordinary_role_reads_it_too(pg: Database) -> None:
    pg.run("CREATE TABLE t (id serial PRIMARY KEY)", "CREATE ROLE reader LOGIN")
    pg.run("CREATE SCHEMA closed CREATE SEQUENCE unseen", "CREATE SEQUENCE open", "GRANT SELECT ON open TO reader")
    catalog = read_catalog(pg.connect(user="reader"))
    assert table(catalog, "t").primary_key == (1,)
    assert sequence(catalog, "unseen").last_value is None
    assert sequence(catalog, "unseen").is_called is None
    assert (sequence(catalog, "open").last_value, sequence(catalog, "open").is_called) == (1, False)


def test_one_table_is_read_by_its_oid(pg: Database) -> None:
    pg.run("CREATE TABLE one (id int PRIMARY KEY)", "CREATE TABLE two (id int)")
    catalog = catalog_of(pg)
    assert read_table(pg.connect(), table(catalog, "one").oid) == table(catalog, "one")
    assert read_table(pg.connect(), 1259) is None
    assert read_table(pg.connect(), 4_000_000_000) is None


# Columns


def test_types_are_printed_whole_and_domains_down_to_their_base(pg: Database) -> None:
    pg.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE TYPE pair AS (a int, b text)",
        "CREATE DOMAIN amount AS numeric(12,2) CHECK (VALUE >= 0)",
        "CREATE DOMAIN price AS amount NOT NULL",
        "CREATE DOMAIN many AS int[]",
        """CREATE TABLE t (
            n numeric(10,3), v varchar(20), a int[], ts timestamptz(3), m mood, ms mood[], p pair, d price,
            dm many, r int4range, mr int4multirange, "Odd ""name" text, b bit varying(7))""",
    )
    found = columns(catalog_of(pg), "t")
    assert {name: (c.type, c.type_kind, c.base_type) for name, c in found.items()} == {
        "n": ("numeric(10,3)", "b", "numeric(10,3)"),
        "v": ("character varying(20)", "b", "character varying(20)"),
        "a": ("integer[]", "b", "integer[]"),
        "ts": ("timestamp(3) with time zone", "b", "timestamp(3) with time zone"),
        "m": ("public.mood", "e", "public.mood"),
        "ms": ("public.mood[]", "b", "public.mood[]"),
        "p": ("public.pair", "c", "public.pair"),
        "d": ("public.price", "d", "numeric(12,2)"),
        "dm": ("public.many", "d", "integer[]"),
        "r": ("int4range", "r", "int4range"),
        "mr": ("int4multirange", "m", "int4multirange"),
        'Odd "name': ("text", "b", "text"),
        "b": ("bit varying(7)", "b", "bit varying(7)"),
    }
    assert found["n"].type_oid == 1700


def test_defaults_identities_and_generated_values(pg: Database) -> None:
    pg.run(
        """CREATE TABLE t (
            a int GENERATED ALWAYS AS IDENTITY, b int GENERATED BY DEFAULT AS IDENTITY, c serial,
            d text DEFAULT 'x' || 'y' NOT NULL, s int GENERATED ALWAYS AS (c * 2) STORED, plain int)"""
    )
    found = columns(catalog_of(pg), "t")
    assert {n: (c.identity, c.generated, c.not_null, c.default) for n, c in found.items()} == {
        "a": ("a", "", True, None),
        "b": ("d", "", True, None),
        "c": ("", "", True, "nextval('public.t_c_seq'::regclass)"),
        "d": ("", "", True, "('x'::text || 'y'::text)"),
        "s": ("", "s", False, "(c * 2)"),
        "plain": ("", "", False, None),
    }


def test_a_virtual_column_is_told_from_a_stored_one(pg18: Database) -> None:
    pg18.run("CREATE TABLE t (a int, v int GENERATED ALWAYS AS (a + 1), s int GENERATED ALWAYS AS (a) STORED)")
    found = columns(catalog_of(pg18), "t")
    assert (found["v"].generated, found["v"].default) == ("v", "(a + 1)")
    assert found["s"].generated == "s"


def test_not_null_counts_only_when_it_holds_for_all_rows(pg18: Database) -> None:
    pg18.run(
        "CREATE TABLE t (a int, b int, c int NOT NULL)",
        "INSERT INTO t VALUES (NULL, 1, 1)",
        "ALTER TABLE t ADD CONSTRAINT a_there NOT NULL a NOT VALID",
        "ALTER TABLE t ADD CONSTRAINT b_there NOT NULL b NOT VALID",
        "ALTER TABLE t VALIDATE CONSTRAINT b_there",
        "CREATE UNIQUE INDEX t_a ON t (a)",
        "CREATE UNIQUE INDEX t_b ON t (b)",
    )
    found = table(catalog_of(pg18), "t")
    assert [(c.name, c.not_null) for c in found.columns] == [("a", False), ("b", True), ("c", True)]
    assert [i.name for i in found.unique_indexes] == ["t_b"]


def test_dropped_columns_are_left_out_and_numbers_stay(pg: Database) -> None:
    pg.run("CREATE TABLE t (a int, b int, c int)", "ALTER TABLE t DROP b", "ALTER TABLE t RENAME c TO cc")
    found = table(catalog_of(pg), "t")
    assert [(c.attnum, c.name) for c in found.columns] == [(1, "a"), (3, "cc")]
    assert found.column_name(3) == "cc"
    with pytest.raises(KeyError):
        found.column(2)


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("int", "5"),
        ("text", """it's "a" \\ {b}, c\n"""),
        ("text", ""),
        ("text", "NULL"),
        ("int[]", "{1,NULL,3}"),
        ("text[]", '{"a b","c\\"d",NULL}'),
        ("box", "(2,2),(1,1)"),
        ("timestamptz", "2020-02-29 12:00:00+00"),
        ("interval", "1 mon 2 days 03:04:05"),
        ("bytea", "\\x00ff"),
        ("jsonb", '{"a": [1, 2]}'),
        ("float8", "0.1"),
    ],
)
def test_the_value_of_rows_older_than_their_column(pg: Database, type: str, value: str) -> None:
    literal = psycopg.sql.Literal(value).as_string()
    pg.run("CREATE TABLE t (a int)", "INSERT INTO t VALUES (1)")
    pg.run(f"ALTER TABLE t ADD b {type} DEFAULT {literal}", "ALTER TABLE t ALTER b DROP DEFAULT")
    pg.run("ALTER TABLE t ADD later int")
    connection = pg.connect()
    connection.execute("SET timezone = 'Asia/Shanghai'; SET datestyle = 'German'; SET bytea_output = 'escape'")
    found = columns(read_catalog(connection), "t")
    assert (found["b"].has_missing, found["b"].missing, found["b"].default) == (True, value, None)
    assert (found["later"].has_missing, found["later"].missing) == (False, None)
    assert (found["a"].has_missing, found["a"].missing) == (False, None)


def test_a_collation_other_than_the_types_own_is_named(pg: Database) -> None:
    pg.run('CREATE TABLE t (a text, b text COLLATE "C", c text COLLATE "POSIX", n int)')
    assert {n: c.collation for n, c in columns(catalog_of(pg), "t").items()} == {
        "a": None,
        "b": 'pg_catalog."C"',
        "c": 'pg_catalog."POSIX"',
        "n": None,
    }


# Tables


def test_partitions_know_their_root_and_their_parent(pg: Database) -> None:
    pg.run(
        "CREATE TABLE r (k int, d date) PARTITION BY LIST (k)",
        "CREATE TABLE r1 PARTITION OF r FOR VALUES IN (1) PARTITION BY RANGE (d)",
        "CREATE TABLE r1a PARTITION OF r1 FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
        "CREATE TABLE rest PARTITION OF r DEFAULT",
        "CREATE TABLE alone (k int, d date)",
        "CREATE TABLE heir () INHERITS (alone)",
    )
    catalog = catalog_of(pg)
    oid = {t.name: t.oid for t in catalog.tables}
    described = {
        t.name: (t.kind, t.is_partition, t.root_oid, t.parent_oid, t.partition_bound, t.inherits)
        for t in catalog.tables
    }
    assert described == {
        "r": ("p", False, oid["r"], None, None, ()),
        "r1": ("p", True, oid["r"], oid["r"], "FOR VALUES IN (1)", ()),
        "r1a": (
            "r",
            True,
            oid["r"],
            oid["r1"],
            "FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')",
            (),
        ),
        "rest": ("r", True, oid["r"], oid["r"], "DEFAULT", ()),
        "alone": ("r", False, oid["alone"], None, None, ()),
        "heir": ("r", False, oid["heir"], None, None, (oid["alone"],)),
    }
    assert table(catalog, "r").relfilenode == 0
    assert read_table(pg.connect(), oid["r1a"]) == table(catalog, "r1a")


def test_a_detached_partition_is_a_table_of_its_own(pg: Database) -> None:
    pg.run(
        "CREATE TABLE r (k int) PARTITION BY LIST (k)",
        "CREATE TABLE r1 PARTITION OF r FOR VALUES IN (1)",
        "ALTER TABLE r DETACH PARTITION r1",
    )
    found = table(catalog_of(pg), "r1")
    assert (found.is_partition, found.root_oid, found.parent_oid) == (False, found.oid, None)


def test_what_identifies_a_row_under_each_replica_identity(pg: Database) -> None:
    pg.run(
        "CREATE TABLE by_key (x int, b int, a int, PRIMARY KEY (a, b) INCLUDE (x))",
        "CREATE TABLE by_index (id int PRIMARY KEY, tenant int NOT NULL, UNIQUE (tenant, id))",
        "ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_tenant_id_key",
        "CREATE TABLE in_full (id int PRIMARY KEY)",
        "ALTER TABLE in_full REPLICA IDENTITY FULL",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE lost (id int NOT NULL, CONSTRAINT lost_once UNIQUE (id))",
        "ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_once",
        "ALTER TABLE lost DROP CONSTRAINT lost_once",
    )
    catalog = catalog_of(pg)
    described = {
        t.name: (t.replica_identity, t.identity_columns, t.primary_key, t.identifies_rows) for t in catalog.tables
    }
    assert described == {
        "by_key": ("d", (3, 2), (3, 2), True),
        "by_index": ("i", (2, 1), (1,), True),
        "in_full": ("f", (), (1,), True),
        "nothing": ("n", (), (1,), False),
        "keyless": ("d", (), (), False),
        "deferred": ("d", (), (1,), False),
        "lost": ("i", (), (), False),
    }
    publish = pg.connect()
    publish.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    for t in catalog.tables:
        publish.execute(f'INSERT INTO "{t.name}" SELECT {", ".join("1" for _ in t.columns)}'.encode())
        delete = f'DELETE FROM "{t.name}"'.encode()
        if t.identifies_rows:
            publish.execute(delete)
        else:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                publish.execute(delete)


def test_only_indexes_that_may_be_a_replica_identity_are_offered(pg: Database) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int, c text NOT NULL)",
        "CREATE UNIQUE INDEX good ON t (c, a) INCLUDE (b)",
        "CREATE UNIQUE INDEX nullable ON t (a, b)",
        "CREATE UNIQUE INDEX partial ON t (a) WHERE b > 0",
        "CREATE UNIQUE INDEX expression ON t (lower(c))",
        "CREATE INDEX not_unique ON t (a)",
        "ALTER TABLE t ADD CONSTRAINT later UNIQUE (a, c) DEFERRABLE",
    )
    connection = pg.connect()
    connection.execute("INSERT INTO t VALUES (1, 1, 1, 'x'), (2, 1, NULL, 'y')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY invalid ON t (a)")
    found = table(read_catalog(connection), "t")
    assert [(i.name, i.columns) for i in found.unique_indexes] == [("t_pkey", (1,)), ("good", (4, 2))]
    for index in ("nullable", "partial", "expression", "not_unique", "later"):
        with pytest.raises(psycopg.Error):
            connection.execute(f"ALTER TABLE t REPLICA IDENTITY USING INDEX {index}".encode())
    connection.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX invalid")  # accepted, and of no effect
    assert table(read_catalog(connection), "t").identity_columns == ()
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        connection.execute("DELETE FROM t")
    connection.execute("ALTER TABLE t REPLICA IDENTITY USING INDEX good")
    assert table(read_catalog(connection), "t").identity_columns == (4, 2)
    connection.execute("DELETE FROM t")


def test_a_key_without_overlaps_identifies_a_row(pg18: Database) -> None:
    pg18.run("CREATE TABLE t (during daterange, room int4range, PRIMARY KEY (room, during WITHOUT OVERLAPS))")
    found = table(catalog_of(pg18), "t")
    assert found.primary_key == (2, 1)
    assert found.identity_columns == (2, 1)


def test_persistence_row_security_and_changes_show(pg: Database) -> None:
    pg.run("CREATE UNLOGGED TABLE u (a int)", "CREATE TABLE t (a int)")
    before = catalog_of(pg)
    assert table(before, "u").persistence == "u"
    assert table(before, "t").persistence == "p"
    assert not table(before, "t").row_security
    pg.run(
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE u ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE u FORCE ROW LEVEL SECURITY",
        "INSERT INTO t VALUES (1)",
        "TRUNCATE t",
    )
    after = catalog_of(pg)
    assert (table(after, "t").row_security, table(after, "t").force_row_security) == (True, False)
    assert (table(after, "u").row_security, table(after, "u").force_row_security) == (True, True)
    assert table(after, "t").relfilenode != table(before, "t").relfilenode
    assert int(table(after, "t").xmin) > int(table(before, "t").xmin)


def test_rows_and_bytes_are_estimates_unless_measured(pg: Database) -> None:
    pg.run("CREATE TABLE t (a text) WITH (autovacuum_enabled = off)")
    pg.run("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 500)")
    fresh = table(catalog_of(pg), "t")
    assert (fresh.estimated_rows, fresh.bytes) == (None, 0)
    assert table(catalog_of(pg, measure_sizes=True), "t").bytes > 500_000
    pg.run("ANALYZE t")
    counted = table(catalog_of(pg), "t")
    assert counted.estimated_rows == 500
    assert counted.bytes > 500_000


def test_tables_of_extensions_are_told_apart(pg: Database) -> None:
    pg.run("CREATE EXTENSION IF NOT EXISTS vector", "CREATE TABLE t (e vector(3))", "CREATE TABLE x ()")
    pg.run("ALTER EXTENSION vector ADD TABLE x")
    catalog = catalog_of(pg)
    assert table(catalog, "t").extension is None
    assert columns(catalog, "t")["e"].type == "public.vector(3)"
    assert table(catalog, "x").extension == "vector"


# Foreign keys


def test_foreign_keys_with_all_their_manners(pg: Database) -> None:
    pg.run(
        "CREATE TABLE parent (x int, a int, b int, PRIMARY KEY (b, a), UNIQUE (x))",
        """CREATE TABLE child (
            p int, q int, r int REFERENCES parent (x) ON DELETE SET NULL ON UPDATE CASCADE,
            CONSTRAINT pair FOREIGN KEY (p, q) REFERENCES parent (b, a) MATCH FULL
                ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)""",
        "ALTER TABLE child ADD CONSTRAINT late FOREIGN KEY (r) REFERENCES parent (x) NOT VALID",
    )
    catalog = catalog_of(pg)
    assert foreign_keys(catalog, "parent") == []
    keys = {k.name: k for k in foreign_keys(catalog, "child")}
    assert keys["pair"] == ForeignKey(
        name="pair",
        table_oid=table(catalog, "child").oid,
        columns=(1, 2),
        ref_table_oid=table(catalog, "parent").oid,
        ref_columns=(3, 2),
        deferrable=True,
        initially_deferred=True,
        on_delete="c",
        on_update="a",
        match_full=True,
        validated=True,
        enforced=True,
        temporal=False,
        inherited=False,
    )
    simple = keys["child_r_fkey"]
    assert (simple.on_delete, simple.on_update, simple.deferrable, simple.match_full) == ("n", "c", False, False)
    assert not keys["late"].validated


def test_foreign_keys_between_partitioned_tables_are_those_that_rows_must_obey(pg: Database) -> None:
    pg.run(
        "CREATE TABLE parent (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parent1 PARTITION OF parent FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE parent2 PARTITION OF parent FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE child (id int, p int REFERENCES parent) PARTITION BY RANGE (id)",
        "CREATE TABLE child1 PARTITION OF child FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE plain (p int REFERENCES parent)",
    )
    catalog = catalog_of(pg)
    oid = {t.name: t.oid for t in catalog.tables}
    assert {(k.table_oid, k.ref_table_oid, k.inherited) for k in catalog.foreign_keys} == {
        (oid["child"], oid["parent"], False),
        (oid["child1"], oid["parent"], True),
        (oid["plain"], oid["parent"], False),
    }
    assert len(catalog.foreign_keys) == 3


def test_foreign_keys_of_the_newest_kinds(pg18: Database) -> None:
    pg18.run(
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (p int, CONSTRAINT loose FOREIGN KEY (p) REFERENCES parent NOT ENFORCED)",
        "CREATE TABLE stay (room int4range, during daterange, PRIMARY KEY (room, during WITHOUT OVERLAPS))",
        """CREATE TABLE meal (room int4range, during daterange, CONSTRAINT within
            FOREIGN KEY (room, PERIOD during) REFERENCES stay (room, PERIOD during))""",
    )
    keys = {k.name: k for k in catalog_of(pg18).foreign_keys}
    assert (keys["loose"].enforced, keys["loose"].temporal) == (False, False)
    assert (keys["within"].enforced, keys["within"].temporal) == (True, True)


# Sequences


def test_sequences_with_their_values_and_the_columns_they_feed(pg: Database) -> None:
    pg.run(
        "CREATE TABLE t (a serial, b int GENERATED ALWAYS AS IDENTITY, c bigint)",
        'CREATE SEQUENCE "Shared one" AS smallint INCREMENT -2 MINVALUE -100 MAXVALUE 50 START 40 CACHE 7 CYCLE',
        "ALTER TABLE t ALTER c SET DEFAULT nextval('\"Shared one\"')",
        "CREATE TABLE u (n int DEFAULT 100 + nextval('\"Shared one\"'))",
        "CREATE SEQUENCE unused",
        "CREATE SEQUENCE owned OWNED BY t.c",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t DEFAULT VALUES",
    )
    catalog = catalog_of(pg)
    t, u = table(catalog, "t").oid, table(catalog, "u").oid
    serial, identity = sequence(catalog, "t_a_seq"), sequence(catalog, "t_b_seq")
    assert (serial.owned_by, serial.feeds, serial.last_value, serial.is_called) == ((t, 1), ((t, 1),), 2, True)
    assert (serial.data_type, serial.max, serial.cache, serial.cycle) == ("integer", 2**31 - 1, 1, False)
    assert (identity.owned_by, identity.feeds, identity.last_value) == ((t, 2), ((t, 2),), 2)
    shared = sequence(catalog, "Shared one")
    assert shared == Sequence(
        schema="public",
        name="Shared one",
        oid=shared.oid,
        persistence="p",
        data_type="smallint",
        start=40,
        increment=-2,
        min=-100,
        max=50,
        cache=7,
        cycle=True,
        owned_by=None,
        feeds=((t, 3), (u, 1)),
        last_value=shared.last_value,
        is_called=True,
    )
    unused, owned = sequence(catalog, "unused"), sequence(catalog, "owned")
    assert (unused.last_value, unused.is_called, unused.feeds, unused.max) == (1, False, (), 2**63 - 1)
    assert (owned.owned_by, owned.feeds) == ((t, 3), ())


def test_a_sequence_dropped_meanwhile_has_no_value(pg: Database) -> None:
    pg.run("CREATE SEQUENCE gone", "CREATE SEQUENCE kept")
    reader = pg.connect(autocommit=False)
    reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    reader.execute("SELECT 1")
    pg.run("DROP SEQUENCE gone")
    catalog = read_catalog(reader)
    assert sequence(catalog, "gone").last_value is None
    assert sequence(catalog, "kept").last_value == 1


def test_reading_sequences_leaves_no_lock_behind(pg: Database) -> None:
    pg.run("CREATE TABLE t (a serial)")
    reader = pg.connect(autocommit=False)
    read_catalog(reader)
    changer = pg.connect()
    changer.execute("SET lock_timeout = '2s'")
    changer.execute("ALTER SEQUENCE t_a_seq CACHE 5")
    changer.execute("DROP TABLE t")


def test_a_thousand_tables_are_read_in_a_moment(pg18: Database) -> None:
    connection = pg18.connect()
    connection.execute(
        "DO $$ BEGIN FOR i IN 1..1000 LOOP"
        " EXECUTE format('CREATE TABLE t%s (id bigserial PRIMARY KEY, a int, b text DEFAULT 5, c date)', i);"
        " END LOOP; END $$"
    )
    connection.execute("SET statement_timeout = '10s'")
    catalog = read_catalog(connection)
    assert len(catalog.tables) == len(catalog.sequences) == 1000
    assert all(s.last_value == 1 for s in catalog.sequences)


# The rest


def test_large_objects_are_counted(pg: Database) -> None:
    connection = pg.connect()
    assert count_large_objects(connection) == 0
    connection.execute("SELECT lo_from_bytea(0, 'x'), lo_create(0)")
    assert count_large_objects(connection) == 2


def test_a_server_tells_what_it_is_and_allows(pg: Database) -> None:
    connection = pg.connect()
    facts = server_facts(connection)
    assert facts.major == pg.major
    assert facts.database == pg.name
    assert facts.role == "postgres"
    assert facts.is_superuser
    assert facts.may_replicate
    assert facts.may_bypass_rls
    assert facts.can_create_in_database
    assert facts.can_set_replication_role
    assert not facts.in_recovery
    assert not facts.ssl
    assert facts.wal_level == "logical"
    assert facts.track_commit_timestamp
    assert facts.max_slot_wal_keep_size_bytes == -1
    assert facts.idle_replication_slot_timeout_s == (None if pg.major == 16 else 0)
    assert facts.system_identifier == read_catalog(connection).system_identifier
    assert facts.timeline == 1
    assert facts.synchronous_standby_names == ""

    connection.execute("SELECT pg_create_logical_replication_slot('one', 'pgoutput')")
    connection.execute("CREATE TABLE t ()")
    later = server_facts(connection)
    assert later.used_replication_slots == facts.used_replication_slots + 1
    assert later.wal_lsn > facts.wal_lsn


def test_a_server_tells_an_ordinary_role_how_little_it_may(pg: Database) -> None:
    pg.run("CREATE ROLE guest LOGIN", "ALTER ROLE guest SET synchronous_commit = off")
    facts = server_facts(pg.connect(user="guest"))
    assert facts.role == "guest"
    assert facts.synchronous_commit == "off"
    powers = (facts.is_superuser, facts.may_replicate, facts.may_bypass_rls)
    assert not any((*powers, facts.can_create_in_database, facts.can_set_replication_role))
    pg.run("GRANT SET ON PARAMETER session_replication_role TO guest", "ALTER ROLE guest REPLICATION BYPASSRLS")
    facts = server_facts(pg.connect(user="guest"))
    assert facts.may_replicate
    assert facts.may_bypass_rls
    assert facts.can_set_replication_role


def test_limits_on_kept_wal_are_read_in_bytes(pg: Database) -> None:
    pg.run("ALTER SYSTEM SET max_slot_wal_keep_size = '3GB'", "SELECT pg_reload_conf()")
    with pg.connect() as connection:
        assert server_facts(connection).max_slot_wal_keep_size_bytes == 3 << 30
