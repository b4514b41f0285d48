"""Several sorted streams of rows as one stream of blocks, each with every version of its keys, in bounded memory.

Each source gives sorted tables (row groups, mostly). The block boundary is the smallest of the last keys that the
sources have read up to: all rows before it are known, so they make a block. What a source holds beyond it
waits. A key whose versions are more than one table grows the buffers until they are all there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pyarrow as pa

from ballast.vault.order import (
    Bytes,
    Ints,
    bytes_of,
    groups_of,
    ints_of,
    merge_sorted,
    ops_of,
    ranks_of,
)

TURN = "turn"
"""Column added to rows in a fold: -1 for those of a base, else the timeline. Orders before `lsn`."""

Identity = tuple[Any, ...]
"""Of a key: not shared, tenant, relation, key (of a version also lsn and seq); compares as rows are sorted."""


class Block(msgspec.Struct, frozen=True):
    """Rows with every version of each (tenant, relation, key) among them."""

    rows: pa.Table
    order: Ints | None
    """The permutation that sorts them; None if they are sorted."""
    ranks: Ints
    """Of each row, see `ranks_of`; `tenants` says whose a rank is."""
    tenants: list[str | None]
    groups: Ints
    relations: Ints
    ops: Any

    @property
    def keys(self) -> Bytes:
        """The keys' bytes."""
        return bytes_of(self.rows["key"])

    def sorted_rows(self) -> pa.Table:
        """The rows in order."""
        return self.rows if self.order is None else self.rows.take(pa.array(self.order))


def block_of(rows: pa.Table) -> Block:
    """Rows (with TURN, or of one timeline) as one block."""
    rows = rows.combine_chunks()
    turn = TURN if TURN in rows.column_names else "timeline"
    ranks, tenants = ranks_of(rows["tenant"])
    relations = ints_of(rows["relation"])
    groups = groups_of(ranks, relations)
    ops = ops_of(rows["op"])
    data, offsets = bytes_of(rows["key"])
    turns, lsns, seqs = (ints_of(rows[name]) for name in (turn, "lsn", "seq"))
    order = merge_sorted(groups, data, offsets, turns, lsns, seqs, ops)
    return Block(rows, order if len(order) else None, ranks, tenants, groups, relations, ops)


def merged(
    sources: Sequence[Iterator[pa.Table]], pool: ThreadPoolExecutor | None = None, *, whole_keys: bool = True
) -> Iterator[Block]:
    """The rows of all sources as blocks, in order. With a `pool` the sources are read at the same time.

    Without `whole_keys` the versions of a key may come in several blocks, for those who only want the order."""
    identity = identity_of if whole_keys else _version_of
    cursors = [_Cursor(source, identity) for source in sources]
    while True:
        wanting = [cursor for cursor in cursors if cursor.wants]
        if pool is not None and len(wanting) > 1:
            list(pool.map(_Cursor.load, wanting))
        else:
            for cursor in wanting:
                cursor.load()
        cursors = [cursor for cursor in cursors if cursor.rows is not None]
        if not cursors:
            return
        bounds = [cursor.last for cursor in cursors if not cursor.ended]
        if not bounds:
            yield block_of(pa.concat_tables(cursor.take(None) for cursor in cursors))
            return
        bound = min(bounds)
        pieces = [piece for cursor in cursors if (piece := cursor.take(bound)) is not None]
        if pieces:
            yield block_of(pa.concat_tables(pieces))
        else:
            # All that the slowest source holds is versions of one key: read on there.
            for cursor in cursors:
                cursor.wants = cursor.wants or (not cursor.ended and cursor.last == bound)


class _Cursor:
    """A source with what was read of it and not used yet."""

    def __init__(self, source: Iterator[pa.Table], identity: Callable[[pa.Table, int], Identity]) -> None:
        self._source, self._identity = source, identity
        self._ahead: pa.Table | None = None
        self._begun = False
        self.rows: pa.Table | None = None
        self.ended = False
        self.wants = True
        self.last: Identity = ()

    def load(self) -> None:
        """Read one table more; after the last one `ended`, and `rows` None if there is nothing left."""
        piece = next((t for t in self._source if t.num_rows), None)
        self.wants = False
        if piece is None:
            self.ended = True
            return
        self.rows = piece if self.rows is None else pa.concat_tables([self.rows, piece])
        self.last = self._identity(self.rows, self.rows.num_rows - 1)

    def take(self, bound: Identity | None) -> pa.Table | None:
        """Remove and return the rows before `bound` (None: all)."""
        rows = self.rows
        if rows is None:
            return None
        count = rows.num_rows if bound is None else rows_before(rows, bound, self._identity)
        if count == 0:
            return None
        rest = rows.slice(count)
        self.rows = rest if rest.num_rows else None
        self.wants = not self.ended and (self.rows is None or self.last == bound)
        return rows.slice(0, count)


def identity_of(rows: pa.Table, index: int) -> Identity:
    """Of which key the row of that index is a version."""
    tenant = rows["tenant"][index].as_py()
    shared = tenant is None
    return (
        not shared,
        b"" if shared else tenant.encode(),
        rows["relation"][index].as_py(),
        rows["key"][index].as_py(),
    )


def _version_of(rows: pa.Table, index: int) -> Identity:
    return (*identity_of(rows, index), rows["lsn"][index].as_py(), rows["seq"][index].as_py())


def rows_before(rows: pa.Table, bound: Identity, identity: Callable[[pa.Table, int], Identity] = identity_of) -> int:
    """How many of the sorted rows come before `bound`."""
    low, high = 0, rows.num_rows
    while low < high:
        middle = (low + high) // 2
        if identity(rows, middle) < bound:
            low = middle + 1
        else:
            high = middle
    return low
