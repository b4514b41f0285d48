"""Rows counted and summed the way the record does it."""

from __future__ import annotations

from typing import Any

import psycopg
import xxhash
from psycopg import sql

from ballast.recovery.copying import Count, converse
from ballast.recovery.report import Tally


def tally_of(lines: list[bytes]) -> Tally:
    """Rows and checksum of COPY text lines (with their newlines)."""
    return Tally(len(lines), sum(map(xxhash.xxh64_intdigest, lines)) % (1 << 64))


def tally_of_query(conn: psycopg.Connection[Any], query: sql.Composable) -> Tally:
    """Rows and checksum of what `query` gives, as COPY prints it in this session."""
    statement = sql.SQL("COPY ({}) TO STDOUT").format(query).as_string(conn)
    tally: Tally = converse(conn, [Count(statement)])[0][0]
    return tally
