"""Merging changes nothing that can be read: every tenant at every cut is what it was, and verify finds no fault."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import msgspec
import psutil
import pyarrow as pa
import pytest

from ballast.vault import merge, merge_rules, rearrange, signing
from ballast.vault.batch import Batch
from ballast.vault.config import Config, write
from ballast.vault.health import now_iso, read_state
from ballast.vault.logbook import Logbook
from ballast.vault.merge import STATE_FILE, MergeState, merge_round
from ballast.vault.merge_rules import waiting
from ballast.vault.rearrange import Workshop, merge_image
from ballast.vault.records import Cut, Gap, Genesis, Image, Merge, SchemaVersion, Segment, Timeline
from ballast.vault.run import RUN_SCHEMA, open_run, sort_rows, write_run
from ballast.vault.vault import Vault
from ballast.vault.verify import verify
from tests.unit.test_fold import check_buckets, check_tenant
from tests.unit.world import BUCKETS, TENANTS, World, relation

EVERY_BUCKET = tuple(range(-1, BUCKETS))


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small vault is merged as a large one would be: several levels, and images, within a few segments."""
    monkeypatch.setattr(merge_rules, "SEGMENTS_TOGETHER", 2)
    monkeypatch.setattr(merge_rules, "MERGES_TOGETHER", 2)
    monkeypatch.setattr(merge_rules, "FEW_ROWS", 12)


def merged(world: World) -> MergeState:
    """A round of merging by a process of its own (a vault opened for itself)."""
    vault = Vault.open(world.folder / "vault", state_dir=world.state_dir)
    state = merge_round(vault, world.state_dir, Logbook("merge", io.StringIO()))
    world.vault.refresh()
    assert state.failed == ()
    return state


class Doubt:
    """A stretch whose changes the recorder has lost, and the gap that says so."""

    def __init__(self, world: World) -> None:
        self.world, self.gap = world, Gap("", 1, 0, None, None, "lost", now_iso())

    @property
    def open(self) -> bool:
        return bool(self.gap.gap_id) and self.gap.to_lsn is None

    def begin(self) -> None:
        world = self.world
        world.seal()
        self.gap = Gap(f"gap-{world.lsn}", world.timeline, world.lsn, None, None, "lost", now_iso())
        world.transaction()
        world.pending, world.truncations = [], []
        world.vault.append(self.gap)

    def end(self) -> None:
        world = self.world
        world.image(None)
        self.gap = msgspec.structs.replace(self.gap, to_lsn=world.lsn)
        world.vault.append(self.gap)


def live_merged(world: World, steps: int) -> Doubt:
    """As `test_fold.live`, with merging now and then, and now and then a gap."""
    doubt = Doubt(world)
    for _ in range(steps):
        chance = world.dice.random()
        if chance < 0.5:
            world.transaction()
        elif chance < 0.72:
            world.seal()
        elif chance < 0.86:
            merged(world)
        elif chance < 0.88 and not doubt.open:
            world.image(None)
        elif chance < 0.92 and not doubt.open:
            world.image(tuple(n for n in world.relations if world.dice.random() < 0.5) or (1,))
        elif chance < 0.94 and not doubt.open:
            world.fork()
        elif chance < 0.95 and not doubt.open:
            world.lose()
        elif chance < 0.97:
            (doubt.end if doubt.open else doubt.begin)()
    if doubt.open:
        doubt.end()
    world.seal()
    merged(world)
    return doubt


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("seed", range(int(os.environ.get("BALLAST_WORLDS", "20"))))
def test_every_tenant_at_every_cut_is_as_it_was(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, Random(seed))
    live_merged(world, 70)
    index = world.vault.index
    cuts = [cut for cut in world.cuts() if not index.gap_at(cut)]
    for cut in world.dice.sample(cuts, min(8, len(cuts))):
        for tenant in (*TENANTS, None, "nobody"):
            check_tenant(world, cut, tenant)
        check_buckets(world, cut)
    report = verify(world.vault.store, state_dir=world.state_dir)
    assert report.sound, report.faults


