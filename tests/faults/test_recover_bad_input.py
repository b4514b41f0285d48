"""What goes wrong around a recovery is said clearly, and leaves nothing that the next run does not finish.

Refusals before anything is written (target in use, rights, version) stand in `integration/test_recover.py`, those of `restore`
and `rewind` in theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ballast.errors import StoreError
from ballast.postgres.embedded import EmbeddedServer
from ballast.recovery import Wish, recover
from ballast.recovery.watcher import Silent
from ballast.vault.moment import show
from ballast.vault.vault import Vault
from tests.faults.test_restore_kills import ROWS, TABLES
from tests.fix_postgres import Database
from tests.fix_vault import Line, bucket_url, s3_environment
from tests.kept import Kept, contents, structure
from tests.small_disk import small_disk

MUCH = (
    "INSERT INTO item (tenant, label) SELECT 't' || g, (SELECT string_agg(md5((g * 1000 + h * 40 + i)::text), '')"
    " FROM generate_series(1, 30) i) FROM generate_series(1, 30) g, generate_series(1, 400) h"
)
LEFT = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ballast%' ORDER BY 1"


@pytest.fixture
def kept(pg18: Database, open_folder: Path) -> Kept:
    pg18.run(*TABLES, *ROWS)
    made = Kept(pg18, open_folder)
    made.look()
    return made


def ballast(*arguments: str) -> tuple[int, dict[str, str]]:
    """Exit code, and the last JSON document that was printed."""
    done = subprocess.run(
        [sys.executable, "-m", "ballast.cli", *arguments, "--json"],
        env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, 2), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stdout.splitlines()
    # Lines of JSON, or one document over many of them.
    told = lines[-1] if lines[-1] != "}" else "\n".join(lines[len(lines) - 1 - lines[::-1].index("{") :])
    return done.returncode, json.loads(told)


@pytest.mark.timeout(180)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
@pytest.mark.parametrize("command", ["recover", "restore"])
def test_the_disk_of_the_new_server_is_full(kept: Kept, open_folder: Path, command: str) -> None:
    kept.db.run(MUCH)
    kept.look()
    with small_disk(open_folder / "disk", 220):
        disk = open_folder / "disk"
        server = EmbeddedServer(
            disk / "server", major=18, settings={"min_wal_size": "32MB", "max_wal_size": "32MB", "fsync": "off"}
        )
        server.start()
        try:
            to = Database(server, 18, "postgres")
            room = os.statvfs(disk)
            hog = disk / "hog"
            hog.write_bytes(bytes(room.f_bavail * room.f_frsize - (9 << 20)))
            code, told = ballast(command, "--vault", kept.url, "--into", to.dsn)
            assert code == 1
            # No room for rows is a refusal; with no room for its log the server ends itself.
            assert "No space left on device" in told["what"] or "the connection to the server broke" in told["what"]
            assert "same command again" in told["do"]
            hog.unlink()
            server.start()  # where there was no room for its log it has ended itself
            code, told = ballast(command, "--vault", kept.url, "--into", to.dsn)
            assert (code, told.get("proven")) == (0, True), told
            if command == "recover":
                to.run("DROP SCHEMA ballast_recovery CASCADE")
            assert to.query(LEFT) == []
            assert contents(to) == contents(kept.db)
            assert structure(to) == structure(kept.db)
        finally:
            server.discard()


class Goes(Silent):
    """The vault is gone from the moment on at which tenants are served."""

    def __init__(self, go: Callable[[], object]) -> None:
        self._go = go

    def opened(self) -> None:
        self._go()


@pytest.mark.parametrize("put", ["nothing", "empty"])
def test_the_vaults_folder_goes_in_the_middle_and_comes_back(kept: Kept, put: str) -> None:
    to, folder = kept.db.another(), Path(kept.url)

    def go() -> None:
        folder.rename(folder.with_name("unmounted"))
        if put == "empty":
            folder.mkdir()

    with pytest.raises(StoreError) as refused:
        recover(Vault.open(kept.url), kept.vault.resolve(None), to.dsn, Wish(), Goes(go))
    assert refused.value.do
    missing = to.query("SELECT count(*) FROM ballast_recovery.tenant WHERE back_at IS NULL")
    assert missing != [(0,)]
    code, told = ballast("recover", "--vault", kept.url, "--into", to.dsn)
    assert code == 1
    assert "vault" in told["what"]
    assert to.query("SELECT count(*) FROM ballast_recovery.tenant WHERE back_at IS NULL") == missing
    if put == "empty":
        folder.rmdir()  # nothing was written to it
    folder.with_name("unmounted").rename(folder)
    assert ballast("recover", "--vault", kept.url, "--into", to.dsn)[0] == 0
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept.db)


@pytest.mark.timeout(240)
def test_the_bucket_goes_in_the_middle_and_comes_back(
    pg18: Database, open_folder: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_environment(line.endpoint).items():
        monkeypatch.setenv(name, value)
    pg18.run(*TABLES, *ROWS)
    kept = Kept(pg18, open_folder, url=bucket_url())
    kept.look()
    to = pg18.another()
    with pytest.raises(StoreError) as refused:
        recover(Vault.open(kept.url), kept.vault.resolve(None), to.dsn, Wish(), Goes(line.cut))
    assert refused.value.what
    line.mend()
    assert recover(Vault.open(kept.url), kept.vault.resolve(None), to.dsn).proven
    to.run("DROP SCHEMA ballast_recovery CASCADE")
    assert contents(to) == contents(kept.db)


def test_a_moment_in_a_gap_must_be_accepted(kept: Kept) -> None:
    to, cut = kept.db.another(), kept.look()
    kept.gap(cut, ["log"])
    options = ("--vault", kept.url, "--into", to.dsn, "--at", show(cut))
    code, told = ballast("recover", *options)
    assert code == 1
    assert "public.log is not exact" in told["what"]
    assert "--inexact" in told["do"]
    assert to.query(LEFT) == []
    code, report = ballast("recover", *options, "--inexact")
    assert code == 0
    assert report["report"]["inexact"] == ["public.log"]  # type: ignore[index]


def test_a_tenant_that_the_record_does_not_know(kept: Kept) -> None:
    to = kept.db.another()
    code, told = ballast("restore", "--vault", kept.url, "--into", to.dsn, "--tenant", "t99")
    assert code == 1
    assert "t99" in told["what"]
    assert to.query("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace") == []
    assert to.query(LEFT) == []
    code, told = ballast("rewind", kept.db.dsn, "--vault", kept.url, "--tenant", "t99", "--at", show(kept.look()))
    assert code == 1
    assert "t99" in told["what"]


def test_a_moment_that_is_not_recorded_and_one_that_is_no_moment(kept: Kept) -> None:
    to = kept.db.another()
    for at, expected in (("2001-01-01", 1), ("9/FFFFFFFF/0", 1), ("yesterday", 2)):
        code, told = ballast("recover", "--vault", kept.url, "--into", to.dsn, "--at", at)
        assert code == expected, at
        assert told["do"], at
    assert to.query(LEFT) == []
