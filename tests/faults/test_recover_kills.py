"""A recovery on demand that is killed at any instant and run again goes on, ends proven, and doubles nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from ballast.recovery import ensure, recover
from ballast.vault.marker import read_marker
from tests.faults.test_restore_kills import ROWS, TABLES
from tests.fix_postgres import Database
from tests.kept import Kept, contents, structure

COMMAND = (sys.executable, "-m", "ballast.cli", "recover", "--json")
LEFT = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%' ORDER BY 1"


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
    out, err = process.communicate(timeout=90)
    if process.returncode == 0:
        assert json.loads(out.splitlines()[-1])["proven"]
    elif process.returncode != -signal.SIGKILL:
        pytest.fail(f"{out.decode()}{err.decode()}")
    return process.returncode


def assert_whole(kept: Kept, to: Database) -> None:
    """All rows and the structure of the source, and nothing of ours but where they come from."""
    assert to.query(LEFT) == [("ballast_recovery",)]
    assert to.query("SELECT conname FROM pg_constraint WHERE NOT convalidated") == []
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept.db)
    assert structure(to) == structure(kept.db)


def names_first(kept: Kept) -> str:
    """Ranks for everybody: each is a unit of its own."""
    path = kept.state / "first"
    path.write_text("".join(f"t{n}\n" for n in range(1, 31)))
    return str(path)


POINTS = (
    "restore.tables",
    "restore.index:2",
    "recover.gate",
    "recover.chunk",
    "recover.chunk:7",
    "recover.committed",
    "recover.committed:9",
    "recover.open",
    "recover.validated",
    "recover.checked",
    "recover.finished",
)


@pytest.mark.parametrize("point", POINTS)
def test_it_goes_on_where_it_was_killed(kept: Kept, point: str) -> None:
    to = kept.db.another()
    assert run(kept, to, "--priority", names_first(kept), fail=point) == -signal.SIGKILL
    assert recover(kept.vault, kept.vault.resolve(None), to.dsn).proven  # the command is told to go on below
    assert_whole(kept, to)


def test_it_goes_on_at_its_own_moment_though_the_record_has_moved_on(kept: Kept) -> None:
    to, then = kept.db.another(), contents(kept.db)
    assert run(kept, to, "--priority", names_first(kept), fail="recover.committed:5") == -signal.SIGKILL
    kept.db.run("DELETE FROM log")
    kept.look()
    assert run(kept, to) == 0
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == then


def test_two_at_the_same_time_do_not_double_anything(kept: Kept) -> None:
    to = kept.db.another()
    processes = [start(kept, to) for _ in range(2)]
    codes = [process.wait(90) for process in processes]
    assert 0 in codes
    assert_whole(kept, to)


def test_killed_at_random_instants_while_tenants_that_are_back_write(kept: Kept) -> None:
    to = kept.db.another()
    chance = random.Random(11)
    written: list[tuple[str, str]] = []
    for attempt in range(6):
        process = start(kept, to, "-j", "1", "--priority", names_first(kept))
        time.sleep(1.0 + chance.random() * 1.5)
        process.kill()
        process.communicate()
        with psycopg.connect(to.dsn, autocommit=True) as app:
            if app.execute("SELECT to_regclass('ballast_recovery.tenant')").fetchone() == (None,):
                continue
            back = app.execute("SELECT tenant FROM ballast_recovery.tenant WHERE back_at IS NOT NULL").fetchall()
            for (tenant,) in back[:3]:
                app.execute("INSERT INTO log VALUES (%s, %s)", (tenant, f"since {attempt}"))
                written.append((tenant, f"since {attempt}"))
    assert recover(kept.vault, kept.vault.resolve(None), to.dsn).proven
    assert ensure(to.dsn, "t1")
    since = to.query("SELECT tenant, said FROM log WHERE said LIKE 'since%'")
    assert sorted(since) == sorted(written)
    to.run("DELETE FROM log WHERE said LIKE 'since%'")
    assert_whole(kept, to)


def test_a_caller_waits_through_a_killed_restorer_until_the_next_one_comes(kept: Kept) -> None:
    to = kept.db.another()
    assert run(kept, to, fail="recover.gate") == -signal.SIGKILL
    waiting = subprocess.Popen(
        [sys.executable, "-c", f"from ballast.recovery import ensure; assert ensure({to.dsn!r}, 't9')"]
    )
    time.sleep(1)
    assert run(kept, to, fail="recover.chunk") == -signal.SIGKILL
    assert waiting.poll() is None
    assert run(kept, to) == 0
    assert waiting.wait(30) == 0


def test_killed_before_the_first_row_it_is_told_that_its_rows_will_carry_an_origin(kept: Kept) -> None:
    """Else `ballast protect` takes an image of tenants without rows, and what comes back afterwards is recorded nowhere."""
    to = kept.db.another()
    assert run(kept, to, fail="recover.gate") == -signal.SIGKILL
    with psycopg.connect(to.dsn) as conn:
        marker = read_marker(conn)
    assert marker is not None
    assert (marker.finished, marker.left_out) == (False, True)
    assert run(kept, to) == 0
    assert_whole(kept, to)
