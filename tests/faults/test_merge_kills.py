"""The merging process killed at every step, and anywhere: started again it goes on, and nothing is lost or doubled."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from ballast.vault.batch import intended
from ballast.vault.config import Config, write
from ballast.vault.merge_rules import waiting
from ballast.vault.records import Cut, Merge
from ballast.vault.verify import verify
from tests.unit.test_fold import check_buckets
from tests.unit.world import World

_EAGER = """
import sys
from ballast.vault import merge, merge_rules
merge_rules.SEGMENTS_TOGETHER, merge_rules.MERGES_TOGETHER, merge_rules.FEW_ROWS = 4, 2, 12
sys.exit(merge.main())
"""
"""The process as it is, but for what is due: a small vault is merged as a large one would be."""

KILLED = -9


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path, Random(11))
    live(world, 24)
    write(Config("dbname=none", str(tmp_path / "vault"), world.state_dir), tmp_path / "ballast.toml")
    return world


def live(world: World, segments: int) -> None:
    for _ in range(segments):
        for _ in range(world.dice.randrange(1, 4)):
            world.transaction()
        world.seal()


def begin(world: World, fail: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _EAGER, "--config", str(world.folder / "ballast.toml")]
    environment = {**os.environ, "BALLAST_FAIL": fail}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def end(process: subprocess.Popen[str]) -> int:
    _, said = process.communicate(timeout=120)
    assert process.returncode in (0, KILLED), said
    return process.returncode


def check(world: World) -> None:
    """The promises: every row at every cut, every stretch merged once, nothing that the ledger does not account for."""
    world.vault.refresh()
    merges = [(m.kind, m.buckets, m.first_lsn, m.last_lsn) for m in world.vault.index.merges]
    assert len(merges) == len(set(merges))
    cuts = world.cuts()
    for cut in [*world.dice.sample(cuts, 4), Cut(1, world.sealed)]:
        check_buckets(world, cut)
    report = verify(world.vault.store, state_dir=world.state_dir)
    assert report.sound, report.faults


PLACES = [f"merge.{where}:{nth}" for where in ("read", "put", "ledger") for nth in (1, 2, 5)]


@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_step_it_goes_on_there(world: World, place: str) -> None:
    assert end(begin(world, place)) == KILLED
    check(world)  # before anybody has recovered anything
    assert end(begin(world)) == 0
    check(world)
    assert intended(world.state_dir) == set()
    assert waiting(world.vault.index, 1) < 4
    assert {m.kind for m in world.vault.index.merges} == {"changes", "image"}
    assert not (world.state_dir / "merge").exists()
    number = world.vault.index.head
    assert end(begin(world)) == 0
    world.vault.refresh()
    assert world.vault.index.head == number


def test_killed_at_every_merge_it_still_comes_to_the_end(world: World) -> None:
    rounds = 0
    while end(begin(world, "merge.ledger")) == KILLED:
        rounds += 1
    assert rounds == len([e for e in world.vault.ledger.read() if isinstance(e.body, Merge)]) > 5
    check(world)


def test_killed_anywhere_while_segments_come_in(world: World) -> None:
    dice = random.Random(5)
    for _ in range(int(os.environ.get("BALLAST_KILLS", "10"))):
        process = begin(world)
        time.sleep(0.3)
        deadline = time.monotonic() + dice.uniform(0.0, 1.2)
        while time.monotonic() < deadline and process.poll() is None:
            live(world, 1)
        process.kill()
        end(process)
        world.vault.refresh()
    assert end(begin(world)) == 0
    check(world)
    assert waiting(world.vault.index, 1) < 4
    assert intended(world.state_dir) == set()


def test_a_stop_is_kept_to_and_leaves_nothing_half_done(world: World) -> None:
    process = begin(world)
    assert process.stderr is not None
    assert '"event":"merged"' in process.stderr.readline()
    process.terminate()
    assert end(process) == 0
    assert intended(world.state_dir) == set()
    check(world)
