"""The end of a recovery: foreign keys validated, sequences held against the rows, and nothing of ours left behind.

Applications are at work all the while. So each lock is asked for briefly and again, and what they hold is waited for.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.recovery import gate, mark, progress, rebuild, record, roster
from ballast.recovery.copying import Ask, converse
from ballast.recovery.empty import empty_views
from ballast.recovery.foreign_keys import described, orphans
from ballast.recovery.sequences import past_record
from ballast.recovery.target import Target
from ballast.vault import Resolved, Vault
from ballast.vault.failpoints import reach

_RETRY_S = 0.1
_CHECKED = """
SELECT k.conrelid::bigint, k.conname FROM ballast_recovery.unchecked u JOIN pg_constraint k ON k.oid = u.oid
"""
_MARKED = "UPDATE ballast_recovery.origin SET finished_at = clock_timestamp()"


class Ended(msgspec.Struct, frozen=True):
    """What the last steps found."""

    broken: list[str]
    warnings: list[str]
    complete: bool = False
    """Everybody is back, and nothing of ours is left."""


class Closing:
    """Over a connection that is in charge; all others of the recovery are closed."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        dsn: str,
        vault: Vault,
        resolved: Resolved,
        target: Target,
        jobs: int,
    ) -> None:
        self._conn, self._dsn, self._vault, self._resolved = conn, dsn, vault, resolved
        self._target, self._jobs = target, jobs

    def run(self, *, complete: bool) -> Ended:
        """`complete`: everybody is back, so the gate goes. While a foreign key is broken the lists stay: mended, the same
        call goes on from here."""
        conn = self._conn
        if not complete:
            return Ended([], progress.said(conn)[0])
        while not gate.open_for_good(conn):
            time.sleep(_RETRY_S)
        reach("recover.open")
        broken = [*rebuild.validate_all(self._dsn, self._jobs), *self._orphans()]
        advances = past_record(self._target, record.sequences_at(self._vault, self._resolved.cut))
        converse(conn, [Ask(statement.as_string(None)) for statement in advances])
        warnings = [*progress.said(conn)[0], *empty_views(conn)]
        if broken:
            return Ended(broken, warnings)
        for index in roster.helping(conn):
            self._insist([f"DROP INDEX IF EXISTS {index}"])
        if warning := mark.unmark(conn):
            warnings.append(warning)
        reach("recover.checked")
        self._insist([*roster.leaving(), f"DROP SCHEMA IF EXISTS {progress.SCHEMA} CASCADE", _MARKED])
        reach("recover.finished")
        return Ended([], warnings, complete=True)

    def _orphans(self) -> list[str]:
        """Of foreign keys that had to be added as if they had been checked."""
        checked = {tuple(row) for row in self._conn.execute(_CHECKED.encode()).fetchall()}
        keys = [
            (key, sql.SQL("true"))
            for key in self._target.catalog.foreign_keys
            if (key.table_oid, key.name) not in checked
            and not key.inherited
            and key.validated
            and key.enforced
            and not key.temporal
        ]
        questions = sql.SQL(" UNION ALL ").join(orphans(self._target, keys)).as_string(None)
        return described(converse(self._conn, [Ask(questions)])[0]) if questions else []

    def _insist(self, statements: list[str]) -> None:
        while not gate.try_briefly(self._conn, statements):
            time.sleep(_RETRY_S)
