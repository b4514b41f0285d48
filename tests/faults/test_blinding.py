"""Each way to make the recorder blind, and that somebody hears of it: the table of docs/capture-integrity.md, line by line.

Every test does to production what an insider (or a tired administrator) might, and then asks for three things: an alarm
that says what was done, a gap whose positions enclose what was lost, and that capture is whole again, or that nothing
is acknowledged as long as it is not.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.postgres import pgoutput, session
from ballast.postgres.lsn import parse_lsn
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import config, frames, server, wish
from ballast.vault.config import Tenants
from ballast.vault.fingerprint import read_baseline, take_fingerprint, write_baseline
from ballast.vault.records import Cut, SequenceState
from ballast.vault.sequences import PREFIX as SEQUENCES
from ballast.vault.sequences import Told
from ballast.vault.status import status
from ballast.vault.vault import Vault
from ballast.vault.wish import Wish
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Protected, assert_equal
from tests.fix_recorder import TOKEN, Recording
from tests.integration.test_sealing import begin, lines, on_production

CHECK_S = 0.5
WITHIN_S = 10.0
"""A few looks, on a machine that has other things to do."""

LIST = "CREATE PUBLICATION ballast FOR TABLE t, u, ballast.canary WITH (publish_via_partition_root = false)"


class Guarded(Recording):
    """A recording with what the guardian rests on: our objects, event triggers, the baseline."""

    def __init__(self, db: Database, folder: Any, publication: str = "", **record: Any) -> None:
        self.publication = publication
        super().__init__(db, folder, check_every_s=CHECK_S, **record)

    def publish(self) -> None:
        self.db.run("CREATE TABLE u (id bigint PRIMARY KEY, body text)")
        with session.connect(self.db.dsn) as conn:
            server.install(conn, "tenant_id", {"public.t": ["id"], "public.u": ["id"]}, lambda _: TOKEN)
            assert server.install_event_triggers(conn) is None
        if self.publication:
            self.db.run(self.publication)
        else:
            super().publish()

    def protect(self) -> None:
        super().protect()
        with session.connect(self.db.dsn) as conn:
            write_baseline(self.config.state_dir, take_fingerprint(conn, "ballast", "ballast"))

    @property
    def good_lsn(self) -> int:
        """Up to where all is known to be well."""
        baseline = read_baseline(self.config.state_dir)
        assert baseline is not None
        return baseline.good_lsn

    def guard(self) -> None:
        """Recording, and looked at at least once since."""
        self.start()
        self.clean()

    def clean(self) -> None:
        """Until one more clean look is behind us."""
        before = self._position()
        self.until(lambda: self._position() > before, "a clean look", WITHIN_S)

    def _position(self) -> int:
        baseline = read_baseline(self.config.state_dir)
        assert baseline is not None
        return baseline.fingerprint.position

    def lsn(self) -> int:
        """Where production's WAL ends."""
        ((lsn,),) = self.db.query("SELECT pg_current_wal_insert_lsn()::text")
        return parse_lsn(lsn)

    def alarm(self, *words: str) -> str:
        """Until the health file has an alarm with these words; the alarm."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [a for a in self.health.alarms if all(word in a for word in words)]
            return bool(found)

        self.until(there, f"an alarm with {words}", WITHIN_S)
        return found[0]

    def logged(self, *words: str) -> None:
        """Until an alarm in the log says so."""

        def there() -> bool:
            lines = self.log("capture_changed") + self.log("gap_begins") + self.log("blind") + self.log("guardian")
            return any(all(word in str(line) for word in words) for line in lines)

        self.until(there, f"{words} in the log", WITHIN_S)

    def gap(self, *, before: int, tables: tuple[str, ...] | None = None) -> Wish:
        """Until an image is wished for with a gap from before `before`, and nothing holds it any more."""
        oids = None
        if tables is not None:
            rows = self.db.query("SELECT oid::bigint FROM pg_class WHERE relname = ANY (%s) ORDER BY 1", list(tables))
            oids = tuple(oid for (oid,) in rows)
        found: list[Wish] = []

        def there() -> bool:
            wishes = wish.pending(self.config.state_dir)
            found[:] = [w for w in wishes if w.kind == "image" and not w.held and w.oids == oids]
            return bool(found)

        self.until(there, f"a wish for an image of {tables}: {wish.pending(self.config.state_dir)}", WITHIN_S)
        assert found[0].from_lsn is not None
        assert found[0].from_lsn <= before, "the gap begins after what was lost"
        return found[0]

    def whole(self) -> None:
        """Until what is written is acknowledged and recorded again."""
        rows: set[int] = set()

        def one_comes_through() -> bool:  # the first may still be part of the gap
            rows.add(int(time.time() * 1000))
            self.db.run(f"INSERT INTO t VALUES ({max(rows)})")
            time.sleep(0.5)
            return bool(rows & self.ids()) and self.health.state == "recording"

        self.until(one_comes_through, "a row to come through", 20.0)
        self.until(lambda: self.health.acknowledged_lsn >= self.health.durable_lsn > 0, "acknowledging", WITHIN_S)


New = Callable[..., Guarded]


@pytest.fixture
def guarded(open_folder: Any) -> Iterator[New]:
    made: list[Guarded] = []

    def new(db: Database, **more: Any) -> Guarded:
        folder = open_folder / f"guarded{len(made)}"
        folder.mkdir()
        made.append(Guarded(db, folder, acknowledge=more.pop("acknowledge", "off"), **more))
        return made[-1]

    yield new
    for recording in made:
        recording.configure(on_recorder_loss="wait")
        for process in recording.started:
            if process.poll() is None:
                process.kill()
                process.wait()


# The publication


def test_a_dropped_publication(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("DROP PUBLICATION ballast", "INSERT INTO t VALUES (1)")
    recording.logged("publication", "gone")
    recording.gap(before=before)
    recording.whole()
    assert 1 not in recording.ids()  # which is what the gap says


def test_a_dropped_publication_stops_commits_until_it_is_there_again(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18, acknowledge="spool")
    recording.guard()
    recording.armed()
    with recording.session() as conn:
        conn.execute("DROP PUBLICATION ballast")
        conn.execute("INSERT INTO t VALUES (1)")  # waits until the stretch is a gap on disk
    assert [w for w in wish.pending(recording.config.state_dir) if w.kind == "image"]


def test_a_publication_that_was_dropped_and_made_again(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "DROP PUBLICATION ballast", "INSERT INTO t VALUES (1)",
        "CREATE PUBLICATION ballast FOR ALL TABLES WITH (publish_via_partition_root = false)",
    )  # fmt: skip
    recording.logged("publication", "another of that name")
    recording.gap(before=before)
    recording.whole()


def test_a_publication_that_leaves_out_operations(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER PUBLICATION ballast SET (publish = 'insert')", "TRUNCATE u")
    recording.logged("publication options", "insert")
    recording.gap(before=before)
    recording.whole()
    assert pg.query("SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication") == [(True,)]


def test_an_option_switched_and_switched_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "ALTER PUBLICATION ballast SET (publish = 'insert')",
        "ALTER PUBLICATION ballast SET (publish = 'insert, update, delete, truncate')",
    )
    recording.logged("publication options", "altered")
    recording.gap(before=before)
    recording.whole()


def test_a_table_taken_out_of_the_publication(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER PUBLICATION ballast DROP TABLE t", "INSERT INTO t VALUES (1)")
    recording.logged("public.t", "not published")
    recording.gap(before=before, tables=("t",))
    recording.whole()


def test_a_table_taken_out_and_put_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        "ALTER PUBLICATION ballast DROP TABLE t", "INSERT INTO t VALUES (1)", "ALTER PUBLICATION ballast ADD TABLE t"
    )
    recording.logged("public.t", "taken out and put back")
    recording.gap(before=before, tables=("t",))
    recording.whole()


@pytest.mark.parametrize("left_out", ["WHERE (id > 10)", "(id)"], ids=["rows", "columns"])
def test_a_row_filter_or_column_list(pg: Database, guarded: New, left_out: str) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run(
        f"ALTER PUBLICATION ballast SET TABLE t {left_out}, u, ballast.canary", "INSERT INTO t VALUES (1, 'a')"
    )
    recording.logged("public.t", "row filter")
    recording.gap(before=before, tables=("t",))
    recording.whole()
    unfiltered = "SELECT count(*) FROM pg_publication_rel WHERE prqual IS NULL AND prattrs IS NULL"
    assert pg.query(unfiltered) == [(3,)]


def test_a_new_table_that_is_in_no_list(pg: Database, guarded: New) -> None:
    recording = guarded(pg, publication=LIST)
    recording.guard()
    before = recording.lsn()
    recording.db.run("CREATE TABLE v (id int PRIMARY KEY)", "INSERT INTO v VALUES (1)")
    recording.logged("public.v", "not published")
    recording.gap(before=before, tables=("v",))
    assert ("v",) in pg.query("SELECT tablename FROM pg_publication_tables WHERE pubname = 'ballast'")
    recording.whole()


# Tables


def test_an_unlogged_table_stops_acknowledging_until_it_is_logged(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (1)")
    recording.alarm("public.u", "UNLOGGED", "SET LOGGED")
    recording.wait_for("blind")
    acknowledged = recording.health.acknowledged_lsn
    recording.db.run("INSERT INTO t VALUES (1)")
    recording.until(lambda: 1 in recording.ids(), "the row")  # it is recorded …
    time.sleep(1.5)
    assert recording.health.acknowledged_lsn == acknowledged  # … and production is not told
    (held,) = [w for w in wish.pending(recording.config.state_dir) if w.kind == "image"]
    assert held.held
    assert held.from_lsn is not None
    assert held.from_lsn <= before

    recording.db.run("ALTER TABLE u SET LOGGED")
    recording.gap(before=before, tables=("u",))
    recording.whole()


def test_unlogged_and_back_between_two_looks(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (1)", "ALTER TABLE u SET LOGGED")
    recording.logged("public.u")
    recording.gap(before=before, tables=("u",))
    recording.whole()


@pytest.mark.parametrize("command", ["VACUUM FULL u", "CLUSTER u USING u_pkey"], ids=["vacuum", "cluster"])
def test_a_rewrite_that_nothing_explains(pg: Database, guarded: New, command: str) -> None:
    recording = guarded(pg)
    recording.db.run("INSERT INTO u SELECT generate_series(1, 10)")
    recording.guard()
    before = recording.lsn()
    recording.db.run(command)
    recording.logged("public.u", "rewritten")
    recording.gap(before=before, tables=("u",))
    assert not recording.log("blind"), "it was over when it was seen: nobody had to wait"
    recording.whole()


def test_a_table_moved_to_another_tablespace(own_server: NewServer, guarded: New) -> None:
    server = own_server(settings={"allow_in_place_tablespaces": "on"})
    server.start()
    recording = guarded(Database(server, 18, "postgres"))
    recording.db.run("CREATE TABLESPACE side LOCATION ''", "INSERT INTO u SELECT generate_series(1, 10)")
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER TABLE u SET TABLESPACE side")
    recording.logged("public.u", "rewritten")
    recording.gap(before=before, tables=("u",))
    assert not recording.log("blind")
    recording.whole()


def test_what_the_stream_explains_is_no_alarm(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.db.run(
        "TRUNCATE u", "ALTER TABLE u ALTER body TYPE varchar(20)", "ALTER TABLE u ADD COLUMN n bigserial",
        "CREATE TABLE v (id int PRIMARY KEY)", "INSERT INTO v VALUES (1)", "CREATE TABLE w AS SELECT 1 AS a",
        "ALTER TABLE t RENAME TO t2", "ALTER TABLE t2 RENAME TO t", "DROP TABLE v", "CREATE INDEX ON u (body)",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "TRUNCATE p", "ALTER TABLE p DETACH PARTITION p1", "TRUNCATE t, u, w", "VACUUM", "ANALYZE", "REINDEX TABLE u",
    )  # fmt: skip
    recording.clean()
    recording.clean()
    assert not recording.log("capture_changed"), recording.log("capture_changed")
    assert not recording.log("gap_begins")
    assert recording.health.alarms == ()
    recording.whole()


def test_a_new_unlogged_table_is_told_and_stops_nobody(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.db.run("CREATE UNLOGGED TABLE cache (id int)")
    recording.logged("public.cache", "cannot be protected")
    recording.clean()
    assert_nobody_had_to_wait(recording)


# Event triggers


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


def test_a_dropped_event_trigger(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("DROP EVENT TRIGGER ballast_ddl")
    recording.logged("ballast_ddl", "gone")
    recording.gap(before=before)
    recording.whole()
    assert len(pg.query("SELECT FROM pg_event_trigger WHERE evtenabled = 'A'")) == 3


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


# The slot


def test_a_slot_dropped_and_made_again(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.stop()
    before = recording.lsn()
    pg.run("SELECT pg_drop_replication_slot('ballast')", "INSERT INTO t VALUES (1)")
    recording.start(until="slot_lost")
    recording.alarm("slot", "gone")
    pg.run("SELECT pg_create_logical_replication_slot('ballast', 'pgoutput')")
    found = recording.gap(before=before)
    assert (found.to_lsn or 0) > before
    recording.whole()
    assert "canary" not in str(recording.log("capture_changed"))


def test_a_slot_that_was_advanced(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.stop()
    before = recording.lsn()
    pg.run("INSERT INTO t VALUES (1)", "SELECT pg_replication_slot_advance('ballast', pg_current_wal_lsn())")
    recording.start(until=None)
    found = recording.gap(before=before)
    assert (found.to_lsn or 0) > before
    recording.whole()


def test_much_wal_kept_for_the_slot_is_an_alarm_before_it_is_lost(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    with recording.admin() as conn:
        conn.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        conn.execute("SELECT pg_reload_conf()")
    with recording.admin() as conn:
        conn.execute("BEGIN; INSERT INTO t VALUES (1)")  # from here on the slot must keep everything
        switch_wal(pg18, 3)
        assert "of at most 67108864" in recording.alarm("bytes of WAL for the slot")
        (told,) = recording.log("slot_holds_much")
        assert told["level"] == "alarm"
        assert told["held_bytes"] >= told["limit_bytes"] / 2 == 32 << 20
        recording.clean()
        conn.execute("COMMIT")

    def given_back() -> bool:  # what a running server writes now and then by itself lets the slot move on
        pg18.run("CHECKPOINT", "INSERT INTO u SELECT max(id) + 1 FROM (SELECT 0 AS id UNION ALL SELECT id FROM u) a")
        time.sleep(0.3)
        return not recording.health.alarms

    recording.until(given_back, "the alarm to end")
    assert len(recording.log("slot_holds_much")) == 1, "said once, shown as long as it lasts"
    assert_nobody_had_to_wait(recording)


@pytest.mark.parametrize("major", [16, 18], ids=["pg16", "pg18"])
def test_an_invalidated_slot_is_no_protection_until_protect_begins_anew(
    own_server: NewServer, new_protected: Callable[..., Protected], major: int
) -> None:
    server = own_server(major=major, settings={"max_slot_wal_keep_size": "16MB"})
    server.start()
    db = Database(server, major, "postgres")
    db.run("CREATE TABLE t (id int PRIMARY KEY, shop int)")
    protected = new_protected(db, Tenants(column="shop"))
    protected.protect()
    protected.start()
    db.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 100) g")
    protected.kill()
    before = protected.look().cut.lsn
    with db.connect(options="-c synchronous_commit=local") as conn:
        conn.execute("INSERT INTO t VALUES (1000, 1)")
    for _ in range(20):
        switch_wal(db, 2)
        if db.query("SELECT wal_status FROM pg_replication_slots") == [("lost",)]:
            break
    else:
        pytest.fail("the slot is still there")

    protected.start(armed=False)
    protected.until(lambda: protected.health.state == "slot_lost", "the recorder to say so")
    assert "wal_status lost" in protected.health.reason
    found = status(protected.config)
    assert not found.protected
    assert found.verdict.headline.startswith("NOT PROTECTED: the replication slot is lost: ")
    assert "production says that the replication slot is lost" in [p.what for p in found.verdict.problems]
    assert any("ballast protect" in problem.do for problem in found.verdict.problems)
    time.sleep(2.0)
    assert protected.health.acknowledged_lsn == 0
    assert protected.process is not None
    assert protected.process.poll() is None, "it asks again until somebody has done something"
    protected.stop()

    outcome = protected.protect()
    assert outcome.did == "begun anew"
    (gap,) = protected.vault().index.gaps.values()
    assert gap.from_lsn <= before
    assert gap.to_lsn is not None
    assert gap.to_lsn > before
    protected.start()
    db.run("INSERT INTO t VALUES (2000, 2)")
    look = protected.look()
    assert {b"1000\t1", b"2000\t2"} <= set(look.rows["public.t"])
    protected.sealed(look.cut)
    protected.stop()
    assert_equal(protected.vault(), look)
    protected.verified()


def switch_wal(db: Database, times: int) -> None:
    """Fill so many segments of WAL, and a checkpoint."""
    for _ in range(times):
        db.run("SELECT pg_logical_emit_message(false, 'filler', 'x')", "SELECT pg_switch_wal()")
    db.run("CHECKPOINT")


# Another server


def test_another_server_in_productions_place_is_told_nothing(pg: Database, own_server: NewServer, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.stop()
    server = own_server(major=pg.major, settings={"synchronous_standby_names": "ballast"})
    server.start()
    local = "-c synchronous_commit=local"
    with psycopg.connect(server.dsn(), autocommit=True, options=local) as conn:
        conn.execute(f"CREATE DATABASE {pg.name}".encode())
    other = Database(server, pg.major, pg.name)  # all is there by its name: only the server is another
    with other.connect(options=local) as conn:
        conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, body text)")
        conn.execute("CREATE PUBLICATION ballast FOR ALL TABLES WITH (publish_via_partition_root = false)")
        conn.execute("SELECT pg_create_logical_replication_slot('ballast', 'pgoutput')")
    slots = other.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    ours = pg.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    head = Vault.open(recording.config.vault).index.head
    recorded = recording.ids()
    hangs = threading.Thread(target=written_to, args=(other,), daemon=True)
    hangs.start()
    other_waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    recording.until(lambda: other.query(other_waits) == [(1,)], "its commit to wait")

    recording.config = msgspec.structs.replace(recording.config, dsn=other.dsn)
    config.write(recording.config, recording.config_path)
    recording.start(until=None)
    assert recording.died() != 0
    assert recording.health.state == "fork"
    assert "The server is another one: its system identifier is" in recording.health.reason
    assert "ballast protect" in recording.health.reason
    assert recording.health.acknowledged_lsn == 0
    assert hangs.is_alive(), "a commit was acknowledged that nobody recorded"
    assert other.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == slots
    assert pg.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == ours
    assert other.query("SELECT to_regclass('ballast.canary')") == [(None,)], "nothing is written to it"
    assert recording.ids() == recorded
    assert not [w for w in wish.pending(recording.config.state_dir) if w.kind == "image"]
    assert Vault.open(recording.config.vault).index.head == head
    assert status(recording.config).verdict.headline.startswith("NOT PROTECTED")


def test_an_older_copy_in_productions_place_is_told_nothing(own_server: NewServer, guarded: New) -> None:
    server = own_server()
    server.start()
    recording = guarded(Database(server, 18, "postgres"))
    server.stop()
    shutil.copytree(server.pgdata, copy := recording.folder / "copy", symlinks=True)
    server.start()
    recording.guard()
    recording.db.run("INSERT INTO t SELECT generate_series(1, 1000)")
    recording.until(lambda: len(recording.ids()) == 1000, "the rows")
    recording.until(lambda: recording.health.acknowledged_lsn >= recording.health.durable_lsn > 0, "acknowledging")
    recording.stop()
    server.stop()
    put_in_place(copy, server.pgdata)
    server.start()
    slots = recording.db.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")

    recording.start(until=None)
    assert recording.died() != 0
    assert recording.health.state == "fork"
    assert "it lacks commits that the vault has" in recording.health.reason
    assert recording.health.acknowledged_lsn == 0
    assert recording.db.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == slots
    assert len(recording.ids()) == 1000, "nothing recorded is touched"


def put_in_place(copy: Path, pgdata: Path) -> None:
    """The older files in the place of the newer, with their owner."""
    owner = pgdata.stat()
    shutil.rmtree(pgdata)
    shutil.move(copy, pgdata)
    for path in (pgdata, *pgdata.rglob("*")):
        os.lchown(path, owner.st_uid, owner.st_gid)


def written_to(db: Database) -> None:
    """A commit of its application, which may end with its server."""
    with contextlib.suppress(psycopg.Error):
        db.run("INSERT INTO t VALUES (7)")


# Weaker promises


def test_taken_out_of_the_setting_it_says_so_and_puts_itself_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg, acknowledge="spool")
    recording.guard()
    recording.armed()
    assert recording.standby.past == ()
    with recording.admin() as conn:
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        conn.execute("SELECT pg_reload_conf()")
        before = recording.lsn()
    recording.until(lambda: recording.log("disarmed_by_somebody"), "the alarm", WITHIN_S)
    (told,) = recording.log("disarmed_by_somebody")
    assert (told["level"], told["setting"]) == ("alarm", "")
    recording.until(lambda: recording.standby.past, "it to put itself back", WITHIN_S)
    recording.armed()
    (exposed,) = recording.standby.past
    assert "somebody took the recorder out" in exposed.why
    assert exposed.to_lsn is not None
    assert max(exposed.from_lsn, before) <= exposed.to_lsn  # what was acknowledged before it was noticed is safe
    with recording.session() as conn:
        conn.execute("INSERT INTO t VALUES (1)")
    assert 1 in recording.ids(), "waited for again"
    assert len(recording.log("disarmed_by_somebody")) == 1


@pytest.mark.parametrize(
    ("command", "back", "words"),
    [
        ("ALTER ROLE postgres SET synchronous_commit = off", "ALTER ROLE postgres RESET ALL", ("postgres@*", "off")),
        ("ALTER DATABASE {db} SET synchronous_commit = local", "ALTER DATABASE {db} RESET ALL", ("*@{db}", "local")),
        ("ALTER SYSTEM SET synchronous_commit = off", "ALTER SYSTEM RESET ALL", ("synchronous_commit", "off")),
        ("ALTER SYSTEM SET wal_level = replica", "ALTER SYSTEM RESET ALL", ("wal_level", "after the next restart")),
    ],
    ids=["role", "database", "system", "wal_level"],
)
def test_a_promise_made_weaker(pg: Database, guarded: New, command: str, back: str, words: tuple[str, ...]) -> None:
    recording = guarded(pg)
    recording.guard()
    try:
        pg.run(command.format(db=pg.name), "SELECT pg_reload_conf()")
        recording.alarm(*(word.format(db=pg.name) for word in words))
        recording.clean()
        assert recording.health.alarms, "as long as it lasts"
        assert_nobody_had_to_wait(recording)
    finally:
        pg.run(back.format(db=pg.name), "SELECT pg_reload_conf()")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_made_unsafe(pg18: Database, guarded: New, name: str) -> None:
    set_on_server(pg18, name, "on")  # the servers of these tests begin without
    recording = guarded(pg18)
    recording.guard()
    assert recording.health.alarms == ()
    set_on_server(pg18, name, "off")
    recording.alarm(f"{name}: on → off", "a crash of the server's machine")
    assert_nobody_had_to_wait(recording)
    set_on_server(pg18, name, "on")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)


def set_on_server(db: Database, name: str, value: str) -> None:
    """Until a new session sees it."""
    db.run(f"ALTER SYSTEM SET {name} = {value}", "SELECT pg_reload_conf()")
    deadline = time.monotonic() + WITHIN_S
    while db.query(f"SHOW {name}") != [(value,)]:
        assert time.monotonic() < deadline, f"{name} stays"
        time.sleep(0.05)


# The canary


def test_a_deleted_canary_sings_again(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    pg.run("DELETE FROM ballast.canary")
    recording.clean()
    recording.until(lambda: pg.query("SELECT count(*) FROM ballast.canary") == [(1,)], "a canary")
    assert not recording.log("gap_begins")


def test_a_dropped_canary_is_put_back(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    pg.run("DROP TABLE ballast.canary")
    recording.logged("canary cannot be written")
    recording.until(lambda: not recording.health.alarms, "the alarm to end", WITHIN_S)
    recording.until(lambda: pg.query("SELECT count(*) FROM ballast.canary") == [(1,)], "a canary")


def test_a_canary_that_does_not_come_through(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    pg.run(  # the one way to lose rows that no catalog shows
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER swallow BEFORE INSERT OR UPDATE ON ballast.canary FOR EACH ROW EXECUTE FUNCTION swallow()",
    )
    recording.wait_for("blind")
    recording.logged("canary", "not received")
    pg.run("DROP TRIGGER swallow ON ballast.canary")
    recording.gap(before=before)
    recording.whole()


# The guardian itself


def test_a_recorder_that_is_started_while_capture_is_broken_acknowledges_nothing(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    recording.db.run("ALTER TABLE u SET UNLOGGED")
    recording.wait_for("blind")
    before = wish.pending(recording.config.state_dir)
    recording.kill()
    recording.start(until="blind")
    recording.db.run("INSERT INTO t VALUES (1)")
    time.sleep(2)
    assert recording.health.acknowledged_lsn == 0
    assert wish.pending(recording.config.state_dir) == before, "the same gap, once"
    recording.db.run("ALTER TABLE u SET LOGGED")
    recording.whole()


def test_who_chose_availability_is_told_and_goes_on(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18, on_blind="continue")
    recording.guard()
    recording.db.run("ALTER TABLE u SET UNLOGGED")
    recording.alarm("public.u", "UNLOGGED")
    recording.db.run("INSERT INTO t VALUES (1)")
    recording.until(lambda: recording.health.acknowledged_lsn >= recording.health.durable_lsn, "acknowledging")
    assert recording.health.state == "recording"
    assert [w.held for w in wish.pending(recording.config.state_dir) if w.kind == "image"] == [True]


def test_without_a_baseline_nothing_is_taken_for_granted(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    (recording.config.state_dir / "fingerprint.json").unlink()
    recording.start()
    recording.alarm("run `ballast protect`")
    assert read_baseline(recording.config.state_dir) is None


def test_the_position_known_to_be_well_follows(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    first = recording.good_lsn
    recording.db.run("INSERT INTO t VALUES (1)")
    after = recording.lsn()
    recording.until(lambda: recording.good_lsn > after > first, "it to follow", WITHIN_S)


def test_sequences_are_told_when_they_have_changed(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    pg.run(
        "CREATE SEQUENCE a INCREMENT 3 CACHE 5",
        "CREATE SEQUENCE b",
        "SELECT setval('b', 100, false)",
        "SELECT nextval('a')",
    )
    pg.run('CREATE SEQUENCE "odd ""name"""')
    recording.guard()

    def told() -> dict[str, SequenceState]:
        found: dict[str, SequenceState] = {}
        for content in contents(recording, SEQUENCES):
            found.update({s.name: s for s in msgspec.json.decode(content, type=Told).sequences})
        return found

    recording.until(lambda: len(told()) == 3, "all three", WITHIN_S)
    a = told()["a"]
    assert (a.last_value, a.is_called, a.increment, a.cache) == (13, True, 3, 5)  # the session took five of them
    assert (told()["b"].last_value, told()["b"].is_called) == (100, False)
    messages = len(contents(recording, SEQUENCES))
    recording.clean()
    assert len(contents(recording, SEQUENCES)) == messages, "nothing new, nothing said"
    pg.run("SELECT setval('b', 7000)")
    recording.until(lambda: told()["b"].last_value == 7000, "the new value", WITHIN_S)


