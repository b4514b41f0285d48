"""``python -m ballast.up.prepare``: a database brought to this version's structure, its roles, its protection.

It runs before the recorder, which commits wait for: so this one's do not wait. What it does it would do again, were it lost.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.continuity import roles
from ballast.errors import BallastError, ConfigError, ServerError, StoreError
from ballast.mall.migrate import migrate
from ballast.postgres.session import complaint
from ballast.up import tenants
from ballast.up.platform import DATABASE, Platform, password_of, resolve
from ballast.vault import config
from ballast.vault.config import Config
from ballast.vault.durable import keep_private

_ROLES = {"mall_app": "app_dsn", "mall_identity": "identity_dsn", "mall_platform": "platform_dsn"}
HEAD_FILE = "head.json"
PROTECTED_FILE = "protected.toml"
"""With which settings protecting was done the last time."""


def prepare(platform: Platform) -> None:
    """All of it; BallastError where something must be mended first."""
    if is_lost(platform):
        print("the server's data is lost, and the vault has the record of it: the sentinel brings it back")
        return
    dsn = make_conninfo(platform.owner_dsn, options="-c synchronous_commit=local", application_name="ballast up")
    with _connected(make_conninfo(dsn, dbname="postgres") if platform.embedded else dsn) as connection:
        if platform.embedded:
            _make_database(connection)
    if done := migrate(dsn):
        print(f"structure brought up to date: {', '.join(done)}")
    with _connected(dsn) as connection:
        _give_passwords(connection, platform)
        shared = tenants.shared(connection)
    wanted = platform.vault_config(shared)
    if not _is_protected(platform, wanted):
        _protect(platform, wanted)


def refuse_if_lost(platform: Platform) -> None:
    """ConfigError where the server of our own is gone, its record is not, and nobody would bring it back: an empty one in its
    place would hide the loss."""
    if platform.sea.continuity.enabled or not platform.embedded or (platform.server_dir / "pgdata").exists():
        return
    if not _has_record(platform):
        return
    vault = platform.vault_config(()).vault
    raise ConfigError(
        f"The server's data in {platform.server_dir} is gone, and the vault {vault} has the record of it: nothing is lost.",
        "Set [continuity] enabled = true, or take it out, and run this command again: shops open at once, and everything comes"
        f" back. By hand: start an empty server (python -m ballast.postgres {platform.server_dir}), make the database {DATABASE}"
        f" there, and ballast recover --vault {vault} --into DSN --config {platform.config_path}. To begin anew without it,"
        " choose another --folder.",
    )


def is_lost(platform: Platform) -> bool:
    """Whether the server of our own is another than the one that the vault's newest timeline is of, or is still being recovered:
    then there is nothing to prepare, and the sentinel brings back what was there. Where the vault is away the recorder's own note
    of what it records is believed: shops whose database is good open without it."""
    if not (platform.embedded and platform.sea.continuity.enabled and _has_record(platform)):
        return False
    from ballast.continuity import incident
    from ballast.continuity.home import Home
    from ballast.vault import Vault, health
    from ballast.vault.continuation import Origin
    from ballast.vault.origin import ORIGIN_FILE

    under_way = incident.read(platform.continuity_dir)
    if under_way is not None and under_way.data_lost:
        return True
    settings = platform.vault_config(())
    there = Home(platform.server_dir).identifier
    try:
        vault = Vault.open(settings.vault, anchor_dir=settings.state_dir, key=settings.key)
    except (StoreError, ConfigError) as error:
        known = health.read_state(settings.state_dir, ORIGIN_FILE, Origin)
        print(f"the vault cannot be read just now: {error}")
        return there != known.system_identifier if known is not None else there is None
    timelines = vault.index.timelines
    recorded = timelines[vault.index.newest_timeline].system_identifier if timelines else None
    return recorded is not None and there != recorded


def _has_record(platform: Platform) -> bool:
    return (platform.vault_config(()).state_dir / HEAD_FILE).exists()


def _connected(dsn: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        raise ServerError(
            f"The database cannot be reached: {complaint(error)}.",
            "Start it, or correct dsn in ballast.toml (BALLAST_DSN); passwords come from PGPASSWORD or ~/.pgpass.",
        ) from None


def _make_database(connection: psycopg.Connection[Any]) -> None:
    if not connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (DATABASE,)).fetchall():
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _give_passwords(connection: psycopg.Connection[Any], platform: Platform) -> None:
    """The roles' passwords are those of their DSNs. The server is given what it compares with, not the passwords themselves;
    one that is made anew gets the same."""
    verifiers = {}
    for role, name in _ROLES.items():
        dsn = getattr(platform.mall, name)
        password = password_of(dsn)
        if not password or conninfo_to_dict(dsn).get("user") != role:
            continue  # somebody else cares for it
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))
        verifiers[role] = verifier
    if platform.sea.continuity.enabled:
        roles.keep(platform.continuity_dir, verifiers)


def _is_protected(platform: Platform, wanted: Config) -> bool:
    """As it is wanted now, and to the end: protecting that was broken off, or a table that is new, wants it once more."""
    try:
        return (platform.folder / PROTECTED_FILE).read_text() == config.render(wanted, folder=platform.folder)
    except OSError:
        return False


def _protect(platform: Platform, wanted: Config) -> None:
    from ballast.vault.protect import protect  # it loads much, and is needed once

    class Said:
        """Of what protecting does, each step as a line."""

        def say(self, line: str) -> None:
            print(line)

        def begin(self, stage: str, rows: int) -> None:
            pass

        def advance(self, rows: int) -> None:
            pass

    outcome = protect(wanted, platform.config_path, platform.owner_dsn, Said())
    done = config.render(config.load(platform.config_path), folder=platform.folder)
    config.replace_file(platform.folder / PROTECTED_FILE, done)
    print(f"{outcome.did}: {outcome.tables} tables, recorded from {outcome.position}")


def main() -> int:
    """Exit code 0: done; 1: not, and why."""
    parser = argparse.ArgumentParser(prog="python -m ballast.up.prepare", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    keep_private()
    try:
        prepare(resolve(options.config, options.folder, {}))
    except BallastError as error:
        sys.stderr.write(f"error: {error.what}\n" + (f"  do: {error.do}\n" if error.do else ""))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
