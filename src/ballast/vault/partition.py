"""A run that holds all buckets, taken apart once: a local file with each bucket's rows together, still in order.

Segments arrive with every tenant in them. Whoever goes through the vault bucket by bucket (a restore of everything,
a merge) would read each of them as often as there are buckets. This reads it once.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from ballast.vault.buckets import bucket_of
from ballast.vault.order import ranks_of
from ballast.vault.run import RUN_SCHEMA, Run, conform


class Partitioned:
    """The rows of a run by bucket, in a temporary Arrow file at `path`."""

    def __init__(self, run: Run, bucket_count: int, path: Path) -> None:
        self._path = path
        self._batches: defaultdict[int, list[int]] = defaultdict(list)
        written = 0
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, RUN_SCHEMA, options=options) as writer:
            for rows in run.slices():
                for bucket, part in by_bucket(conform(rows), bucket_count):
                    writer.write_batch(part.combine_chunks().to_batches()[0])
                    self._batches[bucket].append(written)
                    written += 1

    def slices(
        self, bucket: int, relations: Collection[int] | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """As `Run.slices` with this one bucket."""
        if bucket not in self._batches:
            return
        names = list(columns or RUN_SCHEMA.names)
        with pa.memory_map(str(self._path)) as source:
            file = pa.ipc.open_file(source)
            for number in self._batches[bucket]:
                rows = pa.Table.from_batches([file.get_batch(number)])
                if relations is not None:
                    wanted = np.isin(rows["relation"].to_numpy(), list(relations))
                    if not wanted.all():
                        rows = rows.filter(pa.array(wanted))
                if rows.num_rows:
                    yield rows.select(names)


def by_bucket(rows: pa.Table, bucket_count: int) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each bucket, in the order in which they come."""
    ranks, tenants = ranks_of(rows["tenant"])
    buckets = np.array([bucket_of(tenant, bucket_count) for tenant in tenants])[ranks]
    order = np.argsort(buckets, kind="stable")
    rows = rows.take(pa.array(order))
    ends = np.flatnonzero(np.diff(buckets[order])) + 1
    start = 0
    for end in [*ends.tolist(), len(order)]:
        yield int(buckets[order[start]]), rows.slice(start, end - start)
        start = end


class Partitions:
    """Runs taken apart so far, in a folder of their own. Safe for several threads."""

    def __init__(self, folder: Callable[[], Path], bucket_count: int) -> None:
        """`folder` makes the temporary folder when it is first needed."""
        self._folder, self._bucket_count = folder, bucket_count
        self._made: dict[str, Partitioned] = {}
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._lock = threading.Lock()

    def of(self, name: str, run: Run) -> Partitioned:
        """The run called `name`, taken apart."""
        with self._lock:
            lock = self._locks[name]
        with lock:
            if name not in self._made:
                path = self._folder() / f"{len(self._made)}-{name.rpartition('/')[2]}.arrow"
                self._made[name] = Partitioned(run, self._bucket_count, path)
            return self._made[name]
