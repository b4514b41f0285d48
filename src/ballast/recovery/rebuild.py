"""Rebuilding the structure of a lost database from its recorded dumps: roles, tables first, the rest after the rows."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.recovery import progress
from ballast.recovery.adjust import Adjustment, Statement
from ballast.recovery.copying import ServerRefused, run_script, run_statement, try_statements
from ballast.recovery.dumpscript import Part, Phase, accepted, is_ours, left_out, parts, statements, without_gate
from ballast.recovery.gate import IMPATIENT
from ballast.recovery.record import Structure
from ballast.recovery.schedule import Task, work_off
from ballast.recovery.target import connect_target
from ballast.vault.failpoints import reach

_OBJECT_EXISTS = "42710"
_BROKEN_KEY = "23503"
_UNDEFINED = "42704"
_VALIDATE = re.compile(r'(ALTER TABLE[^;]*?) ADD( CONSTRAINT (?:"(?:[^"]|"")+"|[^\s"]+)) FOREIGN KEY [^;]*;', re.DOTALL)
_GONE = ("42P01", "42703", "42704", "42883", "3F000")
"""Undefined table, column, object, function, schema."""
# Index builds are what takes long here, and the target serves nobody yet.
_BUILD_SETTINGS = "SET maintenance_work_mem = '512MB'; SET synchronous_commit = off; SET jit = off;"
_OWNER = re.compile(r"ALTER .+ OWNER TO .+;", re.DOTALL)
_EXTENSION = re.compile(r'extension "([^"]+)" is not available')

# The newest of them is the one that was just added; those that the source itself never checked stay as they are.
_NOTE_UNCHECKED = """
INSERT INTO ballast_recovery.unchecked
SELECT oid FROM pg_constraint WHERE contype = 'f' AND NOT convalidated AND conparentid = 0 ORDER BY oid DESC LIMIT 1
"""
_UNCHECKED = """
SELECT k.oid, k.conrelid::regclass::text, quote_ident(k.conname)
  FROM ballast_recovery.unchecked u JOIN pg_constraint k ON k.oid = u.oid
 WHERE NOT k.convalidated ORDER BY 2, 3
