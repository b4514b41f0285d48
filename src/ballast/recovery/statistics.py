"""The planner's statistics of tables that were just filled.

Without them the first queries of a restored database get plans for empty tables; checking foreign keys, the first of
all, takes twice as long.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ballast.recovery.copying import run_statement
from ballast.recovery.schedule import Task
from ballast.recovery.target import Place


def analyze(places: Iterable[Place]) -> list[Task]:
    """A task for each table. The server passes over, with a warning, what the role may not analyze."""
    names = {place.table.oid: place for place in places if place.table.kind in "rp"}
    return [Task(place.qualified, True, partial(_analyze, place)) for place in names.values()]


def _analyze(place: Place, conn: psycopg.Connection[Any]) -> None:
    run_statement(conn, sql.SQL("ANALYZE {}").format(place.name).as_string(conn))
