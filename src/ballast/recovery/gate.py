"""The gate: until a tenant is back, its tables refuse to be read for it (they would look empty) and to be written to.

Row-level policies of ours stand in front of every table with tenants' rows, for owners as well (FORCE). Superusers and
roles with BYPASSRLS pass any policy. A policy cannot see which tenant a query without rows is about, so a session says
it: by `ballast.ensure_tenant`, by the setting `ballast.tenant`, or by the setting that the application's own
policies compare the tenant column with, which is found here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import psycopg
from psycopg import sql

from ballast.postgres import Catalog, Table
from ballast.recovery.copying import ServerRefused, run_script
from ballast.recovery.target import Target
from ballast.vault.records import ByColumn, Relation, Shared

OUR_SETTING = "ballast.tenant"
_READ, _ALL, _OWNER = "ballast_recovery_gate", "ballast_recovery_all", "ballast_recovery_owner"
_LOCK_NOT_AVAILABLE = "55P03"

_POLICIES = """
SELECT polrelid::bigint, polname, polpermissive, pg_get_expr(polqual, polrelid)
  FROM pg_policy WHERE polrelid = ANY(%s) ORDER BY 1, 2
"""
_KEEP = """
INSERT INTO ballast_recovery.gate SELECT oid, relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = ANY(%s)
"""
_KEPT = """
SELECT g.relation::bigint, n.nspname, c.relname, g.was_enabled, g.was_forced
  FROM ballast_recovery.gate g
  LEFT JOIN pg_class c ON c.oid = g.relation LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1
