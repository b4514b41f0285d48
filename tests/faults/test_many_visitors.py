"""A thousand calls of `ensure` for two hundred tenants, while all are brought back and those that are back write."""

from __future__ import annotations

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from ballast.recovery import Priority, Progress, Wish, recover
from tests.fix_postgres import Connection, Database
from tests.kept import Kept, contents, structure

pytestmark = pytest.mark.any_version

TENANTS, CALLS, SESSIONS = 200, 1000, 60
TABLES = (
    "CREATE TABLE shop (tenant text PRIMARY KEY, name text)",
    "CREATE TABLE item (tenant text REFERENCES shop, id bigserial PRIMARY KEY, label text)",
    "CREATE TABLE log (tenant text, said text)",
    "CREATE INDEX item_label ON item (label)",
)
ROWS = (
    f"INSERT INTO shop SELECT 't' || g, 'Shop ' || g FROM generate_series(1, {TENANTS}) g",
    f"INSERT INTO item (tenant, label) SELECT 't' || g, md5(h::text) FROM generate_series(1, {TENANTS}) g, generate_series(1, 60) h",
    f"INSERT INTO log SELECT 't' || g, 'twice' FROM generate_series(1, {TENANTS}) g, generate_series(1, 2)",
)


@pytest.mark.timeout(300)
def test_each_tenant_comes_back_once_and_no_write_is_lost(pg: Database, open_folder: Path) -> None:
    pg.run(*TABLES, *ROWS, "CREATE ROLE visitor LOGIN", "GRANT SELECT, INSERT ON shop, item, log TO visitor")
    pg.run("GRANT USAGE ON SEQUENCE item_id_seq TO visitor")
    kept = Kept(pg, open_folder)
    kept.look()
    to = pg.another()
    opened = threading.Event()
    problems: list[str] = []
    waited: list[int] = []
    written: Counter[str] = Counter()
    lock = threading.Lock()

    class Onlooker:
        def begin(self, stage: str, rows: int) -> None: ...
        def advance(self, rows: int) -> None: ...
        def say(self, line: str) -> None: ...
        def progressed(self, progress: Progress) -> None:
            waited.append(progress.tenants_waited_for)

        def opened(self) -> None:
            opened.set()

    own = threading.local()

    def session() -> Connection:
        if not hasattr(own, "conn"):
            own.conn = to.connect(user="visitor", autocommit=False)
        conn: Connection = own.conn
        return conn

    def visit(number: int) -> None:
        tenant = f"t{random.Random(number).randint(1, TENANTS)}"
        conn = session()
        try:
            with conn.transaction():
                assert conn.execute("SELECT ballast.ensure_tenant(%s)", (tenant,)).fetchone() == (True,)
                (items,) = conn.execute(
                    "SELECT count(*) FROM item WHERE tenant = %s AND label <> 'since'", (tenant,)
                ).fetchone() or (0,)
                assert items == 60, f"{tenant} has {items} items"
                conn.execute("INSERT INTO item (tenant, label) VALUES (%s, 'since')", (tenant,))
        except (psycopg.Error, AssertionError) as problem:
            # Recovery may be over before the last calls: then there is no such function any more, and no need of it.
            if getattr(problem, "sqlstate", None) not in ("42883", "3F000", "42P01"):
                problems.append(f"{tenant}: {problem!r}")
            return
        with lock:
            written[tenant] += 1

    def everybody_comes() -> None:
        opened.wait(60)
        with ThreadPoolExecutor(SESSIONS) as visitors:
            list(visitors.map(visit, range(CALLS)))

    crowd = threading.Thread(target=everybody_comes)
    crowd.start()
    # Ranks for all make each tenant a transaction of its own: so there is time to be asked for meanwhile.
    ranks = open_folder / "ranks"
    ranks.write_text("".join(f"t{n}\n" for n in range(TENANTS, 0, -1)))
    wish = Wish(priority=Priority(file=ranks))
    recovered = recover(kept.vault, kept.vault.resolve(None), to.dsn, wish, Onlooker())
    crowd.join(240)
    assert not problems
    assert max(waited) > 1
    assert recovered.proven
    assert recovered.tenants == TENANTS
    assert recovered.rows == sum(map(len, contents(pg).values()))
    since = dict(to.query("SELECT tenant, count(*) FROM item WHERE label = 'since' GROUP BY 1"))
    assert since == dict(written)
    assert sum(written.values()) > CALLS // 2
    to.run("DELETE FROM item WHERE label = 'since'", "DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(pg)
    assert structure(to) == structure(pg)
