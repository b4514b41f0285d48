"""What the event triggers tell of DDL, held against the catalog; and that they never come in anybody's way."""

from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.postgres import pgoutput, read_catalog
from ballast.vault import registry, server
from ballast.vault.config import Tenants
from ballast.vault.records import ByColumn, Relation, Shared, Via
from ballast.vault.registry import Change, Registry
from ballast.vault.tables import TableFacts, tables_of
from tests.fix_postgres import Connection, Database

TENANTS = Tenants(column="shop_id", shared=("public.country",))


class Captured:
    """A database with our objects on it, and a registry that follows its stream."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.conn = database.connect()
        server.install(self.conn, TENANTS.column, {"public.country": []})
        assert server.install_event_triggers(self.conn) is None
        for table in tables_of(read_catalog(self.conn)):
            server.settle_identity(self.conn, table.oid, table.qualified)
        self.conn.execute("CREATE PUBLICATION ballast FOR ALL TABLES")
        self.conn.execute("SELECT pg_create_logical_replication_slot('ballast', 'pgoutput')")
        self.registry = Registry(TENANTS)
        self.registry.read(tables_of(read_catalog(self.conn)), "protect")
        self.messages: list[registry.DdlMessage] = []
        self.stream: list[pgoutput.LogicalMessage] = []

    def run(self, *statements: str, conn: Connection | None = None) -> list[Change]:
        """Execute, take in what the stream says of it, and compare with the catalog."""
        for statement in statements:
            (conn or self.conn).execute(statement.encode())
        changes = self.follow()
        self.compare()
        return changes

    def follow(self) -> list[Change]:
        self.stream = list(self.read_stream())
        self.messages = []
        changes = []
        for message in self.stream:
            if isinstance(message, pgoutput.Message) and message.prefix == registry.PREFIX:
                told = registry.decode(message.content)
                self.messages.append(told)
                changes.append(self.registry.ddl(told))
            elif isinstance(message, pgoutput.Relation):
                change = self.registry.relation(message)
                if change is not None:
                    changes.append(change)
        return changes

    def read_stream(self) -> Iterator[pgoutput.LogicalMessage]:
        rows = self.conn.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes('ballast', NULL, NULL,"
            " 'proto_version', '1', 'publication_names', 'ballast', 'messages', 'true')"
        ).fetchall()
        for (data,) in rows:
            yield pgoutput.decode(data)

    def compare(self) -> None:
        """The registry that followed messages is the one that a reading of the catalog gives."""
        fresh = Registry(TENANTS)
        fresh.read([t for t in tables_of(read_catalog(self.conn)) if t.persistence == "p"], "check")
        followed = {r.oid: _comparable(r) for r in self.registry.relations}
        assert followed == {r.oid: _comparable(r) for r in fresh.relations}

    def relation(self, name: str) -> Relation:
        return next(r for r in self.registry.relations if r.qualified == name)

    def identity(self, name: str) -> str:
        return str(self.database.query("SELECT relreplident::text FROM pg_class WHERE oid = %s::regclass", name)[0][0])


def _comparable(relation: Relation) -> Relation:
    rule = relation.tenant
    return msgspec.structs.replace(relation, number=0, tenant=rule)


@pytest.fixture
def captured(pg: Database) -> Captured:
    pg.run(
        "CREATE TABLE shops (shop_id int PRIMARY KEY, name text)",
        "CREATE TABLE orders (shop_id int NOT NULL REFERENCES shops, id int, note text DEFAULT 'none',"
        " PRIMARY KEY (shop_id, id))",
        "CREATE TABLE country (code text PRIMARY KEY)",
        "CREATE TABLE line (id int PRIMARY KEY, shop int NOT NULL, order_id int NOT NULL,"
        " FOREIGN KEY (shop, order_id) REFERENCES orders)",
    )
    return Captured(pg)


def test_structure_followed_by_messages_is_the_catalogs(captured: Captured) -> None:
    captured.compare()
    assert captured.relation("public.line").tenant == Via((2, 3), captured.relation("public.orders").oid, (1, 2))
    statements = [
        "CREATE TABLE item (shop_id int, id int GENERATED ALWAYS AS IDENTITY, price numeric(12,2),"
        " twice numeric GENERATED ALWAYS AS (price * 2) STORED, PRIMARY KEY (shop_id, id))",
        "ALTER TABLE item ADD COLUMN stamp timestamptz DEFAULT '2020-01-01 00:00:00+02'",
        "ALTER TABLE item RENAME COLUMN price TO cost",
        "ALTER TABLE item DROP COLUMN twice",
        "ALTER TABLE item ALTER COLUMN cost TYPE numeric(14,3)",
        "ALTER TABLE item ADD COLUMN label text NOT NULL DEFAULT E'a\\tb'",
        "ALTER TABLE item ALTER COLUMN label DROP DEFAULT",
        "CREATE UNIQUE INDEX item_label ON item (shop_id, label)",
        "ALTER TABLE item RENAME TO article",
        "CREATE SCHEMA warehouse",
        "ALTER TABLE article SET SCHEMA warehouse",
        "ALTER SCHEMA warehouse RENAME TO depot",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "ALTER TABLE depot.article ADD COLUMN mood mood, ADD COLUMN moods mood[]",
        "ALTER TYPE mood RENAME TO temper",
        "ALTER TABLE depot.article DROP CONSTRAINT item_pkey",
        "DROP TYPE temper CASCADE",
        "CREATE TABLE log (shop_id int, at timestamptz, what text) PARTITION BY RANGE (at)",
        "CREATE TABLE log_2024 PARTITION OF log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE log_2025 (what text, gone int, at timestamptz, shop_id int)",
        "ALTER TABLE log_2025 DROP COLUMN gone",
        "ALTER TABLE log ATTACH PARTITION log_2025 FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
        "ALTER TABLE log ADD COLUMN who text",
        "ALTER TABLE log DROP COLUMN what",
        "CREATE TABLE log_2026 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
        " PARTITION BY LIST (shop_id)",
        "CREATE TABLE log_2026_1 PARTITION OF log_2026 FOR VALUES IN (1)",
        "ALTER TABLE log RENAME TO journal",
        "ALTER TABLE journal ALTER COLUMN who TYPE varchar(20)",
        "ALTER TABLE journal DETACH PARTITION log_2024",
        "ALTER TABLE journal DETACH PARTITION log_2026",
        "DROP TABLE journal",
        "CREATE TABLE copy AS SELECT 1 AS shop_id, 'x'::text AS note",
        "SELECT 2 AS shop_id, 3 AS other INTO copied",
        "BEGIN; CREATE TABLE gone (shop_id int PRIMARY KEY); ROLLBACK",
        "BEGIN; CREATE TABLE a (shop_id int PRIMARY KEY); SAVEPOINT s; DROP TABLE a; ROLLBACK TO s; COMMIT",
        "DO $$ BEGIN CREATE TABLE b (shop_id int); ALTER TABLE b ADD PRIMARY KEY (shop_id); END $$",
        "CREATE TABLE child (extra int) INHERITS (copy)",
        "ALTER TABLE copy ADD COLUMN more int",
        "ALTER TABLE shops RENAME CONSTRAINT shops_pkey TO shops_key",
        "ALTER TABLE orders ALTER CONSTRAINT orders_shop_id_fkey DEFERRABLE",
        "DROP TABLE line, orders",
        "DROP SCHEMA depot CASCADE",
        "ALTER TABLE shops REPLICA IDENTITY FULL",
        "ALTER TABLE shops REPLICA IDENTITY NOTHING",
        "CREATE SCHEMA other CREATE TABLE inside (shop_id int PRIMARY KEY)",
        "CREATE DOMAIN price AS numeric CHECK (VALUE > 0)",
        "ALTER TABLE copied ADD COLUMN price price",
        "ALTER DOMAIN price RENAME TO cost",
    ]
    for statement in statements:
        try:
            captured.run(*statement.split("; ") if statement.startswith("BEGIN") else [statement])
        except AssertionError as error:
            raise AssertionError(f"after {statement}: {error}") from None
        assert not any(m.failed for m in captured.messages), statement


def test_numbers_stay_with_a_table_and_are_not_used_again(captured: Captured) -> None:
    orders = captured.relation("public.orders").number
    captured.run("ALTER TABLE orders RENAME TO purchase", "ALTER TABLE purchase ADD COLUMN more int")
    assert captured.relation("public.purchase").number == orders
    captured.run("CREATE TABLE last (shop_id int PRIMARY KEY)")
    last = captured.relation("public.last").number
    (change,) = captured.run("DROP TABLE last")
    assert change.dropped == (last,)
    captured.run("CREATE TABLE last (shop_id int PRIMARY KEY)")
    assert captured.relation("public.last").number == last + 1


def test_what_a_command_did_stands_in_its_message(captured: Captured) -> None:
    captured.run("CREATE TABLE t (shop_id int PRIMARY KEY)")
    captured.run("ALTER TABLE t ADD COLUMN at timestamptz DEFAULT clock_timestamp()")
    assert [(m.event, m.tag, m.n) for m in captured.messages] == [
        ("rewrite", "ALTER TABLE", 1),
        ("ddl", "ALTER TABLE", 2),
    ]
    assert captured.messages[1].command.endswith("DEFAULT clock_timestamp()")
    assert captured.messages[1].user == captured.conn.info.user
    assert captured.messages[0].rewritten == (captured.relation("public.t").oid,)


def test_a_rewritten_table_must_be_imaged_again(captured: Captured) -> None:
    captured.run("CREATE TABLE t (shop_id int PRIMARY KEY, a int)")
    number = captured.relation("public.t").number
    changes = captured.run("ALTER TABLE t ALTER COLUMN a TYPE bigint")
    assert any(number in c.rewritten for c in changes)
    changes = captured.run("ALTER TABLE t ADD COLUMN b int DEFAULT 5")
    assert not any(c.rewritten for c in changes)
    column = captured.relation("public.t").columns[-1]
    assert (column.has_missing, column.missing) == (True, "5")


def test_a_stay_as_unlogged_is_told(captured: Captured) -> None:
    number = captured.relation("public.country").number
    captured.conn.execute("ALTER TABLE country SET UNLOGGED")
    changes = captured.follow()
    assert [c.unrecorded for c in changes if c.unrecorded] == [(number,)]
    captured.conn.execute("ALTER TABLE country SET LOGGED")
    changes = captured.follow()
    assert any(number in c.rewritten for c in changes)
    captured.conn.execute("CREATE UNLOGGED TABLE cache (shop_id int PRIMARY KEY)")
    assert not any(c.new for c in captured.follow())
    captured.conn.execute("ALTER TABLE cache SET LOGGED")
    changes = captured.follow()
    assert any(captured.relation("public.cache").number in c.rewritten for c in changes)
    captured.compare()


def test_publications_are_told(captured: Captured) -> None:
    captured.run("ALTER PUBLICATION ballast SET (publish = 'insert')")
    assert [(m.tag, m.objects) for m in captured.messages] == [("ALTER PUBLICATION", (("publication", "ballast"),))]
    captured.conn.execute("CREATE PUBLICATION other")
    captured.conn.execute("DROP PUBLICATION other")
    captured.follow()
    assert ("drop", "DROP PUBLICATION") in [(m.event, m.tag) for m in captured.messages]


def test_create_table_as_shows_its_rows_before_it_is_announced(captured: Captured) -> None:
    captured.conn.execute("CREATE TABLE copy AS SELECT 7 AS shop_id, 'x'::text AS note")
    first, *others = captured.follow()
    assert first.incomplete
    assert first.new == (captured.relation("public.copy").number,)
    assert not any(c.new or c.incomplete for c in others)
    assert captured.relation("public.copy").tenant == ByColumn(1)
    kinds = [type(m).__name__ for m in captured.stream]
    assert kinds.index("Insert") < kinds.index("Message")
    captured.compare()


def test_tables_made_while_protected_can_be_written_to(captured: Captured) -> None:
    tables = {
        "keyless": "(shop_id int, note text)",
        "own_key": "(id int PRIMARY KEY, shop_id int NOT NULL, note text)",
        "good": "(shop_id int, id int, note text, PRIMARY KEY (shop_id, id))",
        "indexed": "(id int PRIMARY KEY, shop_id int NOT NULL, note text, UNIQUE (shop_id, id))",
        "foreign_one": "(note text, shop_id int, CHECK (note <> ''))",
        "deferred": "(shop_id int PRIMARY KEY DEFERRABLE, note text)",
        "nobodys": "(id int PRIMARY KEY, note text)",
        "referring": "(id int PRIMARY KEY, shop int REFERENCES shops, note text)",
    }
    for name, columns in tables.items():
        captured.run(f"CREATE TABLE {name} {columns}")
    captured.run(
        "CREATE TABLE parts (shop_id int, note text) PARTITION BY LIST (shop_id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1)",
        "CREATE TABLE filled AS SELECT 1 AS shop_id, 'a' AS note",
        "CREATE TABLE like_good (LIKE good INCLUDING ALL)",
    )
    assert {name: captured.identity(name) for name in (*tables, "parts_1", "filled", "like_good")} == {
        "keyless": "f",
        "own_key": "f",
        "good": "d",
        "indexed": "i",
        "foreign_one": "f",
        "deferred": "f",
        "nobodys": "d",
        "referring": "f",
        "parts_1": "f",
        "filled": "f",
        "like_good": "d",
    }
    captured.run("INSERT INTO shops VALUES (1)")
    for name in ("keyless", "own_key", "good", "indexed", "foreign_one", "deferred", "parts", "like_good"):
        columns = "id, shop_id, note" if name in ("own_key", "good", "indexed", "like_good") else "shop_id, note"
        values = "1, 1, 'a'" if columns.startswith("id") else "1, 'a'"
        captured.run(
            f"INSERT INTO {name} ({columns}) VALUES ({values})",
            f"UPDATE {name} SET note = 'b'",
            f"DELETE FROM {name}",
        )
    captured.run("UPDATE filled SET note = 'b'", "DELETE FROM filled")


def test_an_identity_follows_the_key_that_is_added_and_taken_away(captured: Captured) -> None:
    captured.run("CREATE TABLE t (shop_id int NOT NULL, id int NOT NULL, note text)")
    assert captured.identity("t") == "f"
    captured.run("ALTER TABLE t ADD CONSTRAINT t_key PRIMARY KEY (shop_id, id)")
    assert captured.identity("t") == "d"
    assert captured.relation("public.t").key == (1, 2)
    captured.run("CREATE UNIQUE INDEX t_other ON t (id, shop_id)", "ALTER TABLE t DROP CONSTRAINT t_key")
    assert captured.identity("t") == "i"
    captured.run("DROP INDEX t_other")
    assert captured.identity("t") == "f"
    captured.run("INSERT INTO t VALUES (1, 1)", "UPDATE t SET note = 'x'", "DELETE FROM t")
    captured.run("ALTER TABLE t REPLICA IDENTITY NOTHING")
    assert captured.identity("t") == "f"


def test_an_index_dropped_concurrently_leaves_a_table_that_can_be_written_to(captured: Captured) -> None:
    captured.run("CREATE TABLE t (shop_id int NOT NULL, note text)", "CREATE UNIQUE INDEX t_key ON t (shop_id)")
    assert captured.identity("t") == "i"
    captured.run("DROP INDEX CONCURRENTLY t_key")
    assert captured.identity("t") == "f"
    captured.run("CREATE UNIQUE INDEX CONCURRENTLY t_key ON t (shop_id)")
    captured.run("INSERT INTO t VALUES (1)", "DELETE FROM t")


def test_temporary_tables_are_nobodys_concern(captured: Captured) -> None:
    captured.run(
        "CREATE TEMP TABLE scratch (id int)",
        "CREATE INDEX ON scratch (id)",
        "ALTER TABLE scratch ADD COLUMN b int",
        "INSERT INTO scratch VALUES (1)",
        "DELETE FROM scratch",
        "DROP TABLE scratch",
        "CREATE TEMP TABLE scratch AS SELECT 1",
    )
    assert captured.messages == []


def test_what_is_done_to_temporary_tables_is_nobodys_concern_either(captured: Captured) -> None:
    captured.run(
        "CREATE ROLE reader",
        "CREATE TEMP TABLE scratch (id int PRIMARY KEY, b int DEFAULT 3 CHECK (b > 0), c serial)",
        "CREATE FUNCTION pg_temp.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "GRANT EXECUTE ON FUNCTION pg_temp.stamp() TO reader",
        "CREATE TRIGGER stamp BEFORE INSERT ON scratch FOR EACH ROW EXECUTE FUNCTION pg_temp.stamp()",
        "CREATE POLICY mine ON scratch USING (true)",
        "ALTER POLICY mine ON scratch USING (false)",
        "ALTER TABLE scratch ENABLE ROW LEVEL SECURITY",
        "COMMENT ON POLICY mine ON scratch IS 'x'",
        "CREATE RULE quiet AS ON DELETE TO scratch DO INSTEAD NOTHING",
        "CREATE STATISTICS pg_temp.together ON id, b FROM scratch",
        "CREATE TEMP VIEW seen AS SELECT * FROM scratch",
        "GRANT SELECT ON scratch, seen TO reader",
        "GRANT UPDATE (b) ON scratch TO reader",
        "GRANT USAGE ON SEQUENCE scratch_c_seq TO reader",
        "REVOKE SELECT ON scratch FROM reader",
        "DROP POLICY mine ON scratch",
        "CREATE POLICY mine ON scratch USING (true)",
        "DROP RULE quiet ON scratch",
        "DROP TRIGGER stamp ON scratch",
        "CREATE TRIGGER stamp BEFORE INSERT ON scratch FOR EACH ROW EXECUTE FUNCTION pg_temp.stamp()",
        "DROP TABLE scratch CASCADE",
        "DISCARD TEMP",
    )
    assert [(m.tag, m.objects) for m in captured.messages] == []
    for told in (
        "GRANT SELECT ON orders TO reader", "GRANT UPDATE (note) ON orders TO reader",
        "CREATE TEMP TABLE scratch AS SELECT 1; GRANT SELECT ON orders TO reader", "REVOKE SELECT ON orders FROM reader",
        "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "GRANT EXECUTE ON FUNCTION one() TO reader",
        'CREATE POLICY "mine on pg_temp.scratch" ON orders USING (true)',
        'DROP POLICY "mine on pg_temp.scratch" ON orders',
        "CREATE DOMAIN small AS int", "GRANT USAGE ON DOMAIN small TO reader", "GRANT USAGE ON SCHEMA public TO reader",
    ):  # fmt: skip
        captured.run(told)
        assert [m.changes_dump for m in captured.messages] == [True], told
    captured.run("DROP OWNED BY reader", "DROP ROLE reader")


def test_roles_without_any_right_on_ballast_go_on_as_before(captured: Captured) -> None:
    captured.run("CREATE ROLE app LOGIN", "GRANT CREATE, USAGE ON SCHEMA public TO app")
    app = captured.database.connect(user="app")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("SELECT ballast.touched()")
    captured.run(
        "SET search_path = public",
        "CREATE TABLE mine (note text)",
        "INSERT INTO mine VALUES ('a')",
        "UPDATE mine SET note = 'b'",
        "DELETE FROM mine",
        "ALTER TABLE mine ADD COLUMN id serial PRIMARY KEY",
        "DROP TABLE mine",
        conn=app,
    )
    assert captured.messages[0].user == "app"


def test_nobody_can_slip_in_a_function_of_their_own(captured: Captured) -> None:
    captured.run(
        "CREATE FUNCTION public.left(text, int) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'taken over as %', current_user; END $$",
        "SET search_path = public, pg_catalog",
        "CREATE TABLE t (shop_id int PRIMARY KEY)",
    )
    assert captured.messages[-1].failed == ""


def test_a_trigger_that_breaks_lets_the_command_through(captured: Captured) -> None:
    captured.conn.execute("ALTER TABLE ballast.setting RENAME TO hidden")
    captured.follow()
    notices: list[str] = []
    captured.conn.add_notice_handler(lambda diag: notices.append(diag.message_primary or ""))
    captured.conn.execute("CREATE TABLE t (shop_id int PRIMARY KEY)")
    changes = captured.follow()
    assert any(c.incomplete for c in changes)
    assert any("could not record" in notice for notice in notices)
    captured.conn.execute("ALTER TABLE ballast.hidden RENAME TO setting")


def test_replica_sessions_are_heard_too(captured: Captured) -> None:
    captured.run("SET session_replication_role = replica", "CREATE TABLE t (shop_id int PRIMARY KEY)")
    assert [m.tag for m in captured.messages] == ["CREATE TABLE"]


def test_new_tables_that_nobody_declared_are_named(captured: Captured) -> None:
    (change,) = captured.run("CREATE TABLE notes (id int PRIMARY KEY)")
    assert change.undeclared == ("public.notes",)
    assert captured.relation("public.notes").tenant == Shared(declared=False)
    (change,) = captured.run("CREATE TABLE sub (id int, shop int NOT NULL REFERENCES shops, PRIMARY KEY (shop, id))")
    assert change.undeclared == ()
    assert captured.relation("public.sub").tenant == Via((2,), captured.relation("public.shops").oid, (1,))


def test_a_wide_schema_is_described_in_a_moment(captured: Captured) -> None:
    captured.conn.execute(
        "CREATE TABLE wide (shop_id int) PARTITION BY LIST (shop_id);"
        + ";".join(f"CREATE TABLE wide_{i} PARTITION OF wide FOR VALUES IN ({i})" for i in range(100))
    )
    captured.follow()
    captured.run("ALTER TABLE wide ADD COLUMN b int")
    assert len(captured.messages[-1].relations) == 101


def test_facts_of_catalog_and_of_message_are_the_same(captured: Captured) -> None:
    read: dict[int, Any] = {t.oid: t for t in tables_of(read_catalog(captured.conn))}
    row = captured.conn.execute("SELECT ballast.describe(%s)::text", (list(read),)).fetchone()
    assert row is not None
    described = msgspec.json.decode(row[0], type=tuple[TableFacts, ...])
    for facts in described:
        assert facts == msgspec.structs.replace(read[facts.oid], leaves=facts.leaves)
    assert len(described) == len(read)
