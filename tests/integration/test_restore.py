"""What comes back equals what was there: everything, tenants, tables, into empty and existing databases, 16 and 18."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from ballast.errors import BallastError, GapError, RestoreError
from ballast.recovery import Report, Request, Restorer, restore
from ballast.vault.config import Tenants
from ballast.vault.records import Cut
from tests.fix_postgres import Database, NewServer
from tests.kept import Kept, contents, sequence_values, structure

pytestmark = pytest.mark.any_version

SHOP = (
    "CREATE TYPE mood AS ENUM ('calm', 'odd ''one''')",
    "CREATE TYPE spot AS (x int, label text)",
    "CREATE DOMAIN cents AS numeric(12, 2) CHECK (VALUE >= 0)",
    'CREATE SCHEMA "Back Office"',
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE item (tenant text REFERENCES shop, id bigserial, price cents, feeling mood, at spot, tags text[],"
    " twice numeric GENERATED ALWAYS AS (price * 2) STORED, PRIMARY KEY (tenant, id))",
    "CREATE TABLE line (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item_tenant text NOT NULL, item_id bigint NOT NULL,"
    " note text, FOREIGN KEY (item_tenant, item_id) REFERENCES item)",
    "CREATE TABLE comment (id serial PRIMARY KEY, line_id int NOT NULL REFERENCES line, body text)",
    "CREATE TABLE log (tenant text, said text)",
    'CREATE TABLE "Back Office"."Rate" (code text PRIMARY KEY, "per cent" numeric)',
    "CREATE TABLE visit (tenant text, day date, n int, PRIMARY KEY (tenant, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE visit_25 PARTITION OF visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    "CREATE TABLE visit_26 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE INDEX item_by_price ON item (price) WHERE price > 1",
    "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := upper(NEW.note); RETURN NEW; END $$",
    "CREATE TRIGGER shouting BEFORE INSERT ON line FOR EACH ROW EXECUTE FUNCTION shout()",
    "ALTER TABLE log ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE log FORCE ROW LEVEL SECURITY",
    "CREATE POLICY own_rows ON log USING (tenant = current_setting('app.tenant', true))",
    "CREATE VIEW dear AS SELECT * FROM item WHERE price > 5",
)
FILL = (
    "INSERT INTO shop SELECT 't' || g, E'Shop\\t' || g FROM generate_series(1, 9) g",
    "INSERT INTO item (tenant, price, feeling, at, tags) SELECT 't' || g, h, CASE WHEN h % 2 = 0 THEN 'calm'::mood END,"
    " ROW(h, E'a \"b\", \\\\ c')::spot, ARRAY['x', NULL, E'\\n'] FROM generate_series(1, 9) g, generate_series(1, 7) h",
    "INSERT INTO line (item_tenant, item_id, note) SELECT tenant, id, 'note 🦊 ' || id FROM item",
    "INSERT INTO comment (line_id, body) SELECT id, CASE WHEN id % 3 = 0 THEN '' END FROM line",
    "INSERT INTO log SELECT 't' || g, 'twice' FROM generate_series(1, 9) g, generate_series(1, 2)",
    "INSERT INTO log VALUES (NULL, 'of nobody')",
    "INSERT INTO \"Back Office\".\"Rate\" VALUES ('a', 'NaN'), ('b', 1.50)",
    "INSERT INTO visit SELECT 't' || g, d, g FROM generate_series(1, 9) g, (VALUES (date '2025-05-05'), ('2026-06-06')) v (d)",
)
TENANTS = Tenants(column="tenant", shared=("Back Office.Rate",), tables={"public.line": "item_tenant"})
OF_TENANT = {
    "shop": "tenant = '{0}'",
    "item": "tenant = '{0}'",
    "line": "item_tenant = '{0}'",
    "comment": "line_id IN (SELECT id FROM public.line WHERE item_tenant = '{0}')",
    "log": "tenant = '{0}'",
    "visit_25": "tenant = '{0}'",
    "visit_26": "tenant = '{0}'",
}


def of(tenant: str) -> dict[str, str]:
    return {table: condition.format(tenant) for table, condition in OF_TENANT.items()}


NOT_T3 = {table: f"NOT ({condition.format('t3')})" for table, condition in OF_TENANT.items() if table != "log"}


@pytest.fixture
def shop(pg: Database) -> Database:
    pg.run(*SHOP, *FILL)
    return pg


@pytest.fixture
def kept(shop: Database, open_folder: Path) -> Kept:
    made = Kept(shop, open_folder, TENANTS)
    made.look()
    return made


def bring(kept: Kept, to: Database, at: Cut | str | None = None, **request: object) -> Report:
    position = f"{at.timeline}/{at.lsn >> 32:X}/{at.lsn & 0xFFFFFFFF:X}" if isinstance(at, Cut) else at
    report = restore(kept.vault, kept.vault.resolve(position), to.dsn, Request(**request))  # type: ignore[arg-type]
    assert not to.query("SELECT 1 FROM pg_namespace WHERE nspname = 'ballast_restore'")
    return report


def clone(source: Database, to: Database) -> None:
    """The structure alone, as an existing application's database has it."""
    to.run(*SHOP)


