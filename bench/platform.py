"""The database that the restore measurements share: shops of about 500 rows in eight tables, every 200th of about 2,000."""

from __future__ import annotations

from pathlib import Path

import psycopg

_HERE = Path(__file__).parent

TABLES = ("shops", "categories", "products", "skus", "customers", "orders", "order_lines", "payments")
"""Parents before their children."""


def build(dsn: str, tenants: int, *, large_every: int = 200) -> int:
    """Creates and fills the tables; gives the number of rows."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("SET synchronous_commit = off")
        conn.execute((_HERE / "shop.sql").read_text())  # type: ignore[arg-type]
        values = {"tenants": tenants, "large_every": large_every}
        client = psycopg.ClientCursor(conn)
        for statement in (_HERE / "fill.sql").read_text().split(";\n"):
            if statement.strip():
                client.execute(statement, values)  # type: ignore[arg-type]
        conn.execute("VACUUM ANALYZE")
        return sum(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)  # type: ignore[index,arg-type]