"""


def validate_all(dsn: str, jobs: int) -> list[str]:
    """Checks the foreign keys that were added ahead of the rows, table by table, side by side; readers and writers go on
    meanwhile. A line for each that is broken and so was left NOT VALID."""
    broken: list[str] = []

    def validate(table: str, name: str, conn: psycopg.Connection[Any]) -> None:
        with conn.transaction():
            run_script(conn, IMPATIENT)
            refused = try_statements(conn, [f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"])
        if refused is not None and refused.sqlstate != _BROKEN_KEY:
            raise refused
        if refused is not None:
            broken.append(f"{name}: {refused.what} (left NOT VALID)")
        reach("recover.validated")

    with connect_target(dsn) as conn:
        waiting = conn.execute(_UNCHECKED.encode()).fetchall()
    tasks = [Task(table, True, partial(validate, table, name)) for _, table, name in waiting]
    work_off(tasks, jobs, partial(connect_target, dsn))
    return sorted(broken)


def create_roles(conn: psycopg.Connection[Any], script: str) -> list[str]:
    """Creates the recorded roles that are not there yet, in the caller's transaction: one that was made, and killed before it
    got its attributes, would later pass for one that stood before. A warning for each statement that was refused.

    Roles come without passwords (they are not recorded); a role that exists is left as it is.
    """
    warnings = []
    present: set[str] = set()
    for statement in statements(script):
        if statement.startswith("SET "):
            continue
        role = re.match(r'(CREATE|ALTER) ROLE ("(?:[^"]|"")+"|\S+?)[ ;]', statement)
        if role and role[1] == "ALTER" and role[2] in present:
            continue
        refused = try_statements(conn, [statement])
        if refused is not None and refused.sqlstate == _OBJECT_EXISTS and role:
            present.add(role[2])
        elif refused is not None:
            said = re.sub(r" TO E?'.*", "", statement.splitlines()[0])  # the value of a setting may be a secret
            warnings.append(f"roles: {said}: {refused.what}")
    return warnings


def create_tables(conn: psycopg.Connection[Any], structure: Structure) -> None:
    """Roles, types, functions, tables: everything that must stand before rows, in one transaction with its note."""
    warnings = list(known_warnings(structure.adjustment))
    warnings += [f"left out of the dump, make it by hand: {what}" for what in left_out(structure.post_data)]
    warnings += [_our(part) for part in parts(structure.post_data)[1] if is_ours(part)]
    preamble, objects = parts(structure.pre_data)
    objects, _ = without_gate(objects, parts(structure.post_data)[1])
    version = conn.info.server_version
    with conn.transaction():
        warnings += create_roles(conn, structure.roles)
        for statement in accepted(preamble, server_version=version):
            run_statement(conn, statement)
        for part in objects:
            warnings += _create(conn, part, version) if not is_ours(part) else [_our(part)]
        for step in structure.adjustment.before:
            warnings += _adjust(conn, step)
        run_script(conn, "RESET ALL")
        progress.note_done(conn, "pre-data", warnings=warnings)
    reach("restore.tables")


def _create(conn: psycopg.Connection[Any], part: Part, version: int) -> list[str]:
    """Rights, comments and owners may be refused (roles that could not be made); the objects themselves may not."""
    script = accepted(part.statements, server_version=version)
    if part.phase == Phase.RIGHTS:
        refused = try_statements(conn, script)
        return [f"{part.type.lower()} of {part.name}: {refused.what}"] if refused else []
    owner = [statement for statement in script if _OWNER.fullmatch(statement)]
    try:
        for statement in script:
            if statement not in owner:
                run_statement(conn, statement)
    except ServerRefused as refused:
        missing = _EXTENSION.search(refused.what)
        if missing:
            raise RestoreError(
                f'the target server has no extension "{missing[1]}", which the recorded database uses',
                f"Install the package of {missing[1]} for this PostgreSQL, then run the same command again.",
            ) from refused
        if part.type == "SCHEMA" and refused.sqlstate == "42P06":
            raise RestoreError(
                f'the target has a schema "{part.name}" already', "Restore into a database that was just created."
            ) from refused
        raise ServerRefused(
            f"{part.type.lower()} {part.schema}.{part.name} could not be made: {refused.what}",
            refused.do,
            refused.sqlstate,
        ) from refused
    refused_owner = try_statements(conn, owner)
    return [f"owner of {part.name}: {refused_owner.what}"] if refused_owner else []


def _our(part: Part) -> str:
    return f"left out, since `ballast protect` makes it: {part.type.lower()} {part.name}"


def _adjust(conn: psycopg.Connection[Any], statement: Statement) -> list[str]:
    refused = _untypical(conn, statement.types) or try_statements(conn, [statement.sql])
    if refused is None:
        return [f"made from the record of the tables, not from a dump: {statement.does}"]
    if statement.needed:
        raise ServerRefused(
            f"the structure changed after its last dump, and this step cannot be repeated: {statement.does}: {refused.what}",
            "Create the tables in the target by hand as they were at that moment, then run the same command again.",
            refused.sqlstate,
        )
    return [f"could not be made from the record of the tables: {statement.does}: {refused.what}"]


def _untypical(conn: psycopg.Connection[Any], types: Collection[str]) -> ServerRefused | None:
    """The server's refusal of what is no type's name: it reads these texts as nothing else here."""
    asked = [sql.SQL("SELECT {}::regtype").format(sql.Literal(text)).as_string(conn) for text in types]
    return try_statements(conn, asked) if asked else None


class Afterwards:
    """What comes after the rows: keys, indexes, foreign keys, triggers, policies, and renames of an adjustment.

    Each part is one transaction with its note in the target; those in `done` are left out."""

    def __init__(self, dsn: str, structure: Structure, done: Collection[str], *, jobs: int) -> None:
        self._dsn, self._done, self._jobs = dsn, done, jobs
        self._adjustment: Adjustment = structure.adjustment
        self._preamble, objects = parts(structure.post_data)
        _, objects = without_gate(parts(structure.pre_data)[1], objects)
        self._parts = [part for part in objects if not is_ours(part) and _unit(part) not in done]

    def keys_and_indexes(self) -> list[Task]:
        """What is built from the rows alone; `connection` gives the connections for it."""
        return [
            Task(part.table, part.locks_out, partial(self._run, part))
            for part in self._parts
            if part.phase == Phase.INDEX
        ]

    def run(self) -> None:
        """All that is left then. ServerRefused for what cannot be left out."""
        with self.connection() as conn:
            for part in self._of(Phase.ATTACH):
                self._run(part, conn)
            foreign_keys = self._of(Phase.FOREIGN_KEY)
            for part in foreign_keys:
                self._add_unchecked(conn, part)
        # What is there already is checked table by table, side by side; adding locks two tables each.
        work_off([Task(p.table, True, partial(self._check, p)) for p in foreign_keys], self._jobs, self.connection)
        with self.connection() as conn:
            for part in (*self._of(Phase.REST), *self._of(Phase.RIGHTS)):
                self._run(part, conn)
            if self._adjustment.after and "after" not in self._done:
                with conn.transaction():
                    warnings = [w for step in self._adjustment.after for w in _adjust(conn, step)]
                    progress.note_done(conn, "after", warnings=warnings)
        reach("restore.finished")

    def ahead_of_rows(self, conn: psycopg.Connection[Any]) -> None:
        """All that is left after keys and indexes, while the tables are empty: what serves an application at once. Foreign
        keys stand without having been checked where that can be; `validate_all` must follow when the rows are there."""
        for part in self._of(Phase.ATTACH):
            self._run(part, conn)
        foreign_keys = [part for part in self._parts if part.phase == Phase.FOREIGN_KEY]
        if "foreign keys" not in self._done:
            with conn.transaction():
                for part in foreign_keys:
                    self._add_ahead(conn, part)
                progress.note_done(conn, "foreign keys")
        for part in (*self._of(Phase.REST), *self._of(Phase.RIGHTS)):
            self._run(part, conn)
        if self._adjustment.after and "after" not in self._done:
            with conn.transaction():
                warnings = [w for step in self._adjustment.after for w in _adjust(conn, step)]
                progress.note_done(conn, "after", warnings=warnings)

    def _add_ahead(self, conn: psycopg.Connection[Any], part: Part) -> None:
        unchecked = _unchecked(part)
        if unchecked is None or try_statements(conn, [unchecked]) is not None:
            # A partitioned table takes no NOT VALID before 18; our own question about parents is asked of it at the end.
            refused = try_statements(conn, part.statements)
            if refused is not None:
                progress.note_done(conn, _unit(part), warnings=[self._bear(part, refused)])
            return
        conn.execute(_NOTE_UNCHECKED.encode())

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """One that makes what the dump says."""
        with connect_target(self._dsn) as conn:
            progress.join(conn)
            self.prepare(conn)
            yield conn

    def prepare(self, conn: psycopg.Connection[Any]) -> None:
        """Settings under which a connection makes what the dump says."""
        for statement in accepted(self._preamble, server_version=conn.info.server_version):
            run_statement(conn, statement)
        run_script(conn, _BUILD_SETTINGS)
        if self._jobs > 1:
            run_script(conn, "SET max_parallel_maintenance_workers = 0; SET max_parallel_workers_per_gather = 0")

    def _of(self, phase: Phase) -> list[Part]:
        return [part for part in self._parts if part.phase == phase]

    def _run(self, part: Part, conn: psycopg.Connection[Any]) -> None:
        with conn.transaction():
            refused = try_statements(conn, accepted(part.statements, server_version=conn.info.server_version))
            warnings = [] if refused is None else [self._bear(part, refused)]
            progress.note_done(conn, _unit(part), warnings=warnings)
        reach("restore.index")

    def _add_unchecked(self, conn: psycopg.Connection[Any], part: Part) -> None:
        """The foreign key NOT VALID, where that can be; it is noted as done when it was checked."""
        unchecked = _unchecked(part)
        if unchecked is not None:
            with conn.transaction():
                try_statements(conn, [unchecked])  # refused: it is there already, or cannot be; `_check` finds out
            reach("restore.unchecked")

    def _check(self, part: Part, conn: psycopg.Connection[Any]) -> None:
        warnings: list[str] = []
        broken: list[str] = []
        with conn.transaction():
            stands = _unchecked(part) is not None
            refused = try_statements(conn, [_VALIDATE.sub(r"\1 VALIDATE\2;", part.sql)] if stands else part.statements)
            if stands and refused is not None and refused.sqlstate == _UNDEFINED:
                stands, refused = False, try_statements(conn, part.statements)
            if refused is not None and refused.sqlstate == _BROKEN_KEY:
                broken = [f"{part.name}: {refused.what} ({'left NOT VALID' if stands else 'left out'})"]
            elif refused is not None:
                warnings = [self._bear(part, refused)]
            progress.note_done(conn, _unit(part), warnings=warnings, broken=broken)
        reach("restore.index")

    def _bear(self, part: Part, refused: ServerRefused) -> str:
        """What need not stop a restore becomes a warning; else the refusal is raised."""
        what = f"{part.type.lower()} {part.name} was not made: {refused.what}"
        # An index of a partition that was detached since the dump has nowhere to be attached either.
        is_past = self._adjustment and (refused.sqlstate in _GONE or part.phase == Phase.ATTACH)
        # A materialized view's rows are no record's; a query that fails today may have failed for years.
        if part.phase == Phase.RIGHTS or part.type == "MATERIALIZED VIEW DATA" or is_past:
            return what
        raise ServerRefused(what, refused.do, refused.sqlstate) from refused


def _unchecked(part: Part) -> str | None:
    """The statement that adds a foreign key without looking at the rows; None if it is not that plain."""
    if (
        len(part.statements) != 1
        or part.sql.count(";") != 1
        or not _VALIDATE.search(part.sql)
        or "NOT VALID" in part.sql
        or "NOT ENFORCED" in part.sql
    ):
        return None
    return part.sql.rstrip().removesuffix(";") + " NOT VALID;"


def _unit(part: Part) -> str:
    return f"{part.type} {part.schema}.{part.name}"


def known_warnings(adjustment: Adjustment) -> Sequence[str]:
    """What is to be said of an adjustment once, whatever became of its steps."""
    if not adjustment:
        return ()
    return (
        "the structure changed after its last dump: indexes, constraints, triggers, functions and rights of the commands"
        " since then are not known; compare with your migrations",
        *adjustment.unknown,
    )
