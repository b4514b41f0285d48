"""What `ballast status` says of a real recorder, a real production and a real vault, each there or away."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ballast.vault import config
from ballast.vault.records import Gap
from ballast.vault.status import Status, status
from ballast.vault.vault import Vault
from tests.commands import ballast
from tests.fix_postgres import Database, NewServer
from tests.fix_recorder import Recording

pytestmark = pytest.mark.any_version

New = Callable[..., Recording]


def look(recording: Recording) -> Status:
    return status(config.load(recording.config_path))


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.stat().st_size < 10_000
    }


@pytest.fixture
def recording(pg: Database, new_recording: New) -> Recording:
    """Recorded and armed."""
    made = new_recording(pg)
    made.start()
    made.armed()
    return made


def test_protected_while_the_recorder_is_armed(recording: Recording) -> None:
    recording.db.run("INSERT INTO t VALUES (1)")
    recording.until(lambda: recording.health.commits and recording.health.lag_bytes == 0, "the commit")
    found = look(recording)
    assert found.protected
    assert found.verdict.headline.startswith("PROTECTED: every acknowledged commit")
    assert (found.lag_bytes, found.lag_s) == (0, 0.0)
    assert found.recorder is not None
    assert found.recorder.last_commit_at is not None
    assert found.production is not None
    assert found.production.slot is not None
    assert found.production.slot.active
    assert found.production.waits
    assert found.vault is not None
    assert (found.vault.timeline, found.vault.segments, found.vault.earliest) == (1, 0, None)
    assert found.vault_unknown == found.production_unknown == ""


def test_not_protected_without_its_recorder(recording: Recording) -> None:
    recording.kill()
    gone = look(recording)
    assert not gone.protected
    assert gone.verdict.headline.startswith("NOT PROTECTED: the recorder is gone: it last spoke at ")
    assert gone.lag_bytes is None  # what it last said does not hold any more
    assert "Start it" in gone.verdict.problems[0].do
    recording.start()
    recording.armed()
    assert look(recording).protected
    recording.stop()
    assert "the recorder was stopped at" in look(recording).verdict.headline


def test_not_protected_when_the_slot_is_gone(recording: Recording) -> None:
    recording.kill()
    with recording.admin() as conn:
        recording.until(lambda: not _active(conn), "the slot to be left")
        conn.execute("SELECT pg_drop_replication_slot('ballast')")
    recording.start(until="slot_lost")
    found = look(recording)
    assert found.verdict.headline.startswith("NOT PROTECTED: the replication slot is lost: ")
    assert "production says that the replication slot is missing" in [p.what for p in found.verdict.problems]


def _active(conn: psycopg.Connection[Any]) -> bool:
    return conn.execute("SELECT active FROM pg_replication_slots").fetchone() == (True,)


def test_the_newest_commits_where_nobody_waits(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18, acknowledge="off")
    recording.start()
    off = look(recording)
    assert off.protected
    assert 'acknowledge = "off"' in off.verdict.headline
    recording.stop()
    recording.configure(acknowledge="spool")
    recording.start()
    recording.armed()
    with recording.admin() as conn:
        recording.kill()  # so that it cannot put itself back
        conn.execute("ALTER SYSTEM RESET synchronous_standby_names")
        conn.execute("SELECT pg_reload_conf()")
    recording.start(until="recording")
    recording.until(lambda: look(recording).protected, "it to put itself back", 20)


def test_what_is_not_protected_is_named(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18, acknowledge="off")
    recording.db.run(
        "CREATE UNLOGGED TABLE cache (id int PRIMARY KEY)",
        "CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM t",
        "SELECT lo_create(0)",
        "DROP PUBLICATION ballast",
        "CREATE TABLE left_out (id int PRIMARY KEY)",
        "CREATE PUBLICATION ballast FOR TABLE t",
    )
    found = look(recording)
    assert found.production is not None
    parts = {part.kind: part.names for part in found.production.unprotected}
    assert parts["tables outside the publication"] == ("public.left_out",)
    assert parts["unlogged tables"] == ("public.cache",)
    assert parts["materialized views"] == ("public.sums",)
    assert "large objects" in parts


def test_not_protected_when_the_vault_was_emptied(pg18: Database, new_recording: New) -> None:
    recording = new_recording(pg18)
    recording.start()
    recording.armed()
    vault = recording.folder / "vault"
    shutil.move(vault, recording.folder / "elsewhere")
    vault.mkdir()
    found = look(recording)
    assert found.verdict.headline.startswith("NOT PROTECTED: the vault cannot be restored from: "), found.verdict
    assert "holds nothing" in found.verdict.headline
    vault.rmdir()
    assert look(recording).protected  # away, as for a moment any store can be
    shutil.move(recording.folder / "elsewhere", vault)
    assert look(recording).protected


def test_production_and_store_may_be_away(own_server: NewServer, new_recording: New) -> None:
    server = own_server()
    server.start()
    recording = new_recording(Database(server, 18, "postgres"))
    recording.start()
    recording.armed()
    server.stop()
    recording.until(lambda: recording.health.state == "connecting", "it to notice")
    (recording.folder / "vault").rename(recording.folder / "elsewhere")
    found = look(recording)
    assert found.verdict.headline.startswith("NOT PROTECTED: the recorder has no stream from production: ")
    assert found.production is None
    assert found.production_unknown
    assert found.vault is None
    assert "holds nothing" in found.vault_unknown
    shown = ballast("status", "--config", str(recording.config_path))
    assert shown.returncode == 1
    assert "unknown, since production does not answer" in shown.stdout
    assert shown.stderr == ""


def test_gaps_are_shown_and_an_open_one_is_no_protection(recording: Recording) -> None:
    vault = Vault.open(recording.config.vault, state_dir=recording.config.state_dir)
    start, now = vault.index.timelines[1].start_lsn, "2099-01-01T00:00:00+00:00"
    vault.append(Gap("old", 1, start, start + 8, None, "long ago", "2020-01-01T00:00:00+00:00"))
    vault.append(Gap("closed", 1, start, start + 8, None, "slot lost", now))
    shown = look(recording)
    assert shown.protected
    assert shown.vault is not None
    assert [(gap.reason, gap.tables, gap.to_position is None) for gap in shown.vault.gaps] == [
        ("slot lost", None, False)
    ]
    vault.append(Gap("open", 1, start, None, None, "the publication was dropped", now))
    found = look(recording)
    assert not found.protected
    assert "the record of the whole database is not exact since 1/" in found.verdict.headline


def test_the_command_says_it_plainly_and_changes_nothing(recording: Recording) -> None:
    path = str(recording.config_path)
    verified = ballast("verify", "--vault", recording.config.vault, "--config", path, "--json")
    assert verified.returncode == 0, verified.stderr
    shown = ballast("status", "--config", path)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.startswith("PROTECTED: ")
    assert "2 entries: sound" in shown.stdout
    recording.kill()
    before = files_in(recording.folder)
    shown = ballast("status", "--config", path, "--json")
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    assert document["protected"] is False
    assert document["verdict"]["headline"].startswith("NOT PROTECTED")
    assert document["verified"]["sound"] is True
    assert files_in(recording.folder) == before


def test_a_wrong_config_is_a_message(tmp_path: Path) -> None:
    shown = ballast("status", "--config", str(tmp_path / "none.toml"))
    assert shown.returncode == 1
    assert "there is no" in shown.stderr
    assert "ballast protect" in shown.stderr
