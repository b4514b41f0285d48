"""Which tenant a table's rows belong to: by a column, through a foreign key, or shared by all. Pure.

What the owner wrote in `[tenants]` comes first; then the tenant column; then a foreign key that leads to a table
whose tenant is known. Where that leaves a choice, or nothing, the answer is a `Problem` and no guess: a wrong
tenant puts one customer's rows into another's restore.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ballast.vault.config import Tenants, ViaColumns
from ballast.vault.records import ByColumn, Shared, TenantRule, Via
from ballast.vault.tables import MERGE_SCHEMA, MERGE_TENANT, TableFacts, TableKey


class Problem(msgspec.Struct, frozen=True):
    """Nobody can tell whose rows these are."""

    table: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.what} {self.do}"


class Answer(msgspec.Struct, frozen=True):
    """What holds for one table, and why."""

    table: TableFacts
    rule: TenantRule | Problem
    why: str
    """For people: `column shop_id`, `through orders_fkey (order_id) to public.orders`, `shared`, …"""
    remark: str = ""
    """What to know about it."""


class TenantMap(msgspec.Struct, frozen=True):
    """The answer for every table, ordered by name; and what the configuration says of tables that are not there."""

    answers: tuple[Answer, ...]
    unknown: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that has to be settled by the owner."""
        return (*self.unknown, *(a.rule for a in self.answers if isinstance(a.rule, Problem)))

    @property
    def rules(self) -> dict[int, TenantRule]:
        """oid → rule, of the tables that have one."""
        return {a.table.oid: a.rule for a in self.answers if not isinstance(a.rule, Problem)}

    def named(self) -> dict[str, TenantRule]:
        """`schema.table` → rule, as the vault keeps it."""
        return {a.table.qualified: a.rule for a in self.answers if not isinstance(a.rule, Problem)}

    def rows(self) -> list[tuple[str, str, str]]:
        """(table, how its tenant is found, remark) for every table but partitions, for showing."""
        return [
            (a.table.qualified, a.why if not isinstance(a.rule, Problem) else "?", a.remark or _problem_text(a.rule))
            for a in self.answers
            if not a.table.is_partition
        ]


def resolve_rules(
    tables: Iterable[TableFacts],
    tenants: Tenants,
    *,
    known: Mapping[int, TenantRule] | None = None,
) -> TenantMap:
    """The rule for each of `tables`. `known`: rules of tables that are not among them, by oid (parents may be)."""
    by_oid = {t.oid: t for t in tables}
    roots = {oid: t for oid, t in by_oid.items() if not t.is_partition or t.root_oid not in by_oid}
    answers = _declared(roots, tenants)
    _derive(roots, answers, dict(known or {}))
    _refuse_circles(roots, answers)
    for oid, table in by_oid.items():
        if oid not in roots:
            answers[oid] = _of_partition(table, by_oid[table.root_oid], answers[table.root_oid])
    listed = sorted(answers.values(), key=lambda a: (a.table.schema, a.table.name))
    return TenantMap(tuple(listed), tuple(_unknown(by_oid.values(), tenants)))


def needed_columns(table: TableFacts, rule: TenantRule) -> tuple[int, ...]:
    """attnums that a DELETE must carry so that the row's tenant is known."""
    match rule:
        case ByColumn(attnum):
            return (attnum,)
        case Via(columns):
            return columns
        case _:
            return ()


def _problem_text(rule: TenantRule | Problem) -> str:
    return str(rule) if isinstance(rule, Problem) else ""


def _declared(roots: Mapping[int, TableFacts], tenants: Tenants) -> dict[int, Answer]:
    """What the configuration and the column's name say; the rest is left out."""
    answers = {}
    by_name = {t.qualified: t for t in roots.values()}
    for table in roots.values():
        name = table.qualified
        said = [
            place
            for place, here in (
                ("shared", name in tenants.shared),
                ("[tenants.tables]", name in tenants.tables),
                ("[tenants.via]", name in tenants.via),
            )
            if here
        ]
        if len(said) > 1:
            problem = Problem(
                name,
                f'table "{name}" stands in {" and in ".join(said)}.',
                "Leave it in one of them: its rows belong to one tenant each, or to all together.",
            )
            answers[table.oid] = Answer(table, problem, "")
        elif name in tenants.shared:
            answers[table.oid] = Answer(table, Shared(), "shared")
        elif name in tenants.tables:
            answers[table.oid] = _by_column(table, tenants.tables[name], declared=True)
        elif name in tenants.via:
            answers[table.oid] = _explicit_via(table, tenants.via[name], by_name)
        elif table.schema == MERGE_SCHEMA and table.column(MERGE_TENANT) is not None:
            answers[table.oid] = _by_column(table, MERGE_TENANT, declared=False)
        elif table.column(tenants.column) is not None:
            answers[table.oid] = _by_column(table, tenants.column, declared=False)
        elif table.extension is not None:
            remark = f"comes with the extension {table.extension}; its rows are kept, and restored only on demand"
            answers[table.oid] = Answer(table, Shared(declared=False), "shared", remark)
    return answers


