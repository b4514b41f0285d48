"""Somebody with the rights to do it: every row deleted in one transaction, the server killed and its data removed; or data
changed, so that nothing is missing and much is wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ballast.postgres import EmbeddedServer

SCHEMAS = ("mall",)
TRIES, AGAIN_S = 60, 0.5
PRICE_FEN = 1
_WRONG = (
    "UPDATE mall.sku SET price_fen = %(price_fen)s WHERE shop_id = ANY (%(shops)s::uuid[])",
    "UPDATE mall.address SET name = 'Mallory', phone = '13900000000', province = '海南省', city = '三亚市', district = '',"
    " street = 'Back door 1' WHERE shop_id = ANY (%(shops)s::uuid[])",
    "UPDATE mall.stock SET on_hand = on_hand + 500 WHERE shop_id = ANY (%(shops)s::uuid[])",
    "UPDATE mall.customer SET points = points + 100000 WHERE shop_id = ANY (%(shops)s::uuid[])",
)
_TABLES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1, 2
"""


def delete_rows(dsn: str) -> tuple[int, float]:
    """Every row of the application, in one transaction, as the owner. How many, and when they were gone for everybody."""
    return _until_done(lambda: _delete(dsn))


def change_rows(dsn: str, shops: Sequence[str]) -> tuple[int, float]:
    """Prices, addresses, stock and points of these shops, in one transaction. How many rows, and since when for everybody."""
    return _until_done(lambda: _change(dsn, shops))


def _until_done(deed: Callable[[], tuple[int, float]]) -> tuple[int, float]:
    for left in reversed(range(TRIES)):
        try:
            return deed()
        except psycopg.OperationalError:  # shoppers hold rows, too; or the server was killed and starts again
            if not left:
                raise
            time.sleep(AGAIN_S)
    raise AssertionError


def _delete(dsn: str) -> tuple[int, float]:
    with psycopg.connect(make_conninfo(dsn, application_name="engineer"), connect_timeout=5) as connection:
        # What stands in the way of a quick hand: foreign keys.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET lock_timeout = '5s'")
        tables = connection.execute(_TABLES, (list(SCHEMAS),)).fetchall()
        rows = 0
        for schema, table in tables:
            rows += connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(schema, table))).rowcount
        connection.commit()
        # Until the commit is acknowledged everybody else sees the rows.
        return rows, time.time()


def _change(dsn: str, shops: Sequence[str]) -> tuple[int, float]:
    with psycopg.connect(make_conninfo(dsn, application_name="engineer"), connect_timeout=5) as connection:
        connection.execute("SET lock_timeout = '5s'")
        given = {"shops": list(shops), "price_fen": PRICE_FEN}
        rows = sum(connection.execute(statement.encode(), given).rowcount for statement in _WRONG)
        connection.commit()
        return rows, time.time()


def remove_server(server: EmbeddedServer) -> float:
    """SIGKILL to the server and all its processes, and its data is gone. When it was killed."""
    killed_at = time.time()
    server.kill()
    shutil.rmtree(server.pgdata, ignore_errors=True)
    return killed_at
