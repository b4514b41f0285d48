"""A platform's whole story by its commands: protected, lost, recovered and protected in one, and every moment still there."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fix_postgres import Database, NewServer

DATABASE = (
    "CREATE TABLE country (code text PRIMARY KEY)",
    "CREATE TABLE shops (shop_id int PRIMARY KEY, name text)",
    "CREATE TABLE orders (shop_id int REFERENCES shops, id int, fen int, PRIMARY KEY (shop_id, id))",
    "CREATE TABLE log (shop_id int, line text)",
    "INSERT INTO country VALUES ('CN'), ('DE')",
    "INSERT INTO shops SELECT g, 's' || g FROM generate_series(1, 20) g",
    "INSERT INTO orders SELECT 1 + g % 20, g, g FROM generate_series(1, 1000) g",
    "INSERT INTO log SELECT 1 + g % 20, 'line ' || g % 3 FROM generate_series(1, 200) g",
)
SHOP_7 = "SELECT * FROM orders WHERE shop_id = 7 ORDER BY id"


class Owner:
    """Somebody with a folder, the commands, and a recorder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vault = folder, str(folder / "vault")
        self.recorder: subprocess.Popen[bytes] | None = None

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ballast.cli", *arguments],
            cwd=self.folder, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def ballast(self, *arguments: str) -> str:
        done = self.call(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def record(self) -> None:
        """Until commits wait for the recorder."""
        with (self.folder / "recorder.log").open("ab") as log:
            self.recorder = subprocess.Popen(
                [sys.executable, "-m", "ballast.cli", "record"], cwd=self.folder, stderr=log
            )
        deadline = time.monotonic() + 60
        while "(RPO 0)" not in (said := self.call("status").stdout):
            assert time.monotonic() < deadline, said
            time.sleep(1.5)  # asking costs a second of a processor

    def stop(self) -> None:
        if self.recorder is not None:
            self.recorder.terminate()
            assert self.recorder.wait(60) == 0
            self.recorder = None

    def drill(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ballast("drill", "--all", "--json"))
        return document


@pytest.fixture
def owner(open_folder: Path) -> Iterator[Owner]:
    made = Owner(open_folder)
    yield made
    if made.recorder is not None:
        made.recorder.kill()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_lost_platform_comes_back_and_goes_on(owner: Owner, own_server: NewServer, pg18: Database) -> None:
    server = own_server()
    server.start()
    lost = Database(server, 18, "postgres")
    lost.run(*DATABASE)
    owner.ballast(
        "protect", lost.dsn, "--vault", owner.vault, "--tenant-column", "shop_id", "--shared", "public.country"
    )
    owner.record()
    lost.run("INSERT INTO orders VALUES (7, 5000, 1)")
    shop = lost.query(SHOP_7)
    time.sleep(0.1)
    moment = datetime.now(UTC).isoformat()
    time.sleep(0.1)
    lost.run("DELETE FROM orders WHERE shop_id = 7 AND id < 500", "UPDATE shops SET name = 'renamed' WHERE shop_id = 8")
    before = {table: sorted(lost.query(f"SELECT * FROM {table}")) for table in ("country", "shops", "orders", "log")}
    server.kill()
    owner.stop()  # puts what it holds into the vault

    recovered = owner.ballast(
        "recover", "--vault", owner.vault, "--into", pg18.dsn
    )  # with the ballast.toml that is there
    assert "proven equal" in recovered
    assert "protected: timeline 2" in recovered
    assert {table: sorted(pg18.query(f"SELECT * FROM {table}")) for table in before} == before

    assert "already protected" in owner.ballast("protect", pg18.dsn)
    owner.record()
    pg18.run("INSERT INTO orders VALUES (7, 6000, 1)")
    assert owner.drill()["differences"] == []

    past = pg18.another()
    owner.ballast("restore", "--vault", owner.vault, "--into", past.dsn, "--at", moment)
    assert past.query(SHOP_7) == shop

    owner.ballast("rewind", "--tenant", "7", "--at", moment, "--reason", "the import was wrong")
    assert pg18.query(SHOP_7) == shop
    assert sorted(pg18.query("SELECT * FROM shops")) == before["shops"]
    assert owner.drill()["differences"] == []
    owner.ballast("verify", "--vault", owner.vault, "--config", "ballast.toml")
    owner.stop()
    owner.ballast("unprotect")
    with psycopg.connect(pg18.dsn) as conn:
        assert conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'ballast'").fetchone() is None