def _by_column(table: TableFacts, name: str, *, declared: bool) -> Answer:
    column = table.column(name)
    if column is None:
        near = difflib.get_close_matches(name, [c.name for c in table.columns], n=1)
        hint = f'Did you mean "{near[0]}"?' if near else "Correct it in ballast.toml."
        what = f'[tenants.tables] names the column "{name}", which table "{table.qualified}" does not have.'
        return Answer(table, Problem(table.qualified, what, hint), "")
    if column.generated:
        problem = Problem(
            table.qualified,
            f'the tenant column "{name}" of table "{table.qualified}" is generated, and generated values are not'
            " in the stream of changes.",
            "Name another column under [tenants.tables], or the table that leads to its tenant under [tenants.via].",
        )
        return Answer(table, problem, "")
    remark = "" if column.not_null else "rows with null there are kept as shared"
    return Answer(table, ByColumn(column.attnum), f"column {name}", remark)


def _explicit_via(table: TableFacts, said: str | ViaColumns, by_name: Mapping[str, TableFacts]) -> Answer:
    name = table.qualified
    parent_name = said if isinstance(said, str) else said.parent
    parent = by_name.get(parent_name)

    def refuse(what: str, do: str) -> Answer:
        return Answer(table, Problem(name, what, do), "")

    if parent is None:
        near = difflib.get_close_matches(parent_name, by_name, n=1)
        return refuse(
            f'[tenants.via] leads table "{name}" to "{parent_name}", which is not there.',
            f'Did you mean "{near[0]}"?' if near else "Correct it in ballast.toml.",
        )
    if parent is table:
        return refuse(f'[tenants.via] leads table "{name}" to itself.', "Name the table whose rows have the tenant.")
    if isinstance(said, str):
        keys = [k for k in table.foreign_keys if k.ref_table_oid == parent.oid and _leads(k)]
        if len(keys) != 1:
            count = "no foreign key" if not keys else f"{len(keys)} foreign keys"
            return refuse(
                f'table "{name}" has {count} to "{parent_name}".',
                f'Say which columns lead there: "{name}" = {{ columns = [...], parent = "{parent_name}",'
                " parent_columns = [...] }",
            )
        return _via(table, keys[0], parent)
    for owner, wanted in (*((table, c) for c in said.columns), *((parent, c) for c in said.parent_columns)):
        found = owner.column(wanted)
        if found is None:
            return refuse(
                f'[tenants.via] names the column "{wanted}", which table "{owner.qualified}" does not have.',
                "Correct it in ballast.toml.",
            )
        if found.generated:
            return refuse(
                f'[tenants.via] names the column "{wanted}" of table "{owner.qualified}", which is generated: its'
                " values are not in the stream of changes.",
                "Name other columns.",
            )
    key = TableKey("", table.attnums(said.columns), parent.oid, parent.attnums(said.parent_columns))
    if not _is_unique(parent, key.ref_columns):
        return refuse(
            f'[tenants.via] leads table "{name}" to "{parent_name}" by ({", ".join(said.parent_columns)}), which is'
            " not unique there: a row could belong to several tenants.",
            "Name columns of a primary key or of a unique index on NOT NULL columns.",
        )
    return _via(table, key, parent)


def _via(table: TableFacts, key: TableKey, parent: TableFacts | None) -> Answer:
    named = f"{key.name} " if key.name else ""
    to = parent.qualified if parent else f"table {key.ref_table_oid}"
    remark = "" if table.never_null(key.columns) else "rows with null there are kept as shared"
    why = f"through {named}({', '.join(table.names(key.columns))}) to {to}"
    return Answer(table, Via(key.columns, key.ref_table_oid, key.ref_columns), why, remark)


def _is_unique(table: TableFacts, attnums: Sequence[int]) -> bool:
    if table.unique_indexes is None:
        return True
    unique = [*(set(index.columns) for index in table.unique_indexes), set(table.primary_key)]
    return any(columns and columns <= set(attnums) for columns in unique)


def _leads(key: TableKey) -> bool:
    return key.enforced and not key.temporal


