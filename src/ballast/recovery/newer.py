"""Tables that did not exist at the moment of a restore, though the target has them: a replaced tenant owns no row there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import LiteralString

from psycopg import sql

from ballast.postgres import Catalog, Table
from ballast.recovery.target import Target
from ballast.vault.records import ByColumn, Relation, Via


class Newer:
    """Those of them whose rows are known to be tenants'; children come before their parents."""

    def __init__(self, catalog: Catalog, then: Mapping[int, Relation], now: Mapping[int, Relation]) -> None:
        self._target = Target(catalog, now, {})
        by_name = {(table.schema, table.name): table for table in catalog.tables}
        old = Target(catalog, then, {})
        held = {table.oid for table in map(old.table_of, then.values()) if table is not None}
        found: list[tuple[Relation, Table]] = []
        for number in now.keys() - then.keys():
            relation = now[number]
            table = by_name.get((relation.schema, relation.name))
            # A table made anew under a name that stood then holds the rows of that one.
            if table is None or table.oid in held or table.extension is not None:
                continue
            if isinstance(relation.tenant, ByColumn | Via) and self._can_tell(relation):
                found.append((relation, table))
        found.sort(key=lambda pair: (-self._target.depth(pair[0]), pair[1].schema, pair[1].name))
        self._found = found

    @property
    def tables(self) -> dict[int, Table]:
        """By oid."""
        return {table.oid: table for _, table in self._found}

    @property
    def relations(self) -> dict[int, Relation]:
        """By number, children before their parents."""
        return {relation.number: relation for relation, _ in self._found}

    @property
    def parents(self) -> list[Table]:
        """Tables that are only read, to find whose rows those are."""
        above = [
            self._target.root_of(parent) for relation, _ in self._found for parent in self._target.parents(relation)
        ]
        return [table for table in above if table is not None]

    def deletes(self, *, by_text: bool) -> list[str]:
        """Statements (with a hole for the tenant's name) that answer with a table's name and how many rows went."""
        return self._each(
            "WITH gone AS (DELETE FROM {table} AS t WHERE {whose} RETURNING 1) SELECT {title}, count(*) FROM gone",
            by_text=by_text,
        )

    def presence(self, *, by_text: bool) -> list[str]:
        """The same that only look: how many is 1 where there is any row."""
        return self._each("SELECT {title}, 1 WHERE EXISTS (SELECT FROM {table} AS t WHERE {whose})", by_text=by_text)

    def _each(self, statement: LiteralString, *, by_text: bool) -> list[str]:
        target = self._target.comparing_texts() if by_text else self._target
        return [
            sql.SQL(statement)
            .format(
                title=sql.Literal(f"{table.schema}.{table.name}"),
                table=sql.SQL("ONLY {}" if table.kind == "r" else "{}").format(
                    sql.Identifier(table.schema, table.name)
                ),
                whose=target.belongs(relation, "t", shared=False),
            )
            .as_string(None)
            for relation, table in self._found
        ]

    def _can_tell(self, relation: Relation) -> bool:
        """Whether the target has the columns that lead to the tenant: it may be of another day than the newest record."""
        own = (self._target.table_of(relation), relation)
        above = ((self._target.root_of(parent), parent) for parent in self._target.parents(relation))
        for table, described in (own, *above):
            names = {column.name for column in table.columns} if table is not None else set()
            known = {column.attnum: column.name for column in described.columns}
            rule = described.tenant
            match rule:
                case ByColumn():
                    needed = {known[rule.attnum]}
                case Via():
                    needed = {known[attnum] for attnum in rule.columns}
                case _:
                    return False
            if not needed <= names:
                return False
        return True
