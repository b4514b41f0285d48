"""A rewind that is killed at any instant, or whose server is, has done nothing or all of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from ballast.errors import RestoreError
from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault.moment import show
from ballast.vault.records import Cut
from tests.faults.test_restore_kills import ROWS, TABLES
from tests.fix_postgres import Database, NewServer
from tests.kept import Contents, Kept, contents

DAMAGE = (
    "DELETE FROM item WHERE tenant = 't3' AND id % 2 = 0",
    "UPDATE item SET label = 'x' WHERE tenant = 't3'",
    "UPDATE shop SET name = 'x' WHERE tenant = 't3'",
    "INSERT INTO item (tenant, label) VALUES ('t3', 'more')",
    "DELETE FROM log WHERE tenant = 't3'",
    "INSERT INTO log VALUES ('t3', 'more')",
)


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*TABLES, *ROWS)
    return Kept(pg18, open_folder)


def begin(kept: Kept, cut: Cut, fail: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ballast.cli", "rewind", kept.db.dsn, "--vault", kept.url, "--tenant", "t3", "--at", show(cut), "--json"],
        env={**os.environ, "BALLAST_FAIL": fail},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def settled(db: Database) -> Contents:
    """What the database holds once the sessions of killed clients have ended."""
    deadline = time.monotonic() + 20
    while db.query(
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ):
        assert time.monotonic() < deadline, "a session lingers"
        time.sleep(0.02)
    return contents(db)


@pytest.mark.parametrize("point", ["amend.changed", "amend.put_back", "amend.proven", "amend.committed"])
def test_killed_at_a_named_instant(kept: Kept, point: str) -> None:
    good, cut = contents(kept.db), kept.look()
    kept.db.run(*DAMAGE)
    damaged = contents(kept.db)
    process = begin(kept, cut, point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert settled(kept.db) == (good if point == "amend.committed" else damaged)
    process = begin(kept, cut)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["rewind"]["done"] == (point != "amend.committed")
    assert contents(kept.db) == good


def test_killed_at_random_instants(kept: Kept) -> None:
    good, cut = contents(kept.db), kept.look()
    kept.db.run(*DAMAGE)
    damaged, chance = contents(kept.db), random.Random(11)
    # It commits near the end of its life, most of which it loads libraries.
    started = time.monotonic()
    assert begin(kept, cut).wait(60) == 0
    whole = time.monotonic() - started
    for _ in range(10):
        kept.db.run("DELETE FROM item WHERE tenant = 't3'", "DELETE FROM log WHERE tenant = 't3'")
        before = contents(kept.db)
        process = begin(kept, cut)
        time.sleep(whole * (0.6 + 0.4 * chance.random()))
        process.kill()
        process.communicate()
        assert settled(kept.db) in (before, good)
        assert begin(kept, cut).wait(60) == 0
        assert contents(kept.db) == good
    assert damaged != good


def test_a_server_that_dies_in_the_middle_has_done_nothing(own_server: NewServer, open_folder: Path) -> None:
    """A row that must change is held by another session when the server gets SIGKILL: half of the rest was changed by then."""
    server = own_server()
    server.start()
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE DATABASE shop")
    db = Database(server, 18, "shop")
    db.run(*TABLES, *ROWS)
    kept = Kept(db, open_folder)
    good, cut = contents(db), kept.look()
    db.run(*DAMAGE)
    damaged = contents(db)
    holder = db.connect(autocommit=False)
    holder.execute("SELECT FROM shop WHERE tenant = 't3' FOR UPDATE")
    failed: list[Exception] = []

    def try_it() -> None:
        try:
            rewind(kept.vault, kept.vault.resolve(show(cut)), db.dsn, Rewinding("t3"))
        except RestoreError as error:
            failed.append(error)

    rewinding = threading.Thread(target=try_it)
    rewinding.start()
    deadline = time.monotonic() + 20
    while not db.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        assert time.monotonic() < deadline, "it does not wait"
        time.sleep(0.01)
    server.kill()
    rewinding.join(30)
    assert not rewinding.is_alive()
    assert len(failed) == 1
    server.start()
    assert contents(db) == damaged
    assert rewind(kept.vault, kept.vault.resolve(show(cut)), db.dsn, Rewinding("t3")).done
    assert contents(db) == good
