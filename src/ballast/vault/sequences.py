"""The values of sequences, put into the stream now and then: PostgreSQL's logical decoding says nothing of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from ballast.vault.records import SequenceState

PREFIX = "ballast.sequences"
"""Prefix of the messages; their content is `Told` as JSON."""

_QUERY = files("ballast.vault").joinpath("sequences.sql").read_text(encoding="utf-8")
_A_MESSAGE = 500
_A_STATEMENT = 200
_UNUSED_EVERY_S = 60.0


class Told(msgspec.Struct, frozen=True):
    """Content of a message."""

    token: str
    """See token.py."""
    sequences: tuple[SequenceState, ...] = ()


class SequenceWatch:
    """Remembers what it has told, so that only what has changed since is told again."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], SequenceState] = {}
        self._unused_read_at = float("-inf")

    def tell(self, conn: psycopg.Connection[Any], token: str) -> int:
        """Emit messages for the sequences that have changed (at first: for all); how many sequences. In a transaction of
        the caller's."""
        changed = [state for state in self._read(conn) if self._told.get((state.schema, state.name)) != state]
        for start in range(0, len(changed), _A_MESSAGE):
            content = msgspec.json.encode(Told(token, tuple(changed[start : start + _A_MESSAGE])))
            conn.execute("SELECT pg_logical_emit_message(true, %s, %b::bytea)", (PREFIX, content))
        self._told.update({(state.schema, state.name): state for state in changed})
        return len(changed)

    def forget(self) -> None:
        """Tell all again: what was told may not have been committed."""
        self._told.clear()
        self._unused_read_at = float("-inf")

    def _read(self, conn: psycopg.Connection[Any]) -> list[SequenceState]:
        with conn.cursor(row_factory=tuple_row) as cursor:
            rows = cursor.execute(_QUERY.encode()).fetchall()
            states = [
                SequenceState(s, n, last, True, inc, cache) for s, n, last, inc, cache, _ in rows if last is not None
            ]
            if time.monotonic() - self._unused_read_at >= _UNUSED_EVERY_S:
                self._unused_read_at = time.monotonic()
                states += self._read_unused(cursor, [row for row in rows if row[2] is None])
        return states

    def _read_unused(self, cursor: psycopg.Cursor[Any], rows: Sequence[Any]) -> list[SequenceState]:
        """They have to be looked into one by one: `setval(…, false)` may have set them to any value."""
        states = []
        for start in range(0, len(rows), _A_STATEMENT):
            some = rows[start : start + _A_STATEMENT]
            query = sql.SQL(" UNION ALL ").join(
                sql.SQL("SELECT {}, last_value, is_called FROM {}").format(sql.Literal(i), sql.SQL(row[5]))
                for i, row in enumerate(some)
            )
            for i, last_value, is_called in cursor.execute(query).fetchall():
                schema, name, _, increment, cache, _ = some[i]
                states.append(SequenceState(schema, name, last_value, is_called, increment, cache))
        return states