"""
_NAME = "INSERT INTO ballast_recovery.naming VALUES (%s) ON CONFLICT DO NOTHING"
_OURS_ON = "SELECT polname FROM pg_policy WHERE polrelid = %s AND polname = ANY(%s)"
_CANONICAL = """
CREATE OR REPLACE FUNCTION ballast_recovery.canonical(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $body$ SELECT {} $body$
"""
_INTEGERS = frozenset(("smallint", "integer", "bigint"))


class Door:
    """One table and how its rows name their tenant."""

    def __init__(self, table: Table, column: str | None) -> None:
        self.table = table
        self.column = column
        """None: through a parent."""

    @property
    def name(self) -> sql.Identifier:
        """Quoted."""
        return sql.Identifier(self.table.schema, self.table.name)


def doors(target: Target) -> list[Door]:
    """Every table that holds rows of tenants, and the partitioned ones above them."""
    found: dict[int, Door] = {}
    for relation in target.relations.values():
        table = target.table_of(relation)
        if table is None or isinstance(relation.tenant, Shared) or table.extension is not None:
            continue
        above: int | None = table.oid
        while above is not None and above in target.tables:
            held = target.tables[above]
            found.setdefault(above, Door(held, _tenant_column(relation)))
            above = held.parent_oid
    return list(found.values())


def shut(conn: psycopg.Connection[Any], target: Target, settings: Collection[str]) -> list[str]:
    """Puts the policies up, inside of the caller's transaction; gives warnings. ServerRefused.

    `settings`: by which the application says its tenant, beside those that its policies tell."""
    closed = doors(target)
    oids = [door.table.oid for door in closed]
    conn.execute(_KEEP.encode(), [oids])
    policies: dict[int, list[tuple[str, bool, str | None]]] = {}
    for oid, name, permissive, condition in conn.execute(_POLICIES.encode(), [oids]).fetchall():
        policies.setdefault(oid, []).append((name, permissive, condition))
    named = {OUR_SETTING, *settings}
    warnings: list[str] = []
    for door in closed:
        own = policies.get(door.table.oid, [])
        if door.table.row_security and door.column is not None:
            named |= {name for _, _, condition in own for name in settings_in(condition or "", door.column)}
        warnings += _close(conn, door, restrictive=[name for name, permissive, _ in own if not permissive])
    for name in sorted(named):
        conn.execute(_NAME.encode(), [name])
    conn.execute(_canonical(target.catalog, closed).encode())
    return warnings


def open_for_good(conn: psycopg.Connection[Any]) -> bool:
    """Takes the policies away, table by table, and leaves row-level security as it was. Locks are waited for so briefly that
    no application stalls behind; False: not all could be had, try again."""
    complete = True
    for oid, schema, name, was_enabled, was_forced in conn.execute(_KEPT.encode()).fetchall():
        if name is not None and not _open(conn, oid, sql.Identifier(schema, name), was_enabled, was_forced):
            complete = False
            continue
        conn.execute("DELETE FROM ballast_recovery.gate WHERE relation = %s", [oid])
    return complete


def settings_in(condition: str, column: str) -> list[str]:
    """The settings that a policy compares the tenant column with, and nothing else: `(shop_id = current_setting('x')…)`."""
    quoted = re.escape(sql.Identifier(column).as_string(None))
    name = rf"(?:{quoted}|{re.escape(column)})"
    column_side = rf"\(*{name}\)*(?:::[\w ]+\)*)?"
    setting_side = r"[( ]*(?:SELECT [( ]*)?(?:NULLIF\()?current_setting\('(?P<setting>[^']+)'::text(?:, \w+)?\)[^=<>]*"
    for pattern in (rf"\(*{column_side} = {setting_side}", rf"{setting_side} = {column_side}\)*"):
        if found := re.fullmatch(pattern, " ".join(condition.split())):
            return [found["setting"]]
    return []


def _close(conn: psycopg.Connection[Any], door: Door, *, restrictive: list[str]) -> list[str]:
    warnings = []
    table, name = door.table, door.name
    if not table.row_security and restrictive:
        # Switching row-level security on would wake them.
        return [f"{table.schema}.{table.name} has policies that are switched off: it is not closed to tenants not yet back"]
    check: sql.Composable = sql.SQL("true")
    if door.column is not None:
        check = sql.SQL("ballast_recovery.writable({}::text)").format(sql.Identifier(door.column))
    statements = [
        sql.SQL(
            "CREATE POLICY {} ON {} AS RESTRICTIVE USING ((SELECT ballast_recovery.readable())) WITH CHECK ({})"
        ).format(sql.Identifier(_READ), name, check)
    ]
    forced = True
    if not table.row_security:
        statements.append(
            sql.SQL("CREATE POLICY {} ON {} USING (true) WITH CHECK (true)").format(sql.Identifier(_ALL), name)
        )
    elif not table.force_row_security:
        forced = not restrictive
        if not forced:
            warnings.append(
                f"{table.schema}.{table.name} has restrictive policies that do not bind its owner: its owner can read it for"
                " tenants not yet back"
            )
        owner = sql.SQL("SELECT relowner::regrole::text FROM pg_class WHERE oid = {}").format(sql.Literal(table.oid))
        row = conn.execute(owner).fetchone()
        if forced and row is not None:
            statements.append(
                sql.SQL("CREATE POLICY {} ON {} TO {} USING (true) WITH CHECK (true)").format(
                    sql.Identifier(_OWNER), name, sql.SQL(row[0])
                )
            )
    statements.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
    if forced:
        statements.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(name))
    for statement in statements:
        run_script(conn, statement.as_string(conn))
    return warnings


def _open(
    conn: psycopg.Connection[Any], oid: int, name: sql.Identifier, was_enabled: bool, was_forced: bool
) -> bool:
    ours = [row[0] for row in conn.execute(_OURS_ON.encode(), [oid, [_READ, _ALL, _OWNER]]).fetchall()]
    steps = [sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy), name) for policy in ours]
    if not was_enabled:
        steps.append(sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(name))
    if not was_forced:
        steps.append(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(name))
    return try_briefly(conn, [step.as_string(conn) for step in steps])


def try_briefly(conn: psycopg.Connection[Any], statements: Iterable[str]) -> bool:
    """All in one transaction, if the locks can be had at once; False: nothing was done."""
    try:
        run_script(conn, "; ".join(("BEGIN", "SET LOCAL lock_timeout = '100ms'", *statements, "COMMIT")))
    except ServerRefused as refused:
        run_script(conn, "ROLLBACK")
        if refused.sqlstate != _LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


def _tenant_column(relation: Relation) -> str | None:
    rule = relation.tenant
    if not isinstance(rule, ByColumn):
        return None
    return next(column.name for column in relation.columns if column.attnum == rule.attnum)


def _canonical(catalog: Catalog, closed: Collection[Door]) -> str:
    """A tenant's name as rows print it, of what a session says: 042 is 42 where the column is a number."""
    types = {
        column.base_type for door in closed for column in door.table.columns if column.name == door.column
    }
    expression = "name"
    if types and types <= _INTEGERS:
        expression = "name::bigint::text"
    elif types == {"uuid"}:
        expression = "name::uuid::text"
    return _CANONICAL.format(expression)
