"""Dumps of the structure: they rebuild what the owner made, hold nothing of ours, and show nobody the password."""

import os
import threading
from pathlib import Path

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ballast.errors import ServerError
from ballast.postgres.session import connect
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.recovery import dumpscript
from ballast.vault import server
from ballast.vault.dump import Dump, roles_of_catalog, take_dump
from tests.fix_postgres import Database

STRUCTURE = """
CREATE TABLE shops (shop int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, shop int REFERENCES shops, total int CHECK (total > 0));
CREATE INDEX orders_of_shop ON orders (shop);
CREATE FUNCTION tell() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
--
-- Name: ballast_ddl; Type: EVENT TRIGGER; Schema: -; Owner: me
--
END $$;
CREATE EVENT TRIGGER ballast_ddl_of_mine ON ddl_command_end EXECUTE FUNCTION tell();
CREATE EVENT TRIGGER theirs ON sql_drop WHEN TAG IN ('DROP TABLE') EXECUTE FUNCTION tell();
COMMENT ON EVENT TRIGGER theirs IS 'tells; of ballast_drop';
CREATE PUBLICATION ballast FOR ALL TABLES;
"""
CATALOG = """
SELECT format('%s %s %s', n.nspname, c.relname, pg_get_indexdef(c.oid)) FROM pg_class c
  JOIN pg_namespace n ON n.oid = relnamespace
 WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
UNION ALL SELECT format('%s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT format('%s %s %s', evtname, evtenabled, obj_description(oid, 'pg_event_trigger')) FROM pg_event_trigger
UNION ALL SELECT prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'
ORDER BY 1
"""


@pytest.fixture
def built(pg: Database) -> Database:
    """A database with structure, without Ballast."""
    pg.run(*(f"{statement};" for statement in [STRUCTURE]))
    return pg


def protect(db: Database) -> None:
    with connect(db.dsn) as conn:
        server.install(conn, "shop", {})
        assert server.install_event_triggers(conn) is None
        conn.execute("COMMENT ON EVENT TRIGGER ballast_drop IS 'ours; don''t touch'")


def dump(db: Database, dsn: str | None = None) -> Dump:
    with connect(dsn or db.dsn) as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = conn.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        db.run("CREATE TABLE later (id int)")
        try:
            return take_dump(dsn or db.dsn, row[0], db.major)
        finally:
            db.run("DROP TABLE later")


def test_a_dump_rebuilds_the_structure_without_ours(built: Database) -> None:
    before = built.query(CATALOG)
    protect(built)

    taken = dump(built)

    empty = built.another()
    version = built.major * 10000
    with psycopg.connect(empty.dsn, autocommit=True) as conn:
        for script in (taken.pre_data, taken.post_data):
            for statement in dumpscript.accepted(dumpscript.statements(script.decode()), server_version=version):
                conn.execute(statement.encode())
    assert empty.query(CATALOG) == before
    assert empty.query("SELECT count(*) FROM pg_publication") == [(0,)]
    assert b"ballast." not in taken.pre_data + taken.post_data
    listed = [part for script in (taken.pre_data, taken.post_data) for part in dumpscript.parts(script.decode())[1]]
    assert not [part for part in listed if dumpscript.is_ours(part) and part.type != "EVENT TRIGGER"]


def test_roles_come_with_their_memberships_and_without_passwords(built: Database) -> None:
    built.run(
        "CREATE ROLE staff NOLOGIN",
        "CREATE ROLE \"Odd; name\" LOGIN CREATEDB PASSWORD 'hush' IN ROLE staff",
        "CREATE ROLE poor LOGIN",
    )

    every = dump(built).roles.decode()

    assert 'GRANT staff TO "Odd; name"' in every
    assert "PASSWORD" not in every
    assert "SCRAM" not in every
    from_catalog = roles_of_catalog(built.dsn_as("poor"))
    built.run('DROP ROLE "Odd; name"', "DROP ROLE staff")
    for line in from_catalog.decode().splitlines():
        if "postgres" not in line and "poor" not in line:
            built.run(line)
    assert built.query(
        "SELECT rolname, rolcanlogin, rolcreatedb, pg_has_role(oid, 'staff', 'member')"
        " FROM pg_roles WHERE rolname IN ('staff', 'Odd; name') ORDER BY 1"
    ) == [("Odd; name", True, True, True), ("staff", False, False, True)]


def test_a_role_without_superuser_can_dump(built: Database) -> None:
    built.run("CREATE ROLE keeper LOGIN IN ROLE pg_read_all_data")

    taken = dump(built, built.dsn_as("keeper"))

    assert b"CREATE TABLE public.orders" in taken.pre_data
    assert b"CREATE ROLE keeper" in taken.roles


def test_the_password_is_on_no_command_line(built: Database) -> None:
    dsn = make_conninfo(built.dsn, password="hush-hush", connect_timeout="7", keepalives_idle="9")
    seen: list[list[str]] = []
    ended = threading.Event()

    def watch() -> None:
        me = psutil.Process(os.getpid())
        while not ended.is_set():
            for child in me.children():
                try:
                    if Path(child.exe()).name.startswith("pg_dump"):
                        seen.append(child.cmdline())
                except psutil.Error:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        dump(built, dsn)
    finally:
        ended.set()
        watcher.join()

    assert seen
    assert not [line for line in seen if any("hush" in word for word in line)]


def test_what_the_server_says_is_in_the_error(built: Database) -> None:
    built.run("CREATE ROLE poor LOGIN", "REVOKE ALL ON orders FROM PUBLIC")

    with pytest.raises(ServerError, match="permission denied for table"):
        dump(built, built.dsn_as("poor"))


def test_options_that_hold_passwords_are_left_out(pg18: Database) -> None:
    pg18.run(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE FOREIGN DATA WRAPPER f OPTIONS (\"API key\" 'hunter2; --')",
        "CREATE SERVER plain FOREIGN DATA WRAPPER f OPTIONS (host 'h', dbname 'd')",
        "CREATE SERVER open FOREIGN DATA WRAPPER f OPTIONS (host 'it''s', password E'hunter2''\\\\', port '1')",
        "CREATE USER MAPPING FOR PUBLIC SERVER plain OPTIONS (\"user\" 'u', pw 'hunter2\n--\n-- Name: x; Type: SERVER;\n')",
        "CREATE USER MAPPING FOR PUBLIC SERVER open OPTIONS (sesame 'hunter2')",
    )
    try:
        with snapshot_at_cut(pg18.dsn) as (conn, _):
            (snapshot,) = conn.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            dump = take_dump(pg18.dsn, snapshot, 18)
    finally:
        pg18.run("DROP FOREIGN DATA WRAPPER f CASCADE")
    assert b"hunter2" not in dump.pre_data + dump.post_data
    assert dump.post_data.count(b"-- Left out: options of ") == 4
    again = pg18.another()
    again.run(*dumpscript.statements(dump.pre_data.decode()))
    said = again.query(
        "SELECT srvname::text, ARRAY(SELECT unnest(srvoptions) ORDER BY 1) FROM pg_foreign_server ORDER BY 1"
    )
    assert said == [("open", ["host=it's", "port=1"]), ("plain", ["dbname=d", "host=h"])]
    assert sorted(again.query("SELECT umoptions FROM pg_user_mapping"), key=str) == [(None,), (["user=u"],)]
