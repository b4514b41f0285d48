"""Which relations there are, from one schema version to the next. Pure: messages and catalogs in, `Relation`s out.

Three sources tell of a change, each with what it knows:

- a `ballast.ddl` message of the event triggers: the tables that a command changed, complete, as they are inside of its
  transaction. Of `CREATE TABLE AS` it comes after the first rows;
- a Relation message that does not agree with what is known: names, types and identity without numbers. The second line, where
  there are no event triggers;
- the catalog as read from the server: everything, as of one snapshot.

A relation's number belongs to its oid as long as the table lives, and is never given to another table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from ballast.errors import FormatError
from ballast.postgres import pgoutput
from ballast.vault.config import Tenants
from ballast.vault.records import ByColumn, Column, Relation, Shared, TenantRule, Via
from ballast.vault.renumbering import numberings_of, renumbered
from ballast.vault.tables import GATE_POLICIES, OWN_SCHEMA, UNRECORDED, TableColumn, TableFacts
from ballast.vault.tenancy import resolve_rules

PREFIX = "ballast.ddl"
"""Prefix of the event triggers' messages."""

_FILLED_BY_STREAM = frozenset(
    ("CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE SCHEMA", "CREATE EXTENSION", "ALTER EXTENSION")
)


_SAME_STRUCTURE = frozenset(("REFRESH MATERIALIZED VIEW", "REINDEX"))
"""Commands that come every minute at some, and change nothing that a dump holds."""
_IN_OURS = tuple(f"{schema}." for schema in UNRECORDED)


class DdlMessage(msgspec.Struct, frozen=True):
    """Content of a `ballast.ddl` message; `server.sql` writes it."""

    event: Literal["ddl", "drop", "rewrite"]
    tag: str
    n: int = 0
    """Number of the message in its transaction, from 1."""
    command: str = ""
    """What the client sent, perhaps with other statements around it, perhaps cut off."""
    user: str = ""
    relations: tuple[TableFacts, ...] = ()
    dropped: tuple[int, ...] = ()
    """oids of tables that are gone."""
    rewritten: tuple[int, ...] = ()
    """oids of tables whose rows the command is about to rewrite; nothing of that is in the stream."""
    objects: tuple[tuple[str, str], ...] = ()
    """(kind, identity) of what the command touched, the first hundred."""
    failed: str = ""
    """The trigger could not describe what happened: the catalog has to be read."""

    @property
    def changes_dump(self) -> bool:
        """Whether a dump of the structure says something else from here on: of the rewrite itself another message tells."""
        if self.event == "rewrite" or self.tag in _SAME_STRUCTURE:
            return False
        return bool(self.failed) or not all(_is_ours(kind, name) for kind, name in self.objects)


class Change(msgspec.Struct, frozen=True):
    """What became of the relations. Numbers of relations throughout."""

    reason: str
    command: str | None = None
    new: tuple[int, ...] = ()
    altered: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    rekeyed: tuple[int, ...] = ()
    """Of the altered ones, those whose rows stand under another key from here on."""
    rewritten: tuple[int, ...] = ()
    """Their rows changed without a word in the stream: they must be imaged again."""
    unrecorded: tuple[int, ...] = ()
    """They are UNLOGGED now: nothing of them comes through from here on."""
    undeclared: tuple[str, ...] = ()
    """New tables (`schema.table`) without a tenant, kept as shared until somebody says whose rows they hold."""
    incomplete: bool = False
    """Not all is known: read the catalog."""
    beside: bool = False
    """What the record knows from dumps alone may be otherwise: policies, rights, triggers, functions, indexes."""

    @property
    def changes_relations(self) -> bool:
        """Whether there are relations to be written down as a new schema version."""
        return bool(self.new or self.altered or self.dropped)


def _is_ours(kind: str, identity: str) -> bool:
    """Whether no dump holds what a command touched, since we have made it. `identity`: as the server writes it, quoted."""
    if kind == "policy":
        return identity.partition(" on ")[0] in GATE_POLICIES
    if kind == "schema":
        return identity in UNRECORDED
    return identity.startswith(_IN_OURS) or (kind, identity) == ("publication", OWN_SCHEMA)


def decode(content: bytes) -> DdlMessage:
    """FormatError for a message that the event triggers of this version do not write."""
    try:
        return msgspec.json.decode(content, type=DdlMessage)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise FormatError(
            f"a ballast.ddl message cannot be read: {error}.",
            "Run `ballast protect` again, so that the event triggers are those of this version.",
        ) from error


