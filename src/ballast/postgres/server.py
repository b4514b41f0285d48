"""What a server is, and what it allows the role that asks."""

from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A server as one session sees it, at one moment."""

    version_num: int
    """Such as 180004 for 18.4."""
    version: str
    system_identifier: str
    """Of the cluster, given once by initdb: copies of a cluster share it."""
    database: str
    role: str
    is_superuser: bool
    may_replicate: bool
    """By attribute (REPLICATION) or as superuser. Some managed services grant it by a role of theirs instead."""
    may_bypass_rls: bool
    """By attribute (BYPASSRLS) or as superuser: reads whole tables despite row-level security."""
    can_create_in_database: bool
    """May create schemas, and publications of tables that it owns."""
    can_set_replication_role: bool
    """May SET session_replication_role, which silences triggers while rows are put back."""
    in_recovery: bool
    """It is a standby."""
    wal_lsn: int
    """The end of its WAL as written; on a standby, as replayed."""
    timeline: int
    wal_level: str
    """`minimal`, `replica` or `logical`; only the last feeds a recorder."""
    max_replication_slots: int
    used_replication_slots: int
    max_wal_senders: int
    used_wal_senders: int
    max_slot_wal_keep_size_bytes: int
    """How much WAL an unread slot may keep before it is given up; -1: without limit."""
    idle_replication_slot_timeout_s: int | None
    """After how long an unused slot is given up, 0: never; None before PostgreSQL 18, which brought it."""
    wal_sender_timeout_ms: int
    synchronous_standby_names: str
    synchronous_commit: str
    """For this session."""
    fsync: bool
    full_page_writes: bool
    track_commit_timestamp: bool
    ssl: bool
    """This connection is encrypted."""

    @property
    def major(self) -> int:
        """The major version, such as 18."""
        return self.version_num // 10000


def server_facts(conn: psycopg.Connection[Any]) -> ServerFacts:
    """What the server at the other end of `conn` is."""
    statement = (files(__package__) / "server_facts.sql").read_bytes()
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(statement).fetchone()
    assert row is not None  # every role has its row in pg_roles
    return msgspec.json.decode(row[0], type=ServerFacts)
