"""A fold gives at every cut exactly what a dictionary, changed op by op, holds there."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ballast.vault import read
from ballast.vault.buckets import bucket_of
from ballast.vault.records import Cut
from tests.unit.world import BUCKETS, TENANTS, World


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def lines_of(chunks: list[read.RowChunk]) -> dict[int, Counter[bytes]]:
    found: dict[int, Counter[bytes]] = {}
    for chunk in chunks:
        lines = chunk.lines.to_pylist()
        assert bytes(chunk.buffer) == b"".join(lines)
        assert chunk.rows == len(lines)
        assert chunk.checksum == sum(map(xxhash.xxh64_intdigest, lines)) % (1 << 64)
        found.setdefault(chunk.relation.number, Counter()).update(lines)
    return found


def check_tenant(world: World, cut: Cut, tenant: str | None) -> None:
    chunks = list(read.rows(world.vault, cut, tenant=tenant))
    numbers = [chunk.relation.number for chunk in chunks]
    assert numbers == sorted(numbers)
    wanted = {}
    for number, (form, lines) in world.states[cut].items():
        mine = Counter({line: count for (owner, line), count in lines.items() if owner == tenant})
        if mine:
            wanted[number] = mine
        assert all(c.relation == form for c in chunks if c.relation.number == number)
    assert lines_of(chunks) == wanted


def check_buckets(world: World, cut: Cut) -> None:
    for bucket in range(-1, BUCKETS):
        wanted: dict[int, Counter[bytes]] = {}
        for number, (_, lines) in world.states[cut].items():
            for (owner, line), count in lines.items():
                if bucket_of(owner, BUCKETS) == bucket:
                    wanted.setdefault(number, Counter())[line] += count
        assert lines_of(list(read.rows(world.vault, cut, bucket=bucket))) == wanted


def live(world: World, steps: int) -> None:
    """A random life of the database and its recorder."""
    for _ in range(steps):
        chance = world.dice.random()
        if chance < 0.6:
            world.transaction()
        elif chance < 0.85:
            world.seal()
        elif chance < 0.9:
            world.image(None)
        elif chance < 0.95:
            world.image(tuple(n for n in world.relations if world.dice.random() < 0.5) or (1,))
        elif chance < 0.97:
            world.fork()
        elif chance < 0.985:
            world.lose()
    world.seal()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(dice=st.randoms(use_true_random=False), steps=st.integers(2, 25))
def test_fold_equals_the_model_at_every_cut(tmp_path_factory: pytest.TempPathFactory, dice: Random, steps: int) -> None:
    world = World(tmp_path_factory.mktemp("world"), dice)
    live(world, steps)
    cuts = world.cuts()
    for cut in cuts if len(cuts) < 6 else dice.sample(cuts, 6):
        for tenant in dice.sample((*TENANTS, None), 3):
            check_tenant(world, cut, tenant)
        check_buckets(world, cut)


@pytest.mark.parametrize("seed", range(int(os.environ.get("BALLAST_WORLDS", "25"))))
def test_long_lives(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, Random(seed))
    live(world, 60)
    cuts = world.cuts()
    for cut in world.dice.sample(cuts, min(8, len(cuts))):
        for tenant in (*TENANTS, None, "nobody"):
            check_tenant(world, cut, tenant)
        check_buckets(world, cut)
