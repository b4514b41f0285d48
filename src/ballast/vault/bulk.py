"""Many buckets read together: what a restore of everything asks for.

Read one by one, each bucket would open every run and find its few rows in each row group. Buckets whose rows come from the
same images and the same changes are read as one; and where nothing changed since the image, its lines are
handed on without a fold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa

from ballast.vault.fold import Structure, by_relation
from ballast.vault.layout import packed
from ballast.vault.order import bytes_of, ints_of
from ballast.vault.plan import Plan
from ballast.vault.records import RunRef
from ballast.vault.sources import Slices

_PLAIN_COLUMNS = ("relation", "schema", "row")


def groups(plans: Mapping[int, Plan], count: int) -> list[tuple[int, ...]]:
    """The buckets in about `count` groups of neighbours that may be read together.

    Cut as an image cuts its runs, if `count` is theirs, or a multiple of it."""
    found: list[tuple[int, ...]] = []
    total = max(plans, default=0) + 1
    of = {bucket: (bucket * count // total if bucket >= 0 else -1, _common(plan)) for bucket, plan in plans.items()}
    for _, together in groupby(sorted(plans), key=of.__getitem__):
        found.append(tuple(together))
    return found


def joint(plans: Sequence[Plan]) -> Plan:
    """One plan for buckets of one group."""
    bases = {(base.run.object.name, base.relations): base for plan in plans for base in plan.bases}
    changes = {
        (change.run.object.name, change.from_lsn, change.to_lsn, change.relations): change
        for plan in plans
        for change in plan.changes
    }
    return msgspec.structs.replace(plans[0], bases=tuple(bases.values()), changes=tuple(changes.values()))


def image_runs(plans: Mapping[int, Plan]) -> list[RunRef]:
    """The images' runs of many buckets that the plans begin with."""
    runs = {base.run.object.name: base.run for plan in plans.values() for base in plan.bases if base.run.bucket is None}
    return list(runs.values())


def as_imaged(
    plan: Plan, wanted: Collection[int], slices: Slices, structure: Structure
) -> Iterator[tuple[int, pa.LargeBinaryArray]]:
    """Relations with their lines where the plan has no changes: a relation's images hold each row once."""
    nothing = packed([])
    for base in plan.bases:
        relations = frozenset(base.relations) & frozenset(wanted)
        if not relations:
            continue
        for rows in slices(base.run, relations, _PLAIN_COLUMNS):
            numbers, schemas = ints_of(rows["relation"]), ints_of(rows["schema"])
            lines = bytes_of(rows["row"])
            yield from by_relation(numbers, schemas, lines, nothing, np.arange(rows.num_rows), structure)


def _common(plan: Plan) -> object:
    """What buckets must have in common to be read together: all but the runs that hold one bucket alone."""
    bases = frozenset((base.run.object.name, base.relations) for base in plan.bases if base.run.bucket is None)
    changes = frozenset(
        (change.run.object.name, change.from_lsn, change.to_lsn, change.relations)
        for change in plan.changes
        if change.run.bucket is None
    )
    exceptions = tuple(sorted(plan.exceptions.items()))
    return plan.base, exceptions, plan.truncations, bases, changes