def _derive(roots: Mapping[int, TableFacts], answers: dict[int, Answer], known: Mapping[int, TenantRule]) -> None:
    """Answers for the tables that nothing was said of, by their foreign keys."""
    open_tables = [t for oid, t in roots.items() if oid not in answers]
    has_tenant = {oid for oid, a in answers.items() if isinstance(a.rule, ByColumn | Via)}
    has_tenant |= {oid for oid, rule in known.items() if oid not in roots and isinstance(rule, ByColumn | Via)}
    steps = {
        t.oid: [k for k in t.foreign_keys if _leads(k) and k.ref_table_oid != t.oid and _stored(t, k)]
        for t in open_tables
    }
    for table in open_tables:
        reachable = _reach(has_tenant, {oid: keys for oid, keys in steps.items() if oid != table.oid})
        leading = [k for k in steps[table.oid] if k.ref_table_oid in reachable]
        certain = [k for k in leading if table.never_null(k.columns)]
        if len(certain) == 1 or (not certain and len(leading) == 1):
            key = (certain or leading)[0]
            answers[table.oid] = _via(table, key, roots.get(key.ref_table_oid))
        else:
            answers[table.oid] = Answer(table, _undecided(table, certain or leading, roots), "")


def _stored(table: TableFacts, key: TableKey) -> bool:
    generated = {c.attnum for c in table.columns if c.generated}
    return generated.isdisjoint(key.columns)


def _reach(goals: set[int], steps: Mapping[int, Sequence[TableKey]]) -> set[int]:
    """The tables from which some chain of steps ends in a goal."""
    reached = set(goals)
    grew = True
    while grew:
        grew = False
        for oid, keys in steps.items():
            if oid not in reached and any(k.ref_table_oid in reached for k in keys):
                reached.add(oid)
                grew = True
    return reached


def _undecided(table: TableFacts, leading: Sequence[TableKey], roots: Mapping[int, TableFacts]) -> Problem:
    name = table.qualified
    if not leading:
        return Problem(
            name,
            f'table "{name}" has no tenant column and no foreign key that leads to one: its rows would be restored with'
            " every tenant.",
            "Name its tenant column in ballast.toml under [tenants.tables], or list it under shared.",
        )
    ways = ", ".join(
        f"{k.name} ({', '.join(table.names(k.columns))}) to "
        + (roots[k.ref_table_oid].qualified if k.ref_table_oid in roots else f"table {k.ref_table_oid}")
        for k in leading
    )
    return Problem(
        name,
        f'table "{name}" leads to tenants by {len(leading)} foreign keys: {ways}. Which of them says whose the row is,'
        " Ballast refuses to guess.",
        f'Write it in ballast.toml under [tenants.via], such as "{name}" = "…".',
    )


def _refuse_circles(roots: Mapping[int, TableFacts], answers: dict[int, Answer]) -> None:
    """Via rules that lead back to where they began, or to a table without tenants."""
    for oid, answer in list(answers.items()):
        seen = [oid]
        at: TenantRule | Problem | None = answer.rule
        while isinstance(at, Via) and at.parent in answers:
            if at.parent in seen:
                way = " → ".join(roots[o].qualified for o in (*seen, at.parent))
                problem = Problem(
                    answer.table.qualified,
                    f'table "{answer.table.qualified}" leads to its tenant in a circle: {way}.',
                    "Name a tenant column for one of them, or another parent under [tenants.via].",
                )
                answers[oid] = Answer(answer.table, problem, "")
                break
            seen.append(at.parent)
            at = answers[at.parent].rule
        else:
            if isinstance(answer.rule, Via) and isinstance(at, Shared):
                end = roots[seen[-1]].qualified
                problem = Problem(
                    answer.table.qualified,
                    f'table "{answer.table.qualified}" leads to "{end}", which is shared: its rows have no tenant.',
                    "List it under shared as well, or name another way to its tenant.",
                )
                answers[oid] = Answer(answer.table, problem, "")


def _of_partition(table: TableFacts, root: TableFacts, answer: Answer) -> Answer:
    """A partition does as its root; its columns may have other numbers."""
    here = {c.root_attnum: c.attnum for c in table.columns}
    rule = answer.rule
    if isinstance(rule, ByColumn):
        rule = ByColumn(here[rule.attnum])
    elif isinstance(rule, Via):
        rule = msgspec.structs.replace(rule, columns=tuple(here[attnum] for attnum in rule.columns))
    return Answer(table, rule, f"as {root.qualified}", answer.remark)


def _unknown(tables: Iterable[TableFacts], tenants: Tenants) -> Iterable[Problem]:
    """Tables that the configuration names and that are not there, or are partitions."""
    by_name = {t.qualified: t for t in tables}
    named = dict.fromkeys((*tenants.shared, *tenants.tables, *tenants.via))
    for name in named:
        table = by_name.get(name)
        if table is None:
            near = difflib.get_close_matches(name, by_name, n=1)
            yield Problem(
                name,
                f'ballast.toml says whose rows are in table "{name}", which is not there.',
                f'Did you mean "{near[0]}"?' if near else "Remove the line, or correct the name.",
            )
        elif table.is_partition and table.root_oid in {t.oid for t in by_name.values()}:
            yield Problem(
                name,
                f'ballast.toml says whose rows are in table "{name}", which is a partition of "{table.root_qualified}".',
                "Partitions follow the partitioned table: name that one.",
            )
