"""The recorder's disk is full: acknowledging stops, it is said, and it goes on by itself when there is room again.

The disks are real ones of a few MB, which only root may mount; without that these tests are skipped and say so.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.vault.status import status
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import Database
from tests.fix_recorder import Clients
from tests.small_disk import Hog, small_disk

New = Callable[..., Pipeline]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


def is_full(pipeline: Pipeline, clients: Clients) -> int:
    """It is noticed and said, and commits hang; how many were acknowledged by then."""
    pipeline.until(lambda: pipeline.health.state == "spool_full", "it to be noticed", 60)
    time.sleep(0.3)
    stands = len(clients.acknowledged)
    said = status(pipeline.config)
    assert not said.protected
    assert said.verdict.headline.startswith("NOT PROTECTED: the spool is full"), said.verdict.headline
    assert pipeline.lines(event="state", state="spool_full", level="alarm")
    time.sleep(3.0)
    assert pipeline.health.state == "spool_full"
    assert status(pipeline.config).verdict.headline.startswith("NOT PROTECTED: the spool is full")
    assert len(clients.acknowledged) == stands, "acknowledged, and not recorded"
    return stands


def goes_on(pipeline: Pipeline, clients: Clients, stands: int) -> None:
    """By itself, and nothing is lost."""
    pipeline.until(lambda: len(clients.acknowledged) > stands + 50, "commits to go on", 60)
    pipeline.check(clients.stop())
    pipeline.until(lambda: status(pipeline.config).protected, "it to be protected")
    pipeline.stop()
    pipeline.check_nothing_is_left()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("what", ["spool", "state"])
def test_somebody_fills_the_disk(pg18: Database, new_pipeline: New, what: str) -> None:
    somebody_fills_the_disk(pg18, new_pipeline, what)


@pytest.mark.timeout(180)
@pytest.mark.deep
def test_somebody_fills_the_disk_on_16(pg16: Database, new_pipeline: New) -> None:
    somebody_fills_the_disk(pg16, new_pipeline, "state")


def somebody_fills_the_disk(pg: Database, new_pipeline: New, what: str) -> None:
    pipeline = new_pipeline(pg)
    disk = pipeline.config.spool_dir if what == "spool" else pipeline.config.state_dir
    with small_disk(disk, 32):
        pipeline.start()
        clients = pipeline.clients(3)
        time.sleep(1.0)
        hog = Hog(disk)
        stands = is_full(pipeline, clients)
        hog.unlink()
        goes_on(pipeline, clients, stands)


@pytest.mark.timeout(180)
def test_the_spool_fills_the_disk_itself_and_the_sealer_still_has_room(pg18: Database, new_pipeline: New) -> None:
    """The store is away, and the limit beyond what the disk holds: the last of the disk is left to whoever drains it."""
    pipeline = new_pipeline(pg18, seal_bytes=512 << 10)
    vault = Path(pipeline.config.vault)
    with small_disk(pipeline.config.state_dir, 24):
        pipeline.start()
        clients = pipeline.clients(4, body_bytes=60_000)
        vault.rename(vault.with_name("away"))
        stands = is_full(pipeline, clients)
        vault.with_name("away").rename(vault)
        goes_on(pipeline, clients, stands)


@pytest.mark.timeout(180)
def test_a_recorder_killed_on_a_full_disk_starts_there(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18)
    with small_disk(pipeline.config.state_dir, 32):
        pipeline.start()
        clients = pipeline.clients(3)
        time.sleep(1.0)
        hog = Hog(pipeline.config.state_dir)
        is_full(pipeline, clients)
        for _ in range(2):
            pipeline.kill()
            pipeline.start(armed=False)
            time.sleep(1.0)
        stands = is_full(pipeline, clients)
        hog.unlink()
        goes_on(pipeline, clients, stands)


@pytest.mark.timeout(180)
def test_a_transaction_that_the_disk_does_not_hold_waits_for_room(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18)
    with small_disk(pipeline.config.state_dir, 24):
        pipeline.start()
        hog = pipeline.config.state_dir / "hog"
        hog.write_bytes(bytes(12 << 20))
        with pipeline.session() as conn:
            conn.execute("ALTER TABLE t DISABLE TRIGGER busy")
            conn.execute("SET synchronous_commit = local")
            conn.execute("INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(1, 40000) g")
            conn.execute("ALTER TABLE t ENABLE TRIGGER busy")
        clients = pipeline.clients(2)
        pipeline.until(lambda: pipeline.health.state == "spool_full", "it to be noticed")
        assert not status(pipeline.config).protected
        hog.unlink()
        goes_on(pipeline, clients, 0)
