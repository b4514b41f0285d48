"""The gate: until a tenant is back, its tables refuse to be read for it (they would look empty) and to be written to.

Row-level policies of ours stand in front of every table with tenants' rows, for owners as well (FORCE). Superusers and
roles with BYPASSRLS pass any policy. A policy cannot see which tenant a query is about, so a session says it: by
`ballast.ensure_tenant`, by the setting `ballast.tenant`, or by the setting that the application's own policies
compare the tenant column with, which is found here.

Where a tenant is missing a scan finds no row of which a policy could be asked. So the condition is one that the planner
works out when it plans. Plans that are kept would not ask again: those of statements with parameters are not kept
(`plan_cache_mode` of the database, until all are back); those without, which a session may use for one tenant after the
other if the application's policies tell tenants apart, meet the same question as a condition on the tenant column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, LiteralString

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres import Table
from ballast.recovery.copying import ServerRefused, run_script, try_statements
from ballast.recovery.target import Target
from ballast.vault.records import ByColumn, Relation, Shared
from ballast.vault.tables import GATE_POLICIES

OUR_SETTING = "ballast.tenant"
_GATE, _NAMED, _ALL, _OWNER = GATE_POLICIES
_LOCKS_IN_THE_WAY = ("55P03", "40P01")
IMPATIENT = """
DO $$ BEGIN
    PERFORM set_config('deadlock_timeout', '20ms', true);
EXCEPTION WHEN insufficient_privilege THEN NULL;
END $$
"""
"""For the transaction: an automatic VACUUM or ANALYZE that has the lock asked for gives way at once. The server tells it to when
somebody has waited for `deadlock_timeout`, a second by default: whoever gives up earlier never has it end, and that of a table of
gigabytes which was just filled takes minutes. Superusers', unless SET on that parameter is granted; else nothing changes."""

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
_PLANS = "plan_cache_mode"
"""Stands among what is to be taken away."""
_PLANS_SET = """
SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
 WHERE d.datname = current_database() AND s.setrole = 0 AND array_to_string(s.setconfig, ',') LIKE '%plan_cache_mode=%'
"""
_NAME = "INSERT INTO ballast_recovery.naming VALUES (%s) ON CONFLICT DO NOTHING"
_OURS_ON = "SELECT polname FROM pg_policy WHERE polrelid = %s AND polname = ANY(%s)"
_CANONICAL = """
CREATE OR REPLACE FUNCTION ballast_recovery.canonical(name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $body$ SELECT {} $body$
"""
_PASSERS = """
WITH RECURSIVE named (oid) AS (
    SELECT relowner FROM pg_class WHERE oid = ANY(%(tables)s)
    UNION SELECT a.grantee FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) AS a WHERE c.oid = ANY(%(tables)s)
    UNION SELECT m.member FROM pg_auth_members m JOIN named n ON n.oid = m.roleid
)
SELECT quote_ident(r.rolname), CASE WHEN r.rolsuper THEN 'superuser' ELSE 'BYPASSRLS' END
  FROM pg_roles r JOIN named USING (oid) WHERE r.rolcanlogin AND (r.rolsuper OR r.rolbypassrls) ORDER BY 1
"""
_INTEGERS = frozenset(("smallint", "integer", "bigint"))


