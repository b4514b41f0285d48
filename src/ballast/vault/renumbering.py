"""Columns whose numbers on a server are not those of the record. Pure.

The record tells a table's columns by attnum. A table that once lost a column has a hole in its numbers; made anew on another
server, from its dump, it has none. Its record goes on under the numbers that it had: what the server says of the table is
renumbered before anything else looks at it. Columns that are added later get numbers past all that the record ever gave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ballast.vault.records import Numbering, Relation
from ballast.vault.tables import TableFacts

Numberings = Mapping[int, Numbering]
"""By the table's oid."""


def numbering_of(relation: Relation, table: TableFacts, highest: int) -> Numbering | None:
    """For `table`, which is `relation` made anew. None: the numbers agree, or the columns of the two are not the same in
    the same order, so that there is no such numbering. `highest`: attnum that the record ever gave in this relation."""
    numbers = {c.name: c.attnum for c in relation.columns}
    columns = sorted(table.columns, key=lambda c: c.attnum)
    if [c.name for c in columns] != [c.name for c in sorted(relation.columns, key=lambda c: c.attnum)]:
        return None
    pairs = tuple((c.attnum, numbers[c.name]) for c in columns)
    beyond = max(highest - max((here for here, _ in pairs), default=0), 0)
    return None if not beyond and all(here == there for here, there in pairs) else Numbering(pairs, beyond)


def numberings_of(relations: Iterable[Relation]) -> Numberings:
    """Those that these relations carry."""
    return {r.oid: r.numbering for r in relations if r.numbering is not None}


def renumbered(table: TableFacts, numberings: Numberings) -> TableFacts:
    """What the server says of a table, in the record's numbers."""
    own = numberings.get(table.oid)
    keys = tuple(
        msgspec.structs.replace(
            key, columns=_in(own, key.columns), ref_columns=_in(numberings.get(key.ref_table_oid), key.ref_columns)
        )
        for key in table.foreign_keys
    )
    if own is None:
        return table if keys == table.foreign_keys else msgspec.structs.replace(table, foreign_keys=keys)
    indexes = table.unique_indexes
    return msgspec.structs.replace(
        table,
        columns=tuple(msgspec.structs.replace(c, attnum=own.of(c.attnum)) for c in table.columns),
        identity_columns=_in(own, table.identity_columns),
        primary_key=_in(own, table.primary_key),
        foreign_keys=keys,
        unique_indexes=None
        if indexes is None
        else tuple(msgspec.structs.replace(i, columns=_in(own, i.columns)) for i in indexes),
    )


def renumbered_all(tables: Iterable[TableFacts], numberings: Numberings) -> list[TableFacts]:
    """Several."""
    return [renumbered(table, numberings) for table in tables]


def _in(numbering: Numbering | None, attnums: Sequence[int]) -> tuple[int, ...]:
    return tuple(attnums) if numbering is None else tuple(numbering.of(attnum) for attnum in attnums)
