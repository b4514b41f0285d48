"""The target's own list of all tenants of the record: who is back, who is to come first, what went wrong, how far it is.

Everything here lives in the target's schema `ballast_recovery`, so that an interrupted recovery goes on from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres import format_lsn
from ballast.postgres.ownership import stranger_in
from ballast.recovery.copying import ServerRefused, run_script
from ballast.recovery.doorbell import ASK, BELL, MASK, URGENT
from ballast.recovery.target import Place, Target
from ballast.vault.records import ByColumn, Cut, Via

_SCHEMAS = ("ballast_recovery", "ballast")
_SCRIPT = files("ballast.recovery").joinpath("ondemand.sql").read_text(encoding="utf-8")
_ORIGIN = """
INSERT INTO ballast_recovery.origin (vault_id, timeline, lsn) VALUES (%s, %s, %s) ON CONFLICT ((true)) DO UPDATE
   SET vault_id = excluded.vault_id, timeline = excluded.timeline, lsn = excluded.lsn, begun_at = now(), finished_at = NULL
"""
_LEADING = """
SELECT i.indrelid::bigint, i.indkey[0]::int
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am a ON a.oid = x.relam
 WHERE i.indrelid = ANY(%s) AND i.indisvalid AND i.indpred IS NULL AND a.amname = 'btree'
"""
_PROGRESS = """
INSERT INTO ballast_recovery.progress AS p
VALUES (true, %(tenants)s, %(tenants_back)s, %(tenants_failed)s, %(rows_estimated)s, %(rows_back)s, %(rows_per_second)s,
        %(seconds_left)s, %(tenants_waited_for)s, %(sessions_waiting)s, clock_timestamp())
ON CONFLICT (only_one) DO UPDATE
   SET tenants = excluded.tenants, tenants_back = excluded.tenants_back, tenants_failed = excluded.tenants_failed,
       rows_estimated = excluded.rows_estimated, rows_back = excluded.rows_back, rows_per_second = excluded.rows_per_second,
       seconds_left = excluded.seconds_left, tenants_waited_for = excluded.tenants_waited_for,
       sessions_waiting = excluded.sessions_waiting, updated_at = excluded.updated_at
"""
_OVER = ("3F000", "42883")
"""No such schema, no such function: the recovery has ended since."""
_TABLES = ("tenant", "progress", "gate", "unchecked", "help", "naming")
_FUNCTIONS = ("readable()", "checked(text)", "writable(text)", "canonical(text)")
_LEAVE_BALLAST = """
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('ballast'))
       OR EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace('ballast'))
    THEN
        REVOKE USAGE ON SCHEMA ballast FROM PUBLIC;  -- it is that of `ballast protect` meanwhile
    ELSE
        DROP SCHEMA IF EXISTS ballast;
    END IF;
END $$
"""


class Progress(msgspec.Struct, frozen=True):
    """How far a recovery is."""

    tenants: int
    tenants_back: int
    tenants_failed: int
    rows_estimated: int
    rows_back: int
    rows_per_second: float | None
    """None: nothing to tell it from yet."""
    seconds_left: float | None
    tenants_waited_for: int
    sessions_waiting: int
    waiting: tuple[str, ...] = ()
    """Some of the tenants that sessions wait for."""


class Standing(msgspec.Struct, frozen=True):
    """A tenant of the list."""

    tenant: str
    rank: float | None
    is_back: bool
    failure: str | None


def refuse_strangers(conn: psycopg.Connection[Any]) -> None:
    """RestoreError if somebody else has made one of our schemas, or put something into it: we would run their code."""
    for schema in _SCHEMAS:
        found = stranger_in(conn, schema)
        if found is not None:
            raise RestoreError(
                f"in the schema {schema} of this database, {found[0]} belongs to role {found[1]}",
                "If that role has begun the recovery, go on as that role. If not, look at what it has put there, then"
                f" DROP SCHEMA {schema} CASCADE.",
            )


def refuse_missing(conn: psycopg.Connection[Any], tenants: Iterable[str | None]) -> None:
    """ServerRefused (BL001) where a recovery under way has still to bring one of these tenants back: its rows would be taken for
    deleted, and those that are put back meanwhile would stand in the recovery's way. None is of everybody.

    Asked of the gate, which any role may ask. Who is back stays so, thus it need not be asked again."""
    row = conn.execute("SELECT to_regprocedure('ballast_recovery.writable(text)') IS NOT NULL").fetchone()
    if row is None or not row[0]:
        return
    names = [tenant for tenant in tenants if tenant is not None]
    try:
        conn.execute("SELECT ballast_recovery.writable(tenant) FROM unnest(%s::text[]) AS tenant", [names])
    except psycopg.Error as error:
        if error.sqlstate in _OVER:
            return
        if error.sqlstate == "BL001":
            do = (
                "Have it brought back first (`SELECT ballast.ensure_tenant('…')`), then ask again. Nothing was changed."
            )
            raise ServerRefused(error.diag.message_primary or str(error), do, "BL001") from error
        raise


def set_up(conn: psycopg.Connection[Any], vault_id: str, cut: Cut) -> None:
    """Tables and functions, and which cut the rows come from; in the caller's transaction."""
    numbers = {"ask": ASK, "urgent": URGENT, "bell": BELL, "mask": MASK}
    script = _SCRIPT
    for name, number in numbers.items():
        script = script.replace(f"{{{name}}}", str(number))
    run_script(conn, "SET LOCAL client_min_messages = warning")
    # The functions name one that is made when it is known what tenants' names look like.
    run_script(conn, "SET LOCAL check_function_bodies = off")
    run_script(conn, script)
    conn.execute(_ORIGIN.encode(), [vault_id, cut.timeline, format_lsn(cut.lsn)])


