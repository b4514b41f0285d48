"""One tenant is rewound while all others write: nobody waits for it, nothing of theirs is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault.moment import show
from tests.faults.test_restore_kills import ROWS, TABLES
from tests.faults.test_rewind_kills import DAMAGE
from tests.fix_postgres import Connection, Database
from tests.kept import Kept, contents

pytestmark = pytest.mark.any_version

# What the others' transactions touch: every table, by keys and foreign keys, and what all tenants share.
WRITES = (
    "UPDATE shop SET name = name || '.' WHERE tenant = %(tenant)s",
    "INSERT INTO item (tenant, label) VALUES (%(tenant)s, 'busy')",
    "UPDATE item SET label = label || '.' WHERE tenant = %(tenant)s AND label LIKE 'busy%%'",
    "DELETE FROM item WHERE id = (SELECT min(id) FROM item WHERE tenant = %(tenant)s AND label NOT LIKE 'busy%%')",
    "INSERT INTO log VALUES (%(tenant)s, 'busy')",
    "INSERT INTO log SELECT %(tenant)s, said FROM word LIMIT 1",
)
WAITS_FOR_US = """
SELECT w.pid, w.query, b.query FROM pg_stat_activity w, unnest(pg_blocking_pids(w.pid)) AS blocker
  JOIN pg_stat_activity b ON b.pid = blocker
 WHERE w.application_name = 'others' AND w.wait_event_type = 'Lock' AND b.application_name <> 'others'
"""


@pytest.fixture
def kept(pg: Database, open_folder: Path) -> Kept:
    pg.run(*TABLES, *ROWS)
    return Kept(pg, open_folder)


def transact(conn: Connection, tenant: str) -> None:
    """One transaction of another tenant."""
    with conn.transaction():
        for statement in WRITES:
            conn.execute(statement.encode(), {"tenant": tenant})


def rows_of(db: Database, tenant: str) -> dict[str, list[bytes]]:
    name = tenant.encode()
    return {table: [line for line in lines if line.split(b"\t")[0] == name] for table, lines in contents(db).items()}


@pytest.mark.timeout(120)
def test_a_rewind_that_hangs_with_all_its_locks_holds_nobody_up(kept: Kept) -> None:
    """A session of the same tenant holds a row that must change: the rewind waits for it, in its transaction."""
    good, cut = rows_of(kept.db, "t3"), kept.look()
    kept.db.run(*DAMAGE)
    holder = kept.db.connect(autocommit=False)
    holder.execute("SELECT FROM log WHERE tenant = 't3' FOR UPDATE")
    done: list[bool] = []
    rewinding = threading.Thread(
        target=lambda: done.append(rewind(kept.vault, kept.vault.resolve(show(cut)), kept.db.dsn, Rewinding("t3")).done)
    )
    rewinding.start()
    deadline = time.monotonic() + 30
    while not kept.db.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
        assert time.monotonic() < deadline, "it does not wait"
        time.sleep(0.01)
    held = kept.db.query(
        "SELECT DISTINCT mode FROM pg_locks WHERE locktype = 'relation' AND granted AND pid = (SELECT pid FROM"
        " pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT 1)"
    )
    assert ("RowExclusiveLock",) in held, "it has begun to write"
    assert {mode for (mode,) in held} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}, "none stops a writer"
    app = kept.db.connect(options="-c lock_timeout=5s")
    for number in (*range(1, 3), *range(4, 31)):
        transact(app, f"t{number}")
    assert not done
    holder.rollback()
    rewinding.join(60)
    assert done == [True]
    assert rows_of(kept.db, "t3") == good


@pytest.mark.timeout(120)
def test_rewinds_under_full_load_of_the_others(kept: Kept) -> None:
    good, cut = rows_of(kept.db, "t3"), kept.look()
    stop = threading.Event()
    committed: Counter[str] = Counter()
    problems: list[str] = []
    waits: list[object] = []

    def others(tenants: list[str]) -> None:
        conn = kept.db.connect(application_name="others")
        while not stop.is_set():
            for tenant in tenants:
                try:
                    transact(conn, tenant)
                    committed[tenant] += 1
                except psycopg.Error as error:
                    problems.append(f"{tenant}: {error}")

    def look() -> None:
        conn = kept.db.connect()
        while not stop.is_set():
            waits.extend(conn.execute(WAITS_FOR_US.encode()).fetchall())
            time.sleep(0.002)

    names = [f"t{n}" for n in range(1, 31) if n != 3]
    crowd = [threading.Thread(target=others, args=(names[n::4],)) for n in range(4)]
    crowd.append(threading.Thread(target=look))
    for thread in crowd:
        thread.start()
    resolved = kept.vault.resolve(show(cut))
    try:
        for _ in range(12):
            kept.db.run(*DAMAGE)
            assert rewind(kept.vault, resolved, kept.db.dsn, Rewinding("t3")).done
            assert rows_of(kept.db, "t3") == good
    finally:
        stop.set()
        for thread in crowd:
            thread.join(30)
    assert not problems
    assert not waits, "others waited for the rewind"
    written = kept.db.query("SELECT tenant, count(*) FROM log WHERE said = 'busy' GROUP BY tenant")
    assert dict(written) == dict(committed)
    assert len(committed) == len(names)
