"""`ballast recover` protects the server that it rebuilds: before the first tenant is back, and lost once more loses nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ballast.vault import config
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Protected, assert_equal, table_rows
from tests.integration.test_descent_recovered import SHOPS, TABLES, images, lost, rows_of

STEPS = ("protect.begun", "protect.slot", "protect.decided", "protect.entry", "protect.finished", "recover.protected")


def recover(
    protected: Protected, to: Database, *options: str, fail: str = ""
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Exit code, the lines that were told, and the error."""
    command = [sys.executable, "-m", "ballast.cli", "recover", "--json", "--vault", protected.config.vault]
    done = subprocess.run(
        [*command, "--into", to.dsn, "--config", str(protected.config_path), "-j", "1", *options],
        env={**os.environ, "BALLAST_FAIL": fail}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr
    told, _, error = done.stdout.partition("{\n")
    return done.returncode, [json.loads(line) for line in told.splitlines()], json.loads(f"{{{error}") if error else {}


def goes_on_at(protected: Protected, to: Database) -> None:
    """What the fixture does from now on is done there, as its settings say."""
    protected.config = config.load(protected.config_path)
    assert protected.config.dsn == to.dsn
    protected.db = to


def first(folder: Path, *tenants: str) -> str:
    path = folder / "first.csv"
    path.write_text("".join(f"{tenant}\n" for tenant in tenants))
    return str(path)


@pytest.mark.timeout(240)
def test_lost_again_in_the_middle_of_its_recovery_nothing_is_lost(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        acknowledged: list[str] = []

        def visit() -> None:
            """The first customer: there before the doors are open."""
            while not acknowledged:
                with contextlib.suppress(psycopg.Error), psycopg.connect(to.dsn) as conn:
                    conn.execute("SELECT ballast.ensure_tenant('1')")
                    conn.execute("INSERT INTO item (shop, body) VALUES (1, 'ordered at once')")
                    conn.commit()
                    acknowledged.append("ordered at once")
                time.sleep(0.01)

        visitor = threading.Thread(target=visit, daemon=True)
        visitor.start()
        everybody = first(open_folder, *"123456")
        code, _, _ = recover(protected, to, "--priority", everybody, fail="recover.committed:4")
        assert code == -signal.SIGKILL
        visitor.join(20)
        assert acknowledged, "the tenant that was waited for is among the first"
        goes_on_at(protected, to)
        assert images(protected, 2) == []
        protected.start()  # what was written before comes from the slot
        to.run("INSERT INTO item (shop, body) VALUES (1, 'ordered later')")
        look = protected.look()
        to.server.discard()
        protected.stop()

        server = own_server()
        server.start()
        again = Database(server, 18, "postgres")
        code, lines, _ = recover(protected, again)
        assert code == 0
        assert lines[-1]["report"]["is_protected"]
        found = table_rows(again.connect())
        assert rows_of(found, "1") == rows_of(look.rows, "1")
        assert sum(b"ordered" in line for line in found["public.item"]) == 2
        for shop in "23456":
            assert rows_of(found, shop) == rows_of(before.rows, shop)
        goes_on_at(protected, again)
        assert (protected.timeline, images(protected, 3)) == (3, [])
        protected.start()
        again.run("DELETE FROM item WHERE shop = 3")
        last = protected.look()
        protected.sealed(last.cut)
        protected.stop()
        for seen in (before, last):
            assert_equal(protected.vault(), seen)
        protected.verified()


@pytest.mark.timeout(240)
def test_the_recorder_runs_through_the_end_of_the_recovery(
    own_server: NewServer, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    """Gate and helpers go while it looks on: no gap, no image, and commits are waited for."""
    with lost(own_server, new_protected, 16) as (protected, _, to):
        everybody = first(open_folder, *"123456")
        assert recover(protected, to, "--priority", everybody, fail="recover.committed:3")[0] == -signal.SIGKILL
        goes_on_at(protected, to)
        protected.start()
        code, lines, _ = recover(protected, to)
        assert code == 0
        assert lines[-1]["report"]["is_protected"]
        to.run("UPDATE shop SET name = 'here again'")
        time.sleep(2.5)  # several looks of the guardian
        look = protected.look()
        protected.sealed(look.cut)
        protected.wishes_granted()
        assert recover(protected, to)[0] == 0
        protected.stop()
        vault = protected.vault()
        assert_equal(vault, look)
        assert images(protected, 2) == []
        assert not vault.index.gaps
        protected.verified()


@pytest.mark.timeout(240)
def test_killed_between_any_two_steps_the_next_call_goes_on(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        gone = protected.config.dsn
        for step in STEPS:
            assert recover(protected, to, fail=step)[0] == -signal.SIGKILL, step
            named = config.load(protected.config_path).dsn
            assert named == (to.dsn if step == "recover.protected" else gone), step
        assert recover(protected, to)[0] == 0
        goes_on_at(protected, to)
        assert sorted(protected.vault().index.timelines) == [1, 2]
        assert images(protected, 2) == []
        assert table_rows(to.connect()) == before.rows
        protected.start()
        to.run("UPDATE shop SET name = 'on it goes'")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        protected.verified()


@pytest.mark.timeout(120)
def test_what_only_the_spool_holds_comes_back_as_well(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    production, new = own_server(), own_server()
    production.start()
    db = Database(production, 18, "postgres")
    db.run(*TABLES)
    protected = new_protected(db, SHOPS, seal_after_s=600.0)
    protected.protect()
    protected.start()
    db.run("INSERT INTO item (shop, body) VALUES (3, 'acknowledged, and not sealed')")
    rows = table_rows(db.connect())
    new.start()
    to = Database(new, 18, "postgres")
    code, _, refused = recover(protected, to)
    assert code == 1
    assert "A recorder" in refused["what"]
    assert "Stop it (SIGTERM" in refused["do"]
    assert to.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%'") == []
    protected.kill()  # before the server goes: a recorder that sees that seals what it holds
    production.discard()
    code, lines, _ = recover(protected, to)
    assert code == 0
    assert any("sealed first" in line.get("said", "") for line in lines)
    assert table_rows(to.connect()) == rows
    protected.verified()


@pytest.mark.timeout(120)
def test_written_to_before_it_could_be_protected_it_is_protected_at_the_end(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        assert recover(protected, to, fail="recover.gate")[0] == -signal.SIGKILL
        to.run("INSERT INTO shop VALUES (7, 'new here')")
        code, lines, _ = recover(protected, to)
        assert code == 0
        assert any("NOT PROTECTED yet" in line.get("said", "") for line in lines)
        goes_on_at(protected, to)
        assert len(images(protected, 2)) == 1, "of the one table that differs"
        (gap,) = protected.vault().index.gaps.values()
        assert gap.to_lsn is not None
        found = table_rows(to.connect())
        assert found["public.shop"] == sorted([*before.rows["public.shop"], b"7\tnew here"])
        protected.verified()


@pytest.mark.timeout(120)
def test_a_server_that_cannot_be_protected_is_refused_before_anything_is_written(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, _):
        server = own_server(settings={"wal_level": "replica"})
        server.start()
        to = Database(server, 18, "postgres")
        code, _, refused = recover(protected, to)
        assert code == 1
        assert "wal_level is replica" in refused["what"]
        assert to.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%'") == []
        assert recover(protected, to, "--no-protect")[0] == 0
        assert table_rows(to.connect()) == before.rows
        (protected.config.state_dir / "signing.key").rename(protected.config.state_dir / "elsewhere")
        code, _, refused = recover(protected, to, "--protect")
        assert code == 1
        assert "the key that signs the vault, is not here" in refused["what"]
