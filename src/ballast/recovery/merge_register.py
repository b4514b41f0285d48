"""What the target itself remembers of a merge: which items are applied, and which cannot be, with the reason.

An item's line in `ballast_merge.applied` is written in the transaction that applies it, so that neither is there without the
other. Nothing here is ever deleted: an exception that is over is settled, with how and by whom.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec
import psycopg
import xxhash
from psycopg.rows import class_row

from ballast.postgres.ownership import stranger_in
from ballast.recovery.merge_items import MergeError, MergeItem
from ballast.vault.tables import MERGE_SCHEMA

SCHEMA = MERGE_SCHEMA

_THERE = f"SELECT to_regclass('{SCHEMA}.exception') IS NOT NULL"
_IS_NEW = f"SELECT FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass('{SCHEMA}.applied') AND attname = 'kept'"
_RENEW = f"ALTER TABLE {SCHEMA}.applied ADD COLUMN IF NOT EXISTS kept json"
# Two that begin at the same time must not both create.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('ballast_merge', 0))"
_CREATE = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.applied (
    tenant text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    digest bytea NOT NULL,
    made_at timestamptz NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kept json,
    PRIMARY KEY (tenant, key)
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.exception (
    number bigint GENERATED ALWAYS AS IDENTITY,
    tenant text NOT NULL,
    key text NOT NULL,
    kind text NOT NULL,
    digest bytea NOT NULL,
    payload json NOT NULL,
    made_at timestamptz NOT NULL,
    reason text NOT NULL,
    sqlstate text,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts int NOT NULL DEFAULT 1,
    settled_at timestamptz,
    settled_by text,
    settlement text,
    PRIMARY KEY (tenant, key, digest)
);
"""
# `kept`: the payload of an item that the handler could not do, and the application keeps for people to decide.
# Items of one tenant come one after the other, whoever merges.
_TURN = "SELECT pg_advisory_xact_lock(%s)"
_KNOWN = f"""
SELECT (SELECT digest FROM {SCHEMA}.applied WHERE tenant = %(tenant)s AND key = %(key)s),
       (SELECT settled_at IS NULL FROM {SCHEMA}.exception WHERE tenant = %(tenant)s AND key = %(key)s AND digest = %(digest)s)
"""
_APPLIED_SINCE = f"SELECT FROM {SCHEMA}.applied WHERE tenant = %s AND key = %s AND applied_at > %s"
_REFUSED_SINCE = f"SELECT FROM {SCHEMA}.exception WHERE tenant = %s AND key = %s AND digest = %s AND refused_at > %s"
_NOTE = f"INSERT INTO {SCHEMA}.applied (tenant, key, kind, digest, made_at) VALUES (%s, %s, %s, %s, %s)"
_NOTE_KEPT = f"UPDATE {SCHEMA}.applied SET kept = %s::json WHERE tenant = %s AND key = %s"
_IS_KEPT = f"SELECT FROM {SCHEMA}.applied WHERE tenant = %s AND key = %s AND kept IS NOT NULL"
_KEEP = f"""
INSERT INTO {SCHEMA}.exception (tenant, key, kind, digest, payload, made_at, reason, sqlstate)
VALUES (%s, %s, %s, %s, %s::json, %s, %s, %s)
ON CONFLICT (tenant, key, digest) DO UPDATE
   SET reason = excluded.reason, sqlstate = excluded.sqlstate, refused_at = excluded.refused_at,
       attempts = exception.attempts + 1
"""
_SETTLE = f"""
UPDATE {SCHEMA}.exception SET settled_at = clock_timestamp(), settled_by = coalesce(%s, session_user), settlement = %s
 WHERE tenant = %s AND key = %s AND settled_at IS NULL
"""
_LIST = f"""
SELECT number, tenant, key, kind, payload::text AS payload, made_at, reason, sqlstate, refused_at, attempts, settled_at,
       settled_by, settlement
  FROM {SCHEMA}.exception
 WHERE (settled_at IS NULL OR %(settled)s) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
   AND (%(key)s::text IS NULL OR key = %(key)s)
 ORDER BY number
"""


class Refusal(msgspec.Struct, frozen=True):
    """An item that could not be applied, as the target keeps it."""

    number: int
    """In the order in which they were refused."""
    tenant: str
    key: str
    kind: str
    payload: str
    """JSON text, as it came."""
    made_at: datetime
    reason: str
    sqlstate: str | None
    """Of the database's refusal; None where a handler's rule forbade it."""
    refused_at: datetime
    attempts: int
    settled_at: datetime | None = None
    """None: it is open."""
    settled_by: str | None = None
    settlement: str | None = None
    """What was done about it."""

    @property
    def item(self) -> MergeItem:
        """To be tried again."""
        return MergeItem(self.tenant, self.key, self.kind, msgspec.json.decode(self.payload), self.made_at)


