"""One of the two servers that a drill compares, asked for what each tenant has in each table: rows, and a sum over them.

The server sums itself, so that a drill of everything does not send everything: the 64-bit hash of each row's text (all
columns, generated ones too), added up. Two servers of one PostgreSQL give the same text and hash for the same row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from ballast.postgres import Catalog, Table
from ballast.recovery.copying import Ask, ServerRefused, converse, run_script
from ballast.recovery.report import Tally
from ballast.recovery.target import HOLE, Place, Target
from ballast.vault.records import ByColumn, Relation, Via
from ballast.vault.tables import UNRECORDED

Tallies = dict[tuple[str | None, int], Tally]
"""(Tenant, number of the relation) to what is there; None: the shared rows. Without those that have no row."""

_NOT_A_VALUE = "22"
"""Class of SQLSTATE."""
_WALKED = frozenset(("smallint", "integer", "bigint", "uuid", "text", "character varying", "date"))
"""Types of which no two texts are equal values, so that the next distinct value can be looked up in an index."""


class Side:
    """Production under a snapshot, or the scratch server. `conn` may be in a transaction, which goes on."""

    def __init__(self, conn: psycopg.Connection[Any], catalog: Catalog, relations: Mapping[int, Relation]) -> None:
        self.conn, self.catalog = conn, catalog
        self.target = Target(catalog, relations, relations)
        self._by_text = self.target.comparing_texts()
        self.places = {number: place for number, place in self.target.places.items() if place.table.extension is None}

    def beyond(self) -> list[Table]:
        """Tables with rows that should be in the record and are not."""
        known = {place.table.oid for place in self.target.places.values()}
        return [
            table
            for table in self.catalog.tables
            if table.kind == "r"
            and table.persistence == "p"
            and table.extension is None
            and table.schema not in UNRECORDED
            and table.oid not in known
        ]

    def tenants(self) -> set[str]:
        """Every tenant that owns a row. Where an index begins with the tenant column, only it is looked into."""
        found: set[str] = set()
        for place in self.places.values():
            rule = place.relation.tenant
            if isinstance(rule, ByColumn):
                found.update(row[0] for row in self.ask(_tenants_of(place, rule.attnum)))
        return found

    def of_tenant(self, tenant: str | None, numbers: Sequence[int]) -> Tallies:
        """One tenant's rows (None: the shared ones) in these relations."""
        questions = [
            sql.SQL("SELECT {}, count(*), coalesce(sum(h), 0) FROM (SELECT {} AS h FROM {} AS t WHERE {}) AS r").format(
                sql.Literal(number),
                row_hash(self.places[number]),
                self.places[number].only,
                sql.SQL("\1"),
            )
            for number in numbers
        ]
        rows = self._of_one(tenant, questions, numbers, sql.SQL(" UNION ALL "))
        return {(tenant, int(number)): _tally(count, total) for number, count, total in rows if count != "0"}

    def of_everybody(self, number: int) -> Tallies:
        """Everybody's rows in one relation."""
        place = self.places[number]
        statement = sql.SQL("SELECT tenant, count(*), sum(h) FROM ({}) AS r GROUP BY tenant").format(
            self._owned(place.relation, place.only, sql.SQL("{} AS h").format(row_hash(place)))
        )
        return {(tenant, number): _tally(count, total) for tenant, count, total in self.ask(statement)}

    def keyed(self, tenant: str | None, number: int, key: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The key (as text; "" without columns) and the hash of each of one tenant's rows."""
        place = self.places[number]
        question = sql.SQL("SELECT {}, {} FROM {} AS t WHERE {}").format(
            _row(key) if key else sql.Literal(""), row_hash(place), place.only, sql.SQL("\1")
        )
        yield from self._of_one(tenant, [question], [number], sql.SQL(""))

    def row(self, number: int, key: Sequence[str], value: str) -> dict[str, str | None]:
        """The columns of the row with that key, as texts; empty if there is none."""
        place = self.places[number]
        names = [column.name for column in place.table.columns]
        question = sql.SQL("SELECT {} FROM {} AS t WHERE {} = {}").format(
            sql.SQL(", ").join(_printed(sql.Identifier("t", name)) for name in names),
            place.only,
            _row(key),
            sql.Literal(value),
        )
        rows = self.ask(question)
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    def ask(self, statement: sql.Composable | str) -> list[Any]:
        """Rows, as texts. ServerRefused; an open transaction goes on even then."""
        text = statement if isinstance(statement, str) else statement.as_string(None)
        with self._going_on():
            answer: list[Any] = converse(self.conn, [Ask(text)])[0]
        return answer

    def _of_one(
        self, tenant: str | None, questions: Sequence[sql.Composed], numbers: Sequence[int], between: sql.SQL
    ) -> list[Any]:
        """The questions with the condition for the tenant in each; by text where its name is no value of a column."""
        if not questions:
            return []
        literal = sql.Literal(tenant).as_string(None)
        for target in (self.target, self._by_text):
            filled = []
            for number, question in zip(numbers, questions, strict=True):
                condition = self._whose(target, self.places[number], shared=tenant is None)
                filled.append(question.as_string(None).replace("\1", condition).replace(HOLE, literal))
            try:
                return self.ask(between.as_string(None).join(filled))
            except ServerRefused as refused:
                if target is self._by_text or not refused.sqlstate.startswith(_NOT_A_VALUE):
                    raise
        raise AssertionError

    def _whose(self, target: Target, place: Place, *, shared: bool) -> str:
        rule = place.relation.tenant
        if shared and isinstance(rule, ByColumn) and _not_null(place, rule.attnum):
            return "false"  # older servers would read the whole table to find that out
        return target.belongs(place.relation, "t", shared=shared).as_string(None)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        inside = self.conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        if not inside:
            yield
            return
        run_script(self.conn, "SAVEPOINT ballast_drill")
        try:
            yield
        except ServerRefused:
            run_script(self.conn, "ROLLBACK TO SAVEPOINT ballast_drill; RELEASE SAVEPOINT ballast_drill")
            raise
        run_script(self.conn, "RELEASE SAVEPOINT ballast_drill")

    def _owned(self, relation: Relation, only: sql.Composable, wanted: sql.Composable) -> sql.Composed:
        """A query for the tenant of each row of `only` (called `t`), and what else is wanted of it."""
        rule, joined = relation.tenant, sql.Composed([])
        match rule:
            case ByColumn():
                tenant: sql.Composable = _printed(sql.Identifier("t", _names(relation)[rule.attnum]))
            case Via():
                tenant, joined = sql.SQL("o.tenant"), self._owners(relation, rule)
            case _:
                tenant = sql.SQL('NULL::text COLLATE "C"')
        return sql.SQL("SELECT {} AS tenant, {} FROM {} AS t{}").format(tenant, wanted, only, joined)

    def _owners(self, relation: Relation, rule: Via) -> sql.Composed:
        """The join that finds each row's tenant through its parent. Grouped: a parent's columns need not be unique."""
        parent = self.target.parents(relation)[0]
        # `Via` names the columns of the partitioned table, whichever leaf stands for it here.
        theirs = dict(zip(parent.root_attnums or (c.attnum for c in parent.columns), parent.columns, strict=True))
        ours = _names(relation)
        keys = [sql.Identifier(f"k{n}") for n in range(len(rule.columns))]
        wanted = [
            sql.SQL("{} AS {}").format(sql.Identifier("t", theirs[attnum].name), key)
            for attnum, key in zip(rule.parent_columns, keys, strict=True)
        ]
        only = sql.SQL("{}{}").format(
            sql.SQL("" if parent.root_oid else "ONLY "), sql.Identifier(parent.root_schema, parent.root_name)
        )
        same = [
            sql.SQL("o.{} = {}").format(key, sql.Identifier("t", ours[attnum]))
            for attnum, key in zip(rule.columns, keys, strict=True)
        ]
        return sql.SQL(
            " LEFT JOIN (SELECT {keys}, min(tenant) AS tenant FROM ({inner}) AS i GROUP BY {keys}) AS o ON {same}"
        ).format(
            keys=sql.SQL(", ").join(keys),
            inner=self._owned(parent, only, sql.SQL(", ").join(wanted)),
            same=sql.SQL(" AND ").join(same),
        )


def row_hash(place: Place) -> sql.Composed:
    """Of the text of all columns of the row called `t`, in the table's order."""
    # Collations decide nothing here, but one must be named where the database's own is not deterministic.
    return sql.SQL('hashtextextended(({})::text COLLATE "C", 0)').format(_row([c.name for c in place.table.columns]))


def merged(parts: Iterable[Tallies]) -> Tallies:
    """All of them together."""
    total: Tallies = defaultdict(Tally)
    for part in parts:
        for at, tally in part.items():
            total[at] += tally
    return dict(total)


def _tally(rows: str, total: str) -> Tally:
    return Tally(int(rows), int(total) % (1 << 64))


def _printed(column: sql.Identifier) -> sql.Composed:
    """A value as COPY prints it. Not by a cast, which the owner of a type can give a function that would run with our rights."""
    return sql.SQL('(CASE WHEN {c} IS NOT NULL THEN pg_catalog.concat({c}) END COLLATE "C")').format(c=column)


def _row(names: Sequence[str]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(sql.Identifier("t", name) for name in names))


def _not_null(place: Place, attnum: int) -> bool:
    name = _names(place.relation)[attnum]
    return any(column.name == name and column.not_null for column in place.table.columns)


def _tenants_of(place: Place, attnum: int) -> sql.Composed:
    table, name = place.table, _names(place.relation)[attnum]
    column = next(c for c in table.columns if c.name == name)
    leading = {key[0] for key in (table.primary_key, *(index.columns for index in table.unique_indexes)) if key}
    c, only = sql.Identifier(name), place.only
    if column.attnum not in leading or column.collation is not None or column.base_type.split("(")[0] not in _WALKED:
        return sql.SQL("SELECT DISTINCT {v} FROM {t} WHERE {c} IS NOT NULL").format(v=_printed(c), c=c, t=only)
    return sql.SQL(
        "WITH RECURSIVE found(v) AS ((SELECT {c} FROM {t} ORDER BY {c} LIMIT 1) UNION ALL"
        " SELECT (SELECT {c} FROM {t} WHERE {c} > found.v ORDER BY {c} LIMIT 1) FROM found WHERE found.v IS NOT NULL)"
        " SELECT v::text FROM found WHERE v IS NOT NULL"
    ).format(c=c, t=only)


def _names(relation: Relation) -> dict[int, str]:
    return {column.attnum: column.name for column in relation.columns}
