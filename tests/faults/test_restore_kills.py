"""A restore that is killed at any instant and run again goes on, ends proven, and doubles nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ballast.recovery import Request, restore
from tests.fix_postgres import Database
from tests.kept import Contents, Kept, contents, structure

COMMAND = (sys.executable, "-m", "ballast.cli", "restore", "--json")
TABLES = (
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text)",
    "CREATE TABLE item (tenant text REFERENCES shop, id bigserial, label text, PRIMARY KEY (tenant, id))",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (tenant text, said text)",
    "CREATE INDEX item_label ON item (label)",
)
ROWS = (
    "INSERT INTO shop SELECT 't' || g, 'Shop ' || g FROM generate_series(1, 30) g",
    "INSERT INTO item (tenant, label) SELECT 't' || g, md5(h::text) FROM generate_series(1, 30) g, generate_series(1, 40) h",
    "INSERT INTO word SELECT 'w' || g, 'x' FROM generate_series(1, 10) g",
    # Equal rows without a key: doubled ones would be found by no constraint.
    "INSERT INTO log SELECT 't' || g, 'twice' FROM generate_series(1, 30) g, generate_series(1, 2)",
)
TWO = ("--tenant", "t3", "--tenant", "t4")
BOTH = ("t3", "t4")


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*TABLES, *ROWS)
    made = Kept(pg18, open_folder)
    made.look()
    return made


def start(kept: Kept, to: Database, *options: str, fail: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "--vault", kept.url, "--into", to.dsn, *options],
        env={**os.environ, "BALLAST_FAIL": fail},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(kept: Kept, to: Database, *options: str, fail: str = "") -> int:
    process = start(kept, to, *options, fail=fail)
    out, err = process.communicate(timeout=60)
    if process.returncode == 0:
        assert json.loads(out)["proven"]
    elif process.returncode != -signal.SIGKILL:
        pytest.fail(f"{out.decode()}{err.decode()}")
    return process.returncode


def goes_on(kept: Kept, to: Database, request: Request) -> None:
    """The same again, from here: a command would load all that is loaded here already."""
    assert restore(kept.vault, kept.vault.resolve(None), to.dsn, request).proven


def of(found: Contents, *tenants: str) -> Contents:
    """The rows of some tenants and the shared ones."""
    wanted = [tenant.encode() for tenant in tenants]
    return {
        table: [line for line in lines if table == "public.word" or line.split(b"\t")[0] in wanted]
        for table, lines in found.items()
    }


POINTS = (
    "restore.tables",
    "restore.chunk",
    "restore.chunk:5",
    "restore.committed",
    "restore.committed:3",
    "restore.proven",
    "restore.index",
    "restore.index:3",
    "restore.finished",
    "restore.forgotten",
)


@pytest.mark.parametrize("point", POINTS)
def test_everything_goes_on_where_it_was_killed(kept: Kept, point: str) -> None:
    to = kept.db.another()
    assert run(kept, to, "-j", "1", fail=point) == -signal.SIGKILL
    goes_on(kept, to, Request())
    assert contents(to) == contents(kept.db)
    assert structure(to) == structure(kept.db)


@pytest.mark.parametrize("point", ["restore.chunk", "restore.committed:2", "restore.proven", "restore.index"])
def test_tenants_go_on_where_they_were_killed(kept: Kept, point: str) -> None:
    to = kept.db.another()
    assert run(kept, to, *TWO, fail=point) == -signal.SIGKILL
    goes_on(kept, to, Request(tenants=BOTH))
    assert contents(to) == of(contents(kept.db), "t3", "t4")
    assert structure(to) == structure(kept.db)


@pytest.mark.parametrize("point", ["restore.chunk", "restore.chunk:2", "restore.committed", "restore.committed:2"])
@pytest.mark.parametrize("replace", [True, False])
def test_tenants_of_a_live_database_go_on(kept: Kept, point: str, replace: bool) -> None:
    live, before = kept.db, contents(kept.db)
    if replace:
        live.run("UPDATE item SET label = 'x'", "INSERT INTO log VALUES ('t3', 'more')")
    else:
        live.run("DELETE FROM item WHERE tenant IN ('t3', 't4')", "DELETE FROM log WHERE tenant IN ('t3', 't4')")
        live.run("DELETE FROM shop WHERE tenant IN ('t3', 't4')")
    options = (*TWO, "--replace") if replace else TWO
    assert run(kept, live, *options, "-j", "1", fail=point) == -signal.SIGKILL
    goes_on(kept, live, Request(tenants=BOTH, replace=replace))
    assert of(contents(live), "t3", "t4") == of(before, "t3", "t4")


@pytest.mark.parametrize("point", ["restore.chunk:3", "restore.committed:2", "restore.proven"])
def test_tables_that_stand_empty_go_on(kept: Kept, point: str) -> None:
    to = kept.db.another()
    to.run(*TABLES)
    assert run(kept, to, fail=point) == -signal.SIGKILL
    goes_on(kept, to, Request())
    assert contents(to) == contents(kept.db)


def test_it_goes_on_at_its_own_moment_though_the_record_has_moved_on(kept: Kept) -> None:
    to, then = kept.db.another(), contents(kept.db)
    assert run(kept, to, fail="restore.committed:2") == -signal.SIGKILL
    kept.db.run("DELETE FROM log")
    kept.look()
    assert run(kept, to) == 0
    assert contents(to) == then


def test_another_restore_does_not_mix_in(kept: Kept) -> None:
    to = kept.db.another()
    assert run(kept, to, fail="restore.committed:2") == -signal.SIGKILL
    process = start(kept, to, *TWO)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "another restore was begun in this database and is not finished: all tenants" in json.loads(out)["what"]


def test_two_at_the_same_time_do_not_double_anything(kept: Kept) -> None:
    to = kept.db.another()
    processes = [start(kept, to) for _ in range(2)]
    codes = [process.wait(60) for process in processes]
    assert 0 in codes
    assert contents(to) == contents(kept.db)


def test_killed_at_random_instants(kept: Kept) -> None:
    to = kept.db.another()
    chance = random.Random(7)
    for _ in range(8):
        process = start(kept, to)
        time.sleep(0.5 + chance.random() * 1.5)
        process.kill()
        process.communicate()
    report = restore(kept.vault, kept.vault.resolve(None), to.dsn, Request())
    assert report.proven
    assert contents(to) == contents(kept.db)
    assert structure(to) == structure(kept.db)