class Registry:
    """The relations in force at one place of the history; the methods carry it to the next.

    `highest` is the highest number that any relation of the vault ever had."""

    def __init__(self, tenants: Tenants, relations: Iterable[Relation] = (), *, highest: int = 0) -> None:
        self.tenants = tenants
        self._by_oid: dict[int, Relation] = {r.oid: r for r in relations}
        self._highest = max([highest, *(r.number for r in self._by_oid.values())])
        self._unlogged: set[int] = set()

    @property
    def relations(self) -> tuple[Relation, ...]:
        """All relations by number."""
        return tuple(sorted(self._by_oid.values(), key=lambda r: r.number))

    def by_oid(self, oid: int) -> Relation | None:
        """The relation that the stream calls `oid`; None for tables that are not recorded."""
        return self._by_oid.get(oid)

    def encode(self) -> bytes:
        """The object `SchemaVersion.relations`."""
        return msgspec.json.encode(self.relations)

    def copy(self) -> Registry:
        """One that changes by itself."""
        twin = Registry(self.tenants, self._by_oid.values(), highest=self._highest)
        twin._unlogged = set(self._unlogged)
        return twin

    # The three sources

    def read(self, tables: Sequence[TableFacts], reason: str) -> Change:
        """From the whole catalog (`tables_of`): what is not in it is gone."""
        here = {t.oid for t in tables if t.holds_rows and t.persistence == "p"}
        gone = [r.oid for r in self._by_oid.values() if r.oid not in here]
        return self._take(tables, gone, reason, None, filled_by_stream=False, whole=True)

    def ddl(self, message: DdlMessage) -> Change:
        """From a message of the event triggers."""
        rewritten = tuple(self._by_oid[oid].number for oid in message.rewritten if oid in self._by_oid)
        change = self._take(
            message.relations,
            message.dropped,
            message.tag,
            message.command or None,
            filled_by_stream=message.tag in _FILLED_BY_STREAM,
        )
        return msgspec.structs.replace(
            change,
            rewritten=tuple(dict.fromkeys((*change.rewritten, *rewritten))),
            incomplete=bool(message.failed),
            beside=message.changes_dump,
        )

    def relation(self, message: pgoutput.Relation, types: Mapping[int, str] | None = None) -> Change | None:
        """From a Relation message; None if it says what is known. `types`: names by oid, from Type messages."""
        known = self._by_oid.get(message.oid)
        if message.schema in UNRECORDED or (known is not None and _agrees(known, message)):
            return None
        relation = _from_stream(message, known, types or {}, self._highest + 1)
        tag = "a table that nobody announced" if known is None else "a change that nobody announced"
        if known is None:
            self._highest += 1
            rule, undeclared = _column_rule(relation, self.tenants)
            relation = msgspec.structs.replace(relation, tenant=rule)
            self._by_oid[relation.oid] = relation
            return Change(
                tag, new=(relation.number,), undeclared=(relation.qualified,) if undeclared else (), incomplete=True
            )
        self._by_oid[relation.oid] = relation
        return Change(
            tag,
            altered=(relation.number,),
            rekeyed=(relation.number,) if relation.key != known.key else (),
            incomplete=True,
        )

    # How a description becomes relations

    def _take(
        self,
        tables: Sequence[TableFacts],
        dropped: Iterable[int],
        reason: str,
        command: str | None,
        *,
        filled_by_stream: bool,
        whole: bool = False,
    ) -> Change:
        gone = [self._by_oid.pop(oid).number for oid in dropped if oid in self._by_oid]
        self._unlogged.difference_update(dropped)
        numberings = numberings_of(self._by_oid.values())
        tables = [renumbered(t, numberings) for t in tables if t.schema not in UNRECORDED and t.persistence != "t"]
        rules = self._rules(tables)
        new, altered, rekeyed, rewritten, unrecorded, undeclared = [], [], [], [], [], []
        for table in tables:
            if not table.holds_rows:
                continue
            known = self._by_oid.get(table.oid)
            if table.persistence == "u":
                if known is not None and table.oid not in self._unlogged:
                    unrecorded.append(known.number)
                self._unlogged.add(table.oid)
                if known is None:
                    continue
            elif table.oid in self._unlogged:
                self._unlogged.discard(table.oid)
                if known is not None:
                    rewritten.append(known.number)
            rule = rules.get(table.oid, Shared(declared=False))
            if isinstance(rule, Shared) and not rule.declared and (known is None or known.tenant != rule):
                undeclared.append(table.qualified)
            if known is not None and rule != known.tenant:
                rewritten.append(known.number)  # its older rows lie under other tenants
            relation = relation_of(table, known.number if known else self._highest + 1, rule)
            if known is not None and known.numbering is not None:
                relation = msgspec.structs.replace(relation, numbering=known.numbering)
            if known is None:
                self._highest += 1
                new.append(relation.number)
                if not filled_by_stream and not whole:
                    rewritten.append(relation.number)
            elif relation != known:
                altered.append(relation.number)
                if relation.key != known.key:
                    rekeyed.append(relation.number)
            self._by_oid[table.oid] = relation
        altered += self._detach({t.oid: t for t in tables if not t.holds_rows}, {t.oid for t in tables})
        return Change(
            reason,
            command,
            tuple(new),
            tuple(altered),
            tuple(gone),
            tuple(rekeyed),
            tuple(rewritten),
            tuple(unrecorded),
            tuple(undeclared),
        )

    def _rules(self, tables: Sequence[TableFacts]) -> dict[int, TenantRule]:
        """For each of `tables` that has one. A rule that held so far goes on as long as its columns are there."""
        known = {r.oid: r.tenant for r in self._by_oid.values()}
        for relation in self._by_oid.values():
            if relation.root_oid:
                known.setdefault(relation.root_oid, relation.tenant)
        described = {t.oid for t in tables}
        found = resolve_rules((*tables, *self._parents_in_config(described)), self.tenants, known=known).rules
        rules: dict[int, TenantRule] = {}
        for table in tables:
            if table.oid in self._by_oid:
                rule = _mapped(known[table.oid], {c.attnum: c.attnum for c in table.columns if not c.generated})
                if rule != Shared(declared=False):
                    rules[table.oid] = rule
                    continue
            sibling = next(
                (r for r in self._by_oid.values() if table.is_partition and r.root_oid == table.root_oid), None
            )
            if sibling is not None:
                rules[table.oid] = _like_sibling(sibling, table)
            elif table.oid in found:
                rules[table.oid] = found[table.oid]
        return rules

    def _parents_in_config(self, described: AbstractSet[int]) -> list[TableFacts]:
        """The tables that [tenants.via] leads to, as far as a relation tells of them."""
        named = {v if isinstance(v, str) else v.parent for v in self.tenants.via.values()}
        return [
            TableFacts(
                oid=r.oid, schema=r.schema, name=r.name, kind="r", persistence="p", is_partition=False,
                root_oid=r.oid, root_schema=r.schema, root_name=r.name, replica_identity="d",
                identity_columns=r.key, primary_key=(), unique_indexes=None,
                columns=tuple(TableColumn(c.attnum, c.name, c.type, c.not_null) for c in r.columns),
            )
            for r in self._by_oid.values()
            if r.qualified in named and not r.root_oid and r.oid not in described
        ]  # fmt: skip

    def _detach(self, partitioned: Mapping[int, TableFacts], described: AbstractSet[int]) -> list[int]:
        """Leaves that a partitioned table no longer has stand by themselves."""
        changed = []
        for relation in list(self._by_oid.values()):
            root = partitioned.get(relation.root_oid)
            if root is None or root.is_partition or relation.oid in described or relation.oid in root.leaves:
                continue
            self._by_oid[relation.oid] = msgspec.structs.replace(
                relation, root_oid=0, root_attnums=(), root_schema=relation.schema, root_name=relation.name
            )
            changed.append(relation.number)
        return changed