def prepare(conn: psycopg.Connection[Any], *, renew: bool = True) -> None:
    """Have the tables be there; `renew`: as this version writes them.

    MergeError where somebody else's objects stand in the schema, or this role may not."""
    stranger = stranger_in(conn, SCHEMA)
    if stranger is not None:
        raise MergeError(
            f"in the schema {SCHEMA} of this database, {stranger[0]} belongs to role {stranger[1]}",
            "Merge as that role; or look at what it has put there, and drop it.",
        )
    if _one(conn, _THERE):
        if renew and not conn.execute(_IS_NEW.encode()).rowcount:
            conn.execute(_RENEW.encode())
        return
    try:
        with conn.transaction():
            conn.execute("SET LOCAL client_min_messages = warning")
            conn.execute(_LOCK.encode())
            conn.execute(_CREATE.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        raise MergeError(
            f"this role may not make the schema {SCHEMA}: {error.diag.message_primary}",
            "GRANT CREATE ON DATABASE … to it, or merge once as a role that may, with an empty file.",
        ) from error


def take_turn(conn: psycopg.Connection[Any], tenant: str) -> None:
    """Until the transaction ends, nobody else merges for this tenant."""
    conn.execute(_TURN.encode(), (xxhash.xxh64_intdigest(b"ballast merge " + tenant.encode()) - (1 << 63),))


def known(conn: psycopg.Connection[Any], item: MergeItem) -> tuple[bytes | None, bool | None]:
    """(The digest of what was applied under the item's key, whether it was refused before: True open, False settled)."""
    row = conn.execute(_KNOWN.encode(), {"tenant": item.tenant, "key": item.key, "digest": item.digest()}).fetchone()
    assert row is not None
    return row[0], row[1]


def now(conn: psycopg.Connection[Any]) -> datetime:
    """By the clock that the register's times are of."""
    moment: datetime = _one(conn, "SELECT clock_timestamp()")
    return moment


def applied_since(conn: psycopg.Connection[Any], item: MergeItem, since: datetime) -> bool:
    """Whether it was applied after `since`."""
    return conn.execute(_APPLIED_SINCE.encode(), (item.tenant, item.key, since)).fetchone() is not None


def refused_since(conn: psycopg.Connection[Any], item: MergeItem, since: datetime) -> bool:
    """Whether it was refused after `since`."""
    query = _REFUSED_SINCE.encode()
    return conn.execute(query, (item.tenant, item.key, item.digest(), since)).fetchone() is not None


def note(conn: psycopg.Connection[Any], item: MergeItem) -> None:
    """It is applied, if this transaction commits."""
    conn.execute(_NOTE.encode(), (item.tenant, item.key, item.kind, item.digest(), item.made_at))


def note_kept(conn: psycopg.Connection[Any], item: MergeItem, *, kept: bool) -> None:
    """Of an item that is noted: whether its handler has not done it, and the application keeps it."""
    payload = msgspec.json.encode(item.payload).decode() if kept else None
    conn.execute(_NOTE_KEPT.encode(), (payload, item.tenant, item.key))


def is_kept(conn: psycopg.Connection[Any], item: MergeItem) -> bool:
    """Whether the application still keeps what is noted under the item's key."""
    return conn.execute(_IS_KEPT.encode(), (item.tenant, item.key)).rowcount == 1


def refused_item(table: str, values: Mapping[str, str | None]) -> MergeItem | None:
    """The item that could not be done, as a row of this table of the register tells by its recorded texts; None: it tells of
    none. Pure."""
    payload = values.get("kept") if table == "applied" else values.get("payload") if table == "exception" else None
    if payload is None or values.get("settled_at") is not None:
        return None
    try:
        made_at = datetime.fromisoformat(str(values["made_at"]))
        return MergeItem(
            str(values["tenant"]), str(values["key"]), str(values["kind"]), msgspec.json.decode(payload), made_at
        )
    except (KeyError, ValueError, msgspec.DecodeError):  # somebody else's table of that name
        return None


def keep(conn: psycopg.Connection[Any], item: MergeItem, reason: str, sqlstate: str | None) -> None:
    """It cannot be applied."""
    conn.execute(
        _KEEP.encode(),
        (
            item.tenant, item.key, item.kind, item.digest(), msgspec.json.encode(item.payload).decode(), item.made_at,
            reason.replace("\0", "\\0"), sqlstate,
        ),
    )  # fmt: skip


def settle(dsn: str, tenant: str, key: str, settlement: str, *, by: str | None = None) -> int:
    """Close what was refused under this key, saying what was done about it (`by`: who; None: the role). How many were open.

    Such an item is not tried again."""
    with _open(dsn) as conn:
        return close(conn, tenant, key, settlement, by=by)


def close(conn: psycopg.Connection[Any], tenant: str, key: str, settlement: str, *, by: str | None = None) -> int:
    """The same in an open transaction."""
    return conn.execute(_SETTLE.encode(), (by, settlement, tenant, key)).rowcount


def refusals(dsn: str, *, tenant: str | None = None, key: str | None = None, settled: bool = False) -> list[Refusal]:
    """The items that are kept because they could not be applied, in that order; `settled`: also those that are closed."""
    with _open(dsn) as conn, conn.cursor(row_factory=class_row(Refusal)) as cursor:
        return cursor.execute(_LIST.encode(), {"tenant": tenant, "key": key, "settled": settled}).fetchall()


@contextmanager
def _open(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with connect(dsn) as conn:
        prepare(conn, renew=False)
        yield conn


def connect(dsn: str) -> psycopg.Connection[Any]:
    """As the application would: its search path and settings are not touched. MergeError if the target is not there."""
    try:
        return psycopg.connect(dsn, autocommit=True, fallback_application_name="ballast merge")
    except psycopg.Error as error:
        raise MergeError(
            f"the target cannot be reached: {str(error).strip()}",
            "Check --into: the database must exist, the server run, and the role be allowed to connect.",
        ) from error


def _one(conn: psycopg.Connection[Any], statement: str) -> Any:
    row = conn.execute(statement.encode()).fetchone()
    return row[0] if row else None
