"""Recorder, sealer, imager and merge are killed, at named instants and at any, under load: nothing is lost or doubled.

The oracle stands outside: each client writes down an id when its commit was acknowledged, production says how all rows
stand in the end, and `verify` walks the vault. `BALLAST_KILLS=1000` asks for more random kills than the 14 of a usual run.
"""

import os
import random
import time
from collections.abc import Callable, Sequence

import pytest

from ballast.vault import wish
from ballast.vault.config import Config
from tests.fix_pipeline import Pipeline
from tests.fix_postgres import Database

New = Callable[..., Pipeline]

SEALER = ["sealer.decoded", "sealer.run_put", "sealer.ledger", "sealer.spool_dropped"]
RECEIVER = ["receiver.received", "receiver.written", "receiver.synced", "receiver.acknowledged"]
IMAGER = ["imager.taken", "imager.ledger"]
MERGE = ["merge.read", "merge.put", "merge.ledger"]
KILLS = int(os.environ.get("BALLAST_KILLS", "14"))
"""In all rounds together."""
ROUNDS = min(4, max(1, KILLS // 14))


def ask_for_image(config: Config, timeline: int) -> None:
    """So that the imager has something to do."""
    wish.leave(config.state_dir, "image", timeline, "a test wishes for one")


def in_the_end(pipeline: Pipeline, acknowledged: set[int]) -> None:
    """All promises, with the recorder running and after its orderly end."""
    pipeline.check(acknowledged)
    pipeline.wishes_granted()
    pipeline.stop()
    pipeline.check_nothing_is_left()
    pipeline.verified()


def killed_sealing(pg: Database, new_pipeline: New, instants: Sequence[str]) -> None:
    pipeline = new_pipeline(pg)
    clients, deaths = None, 0
    for instant in instants:
        for nth, more in ((1, 2), (3, 1)):
            pipeline.start(fail=f"{instant}:{nth}", armed=not deaths)
            clients = clients or pipeline.clients()
            deaths += more
            pipeline.until(lambda n=deaths: pipeline.deaths("sealer") == n, f"the sealer to die at {instant}")  # type: ignore[misc]
            pipeline.kill()
    pipeline.start()
    assert clients is not None
    in_the_end(pipeline, clients.stop())


@pytest.mark.timeout(300)
def test_the_sealer_is_killed_at_each_named_instant(pg18: Database, new_pipeline: New) -> None:
    killed_sealing(pg18, new_pipeline, SEALER)


@pytest.mark.timeout(180)
def test_the_sealer_is_killed_on_16(pg16: Database, new_pipeline: New) -> None:
    killed_sealing(pg16, new_pipeline, ["sealer.run_put"])


@pytest.mark.timeout(180)
def test_the_sealer_is_killed_between_a_new_structure_and_its_rows(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18)
    pipeline.start(fail="sealer.run_put:1")
    clients = pipeline.clients()
    with pipeline.session() as conn:
        for n in range(3):
            conn.execute(f"ALTER TABLE item ADD COLUMN extra_{n} int DEFAULT {n}".encode())
            conn.execute(f"CREATE TABLE made_{n} (shop int, id int, PRIMARY KEY (shop, id))".encode())
            conn.execute(f"INSERT INTO made_{n} SELECT g % 3, g FROM generate_series(1, 20) g".encode())
            pipeline.until(lambda n=n: pipeline.deaths("sealer") > n, "the sealer to die")  # type: ignore[misc]
    pipeline.kill()
    pipeline.start(fail="sealer.ledger:1", armed=False)
    pipeline.until(lambda: pipeline.deaths("sealer") == 4, "the sealer to die again")
    pipeline.kill()
    pipeline.start()
    in_the_end(pipeline, clients.stop())


@pytest.mark.timeout(300)
def test_the_recorder_is_killed_at_each_named_instant_while_it_seals(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18, seal_after_s=0.1)
    pipeline.start()
    clients = pipeline.clients()
    pipeline.kill()
    for instant in RECEIVER:
        for nth in (1, 20, 100):
            pipeline.start(fail=f"{instant}:{nth}", armed=False)
            assert pipeline.process is not None
            assert pipeline.process.wait(60) == -9
    pipeline.start()
    time.sleep(0.3)
    in_the_end(pipeline, clients.stop())


@pytest.mark.timeout(300)
def test_imager_and_merge_are_killed_at_each_named_instant(pg18: Database, new_pipeline: New) -> None:
    pipeline = new_pipeline(pg18, seal_after_s=0.1, merge_every_s=1.0)
    clients = None
    for nth, instant in enumerate(IMAGER, 1):
        pipeline.start(fail=f"{instant}:1", armed=nth == 1)
        clients = clients or pipeline.clients()
        ask_for_image(pipeline.config, pipeline.timeline)
        pipeline.until(lambda n=nth: pipeline.deaths("imager") == n, f"the imager to die at {instant}", 90)  # type: ignore[misc]
        pipeline.kill()
        pipeline.start(armed=False)
        pipeline.wishes_granted()
        assert len(pipeline.vault().index.images) > nth
        pipeline.kill()
    for nth, instant in enumerate(MERGE, 1):
        pipeline.start(fail=f"{instant}:1", armed=False)
        pipeline.until(lambda n=nth: pipeline.deaths("merge") == 2 * n, f"the merge to die twice at {instant}", 90)  # type: ignore[misc]
        pipeline.kill()
    merges = len(pipeline.lines(event="merged"))
    pipeline.start()
    pipeline.until(lambda: len(pipeline.lines(event="merged")) > merges, "a merge", 60)
    assert clients is not None
    in_the_end(pipeline, clients.stop())


@pytest.mark.timeout(120 + KILLS)
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_anything_is_killed_at_any_moment(pg18: Database, new_pipeline: New, seed: int) -> None:
    dice = random.Random(seed)
    # Small files: many segments, and so many instants between what is put and what is told.
    pipeline = new_pipeline(pg18, seal_after_s=0.1, seal_bytes=128 << 10, merge_every_s=1.0, check_every_s=0.5)
    timeline = pipeline.timeline
    pipeline.start()
    clients = pipeline.clients(2)
    kills = 0
    while kills < KILLS / ROUNDS:
        # A while in which only children die; then the recorder does, and with it those that live.
        until = time.monotonic() + dice.uniform(0.2, 9.0)
        while (left := until - time.monotonic()) > 0:
            if dice.random() < 0.3:
                ask_for_image(pipeline.config, timeline)
            victim = dice.choice(["sealer", "sealer", "merge", "imager"])
            if dice.random() < 0.7:
                pipeline.at_work(victim, min(left, 3.0))
                time.sleep(dice.uniform(0.0, 0.1))
            else:
                time.sleep(min(left, dice.uniform(0.05, 1.5)))
            kills += pipeline.kill_child(victim)
        pipeline.kill()
        kills += 1
        pipeline.start(armed=False)
    pipeline.until(lambda: pipeline.health.state == "recording" and pipeline.health.armed, "the recorder to be back")
    time.sleep(0.5)
    in_the_end(pipeline, clients.stop())
