"""The slot is dropped, moved, starved."""

import time
from collections.abc import Callable

import pytest

from ballast.vault.config import Tenants
from ballast.vault.status import status
from tests.fix_guarded import New, assert_nobody_had_to_wait
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Protected, assert_equal


@pytest.mark.any_version
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


@pytest.mark.any_version
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
