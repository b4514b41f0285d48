"""Which tables of a server are those of the parent timeline, column by column, so that their record goes on. Pure.

On a promoted server everything has the numbers that it had. On a recovered one tables are found by name: their oids are
others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ballast.vault.records import ByColumn, Relation, Shared, TenantRule, Via
from ballast.vault.tables import TableFacts


class Carried(msgspec.Struct, frozen=True):
    """The parent's relations as this server has them."""

    relations: tuple[Relation, ...]
    """Those that go on, with this server's oids and rules."""
    otherwise: dict[str, str]
    """Tables (`schema.name`) whose rows the parent does not tell, and why."""


Known = Mapping[int, tuple[str, Mapping[int, str]]]
"""oid to the table's name and its columns' names by attnum; also of partitioned tables."""


def carried(
    then: Iterable[Relation], tables: Sequence[TableFacts], rules: Mapping[int, TenantRule], *, same_server: bool
) -> Carried:
    """`then`: the parent's relations at the fork. `rules`: oid on this server to the rule that holds from now on.
    `same_server`: oids are those of the parent's server."""
    then = list(then)
    by_name = {r.qualified: r for r in then}
    by_oid = {r.oid: r for r in then}
    were, are = _known(then), {t.oid: (t.qualified, {c.attnum: c.name for c in t.columns}) for t in tables}
    relations: list[Relation] = []
    otherwise: dict[str, str] = {}
    for table in tables:
        if not table.holds_rows or table.persistence != "p":
            continue
        # A table that was renamed since the fork keeps its oid; one made anew under its name has another.
        relation = by_oid.get(table.oid) if same_server else by_name.get(table.qualified)
        rule = rules.get(table.oid, Shared(declared=False))
        if relation is None:
            otherwise[table.qualified] = "the record up to the fork does not have it"
            continue
        if not same_server and not _same_numbers(relation, table):
            otherwise[table.qualified] = "its columns have other numbers than those recorded"
            continue
        relations.append(msgspec.structs.replace(relation, oid=table.oid, tenant=rule))
        why = _difference(relation, table) or _other_rule(relation.tenant, were, rule, are, relation, table)
        if why:
            otherwise[table.qualified] = why
    return Carried(tuple(relations), otherwise)


def _known(relations: Iterable[Relation]) -> Known:
    found: dict[int, tuple[str, Mapping[int, str]]] = {}
    for r in relations:
        found[r.oid] = (r.qualified, {c.attnum: c.name for c in r.columns})
        if r.root_oid:
            in_root = {root: c.name for c, root in zip(r.columns, r.root_attnums, strict=True)}
            found[r.root_oid] = (f"{r.root_schema}.{r.root_name}", in_root)
    return found


def _same_numbers(relation: Relation, table: TableFacts) -> bool:
    """Columns of one name have one number, and no number means two columns: the record tells columns by number."""
    were, are = ({c.name: c.attnum for c in side.columns} for side in (relation, table))
    if any(are[name] != number for name, number in were.items() if name in are):
        return False
    renamed = {number: name for name, number in were.items()}
    types = {c.attnum: c.type for c in relation.columns}
    return all(renamed.get(c.attnum, c.name) == c.name or types[c.attnum] == c.type for c in table.columns)


def _difference(relation: Relation, table: TableFacts) -> str:
    were = [(c.name, c.type) for c in relation.columns if not c.generated]
    are = [(c.name, c.type) for c in sorted(table.columns, key=lambda c: c.attnum) if not c.generated]
    return "" if were == are else "its columns are others than those recorded"


def _other_rule(
    was: TenantRule, were: Known, now: TenantRule, are: Known, relation: Relation, table: TableFacts
) -> str:
    before = _in_words(was, were, {c.attnum: c.name for c in relation.columns})
    after = _in_words(now, are, {c.attnum: c.name for c in table.columns})
    return "" if before == after else "its rows belong to other tenants by the rule that holds now"


def _in_words(rule: TenantRule, known: Known, columns: Mapping[int, str]) -> object:
    match rule:
        case ByColumn(attnum):
            return columns.get(attnum)
        case Via():
            name, theirs = known.get(rule.parent, ("", {}))
            return name, tuple(
                (columns.get(a), theirs.get(b)) for a, b in zip(rule.columns, rule.parent_columns, strict=True)
            )
        case _:
            return None
