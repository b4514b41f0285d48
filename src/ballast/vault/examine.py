"""Looking at a server before anything is changed: may it be protected, what would change, what stays outside."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast.errors import ConfigError, ProtectionError, ServerError
from ballast.postgres import ServerFacts, connect, count_large_objects, read_catalog, replication, server_facts
from ballast.postgres.ownership import stranger_in
from ballast.postgres.refusals import ReplicationError
from ballast.postgres.session import complaint
from ballast.vault import checks
from ballast.vault.checks import Around, Finding, IdentityChange, Unprotected, Wanted
from ballast.vault.config import Tenants
from ballast.vault.tables import tables_of
from ballast.vault.tenancy import TenantMap, resolve_rules

_QUERY = files("ballast.vault").joinpath("examine.sql").read_bytes()


class TableLine(msgspec.Struct, frozen=True):
    """A table (partitions apart), and whose rows are in it."""

    table: str
    tenant: str
    remark: str
    rows: int | None
    """As the last ANALYZE estimated."""


class Report(msgspec.Struct, frozen=True):
    """What was found. Nothing has been changed."""

    server: ServerFacts
    tables: tuple[TableLine, ...]
    identities: tuple[IdentityChange, ...]
    unprotected: tuple[Unprotected, ...]
    warnings: tuple[Finding, ...]
    problems: tuple[Finding, ...]
    changes: tuple[str, ...] = ()
    """What protecting will do, step by step."""

    @property
    def rows(self) -> int:
        """About how many rows there are; 0 where some table was never counted."""
        counts = [line.rows for line in self.tables]
        return 0 if None in counts else sum(filter(None, counts))


class Examination(msgspec.Struct, frozen=True):
    """The report with what later steps go on from."""

    report: Report
    mapping: TenantMap
    around: Around

    def refuse(self) -> None:
        """ProtectionError with every problem, if there is one."""
        _refuse(self.report.problems)


def _refuse(problems: Sequence[Finding]) -> None:
    if not problems:
        return
    if len(problems) == 1:
        raise ProtectionError(problems[0].what, problems[0].do)
    first, *rest = problems
    more = "".join(f"\n  - {problem}" for problem in rest)
    raise ProtectionError(f"{len(problems)} things prevent protection. {first.what}", f"{first.do}{more}")


@contextlib.contextmanager
def session(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session whose commits wait for no standby; what libpq and the server refuse becomes a `ballast.errors` error."""
    with explained():
        try:
            conn = connect(dsn, application_name="ballast protect", connect_timeout=10)
        except psycopg.ProgrammingError as error:
            raise ConfigError(
                f"The DSN cannot be understood: {complaint(error)}.",
                'Write it as "host=db dbname=shop user=ballast" or postgresql://ballast@db/shop.',
            ) from error
        except psycopg.OperationalError as error:
            raise ServerError(
                f"No connection to the server: {complaint(error)}.",
                "Check that it runs and that host, port, database, user and password of the DSN are right.",
            ) from error
    with conn, explained():
        # Not as a start-up option: that would hide what the server, database and role say.
        conn.execute("SET synchronous_commit = local")
        yield conn


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns what the server refuses into an error that says what to do."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise ProtectionError(
            f"The server refuses: {error.diag.message_primary}.",
            "Run this as the owner of the tables with the attribute REPLICATION, or as superuser.",
        ) from error
    except psycopg.errors.LockNotAvailable as error:
        raise ProtectionError(
            f"Something was locked for too long: {error.diag.message_primary}.",
            "Look for long transactions in pg_stat_activity, then run the command again: it goes on where it was.",
        ) from error
    except psycopg.OperationalError as error:
        raise ServerError(
            f"The connection to the server broke: {str(error).strip()}.",
            "Run the command again: it goes on where it was.",
        ) from error


def examine(dsn: str, tenants: Tenants, wanted: Wanted) -> Examination:
    """Look at the server. Problems are part of the report; ServerError, ConfigError where there is nothing to look at."""
    with session(dsn) as conn:
        too_old = checks.version_problem(conn.info.server_version)
        if too_old is not None:
            raise ServerError(too_old.what, too_old.do)
        conn.execute("RESET synchronous_commit")  # nothing is written here, and what others have is asked for
        facts = server_facts(conn)
        catalog = read_catalog(conn)
        around = read_around(conn, wanted)
        large_objects = count_large_objects(conn)
    mapping = resolve_rules(tables_of(catalog), tenants)
    problems = list(checks.problems_of(facts, around, wanted, mapping))
    if not problems:
        problems += _no_replication(dsn)
    estimates: dict[int, int | None] = {}
    for table in catalog.tables:
        if table.kind == "r":
            before = estimates.get(table.root_oid, 0)
            unknown = before is None or table.estimated_rows is None
            estimates[table.root_oid] = None if unknown else (before or 0) + (table.estimated_rows or 0)
    shown = {name: (how, remark) for name, how, remark in mapping.rows()}
    report = Report(
        server=facts,
        tables=tuple(
            TableLine(a.table.qualified, *shown[a.table.qualified], estimates.get(a.table.oid, 0))
            for a in mapping.answers
            if not a.table.is_partition
        ),
        identities=checks.identity_changes(mapping),
        unprotected=tuple(checks.unprotected_of(catalog, around, large_objects)),
        warnings=tuple(checks.warnings_of(facts, around, wanted)),
        problems=tuple(problems),
    )
    return Examination(report, mapping, around)


def refuse_unsuited(dsn: str, wanted: Wanted) -> None:
    """ProtectionError where a server cannot be protected, whatever tables it will have; ServerError, ConfigError."""
    with session(dsn) as conn:
        too_old = checks.version_problem(conn.info.server_version)
        if too_old is not None:
            raise ServerError(too_old.what, too_old.do)
        problems = list(checks.problems_of(server_facts(conn), read_around(conn, wanted), wanted, TenantMap(())))
    _refuse(problems or _no_replication(dsn))


def read_around(conn: psycopg.Connection[Any], wanted: Wanted) -> Around:
    """See `examine.sql`."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute(_QUERY, {"publication": wanted.publication, "slot": wanted.slot}).fetchone()
    assert row is not None
    return msgspec.structs.replace(msgspec.convert(row[0], Around), strangers=stranger_in(conn, "ballast"))


def _no_replication(dsn: str) -> list[Finding]:
    """pg_hba.conf decides on replication connections apart from others."""
    try:
        with replication.connect(dsn, "ballast protect") as stream:
            stream.identify_system()
    except ReplicationError as error:
        return [Finding(error.what, error.do)]
    return []
