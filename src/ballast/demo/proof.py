"""What the demonstration claims, checked against the restored servers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres import connect
from ballast.recovery import Tally, tally_of_query

TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_history", "pgbench_tellers")
_SUMS = """
    SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
           (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""


class Claim(msgspec.Struct, frozen=True):
    """One line of the report: what was promised, what was seen."""

    promise: str
    seen: str
    kept: bool


def read_journals(journals: Iterable[Path]) -> dict[str, float]:
    """Id to seconds of every acknowledged transaction. The last line may be torn: that commit's client was never told."""
    acknowledged = {}
    for journal in journals:
        for line in journal.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                identity, seconds = line.split("\t")
                acknowledged[identity] = float(seconds)
    return acknowledged


def nothing_lost(dsn: str, acknowledged: Iterable[str]) -> Claim:
    """Every acknowledged transaction is there, once."""
    with psycopg.connect(_in_public(dsn)) as conn:
        rows = conn.execute("SELECT trim(filler) FROM pgbench_history WHERE filler IS NOT NULL").fetchall()
    present = [row[0] for row in rows]
    wanted = set(acknowledged)
    lost = wanted - set(present)
    doubled = len(present) - len(set(present))
    seen = f"{len(wanted):,} acknowledged, {len(lost)} lost, {doubled} doubled"
    beyond = len(set(present) - wanted)
    if beyond:
        seen += f" ({beyond} committed whose client had not been told yet)"
    return Claim("no acknowledged transaction is lost", seen, not lost and not doubled)


def sums_agree(dsn: str) -> Claim:
    """TPC-B's consistency condition: accounts, tellers, branches and history tell the same total."""
    with psycopg.connect(_in_public(dsn)) as conn:
        row = conn.execute(_SUMS).fetchone()
    assert row is not None
    return Claim("the sums of TPC-B agree", ", ".join(f"{value:,}" for value in row), len(set(row)) == 1)


def tenant_tallies(conn: psycopg.Connection[Any], tenant: int) -> dict[str, Tally]:
    """Rows and checksum of the tenant's rows in each table, in the connection's snapshot."""
    return {
        table: tally_of_query(
            conn,
            sql.SQL("SELECT * FROM {} WHERE bid = {}").format(sql.Identifier("public", table), sql.Literal(tenant)),
        )
        for table in TABLES
    }


def tenant_equals(dsn: str, tenant: int, then: dict[str, Tally]) -> Claim:
    """The tenant restored alone is what it was at that moment."""
    with connect(dsn) as conn:
        now = tenant_tallies(conn, tenant)
        others = conn.execute("SELECT count(*) FROM public.pgbench_accounts WHERE bid <> %s", [tenant]).fetchone()
    rows = sum(tally.rows for tally in now.values())
    differing = [table for table in TABLES if now[table] != then[table]]
    seen = f"{rows:,} rows, " + (f"differs in {', '.join(differing)}" if differing else "every table equal")
    alone = others is not None and others[0] == 0
    return Claim(
        f"tenant {tenant} alone, as of a minute earlier, equals what it was then",
        seen if alone else seen + ", but other tenants' rows are there too",
        not differing and alone,
    )


def _in_public(dsn: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, options="-c search_path=public")
