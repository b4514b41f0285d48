"""The recorder beside a real server: what it promises while everything goes well, and how it says what does not."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import psycopg
import pytest

from ballast.vault import spool
from tests.fix_postgres import Database
from tests.fix_recorder import Recording

pytestmark = pytest.mark.any_version

New = Callable[..., Recording]


def commit_waits(recording: Recording, row: int, timeout_s: float = 2.0) -> bool:
    """Whether an INSERT is still not acknowledged after `timeout_s`. It is cancelled by closing its connection then."""
    conn = psycopg.connect(recording.db.dsn, autocommit=True)
    try:
        conn.pgconn.send_query(b"INSERT INTO t VALUES (%d, 'waits?')" % row)
        conn.pgconn.flush()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            conn.pgconn.consume_input()
            if not conn.pgconn.is_busy():
                return False
            time.sleep(0.01)
        return True
    finally:
        conn.close()


def test_an_acknowledged_commit_is_in_the_spool(pg: Database, new_recording: New) -> None:
    recording = new_recording(pg)
    recording.start()
    recording.armed()
    with recording.session() as conn:
        for n in range(20):
            conn.execute("INSERT INTO t VALUES (%s, 'x')", (n,))
            assert n in recording.ids()  # looked at without asking the recorder
        with conn.transaction():
            conn.execute("INSERT INTO t SELECT generate_series(100, 199), 'many'")
        assert recording.commits()[-1] == list(range(100, 200))
    assert recording.standby_names() == "ballast"


def test_commits_without_a_row_and_of_other_databases_do_not_hang(pg: Database, new_recording: New) -> None:
    recording = new_recording(pg)
    recording.start()
    recording.armed()
    other = pg.another()
    started = time.monotonic()
    with recording.session() as conn, other.connect() as elsewhere:
        elsewhere.execute("CREATE TABLE u (i int)")
        for n in range(10):
            conn.execute(f"CREATE TABLE ddl_{n} (i int)".encode())
            elsewhere.execute("INSERT INTO u VALUES (1)")
    assert time.monotonic() - started < 5
    recording.until(lambda: recording.health.lag_bytes == 0, "the position to follow")
    assert recording.stop() == 0
    recording.start()  # and what was acknowledged so is not mistaken for a gap
    assert not recording.log("gap")


def test_it_goes_on_where_it_stopped(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18, acknowledge="off")
    recording.db.run("INSERT INTO t VALUES (1)")
    for n in range(2, 6):
        recording.start()
        recording.db.run(f"INSERT INTO t VALUES ({n})")
        recording.until(lambda n=n: n in recording.ids(), "the row")  # type: ignore[misc]
        assert recording.stop() == 0
        recording.db.run(f"INSERT INTO t VALUES ({n * 10})")
    recording.start()
    assert recording.ids() == {1, 2, 3, 4, 5, 20, 30, 40, 50}


def test_health_says_how_it_stands(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18)
    recording.start()
    recording.armed()
    recording.db.run("INSERT INTO t VALUES (1)")
    recording.until(lambda: recording.health.commits == 1 and recording.health.lag_bytes == 0, "the commit")
    said = recording.health
    assert recording.process is not None
    assert said.pid == recording.process.pid
    assert said.durable_lsn == said.acknowledged_lsn >= said.received_lsn > 0
    assert said.last_commit_at is not None
    assert said.last_commit_at > said.since[:10]
    assert said.spool_files == 1
    assert said.spool_bytes > 0
    assert (said.acknowledge, said.timeline) == ("spool", 1)
    assert said.slot_held_bytes is not None
    before = said.written_at
    recording.until(lambda: recording.health.written_at > before, "the next", 3)
    for line in recording.log_path.read_text().splitlines():
        assert {"ts", "level", "event"} <= json.loads(line).keys()


def test_a_second_recorder_is_refused(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18, acknowledge="off")
    recording.start()
    other = subprocess.run(
        [sys.executable, "-m", "ballast.vault.recorder", "--config", str(recording.config_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == 1
    assert recording.process is not None
    assert f"Another recorder (process {recording.process.pid}) works with the state folder" in other.stderr
    assert recording.health.state == "recording"


def test_files_are_closed_by_age_between_transactions(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18, acknowledge="off", seal_after_s=0.5)
    recording.start()
    for n in range(3):
        recording.db.run(f"INSERT INTO t VALUES ({n})")
        recording.until(lambda n=n: len(spool.closed_files(recording.config.spool_dir)) == n + 1, "a closed file")  # type: ignore[misc]
    assert [ids for ids in recording.commits() if ids] == [[0], [1], [2]]
    ends = [list(spool.iter_chunks(p, 1 << 20))[-1].end_lsn for p in spool.closed_files(recording.config.spool_dir)]
    starts = [spool.header(p).start_lsn for p in spool.closed_files(recording.config.spool_dir)]
    assert ends[:-1] == starts[1:]
    assert all(a < b for a, b in pairwise(ends))


def test_nothing_heavy_is_loaded_where_commits_wait() -> None:
    heavy = ("pyarrow", "numba", "polars", "numpy", "obstore")
    code = f"import sys, ballast.vault.recorder; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_what_a_start_asks_the_vault_is_asked_without_what_reads_rows() -> None:
    code = "import sys, ballast.vault.origin, ballast.vault.vault; print([m for m in ('pyarrow', 'numpy', 'numba') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_named_and_not_waited_for_is_no_protection_and_is_said(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18)
    recording.start()
    recording.armed()
    with recording.admin() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (other, ballast)'")
        admin.execute("SELECT pg_reload_conf()")
    recording.until(lambda: not recording.health.armed, "it to be noticed")
    recording.until(lambda: "go on without ballast" in recording.health.not_armed_because, "the reason")
    assert recording.log("demoted")
    assert recording.health.exposed_since
    with recording.admin() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'ballast'")
        admin.execute("SELECT pg_reload_conf()")
    recording.armed()
    recording.stop()