@pytest.mark.usefixtures("eager")
def test_the_lives_above_are_merged_in_every_way(tmp_path: Path) -> None:
    kinds: set[tuple[str, int]] = set()
    for seed in range(8):
        world = World(tmp_path / str(seed), Random(seed))
        live_merged(world, 70)
        kinds |= {(m.kind, m.level) for m in world.vault.index.merges}
    assert kinds >= {("changes", 1), ("changes", 2), ("image", 1)}


def busy(folder: Path, segments: int, seed: int = 1) -> World:
    """A vault of many small segments."""
    world = World(folder, Random(seed))
    for _ in range(segments):
        world.transaction()
        world.seal()
    return world


def most_runs(world: World) -> int:
    at = world.sealed
    plans = [world.vault.plan(Cut(1, at), bucket) for bucket in EVERY_BUCKET]
    return max(len(plan.changes) for plan in plans)


def test_after_300_small_segments_few_runs_are_read(tmp_path: Path) -> None:
    world = busy(tmp_path, 300)
    before = most_runs(world)
    state = merged(world)
    assert before > 150
    assert most_runs(world) <= 20
    assert state.lag.segments < 8
    assert state.lag.runs <= 20
    cuts = world.cuts()
    for cut in world.dice.sample(cuts, 10):
        check_buckets(world, cut)
        assert all(len(world.vault.plan(cut, bucket).changes) <= 20 for bucket in EVERY_BUCKET)
    assert merged(world).changes_merged == 0


def test_merged_images_alone_give_the_rows(tmp_path: Path) -> None:
    world = busy(tmp_path, 25, seed=3)
    cut = Cut(1, world.sealed)
    shop = Workshop(world.vault, world.state_dir, tmp_path)
    done = merge_image(shop, cut, EVERY_BUCKET)
    assert done.buckets == EVERY_BUCKET
    assert done.entry is not None
    assert isinstance(done.entry.body, Merge)
    (run,) = done.entry.body.runs  # small buckets share one
    assert run.bucket is None
    for bucket in EVERY_BUCKET:
        assert world.vault.plan(cut, bucket).changes == ()
    check_buckets(world, cut)
    # Keys are those of the structure at the cut, whatever it was when the rows were written.
    forms = world.vault.relations_at(cut)
    for rows in open_run(world.vault.store, run).slices():
        for row in rows.to_pylist():
            form, fields = forms[row["relation"]], row["row"][:-1].split(b"\t")
            key = b"\t".join(fields[form.row_columns.index(a)] for a in form.key) if form.key else row["row"][:-1]
            assert (row["key"], row["op"], row["lsn"], row["seq"]) == (key, "I", cut.lsn, 0)


def test_large_buckets_have_runs_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rearrange, "_SMALL_BYTES", 0)
    world = busy(tmp_path, 25, seed=3)
    cut = Cut(1, world.sealed)
    done = merge_image(Workshop(world.vault, world.state_dir, tmp_path), cut, EVERY_BUCKET)
    assert done.entry is not None
    assert isinstance(done.entry.body, Merge)
    buckets = [run.bucket for run in done.entry.body.runs]
    assert buckets == sorted(set(buckets))  # type: ignore[type-var]
    assert None not in buckets
    check_buckets(world, cut)
    assert verify(world.vault).sound


def test_large_merges_are_cut_into_several_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rearrange, "_RUN_BYTES", 50)
    monkeypatch.setattr(rearrange, "_PIECE_BYTES", 1)
    world = busy(tmp_path, 16, seed=4)
    merged(world)
    assert any(len(m.runs) > 1 for m in world.vault.index.merges)
    for cut in world.cuts():
        check_buckets(world, cut)
    assert verify(world.vault).sound


def test_an_image_that_comes_between_voids_the_merged_one(tmp_path: Path) -> None:
    world = busy(tmp_path, 5, seed=5)
    cut = Cut(1, world.sealed)
    shop = Workshop(Vault.open(tmp_path / "vault", state_dir=world.state_dir), world.state_dir, tmp_path)

    def between() -> bool:
        with Batch(world.vault.store, world.state_dir, "image", 1, cut.lsn, cut.lsn) as batch:
            world.vault.append(Image(1, cut.lsn, world.version, (2,), (), (), "came between"))
            batch.done()
        return True

    done = merge_image(shop, cut, EVERY_BUCKET, between)
    assert done.entry is None
    world.vault.refresh()
    assert world.vault.index.merges == []
    assert len(world.vault.index.abandoned) == 1
    assert verify(world.vault, state_dir=world.state_dir).sound
    assert merge_image(shop, cut, EVERY_BUCKET).entry is not None


