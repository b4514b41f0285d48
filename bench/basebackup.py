"""The peer of `physical`: `pg_basebackup` with the WAL of `pg_receivewal`, restored as a whole.

Barman does the same two things (its `backup_method = postgres` and its streaming archiver), and copies back with rsync what is
copied here with cp. Nothing is compressed, and all lies on the disk of the servers: from another machine it takes longer.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from psycopg import sql

from ballast.postgres import EmbeddedServer, connect
from ballast.postgres.account import server_account
from ballast.postgres.binaries import bin_dir_for
from bench.recover import fresh
from bench.setting import Setting

_ALL_RECEIVED = "SELECT FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND write_lsn >= %s::pg_lsn"


class PhysicalBackup:
    """A base backup of `production`, and all of its WAL from then on."""

    def __init__(self, here: Setting, production: EmbeddedServer) -> None:
        self._here, self._production = here, production
        self._account = server_account()
        self._programs = bin_dir_for(self._account, production.major)
        self.base, self._archive = self._folder("base"), self._folder("archive")
        receive = [
            str(self._programs / "pg_receivewal"),
            "-D",
            str(self._archive),
            "-d",
            production.dsn(),
            "--slot",
            "peer",
        ]
        subprocess.run([*receive, "--create-slot"], check=True)
        here.start(receive, "receivewal.log", self._account)
        os.sync()
        started = time.monotonic()
        self._run(
            str(self._programs / "pg_basebackup"), "-D", str(self.base), "-d", production.dsn(),
            "-X", "none", "--checkpoint=fast", "--no-manifest",
        )  # fmt: skip
        self.taken_s = time.monotonic() - started

    def until_received(self, timeout_s: float = 60.0) -> None:
        """Waits until the archive has every commit up to now."""
        deadline = time.monotonic() + timeout_s
        with connect(self._production.dsn()) as conn:
            position = conn.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            while conn.execute(_ALL_RECEIVED, position).fetchone() is None:
                if time.monotonic() > deadline:
                    raise SystemExit(f"pg_receivewal did not receive {position} within {timeout_s:.0f} s")
                time.sleep(0.05)

    def restore(self, name: str, until: datetime | None = None) -> EmbeddedServer:
        """The whole backup as a server of its own that takes writes; as of `until`, or of the last commit."""
        pgdata = self._folder(name) / "pgdata"
        self._run("cp", "-a", "--reflink=never", str(self.base), str(pgdata))
        self._run("touch", str(pgdata / "recovery.signal"))
        segment = f"{shlex.quote(str(self._archive))}/%f"
        settings = {
            "restore_command": f'if [ -f {segment} ]; then cp {segment} "%p"; else cp {segment}.partial "%p"; fi'
        }
        if until is not None:
            settings |= {"recovery_target_time": until.isoformat(), "recovery_target_action": "promote"}
        server = fresh(self._here, name, **settings)
        with connect(server.dsn()) as conn:  # it answers as soon as it is consistent; WAL is still replayed
            while conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
                time.sleep(0.01)
        return server

    def _folder(self, name: str) -> Path:
        """A new folder that the server's account may write into."""
        folder = self._here.folder / name
        folder.mkdir(mode=0o700)
        os.chown(folder, self._account.uid, self._account.gid)
        return folder

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=self._here.folder, **self._account.switch()
        )
        if done.returncode:
            raise SystemExit(f"{command[0]} failed:\n{done.stderr}")


def carry(source: EmbeddedServer, target: EmbeddedServer, tables: Sequence[str], shop: int) -> None:
    """The rows of one shop in `target` replaced by those of `source`, in one transaction. `tables`: parents first."""
    with connect(source.dsn()) as there, connect(target.dsn()) as here, here.transaction():
        for table in reversed(tables):
            here.execute(sql.SQL("DELETE FROM public.{} WHERE shop_id = {}").format(sql.Identifier(table), shop))
        for table in tables:
            rows = sql.SQL("COPY (SELECT * FROM public.{} WHERE shop_id = {}) TO STDOUT").format(
                sql.Identifier(table), shop
            )
            into = sql.SQL("COPY public.{} FROM STDIN").format(sql.Identifier(table))
            with there.cursor().copy(rows) as reading, here.cursor().copy(into) as writing:
                for block in reading:
                    writing.write(block)
