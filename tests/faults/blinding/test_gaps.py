"""The guardian itself: blind from the start, told to go on, gaps that end in the vault."""

import time

import pytest

from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import wish
from ballast.vault.config import Tenants
from ballast.vault.fingerprint import read_baseline
from ballast.vault.records import Cut
from ballast.vault.vault import Vault
from tests.fix_guarded import WITHIN_S, New
from tests.fix_postgres import Database
from tests.fix_recorder import Recording
from tests.integration.test_sealing import begin, lines, on_production


def test_a_recorder_that_is_started_while_capture_is_broken_acknowledges_nothing(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    recording.db.run("ALTER TABLE u SET UNLOGGED")
    recording.wait_for("blind")
    before = wish.pending(recording.config.state_dir)
    recording.kill()
    recording.start(until="blind")
    recording.db.run("INSERT INTO t VALUES (1)")
    time.sleep(2)
    assert recording.health.acknowledged_lsn == 0
    assert wish.pending(recording.config.state_dir) == before, "the same gap, once"
    recording.db.run("ALTER TABLE u SET LOGGED")
    recording.whole()


def test_who_chose_availability_is_told_and_goes_on(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18, on_blind="continue")
    recording.guard()
    recording.db.run("ALTER TABLE u SET UNLOGGED")
    recording.alarm("public.u", "UNLOGGED")
    recording.db.run("INSERT INTO t VALUES (1)")
    recording.until(lambda: recording.health.acknowledged_lsn >= recording.health.durable_lsn, "acknowledging")
    assert recording.health.state == "recording"
    assert [w.held for w in wish.pending(recording.config.state_dir) if w.kind == "image"] == [True]


def test_without_a_baseline_nothing_is_taken_for_granted(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    (recording.config.state_dir / "fingerprint.json").unlink()
    recording.start()
    recording.alarm("run `ballast protect`")
    assert read_baseline(recording.config.state_dir) is None


def test_the_position_known_to_be_well_follows(pg18: Database, guarded: New) -> None:
    recording = guarded(pg18)
    recording.guard()
    first = recording.good_lsn
    recording.db.run("INSERT INTO t VALUES (1)")
    after = recording.lsn()
    recording.until(lambda: recording.good_lsn > after > first, "it to follow", WITHIN_S)


@pytest.mark.any_version
@pytest.mark.parametrize("how", ["unlogged", "publication"])
def test_the_gap_is_in_the_ledger_and_closed_by_an_image(pg: Database, guarded: New, how: str) -> None:
    recording = guarded(pg, seal_after_s=0.5)
    begin(recording, Tenants(column="id"))
    recording.sealing = True
    recording.guard()
    recording.db.run("INSERT INTO u VALUES (1, 'before')")
    before = recording.lsn()
    if how == "unlogged":
        recording.db.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (2, 'lost')")
        recording.wait_for("blind")
        recording.db.run("ALTER TABLE u SET LOGGED")
    else:
        recording.db.run("DROP PUBLICATION ballast", "INSERT INTO u VALUES (2, 'lost')")
        recording.logged("publication", "gone")

    def closed() -> bool:
        if wish.pending(recording.config.state_dir):  # asked first: to open a vault takes a hundred times as long
            return False
        gaps = Vault.open(recording.config.vault, state_dir=recording.config.state_dir).index.gaps.values()
        return bool(gaps) and all(gap.to_lsn is not None for gap in gaps)

    recording.until(closed, "the gaps to be closed", 90.0)
    vault = Vault.open(recording.config.vault, state_dir=recording.config.state_dir)
    assert min(gap.from_lsn for gap in vault.index.gaps.values()) <= before
    with snapshot_at_cut(recording.config.dsn) as (look, lsn):
        expected = on_production(look, "u")
    recording.db.run("INSERT INTO t VALUES (1, 'so that there is something to seal')")
    recording.until(lambda: recorded_until(recording) >= lsn, "it to be sealed", 60.0)
    vault.refresh()
    assert lines(vault, Cut(1, lsn), "u") == expected == ["1\tbefore", "2\tlost"]
    recording.until(lambda: not recording.health.alarms, "the alarms to end", WITHIN_S)


def recorded_until(recording: Recording) -> int:
    """How far the vault has come."""
    return Vault.open(recording.config.vault, state_dir=recording.config.state_dir).index.recorded_until(1)
