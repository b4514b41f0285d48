"""Spool files that a real recorder wrote become segments, and what is read back is what production shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.postgres import read_catalog
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault.batch import Batch
from ballast.vault.config import Tenants
from ballast.vault.logbook import Logbook
from ballast.vault.read import rows
from ballast.vault.records import SHARED_BUCKET, Cut, Image, SchemaVersion
from ballast.vault.registry import Registry
from ballast.vault.sealing import Sealing
from ballast.vault.spoolfiles import closed_files, header
from ballast.vault.tables import tables_of
from ballast.vault.vault import Vault
from tests.fix_postgres import Database
from tests.fix_protected import Protected, assert_equal
from tests.fix_recorder import Recording


def begin(recording: Recording, tenants: Tenants) -> Vault:
    """A first schema version and an empty image at the timeline's start, as `protect` would take of empty tables."""
    state = recording.config.state_dir
    vault = Vault.open(recording.config.vault, state_dir=state)
    timeline = vault.index.timelines[1]
    registry = Registry(tenants)
    with recording.admin() as conn:
        registry.read(tables_of(read_catalog(conn)), "protect")
    with Batch(vault.store, state, "schema", 1, timeline.start_lsn, timeline.start_lsn) as batch:
        ref = batch.put("relations", "json", registry.encode())
        vault.append(SchemaVersion(1, 1, timeline.start_lsn, 0, ref, "protect"))
        vault.append(Image(1, timeline.start_lsn, 1, None, (), (), "protect"))
        batch.done()
    return vault


def seal_all(recording: Recording) -> Vault:
    """As the sealer does, with what is closed."""
    vault = Vault.open(recording.config.vault, state_dir=recording.config.state_dir)
    sealing = Sealing(vault, recording.config, Logbook("test"))
    while (stretch := sealing.next_stretch(closed_files(recording.config.spool_dir))) is not None:
        sealing.seal(stretch)
    return vault


def lines(vault: Vault, cut: Cut, table: str) -> list[str]:
    """All rows of a table at a cut, as COPY text."""
    found: list[str] = []
    relation = next(r for r in vault.relations_at(cut).values() if r.name == table)
    for bucket in (SHARED_BUCKET, *range(vault.index.genesis.buckets)):
        for chunk in rows(vault, cut, bucket=bucket, relations={relation.number}):
            found += bytes(chunk.buffer).decode().splitlines()
    return sorted(found)


def on_production(conn: object, table: str) -> list[str]:
    with conn.cursor().copy(f"COPY (SELECT * FROM ONLY public.{table}) TO STDOUT") as copy:  # type: ignore[attr-defined]
        return sorted(b"".join(bytes(block) for block in copy).decode().splitlines())


@pytest.fixture
def recording(pg18: Database, new_recording: Callable[..., Recording]) -> Recording:
    return new_recording(pg18, acknowledge="spool", seal_after_s=0.2, seal_bytes=65536)


def wait_sealed(recording: Recording, lsn: int) -> None:
    recording.until(lambda: recording.health.durable_lsn >= lsn, "the position to be durable")


def test_what_is_sealed_is_what_production_shows(recording: Recording, tmp_path: Path) -> None:
    begin(recording, Tenants(column="id"))
    recording.start()
    with recording.session() as conn:
        conn.execute("INSERT INTO t SELECT g, repeat('é\t' || g, 20) FROM generate_series(1, 3000) g")
        conn.execute("UPDATE t SET body = body || 'x' WHERE id % 3 = 0")
        conn.execute("DELETE FROM t WHERE id % 7 = 0")
        conn.execute("UPDATE t SET id = id + 100000 WHERE id % 11 = 0")
        with snapshot_at_cut(recording.config.dsn) as (look, lsn):
            expected = on_production(look, "t")
        conn.execute("DELETE FROM t")
    wait_sealed(recording, lsn)
    recording.until(lambda: closed_files(recording.config.spool_dir), "a closed file")
    recording.stop()
    recording.start()
    with recording.session() as conn:
        conn.execute("INSERT INTO t VALUES (1, 'last')")
    recording.stop()
    recording.start()
    recording.stop()
    vault = seal_all(recording)
    assert lines(vault, Cut(1, lsn), "t") == expected
    newest = Cut(1, vault.index.recorded_until(1))
    assert lines(vault, newest, "t") == ["1\tlast"]


def test_a_large_transaction_has_a_segment_of_its_own_and_many_that_wait_have_not(
    pg18: Database, new_recording: Callable[..., Recording]
) -> None:
    recording = new_recording(pg18, acknowledge="spool")
    begin(recording, Tenants(column="id"))
    recording.start()
    with recording.session() as conn:
        conn.execute("INSERT INTO t VALUES (1, 'before')")
        for n in range(1, 7):
            conn.execute(
                "INSERT INTO t SELECT g, repeat('x', 400) FROM generate_series(%s::int, %s::int) g",
                (n * 10_000, n * 10_000 + 4_999),
            )
        conn.execute("INSERT INTO t VALUES (2, 'after')")
    recording.stop()
    files = closed_files(recording.config.spool_dir)
    large = [path for path in files if header(path).apart]
    assert len(large) == 6
    sealing = Sealing(
        Vault.open(recording.config.vault, state_dir=recording.config.state_dir), recording.config, Logbook("test")
    )
    alone = sealing.next_stretch(files[: files.index(large[1])])
    assert alone is not None
    assert (alone.is_wanted, large[0] in alone.files) == (True, False), "it waits for nothing that comes after it"
    many = sealing.next_stretch(files)
    assert many is not None
    assert set(large[:4]) <= set(many.files)
    vault = seal_all(recording)
    assert len(lines(vault, Cut(1, vault.index.recorded_until(1)), "t")) == 6 * 5_000 + 2


def test_a_recorder_that_is_stopped_at_once_leaves_nothing_unsealed(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    pg18.run("CREATE TABLE t (id int PRIMARY KEY, shop int)")
    protected = new_protected(pg18, Tenants(column="shop"))
    try:
        protected.protect()
        protected.start()
        pg18.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 100) g")
        look = protected.look()
        pg18.run("INSERT INTO t VALUES (1000, 1)")  # acknowledged, it is recorded, and what the look saw with it
        protected.stop()
        assert_equal(protected.vault(), look)
    finally:
        protected.end()
