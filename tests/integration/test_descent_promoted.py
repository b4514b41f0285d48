"""A failover to a standby that lacks commits: the record goes on from where it left, and what was lost is a side branch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ballast.postgres.embedded import EmbeddedServer
from ballast.vault.config import Tenants
from ballast.vault.moment import show
from ballast.vault.records import Cut
from tests.fix_descent import promote, protect_on, standby_of
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Look, Protected, assert_equal, vault_rows

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
        over.standby.run("INSERT INTO item VALUES (1, 200, 'after')", "UPDATE item SET body = body || 'x', n = 9 WHERE id = 1")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        vault = protected.vault()
        assert_equal(vault, look)
        assert_equal(vault, over.lost)
        assert vault_rows(vault, Cut(1, begun.fork_lsn)) == over.common.rows
        # A moment of the time before the failover leads to the parent; the lost ones are not on the way to now.
        lost_at = [r for r in history_of(vault, "1", "100")]
        assert lost_at == []
        protected.verified()


def history_of(vault: object, shop: str, item: str) -> list[object]:
    from ballast.errors import ConfigError
    from ballast.vault.history import history

    try:
        return list(history(vault, "item", [item], tenant=shop).versions)  # type: ignore[arg-type]
    except ConfigError:
        return []


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
