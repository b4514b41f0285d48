"""When commits are let go: `acknowledge` is "store" (they wait for the ledger), or "off"; and the recorder is lost."""

import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ballast.vault import catalogfile, wish
from ballast.vault.config import Tenants
from ballast.vault.health import RECORDER_FILE, SEALER_FILE
from ballast.vault.records import Cut
from ballast.vault.status import status
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import Database
from tests.fix_protected import Protected, assert_equal

pytestmark = pytest.mark.any_version

New = Callable[..., Pipeline]


def test_reading_the_catalog_stops_no_commit_and_is_done_in_the_end(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    pg18.run("CREATE TABLE t (id int PRIMARY KEY, shop int NOT NULL)")
    protected = new_protected(pg18, Tenants(column="shop"), acknowledge="store")
    protected.protect()
    protected.start()
    state = protected.config.state_dir
    with protected.session() as long, protected.session() as other:
        long.autocommit = other.autocommit = False
        long.execute("INSERT INTO t VALUES (0, 0)")  # a transaction that every new snapshot with a position waits for
        wish.leave(state, "catalog", protected.timeline, "a test", id=catalogfile.WISH_ID)
        time.sleep(3.0)  # the imager has begun, and waits for it
        done = threading.Event()

        def work() -> None:
            for n in range(1, 6):
                other.execute("INSERT INTO t VALUES (%s, %s)", (n, n))
                other.commit()
            done.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        assert done.wait(20), f"commits wait for the sealer, which waits\n{protected.tail()}"
        assert wish.pending(state), "the catalog cannot have been read yet"
        long.commit()
    protected.until(lambda: not wish.pending(state) and not catalogfile.is_there(state), "the catalog to be used")
    look = protected.look()
    protected.sealed(look.cut)
    assert_equal(protected.vault(), look)
    closed = [state, Path(protected.config.vault), *(state / name for name in (RECORDER_FILE, SEALER_FILE))]
    assert not [path for path in closed if path.stat().st_mode & 0o077], "others may look into it"
    protected.stop()


@pytest.mark.timeout(180)
def test_what_was_acknowledged_survives_the_loss_of_the_recorders_disk(pg: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg, acknowledge="store")
    pipeline.start()
    clients = pipeline.clients()
    for n in (1, 2):
        stands = len(clients.acknowledged)
        pipeline.until(lambda s=stands: len(clients.acknowledged) > s + 40, "commits")  # type: ignore[misc]
        pipeline.kill()
        time.sleep(0.2)
        acknowledged = set(clients.acknowledged)
        shutil.rmtree(pipeline.config.spool_dir)
        index = pipeline.vault().index
        sealed = Cut(index.newest_timeline, index.segments_of(index.newest_timeline)[-1].last_lsn)
        ids = pipeline.ids(sealed)
        assert not acknowledged - ids.keys(), f"acknowledged, and lost with the spool, at the loss of disk {n}"
        pipeline.start()
    acknowledged = clients.stop()
    pipeline.check(acknowledged)
    assert not pipeline.vault().index.gaps
    assert "in the vault's store (RPO 0)" in status(pipeline.config).verdict.headline


@pytest.mark.timeout(120)
def test_nothing_hangs_that_has_no_rows_and_how_long_a_commit_takes(
    pg: Database, new_pipeline: New, record_property: Callable[[str, object], None]
) -> None:
    pipeline = new_pipeline(pg, acknowledge="store")
    other = pg.another()
    other.run("CREATE TABLE u (i int)")
    pipeline.start()
    took = []
    with pipeline.session() as conn, other.connect() as elsewhere:
        began = time.monotonic()
        for n in range(10):
            conn.execute(f"CREATE TABLE made_{n} (shop int, id int, PRIMARY KEY (shop, id))".encode())
            conn.execute(f"COMMENT ON TABLE made_{n} IS 'nothing but a comment'".encode())
            elsewhere.execute("INSERT INTO u VALUES (1)")
        assert time.monotonic() - began < 40
        for n in range(20):
            began = time.monotonic()
            conn.execute("INSERT INTO t (id) VALUES (%s)", (n,))
            took.append(1000 * (time.monotonic() - began))
    record_property("commit_ms_median", round(statistics.median(took)))
    print(f"\ncommit with acknowledge = store: {statistics.median(took):.0f} ms (median), {max(took):.0f} ms (worst)")
    pipeline.check(set(range(20)), at_least=20)


def test_with_off_production_never_waits(pg: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg, acknowledge="off")
    pipeline.start(armed=False)
    pipeline.until(lambda: pipeline.health.state == "recording", "the recorder")
    with standing_still(pipeline), pipeline.session() as conn:
        assert conn.execute("SHOW synchronous_standby_names").fetchone() == ("",)
        began = time.monotonic()
        for n in range(100):
            conn.execute("INSERT INTO t (id) VALUES (%s)", (n,))
        assert time.monotonic() - began < 5
    pipeline.until(lambda: pipeline.health.lag_bytes == 0, "it to catch up")
    assert "the newest commits can be lost" in status(pipeline.config).verdict.headline
    pipeline.kill()
    with pipeline.session() as conn:
        conn.execute("INSERT INTO t (id) VALUES (100)")
    pipeline.start(armed=False)
    pipeline.until(lambda: pipeline.health.state == "recording", "the recorder")
    pipeline.check(set(range(101)))


@pytest.mark.timeout(120)
@pytest.mark.parametrize("loss", ["killed", "hangs", "stopped"])
def test_production_goes_on_after_the_time_its_owner_named(pg: Database, new_pipeline: New, loss: str) -> None:
    pipeline = new_pipeline(pg, on_recorder_loss="continue after 2s")
    pipeline.start()
    clients = pipeline.clients(2)
    time.sleep(0.5)
    if loss == "hangs":
        with standing_still(pipeline):
            goes_on_without(pipeline, clients.acknowledged, at_least_s=1.5, at_most_s=15)
    else:
        if loss == "killed":
            pipeline.kill()
        else:
            pipeline.stop()  # it lets production go by itself
        goes_on_without(pipeline, clients.acknowledged, at_least_s=1.5 if loss == "killed" else 0, at_most_s=15)
        assert status(pipeline.config).verdict.headline.startswith("NOT PROTECTED")
        pipeline.start()
    pipeline.until(lambda: pipeline.health.armed and status(pipeline.config).protected, "production to wait again")
    pipeline.check(clients.stop())  # what was committed meanwhile came in afterwards
    with pipeline.session() as conn:
        assert conn.execute("SHOW synchronous_standby_names").fetchone() == ("ballast",)


def goes_on_without(pipeline: Pipeline, acknowledged: set[int], *, at_least_s: float, at_most_s: float) -> None:
    """Commits hang for about so long, then go on although nobody records."""
    time.sleep(0.3)  # answers that are under way
    began, stands = time.monotonic(), len(acknowledged)
    while len(acknowledged) < stands + 20:
        assert time.monotonic() - began < at_most_s, f"commits still hang\n{pipeline.tail()}"
        time.sleep(0.01)
    assert time.monotonic() - began >= at_least_s - 0.3, "they never waited"


@contextmanager
def standing_still(pipeline: Pipeline) -> Iterator[None]:
    """The recorder is there and does nothing, as on a machine that swaps."""
    assert pipeline.process is not None
    os.kill(pipeline.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pipeline.process.pid, signal.SIGCONT)