def relation_of(table: TableFacts, number: int, rule: TenantRule) -> Relation:
    """A table with rows, as the vault describes it."""
    return Relation(
        number=number,
        oid=table.oid,
        schema=table.schema,
        name=table.name,
        root_schema=table.root_schema,
        root_name=table.root_name,
        columns=tuple(
            Column(
                c.attnum, c.name, c.type, c.not_null, bool(c.generated), c.identity, c.default, c.has_missing, c.missing
            )
            for c in sorted(table.columns, key=lambda c: c.attnum)
        ),
        row_columns=tuple(sorted(c.attnum for c in table.columns if not c.generated)),
        key=key_of_table(table),
        tenant=rule,
        root_oid=table.root_oid if table.is_partition else 0,
        root_attnums=tuple(c.root_attnum or 0 for c in sorted(table.columns, key=lambda c: c.attnum))
        if table.is_partition
        else (),
    )


def key_of_table(table: TableFacts) -> tuple[int, ...]:
    """attnums of a row's identity in the vault; empty where only the whole row identifies it.

    With identity FULL the primary key, unless it is DEFERRABLE: two rows may then have the same key for a moment."""
    if table.replica_identity == "f":
        usable = any(index.columns == table.primary_key for index in table.unique_indexes or ())
        return table.primary_key if usable else ()
    return table.identity_columns


