"""The whole way: protect, record, lose it, restore. Each moment that was looked at comes back as it was seen."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ballast.recovery import Request, restore
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from tests.fix_postgres import Database
from tests.fix_protected import Look, Protected, table_rows

pytestmark = pytest.mark.any_version

TABLES = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text)",
    "CREATE TABLE item (shop int REFERENCES shop, id bigserial, body text, PRIMARY KEY (shop, id))",
    "CREATE TABLE part (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, item_shop int, item_id bigint, n int,"
    " FOREIGN KEY (item_shop, item_id) REFERENCES item ON DELETE CASCADE)",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (shop int, said text)",
    "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(1, 6) g",
    "INSERT INTO item (shop, body) SELECT s, repeat(md5(g::text), g * 30) FROM generate_series(1, 6) s, generate_series(1, 9) g",
    "INSERT INTO part (item_shop, item_id, n) SELECT shop, id, 1 FROM item, generate_series(1, 3)",
    "INSERT INTO word VALUES ('a', 'b')",
    "INSERT INTO log SELECT g % 6 + 1, 'same' FROM generate_series(1, 30) g",
)
STEPS = (
    (
        "UPDATE item SET shop = shop WHERE id % 2 = 0",
        "UPDATE part SET n = n + 1",
        "DELETE FROM log WHERE ctid = '(0,3)'",
    ),
    ("DELETE FROM item WHERE id % 5 = 0", "INSERT INTO log VALUES (2, 'more')", "UPDATE word SET said = NULL"),
    ("TRUNCATE log", "INSERT INTO shop VALUES (9, 'new')", "INSERT INTO item (shop, body) VALUES (9, E'tab\\t')"),
    (
        "ALTER TABLE item ADD COLUMN colour text DEFAULT 'red'",
        "ALTER TABLE word RENAME COLUMN said TO told",
        "CREATE TABLE later (shop int REFERENCES shop, id serial, PRIMARY KEY (shop, id))",
        "INSERT INTO later (shop) VALUES (1), (9)",
        "UPDATE item SET colour = 'blue' WHERE shop = 2",
        "CREATE INDEX item_colour ON item (colour)",
    ),
)


def same(db: Database, look: Look) -> None:
    with db.connect(options="-c search_path= -c TimeZone=UTC") as conn:
        assert table_rows(conn) == look.rows


def test_each_moment_comes_back(pg: Database, new_protected: Callable[..., Protected]) -> None:
    pg.run(*TABLES)
    protected = new_protected(pg, Tenants(column="shop", shared=("public.word",)))
    protected.protect()
    protected.start()
    looks, moments = [protected.look()], [datetime.now(UTC)]
    for commands in STEPS:
        time.sleep(0.02)
        pg.run(*commands)
        time.sleep(0.02)
        moments.append(datetime.now(UTC))
        looks.append(protected.look())
    pg.run("DELETE FROM part", "DELETE FROM later")
    protected.sealed(looks[-1].cut)
    vault = protected.vault()

    for look in looks:
        to = pg.another()
        report = restore(vault, vault.resolve(show(look.cut)), to.dsn, Request())
        assert report.proven, report
        same(to, look)
        assert not to.query("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'ballast%'")
        assert not to.query("SELECT 1 FROM pg_event_trigger")
        to.run("INSERT INTO item (shop, body) VALUES (1, 'goes on')", "INSERT INTO part (item_shop, n) VALUES (1, 1)")

    to = pg.another()
    command = [sys.executable, "-m", "ballast.cli", "restore", "--vault", protected.config.vault, "--into", to.dsn]
    told = subprocess.run(
        [*command, "--at", moments[2].isoformat(), "--json"], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(told.stdout)["proven"]
    same(to, looks[2])


def test_one_tenant_goes_back_while_the_others_write_on(pg: Database, new_protected: Callable[..., Protected]) -> None:
    pg.run(*TABLES)
    protected = new_protected(pg, Tenants(column="shop", shared=("public.word",)))
    protected.protect()
    protected.start()
    before = protected.look()
    pg.run("DELETE FROM item WHERE shop = 3", "UPDATE shop SET name = 'gone'", "DELETE FROM log WHERE shop = 3")
    after = protected.look()
    protected.sealed(after.cut)
    vault = protected.vault()
    report = restore(vault, vault.resolve(show(before.cut)), pg.dsn, Request(tenants=("3",), replace=True))
    assert report.proven
    now = protected.look()

    def of(look: Look, table: str, shop: bytes, *, mine: bool) -> list[bytes]:
        column = 1 if table == "part" else 0
        return [line for line in look.rows[f"public.{table}"] if (line.split(b"\t")[column] == shop) is mine]

    for table in ("shop", "item", "part", "log"):
        assert of(now, table, b"3", mine=True) == of(before, table, b"3", mine=True)
        assert of(now, table, b"3", mine=False) == of(after, table, b"3", mine=False)
    # What was put back was recorded like any other change.
    protected.sealed(now.cut)
    vault = protected.vault()
    to = pg.another()
    assert restore(vault, vault.resolve(show(now.cut)), to.dsn, Request()).proven
    same(to, now)
