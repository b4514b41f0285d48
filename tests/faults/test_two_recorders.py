"""Two recorders of one database: only one writes the vault, and the other ends and says why."""

import shutil
import time
from collections.abc import Callable

import msgspec
import pytest

from ballast.vault import config, health, wish
from ballast.vault.health import SealerHealth
from ballast.vault.status import status
from tests.fix_pipeline import Pipeline, wait_until
from tests.fix_postgres import Database

pytestmark = pytest.mark.any_version

New = Callable[..., Pipeline]


def copy_of(pipeline: Pipeline) -> Pipeline:
    """The same recorder on a second machine: with a copy of its state folder, the same slot, the same vault."""
    (pipeline.folder / "second").mkdir()
    other = Pipeline(pipeline.db, pipeline.folder / "second", pipeline.config.tenants, vault=pipeline.config.vault)
    shutil.copytree(pipeline.config.state_dir, other.config.state_dir)
    return other


def test_a_second_one_on_the_same_state_folder_is_refused(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18)
    pipeline.start()
    first = pipeline.process
    (pipeline.folder / "second").mkdir()
    second = Pipeline(pg18, pipeline.folder / "second", pipeline.config.tenants, vault=pipeline.config.vault)
    second.config = msgspec.structs.replace(second.config, state_dir=pipeline.config.state_dir)
    config.write(second.config, second.config_path)
    second.start(armed=False)
    assert second.process is not None
    assert second.process.wait(30) == 1
    assert first is not None
    assert f"Another recorder (process {first.pid}) works with the state folder" in second.tail()
    assert pipeline.health.state == "recording"


def test_a_second_one_with_a_copy_of_the_state_folder_is_fenced(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18)
    pipeline.start()
    clients = pipeline.clients(3)
    pipeline.until(lambda: len(clients.acknowledged) > 50, "commits")
    pipeline.stop()
    stale = copy_of(pipeline)
    try:
        pipeline.start()
        stale.start(armed=False)
        stale.until(lambda: stale.health.state == "connecting", "it to want the slot")
        assert "active" in stale.health.reason
        stale.until(lambda: sealer_of(stale) == "waiting", "its sealer to know the vault")
        before = len(clients.acknowledged)
        pipeline.until(lambda: len(clients.acknowledged) > before + 50, "commits with the first")
        pipeline.sealed(pipeline.look().cut)
        # Whatever it wants to add now, the number is taken.
        wish.leave(stale.config.state_dir, "image", stale.timeline, "of the second", from_lsn=1)
        assert stale.process is not None
        wait_until(lambda: stale.process is not None and stale.process.poll() is not None, "it to end", 60)
        assert stale.process.returncode == 1
        assert sealer_of(stale) == "fenced"
        assert stale.lines(event="fenced", level="alarm")
        assert "has added entry" in stale.tail()
        assert "Only one recorder may write a vault" in stale.tail()
        assert not status(stale.config).protected
        assert status(pipeline.config).protected
    finally:
        stale.end()
    pipeline.check(clients.stop())


def sealer_of(pipeline: Pipeline) -> str:
    found = health.read_state(pipeline.config.state_dir, health.SEALER_FILE, SealerHealth)
    return found.state if found is not None else ""


@pytest.mark.timeout(180)
def test_of_two_with_a_slot_and_a_vault_each_either_may_fail(pg: Database, new_pipeline: New) -> None:
    first = new_pipeline(pg)
    (first.folder / "second").mkdir()
    second = Pipeline(pg, first.folder / "second", first.config.tenants)
    second.config = msgspec.structs.replace(second.config, slot="ballast_b")
    config.write(second.config, second.config_path)
    second.protect()
    try:
        first.start()
        second.start()
        assert pg.query("SHOW synchronous_standby_names") == [("ANY 1 (ballast, ballast_b)",)]
        clients = first.clients(3)
        for one in (first, second):
            one.kill()
            stands = len(clients.acknowledged)
            one.until(lambda s=stands: len(clients.acknowledged) > s + 50, "commits to go on with the other")  # type: ignore[misc]
            one.start()
        time.sleep(3.0)  # canaries of both pass meanwhile
        acknowledged = clients.stop()
        first.check(acknowledged)
        second.check(acknowledged)
        assert not first.lines(event="blind") + second.lines(event="blind")
        assert status(first.config).protected
        assert status(second.config).protected
    finally:
        second.end()