def _like_sibling(sibling: Relation, table: TableFacts) -> TenantRule:
    to_root = dict(zip((c.attnum for c in sibling.columns), sibling.root_attnums, strict=False))
    here = {c.root_attnum: c.attnum for c in table.columns}
    return _mapped(sibling.tenant, {a: here[r] for a, r in to_root.items() if r in here})


def _mapped(rule: TenantRule, to: Mapping[int, int]) -> TenantRule:
    match rule:
        case ByColumn(attnum):
            return ByColumn(to[attnum]) if attnum in to else Shared(declared=False)
        case Via(columns):
            if not set(columns) <= set(to):
                return Shared(declared=False)
            return msgspec.structs.replace(rule, columns=tuple(to[attnum] for attnum in columns))
        case _:
            return rule


def _agrees(known: Relation, message: pgoutput.Relation) -> bool:
    names = {c.attnum: c.name for c in known.columns}
    return (
        (known.schema, known.name) == (message.schema, message.name)
        and tuple(names[attnum] for attnum in known.row_columns) == tuple(c.name for c in message.columns)
        and (message.replica_identity == "f" or _flagged(message) == {names[attnum] for attnum in known.key})
    )


def _flagged(message: pgoutput.Relation) -> set[str]:
    return {c.name for c in message.columns if c.is_key} if message.replica_identity != "f" else set()


def _from_stream(message: pgoutput.Relation, known: Relation | None, types: Mapping[int, str], number: int) -> Relation:
    """A best reading of names without numbers: by name, then by place, then as columns added at the end."""
    old = {c.name: c for c in known.columns if not c.generated} if known else {}
    left = (
        [c for c in known.columns if not c.generated and c.name not in {m.name for m in message.columns}]
        if known
        else []
    )
    following = max((c.attnum for c in known.columns), default=0) + 1 if known else 1
    renamed = known is not None and len(message.columns) == len(known.row_columns)
    columns = []
    for sent in message.columns:
        if sent.name in old:
            columns.append(old[sent.name])
        elif renamed and left:
            columns.append(msgspec.structs.replace(left.pop(0), name=sent.name))
        else:
            columns.append(Column(following, sent.name, types.get(sent.type_oid, f"oid {sent.type_oid}")))
            following += 1
    row_columns = tuple(c.attnum for c in columns)
    if known is not None and message.replica_identity == "f":
        key = known.key if set(known.key) <= set(row_columns) else ()
    else:
        flagged = {c.attnum for c, sent in zip(columns, message.columns, strict=True) if sent.is_key}
        key = tuple(a for a in row_columns if a in flagged) if message.replica_identity != "f" else ()
        if known is not None and set(known.key) == set(key):
            key = known.key  # the index's own order
    if known is None:
        return Relation(
            number,
            message.oid,
            message.schema,
            message.name,
            message.schema,
            message.name,
            tuple(columns),
            row_columns,
            key,
            Shared(declared=False),
        )
    generated = [c for c in known.columns if c.generated]
    alone = not known.root_oid
    together = tuple(sorted((*columns, *generated), key=lambda c: c.attnum))
    in_root = dict(zip((c.attnum for c in known.columns), known.root_attnums, strict=False))
    return msgspec.structs.replace(
        known,
        schema=message.schema,
        name=message.name,
        root_schema=message.schema if alone else known.root_schema,
        root_name=message.name if alone else known.root_name,
        columns=together,
        row_columns=row_columns,
        key=key,
        tenant=_mapped(known.tenant, {attnum: attnum for attnum in row_columns}),
        root_attnums=tuple(in_root.get(c.attnum, 0) for c in together) if known.root_attnums else (),
    )


def _column_rule(relation: Relation, tenants: Tenants) -> tuple[TenantRule, bool]:
    """What the name of a table and of its columns says, without foreign keys; and whether that is nothing."""
    if relation.qualified in tenants.shared:
        return Shared(), False
    name = tenants.tables.get(relation.qualified, tenants.column)
    attnum = next((c.attnum for c in relation.columns if c.name == name), None)
    return (Shared(declared=False), True) if attnum is None else (ByColumn(attnum), False)
