"""Event triggers that are gone, disabled, or say nothing, and what happens behind their backs."""

import pytest

from tests.fix_guarded import New, said
from tests.fix_postgres import Database


@pytest.mark.parametrize("name", ["ballast_ddl", "ballast_drop", "ballast_rewrite"])
def test_a_disabled_event_trigger(pg18: Database, guarded: New, name: str) -> None:
    recording = guarded(pg18)
    recording.guard()
    before = recording.lsn()
    recording.db.run(f"ALTER EVENT TRIGGER {name} DISABLE")
    recording.logged(name, "disabled")
    recording.gap(before=before)
    recording.whole()
    assert pg18.query("SELECT DISTINCT evtenabled FROM pg_event_trigger") == [("A",)]


@pytest.mark.any_version
def test_an_event_trigger_disabled_and_enabled_between_two_looks(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "ALTER EVENT TRIGGER ballast_rewrite DISABLE", "ALTER TABLE u ALTER id TYPE numeric",
        "ALTER EVENT TRIGGER ballast_rewrite ENABLE ALWAYS",
    )  # fmt: skip
    recording.logged("ballast_rewrite", "altered")
    recording.gap(before=before)
    recording.whole()


@pytest.mark.any_version
def test_a_dropped_event_trigger(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("DROP EVENT TRIGGER ballast_ddl")
    recording.logged("ballast_ddl", "gone")
    recording.gap(before=before)
    recording.whole()
    assert len(pg.query("SELECT FROM pg_event_trigger WHERE evtenabled = 'A'")) == 3


@pytest.mark.any_version
def test_a_function_that_says_nothing(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "CREATE OR REPLACE FUNCTION ballast.tell(message jsonb) RETURNS void LANGUAGE plpgsql AS 'BEGIN END'",
        "ALTER TABLE u ADD COLUMN n int",
    )
    recording.logged("ballast_ddl", "altered")
    recording.gap(before=before)
    recording.whole()
    recording.db.run("ALTER TABLE u ADD COLUMN m int")
    recording.until(lambda: "ADD COLUMN m" in said(recording, "ballast.ddl"), "DDL to be announced again")


def test_an_identity_taken_away_without_event_triggers(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    silent = "ALTER EVENT TRIGGER ballast_ddl DISABLE" if pg.major < 17 else "SET event_triggers = off"
    with recording.admin() as conn:
        conn.execute(silent.encode())
        conn.execute("ALTER TABLE u REPLICA IDENTITY NOTHING")
    recording.logged("public.u", "updates and deletes")
    recording.gap(before=before, tables=("u",) if pg.major >= 17 else None)
    recording.whole()
    recording.db.run("INSERT INTO u VALUES (1)", "DELETE FROM u")  # can be written to again


def test_a_table_that_nobody_announced(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    before = recording.lsn()
    with recording.admin() as conn:
        conn.execute("SET event_triggers = off")
        conn.execute("CREATE UNLOGGED TABLE v (id int, body text)")
        conn.execute("INSERT INTO v VALUES (1)")
        conn.execute("ALTER TABLE v SET LOGGED")
    recording.logged("public.v", "nobody announced")
    recording.gap(before=before, tables=("v",))
    recording.whole()
    recording.db.run("UPDATE v SET id = 2")  # has been given an identity


@pytest.mark.any_version
def test_a_session_in_replica_mode_is_heard_all_the_same(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    pg.run("CREATE ROLE sly LOGIN SUPERUSER")
    recording.guard()
    pg.run("ALTER ROLE sly SET session_replication_role = replica")
    try:
        recording.alarm("sly@* session_replication_role", "replica")
        with pg.connect(user="sly") as conn:
            conn.execute("CREATE TABLE v (id int, body text)")
            conn.execute("INSERT INTO v VALUES (1, 'x')")
            conn.execute("UPDATE v SET id = 2")
        recording.until(lambda: "CREATE TABLE v" in said(recording, "ballast.ddl"), "the table to be announced")
        recording.clean()
        assert not recording.log("gap_begins")
    finally:
        pg.run("ALTER ROLE sly RESET ALL")
