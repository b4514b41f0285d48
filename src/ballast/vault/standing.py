"""Whether what stands around the rows is still what the last dump holds, and when another may be taken.

Most changes of it are told by the event triggers. Commands about roles fire none, and what was changed under a version of
ours that did not heed it was never dumped. So a fingerprint of both is noted with each dump, in `dumped.json`; the guardian
compares roles at each look, everything when the recorder starts (without event triggers: every few minutes), and asks for a
dump. One that says the same as the last is not kept (`imager.py`), so that it does no harm to ask in vain.

Any role that may change structure can have dumps made: after some in a row the next waits.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast.errors import ProtectionError
from ballast.vault import wish
from ballast.vault.health import read_state, write_state
from ballast.vault.marker import read_marker

DUMPED_FILE = "dumped.json"
_WISH_ID = "dump-standing"
_REASON = "roles, or what stands around the rows, are no longer what was dumped"
_AT_ONCE, _ONE_EVERY_S = 10, 300.0
"""So many dumps may follow each other; after them one in this time."""

# xmin of a catalog's row is another one after each change of it. Temporary objects are nobody's concern.
_STRUCTURE = """
WITH place AS (SELECT oid, xmin FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
     relation AS (SELECT oid, xmin FROM pg_class WHERE relpersistence <> 't')
SELECT md5(string_agg(row, ' ' ORDER BY row)) FROM (
    SELECT format('%s %s', oid, xmin) FROM place
    UNION ALL SELECT format('%s %s', oid, xmin) FROM relation
    UNION ALL SELECT format('%s %s', a.attrelid, sum(a.xmin::text::bigint)) FROM pg_attribute a
      JOIN relation c ON c.oid = a.attrelid GROUP BY a.attrelid
    UNION ALL SELECT format('%s %s', p.oid, p.xmin) FROM pg_proc p JOIN place n ON n.oid = p.pronamespace
    UNION ALL SELECT format('%s %s', t.oid, t.xmin) FROM pg_type t JOIN place n ON n.oid = t.typnamespace
    UNION ALL SELECT format('%s %s', k.oid, k.xmin) FROM pg_constraint k JOIN place n ON n.oid = k.connamespace
    UNION ALL SELECT format('%s %s', t.oid, t.xmin) FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid
    UNION ALL SELECT format('%s %s', r.oid, r.xmin) FROM pg_rewrite r JOIN relation c ON c.oid = r.ev_class
    UNION ALL SELECT format('%s %s', y.oid, y.xmin) FROM pg_policy y JOIN relation c ON c.oid = y.polrelid
    UNION ALL SELECT format('%s %s', oid, xmin) FROM pg_event_trigger
    UNION ALL SELECT format('%s %s', oid, xmin) FROM pg_default_acl
) AS found (row)
"""
# What `pg_dumpall --roles-only` says, of the whole cluster.
_ROLES = """
SELECT md5(string_agg(row, ' ' ORDER BY row)) FROM (
    SELECT format('%s %s', to_jsonb(r) - 'rolvaliduntil', extract(epoch FROM rolvaliduntil)) FROM pg_roles r
     WHERE rolname !~ '^pg_'
    UNION ALL SELECT to_jsonb(m)::text FROM pg_auth_members m
    UNION ALL SELECT to_jsonb(p)::text FROM pg_parameter_acl p
    UNION ALL SELECT to_jsonb(d)::text FROM pg_shdescription d WHERE classoid = 'pg_authid'::regclass
) AS found (row)
"""


class Standing(msgspec.Struct, frozen=True):
    """Each is another value after a change."""

    structure: str
    roles: str


class Dumped(msgspec.Struct, frozen=True):
    """Content of `DUMPED_FILE`: what the last dump was taken of."""

    timeline: int
    standing: Standing
    at: float
    """By this machine's clock (s)."""
    in_a_row: float = 1.0
    """How many came before it without a pause, with itself; less as time passes."""


def standing(conn: psycopg.Connection[Any]) -> Standing:
    """As the snapshot of `conn` shows it."""
    return Standing(structure(conn), roles(conn))


def structure(conn: psycopg.Connection[Any]) -> str:
    """Another value after each change of structure, temporary objects apart."""
    return _value(conn, _STRUCTURE)


def roles(conn: psycopg.Connection[Any]) -> str:
    """Another value after each change of roles, memberships, and settings of roles."""
    return _value(conn, _ROLES)


def note(state_dir: Path, timeline: int, stood: Standing) -> None:
    """A dump is in the vault of what stood so."""
    was, now = read_state(state_dir, DUMPED_FILE, Dumped), time.time()
    write_state(state_dir, DUMPED_FILE, Dumped(timeline, stood, now, 1.0 + _in_a_row(was, now)))


def may_dump(state_dir: Path) -> bool:
    """Whether it is time for another one that nobody waits for."""
    return _in_a_row(read_state(state_dir, DUMPED_FILE, Dumped), time.time()) <= _AT_ONCE - 1


def is_dumped(conn: psycopg.Connection[Any], state_dir: Path, timeline: int, *, everything: bool = False) -> bool:
    """Whether roles (`everything`: and structure) are what the last dump was taken of. True as well while a recovery puts
    tenants back, since none is taken before all are there (`imager.py`)."""
    noted = read_state(state_dir, DUMPED_FILE, Dumped)
    try:
        marker = read_marker(conn)
    except ProtectionError:
        return True  # nor where somebody else has put something in its place
    if marker is not None and not marker.finished:
        return True
    if noted is None or noted.timeline != timeline:
        return False
    return noted.standing.roles == roles(conn) and (not everything or noted.standing.structure == structure(conn))


def ask_for_dump(state_dir: Path, timeline: int) -> None:
    """Once, however often it is called before that is granted."""
    wish.leave(state_dir, "dump", timeline, _REASON, id=_WISH_ID)


def _in_a_row(last: Dumped | None, now: float) -> float:
    """How many still count; a clock that was put back forgives all."""
    return max(0.0, last.in_a_row - (now - last.at) / _ONE_EVERY_S) if last is not None and last.at <= now else 0.0


def _value(conn: psycopg.Connection[Any], query: str) -> str:
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(query.encode()).fetchone()
    assert row is not None
    return str(row[0])
