"""What a server compares the roles' passwords with, kept beside the lifeboat: the record has roles without it, and a server that
is made anew must let the same processes in from its opening on, by TCP too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import psycopg
from psycopg import sql

from ballast.vault.durable import replace_file

_FILE = "roles.json"
_THERE = "SELECT rolname::text FROM pg_catalog.pg_authid WHERE rolname = ANY(%s) AND rolpassword IS DISTINCT FROM %s"


def keep(folder: Path, verifiers: Mapping[str, str]) -> None:
    """By role, as SCRAM has it (`SCRAM-SHA-256$…`), which is no password. For our own account's eyes all the same."""
    replace_file(folder / _FILE, msgspec.json.encode(dict(verifiers)))


def give(folder: Path, dsn: str) -> tuple[str, ...]:
    """To those roles of the server that are there and have another, or none; their names. psycopg.Error."""
    try:
        kept = msgspec.json.decode((folder / _FILE).read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return ()
    given = []
    with psycopg.connect(dsn, autocommit=True, connect_timeout=5) as conn:
        for role, verifier in kept.items():
            if conn.execute(_THERE, ([role], verifier)).fetchone() is not None:
                conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))
                given.append(role)
    return tuple(given)
