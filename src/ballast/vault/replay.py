"""One table of one tenant, change by change in the order in which it happened: slow, and right in every case.

For tables whose key was redefined, or that have no key and got another layout, while the versions at hand were
written: a row's versions then stand under different keys, and only the state itself tells which belong together.
At the first row of a new definition the state is turned into it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from ballast.vault import layout
from ballast.vault.blocks import TURN, Block
from ballast.vault.fold import Lookup, Structure, Version, Wanted, apply_patch, baseless
from ballast.vault.order import ints_of, ops_of
from ballast.vault.records import Relation


class State:
    """The rows of one table of one tenant at a position: by key, or counted where there is none."""

    def __init__(self, tenant: str | None, relation: int, structure: Structure, lookup: Lookup) -> None:
        self._tenant, self._relation, self._structure, self._lookup = tenant, relation, structure, lookup
        self._schema = -1
        self._form: Relation | None = None
        self._by_key: dict[bytes, bytes] = {}
        self._counted: Counter[bytes] = Counter()
        self._commit = (-1, -1)
        self._removed: dict[bytes, tuple[int, bytes]] = {}
        """Key to seq and line of what this commit deleted: an update of the key is a delete and a patch."""

    def apply(self, row: dict[str, Any]) -> None:
        """The next change (a row of a run as a dict, with TURN). IntegrityError where it does not fit the state."""
        self._turn_into(row["schema"])
        if self._commit != (row[TURN], row["lsn"]):
            self._commit, self._removed = (row[TURN], row["lsn"]), {}
        assert self._form is not None
        key, line, op = row["key"], row["row"], row["op"]
        if not self._form.key:
            if op == "D":
                if not self._counted[key]:
                    raise baseless(self._tenant, self._relation, key, self._structure)
                self._counted[key] -= 1
            else:
                self._counted[key] += 1
        elif op == "D":
            gone = self._by_key.pop(key, None)
            if gone is not None:
                self._removed[key] = row["seq"], gone
        elif op == "P":
            patch = Version(row["schema"], line)
            previous = self._previous(row)
            self._by_key[key] = apply_patch(patch, row["missing"] or (), previous, self._relation, self._structure).line
        else:
            self._by_key[key] = line

    def _previous(self, row: dict[str, Any]) -> Version:
        timeline, lsn, seq = row[TURN], row["lsn"], row["seq"]
        before = row["before_key"]
        if before is None or row["before_tenant"] == self._tenant:
            key = row["key"] if before is None else before
            if before is not None and key in self._removed:
                gone_seq, line = self._removed[key]
                if gone_seq in (seq - 1, seq):
                    return Version(self._schema, line)
            found = self._by_key.get(key)
            if found is not None:
                return Version(self._schema, found)
            raise baseless(self._tenant, self._relation, key, self._structure)
        wanted = Wanted(row["schema"], timeline, lsn, seq, self._relation, row["before_tenant"], before)
        version = self._lookup([wanted]).get(wanted)
        if version is None:
            raise baseless(self._tenant, self._relation, before, self._structure)
        return version

    def _turn_into(self, schema: int) -> None:
        if schema == self._schema:
            return
        form = self._structure.of(schema, self._relation)
        if self._form is not None:
            self._convert(self._form, form)
        self._schema, self._form = schema, form

    def _convert(self, old: Relation, new: Relation) -> None:
        if old.key == new.key and old.row_columns == new.row_columns:
            return
        mapping = layout.mapping(old, new)
        places = layout.key_positions(new)
        lines = [mapping.apply(line) for line in self._lines(old)]
        self._by_key, self._counted = {}, Counter()
        if places:
            self._by_key = {layout.key_of(line, places): line for line in lines}
        else:
            self._counted.update(line[:-1] for line in lines)
        # Deletes of before the change cannot be what a patch of after it builds on.
        self._removed = {}

    def _lines(self, form: Relation) -> Iterator[bytes]:
        if form.key:
            yield from self._by_key.values()
        else:
            for key in self._counted.elements():
                yield key + b"\n"

    def rows(self, form: Relation) -> list[tuple[bytes, bytes]]:
        """(key, line) of every row, as `form` defines both, in order."""
        if self._form is None:
            return []
        mapping = layout.mapping(self._form, form)
        places = layout.key_positions(form)
        lines = [mapping.apply(line) for line in self._lines(self._form)]
        return sorted((layout.key_of(line, places), line) for line in lines)

    def find(self, key: bytes, schema: int) -> Version | None:
        """The row under `key`, as `schema` defines it."""
        self._turn_into(schema)
        found = self._by_key.get(key)
        return None if found is None else Version(self._schema, found)


def in_order(rows: pa.Table) -> pa.Table:
    """Rows of one table and tenant in the order in which they happened."""
    rows = rows.combine_chunks()
    order = np.lexsort((ops_of(rows["op"]), *(ints_of(rows[name]) for name in ("seq", "lsn", TURN))))
    return rows.take(pa.array(order))


def replay(blocks: Iterator[Block], structure: Structure, lookup: Lookup) -> Iterator[pa.Table]:
    """Tables of `tenant`, `relation`, `key`, `row`, one for each tenant and relation, in order.

    Holds all versions of one table of one tenant in memory."""
    held: list[pa.Table] = []
    group: tuple[str | None, int] | None = None
    for block in blocks:
        rows = block.sorted_rows()
        groups = block.groups if block.order is None else block.groups[block.order]
        starts = [0, *(np.flatnonzero(np.diff(groups)) + 1), len(groups)]
        for start, end in pairwise(starts):
            part = rows.slice(start, end - start)
            mine = (part["tenant"][0].as_py(), part["relation"][0].as_py())
            if group is not None and mine != group:
                yield from _finish(group, held, structure, lookup)
                held = []
            group = mine
            held.append(part)
    if group is not None:
        yield from _finish(group, held, structure, lookup)


def _finish(
    group: tuple[str | None, int], held: list[pa.Table], structure: Structure, lookup: Lookup
) -> Iterator[pa.Table]:
    tenant, relation = group
    state = State(tenant, relation, structure, lookup)
    for batch in in_order(pa.concat_tables(held)).to_batches(4096):
        for row in batch.to_pylist():
            state.apply(row)
    rows = state.rows(structure.target[relation])
    if rows:
        keys, lines = zip(*rows, strict=True)
        yield pa.table(
            {
                "tenant": pa.array([tenant] * len(rows), pa.string()),
                "relation": pa.array([relation] * len(rows), pa.int32()),
                "key": pa.array(keys, pa.large_binary()),
                "row": pa.array(lines, pa.large_binary()),
            }
        )
