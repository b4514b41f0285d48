"""The recorder is killed, at named instants and at any, under load: nothing that was acknowledged is missing.

The oracle stands outside: each client writes down an id when its commit was acknowledged, and the spool is read
from disk afterwards. Production waits for the recorder all the time (`on_recorder_loss = "wait"`).
"""

import random
import time
from collections.abc import Callable

import psycopg
import pytest

from tests.deep import mostly_deep
from tests.fix_postgres import Database, NewServer
from tests.fix_recorder import Clients, Recording

pytestmark = pytest.mark.any_version

New = Callable[..., Recording]

INSTANTS = ["receiver.received", "receiver.written", "receiver.synced", "receiver.acknowledged"]


def finish(recording: Recording, clients: Clients) -> set[int]:
    """Stop the clients while a recorder lets their last commits go, then it; what they were acknowledged."""
    recording.until(lambda: recording.health.state == "recording", "the recorder to be back")
    acknowledged = clients.stop()
    assert recording.stop() == 0
    return acknowledged


def assert_nothing_is_missing(recording: Recording, acknowledged: set[int], *, at_least: int) -> None:
    assert len(acknowledged) >= at_least
    recorded = recording.ids()  # fails by itself if one was recorded twice, or a file does not follow the one before
    assert not acknowledged - recorded
    with recording.admin() as conn:
        committed = {i for (i,) in conn.execute("SELECT id FROM t")}
    assert recorded <= committed, "recorded what was never committed"


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_at_a_named_instant(pg: Database, new_recording: New, instant: str) -> None:
    recording = new_recording(pg)
    recording.start()
    recording.armed()
    clients = Clients(pg.dsn, 4)
    time.sleep(0.3)
    recording.kill()
    for nth in (1, 2, 7, 30):
        recording.start(fail=f"{instant}:{nth}", until=None)
        assert recording.died() == -9
    recording.start()
    time.sleep(0.3)
    acknowledged = finish(recording, clients)
    assert_nothing_is_missing(recording, acknowledged, at_least=50)
    assert not recording.log("gap")


@pytest.mark.parametrize("seed", mostly_deep(range(3), 0))
def test_killed_at_any_moment(pg: Database, new_recording: New, seed: int) -> None:
    dice = random.Random(seed)
    recording = new_recording(pg, seal_after_s=0.2)  # so that kills also meet the change from file to file
    recording.start()
    recording.armed()
    clients = Clients(pg.dsn, 6)
    for _ in range(6):
        time.sleep(dice.uniform(0.05, 0.7))
        recording.kill()
        recording.start(until=None)
    recording.wait_for("recording")
    time.sleep(0.3)
    acknowledged = finish(recording, clients)
    assert_nothing_is_missing(recording, acknowledged, at_least=50)


def test_production_crashes_and_sends_again_what_it_has_forgotten(own_server: NewServer, new_recording: New) -> None:
    with own_server() as server:
        recording = new_recording(Database(server, server.major, "postgres"))
        recording.start()
        recording.armed()
        clients = Clients(recording.db.dsn, 4)
        for _ in range(3):
            time.sleep(0.5)
            server.kill()  # also forgets the slot's position since the last checkpoint
            server.start()
            recording.until(lambda: recording.health.state == "recording", "it to come back")
        acknowledged = finish(recording, clients)
        assert_nothing_is_missing(recording, acknowledged, at_least=50)
        assert not recording.log("gap")


def test_both_crash_at_once(own_server: NewServer, new_recording: New) -> None:
    with own_server() as server:
        recording = new_recording(Database(server, server.major, "postgres"))
        recording.start()
        recording.armed()
        clients = Clients(recording.db.dsn, 4)
        for _ in range(3):
            time.sleep(0.5)
            recording.kill()
            server.kill()
            server.start()
            recording.start(until=None)
        recording.wait_for("recording")
        time.sleep(0.3)
        acknowledged = finish(recording, clients)
        assert_nothing_is_missing(recording, acknowledged, at_least=50)


@pytest.mark.parametrize("instant", ["receiver.received:12", "receiver.written:12"])
def test_killed_in_the_midst_of_a_large_transaction(pg18: Database, new_recording: New, instant: str) -> None:
    recording = new_recording(pg18, acknowledge="off")
    with recording.admin() as conn:
        conn.execute("INSERT INTO t VALUES (1, 'before')")
        conn.execute("INSERT INTO t SELECT i, repeat('x', 4000) FROM generate_series(10, 15000) i")
        conn.execute("INSERT INTO t VALUES (2, 'after')")
    recording.start(fail=instant, until=None)
    assert recording.died() == -9
    recording.start()
    assert [len(ids) for ids in recording.commits()] == [1, 14_991, 1]


def test_a_connection_lost_in_the_midst_of_a_transaction_leaves_no_half_of_it(
    pg18: Database, new_recording: New
) -> None:
    recording = new_recording(pg18, acknowledge="off")
    recording.start()
    with recording.admin() as conn:
        conn.execute("INSERT INTO t SELECT i, repeat('x', 4000) FROM generate_series(1, 20000) i")
        for _ in range(3):
            recording.until(
                lambda: recording.health.state == "recording" or recording.health.spool_bytes > 20 << 20, "some"
            )
            conn.execute("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
            time.sleep(0.2)
    recording.until(lambda: recording.health.state == "recording" and recording.health.lag_bytes == 0, "all of it")
    assert [len(ids) for ids in recording.commits() if ids] == [20_000]
    assert recording.log("reconnecting")


def test_waiting_commits_are_let_go_when_the_recorder_is_back(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18)
    recording.start()
    recording.armed()
    recording.kill()
    clients = Clients(pg18.dsn, 3)
    time.sleep(1.5)
    assert not clients.acknowledged, "acknowledged while nobody recorded"
    with psycopg.connect(pg18.dsn, autocommit=True, options="-c synchronous_commit=local") as conn:
        assert conn.execute("SELECT count(*) FROM t").fetchone() == (0,)  # not visible before they are safe
    recording.start()
    recording.until(lambda: len(clients.acknowledged) > 10, "commits to go on")
    acknowledged = finish(recording, clients)
    assert_nothing_is_missing(recording, acknowledged, at_least=10)
