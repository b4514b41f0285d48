"""From the structure of the last dump to that of a later moment, as far as the record of the tables tells.

Between two dumps the vault knows tables and columns (with types, defaults, identity), matched by relation number and
attnum. It does not know indexes, constraints, triggers, functions or rights that changed meanwhile. Pure: relations in,
statements out.

Types and defaults are texts that came with a change of the structure, and who may change a table may not do everything
that a restore may: each statement runs by itself, a type must be one to the server, a default stays in parentheses.

What adds or removes runs before the rows come. What renames runs last, after keys and indexes were made: they are made
under the old names, as the dump has them, and follow. Until then tables and columns have *interim* names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import msgspec
from psycopg import sql

from ballast.recovery.dumpscript import is_expression
from ballast.vault.records import Column, Relation, SequenceState

_NEXTVAL = re.compile(r"nextval\('((?:[^']|'')+)'::regclass\)")
_NAME = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
_SEQUENCE = re.compile(rf"{_NAME}(?:\.{_NAME})?")

Name = tuple[str, str]
"""Schema and table."""


class Statement(msgspec.Struct, frozen=True):
    """One step of an adjustment."""

    sql: str
    does: str
    """For people: `column public.item.price added`."""
    needed: bool = False
    """Without it there is no place for rows; the others may fail with a warning."""
    types: tuple[str, ...] = ()
    """Texts of the record that stand in `sql` as names of types: to be asked about first."""


class Adjustment(msgspec.Struct, frozen=True):
    """What is to be done after the dump's tables were created, and after its keys and indexes were."""

    before: tuple[Statement, ...] = ()
    after: tuple[Statement, ...] = ()
    interim: dict[int, Relation] = {}
    """The relations whose names are others until the end, by number, with the names that they have while rows come."""
    unknown: tuple[str, ...] = ()
    """What cannot be told from the record, for people."""

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.before or self.after or self.unknown)


def adjust(
    old: Mapping[int, Relation], new: Mapping[int, Relation], sequences: Iterable[SequenceState] = ()
) -> Adjustment:
    """What leads from the relations `old`, which the dump makes, to `new`. `sequences`: as recorded at the moment."""
    adjusting = _Adjusting(old, new, {(s.schema, s.name): s for s in sequences})
    adjusting.drop_and_create()
    for number in sorted(old.keys() & new.keys()):
        adjusting.alter(old[number], new[number])
    adjusting.rename_tables()
    return Adjustment(
        _each_once(adjusting.before),
        _each_once([*adjusting.renames, *adjusting.after]),
        {n: r for n, r in adjusting.interim.items() if r != new[n]},
        tuple(dict.fromkeys(adjusting.unknown)),
    )


def _each_once(statements: Iterable[Statement]) -> tuple[Statement, ...]:
    """What concerns a partitioned table was found at each of its partitions."""
    return tuple({statement.sql: statement for statement in statements}.values())


