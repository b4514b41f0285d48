"""Relations of a moment under the names that they bear now: in the database that is recorded, a table or column that was
renamed since is still that table or column."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ballast.postgres import Catalog
from ballast.vault.records import Column, Relation


def as_named_now(then: Mapping[int, Relation], now: Mapping[int, Relation], catalog: Catalog) -> dict[int, Relation]:
    """`then` by number, with the names of `now` wherever `catalog` has a table of that name; columns keep their order."""
    tables = {(table.schema, table.name) for table in catalog.tables}
    return {
        number: _renamed(relation, now[number])
        if number in now and (now[number].schema, now[number].name) in tables
        else relation
        for number, relation in then.items()
    }


def _renamed(relation: Relation, present: Relation) -> Relation:
    names = {column.attnum: column.name for column in present.columns}
    # A column may bear the name of one that is gone: the one that is gone is then nowhere.
    taken = {names[column.attnum] for column in relation.columns if column.attnum in names}

    def named(column: Column) -> Column:
        if column.attnum in names:
            return msgspec.structs.replace(column, name=names[column.attnum])
        return msgspec.structs.replace(column, name=f"{column.name} (dropped)") if column.name in taken else column

    return msgspec.structs.replace(
        relation,
        schema=present.schema,
        name=present.name,
        root_schema=present.root_schema,
        root_name=present.root_name,
        columns=tuple(named(column) for column in relation.columns),
    )
