"""`ballast protect` after a loss: nothing that was acknowledged is left behind, and nobody hangs for ever."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import psycopg
import pytest

from ballast.vault import arming, examine, health, protect, undertaking, wish
from ballast.vault.checks import Wanted
from ballast.vault.config import Tenants
from ballast.vault.records import Cut
from ballast.vault.spool import Spool
from ballast.vault.spoolfiles import closed_files
from ballast.vault.standby import has, read_standbys
from tests.fix_pipeline import log_lines
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Protected, Silent, assert_equal, vault_rows

SHOPS = Tenants(column="shop")
TABLE = "CREATE TABLE t (id int PRIMARY KEY, shop int)"


def ids(protected: Protected, cut: Cut) -> set[int]:
    return {int(line.split(b"\t")[0]) for line in vault_rows(protected.vault(), cut)["public.t"]}


def standby_names(db: Database) -> str:
    with db.connect() as conn:
        return read_standbys(conn, "ballast").setting


def test_a_lost_slot_while_commits_hang(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    """Making a slot waits for what hangs, and what hangs waits for a recorder: `protect` lets it go first."""
    pg18.run(TABLE)
    protected = new_protected(pg18, SHOPS)
    try:
        protected.protect()
        protected.start()
        pg18.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 100) g")
        protected.kill()
        hangs = threading.Thread(target=pg18.run, args=("INSERT INTO t VALUES (1000, 1)",))
        hangs.start()
        hangs.join(1.0)
        assert hangs.is_alive()
        with pg18.connect() as conn:
            conn.execute("SET synchronous_commit = local")
            conn.execute("SELECT pg_drop_replication_slot('ballast')")
        outcome = protected.protect()
        assert outcome.did == "begun anew"
        hangs.join(10.0)
        assert not hangs.is_alive()
        assert not has(standby_names(pg18), "ballast")
        exposed = arming.read_record(protected.config.state_dir).exposed
        assert exposed is not None
        assert "slot" in exposed.why
        vault = protected.vault()
        (gap,) = vault.index.gaps.values()
        assert gap.to_lsn is not None
        assert set(range(1, 101)) <= ids(protected, Cut(1, gap.from_lsn)), "what only the spool held is sealed"
        assert 1000 in ids(protected, Cut(1, gap.to_lsn))
        protected.start()
        assert has(standby_names(pg18), "ballast")
        protected.stop()
    finally:
        protected.end()
        with pg18.connect() as conn:
            conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
            conn.execute("SELECT pg_reload_conf()")


def test_another_server_leaves_nothing_in_the_spool(
    own_server: NewServer, open_folder: Path, new_protected: Callable[..., Protected]
) -> None:
    servers = [own_server(), own_server()]
    for server in servers:
        server.start()
    old, new = (Database(server, 18, "postgres") for server in servers)
    for db in (old, new):
        db.run(TABLE)
    protected = new_protected(old, SHOPS)
    try:
        protected.protect()
        protected.start()
        old.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 100) g")
        protected.kill()
    finally:
        protected.end()
    moved = msgspec.structs.replace(protected.config, dsn=new.dsn)
    outcome = protect.protect(moved, protected.config_path, new.dsn, Silent())
    assert (outcome.did, outcome.timeline) == ("another timeline", 2)
    vault = protected.vault()
    assert ids(protected, Cut(1, vault.index.recorded_until(1))) == set(range(1, 101))
    protected.verified()


def test_what_cannot_be_sealed_refuses_another_server(
    own_server: NewServer, open_folder: Path, new_protected: Callable[..., Protected], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commits were acknowledged; on the old timeline nobody would seal them any more."""
    servers = [own_server(), own_server()]
    for server in servers:
        server.start()
    old, new = (Database(server, 18, "postgres") for server in servers)
    for db in (old, new):
        db.run(TABLE)
    protected = new_protected(old, SHOPS)
    try:
        protected.protect()
        protected.start()
        old.run("INSERT INTO t VALUES (1, 1)")
        protected.kill()
    finally:
        protected.end()
    before = protected.vault().index.head
    moved = msgspec.structs.replace(protected.config, dsn=new.dsn)
    monkeypatch.setenv("BALLAST_FAIL", "sealer.decoded")
    with pytest.raises(protect.ProtectionError, match="cannot be sealed"):
        protect.protect(moved, protected.config_path, new.dsn, Silent())
    assert protected.vault().index.head == before
    assert undertaking.held(protected.config.spool_dir, 1, protected.vault().index.recorded_until(1)).unsealed_bytes