def test_everything_comes_back_into_an_empty_database(kept: Kept) -> None:
    source, to = kept.db, kept.db.another()
    report = bring(kept, to)
    assert report.proven
    assert report.schema_rebuilt
    assert report.rows == sum(map(len, contents(source).values()))
    assert contents(to) == contents(source)
    assert structure(to) == structure(source)
    before, after = sequence_values(source), sequence_values(to)
    assert before.keys() == after.keys()
    assert all(before[name] <= after[name] <= before[name] + 64 for name in before)
    to.run(
        "INSERT INTO item (tenant, price) VALUES ('t1', 3)", "INSERT INTO line (item_tenant, item_id) VALUES ('t1', 1)"
    )


def test_a_restored_database_has_statistics_at_once(kept: Kept) -> None:
    to = kept.db.another()
    bring(kept, to)
    filled = {table.rpartition(".")[2] for table, rows in contents(to).items() if rows}
    assert filled
    assert filled <= {name for (name,) in to.query("SELECT tablename FROM pg_stats")}


def test_materialized_views_come_back_by_their_query(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE sale (tenant text, id int, fen int, PRIMARY KEY (tenant, id))",
        "INSERT INTO sale VALUES ('t1', 1, 5), ('t1', 2, 6), ('t2', 1, 7)",
        "CREATE FUNCTION wanted() RETURNS bool LANGUAGE sql STABLE AS $$SELECT 1 / count(*) = 1 FROM pg_class WHERE relname = 'here'$$",
        "CREATE TEMP TABLE here (n int)",
        "CREATE MATERIALIZED VIEW by_tenant AS SELECT tenant, sum(fen) AS fen FROM sale GROUP BY 1",
        "CREATE MATERIALIZED VIEW all_together AS SELECT sum(fen) AS fen FROM by_tenant",  # comes first by name
        "CREATE MATERIALIZED VIEW cannot AS SELECT 1 AS n WHERE wanted()",
    )
    kept, to = Kept(pg, open_folder), pg.another()
    kept.look()
    report = bring(kept, to)
    assert report.proven
    assert to.query("SELECT fen FROM all_together") == [(18,)]
    assert to.query("SELECT * FROM by_tenant ORDER BY 1") == [("t1", 11), ("t2", 7)]
    assert any("cannot was not made" in line and "division by zero" in line for line in report.warnings)
    assert any("public.cannot is empty" in line for line in report.warnings)


def test_a_database_of_16_comes_back_on_18(
    fresh_database: Callable[[int], object], pg16: Database, open_folder: Path
) -> None:
    pg16.run(*SHOP, *FILL)
    kept = Kept(pg16, open_folder, TENANTS)
    kept.look()
    with fresh_database(18) as to:  # type: ignore[attr-defined]
        assert bring(kept, to).proven
        assert contents(to) == contents(pg16)


def test_one_tenant_into_an_empty_database_brings_what_is_shared(kept: Kept) -> None:
    source, to = kept.db, kept.db.another()
    report = bring(kept, to, tenants=("t3",))
    assert report.proven
    assert contents(to, where=of("t3")) == contents(source, where=of("t3"))
    shared = {"Rate": "true"}
    assert contents(to, where=shared) == contents(source, where=shared)
    assert to.query("SELECT DISTINCT tenant FROM shop") == [("t3",)]
    assert to.query("SELECT said FROM log WHERE tenant IS NULL") == [("of nobody",)]
    assert structure(to) == structure(source)


