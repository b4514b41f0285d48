"""The vault's store is unreachable for a while: commits go on, the spool grows to its limit, and all ends well by itself."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ballast.vault import health
from ballast.vault.config import Config
from ballast.vault.health import SealerHealth
from ballast.vault.status import status
from tests.deep import mostly_deep
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import Database
from tests.fix_vault import Line, bucket_url, s3_environment

New = Callable[..., Pipeline]

LIMIT = {"seal_bytes": 256 << 10, "spool_limit_bytes": 3 << 20}


class FolderAway:
    """A vault in a folder that can be unmounted."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._here = Path(pipeline.config.vault)
        self._there = self._here.with_name("unmounted")

    def away(self) -> None:
        self._here.rename(self._there)

    def back(self) -> None:
        assert not self._here.exists(), "made anew where its disk was unmounted"
        self._there.rename(self._here)


class EmptyAway(FolderAway):
    """The same, but the mount point can be seen: an empty folder."""

    def away(self) -> None:
        super().away()
        self._here.mkdir()

    def back(self) -> None:
        self._here.rmdir()  # fails if anything was written to it
        super().back()


class BucketAway:
    """A vault in a bucket, over a line that can be cut."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def away(self) -> None:
        self._line.cut()

    def back(self) -> None:
        self._line.mend()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Root writes wherever it wants, but not where nothing may be written at all."""
    for options in ("bind", "remount,ro,bind"):
        done = subprocess.run(["mount", "-o", options, str(folder), str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def sealer_says(config: Config) -> str:
    found = health.read_state(config.state_dir, health.SEALER_FILE, SealerHealth)
    return found.state if found is not None else ""


def store_goes_and_comes(pipeline: Pipeline, store: FolderAway | BucketAway) -> None:
    pipeline.start()
    clients = pipeline.clients(3, body_bytes=5_000)
    time.sleep(1.0)
    store.away()
    went_on = len(clients.acknowledged)
    pipeline.until(lambda: sealer_says(pipeline.config) == "store_away", "the sealer to notice", 90)
    said = status(pipeline.config)
    pipeline.until(lambda: pipeline.health.state == "spool_full", "the limit", 120)
    if isinstance(store, EmptyAway):  # nobody can tell it from a vault that somebody has removed
        assert "holds nothing" in said.verdict.headline
    else:
        assert said.verdict.protected or "spool is full" in said.verdict.headline
        assert any("store does not answer" in remark.what for remark in said.verdict.remarks)
    assert len(clients.acknowledged) > went_on, "commits wait for the store"
    # At the limit nothing is acknowledged any more, and everybody is told.
    time.sleep(0.5)
    stands = len(clients.acknowledged)
    assert pipeline.health.spool_bytes <= pipeline.config.record.spool_limit_bytes + (1 << 20)
    said = status(pipeline.config)
    assert said.verdict.headline.startswith("NOT PROTECTED: the spool is full"), said.verdict.headline
    assert pipeline.lines(event="state", state="spool_full", level="alarm")
    assert pipeline.lines(event="store_away")
    time.sleep(2.0)
    assert len(clients.acknowledged) == stands, "acknowledged, and not recorded"
    store.back()
    pipeline.until(lambda: len(clients.acknowledged) > stands + 50, "commits to go on", 120)
    pipeline.check(clients.stop())
    assert pipeline.lines(event="goes_on")
    assert status(pipeline.config).protected
    pipeline.stop()
    pipeline.check_nothing_is_left()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", mostly_deep([FolderAway, EmptyAway], FolderAway))
def test_a_folder_is_unmounted_for_a_while(pg18: Database, new_pipeline: New, kind: type[FolderAway]) -> None:
    pipeline = new_pipeline(pg18, **LIMIT)
    store_goes_and_comes(pipeline, kind(pipeline))


@pytest.mark.timeout(300)
def test_a_bucket_is_out_of_reach_for_a_while(
    pg18: Database, new_pipeline: New, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(line.endpoint).items():
        monkeypatch.setenv(name, value)
    store_goes_and_comes(new_pipeline(pg18, vault=bucket_url(), **LIMIT), BucketAway(line))


@pytest.mark.timeout(180)
@pytest.mark.skipif(os.geteuid() != 0, reason="makes the store read-only by mounting it so, which only root may")
def test_a_folder_that_may_not_be_written_for_a_while(pg16: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg16)
    pipeline.start()
    clients = pipeline.clients(2)
    time.sleep(0.5)
    with read_only(Path(pipeline.config.vault)):
        pipeline.until(lambda: sealer_says(pipeline.config) == "store_away", "the sealer to notice", 60)
        stands = len(clients.acknowledged)
        pipeline.until(lambda: len(clients.acknowledged) > stands + 20, "commits to go on")
    pipeline.check(clients.stop())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", mostly_deep([FolderAway, EmptyAway], EmptyAway))
def test_a_recorder_starts_while_the_store_is_away(pg18: Database, new_pipeline: New, kind: type[FolderAway]) -> None:
    pipeline = new_pipeline(pg18)
    store = kind(pipeline)
    pipeline.start()
    clients = pipeline.clients(2)
    time.sleep(0.5)
    store.away()
    pipeline.kill()
    pipeline.start()  # what the spool says is enough to go on
    stands = len(clients.acknowledged)
    pipeline.until(lambda: len(clients.acknowledged) > stands + 20, "commits to go on")
    pipeline.until(lambda: sealer_says(pipeline.config) == "store_away", "the sealer to notice", 60)
    pipeline.stop()  # keeps what it cannot seal
    assert list(pipeline.config.spool_dir.glob("*.spool"))
    pipeline.start()
    store.back()
    pipeline.check(clients.stop())
    pipeline.stop()
    pipeline.check_nothing_is_left()