class _Policy(msgspec.Struct, frozen=True):
    name: str
    permissive: bool
    condition: str | None


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

    `settings`: by which the application says its tenant, beside those that its policies tell. What is shut already stays so."""
    everything = doors(target)
    shut_before = {row[0] for row in conn.execute(_KEPT.encode()).fetchall()}
    closed = [door for door in everything if door.table.oid not in shut_before]
    oids = [door.table.oid for door in closed]
    conn.execute(_KEEP.encode(), [oids])
    policies: dict[int, list[_Policy]] = {}
    for oid, *policy in conn.execute(_POLICIES.encode(), [oids]).fetchall():
        policies.setdefault(oid, []).append(_Policy(*policy))
    named = {OUR_SETTING, *settings}
    warnings: list[str] = []
    for door in closed:
        own = policies.get(door.table.oid, [])
        if door.table.row_security:
            named |= {name for policy in own for name in settings_in(policy.condition or "", door.column or "")}
        warnings += _close(conn, door, own)
    for name in sorted(named):
        conn.execute(_NAME.encode(), [name])
    conn.execute(_canonical(everything).encode())
    return [*warnings, *(() if shut_before else _keep_no_plans(conn))]


def passers(conn: psycopg.Connection[Any], target: Target) -> str | None:
    """A warning that names the roles for which no policy holds though they are the application's: they may log in, and own
    tables of tenants or were granted rights on them, themselves or through other roles."""
    oids = [door.table.oid for door in doors(target)]
    found = conn.execute(_PASSERS.encode(), {"tables": oids}).fetchall()
    if not found:
        return None
    names = ", ".join(f"{name} ({why})" for name, why in found)
    return (
        f"roles that may log in and have rights on tenants' tables pass the gate: {names}. An application that connects as"
        " one of them reads a tenant that is not back as empty, and may write to it: have it call ballast.ensure_tenant first"
        " in every transaction, or connect as a role that is neither superuser nor BYPASSRLS, until all are back"
    )


def open_for_good(conn: psycopg.Connection[Any]) -> bool:
    """Takes the policies away, table by table, and leaves row-level security as it was. Locks are waited for so briefly that
    no application stalls behind; False: not all could be had, try again."""
    complete = True
    for oid, schema, name, was_enabled, was_forced in conn.execute(_KEPT.encode()).fetchall():
        if name is not None and not _open(conn, oid, sql.Identifier(schema, name), was_enabled, was_forced):
            complete = False
            continue
        conn.execute("DELETE FROM ballast_recovery.gate WHERE relation = %s", [oid])
    if complete:
        with conn.transaction():
            if conn.execute("DELETE FROM ballast_recovery.help WHERE index_name = %s", [_PLANS]).rowcount:
                run_script(conn, _database("ALTER DATABASE {} RESET plan_cache_mode", conn))
    return complete


def _keep_no_plans(conn: psycopg.Connection[Any]) -> list[str]:
    """In sessions that begin from now on."""
    if conn.execute(_PLANS_SET.encode()).fetchone() is not None:
        return [
            "plan_cache_mode of this database was left as it is: see that it is force_custom_plan until all are back"
        ]
    refused = try_statements(conn, [_database("ALTER DATABASE {} SET plan_cache_mode = force_custom_plan", conn)])
    if refused is not None:
        return [f"plans that sessions keep may read a tenant not yet back as empty: {refused.what}"]
    conn.execute("INSERT INTO ballast_recovery.help VALUES (%s)", [_PLANS])
    return []


def _database(statement: LiteralString, conn: psycopg.Connection[Any]) -> str:
    return sql.SQL(statement).format(sql.Identifier(conn.info.dbname)).as_string(conn)


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


def _close(conn: psycopg.Connection[Any], door: Door, own: Sequence[_Policy]) -> list[str]:
    warnings = []
    table, name = door.table, door.name
    restrictive = [policy for policy in own if not policy.permissive]
    if not table.row_security and restrictive:
        # Switching row-level security on would wake them.
        return [
            f"{table.schema}.{table.name} has policies that are switched off: it is not closed to tenants not yet back"
        ]
    check = _call("writable", door.column) if door.column is not None else sql.SQL("true")
    statements = [_policy(_GATE, name, "AS RESTRICTIVE", sql.SQL("ballast_recovery.readable()"), check)]
    setting = _only_setting(door, own)
    if table.row_security and door.column is not None and setting is not None:
        column = next(column for column in table.columns if column.name == door.column)
        named = sql.SQL("{} = (ballast_recovery.checked({}))::{}").format(
            sql.Identifier(door.column), sql.Literal(setting), sql.SQL(column.type)
        )
        statements.append(_policy(_NAMED, name, "AS RESTRICTIVE", named, sql.SQL("true")))
    forced = True
    if not table.row_security:
        statements.append(_policy(_ALL, name, "", sql.SQL("true"), sql.SQL("true")))
    elif not table.force_row_security:
        forced = not restrictive and setting is None
        if forced:
            owner = conn.execute("SELECT relowner::regrole::text FROM pg_class WHERE oid = %s", [table.oid]).fetchone()
            assert owner is not None  # it was read a moment ago
            statements.append(_policy(_OWNER, name, f"TO {owner[0]}", sql.SQL("true"), sql.SQL("true")))
        else:
            warnings.append(
                f"{table.schema}.{table.name}: its policies do not bind its owner, who can read it for tenants not yet back"
            )
    statements.append(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(name))
    if forced:
        statements.append(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(name))
    for statement in statements:
        run_script(conn, statement.as_string(conn))
    return warnings


def _policy(
    policy: str, table: sql.Identifier, kind: str, using: sql.Composable, check: sql.Composable
) -> sql.Composed:
    return sql.SQL("CREATE POLICY {} ON {} {} USING ({}) WITH CHECK ({})").format(
        sql.Identifier(policy), table, sql.SQL(kind), using, check
    )


def _call(function: LiteralString, column: str) -> sql.Composed:
    return sql.SQL("ballast_recovery.{}({}::text)").format(sql.Identifier(function), sql.Identifier(column))


def _only_setting(door: Door, own: Sequence[_Policy]) -> str | None:
    """The setting that alone tells tenants apart here, whoever asks; None where there are other ways to rows."""
    found = {tuple(settings_in(policy.condition or "", door.column or "")) for policy in own if policy.permissive}
    return next(iter(found))[0] if len(found) == 1 and len(next(iter(found))) == 1 else None


def _open(conn: psycopg.Connection[Any], oid: int, name: sql.Identifier, was_enabled: bool, was_forced: bool) -> bool:
    ours = [row[0] for row in conn.execute(_OURS_ON.encode(), [oid, [_GATE, _NAMED, _ALL, _OWNER]]).fetchall()]
    steps = [sql.SQL("DROP POLICY {} ON {}").format(sql.Identifier(policy), name) for policy in ours]
    if not was_enabled:
        steps.append(sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(name))
    if not was_forced:
        steps.append(sql.SQL("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY").format(name))
    return try_briefly(conn, [step.as_string(conn) for step in steps])


def try_briefly(conn: psycopg.Connection[Any], statements: Iterable[str]) -> bool:
    """All in one transaction, if the locks can be had at once; False: nothing was done."""
    try:
        run_script(conn, "; ".join(("BEGIN", IMPATIENT, "SET LOCAL lock_timeout = '100ms'", *statements, "COMMIT")))
    except ServerRefused as refused:
        run_script(conn, "ROLLBACK")
        if refused.sqlstate not in _LOCKS_IN_THE_WAY:
            raise
        return False
    return True


def _tenant_column(relation: Relation) -> str | None:
    rule = relation.tenant
    if not isinstance(rule, ByColumn):
        return None
    return next(column.name for column in relation.columns if column.attnum == rule.attnum)


def _canonical(closed: Collection[Door]) -> str:
    """A tenant's name as rows print it, of what a session says: 042 is 42 where the column is a number."""
    types = {column.base_type for door in closed for column in door.table.columns if column.name == door.column}
    expression = "name"
    if types and types <= _INTEGERS:
        expression = "name::bigint::text"
    elif types == {"uuid"}:
        expression = "name::uuid::text"
    return _CANONICAL.format(expression)