def test_one_tenant_into_a_live_database_leaves_the_others_alone(kept: Kept) -> None:
    live = kept.db
    before, others = contents(live, where=of("t3")), contents(live, where=NOT_T3)
    live.run(
        "SET session_replication_role = replica; DELETE FROM comment WHERE line_id IN (SELECT id FROM line WHERE item_tenant"
        " = 't3'); DELETE FROM line WHERE item_tenant = 't3'; DELETE FROM item WHERE tenant = 't3'; DELETE FROM shop WHERE"
        " tenant = 't3'; DELETE FROM log WHERE tenant = 't3'; DELETE FROM visit WHERE tenant = 't3'"
    )
    report = bring(kept, live, tenants=("t3",))
    assert report.proven
    assert not report.schema_rebuilt
    assert contents(live, where=of("t3")) == before
    assert contents(live, where=NOT_T3) == others


def test_what_a_tenant_has_now_is_replaced_only_when_told_so(kept: Kept) -> None:
    live = kept.db
    before, others = contents(live, where=of("t3")), contents(live, where=NOT_T3)
    live.run(
        "UPDATE item SET price = 99 WHERE tenant = 't3'",
        "INSERT INTO log VALUES ('t3', 'since then')",
        "INSERT INTO item (tenant, price) VALUES ('t3', 1000)",
    )
    with pytest.raises(RestoreError, match='already holds rows of tenant "t3"') as refused:
        bring(kept, live, tenants=("t3",))
    assert "--replace" in refused.value.do
    assert bring(kept, live, tenants=("t3",), replace=True).proven
    assert contents(live, where=of("t3")) == before
    assert contents(live, where=NOT_T3) == others


def test_a_tenant_that_is_there_exactly_needs_nothing(kept: Kept) -> None:
    before = contents(kept.db)
    report = bring(kept, kept.db, tenants=("t1", "t2"))
    assert report.proven
    assert "2 of 2 tenants were there already" in report.warnings[0]
    assert contents(kept.db) == before


def test_everything_into_tables_that_stand_empty(kept: Kept) -> None:
    to = kept.db.another()
    clone(kept.db, to)
    report = bring(kept, to)
    assert report.proven
    assert not report.schema_rebuilt
    assert contents(to) == contents(kept.db)
    assert structure(to) == structure(kept.db)


def test_everything_beside_rows_that_are_there(kept: Kept) -> None:
    to = kept.db.another()
    bring(kept, to, tenants=("t5", "t6"))
    report = bring(kept, to, jobs=3)
    assert report.proven
    assert contents(to) == contents(kept.db)


def test_some_tables_of_one_tenant(kept: Kept) -> None:
    live = kept.db
    before = contents(live)
    live.run("UPDATE item SET tags = NULL WHERE tenant = 't4'", "UPDATE shop SET name = 'new' WHERE tenant = 't4'")
    report = bring(kept, live, tenants=("t4",), tables=("item",), replace=True)
    assert report.proven
    assert [proof.table for proof in report.tables] == ["public.item"]
    after = contents(live)
    assert after["public.item"] == before["public.item"]
    assert after["public.shop"] != before["public.shop"]


def test_replacing_rows_that_others_refer_to_must_not_orphan_them(kept: Kept) -> None:
    live = kept.db
    live.run(
        "INSERT INTO item (tenant, id, price) VALUES ('t4', 5000, 1)",
        "INSERT INTO line (item_tenant, item_id) VALUES ('t4', 5000)",
    )
    before = contents(live)
    with pytest.raises(RestoreError, match=r"foreign keys would be broken: public\.line"):
        bring(kept, live, tenants=("t4",), tables=("item",), replace=True)
    assert contents(live) == before


def test_a_table_whose_parents_are_not_there_is_refused(kept: Kept) -> None:
    to = kept.db.another()
    clone(kept.db, to)
    with pytest.raises(RestoreError, match=r"foreign keys would be broken: public\.item"):
        bring(kept, to, tenants=("t4",), tables=("item",))
    assert contents(to)["public.item"] == []


def test_some_tables_into_an_empty_database_leave_foreign_keys_open(kept: Kept) -> None:
    to = kept.db.another()
    report = bring(kept, to, tables=("item", "visit"))
    assert report.proven
    assert any("item_tenant_fkey" in warning for warning in report.warnings)
    assert len(contents(to)["public.item"]) == 63
    assert len(contents(to)["public.visit_25"]) == 9


