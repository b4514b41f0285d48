"""What a drill holds side by side, and how it names what is not equal: rows by tenant and table, what stands around them
(around.py), sequences.

Rows are first compared by number and sum. Only where these differ are the rows of that tenant in that table looked at,
by key, so that a person reads which row it is. Values are not shown: they are customers' data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

import msgspec
from psycopg import sql

from ballast.postgres import Sequence as DatabaseSequence
from ballast.recovery.around import Kind as AroundKind
from ballast.recovery.around import Line, lines, unlike
from ballast.recovery.copying import Ask, converse
from ballast.recovery.foreign_keys import all_orphans, described
from ballast.recovery.report import Tally
from ballast.recovery.side import Side, Tallies
from ballast.vault.records import SequenceState
from ballast.vault.tables import UNRECORDED

Kind = Literal[
    "row missing",  # production has it, the restored side has not
    "row too many",
    "row changed",
    "rows differ",  # number or sum; which rows was not looked up
    "table",
    "foreign key",
    "sequence",
    "restore",  # it could not be restored at all
]

MOST_LOOKED_INTO = 20
"""Tenants and tables whose differing rows are looked up by key."""
_MOST_ROWS = 1_000_000
"""Of one tenant in one table, to be held in memory by key."""


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not equal."""

    kind: Kind | AroundKind
    what: str
    """Of the table or the whole, for people."""
    table: str = ""
    tenant: str | None = None
    """None: rows that all share, or no tenant's matter."""
    key: str | None = None
    """Of the first such row, as PostgreSQL prints a row of the key's columns."""
    count: int = 1
    production: int | None = None
    """Rows of this tenant in this table (of a sequence: its value) there …"""
    restored: int | None = None
    """… and on the restored side."""

    def __str__(self) -> str:
        return self.what