def assert_nobody_had_to_wait(recording: Recording) -> None:
    """And nothing is missing."""
    assert not recording.log("blind")
    assert not recording.log("gap_begins")


def contents(recording: Recording, prefix: str) -> list[bytes]:
    """Of all messages with that prefix in the spool."""
    found = []
    for payload in recording.payloads():
        for _, message in frames.messages(payload):
            if message[0] == ord("M"):
                decoded = pgoutput.decode(message)
                if isinstance(decoded, pgoutput.Message) and decoded.prefix == prefix:
                    found.append(decoded.content)
    return found


def said(recording: Recording, prefix: str) -> str:
    """The same as one text."""
    return b"\n".join(contents(recording, prefix)).decode()


def test_a_big_transaction_does_not_hide_the_canary(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    with psycopg.connect(pg18.dsn, autocommit=True) as conn:
        for n in range(5):
            rows = (n * 100_000, n * 100_000 + 60_000)
            conn.execute("INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(%s, %s) g", rows)
    recording.clean()
    recording.clean()
    assert not recording.log("capture_changed")


@pytest.mark.parametrize("how", ["unlogged", "publication"])
def test_the_gap_is_in_the_ledger_and_closed_by_an_image(pg: Database, guarded: New, how: str) -> None:
    recording = guarded(pg, seal_after_s=0.5)
    begin(recording, Tenants(column="id"))
    recording.sealing = True
    recording.guard()
    recording.db.run("INSERT INTO u VALUES (1, 'before')")
    before = recording.lsn()
    if how == "unlogged":
        recording.db.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (2, 'lost')")
        recording.wait_for("blind")
        recording.db.run("ALTER TABLE u SET LOGGED")
    else:
        recording.db.run("DROP PUBLICATION ballast", "INSERT INTO u VALUES (2, 'lost')")
        recording.logged("publication", "gone")

    def closed() -> bool:
        gaps = Vault.open(recording.config.vault, state_dir=recording.config.state_dir).index.gaps.values()
        return (
            bool(gaps) and all(gap.to_lsn is not None for gap in gaps) and not wish.pending(recording.config.state_dir)
        )

    recording.until(closed, "the gaps to be closed", 90.0)
    vault = Vault.open(recording.config.vault, state_dir=recording.config.state_dir)
    assert min(gap.from_lsn for gap in vault.index.gaps.values()) <= before
    with snapshot_at_cut(recording.config.dsn) as (look, lsn):
        expected = on_production(look, "u")
    recording.db.run("INSERT INTO t VALUES (1, 'so that there is something to seal')")
    recording.until(lambda: recorded_until(recording) >= lsn, "it to be sealed", 60.0)
    vault.refresh()
    assert lines(vault, Cut(1, lsn), "u") == expected == ["1\tbefore", "2\tlost"]
    recording.until(lambda: not recording.health.alarms, "the alarms to end", WITHIN_S)


def recorded_until(recording: Recording) -> int:
    """How far the vault has come."""
    return Vault.open(recording.config.vault, state_dir=recording.config.state_dir).index.recorded_until(1)