def test_a_damaged_spool_file_is_a_gap_and_no_end(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    pg18.run(TABLE)
    protected = new_protected(pg18, SHOPS)
    state = protected.config.state_dir
    try:
        protected.protect()
        protected.start()
        pg18.run("INSERT INTO t SELECT g, g % 3 FROM generate_series(1, 100) g")
        protected.kill()
        protected.until(lambda: not health.is_held(state, "sealer.lock"), "the sealer to end")
        vault = protected.vault()
        spool = Spool(protected.config.spool_dir, vault_id=vault.index.genesis.vault_id, timeline=1)
        spool.recover(vault.index.recorded_until(1))
        spool.close()
        closed = closed_files(protected.config.spool_dir)[-1]
        content = bytearray(closed.read_bytes())
        content[len(content) // 2] ^= 1
        closed.write_bytes(content)
        protected.start()
        pg18.run("INSERT INTO t VALUES (1000, 1)")
        protected.until(lambda: protected.vault().index.gaps, "a gap")
        protected.wishes_granted()
        assert (state / "damaged" / closed.name).read_bytes() == bytes(content)
        (gap,) = protected.vault().index.gaps.values()
        assert gap.relations is None
        assert gap.to_lsn is not None
        assert [line["level"] for line in log_lines(protected.log_path) if line["event"] == "spool_file_damaged"] == [
            "alarm"
        ]
        look = protected.look()
        protected.sealed(look.cut)
        assert_equal(protected.vault(), look)
        protected.stop()
    finally:
        protected.end()
    protected.verified()


def test_an_image_closes_no_gap_of_a_table_that_is_unlogged(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    pg18.run(TABLE, "CREATE TABLE u (id int PRIMARY KEY, shop int)")
    protected = new_protected(pg18, SHOPS, on_blind="continue")
    state = protected.config.state_dir
    try:
        protected.protect()
        protected.start()
        (t,), (u,) = pg18.query("SELECT oid::int FROM pg_class WHERE relname IN ('t', 'u') ORDER BY relname")
        pg18.run("ALTER TABLE u SET UNLOGGED", "INSERT INTO u VALUES (1, 1)")
        at = protected.vault().index.recorded_until(1)
        wish.leave(state, "image", 1, "a test", oids=[u], from_lsn=at, id="of-u")
        wish.leave(state, "image", 1, "a test", oids=[t], from_lsn=at, id="of-t")

        def granted(name: str) -> bool:
            pg18.run("INSERT INTO t SELECT count(*), 1 FROM t")  # something to seal
            return name not in {w.id for w in wish.pending(state)}

        protected.until(lambda: granted("of-t"), "the image of t")
        protected.until(lambda: "UNLOGGED, so that" in protected.log_path.read_text(), "the word about u")
        gaps = protected.vault().index.gaps
        assert gaps["of-t"].to_lsn is not None
        assert gaps["of-u"].to_lsn is None
        pg18.run("ALTER TABLE u SET LOGGED")
        protected.until(lambda: granted("of-u"), "the image of u", 90)
        assert protected.vault().index.gaps["of-u"].to_lsn is not None
        protected.stop()
    finally:
        protected.end()


@pytest.mark.parametrize(("encoding", "where"), [("SQL_ASCII", "problems"), ("LATIN1", "warnings")])
def test_encodings_other_than_utf8(pg18: Database, encoding: str, where: str) -> None:
    name = f"enc_{encoding.lower()}_{os.getpid()}"
    with pg18.connect() as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0".encode())
        try:
            dsn = psycopg.conninfo.make_conninfo(pg18.dsn, dbname=name)
            report = examine.examine(dsn, SHOPS, Wanted("ballast", "ballast", "spool")).report
        finally:
            admin.execute(f"DROP DATABASE {name}".encode())
    assert [f for f in getattr(report, where) if encoding in f.what]
