"""The statements by which one tenant's rows are put back, worded once for all tenants, with a hole for the name.

Wording them takes longer than running them; a restorer of many tenants keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from ballast.recovery.foreign_keys import Asked, asked, deletions, orphans
from ballast.recovery.newer import Newer
from ballast.recovery.rights import Needs
from ballast.recovery.sequences import fed, past_rows
from ballast.recovery.target import HOLE, Place, Target
from ballast.vault.records import Relation, Shared


class Wording:
    """Statements for the rows of some relations in a target, of one tenant or (`shared`) of none."""

    def __init__(
        self,
        target: Target,
        relations: Iterable[Relation],
        *,
        shared: bool,
        newer: Newer | None = None,
        by_text: bool = False,
    ) -> None:
        self._target, self._shared = target, shared
        wanted = [r for r in relations if r.number in target.places and (shared or not isinstance(r.tenant, Shared))]
        self.places = {r.number: target.places[r.number] for r in wanted}
        self._by_table: dict[int, list[Place]] = {}
        for place in self.places.values():
            self._by_table.setdefault(place.table.oid, []).append(place)
        self.copies = {number: place.copy_in().as_string(None) for number, place in self.places.items()}
        self.tables = {oid: _title(places) for oid, places in self._by_table.items()}
        self.tallies = [
            places[0].copy_out(self._whose(places[0], "t")).as_string(None) for places in self._by_table.values()
        ]
        self.presence = self._presence()
        self.deletes = self._deletes()
        # The rows that all share are not a tenant's: tables that came later may keep theirs.
        self._newer = None if shared else newer
        self.newer_deletes = self._newer.deletes(by_text=by_text) if self._newer else []
        self.newer_presence = _together(self._newer.presence(by_text=by_text) if self._newer else [])
        self._keys = {replaced: self._asked(replaced=replaced) for replaced in (False, True)}
        self.orphans = {replaced: _all(orphans(target, keys)) for replaced, keys in self._keys.items()}
        self.deletions = _all(deletions(target, self._keys[True], self._by_table.keys()))
        """Answered after replacing: what refers to removed rows from outside of the restored tables."""
        self.sequences = [
            statement.as_string(None)
            for statement in past_rows(target, self._by_table, lambda oid: self._whose(self._by_table[oid][0], "t"))
        ]

    @staticmethod
    def fill(statement: str, literal: str) -> str:
        """The statement for the tenant whose name is `literal` (as SQL)."""
        return statement.replace(HOLE, literal)

    def add_needs(self, needs: Needs, *, replace: bool) -> None:
        """What these statements need to be allowed."""
        target = self._target
        rights = ("INSERT", "SELECT", *(("DELETE",) if replace else ()))
        needs.on_tables(self._by_table.keys(), *rights)
        above = [target.root_of(p) for place in self.places.values() for p in target.parents(place.relation)]
        needs.on_tables([table.oid for table in above if table is not None], "SELECT")
        for key, _ in self._keys[replace]:
            needs.on_tables((key.table_oid, key.ref_table_oid), "SELECT")
        needs.on_sequences([sequence.oid for sequence in fed(target, self._by_table)], "SELECT", "UPDATE")
        filled = {
            (p.table.oid, c.attnum) for p in self.places.values() for c in p.table.columns if c.name not in p.columns
        }
        # Columns that the record does not have take their defaults.
        needs.on_sequences([s.oid for s in target.catalog.sequences if not filled.isdisjoint(s.feeds)], "USAGE")
        if self._newer is not None:
            needs.on_tables(self._newer.tables, "SELECT", *(("DELETE",) if replace else ()))
            needs.on_tables([table.oid for table in self._newer.parents], "SELECT")

    def recorded(self, names: Iterable[str]) -> list[str]:
        """Those of the target's tables (`schema.name`) whose rows at the moment the record has."""
        known = {relation.qualified for relation in self._target.relations.values()}
        return [name for name in names if name in known]

    def _asked(self, *, replaced: bool) -> list[Asked]:
        emptied = self._newer.tables if self._newer is not None else ()
        return asked(self._target, self._by_table.keys(), shared=self._shared, replaced=replaced, emptied=emptied)

    def _whose(self, place: Place, alias: str) -> sql.Composable:
        return self._target.belongs(place.relation, alias, shared=self._shared)

    def _presence(self) -> str:
        """Answers with the names of the tables that hold such rows."""
        return _all(
            sql.SQL("(SELECT {} WHERE EXISTS (SELECT FROM {} AS t WHERE {}))").format(
                sql.Literal(self.tables[oid]), places[0].only, self._whose(places[0], "t")
            )
            for oid, places in self._by_table.items()
        )

    def _deletes(self) -> list[str]:
        # Children that find their tenant through a parent must go while the parent is still there to tell.
        ordered = sorted(self._by_table.values(), key=lambda places: -self._target.depth(places[0].relation))
        return [
            sql.SQL("DELETE FROM {} AS t WHERE {}").format(places[0].only, self._whose(places[0], "t")).as_string(None)
            for places in ordered
        ]


def _title(places: Sequence[Place]) -> str:
    if len(places) == 1:
        return places[0].relation.qualified
    return f"{places[0].table.schema}.{places[0].table.name}"


def _all(questions: Iterable[sql.Composed]) -> str:
    """One statement of several questions; "" of none."""
    return _together(question.as_string(None) for question in questions)


def _together(questions: Iterable[str]) -> str:
    return " UNION ALL ".join(questions)
