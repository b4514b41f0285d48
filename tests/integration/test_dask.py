"""Restore, recovery and merge by real Dask workers give what threads of this process give."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ballast import __version__
from ballast.errors import BallastError, ConfigError, RestoreError
from ballast.recovery import CannotApply, Crew, MergeItem, Report, Request, crew, merge, recover, refusals, restore
from ballast.recovery.hands import Seat
from tests.commands import ballast
from tests.fix_dask import DaskProcesses
from tests.fix_postgres import Database
from tests.integration.test_merge_back import BEGUN
from tests.integration.test_merge_back import TABLES as SHOPS
from tests.kept import Kept, contents, structure

TABLES = (
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text)",
    "CREATE TABLE item (tenant text REFERENCES shop, id bigserial, label text, PRIMARY KEY (tenant, id))",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (tenant text, said text)",
)
ROWS = (
    "INSERT INTO shop SELECT 't' || g, 'Shop ' || g FROM generate_series(1, 30) g",
    "INSERT INTO item (tenant, label) SELECT 't' || g, md5(h::text) FROM generate_series(1, 30) g, generate_series(1, 40) h",
    "INSERT INTO word SELECT 'w' || g, 'x' FROM generate_series(1, 10) g",
    "INSERT INTO log SELECT 't' || g, 'twice' FROM generate_series(1, 30) g, generate_series(1, 2)",
)


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*TABLES, *ROWS)
    made = Kept(pg18, open_folder)
    made.look()
    return made


@pytest.fixture
def workers(dask_pair: DaskProcesses) -> Any:
    with crew(dask_pair.address) as made:
        yield made


def alike(report: Report) -> dict[str, Any]:
    """A report without what no two runs have in common."""
    return {**msgspec.structs.asdict(report), "elapsed_s": 0}


def test_everything_comes_back_as_by_threads(kept: Kept, workers: Crew) -> None:
    here, there = kept.db.another(), kept.db.another()
    assert workers.count == 2
    by_threads = restore(kept.vault, kept.vault.resolve(), here.dsn, Request())
    by_dask = restore(kept.vault, kept.vault.resolve(), there.dsn, Request(), hands=workers)
    assert alike(by_dask) == alike(by_threads)
    assert by_dask.proven
    assert contents(there) == contents(here) == contents(kept.db)
    assert structure(there) == structure(here)


def test_tenants_of_a_live_database_come_back(kept: Kept, workers: Crew) -> None:
    before = contents(kept.db)
    kept.db.run("UPDATE item SET label = 'x'", "DELETE FROM log WHERE tenant < 't2'")
    report = restore(kept.vault, kept.vault.resolve(), kept.db.dsn, Request(replace=True), hands=workers)
    assert report.proven
    assert contents(kept.db) == before


def test_a_platform_is_recovered(kept: Kept, workers: Crew) -> None:
    here, there = kept.db.another(), kept.db.another()
    resolved = kept.vault.resolve()
    by_threads = recover(kept.vault, resolved, here.dsn)
    by_dask = recover(kept.vault, resolved, there.dsn, hands=workers)
    assert by_dask.proven
    assert (by_dask.tenants, by_dask.rows, by_dask.tables) == (by_threads.tenants, by_threads.rows, by_threads.tables)
    assert by_dask.warnings == by_threads.warnings
    assert contents(there, but=("origin",)) == contents(here, but=("origin",))
    assert there.query("SELECT count(*) FROM pg_replication_origin WHERE roname LIKE 'ballast_recovery%'") == [(0,)]


def take_order(conn: psycopg.Connection[Any], item: MergeItem) -> None:
    if item.payload["n"] > 4:
        raise CannotApply("nobody orders so much")
    conn.execute("INSERT INTO orders (shop, no, sku, n) VALUES (%s, %s, 'tea', 1)", [item.tenant, item.key])


def test_what_tenants_made_elsewhere_is_merged(pg18: Database, workers: Crew) -> None:
    here, there = pg18, pg18.another()
    items = [MergeItem(f"s{s}", f"o{n}", "order", {"n": n % 6}, BEGUN) for n in range(30) for s in range(1, 7)]
    items.append(items[0])  # given twice
    reports = []
    for to, hands in ((here, None), (there, workers)):
        to.run(*SHOPS)
        reports.append(merge(to.dsn, items, take_order, hands=hands))
        for shop in range(1, 7):
            found = [no for (no,) in to.query("SELECT no FROM orders WHERE shop = %s ORDER BY at", f"s{shop}")]
            assert found == [f"o{n}" for n in range(30) if n % 6 < 5]
    assert [(r.applied, r.already, len(r.refused), r.open) for r in reports] == [(150, 1, 30, 0)] * 2
    assert {(r.tenant, r.key, r.reason) for r in refusals(here.dsn)} == {
        (r.tenant, r.key, r.reason) for r in refusals(there.dsn)
    }
    again = merge(there.dsn, items, take_order, hands=workers)
    assert (again.applied, again.already, again.refused, again.open) == (0, 151, (), 30)


def test_the_commands(kept: Kept, dask_pair: DaskProcesses, tmp_path: Path) -> None:
    def command(*arguments: str) -> dict[str, Any]:
        done = ballast(*arguments, "--json", "--dask", dask_pair.address)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.splitlines()[-1] if arguments[0] == "recover" else done.stdout))

    first, second = kept.db.another(), kept.db.another()
    assert command("restore", "--vault", kept.url, "--into", first.dsn)["proven"]
    assert command("recover", "--vault", kept.url, "--into", second.dsn)["proven"]
    (tmp_path / "none.jsonl").write_text("")
    arguments = ("--from", str(tmp_path / "none.jsonl"), "--handler", "tests.integration.test_dask:take_order")
    assert command("merge", "--into", first.dsn, *arguments)["complete"]
    assert contents(first, but=("applied", "exception")) == contents(kept.db)


def refused(kept: Kept, to: Database, workers: Crew, **changed: str) -> BallastError:
    with pytest.raises(BallastError) as caught:
        restore(kept.vault, kept.vault.resolve(), changed.get("dsn", to.dsn), Request(), hands=workers)
    return caught.value


def test_a_worker_that_cannot_read_the_vault_says_so_and_the_same_goes_on(kept: Kept, workers: Crew) -> None:
    to, away = kept.db.another(), Path(kept.url).with_name("away")
    taken = kept.vault.extent()  # a worker opens the vault when it first hears of it
    elsewhere = msgspec.structs.replace(taken, url=kept.url + "-not-mounted")
    kept.vault.extent = lambda: elsewhere  # type: ignore[method-assign]
    error = refused(kept, to, workers)
    assert "on Dask worker tcp://127.0.0.1" in error.what
    assert "There is no vault" in error.what or "is not there" in error.what
    kept.vault.extent = lambda: msgspec.structs.replace(taken, sha256="0" * 64)  # type: ignore[method-assign]
    assert "is not the one that is restored from" in refused(kept, to, workers).what
    assert not away.exists()
    del kept.vault.extent  # type: ignore[method-assign]
    assert restore(kept.vault, kept.vault.resolve(), to.dsn, Request(), hands=workers).proven
    assert contents(to) == contents(kept.db)


def connect(seat: Seat, port: str) -> None:
    from ballast.recovery.target import connect_target

    connect_target(make_conninfo(seat.dsn, port=port)).close()


def test_a_worker_that_cannot_reach_the_target_says_which_and_why(kept: Kept, workers: Crew) -> None:
    with pytest.raises(RestoreError, match=r"on Dask worker tcp://127\.0\.0\.1:\d+: the target cannot be reached"):
        list(workers.map(connect, ["1"], Seat(None, kept.db.dsn, lambda rows: None)))


def test_what_the_worker_cannot_import_is_named(workers: Crew, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def job(seat, job): return job")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found,unused-ignore]

    with pytest.raises(ConfigError, match=r"No module named 'only_here'.*PYTHONPATH"):
        list(workers.map(only_here.job, [1], Seat(None, "", lambda rows: None)))


def test_a_password_is_neither_sent_in_the_clear_nor_printed(dask_pair: DaskProcesses, workers: Crew) -> None:
    seat = Seat(None, "host=127.0.0.1 port=1 password=hush-hush", lambda rows: None)
    with pytest.raises(RestoreError) as caught:
        list(workers.map(connect, ["1"], seat))  # to this machine itself it is sent
    assert "hush-hush" not in str(caught.value)
    assert "hush-hush" not in dask_pair.log()
    with crew(dask_pair.address) as made:
        far = Crew(made._client, "tcp://workers.example:8786")
        with pytest.raises(ConfigError, match="in the clear"):
            list(far.map(connect, ["1"], seat))


def test_who_cannot_help_is_told_from_who_can(new_dask: Callable[[], DaskProcesses], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no address"), crew("127.0.0.1:8786"):
        pass
    with pytest.raises(ConfigError, match=r"cannot be reached.*dask scheduler"), crew("tcp://127.0.0.1:1"):
        pass
    other = new_dask()
    (tmp_path / "sitecustomize.py").write_text("import ballast; ballast.__version__ = '0.0.9'")
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    other.worker(PYTHONPATH=paths)
    other.joined(1)
    with pytest.raises(ConfigError, match=rf"this is Ballast {__version__}.*has 0\.0\.9"), crew(other.address):
        pass


def test_without_dask_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install dask distributed"), crew("tcp://127.0.0.1:8786"):
        pass
