"""A merge that is killed at any instant and run again: every item is applied once, whole, and none is missing."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psycopg
import pytest

from ballast.recovery import MergeItem, refusals
from tests.fix_postgres import Database
from tests.integration.test_merge_back import BEGUN, TABLES

# What an item does takes several statements: half of it would be seen in the sums.
HANDLER = """
import os, time

def take_in(conn, item):
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    conn.execute("UPDATE stock SET n = n - 1 WHERE shop = %s AND sku = 'tea'", [item.tenant])
    conn.execute("INSERT INTO orders (shop, no, sku, n) VALUES (%s, %s, 'tea', 1)", [item.tenant, item.key])
"""
SHOPS, EACH = 6, 30


@pytest.fixture
def intake(tmp_path: Path) -> Path:
    (tmp_path / "shop_intake.py").write_text(HANDLER)
    lines = [
        msgspec.json.encode(MergeItem(f"s{s}", f"o{n}", "order", {"n": n}, BEGUN))
        for n in range(EACH)
        for s in range(1, SHOPS + 1)
    ]
    (tmp_path / "intake.jsonl").write_bytes(b"\n".join(lines))
    return tmp_path / "intake.jsonl"


@pytest.fixture
def shops(pg18: Database) -> Database:
    pg18.run(*TABLES, f"UPDATE stock SET n = {EACH - 5}")  # the last five of each shop are refused
    return pg18


def start(db: Database, intake: Path, *, fail: str = "", slowly: float = 0.0) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ballast.cli", "merge", "--json", "--into", db.dsn]
    return subprocess.Popen(
        [*command, "--from", str(intake), "--handler", "shop_intake:take_in"],
        env={**os.environ, "BALLAST_FAIL": fail, "SLOWLY": str(slowly)}, cwd=intake.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def whole(db: Database) -> None:
    """At any instant: an order for each line of the register, and the stock less by exactly so many."""
    ((orders, applied, missing, used),) = db.query(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM ballast_merge.applied),"
        " (SELECT count(*) FROM orders o FULL JOIN ballast_merge.applied a ON a.tenant = o.shop AND a.key = o.no"
        "  WHERE o.shop IS NULL OR a.tenant IS NULL), (SELECT sum(%s - n) FROM stock)",
        EACH - 5,
    )
    assert missing == 0
    assert orders == applied == used


def finish(db: Database, intake: Path) -> None:
    process = start(db, intake)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err.decode()  # some are refused
    whole(db)
    assert db.query("SELECT count(*) FROM orders") == [(SHOPS * (EACH - 5),)]
    kept = refusals(db.dsn)
    assert len(kept) == SHOPS * 5
    assert {refusal.attempts for refusal in kept} == {1}
    assert {refusal.key for refusal in kept} == {f"o{n}" for n in range(EACH - 5, EACH)}
    for shop in range(1, SHOPS + 1):
        numbers = [int(no[1:]) for (no,) in db.query("SELECT no FROM orders WHERE shop = %s ORDER BY at", f"s{shop}")]
        assert numbers == list(range(EACH - 5)), "in order, across the kill"


@pytest.mark.parametrize(
    "point", ["merge.handled", "merge.handled:40", "merge.handled:170", "merge.committed", "merge.committed:41", "merge.committed:179"]
)  # fmt: skip
def test_killed_between_an_item_and_its_commit_or_just_after(shops: Database, intake: Path, point: str) -> None:
    process = start(shops, intake, fail=point)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    whole(shops)
    finish(shops, intake)


def test_killed_anywhere_again_and_again(shops: Database, intake: Path) -> None:
    chance = random.Random(4)
    killed = 0
    for _ in range(6):
        process = start(shops, intake)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            if _applied(shops) > 10 * killed:
                break
            time.sleep(0.02)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.communicate(timeout=30)
        killed += process.returncode == -signal.SIGKILL
        if _applied(shops) >= 0:
            whole(shops)
    assert killed >= 2
    finish(shops, intake)


def test_the_connections_are_lost_in_the_middle(shops: Database, intake: Path) -> None:
    process = start(shops, intake, slowly=0.1)
    while process.poll() is None and _applied(shops) < 5:
        time.sleep(0.02)
    with psycopg.connect(shops.server.dsn(), autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ballast merge'")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"run the same again: it goes on" in b" ".join(out.split())
    whole(shops)
    finish(shops, intake)


def _applied(db: Database) -> int:
    """-1 before the register is there."""
    if db.query("SELECT to_regclass('ballast_merge.exception')") == [(None,)]:
        return -1
    ((count,),) = db.query("SELECT count(*) FROM ballast_merge.applied")
    return int(count)
