"""Another server answers in production's place."""

import contextlib
import os
import shutil
import threading
from pathlib import Path

import msgspec
import psycopg
import pytest

from ballast.vault import config, wish
from ballast.vault.status import status
from ballast.vault.vault import Vault
from tests.fix_guarded import New
from tests.fix_postgres import Database, NewServer


@pytest.mark.any_version
def test_another_server_in_productions_place_is_told_nothing(pg: Database, own_server: NewServer, guarded: New) -> None:
    recording = guarded(pg)
    recording.guard()
    recording.stop()
    server = own_server(major=pg.major, settings={"synchronous_standby_names": "ballast"})
    server.start()
    local = "-c synchronous_commit=local"
    with psycopg.connect(server.dsn(), autocommit=True, options=local) as conn:
        conn.execute(f"CREATE DATABASE {pg.name}".encode())
    other = Database(server, pg.major, pg.name)  # all is there by its name: only the server is another
    with other.connect(options=local) as conn:
        conn.execute("CREATE TABLE t (id bigint PRIMARY KEY, body text)")
        conn.execute("CREATE PUBLICATION ballast FOR ALL TABLES WITH (publish_via_partition_root = false)")
        conn.execute("SELECT pg_create_logical_replication_slot('ballast', 'pgoutput')")
    slots = other.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    ours = pg.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")
    head = Vault.open(recording.config.vault).index.head
    recorded = recording.ids()
    hangs = threading.Thread(target=written_to, args=(other,), daemon=True)
    hangs.start()
    other_waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    recording.until(lambda: other.query(other_waits) == [(1,)], "its commit to wait")

    recording.config = msgspec.structs.replace(recording.config, dsn=other.dsn)
    config.write(recording.config, recording.config_path)
    recording.start(until=None)
    assert recording.died() != 0
    assert recording.health.state == "fork"
    assert "The server is another one: its system identifier is" in recording.health.reason
    assert "ballast protect" in recording.health.reason
    assert recording.health.acknowledged_lsn == 0
    assert hangs.is_alive(), "a commit was acknowledged that nobody recorded"
    assert other.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == slots
    assert pg.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == ours
    assert other.query("SELECT to_regclass('ballast.canary')") == [(None,)], "nothing is written to it"
    assert recording.ids() == recorded
    assert not [w for w in wish.pending(recording.config.state_dir) if w.kind == "image"]
    assert Vault.open(recording.config.vault).index.head == head
    assert status(recording.config).verdict.headline.startswith("NOT PROTECTED")


def test_an_older_copy_in_productions_place_is_told_nothing(own_server: NewServer, guarded: New) -> None:
    server = own_server()
    server.start()
    recording = guarded(Database(server, 18, "postgres"))
    server.stop()
    shutil.copytree(server.pgdata, copy := recording.folder / "copy", symlinks=True)
    server.start()
    recording.guard()
    recording.db.run("INSERT INTO t SELECT generate_series(1, 1000)")
    recording.until(lambda: len(recording.ids()) == 1000, "the rows")
    recording.until(lambda: recording.health.acknowledged_lsn >= recording.health.durable_lsn > 0, "acknowledging")
    recording.stop()
    server.stop()
    put_in_place(copy, server.pgdata)
    server.start()
    slots = recording.db.query("SELECT confirmed_flush_lsn FROM pg_replication_slots")

    recording.start(until=None)
    assert recording.died() != 0
    assert recording.health.state == "fork"
    assert "it lacks commits that the vault has" in recording.health.reason
    assert recording.health.acknowledged_lsn == 0
    assert recording.db.query("SELECT confirmed_flush_lsn FROM pg_replication_slots") == slots
    assert len(recording.ids()) == 1000, "nothing recorded is touched"


def put_in_place(copy: Path, pgdata: Path) -> None:
    """The older files in the place of the newer, with their owner."""
    owner = pgdata.stat()
    shutil.rmtree(pgdata)
    shutil.move(copy, pgdata)
    for path in (pgdata, *pgdata.rglob("*")):
        os.lchown(path, owner.st_uid, owner.st_gid)


def written_to(db: Database) -> None:
    """A commit of its application, which may end with its server."""
    with contextlib.suppress(psycopg.Error):
        db.run("INSERT INTO t VALUES (7)")
