"""Tables whose changes leave the stream: not logged, rewritten, moved, without an identity."""

import time

import pytest

from ballast.vault import wish
from tests.fix_guarded import New, assert_nobody_had_to_wait
from tests.fix_postgres import Database, NewServer


@pytest.mark.any_version
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


@pytest.mark.any_version
def test_unlogged_and_back_between_two_looks(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    before = recording.lsn()
    recording.db.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (1)", "ALTER TABLE u SET LOGGED")
    recording.logged("public.u")
    recording.gap(before=before, tables=("u",))
    recording.whole()


@pytest.mark.any_version
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


@pytest.mark.any_version
def test_a_new_unlogged_table_is_told_and_stops_nobody(pg: Database, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.db.run("CREATE UNLOGGED TABLE cache (id int)")
    recording.logged("public.cache", "cannot be protected")
    recording.clean()
    assert_nobody_had_to_wait(recording)
