"""Whether a schema of ours is ours: who may create schemas could have made it first, with functions and triggers of their own."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

# A superuser's own objects give a superuser nothing new.
_STRANGERS = """
SELECT s.what, r.rolname
  FROM (SELECT 0 AS place, n.oid AS schema, 'the schema ' || n.nspname AS what, n.nspowner AS owner FROM pg_catalog.pg_namespace n
        UNION ALL
        SELECT 1, c.relnamespace, c.relname, c.relowner FROM pg_catalog.pg_class c
        UNION ALL
        SELECT 1, p.pronamespace, p.proname, p.proowner FROM pg_catalog.pg_proc p
        UNION ALL
        SELECT 1, t.typnamespace, t.typname, t.typowner FROM pg_catalog.pg_type t
        UNION ALL
        SELECT 1, o.oprnamespace, o.oprname, o.oprowner FROM pg_catalog.pg_operator o) AS s
  JOIN pg_catalog.pg_namespace n ON n.oid = s.schema AND n.nspname = %s
  JOIN pg_catalog.pg_roles r ON r.oid = s.owner
 WHERE r.rolname <> current_user
   AND NOT (r.rolsuper AND pg_catalog.pg_has_role(s.owner, 'USAGE'))
 ORDER BY s.place, s.what
 LIMIT 1
"""


def stranger_in(conn: psycopg.Connection[Any], schema: str) -> tuple[str, str] | None:
    """What in the schema (or the schema itself) belongs to somebody else, and to whom; None if nothing, or without a schema."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_STRANGERS.encode(), (schema,)).fetchone()
    return None if found is None else (str(found[0]), str(found[1]))