class _Adjusting:
    """The lists as they grow. `interim` says under which names rows find their tables."""

    def __init__(
        self, old: Mapping[int, Relation], new: Mapping[int, Relation], sequences: Mapping[Name, SequenceState]
    ) -> None:
        self._old, self._new, self._sequences = old, new, sequences
        self._taken = {name for r in old.values() for name in (_name(r), _root(r))}
        self._schemas = {schema for schema, _ in self._taken}
        self.before: list[Statement] = []
        self.renames: list[Statement] = []
        self.after: list[Statement] = []
        self.interim: dict[int, Relation] = {}
        self.unknown: list[str] = []

    def drop_and_create(self) -> None:
        """Tables that are gone, and tables that are new."""
        for number in sorted(self._old.keys() - self._new.keys()):
            gone = self._old[number]
            self.before.append(
                Statement(f"DROP TABLE IF EXISTS {_quoted(_name(gone))} CASCADE", f"table {gone.qualified} dropped")
            )
        for schema in sorted({r.schema for r in self._new.values()} - self._schemas):
            quoted = sql.Identifier(schema).as_string(None)
            self.before.append(Statement(f"CREATE SCHEMA IF NOT EXISTS {quoted}", f"schema {schema} created", True))
        for number in sorted(self._new.keys() - self._old.keys()):
            self._create(self._new[number])

    def _create(self, relation: Relation) -> None:
        name = _name(relation)
        if name in self._taken:
            name = (relation.schema, f"ballast_new_{relation.number}")
        table = _quoted(name)
        columns = ", ".join(map(_definition, relation.columns))
        types = tuple(column.type for column in relation.columns)
        self.before.append(
            Statement(f"CREATE TABLE {table} ({columns})", f"table {relation.qualified} created", True, types)
        )
        for column in relation.columns:
            self._set_default(table, relation, column, column.name)
        if relation.key:
            final = _quoted(_name(relation))
            names = {column.attnum: column.name for column in relation.columns}
            key = ", ".join(_column(names[attnum]) for attnum in relation.key)
            self.after.append(
                Statement(f"ALTER TABLE {final} ADD PRIMARY KEY ({key})", f"primary key of {relation.qualified} made")
            )
        if relation.root_oid:
            self.unknown.append(
                f"{relation.qualified} was a partition of {relation.root_schema}.{relation.root_name}; its bounds are not"
                " known, so it is a table of its own: attach it by hand"
            )
        self.interim[relation.number] = msgspec.structs.replace(
            relation, schema=name[0], name=name[1], root_schema=name[0], root_name=name[1], root_oid=0, root_attnums=()
        )

    def alter(self, old: Relation, new: Relation) -> None:
        """A table that stays, column by column; a partition's columns are those of its root."""
        owner = _root(old)
        if old.root_oid and old.root_oid != new.root_oid:
            self.before.append(
                Statement(
                    f"ALTER TABLE {_quoted(_root(old))} DETACH PARTITION {_quoted(_name(old))}",
                    f"partition {old.qualified} detached",
                )
            )
            owner = _name(old)
        if new.root_oid and old.root_oid != new.root_oid:
            self.unknown.append(
                f"{new.qualified} became a partition of {new.root_schema}.{new.root_name}; its bounds are not known, so"
                " it stays a table of its own: attach it by hand"
            )
        if old.key != new.key:
            self.unknown.append(
                f"the key of {new.qualified} changed; the older one is made, where its columns still are"
            )
        table = _quoted(owner)
        before = {column.attnum: column for column in old.columns}
        taken = {column.name for column in old.columns}
        after = {column.attnum: column for column in new.columns}
        in_root = dict(zip((c.attnum for c in new.columns), new.root_attnums, strict=False))
        names: dict[int, str] = {}
        for attnum in sorted(before.keys() - after.keys()):
            gone = before[attnum].name
            self.before.append(
                Statement(
                    f"ALTER TABLE {table} DROP COLUMN IF EXISTS {_column(gone)} CASCADE",
                    f"column {_title(new)}.{gone} dropped",
                )
            )
        for attnum, column in sorted(after.items()):
            if attnum in before:
                names[attnum] = before[attnum].name
                self._alter_column(table, new, before[attnum], column)
            else:
                names[attnum] = column.name
                if column.name in taken:
                    names[attnum] = f"ballast_new_{in_root.get(attnum, attnum)}"
                self._add_column(table, new, column, names[attnum])
        stored = {a: n for a, n in names.items() if not after[a].generated or (a in before and before[a].generated)}
        self._rename_columns(table, new, stored, after)
        interim_columns = tuple(msgspec.structs.replace(c, name=names[c.attnum]) for c in new.columns)
        self.interim[new.number] = msgspec.structs.replace(
            new,
            schema=old.schema,
            name=old.name,
            root_schema=old.root_schema,
            root_name=old.root_name,
            columns=interim_columns,
        )

    def _add_column(self, table: str, relation: Relation, column: Column, name: str) -> None:
        if column.generated:
            # It may be made of columns that have other names until the end.
            added = f"ALTER TABLE {_quoted(_root(relation))} ADD COLUMN {_definition(column)}"
            does = f"generated column {_title(relation)}.{column.name} added, stored"
            self.after.append(Statement(added, does, types=(column.type,)))
            return
        definition = _definition(msgspec.structs.replace(column, name=name))
        does = f"column {_title(relation)}.{column.name} added"
        self.before.append(Statement(f"ALTER TABLE {table} ADD COLUMN {definition}", does, True, (column.type,)))
        self._set_default(table, relation, column, name)

    def _alter_column(self, table: str, relation: Relation, old: Column, new: Column) -> None:
        alter = f"ALTER TABLE {table} ALTER COLUMN {_column(old.name)}"
        said = f"column {_title(relation)}.{new.name}"

        def do(what: str, does: str, *types: str) -> None:
            self.before.append(Statement(f"{alter} {what}", f"{said}: {does}", types=types))

        if old.generated and (not new.generated or old.default != new.default or old.type != new.type):
            if not new.generated:
                do("DROP EXPRESSION", "no longer generated")
            else:
                self.unknown.append(f"the expression or type of the generated {said} changed; the older one is made")
            return
        if new.generated:
            return
        if old.type != new.type:
            if old.default is not None:
                do("DROP DEFAULT", "default set aside")
            do(f"TYPE {new.type} USING NULL::{new.type}", f"now of type {new.type}", new.type)
        if old.identity != new.identity:
            self._alter_identity(do, old.identity, new.identity)
        if old.not_null != new.not_null:
            do(
                "SET NOT NULL" if new.not_null else "DROP NOT NULL",
                "now " + ("not null" if new.not_null else "nullable"),
            )
        if new.default is None and old.default is not None and old.type == new.type:
            do("DROP DEFAULT", "no default any more")
        if new.default is not None and (old.default != new.default or old.type != new.type):
            self._set_default(table, relation, new, old.name)

    @staticmethod
    def _alter_identity(do: object, old: str, new: str) -> None:
        assert callable(do)
        kind = "ALWAYS" if new == "a" else "BY DEFAULT"
        if not new:
            do("DROP IDENTITY IF EXISTS", "no identity any more")
        elif old:
            do(f"SET GENERATED {kind}", f"now generated {kind.lower()}")
        else:
            # An identity column may have no default and must be NOT NULL first; both are harmless if they are so already.
            do("DROP DEFAULT", "default set aside")
            do("SET NOT NULL", "now not null")
            do(f"ADD GENERATED {kind} AS IDENTITY", "now an identity")

    def _set_default(self, table: str, relation: Relation, column: Column, name: str) -> None:
        if column.default is None or column.identity or column.generated:
            return
        said = f"column {_title(relation)}.{column.name}"
        if not is_expression(column.default):
            self.unknown.append(f"the default of {said} as recorded is not one expression: it is left out")
            return
        for quoted in _NEXTVAL.findall(column.default):
            sequence = quoted.replace("''", "'")
            if not _SEQUENCE.fullmatch(sequence):
                continue
            options = self._options(sequence)
            self.before.append(
                Statement(f"CREATE SEQUENCE IF NOT EXISTS {sequence}{options}", f"sequence {sequence} there")
            )
        self.before.append(
            Statement(
                f"ALTER TABLE {table} ALTER COLUMN {_column(name)} SET DEFAULT ({column.default})",
                f"{said}: default set",
            )
        )

    def _options(self, sequence: str) -> str:
        state = next((s for name, s in self._sequences.items() if _as_regclass(name) == sequence), None)
        return "" if state is None else f" INCREMENT BY {state.increment} CACHE {state.cache}"

    def _rename_columns(
        self, table: str, relation: Relation, now: Mapping[int, str], then: Mapping[int, Column]
    ) -> None:
        moved = {name: then[attnum].name for attnum, name in now.items() if then[attnum].name != name}
        aside = {name: f"ballast_was_{number}" for number, name in enumerate(moved) if name in moved.values()}

        def rename(name: str, to: str) -> None:
            does = f"column {_title(relation)}.{to} renamed from {name}"
            self.renames.append(Statement(f"ALTER TABLE {table} RENAME COLUMN {_column(name)} TO {_column(to)}", does))

        for name, waiting in aside.items():
            rename(name, waiting)
        for name, to in moved.items():
            rename(aside.get(name, name), to)

    def rename_tables(self) -> None:
        """Tables, and roots of partitions, under their new names; columns were renamed before."""
        moved: dict[Name, Name] = {}
        for number, interim in self.interim.items():
            new = self._new[number]
            moved[_name(interim)] = _name(new)
            old = self._old.get(number)
            if old is not None and old.root_oid and old.root_oid == new.root_oid:
                moved[_root(interim)] = _root(new)
        moved = {name: to for name, to in moved.items() if name != to}
        aside = {name: (name[0], f"ballast_was_{n}") for n, name in enumerate(moved) if name in moved.values()}
        for name, waiting in aside.items():
            self._move(name, waiting)
        for name, to in moved.items():
            self._move(aside.get(name, name), to)

    def _move(self, name: Name, to: Name) -> None:
        does = f"table {'.'.join(to)} moved from {'.'.join(name)}"
        if name[1] != to[1]:
            renamed = sql.Identifier(to[1]).as_string(None)
            self.renames.append(Statement(f"ALTER TABLE {_quoted(name)} RENAME TO {renamed}", does))
        if name[0] != to[0]:
            schema = sql.Identifier(to[0]).as_string(None)
            self.renames.append(Statement(f"ALTER TABLE {_quoted((name[0], to[1]))} SET SCHEMA {schema}", does))


def _definition(column: Column) -> str:
    not_null = " NOT NULL" if column.not_null else ""
    made = {"a": " GENERATED ALWAYS AS IDENTITY", "d": " GENERATED BY DEFAULT AS IDENTITY"}.get(column.identity, "")
    if column.generated and is_expression(column.default or ""):
        # Whether it was virtual (from 18) is not recorded; stored, it has the same values.
        made = f" GENERATED ALWAYS AS ({column.default}) STORED"
    return f"{_column(column.name)} {column.type}{made}{not_null}"


def _as_regclass(name: Name) -> str:
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_$]*", part) else _column(part) for part in name)


def _column(name: str) -> str:
    return sql.Identifier(name).as_string(None)


def _quoted(name: Name) -> str:
    return sql.Identifier(*name).as_string(None)


def _name(relation: Relation) -> Name:
    return relation.schema, relation.name


def _title(relation: Relation) -> str:
    """The table that columns are added to, for people."""
    return ".".join(_root(relation))


def _root(relation: Relation) -> Name:
    return relation.root_schema, relation.root_name
