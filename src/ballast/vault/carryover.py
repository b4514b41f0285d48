"""Which tables of a server are those of the parent timeline, column by column, so that their record goes on. Pure.

On a promoted server everything has the numbers that it had. On a recovered one tables are found by name, since their oids are
others, and so may be the numbers of their columns (`renumbering.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ballast.vault.config import Tenants
from ballast.vault.records import ByColumn, Numbering, Relation, Shared, TenantRule, Via
from ballast.vault.renumbering import numbering_of, renumbered_all
from ballast.vault.tables import TableFacts
from ballast.vault.tenancy import resolve_rules


class Carried(msgspec.Struct, frozen=True):
    """The parent's relations as this server has them."""

    relations: tuple[Relation, ...]
    """Those that go on, with this server's oids and rules."""
    otherwise: dict[str, str]
    """Tables (`schema.name`) whose rows the parent does not tell, and why."""


Known = Mapping[int, tuple[str, Mapping[int, str]]]
"""oid to the table's name and its columns' names by attnum; also of partitioned tables."""


def carried(
    then: Iterable[Relation],
    tables: Sequence[TableFacts],
    tenants: Tenants,
    highest: Mapping[int, int],
    *,
    same_server: bool,
) -> Carried:
    """`then`: the parent's relations at the fork. `tables`: as the server has them now. `highest`: relation number to the
    highest attnum that the record ever gave in it. `same_server`: oids are those of the parent's server."""
    then = list(then)
    found = _found(then, tables, same_server=same_server)
    numberings = {
        oid: relation.numbering if same_server else numbering_of(relation, table, highest.get(relation.number, 0))
        for oid, (table, relation) in found.items()
    }
    tables = renumbered_all(tables, {oid: numbering for oid, numbering in numberings.items() if numbering is not None})
    rules = resolve_rules(tables, tenants).rules
    were, are = _known(then), {t.oid: (t.qualified, {c.attnum: c.name for c in t.columns}) for t in tables}
    relations: list[Relation] = []
    otherwise: dict[str, str] = {}
    for table in tables:
        if not table.holds_rows or table.persistence != "p":
            continue
        if table.oid not in found:
            otherwise[table.qualified] = "the record up to the fork does not have it"
            continue
        relation = found[table.oid][1]
        if not same_server and not _same_numbers(relation, table):
            otherwise[table.qualified] = "its columns cannot be told to be those recorded"
            continue
        rule = rules.get(table.oid, Shared(declared=False))
        relations.append(_here(relation, table.oid, rule, numberings[table.oid]))
        why = _difference(relation, table) or _other_rule(relation, were, rule, table, are)
        if why:
            otherwise[table.qualified] = why
    return Carried(tuple(relations), otherwise)


def _found(
    then: Sequence[Relation], tables: Sequence[TableFacts], *, same_server: bool
) -> dict[int, tuple[TableFacts, Relation]]:
    """By oid on this server: each table with the relation that it is."""
    by_name = {r.qualified: r for r in then}
    by_oid = {r.oid: r for r in then}
    found = {}
    for table in tables:
        if not table.holds_rows or table.persistence != "p":
            continue
        # A table that was renamed since the fork keeps its oid; one made anew under its name has another.
        relation = by_oid.get(table.oid) if same_server else by_name.get(table.qualified)
        if relation is not None:
            found[table.oid] = (table, relation)
    return found


def _here(relation: Relation, oid: int, rule: TenantRule, numbering: Numbering | None) -> Relation:
    return msgspec.structs.replace(relation, oid=oid, tenant=rule, numbering=numbering)


def _known(relations: Iterable[Relation]) -> Known:
    found: dict[int, tuple[str, Mapping[int, str]]] = {}
    for r in relations:
        found[r.oid] = (r.qualified, {c.attnum: c.name for c in r.columns})
        if r.root_oid:
            in_root = {root: c.name for c, root in zip(r.columns, r.root_attnums, strict=True)}
            found[r.root_oid] = (f"{r.root_schema}.{r.root_name}", in_root)
    return found


def _same_numbers(relation: Relation, table: TableFacts) -> bool:
    """No number means two columns, and no column has two: the record tells columns by number."""
    were, are = {c.name: c.attnum for c in relation.columns}, {c.name: c.attnum for c in table.columns}
    taken = {number: name for name, number in were.items()}
    return all(were.get(name, number) == number and taken.get(number, name) == name for name, number in are.items())


def _difference(relation: Relation, table: TableFacts) -> str:
    were = [(c.name, c.type) for c in relation.columns if not c.generated]
    are = [(c.name, c.type) for c in sorted(table.columns, key=lambda c: c.attnum) if not c.generated]
    return "" if were == are else "its columns are others than those recorded"


def _other_rule(relation: Relation, were: Known, now: TenantRule, table: TableFacts, are: Known) -> str:
    before = _in_words(relation.tenant, were, {c.attnum: c.name for c in relation.columns})
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
