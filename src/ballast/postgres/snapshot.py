"""A snapshot whose position in the log is known exactly.

PostgreSQL does not say which LSN an ordinary snapshot stands for. The one that comes with a new logical slot is the
exception: it holds the commits before the slot's consistent point, and no other. So a temporary slot is made for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from ballast.postgres import replication
from ballast.postgres.session import connect


@contextmanager
def snapshot_at_cut(dsn: str) -> Iterator[tuple[psycopg.Connection[Any], int]]:
    """A pinned connection in a read-only transaction, and the LSN before which it sees every commit.

    It waits for transactions that write at this moment. Raises ReplicationError where no slot is free.
    """
    name = f"ballast_look_{os.urandom(6).hex()}"
    with connect(dsn) as conn, conn.transaction(force_rollback=True):
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        with replication.connect(dsn, name) as stream:
            slot = stream.create_slot(name, temporary=True)
            assert slot.snapshot_name is not None
            conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(slot.snapshot_name)))
        # The slot is gone already: while the snapshot is read, perhaps for an hour, it would keep all WAL that is written.
        yield conn, slot.consistent_point