class Pair:
    """Production and the restored side."""

    def __init__(self, production: Side, restored: Side) -> None:
        self.production, self.restored = production, restored
        self.numbers = tuple(sorted(production.places.keys() & restored.places.keys()))

    def structure(self, there: Collection[Line] | None, *, sampled: bool) -> tuple[list[Difference], list[str]]:
        """Tables, and what stands around their rows (`there`: on production); what is to be said without being a fault."""
        found = [*self._tables()]
        if there is None:
            return found, ["production's structure changed at each look: what stands around the rows was not compared"]
        versions = {side.catalog.server_version_num // 10000 for side in (self.production, self.restored)}
        others = unlike(there, lines(self.restored.conn), sampled=sampled, same_major=len(versions) == 1)
        found += [Difference(other.kind, other.what, other.table) for other in others if other.is_fault]
        return found, [other.what for other in others if not other.is_fault]

    def rows(self, there: Tallies, here: Tallies) -> list[Difference]:
        """What both sides' tallies do not agree in; the first of it by key."""
        differing = sorted(
            (at for at in there.keys() | here.keys() if there.get(at, Tally()) != here.get(at, Tally())),
            key=lambda at: (at[1], at[0] is not None, at[0] or ""),
        )
        found: list[Difference] = []
        for n, (tenant, number) in enumerate(differing):
            p, r = there.get((tenant, number), Tally()), here.get((tenant, number), Tally())
            named = self._rows_of(tenant, number, p.rows, r.rows) if n < MOST_LOOKED_INTO else []
            found += named or [self._difference("rows differ", tenant, number, (p.rows, r.rows), "other sums")]
        return found

    def foreign_keys(self) -> tuple[list[Difference], list[str]]:
        """Rows without a parent on the restored side. Where production has such rows, too, that is told and no fault."""
        questions = sql.SQL(" UNION ALL ").join(all_orphans(self.restored.target)).as_string(None)
        orphans = self.restored.ask(questions) if questions else []
        if not orphans:
            return [], []
        theirs = sql.SQL(" UNION ALL ").join(all_orphans(self.production.target)).as_string(None)
        known = {(row[0], row[1]) for row in self.production.ask(theirs)} if theirs else set()
        found, warnings = [], []
        for row in orphans:
            (line,) = described([row])
            if (row[0], row[1]) in known:
                warnings.append(f"production itself breaks a foreign key: {line}")
            else:
                found.append(Difference("foreign key", f"broken on the restored side only: {line}", row[0]))
        return found, warnings

    def sequences(self, recorded: Collection[SequenceState]) -> list[Difference]:
        """Those that would hand out again what was handed out."""
        states = {(state.schema, state.name): state for state in recorded}
        ours = {(s.schema, s.name): s for s in self.restored.catalog.sequences}
        found = []
        for theirs in self.production.catalog.sequences:
            at = (theirs.schema, theirs.name)
            if theirs.schema in UNRECORDED or theirs.persistence == "t":
                continue
            if at not in ours:
                found.append(Difference("sequence", f"sequence {'.'.join(at)} was not restored"))
                continue
            found += [*self._behind(ours[at], states.get(at))]
        return found

    def _behind(self, here: DatabaseSequence, state: SequenceState | None) -> Iterator[Difference]:
        if here.last_value is None or here.cycle:
            return
        name, up = f"{here.schema}.{here.name}", here.increment > 0
        used = here.last_value if here.is_called else here.last_value - here.increment

        def is_behind(value: int) -> bool:
            return used < value if up else used > value

        if state is not None and state.is_called and is_behind(state.last_value):
            what = f"sequence {name} stands at {used} restored, and {state.last_value} was recorded"
            yield Difference("sequence", what, production=state.last_value, restored=used)
        for oid, attnum in here.feeds:
            table = self.restored.target.tables[oid]
            column = table.column(attnum)
            if column.base_type not in ("smallint", "integer", "bigint"):
                continue
            question = sql.SQL("SELECT {}({})::bigint FROM {}").format(
                sql.SQL("max" if up else "min"),
                sql.Identifier(column.name),
                sql.Identifier(table.schema, table.name),
            )
            ((value,),) = converse(self.restored.conn, [Ask(question.as_string(None))])[0]
            if value is not None and is_behind(int(value)):
                what = (
                    f"sequence {name} stands at {used} restored, behind {value} in column {column.name} of"
                    f" {table.schema}.{table.name}"
                )
                yield Difference("sequence", what, f"{table.schema}.{table.name}", production=int(value), restored=used)

    def _tables(self) -> Iterator[Difference]:
        for table in self.production.beyond():
            name = f"{table.schema}.{table.name}"
            yield Difference("table", f"table {name} is on production and not in the record", name)
        for side, where in ((self.production, "on production"), (self.restored, "on the restored side")):
            for relation in side.target.missing:
                what = f"table {relation.qualified} is in the record and not {where}"
                yield Difference("table", what, relation.qualified)

    def _rows_of(self, tenant: str | None, number: int, there: int, here: int) -> list[Difference]:
        if max(there, here) > _MOST_ROWS:
            return []
        key = self._key_of(number)
        theirs, ours = (side.keyed(tenant, number, key) for side in (self.production, self.restored))
        counts = (there, here)
        if not key:
            a, b = Counter(h for _, h in theirs), Counter(h for _, h in ours)
            missing, extra = (a - b).total(), (b - a).total()
            return [
                *self._some("row missing", tenant, number, counts, missing, None),
                *self._some("row too many", tenant, number, counts, extra, None),
            ]
        p, r = dict(theirs), dict(ours)
        changed = sorted(k for k in p.keys() & r.keys() if p[k] != r[k])
        return [
            *self._some("row missing", tenant, number, counts, len(p.keys() - r.keys()), _first(p.keys() - r.keys())),
            *self._some("row too many", tenant, number, counts, len(r.keys() - p.keys()), _first(r.keys() - p.keys())),
            *self._some("row changed", tenant, number, counts, len(changed), _first(changed), key),
        ]

    def _some(
        self,
        kind: Kind,
        tenant: str | None,
        number: int,
        counts: tuple[int, int],
        count: int,
        key: str | None,
        columns: Sequence[str] = (),
    ) -> Iterator[Difference]:
        if not count:
            return
        where = f", the first with key {key}" if key is not None else ""
        if columns and key is not None:
            a, b = self.production.row(number, columns, key), self.restored.row(number, columns, key)
            named = [name for name in a if a[name] != b.get(name)]
            where += f", in {', '.join(named)}" if named else ""
        words = {"row missing": "missing", "row too many": "too many", "row changed": "changed"}[kind]
        said = f"{count} {'row' if count == 1 else 'rows'} {words}{where}"
        yield self._difference(kind, tenant, number, counts, said, key, count)

    def _difference(
        self,
        kind: Kind,
        tenant: str | None,
        number: int,
        counts: tuple[int, int],
        said: str,
        key: str | None = None,
        count: int = 1,
    ) -> Difference:
        table = self.production.places[number].relation.qualified
        whose = f"tenant {tenant!r}" if tenant is not None else "shared rows"
        what = f"{whose}, table {table}: {said} (production has {counts[0]:,} rows, restored were {counts[1]:,})"
        return Difference(kind, what, table, tenant, key, count, *counts)

    def _key_of(self, number: int) -> list[str]:
        table = self.production.places[number].table
        key = table.primary_key or (table.unique_indexes[0].columns if table.unique_indexes else ())
        return [table.column_name(attnum) for attnum in key]


def _first(keys: Iterable[str]) -> str | None:
    return min(keys, default=None)
