"""Servers that go on from others: recovered from the vault, or promoted from a standby. Real ones, each of its own.

`Recovered` is what a recovery leaves behind at any point of its way: the structure, the marker, and the rows of those tenants
that are back, written under a replication origin.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import msgspec
import psycopg

from ballast.postgres import tool
from ballast.postgres.cluster import environment
from ballast.postgres.embedded import EmbeddedServer
from ballast.postgres.lsn import format_lsn
from ballast.recovery import Request, Restorer, restore
from ballast.recovery.mark import mark
from ballast.vault import config
from ballast.vault.moment import Resolved
from ballast.vault.protect import Outcome, protect
from tests.fix_postgres import Database
from tests.fix_protected import Protected, Silent

_MARKER = (
    "CREATE SCHEMA IF NOT EXISTS ballast_recovery",
    "CREATE TABLE ballast_recovery.origin (vault_id text, timeline int, lsn pg_lsn, begun_at timestamptz,"
    " finished_at timestamptz)",
)


class Recovered:
    """A database on a new server, on its way back from the vault of `protected`, as of a cut (None: the newest)."""

    def __init__(self, protected: Protected, to: Database, at: str | None = None) -> None:
        self.protected, self.to = protected, to
        self.vault = protected.vault()
        self.resolved: Resolved = self.vault.resolve(at)

    def structure(self) -> None:
        """Tables without rows, and the marker."""
        assert restore(self.vault, self.resolved, self.to.dsn, Request()).proven
        tables = self.to.query(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'"
        )
        self.to.run(f"TRUNCATE {', '.join(name for (name,) in tables)}")
        self.mark()

    def everything(self) -> None:
        """All rows at once, and the marker of a recovery that has finished."""
        assert restore(self.vault, self.resolved, self.to.dsn, Request()).proven
        self.mark()
        self.finished()

    def mark(self) -> None:
        """The marker."""
        cut = self.resolved.cut
        self.to.run(*_MARKER)
        with psycopg.connect(self.to.dsn, autocommit=True) as conn:
            conn.execute(
                "INSERT INTO ballast_recovery.origin VALUES (%s, %s, %s, clock_timestamp(), NULL)",
                (self.vault.index.genesis.vault_id, cut.timeline, format_lsn(cut.lsn)),
            )

    def shared(self, *tables: str) -> None:
        """The rows of shared tables come back."""
        with Restorer(self.vault, self.to.dsn) as restorer:
            _under_an_origin(restorer)
            restorer.restore(self.resolved, Request(tables=tables, jobs=1))

    def back(self, *tenants: str) -> None:
        """These tenants come back, one after another."""
        with Restorer(self.vault, self.to.dsn) as restorer:
            _under_an_origin(restorer)
            for tenant in tenants:
                assert restorer.restore(self.resolved, Request(tenants=(tenant,))).proven

    def finished(self) -> None:
        """Everybody is back."""
        self.to.run("UPDATE ballast_recovery.origin SET finished_at = clock_timestamp()")

    def protect(self) -> Outcome:
        """`ballast protect` on the new server; from then on `self.protected` is the new one."""
        return protect_on(self.protected, self.to)


def _under_an_origin(restorer: Restorer) -> None:
    """What it writes; a session that had the origin before lives a moment longer than its connection."""
    deadline = time.monotonic() + 10
    while (refused := mark(restorer.connection, 1)) is not None:
        assert time.monotonic() < deadline, refused
        time.sleep(0.05)


def protect_on(protected: Protected, to: Database) -> Outcome:
    """The same vault and state folder, another server."""
    protected.db = to
    protected.config = msgspec.structs.replace(config.load(protected.config_path), dsn=to.dsn)
    config.write(protected.config, protected.config_path)
    protected.process = None
    return protect(protected.config, protected.config_path, to.dsn, Silent())


def standby_of(server: EmbeddedServer, folder: Path) -> EmbeddedServer:
    """A streaming standby of a running server, started."""
    standby = EmbeddedServer(folder, major=server.major, settings=server.settings)
    folder.mkdir()
    account = server._account
    os.chown(folder, account.uid, account.gid)
    done = subprocess.run(
        [str(tool("pg_basebackup", server.major)), "-D", str(standby.pgdata), "-R", "-X", "stream", "-c", "fast", "-d", server.dsn()],
        env=environment(), cwd=folder, capture_output=True, text=True, check=False, **account.switch(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    standby.start()
    return standby


def promote(standby: EmbeddedServer) -> None:
    """It becomes a primary on PostgreSQL's next timeline."""
    with psycopg.connect(standby.dsn(), autocommit=True) as conn:
        assert conn.execute("SELECT pg_promote(true, 60)").fetchone() == (True,)