def test_segments_that_come_between_do_not_matter(tmp_path: Path) -> None:
    world = busy(tmp_path, 5, seed=5)
    cut = Cut(1, world.sealed)
    shop = Workshop(Vault.open(tmp_path / "vault", state_dir=world.state_dir), world.state_dir, tmp_path)

    def between() -> bool:
        world.transaction()
        world.seal()
        return False

    done = merge_image(shop, cut, EVERY_BUCKET, between)
    assert done.entry is not None
    world.vault.refresh()
    check_buckets(world, Cut(1, world.sealed))
    check_buckets(world, cut)
    assert verify(world.vault).sound


@pytest.mark.usefixtures("eager")
def test_while_rows_are_in_doubt_no_image_is_made_of_them(tmp_path: Path) -> None:
    world = busy(tmp_path, 4, seed=6)
    merged(world)
    doubt = Doubt(world)
    doubt.begin()
    for _ in range(6):
        world.transaction()
        world.seal()
    merged(world)
    images = [m.last_lsn for m in world.vault.index.merges if m.kind == "image"]
    assert all(lsn <= doubt.gap.from_lsn for lsn in images)
    doubt.end()
    for _ in range(15):
        world.transaction()
        world.seal()
    merged(world)
    assert any(m.kind == "image" and m.last_lsn > world.lsn - 100 for m in world.vault.index.merges)
    check_buckets(world, Cut(1, world.sealed))
    assert verify(world.vault).sound


