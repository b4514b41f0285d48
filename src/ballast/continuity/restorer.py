"""The process that brings the lost platform back on a new, empty server: a child of the sentinel, and made to be killed.

    python -m ballast.continuity.restorer --config ballast.toml --folder FOLDER

It waits for the server, makes the database, and is `ballast recover` with protection from then on; run again it goes on.
Exit code 0: all are back, proven. How far it is stands in `restorer.json`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity import health, incident, roles
from ballast.continuity.health import RestorerHealth
from ballast.continuity.incident import Incident
from ballast.errors import BallastError, RestoreError
from ballast.recovery import Progress, Protecting, Recovered, Wish, recover, recovery_begun
from ballast.vault import Vault, arming, config
from ballast.vault import health as vault_health
from ballast.vault.config import Config
from ballast.vault.durable import keep_private
from ballast.vault.health import now_iso
from ballast.vault.logbook import Logbook
from ballast.vault.succession import make_ready

_LOOK_S = 0.05
_NICE = 10
"""Shops are open in the lifeboat: who serves them there comes first."""


class _Told:
    """Sees the recovery, and tells the sentinel."""

    def __init__(self, folder: Path, log: Logbook, settings: Config) -> None:
        self._folder, self._log, self._settings = folder, log, settings
        self.found = RestorerHealth(os.getpid(), now_iso(), "waiting for the new server")
        self.tell()

    def tell(self, **changed: Any) -> None:
        self.found = msgspec.structs.replace(self.found, written_at=now_iso(), **changed)
        health.write(self._folder, health.RESTORER_FILE, self.found)

    def begin(self, stage: str, rows: int) -> None:
        self._log.info("stage", stage=stage)
        self.tell(stage=stage)

    def advance(self, rows: int) -> None:
        pass

    def say(self, line: str) -> None:
        self._log.info("said", line=line)

    def opened(self) -> None:
        try:
            roles.give(self._folder, self._settings.dsn)
        except psycopg.Error as error:  # it is tried again at the next start of everything
            self._log.warning("no_passwords", reason=str(error))
        is_protected = _is_recorded(self._settings, self.found.identifier)
        if is_protected and not vault_health.is_held(self._settings.state_dir):
            arming.begin_anew(self._settings.state_dir)
        self._log.info("opened", protected=is_protected)
        self.tell(opened=True, is_protected=is_protected)

    def progressed(self, progress: Progress) -> None:
        self.tell(tenants=progress.tenants, back=progress.tenants_back)


def run(config_path: Path, folder: Path, log: Logbook) -> Recovered:
    """All of it. BallastError, psycopg.Error: run again it goes on."""
    settings = config.load(config_path)
    under_way = incident.read(folder)
    if under_way is None or not under_way.data_lost:
        raise RestoreError("nothing is lost, as far as is noted", "The sentinel starts this when something is.")
    told = _Told(folder, log, settings)
    dsn = _wait_for_server(settings, under_way, told)
    make_ready(settings, config_path, dsn, told.say)
    vault = Vault.open(settings.vault, state_dir=settings.state_dir, key=settings.key)
    at = recovery_begun(vault, dsn) or under_way.at or None
    resolved = vault.resolve(at)
    log.info("recovers", at=resolved.how)
    wish = Wish(jobs=2, protecting=Protecting(settings, config_path, dsn))
    recovered = recover(vault, resolved, dsn, wish, told)
    for line in recovered.warnings:
        log.warning("recovered_with", warning=line)
    told.tell(
        stage="done", opened=True, is_protected=recovered.is_protected, finished=recovered.proven,
        failures=(*recovered.failures, *recovered.broken_foreign_keys),
    )  # fmt: skip
    return recovered


def _wait_for_server(settings: Config, under_way: Incident, told: _Told) -> str:
    """Returns when an empty server, or one that is being recovered, stands in the lost one's place and has the database."""
    database = str(conninfo_to_dict(settings.dsn).get("dbname") or "postgres")
    while True:
        try:
            with psycopg.connect(
                make_conninfo(settings.dsn, dbname="postgres", connect_timeout=2), autocommit=True
            ) as conn:
                row = conn.execute("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").fetchone()
                identifier = row[0] if row else ""
                if identifier != under_way.lost:
                    there = conn.execute(
                        "SELECT FROM pg_catalog.pg_database WHERE datname = %s", (database,)
                    ).fetchall()
                    if not there:
                        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
                    told.tell(identifier=identifier, stage="making ready")
                    return settings.dsn
        except psycopg.OperationalError:
            pass
        time.sleep(_LOOK_S)


def _is_recorded(settings: Config, identifier: str) -> bool:
    """Whether the vault's newest timeline is that of this server."""
    vault = Vault.open(settings.vault, state_dir=settings.state_dir, key=settings.key)
    return vault.index.timelines[vault.index.newest_timeline].system_identifier == identifier


def main() -> int:
    """0: all are back; 1: not, and why."""
    keep_private()
    os.nice(_NICE)
    parser = argparse.ArgumentParser(prog="python -m ballast.continuity.restorer")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    log = Logbook("restorer")
    try:
        recovered = run(options.config, options.folder, log)
    except (BallastError, psycopg.Error, OSError) as error:
        log.error("ended", reason=error if isinstance(error, BallastError) else str(error))
        found = health.restorer(options.folder)
        if found is not None and found.pid == os.getpid():
            health.write(options.folder, health.RESTORER_FILE, msgspec.structs.replace(found, error=str(error)))
        return 1
    for line in (*recovered.failures, *recovered.broken_foreign_keys):
        log.alarm("not_back", reason=line)
    log.info("recovered", tenants=recovered.tenants, rows=recovered.rows, seconds=round(recovered.elapsed_s, 2))
    return 0 if recovered.proven else 1


if __name__ == "__main__":
    sys.exit(main())