def test_of_two_moments_each_comes_back(kept: Kept) -> None:
    live = kept.db
    first, early = kept.vault.resolve(None).cut, contents(live)
    live.run("DELETE FROM comment", "UPDATE item SET price = price + 1", "INSERT INTO log VALUES ('t1', 'later')")
    second, late = kept.look(), contents(live)
    for cut, expected in ((first, early), (second, late)):
        to = live.another()
        assert bring(kept, to, cut).proven
        assert contents(to) == expected


@pytest.mark.parametrize("rebuilt", [True, False])
def test_what_is_not_recorded_is_named(kept: Kept, rebuilt: bool) -> None:
    to = kept.db.another() if rebuilt else kept.db
    with pytest.raises(RestoreError, match="never seen tenant 'nobody'"):
        bring(kept, to, tenants=("t1", "nobody"))
    with pytest.raises(RestoreError, match='no table "itme"') as refused:
        bring(kept, to, tables=("itme",))
    assert 'Did you mean "item"' in refused.value.do
    with pytest.raises(GapError, match="before the vault begins"):
        bring(kept, to, "0/1")
    with pytest.raises(GapError, match="before the vault begins"):
        bring(kept, to, "1999-01-01 00:00:00Z")


def test_an_inexact_moment_must_be_accepted(kept: Kept) -> None:
    cut = kept.vault.resolve(None).cut
    kept.gap(cut, ["log"])
    to = kept.db.another()
    with pytest.raises(GapError, match=re.escape("public.log is not exact")) as refused:
        bring(kept, to, cut)
    assert "--inexact" in refused.value.do
    assert bring(kept, to, cut, tables=("visit",)).inexact == ()
    report = bring(kept, kept.db.another(), cut, inexact=True)
    assert report.inexact == ("public.log",)
    assert report.proven


def test_a_trigger_of_the_target_that_changes_values_is_noticed(kept: Kept) -> None:
    to = kept.db.another()
    clone(kept.db, to)
    to.run(
        "CREATE FUNCTION bend() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'bent'; RETURN NEW; END $$",
        "CREATE TRIGGER bending BEFORE INSERT ON line FOR EACH ROW EXECUTE FUNCTION bend()",
        "ALTER TABLE line ENABLE ALWAYS TRIGGER bending",
        "INSERT INTO shop VALUES ('t9', 'there')",
    )
    with pytest.raises(RestoreError, match=r"public\.line reads back 7 rows"):
        bring(kept, to, tenants=("t3",))
    assert contents(to)["public.item"] == []
    to.run("DELETE FROM shop")
    with pytest.raises(RestoreError, match=r"public\.line reads back 63 rows"):
        bring(kept, to)


def test_the_targets_structure_may_have_moved_on(kept: Kept) -> None:
    live = kept.db
    before = contents(live, where={"shop": "true"})
    live.run(
        "DROP VIEW dear",
        "ALTER TABLE item DROP COLUMN feeling",
        "ALTER TABLE item ADD COLUMN colour text DEFAULT 'red'",
    )
    live.run("DELETE FROM comment", "DELETE FROM line", "DELETE FROM item")
    assert bring(kept, live, tenants=tuple(f"t{n}" for n in range(1, 10)), replace=True).proven
    assert contents(live, where={"shop": "true"}) == before
    assert live.query("SELECT count(*), min(colour) FROM item") == [(63, "red")]


def test_a_restorer_follows_changes_of_the_structure(kept: Kept) -> None:
    live = kept.db
    request = Request(tenants=("t3",), replace=True)
    with Restorer(kept.vault, live.dsn) as restorer:
        now = kept.vault.resolve(None)
        assert restorer.restore(now, request).proven
        assert restorer.restore(now, request).proven
        live.run("ALTER TABLE log ADD COLUMN more int", "CREATE TABLE other (id int)")
        assert restorer.restore(now, request).proven
        live.run("ALTER TABLE log RENAME COLUMN said TO told")
        with pytest.raises(BallastError):
            restorer.restore(now, request)
        assert restorer.restore(now, request).proven


