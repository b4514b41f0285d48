"""What the role of a restore must be allowed on the target, asked before anything is written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import psycopg
from psycopg import sql

from ballast.errors import RestoreError
from ballast.postgres import Catalog
from ballast.recovery.copying import Ask, converse

_ROLE = (
    "SELECT quote_ident(current_user), quote_ident(current_database()),"
    " has_parameter_privilege('session_replication_role', 'SET'),"
    " has_database_privilege(current_database(), 'CREATE')"
)
_SCHEMA = sql.SQL("SELECT {kind}, {name}, {right}, has_schema_privilege({plain}, {right})")
_TABLE = sql.SQL("SELECT {kind}, {name}, {right}, has_table_privilege({oid}::oid, {right})")
_SEQUENCE = sql.SQL("SELECT {kind}, {name}, {right}, has_sequence_privilege({oid}::oid, {right})")
# Triggers and rules that fire under session_replication_role = replica as well, of owners who have not our rights anyway.
_AWAKE = sql.SQL(
    "SELECT what, quote_ident(whose.rolname) FROM ("
    " SELECT format('trigger %I on %s, which calls %s,', g.tgname, g.tgrelid::regclass, g.tgfoid::regprocedure) AS what,"
    " p.proowner AS owner FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid"
    " WHERE g.tgenabled IN ('A', 'R') AND NOT g.tgisinternal AND g.tgrelid IN ({oids})"
    " UNION ALL SELECT format('rule %I on %s', r.rulename, r.ev_class::regclass), c.relowner FROM pg_rewrite r"
    " JOIN pg_class c ON c.oid = r.ev_class WHERE r.ev_enabled IN ('A', 'R') AND r.ev_class IN ({oids})) AS awake"
    " JOIN pg_roles whose ON whose.oid = owner WHERE NOT whose.rolsuper AND whose.rolname <> current_user ORDER BY 1 LIMIT 1"
)
_HIDDEN = sql.SQL("SELECT 'hidden', {name}, '', NOT row_security_active({oid}::oid)")


class Needs:
    """Rights by oid of the table or sequence."""

    def __init__(self) -> None:
        self.tables: defaultdict[int, set[str]] = defaultdict(set)
        self.sequences: defaultdict[int, set[str]] = defaultdict(set)

    def on_tables(self, oids: Collection[int], *rights: str) -> None:
        """Adds rights on tables."""
        for oid in oids:
            self.tables[oid].update(rights)

    def on_sequences(self, oids: Collection[int], *rights: str) -> None:
        """Adds rights on sequences."""
        for oid in oids:
            self.sequences[oid].update(rights)


def require_rights(
    conn: psycopg.Connection[tuple[object, ...]], catalog: Catalog | None, needs: Needs, *, create: bool
) -> None:
    """RestoreError that lists the statements that would give what is missing, and nothing else."""
    questions = _questions(catalog, needs) if catalog is not None else []
    steps = [Ask(_ROLE)]
    if questions:
        steps.append(Ask(sql.SQL(" UNION ALL ").join(questions).as_string(None)))
    if needs.tables:
        steps.append(_awake(needs.tables))
    answers = converse(conn, steps)
    if needs.tables:
        _refuse_awake(answers[-1])
    role, database, silence, may_create = answers[0][0]
    grants = [] if silence == "t" else [f"GRANT SET ON PARAMETER session_replication_role TO {role}"]
    if create and may_create != "t":
        grants.append(f"GRANT CREATE ON DATABASE {database} TO {role}")
    lacking: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for kind, name, right, has in answers[1] if questions else []:
        if has != "t":
            lacking[kind, name].append(right)
    hidden = [name for kind, name in lacking if kind == "hidden"]
    alike: defaultdict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for (kind, name), rights in lacking.items():
        if kind != "hidden":
            alike[kind, tuple(rights)].append(name)
    grants += [
        f"GRANT {', '.join(rights)} ON {kind} {', '.join(names)} TO {role}" for (kind, rights), names in alike.items()
    ]
    if hidden:
        grants.append(f"ALTER ROLE {role} BYPASSRLS")
    if grants:
        raise RestoreError(
            f"the role {role} may not restore here: it lacks rights"
            + (f", and row-level security hides rows of {', '.join(hidden[:5])} from it" if hidden else ""),
            "Restore as a superuser, or have one run: " + "; ".join(grants) + ".",
        )


def refuse_awake(conn: psycopg.Connection[tuple[object, ...]], tables: Collection[int]) -> None:
    """RestoreError where putting rows into these tables would run code of others with our rights."""
    if tables:
        _refuse_awake(converse(conn, [_awake(tables)])[0])


def _awake(tables: Collection[int]) -> Ask:
    return Ask(_AWAKE.format(oids=sql.SQL(", ").join(map(sql.Literal, sorted(tables)))).as_string(None))


def _refuse_awake(found: Collection[Sequence[object]]) -> None:
    for what, owner in found:
        raise RestoreError(
            f"{what} is to fire even while rows are put back (ENABLE ALWAYS or REPLICA), and belongs to {owner}: it would run"
            " with the rights of this restore",
            f"Look at what it does. Then disable it meanwhile (ALTER TABLE … DISABLE …), or restore as {owner}.",
        )


def _questions(catalog: Catalog, needs: Needs) -> list[sql.Composed]:
    """Kind, name, right, whether the role has it."""
    tables = sorted((t for t in catalog.tables if t.oid in needs.tables), key=lambda t: (t.schema, t.name))
    sequences = sorted((s for s in catalog.sequences if s.oid in needs.sequences), key=lambda s: (s.schema, s.name))
    schemas = sorted({table.schema for table in tables} | {sequence.schema for sequence in sequences})
    questions = [
        _SCHEMA.format(
            kind=sql.Literal("SCHEMA"),
            name=sql.Literal(sql.Identifier(schema).as_string(None)),
            plain=sql.Literal(schema),
            right=sql.Literal("USAGE"),
        )
        for schema in schemas
    ]
    for table in tables:
        name = sql.Literal(sql.Identifier(table.schema, table.name).as_string(None))
        questions += _each(_TABLE, "TABLE", name, table.oid, needs.tables[table.oid])
        questions.append(_HIDDEN.format(name=name, oid=sql.Literal(table.oid)))
    for sequence in sequences:
        name = sql.Literal(sql.Identifier(sequence.schema, sequence.name).as_string(None))
        questions += _each(_SEQUENCE, "SEQUENCE", name, sequence.oid, needs.sequences[sequence.oid])
    return questions


def _each(question: sql.SQL, kind: str, name: sql.Literal, oid: int, rights: Collection[str]) -> list[sql.Composed]:
    return [
        question.format(kind=sql.Literal(kind), name=name, oid=sql.Literal(oid), right=sql.Literal(right))
        for right in sorted(rights)
    ]