def test_a_damaged_segment_stops_only_what_rests_on_it(tmp_path: Path) -> None:
    world = busy(tmp_path, 12, seed=7)
    segment = next(s for s in world.vault.index.segments if s.runs)
    victim = tmp_path / "vault" / segment.runs[0].object.name
    data = bytearray(victim.read_bytes())
    data[len(data) // 2 :] = b"\0" * (len(data) - len(data) // 2)
    victim.write_bytes(data)
    vault = Vault.open(tmp_path / "vault", state_dir=world.state_dir)
    state = merge_round(vault, world.state_dir, Logbook("merge", io.StringIO()))
    assert state.failed
    assert vault.index.merges == []
    faults = verify(vault.store, state_dir=world.state_dir).faults
    assert {fault.what for fault in faults} == {segment.runs[0].object.name}


# The process


def config_of(world: World) -> Path:
    path = world.folder / "ballast.toml"
    write(Config("dbname=none", str(world.folder / "vault"), world.state_dir), path)
    return path


def process(config_path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ballast.vault.merge", "--config", str(config_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_process_does_a_round_and_leaves_word(tmp_path: Path) -> None:
    world = busy(tmp_path, 40)
    path = config_of(world)
    before = waiting(world.vault.index, 1)
    ended = process(path)
    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [e["event"] for e in events][-1] == "ended"
    state = read_state(world.state_dir, STATE_FILE, MergeState)
    assert state is not None
    assert state.ended
    assert state.changes_merged == sum(e["event"] == "merged" for e in events) > 0
    world.vault.refresh()
    assert waiting(world.vault.index, 1) == state.lag.segments < 8 < before
    assert not (world.state_dir / "merge").exists()
    assert process(path).returncode == 0
    assert verify(world.vault, state_dir=world.state_dir).sound


def test_only_one_merges(tmp_path: Path) -> None:
    from ballast.vault.health import only_one

    world = busy(tmp_path, 10)
    with only_one(world.state_dir, merge.LOCK_FILE):
        ended = process(config_of(world))
    assert ended.returncode == 0
    assert "merging_already" in ended.stderr
    assert world.vault.refresh() == 0


def test_a_stop_ends_the_round_between_two_merges(tmp_path: Path) -> None:
    world = busy(tmp_path, 40)
    vault = Vault.open(tmp_path / "vault", state_dir=world.state_dir)
    stopping = threading.Event()

    class Stopping(io.StringIO):
        def write(self, text: str) -> int:
            stopping.set()
            return super().write(text)

    state = merge_round(vault, world.state_dir, Logbook("merge", Stopping()), stopping)
    assert state.changes_merged == 1
    assert verify(vault, state_dir=world.state_dir).sound


def test_a_vault_without_an_image_or_segments_is_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path, Random(1))
    assert merged(world).changes_merged == 0
    world.vault.index.images.clear()
    assert merged(world).buckets_imaged == 0


def test_what_rests_in_memory_stays_small(tmp_path: Path) -> None:
    """Eight segments of 60 MB, rows of all sizes, a row with 160,000 versions: under 300 MB beside the libraries."""
    made = wide_vault(tmp_path, segments=8)
    path = tmp_path / "ballast.toml"
    write(Config("dbname=none", str(tmp_path / "vault"), tmp_path / "state"), path)
    command = [sys.executable, "-m", "ballast.vault.merge", "--config", str(path)]
    process = subprocess.Popen(command)
    most = memory_of(process)
    assert process.wait(10) == 0
    made.refresh()
    assert {m.kind for m in made.index.merges} == {"image", "changes"}
    assert most < 300 << 20, f"{most >> 20} MB"


def memory_of(process: subprocess.Popen[bytes]) -> int:
    """The most memory (bytes) that the process had for itself; libraries and cached files are not counted."""
    most = 0
    seen = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            held = seen.memory_info()
            most = max(most, held.rss - held.shared)
        time.sleep(0.02)
    return most


def wide_vault(folder: Path, segments: int) -> Vault:
    """A vault with a base of nothing and large segments of updates of one table (tenant, id, body)."""
    state = folder / "state"
    key = signing.create_key(state / signing.KEY_FILE)
    vault = Vault.create(folder / "vault", Genesis(1, "v", key.public, 16, "test"), state_dir=state)
    vault.append(Timeline(1, "1", "shop", 180000, "s", "p", 1000))
    with Batch(vault.store, state, "schema", 1, 1000, 1000) as batch:
        ref = batch.put("relations", "json", msgspec.json.encode((relation(1, (1, 2)),)))
        vault.append(SchemaVersion(1, 1, 1000, 0, ref, "test"))
        batch.done()
    vault.append(Image(1, 1000, 1, None, (), (), "test"))
    for number in range(segments):
        first = 1000 + number * 1_000_000
        with Batch(vault.store, state, "segment", 1, first, first + 1_000_000) as batch:
            facts = write_run(folder / "new.parquet", wide_rows(number, first))
            run = facts.ref(batch.put("run", "parquet", folder / "new.parquet"), None)
            vault.append(Segment(1, first, first + 1_000_000, None, None, (run,), None, (), (), facts.rows))
            batch.done()
    return vault


def wide_rows(seed: int, first: int) -> pa.Table:
    dice = Random(seed)
    noise = dice.randbytes(1 << 20).hex().encode()
    sizes = [1000] * 50_000 + [500_000] * 16 + [100] * 20_000
    rows = []
    for number, size in enumerate(sizes):
        hot = size == 100
        tenant, name = ("hot", 1) if hot else (f"t{dice.randrange(200)}", dice.randrange(100_000))
        at = dice.randrange(len(noise) - size)
        line = b"%s\t%d\tx\t%s\n" % (tenant.encode(), name, noise[at : at + size])
        rows.append((tenant, b"%s\t%d" % (tenant.encode(), name), first + number * 10, line))
    tenants, keys, lsns, lines = zip(*rows, strict=True)
    count = len(rows)
    values = {
        "tenant": tenants,
        "relation": [1] * count,
        "key": keys,
        "timeline": [1] * count,
        "lsn": lsns,
        "seq": [1] * count,
        "op": ["U"] * count,
        "committed_at": [None] * count,
        "schema": [1] * count,
        "row": lines,
        **{name: [None] * count for name in ("missing", "before_key", "before_tenant")},
    }
    types = {field.name: pa.string() if field.name == "op" else field.type for field in RUN_SCHEMA}
    return sort_rows(pa.table({name: pa.array(values[name], types[name]) for name in RUN_SCHEMA.names}))