def test_rights_that_are_missing_are_named(kept: Kept) -> None:
    to = kept.db.another()
    clone(kept.db, to)
    to.run("INSERT INTO shop VALUES ('t9', 'there')", "CREATE ROLE clerk LOGIN")
    request, now = Request(tenants=("t3",)), kept.vault.resolve(None)
    with pytest.raises(RestoreError, match="may not restore here") as refused:
        restore(kept.vault, now, to.dsn_as("clerk"), request)
    grants = statements(refused.value)
    assert "GRANT SET ON PARAMETER session_replication_role TO clerk" in grants
    assert not any("Rate" in grant or "Back Office" in grant or "CREATE" in grant for grant in grants)
    to.run(*grants)
    assert restore(kept.vault, now, to.dsn_as("clerk"), request).proven
    assert contents(to, where=of("t3")) == contents(kept.db, where=of("t3"))


def statements(refused: BallastError) -> list[str]:
    return refused.do.removeprefix("Restore as a superuser, or have one run: ").removesuffix(".").split("; ")


@pytest.mark.parametrize(
    ("request_", "there"),
    [
        (Request(), False),
        (Request(), True),
        (Request(replace=True), True),
        (Request(tenants=("t3",), replace=True), True),
        (Request(tenants=("t3",), tables=("line",)), True),
        (Request(tenants=("t3",), tables=("item", "line", "comment"), replace=True), True),
        (Request(tables=("Rate",)), False),
    ],
)
def test_the_rights_that_are_named_are_enough(
    pg18: Database, open_folder: Path, request_: Request, there: bool
) -> None:
    pg18.run(*SHOP, *FILL)
    kept = Kept(pg18, open_folder, TENANTS)
    kept.look()
    to = kept.db.another()
    clone(kept.db, to)
    to.run("REVOKE ALL ON SCHEMA public FROM public")
    if there:
        bring(kept, to, tenants=("t5",), tables=("item", "shop", "line", "comment", "log", "visit"))
        if request_.tenants is not None:
            bring(kept, to, tenants=("t3",), tables=("shop", "item"))
    role = f"clerk_{to.name}"
    to.run(f'CREATE ROLE "{role}" LOGIN')
    try:
        with pytest.raises(RestoreError, match="may not restore here") as refused:
            restore(kept.vault, kept.vault.resolve(None), to.dsn_as(role), request_)
        to.run(*statements(refused.value))
        assert restore(kept.vault, kept.vault.resolve(None), to.dsn_as(role), request_).proven
    finally:
        to.run(f'REVOKE SET ON PARAMETER session_replication_role FROM "{role}"')
        to.run(f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


def test_tables_that_came_later_lose_the_rows_of_a_replaced_tenant(pg18: Database, open_folder: Path) -> None:
    pg18.run(*SHOP, *FILL)
    kept = Kept(pg18, open_folder, TENANTS)
    early = kept.look()
    pg18.run(
        "CREATE TABLE coupon (tenant text REFERENCES shop, code text PRIMARY KEY, item_id bigint,"
        " FOREIGN KEY (tenant, item_id) REFERENCES item)",
        "CREATE TABLE used (id int PRIMARY KEY, code text NOT NULL REFERENCES coupon)",
        "CREATE TABLE visit_27 PARTITION OF visit FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "INSERT INTO item (tenant, id, price) VALUES ('t3', 5000, 1)",
        "INSERT INTO coupon VALUES ('t3', 'a', 5000), ('t3', 'b', NULL), ('t4', 'c', NULL)",
        "INSERT INTO used VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        "INSERT INTO visit VALUES ('t3', '2027-07-07', 1)",
    )
    kept.look()
    with pytest.raises(RestoreError, match="already holds rows"):
        bring(kept, pg18, early, tenants=("t3",))
    report = bring(kept, pg18, early, tenants=("t4",))
    assert (
        "tables that did not exist then hold rows of these tenants: public.coupon, public.used" in report.warnings[-1]
    )
    report = bring(kept, pg18, early, tenants=("t3",), replace=True)
    assert report.proven
    assert report.warnings == (
        "removed 5 rows of tables that did not exist then: public.coupon (2), public.used (2), public.visit_27 (1)",
    )
    assert pg18.query("SELECT tenant, code FROM coupon") == [("t4", "c")]
    assert pg18.query("SELECT id FROM used") == [(3,)]
    assert bring(kept, pg18, early, tenants=("t4",), replace=True).proven
    assert pg18.query("SELECT FROM used") == []


def test_rows_outside_that_refer_to_what_goes_can_be_deleted_as_told(pg18: Database, open_folder: Path) -> None:
    pg18.run(*SHOP, *FILL)
    kept = Kept(pg18, open_folder, TENANTS)
    kept.look()
    pg18.run(
        "CREATE UNLOGGED TABLE basket (tenant text, item_id bigint, FOREIGN KEY (tenant, item_id) REFERENCES item)",
        "INSERT INTO item (tenant, id, price) VALUES ('t4', 5000, 1), ('t4', 5001, 1)",
        "INSERT INTO line (item_tenant, item_id) VALUES ('t4', 5000), ('t4', 5001), ('t4', 5001)",
        "INSERT INTO basket VALUES ('t4', 5001), ('t4', 22)",
    )
    with pytest.raises(RestoreError, match=r"public\.basket, public\.line refers to rows") as refused:
        bring(kept, pg18, tenants=("t4",), tables=("item",), replace=True)
    assert "Add --table public.line to restore those as well" in refused.value.do
    pg18.run(*re.search("goes: (.*)[.]$", refused.value.do)[1].split("; "))  # type: ignore[index]
    assert pg18.query("SELECT item_id FROM basket") == [(22,)]
    assert bring(kept, pg18, tenants=("t4",), tables=("item",), replace=True).proven


def test_what_all_share_is_no_tenant(kept: Kept) -> None:
    assert bring(kept, kept.db).warnings == (
        "9 of 9 tenants and the rows that all tenants share were there already, exactly as recorded",
    )
    assert bring(kept, kept.db, tables=("Rate",)).warnings == (
        "the rows that all tenants share were there already, exactly as recorded",
    )
    (warning,) = bring(kept, kept.db, tenants=("t1",), tables=("Rate",)).warnings
    assert "Back Office.Rate is shared by all tenants and was left alone" in warning
    kept.db.run('UPDATE "Back Office"."Rate" SET "per cent" = 2')
    with pytest.raises(RestoreError, match=r"already holds rows that all tenants share in Back Office\.Rate"):
        bring(kept, kept.db, tables=("Rate",))


def test_an_owner_without_superuser_rebuilds_what_it_may(kept: Kept) -> None:
    to = kept.db.another()
    to.run("CREATE ROLE landlord LOGIN", "GRANT SET ON PARAMETER session_replication_role TO landlord")
    with pytest.raises(RestoreError, match="lacks rights") as refused:
        restore(kept.vault, kept.vault.resolve(None), to.dsn_as("landlord"), Request())
    assert "GRANT CREATE ON DATABASE" in refused.value.do
    to.run(f'ALTER DATABASE "{to.name}" OWNER TO landlord', "ALTER ROLE landlord BYPASSRLS")
    report = restore(kept.vault, kept.vault.resolve(None), to.dsn_as("landlord"), Request())
    assert report.proven
    assert any("owner of" in warning for warning in report.warnings)
    assert contents(to) == contents(kept.db)


def test_roles_and_grants_come_back(pg: Database, open_folder: Path, own_server: NewServer) -> None:
    pg.run("CREATE TABLE t (tenant text, x int)", "CREATE ROLE reader LOGIN", "GRANT SELECT ON t TO reader")
    pg.run('CREATE ROLE "Odd; role" NOLOGIN', 'ALTER TABLE t OWNER TO "Odd; role"')
    kept = Kept(pg, open_folder / "kept")
    kept.look()
    server = own_server(major=18)
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as conn:
        conn.execute("CREATE DATABASE other")
        restore(kept.vault, kept.vault.resolve(None), server.dsn("other"), Request())
    with psycopg.connect(server.dsn("other")) as conn:
        owner, allowed = conn.execute(
            "SELECT tableowner, has_table_privilege('reader', 't', 'SELECT') FROM pg_tables WHERE tablename = 't'"
        ).fetchone() or ("", False)
    assert (owner, allowed) == ("Odd; role", True)


def test_an_extension_that_is_missing_is_named(pg18: Database, open_folder: Path) -> None:
    pg18.run("CREATE TABLE t (tenant text)")
    kept = Kept(pg18, open_folder)
    kept.pre_data_prefix = (
        b"--\n-- Name: no_such_thing; Type: EXTENSION; Schema: -; Owner: -\n--\n\nCREATE EXTENSION no_such_thing;\n\n"
    )
    kept.look()
    with pytest.raises(RestoreError, match='no extension "no_such_thing"'):
        restore(kept.vault, kept.vault.resolve(None), pg18.another().dsn, Request())


def test_rows_that_an_extension_brings_are_not_doubled(pg18: Database, open_folder: Path) -> None:
    available = pg18.query("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
    if not available:
        pytest.skip("no extension here")
    pg18.run("CREATE EXTENSION pg_trgm", "CREATE TABLE t (tenant text, x text)", "INSERT INTO t VALUES ('a', 'b')")
    pg18.run("CREATE INDEX ON t USING gin (x gin_trgm_ops)")
    kept = Kept(pg18, open_folder)
    kept.look()
    to = pg18.another()
    assert bring(kept, to).proven
    assert structure(to) == structure(pg18)


def test_tenants_are_told_apart_by_the_text_of_their_name(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE n (tenant numeric, x int)",
        "INSERT INTO n VALUES (1, 1), (1.0, 2), (1.00, 3), (NULL, 4)",
        'CREATE TABLE c (tenant varchar(9) COLLATE "C", x char(4))',
        "INSERT INTO c VALUES ('1.0', 'a'), (E'o''b\\\\c', 'b')",
    )
    kept = Kept(pg, open_folder)
    kept.look()
    before = contents(pg)
    pg.run("DELETE FROM n WHERE x = 2", "UPDATE c SET x = 'z'")
    for tenant in ("1.0", "o'b\\c"):
        assert bring(kept, pg, tenants=(tenant,), replace=True).proven
    assert contents(pg) == before


def test_odd_tables(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE nothing ()",
        "CREATE TABLE made (tenant text, n int, m int GENERATED ALWAYS AS (n * 2) STORED)",
        "CREATE TABLE base (tenant text, a int)",
        "CREATE TABLE derived (b int) INHERITS (base)",
        "CREATE TABLE twin (tenant text, x bytea, v tsvector, r int4range, t timestamptz)",
        "INSERT INTO nothing SELECT FROM generate_series(1, 3)",
        "INSERT INTO made VALUES ('a', 1), ('b', 2)",
        "INSERT INTO base VALUES ('a', 1)",
        "INSERT INTO derived VALUES ('a', 2, 3), ('b', 2, 3)",
        "INSERT INTO twin VALUES ('a', '\\x00ff', 'a fat cat', '[1,5)', '0044-03-15 12:00:00 BC')",
        "INSERT INTO twin SELECT * FROM twin",
    )
    kept = Kept(pg, open_folder, Tenants(column="tenant", shared=("public.nothing",)))
    kept.look()
    to = pg.another()
    assert bring(kept, to).proven
    assert contents(to) == contents(pg)
    before = contents(pg)
    pg.run("DELETE FROM twin WHERE ctid = '(0,1)'", "UPDATE base SET a = 9 WHERE tenant = 'a'")
    assert bring(kept, pg, tenants=("a",), replace=True).proven
    assert contents(pg) == before


def test_sequences_follow_rows_and_record(pg: Database, open_folder: Path) -> None:
    pg.run(
        "CREATE TABLE t (tenant text, id serial, PRIMARY KEY (tenant, id))",
        "CREATE SEQUENCE free INCREMENT 10 CACHE 5",
        "CREATE SEQUENCE down INCREMENT -1",
        "CREATE SEQUENCE fresh START 500",
        "CREATE SEQUENCE round MAXVALUE 3 CYCLE",
        "INSERT INTO t (tenant, id) VALUES ('a', 77)",
        "SELECT nextval('free'), nextval('down'), nextval('down'), nextval('round'), nextval('round'), nextval('round')",
    )
    kept = Kept(pg, open_folder)
    kept.look()
    to = pg.another()
    assert bring(kept, to).proven
    assert to.query("SELECT nextval('t_id_seq')") == [(78,)]
    assert to.query("SELECT nextval('fresh')") == [(500,)]
    ((free, down),) = to.query("SELECT nextval('free'), nextval('down')")
    assert free > 41
    assert down < -2
    pg.run("DELETE FROM t", "ALTER SEQUENCE t_id_seq RESTART 5")
    assert bring(kept, pg, tenants=("a",)).proven
    assert pg.query("SELECT nextval('t_id_seq')") == [(78,)]
