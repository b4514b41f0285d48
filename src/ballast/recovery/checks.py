"""Which of some rows a table would refuse: the server's own CHECK constraints, asked of rows that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

from ballast.recovery.copying import Ask, converse
from ballast.recovery.difference import fields_of
from ballast.recovery.livetable import LiveTable, row

_CHECKS = (
    "SELECT pg_get_expr(k.conbin, k.conrelid), NOT k.conkey <@ ARRAY(SELECT a.attnum FROM pg_attribute a"
    " WHERE a.attrelid = k.conrelid AND a.attname = ANY({names}) AND NOT a.attisdropped)"
    " FROM pg_constraint k WHERE k.conrelid = {table} AND k.contype = 'c'"
)
_AT_ONCE = 500
_PLACE = "ballast place"


def broken(conn: psycopg.Connection[Any], table: LiveTable, lines: Sequence[bytes]) -> frozenset[bytes]:
    """Those of the lines that break a CHECK constraint. Constraints on columns that the record does not have, such as generated
    ones, are not asked: the server will, when the row is written."""
    names = sql.Literal(list(table.columns)).as_string(None)
    [found] = converse(conn, [Ask(_CHECKS.format(names=names, table=table.table.oid))])
    rules = [expression for expression, beyond in found if beyond == "f"]
    if not rules:
        return frozenset()
    columns = ", ".join(sql.Identifier(name).as_string(None) for name in (_PLACE, *table.columns))
    types = [table.types[name] for name in table.columns]
    every = " AND ".join(f"({rule})" for rule in rules)
    bad: set[bytes] = set()
    for first in range(0, len(lines), _AT_ONCE):
        some = lines[first : first + _AT_ONCE]
        rows = ", ".join(f"({place}, {row(fields_of(line), types)[1:]}" for place, line in enumerate(some))
        asked = f'SELECT "{_PLACE}" FROM (VALUES {rows}) AS v({columns}) WHERE NOT ({every})'
        [places] = converse(conn, [Ask(asked)])
        bad.update(some[int(place)] for (place,) in places)
    return frozenset(bad)
