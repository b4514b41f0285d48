"""A failover to a standby that lacks commits: the record goes on from where it left, and what was lost is a side branch."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.errors import ConfigError
from ballast.postgres.embedded import EmbeddedServer
from ballast.recovery.branch import Merging, lost
from ballast.vault.branches import branch_of
from ballast.vault.config import Tenants
from ballast.vault.examine import examine
from ballast.vault.history import history
from ballast.vault.moment import show
from ballast.vault.protect import foresee
from ballast.vault.records import Cut
from ballast.vault.settle import wanted_of
from tests.fix_descent import promote, protect_on, standby_of
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Look, Protected, assert_equal, vault_rows

pytestmark = pytest.mark.any_version

SHOPS = Tenants(column="shop", shared=("public.word",))
TABLES = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text)",
    "CREATE TABLE item (shop int REFERENCES shop, id int, body text, n int DEFAULT 0, PRIMARY KEY (shop, id))",
    "CREATE TABLE part (id int PRIMARY KEY, item_shop int, item_id int, n int,"
    " FOREIGN KEY (item_shop, item_id) REFERENCES item ON DELETE CASCADE)",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (shop int, said text)",
    "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(1, 4) g",
    "INSERT INTO item SELECT s, g, repeat(md5(g::text), g * 30) FROM generate_series(1, 4) s, generate_series(1, 9) g",
    "INSERT INTO part SELECT shop * 100 + id, shop, id, 1 FROM item",
    "INSERT INTO word VALUES ('a', 'b')",
    "INSERT INTO log SELECT g % 4 + 1, 'same' FROM generate_series(1, 20) g",
)
LOST = (
    "INSERT INTO item VALUES (1, 100, 'lost')",
    "UPDATE item SET n = 7 WHERE shop = 2 AND id = 1",
    "UPDATE item SET n = 7 WHERE shop = 2 AND id = 2",
    "DELETE FROM item WHERE shop = 3 AND id = 9",
    "INSERT INTO log VALUES (4, 'lost')",
    "UPDATE word SET said = 'lost'",
)


class Failover:
    """A protected primary whose standby stopped receiving before the last commits, and was promoted."""

    def __init__(self, protected: Protected, primary: Database, standby: EmbeddedServer) -> None:
        self.protected, self.primary = protected, primary
        self.standby = Database(standby, primary.major, "postgres")
        self.common = protected.look()
        self._wait_for_standby()
        self._part()
        primary.run(*LOST)
        self.lost: Look = protected.look()
        protected.sealed(self.lost.cut)

    def _wait_for_standby(self) -> None:
        ((until,),) = self.primary.query("SELECT pg_current_wal_lsn()::text")
        deadline = time.monotonic() + 30
        while not self.standby.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", until)[0][0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _part(self) -> None:
        """The line between the two is cut: the standby sees no further commit."""
        self.standby.run("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        deadline = time.monotonic() + 30
        while self.standby.query("SELECT count(*) FROM pg_stat_wal_receiver")[0][0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def happen(self) -> None:
        """The primary is gone and the standby takes its place; the recorder finds out, and ends."""
        self.primary.server.kill()
        promote(self.standby.server)


@contextmanager
def failover(
    own_server: NewServer, new_protected: Callable[..., Protected], folder: Path, major: int
) -> Iterator[Failover]:
    server = own_server(major=major)
    server.start()
    db = Database(server, major, "postgres")
    db.run(*TABLES)
    protected = new_protected(db, SHOPS)
    standby = None
    try:
        protected.protect()
        protected.start()
        db.run("UPDATE item SET n = 1 WHERE id = 5", "INSERT INTO item VALUES (4, 50, 'common')")
        standby = standby_of(server, folder / "standby")
        yield Failover(protected, db, standby)
    finally:
        protected.end()
        if standby is not None:
            standby.kill()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("major", [16, 18])
def test_a_failover_that_lost_commits_is_a_fork_without_an_image(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path, major: int
) -> None:
    with failover(own_server, new_protected, open_folder, major) as over:
        protected = over.protected
        over.happen()
        protected.kill()
        settings = msgspec.structs.replace(protected.config, dsn=over.standby.dsn)
        looked = examine(settings.dsn, settings.tenants, wanted_of(settings))
        told = foresee(settings, settings.dsn, looked).report.changes
        assert [line for line in told if "The server was promoted, and has every commit up to 1/" in line]
        assert "compared with the record" in told[-1]
        outcome = protect_on(protected, over.standby)
        assert (outcome.did, outcome.timeline, outcome.rows) == ("another timeline", 2, 0)
        vault = protected.vault()
        begun = vault.index.timelines[2]
        assert begun.parent == 1
        assert begun.fork_lsn is not None
        assert over.common.cut.lsn <= begun.fork_lsn < over.lost.cut.lsn
        assert not [i for i in vault.index.images if i.timeline == 2]
        assert not vault.index.gaps
        protected.start()
        over.standby.run(
            "INSERT INTO item VALUES (1, 200, 'after')", "UPDATE item SET body = body || 'x', n = 9 WHERE id = 1"
        )
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        vault = protected.vault()
        assert_equal(vault, look)
        assert_equal(vault, over.lost)
        assert vault_rows(vault, Cut(1, begun.fork_lsn)) == over.common.rows
        # What was lost is no part of the history of now; what was common is.
        with pytest.raises(ConfigError, match="knows no row"):
            history(vault, "item", ["100"], tenant="1")
        assert [v.what for v in history(vault, "item", ["50"], tenant="4").versions] == ["insert"]
        assert [v.what for v in history(vault, "item", ["100"], tenant="1", timeline=1).versions] == ["insert"]
        protected.verified()


@pytest.mark.timeout(240)
def test_what_was_committed_before_protection_is_imaged(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    with failover(own_server, new_protected, open_folder, 18) as over:
        protected = over.protected
        over.happen()
        protected.kill()
        # Whoever promotes it must let commits go first: the setting that waits for the recorder came with the copy.
        with psycopg.connect(over.standby.dsn, autocommit=True) as conn:
            conn.execute("SET synchronous_commit = local")
            conn.execute("UPDATE shop SET name = 'unseen' WHERE shop = 1")
        outcome = protect_on(protected, over.standby)
        assert outcome.rows == 4, "table shop alone"
        vault = protected.vault()
        (gap,) = vault.index.gaps.values()
        assert (gap.timeline, gap.from_lsn) == (2, vault.index.timelines[2].fork_lsn)
        protected.start()
        over.standby.run("UPDATE shop SET name = 'seen' WHERE shop = 2")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        assert protected.vault().resolve(show(look.cut)).exact
        protected.verified()


def ballast(protected: Protected, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "ballast.cli", *arguments, "--vault", protected.config.vault, "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.timeout(240)
def test_lost_commits_are_a_branch_and_come_back(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    with failover(own_server, new_protected, open_folder, 16) as over:
        protected = over.protected
        assert ballast(protected, "branches") == []
        over.happen()
        protected.kill()
        protect_on(protected, over.standby)
        (branch,) = ballast(protected, "branches")
        assert (branch["timeline"], branch["commits"], branch["base"]["timeline"]) == (1, len(LOST), 1)
        protected.start()
        over.standby.run(
            "UPDATE item SET n = 8 WHERE shop = 2 AND id = 1",
            "INSERT INTO item VALUES (3, 200, 'after')",
            "UPDATE item SET body = 'after' WHERE shop = 1 AND id = 2",
        )
        before = protected.look()
        protected.sealed(before.cut)

        lost = {t["tenant"]: t["tables"] for t in ballast(protected, "branch", "1")["lost"]}
        counts = {
            (tenant, t["table"].removeprefix("public.")): (t["added"], t["changed"], t["removed"])
            for tenant, tables in lost.items()
            for t in tables
        }
        assert counts == {
            (None, "word"): (0, 1, 0), ("1", "item"): (1, 0, 0), ("2", "item"): (0, 2, 0), ("3", "item"): (0, 0, 1),
            ("3", "part"): (0, 0, 1), ("4", "log"): (1, 0, 0),
        }  # fmt: skip
        looked = ballast(protected, "branch", "1", "--into", over.standby.dsn)
        assert protected.look().rows == before.rows, "looking changes nothing"
        told = ballast(protected, "branch", "1", "--into", over.standby.dsn, "--apply", code=1)
        assert told["tenants"] == looked["tenants"]
        by_tenant = {t["tenant"]: t for t in told["tenants"]}
        (conflict,) = by_tenant["2"]["tables"][0]["conflicts"]
        assert conflict["key"] == {"shop": "2", "id": "1"}
        assert "no key" in by_tenant["4"]["tables"][0]["conflicts"][0]["why"]

        def items(where: str) -> list[tuple[Any, ...]]:
            return over.standby.query(f"SELECT shop, id, n, left(body, 5) FROM item WHERE {where} ORDER BY 1, 2")

        assert items("id = 100") == [(1, 100, 0, "lost")]
        assert [n for _, _, n, _ in items("shop = 2 AND id <= 2")] == [8, 7], "what was written since stays"
        assert not items("shop = 3 AND id = 9")
        assert not over.standby.query("SELECT FROM part WHERE id = 309"), "what went with it"
        assert items("id = 200") == [(3, 200, 0, "after")]
        assert over.standby.query("SELECT said FROM word") == [("lost",)]

        again = ballast(protected, "branch", "1", "--into", over.standby.dsn, "--apply", code=1)
        there = sum(t["there_already"] for tenant in again["tenants"] for t in tenant["tables"])
        assert there == 5, "a second call finds it done"
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        (version,) = history(protected.vault(), "item", ["100"], tenant="1").versions
        assert version.actor is not None
        assert "branch 1" in version.actor
        protected.verified()


@pytest.mark.timeout(240)
def test_a_branch_whose_rows_lack_their_parents_is_kept(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    with failover(own_server, new_protected, open_folder, 18) as over:
        protected = over.protected
        over.happen()
        protected.kill()
        protect_on(protected, over.standby)
        protected.start()
        over.standby.run(
            "DELETE FROM part WHERE item_shop = 1", "DELETE FROM item WHERE shop = 1", "DELETE FROM shop WHERE shop = 1"
        )
        vault = protected.vault()
        branch = branch_of(vault, 1)
        with Merging(vault, branch, over.standby.dsn) as merging:
            (outcome,) = [merging.put_back(loss) for loss in lost(vault, branch, tenants=["1"])]
        assert "foreign keys would be broken" in outcome.refused
        assert not over.standby.query("SELECT FROM item WHERE shop = 1"), "nothing was kept"
        protected.stop()
