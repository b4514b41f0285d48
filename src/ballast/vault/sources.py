"""The rows of a plan that count, as sorted sources for a fold: clipped to their stretch, after base and truncation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from ballast.vault.blocks import TURN
from ballast.vault.order import INSERT, ints_of, op_column, ops_of
from ballast.vault.plan import Base, ChangeRun, Plan
from ballast.vault.records import Relation, RunRef
from ballast.vault.run import Run

_BASE_COLUMNS = ("tenant", "relation", "key", "schema", "row")
_CHANGE_COLUMNS = ("tenant", "relation", "key", "lsn", "seq", "op", "schema", "row")
_PATCH_COLUMNS = ("missing", "before_key", "before_tenant")
_TYPES = {
    "tenant": pa.dictionary(pa.int32(), pa.string()),
    "relation": pa.int32(),
    "key": pa.large_binary(),
    TURN: pa.int64(),
    "lsn": pa.int64(),
    "seq": pa.int64(),
    "op": pa.dictionary(pa.int8(), pa.string()),
    "schema": pa.int32(),
    "row": pa.large_binary(),
    "missing": pa.list_(pa.int16()),
    "before_key": pa.large_binary(),
    "before_tenant": pa.string(),
}

Slices = Callable[[RunRef, Collection[int], Sequence[str]], Iterator[pa.Table]]
"""The rows of a run that are asked for (tenant or bucket are settled), of these relations, with these columns."""

Floor = tuple[int, int, int]
"""Timeline, LSN and seq from which the changes of a relation count."""


class Versions(msgspec.Struct, frozen=True):
    """In which schema versions the rows of each relation were written, in the runs of a plan."""

    of: Mapping[int, frozenset[int]]
    patches: bool

    def exact(
        self, versions: Callable[[int], Mapping[int, Relation]], keyed_as: Mapping[int, Relation] | None = None
    ) -> frozenset[int]:
        """Relations whose rows stand under different keys (or others than `keyed_as` has): they must be replayed."""
        found = set()
        for number, schemas in self.of.items():
            forms = [form for schema in schemas if (form := versions(schema).get(number)) is not None]
            if keyed_as is not None and number in keyed_as:
                forms.append(keyed_as[number])
            if len({form.key or (0, *form.row_columns) for form in forms}) > 1:
                found.add(number)
        return frozenset(found)

    def keyless(self, versions: Callable[[int], Mapping[int, Relation]]) -> frozenset[int]:
        """Relations that have no key in some version."""
        return frozenset(
            number
            for number, schemas in self.of.items()
            if any((form := versions(schema).get(number)) is not None and not form.key for schema in schemas)
        )


def versions_in(runs: Iterable[Run]) -> Versions:
    """What the footers of these runs say."""
    found: dict[int, set[int]] = {}
    patches = False
    for run in runs:
        patches = patches or run.facts.patches > 0
        for relation, schema in run.facts.versions:
            found.setdefault(relation, set()).add(schema)
    return Versions({relation: frozenset(schemas) for relation, schemas in found.items()}, patches)


def floors(plan: Plan, relations: Iterable[int]) -> dict[int, Floor]:
    """From where on the changes of each relation count: its base, or its last truncation if that is later."""
    found: dict[int, Floor] = {}
    for relation in relations:
        base = plan.base_of(relation)
        found[relation] = (base.timeline, base.lsn, 0)
    for truncation in plan.truncations:
        position = (truncation.timeline, truncation.lsn, truncation.seq)
        for relation in truncation.relations:
            if relation in found:
                found[relation] = max(found[relation], position)
    return found


def sources(plan: Plan, relations: Collection[int], slices: Slices, *, patches: bool) -> list[Iterator[pa.Table]]:
    """A source for each run of the plan that has rows of `relations`, bases first, all with the same columns.

    `patches`: with the columns that patches need."""
    from_on = floors(plan, relations)
    truncated = {r for truncation in plan.truncations for r in truncation.relations}
    found = []
    for base in plan.bases:
        wanted = frozenset(base.relations) & (from_on.keys() - truncated)
        if wanted:
            found.append(_of_base(base, wanted, slices, patches))
    for change in plan.changes:
        wanted = frozenset(r for r in change.relations if r in from_on and _reaches(change, from_on[r]))
        if wanted:
            found.append(_of_changes(change, wanted, from_on, slices, patches))
    return found


def _reaches(change: ChangeRun, floor: Floor) -> bool:
    timeline, lsn, _ = floor
    return (change.timeline, change.to_lsn) > (timeline, lsn)


def _of_base(base: Base, wanted: frozenset[int], slices: Slices, patches: bool) -> Iterator[pa.Table]:
    for rows in slices(base.run, wanted, _BASE_COLUMNS):
        count = rows.num_rows
        zeros = pa.array(np.zeros(count, np.int64))
        added = {
            TURN: pa.array(np.full(count, -1, np.int64)),
            "lsn": zeros,
            "seq": zeros,
            "op": op_column(np.full(count, INSERT)),
        }
        yield _shaped(rows, added, patches)


def _of_changes(
    change: ChangeRun, wanted: frozenset[int], from_on: Mapping[int, Floor], slices: Slices, patches: bool
) -> Iterator[pa.Table]:
    columns = (*_CHANGE_COLUMNS, *_PATCH_COLUMNS) if patches else _CHANGE_COLUMNS
    later = {r: from_on[r][1:] for r in wanted if from_on[r][0] == change.timeline}
    for rows in slices(change.run, wanted, columns):
        lsns, seqs = ints_of(rows["lsn"]), ints_of(rows["seq"])
        keep = (lsns >= change.from_lsn) & (lsns < change.to_lsn)
        biting = {r: floor for r, floor in later.items() if floor > (int(lsns.min(initial=0)), 0)}
        if biting:
            relations = ints_of(rows["relation"])
            for relation, (lsn, seq) in biting.items():
                keep &= (relations != relation) | (lsns > lsn) | ((lsns == lsn) & (seqs >= seq))
        if not keep.all():
            rows = rows.filter(pa.array(keep))
        if rows.num_rows:
            turns = pa.array(np.full(rows.num_rows, change.timeline, np.int64))
            yield _shaped(rows, {TURN: turns, "op": op_column(ops_of(rows["op"]))}, patches)


def _shaped(rows: pa.Table, added: Mapping[str, pa.Array], patches: bool) -> pa.Table:
    names = [name for name in _TYPES if patches or name not in _PATCH_COLUMNS]
    columns = []
    for name in names:
        if name in added:
            column = added[name]
        elif name not in rows.column_names:
            column = pa.nulls(rows.num_rows, _TYPES[name])
        else:
            column = rows[name]
            if name == "tenant" and not pa.types.is_dictionary(column.type):
                column = column.dictionary_encode()
        columns.append(column if column.type == _TYPES[name] else column.cast(_TYPES[name]))
    return pa.Table.from_arrays(columns, names=names)
