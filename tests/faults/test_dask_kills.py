"""A Dask worker that is killed in the middle costs its jobs' time: another one does them, nothing is doubled."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.errors import RestoreError
from ballast.recovery import MergeItem, Request, crew, merge, recover, restore
from ballast.recovery.hands import Seat
from tests.deep import mostly_deep
from tests.fix_dask import DaskProcesses
from tests.fix_postgres import Database
from tests.integration.test_dask import ROWS, TABLES, take_order
from tests.integration.test_merge_back import BEGUN
from tests.integration.test_merge_back import TABLES as SHOPS
from tests.kept import Kept, contents, structure

NewPair = Callable[[str], tuple[DaskProcesses, subprocess.Popen[bytes]]]


@pytest.fixture
def new_pair(dask_one: DaskProcesses) -> NewPair:
    """A scheduler with two workers, one of which dies by SIGKILL at the named instant of its work."""

    def made(fail: str) -> tuple[DaskProcesses, subprocess.Popen[bytes]]:
        dask_one.joined(1)
        doomed = dask_one.worker(BALLAST_FAIL=fail)
        dask_one.joined(2)
        return dask_one, doomed

    return made


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*TABLES, *ROWS)
    made = Kept(pg18, open_folder, buckets=12)
    made.look()
    return made


# The second is the hard one: all is committed, and nobody has heard of it.
@pytest.mark.parametrize("instant", mostly_deep(["restore.chunk:2", "restore.committed"], "restore.committed"))
def test_a_bucket_of_a_killed_worker_comes_back_once(kept: Kept, new_pair: NewPair, instant: str) -> None:
    processes, doomed = new_pair(instant)
    here, there = kept.db.another(), kept.db.another()
    resolved = kept.vault.resolve()
    by_threads = restore(kept.vault, resolved, here.dsn, Request())
    seen: list[int] = []

    class Counting:
        def begin(self, stage: str, rows: int) -> None:
            if stage != "rows":
                seen.append(0)

        def advance(self, rows: int) -> None:
            if not seen[1:]:
                seen[-1] += rows

    with crew(processes.address) as workers:
        by_dask = restore(kept.vault, resolved, there.dsn, Request(), Counting(), workers)
    assert doomed.wait(30) == -9
    assert by_dask.proven
    assert by_dask.tables == by_threads.tables
    assert contents(there) == contents(kept.db)
    assert structure(there) == structure(kept.db)
    assert seen[0] == by_dask.rows, "each row was told once"


def test_a_unit_of_a_recovery_comes_back_once(kept: Kept, new_dask: Callable[[], DaskProcesses]) -> None:
    processes, there = new_dask(), kept.db.another()
    doomed = processes.worker(BALLAST_FAIL="recover.committed")
    processes.joined(1)
    # So little is one unit: who is doomed must be the first to have it.
    heir = threading.Thread(target=lambda: (doomed.wait(60), processes.worker()))
    heir.start()
    with crew(processes.address) as workers:
        recovered = recover(kept.vault, kept.vault.resolve(), there.dsn, hands=workers)
    heir.join()
    assert doomed.wait(30) == -9
    assert recovered.proven
    assert not [said for said in recovered.warnings if "origin" in said], "also the second worker's rows have one"
    found = contents(there, but=("origin",))
    assert found == contents(kept.db)
    assert recovered.rows == sum(map(len, found.values()))


def test_tenants_of_a_live_database_come_back_once(kept: Kept, new_pair: NewPair) -> None:
    processes, doomed = new_pair("restore.committed:2")
    before = contents(kept.db)
    kept.db.run("UPDATE item SET label = 'x'", "DELETE FROM log WHERE tenant < 't2'")
    with crew(processes.address) as workers:
        report = restore(kept.vault, kept.vault.resolve(), kept.db.dsn, Request(replace=True), hands=workers)
    assert doomed.wait(30) == -9
    assert report.proven
    assert contents(kept.db) == before


def test_each_item_is_applied_once_and_told_as_if_nobody_had_died(pg18: Database, new_pair: NewPair) -> None:
    processes, doomed = new_pair("merge.committed:5")
    pg18.run(*SHOPS)
    items = [MergeItem(f"s{s}", f"o{n}", "order", {"n": n % 6}, BEGUN) for n in range(30) for s in range(1, 7)]
    items.append(items[0])  # given twice
    with crew(processes.address) as workers:
        report = merge(pg18.dsn, items, take_order, hands=workers)
    assert doomed.wait(30) == -9
    assert (report.applied, report.already, len(report.refused), report.open) == (150, 1, 30, 0)
    for shop in range(1, 7):
        found = [no for (no,) in pg18.query("SELECT no FROM orders WHERE shop = %s ORDER BY at", f"s{shop}")]
        assert found == [f"o{n}" for n in range(30) if n % 6 < 5], "in order, across the kill"


def test_all_workers_are_gone_and_the_same_goes_on_with_others(
    kept: Kept, new_dask: Callable[[], DaskProcesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ballast.recovery.dask_crew._NOBODY_LEFT_S", 1.0)
    processes, there = new_dask(), kept.db.another()
    alone = processes.worker(BALLAST_FAIL="restore.committed:3")
    processes.joined(1)
    resolved = kept.vault.resolve()
    with pytest.raises(Exception, match="has had no worker for 1 s"), crew(processes.address) as workers:
        restore(kept.vault, resolved, there.dsn, Request(), hands=workers)
    assert alone.wait(30) == -9
    assert there.query("SELECT count(*) FROM ballast_restore.done WHERE unit LIKE 'buckets%'") == [(3,)]
    processes.worker()
    processes.joined(1)
    with crew(processes.address) as workers:
        assert restore(kept.vault, resolved, there.dsn, Request(), hands=workers).proven
    assert contents(there) == contents(kept.db)


def rest(seat: Seat, seconds: float) -> None:
    time.sleep(seconds)


def test_a_scheduler_that_dies_ends_the_call_with_a_message(new_dask: Callable[[], DaskProcesses]) -> None:
    processes = new_dask()
    processes.worker()
    processes.joined(1)
    threading.Timer(1.5, processes.scheduler.kill).start()
    with pytest.raises(RestoreError, match=r"Dask at tcp://127.*failed"), crew(processes.address) as workers:
        list(workers.map(rest, [20.0], Seat(None, "", lambda rows: None)))
