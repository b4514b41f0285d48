"""Row groups that are read for one tenant after another, kept decoded: the next tenant in one costs a search, not the group.

A group is kept from its second read on; those that were not read for longest go when all take more than they may.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

import msgspec
import numpy as np
import pyarrow as pa

from ballast.vault.order import ints_of, ranks_of
from ballast.vault.run import Run

_MOST_BYTES = 96 << 20
_SHARE = 8
"""A group that alone takes more than this part of it is not kept."""
_MOST_SEEN = 100_000
_TENANT = pa.int32()

Key = tuple[str, int]
"""Name of a run and number of a row group in it."""


class Group(msgspec.Struct, frozen=True):
    """A row group with all its columns, and where each tenant's rows are in it (None: the shared ones)."""

    rows: pa.Table
    spans: dict[str | None, tuple[int, int]]

    def slices(
        self, tenants: Collection[str | None], relations: Collection[int] | None, columns: Sequence[str]
    ) -> Iterator[pa.Table]:
        """As `Run.slices`, a table for each of the tenants, which are sorted as they are in the group."""
        spans = sorted((self.spans[tenant], tenant) for tenant in tenants if tenant in self.spans)
        for (start, end), tenant in spans:
            rows = self.rows.select(columns).slice(start, end - start)
            rows = rows.set_column(columns.index("tenant"), "tenant", _named(tenant, end - start))
            if relations is not None:
                wanted = np.isin(ints_of(rows["relation"]), list(relations))
                if not wanted.all():
                    rows = rows.filter(pa.array(wanted))
            if rows.num_rows:
                yield rows


class HotGroups:
    """Of one vault. Safe for several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._seen: set[Key] = set()
        self._kept: OrderedDict[Key, Group] = OrderedDict()
        self._bytes = 0

    def slices(
        self, name: str, run: Run, tenants: Collection[str | None], relations: Collection[int] | None,
        columns: Sequence[str],
    ) -> Iterator[pa.Table]:  # fmt: skip
        """As `Run.slices` of these tenants."""
        wanted = list(dict.fromkeys(("tenant", "relation", *columns)))
        for index in run.groups(tenants, relations):
            group = self._group((name, index), run)
            if group is not None:
                yield from group.slices(tenants, relations, wanted)
            else:
                yield from run.slices(tenants, relations, columns=columns, groups=(index,))

    def _group(self, key: Key, run: Run) -> Group | None:
        """None: it is read for the first time, or is too large."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if key not in self._seen:
                if len(self._seen) >= _MOST_SEEN:
                    self._seen.clear()
                self._seen.add(key)
                return None
        if run.group_bytes(key[1]) > self._most // _SHARE:
            return None
        group = _decoded(run, key[1])
        with self._lock:
            if key not in self._kept:
                self._kept[key] = group
                self._bytes += group.rows.nbytes
            while self._bytes > self._most:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.rows.nbytes
        return group


def _decoded(run: Run, index: int) -> Group:
    rows = run.group(index).combine_chunks()
    ranks, names = ranks_of(rows["tenant"])
    ends = [*(np.flatnonzero(np.diff(ranks)) + 1).tolist(), len(ranks)]
    spans, start = {}, 0
    for end in ends:
        spans[names[ranks[start]]] = (start, end)
        start = end
    return Group(rows, spans)


def _named(tenant: str | None, count: int) -> pa.DictionaryArray:
    if tenant is None:
        return pa.nulls(count, pa.dictionary(_TENANT, pa.string()))
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([tenant], pa.string()))