def enrol(conn: psycopg.Connection[Any], tenants: Collection[str]) -> None:
    """Everybody is missing."""
    with conn.cursor().copy("COPY ballast_recovery.tenant (tenant) FROM STDIN") as copy:
        for tenant in tenants:
            copy.write_row((tenant,))
    conn.execute("ANALYZE ballast_recovery.tenant")


def rank(conn: psycopg.Connection[Any], ranks: Mapping[str, float]) -> None:
    """Who is to come first: 1 before 2. Names that the record does not know are passed over."""
    if not ranks:
        return
    names, values = list(ranks), list(ranks.values())
    conn.execute(
        "UPDATE ballast_recovery.tenant t SET rank = r.rank FROM unnest(%s::text[], %s::float8[]) AS r (tenant, rank)"
        " WHERE t.tenant = r.tenant AND t.rank IS DISTINCT FROM r.rank",
        (names, values),
    )


def standings(conn: psycopg.Connection[Any]) -> list[Standing]:
    """Everybody."""
    query = "SELECT tenant, rank, back_at IS NOT NULL, failure FROM ballast_recovery.tenant"
    return [Standing(*row) for row in conn.execute(query).fetchall()]


def fail(conn: psycopg.Connection[Any], tenant: str, failure: str) -> None:
    """It cannot be brought back for now; those who wait for it are told why."""
    conn.execute("UPDATE ballast_recovery.tenant SET failure = %s WHERE tenant = %s", (failure, tenant))


def try_failed_again(conn: psycopg.Connection[Any]) -> None:
    """What failed when the recovery was run before may go well now."""
    conn.execute("UPDATE ballast_recovery.tenant SET failure = NULL WHERE failure IS NOT NULL")


def tell(conn: psycopg.Connection[Any], progress: Progress) -> None:
    """For `SELECT * FROM ballast_recovery.progress`."""
    conn.execute(_PROGRESS.encode(), msgspec.structs.asdict(progress))


def help_finding(conn: psycopg.Connection[Any], target: Target) -> None:
    """Indexes by which a tenant's rows are found, where the application has none: each unit is read back by them. In the
    caller's transaction."""
    wanted: dict[tuple[int, int], tuple[Place, str]] = {}
    for place in target.places.values():
        rule = place.relation.tenant
        match rule:
            case ByColumn():
                attnum = rule.attnum
            case Via():
                attnum = rule.columns[0]
            case _:
                continue
        name = next(column.name for column in place.relation.columns if column.attnum == attnum)
        held = next((column.attnum for column in place.table.columns if column.name == name), None)
        if held is not None:
            wanted[place.table.oid, held] = (place, name)
    there = {tuple(row) for row in conn.execute(_LEADING.encode(), [[oid for oid, _ in wanted]]).fetchall()}
    for (oid, attnum), (place, column) in wanted.items():
        if (oid, attnum) not in there:
            index = f"ballast_recovery_{oid}_{attnum}"
            made = sql.SQL("CREATE INDEX {} ON {} ({})").format(
                sql.Identifier(index), place.name, sql.Identifier(column)
            )
            run_script(conn, made.as_string(conn))
            qualified = sql.Identifier(place.table.schema, index).as_string(conn)
            conn.execute("INSERT INTO ballast_recovery.help VALUES (%s)", [qualified])


def helping(conn: psycopg.Connection[Any]) -> list[str]:
    """The names, quoted, of those indexes."""
    return [name for (name,) in conn.execute("SELECT index_name FROM ballast_recovery.help ORDER BY 1").fetchall()]


def leaving() -> Iterable[str]:
    """The statements that take away all but what says where the rows come from, when everybody is back."""
    yield "DROP FUNCTION IF EXISTS ballast.ensure_tenant(text, interval)"
    for function in _FUNCTIONS:
        yield f"DROP FUNCTION IF EXISTS ballast_recovery.{function}"
    for table in _TABLES:
        yield f"DROP TABLE IF EXISTS ballast_recovery.{table}"
    yield "REVOKE ALL ON SCHEMA ballast_recovery FROM PUBLIC"
    yield _LEAVE_BALLAST
