"""Writing merges: the changes of neighbouring pieces as one, and the whole rows of some buckets as of a cut.

Both stream from sorted runs into sorted runs, a few megabytes at a time. Each makes one ledger entry; killed
before it, what was put is known as abandoned, and the merge is made again. Killed after it, it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from ballast.errors import GapError, IntegrityError, Overtaken
from ballast.vault.batch import Batch
from ballast.vault.blocks import identity_of, merged, rows_before
from ballast.vault.failpoints import reach
from ballast.vault.fold import fold
from ballast.vault.merge_rules import Piece, level_of
from ballast.vault.order import INSERT, op_column
from ballast.vault.read import Scope
from ballast.vault.records import Abandoned, Cut, Entry, Merge, RunRef
from ballast.vault.replay import replay
from ballast.vault.run import RUN_SCHEMA, RunWriter, open_run, sort_rows
from ballast.vault.vault import Vault

_PIECE_BYTES = 1 << 20
"""So much of each run is in memory while several are merged."""
_RUN_BYTES = 256 << 20
"""Keys and rows in one run of a merge, uncompressed; a larger merge has several."""
_SMALL_BYTES = 4 << 20
"""A bucket with less shares its run with others: an object and a ledger entry for each would be more trouble than use."""
_SHARED_BYTES = 24 << 20
"""Such a run is sorted in memory."""


class Workshop(msgspec.Struct, frozen=True):
    """What every merge needs."""

    vault: Vault
    state_dir: Path
    scratch: Path
    """For one run at a time, before it is put."""

    def batch(self, timeline: int, first: int, last: int) -> Batch:
        """For the objects of a merge."""
        return Batch(self.vault.store, self.state_dir, "merge", timeline, first, last)


class ImageMerge(msgspec.Struct, frozen=True):
    """What became of a merged image of some buckets."""

    buckets: tuple[int, ...]
    """Those that were dealt with, in the entry or without."""
    entry: Entry | None
    """None: nothing was written, since an image came into the ledger that it should have been based on."""


class BucketFailed(Exception):
    """The record of one bucket does not give its rows; the reason is the cause."""

    def __init__(self, bucket: int) -> None:
        super().__init__(bucket)
        self.bucket = bucket


class _Runs:
    """Sorted rows as runs of a batch."""

    def __init__(self, batch: Batch, scratch: Path, bucket: int | None) -> None:
        self._batch, self._path, self._bucket = batch, scratch / "merge.parquet", bucket
        self._writer: RunWriter | None = None
        self.refs: list[RunRef] = []

    def write(self, rows: pa.Table) -> None:
        """Add rows that come after all that were added before."""
        if self._writer is None:
            self._path.unlink(missing_ok=True)
            self._writer = RunWriter(self._path)
        self._writer.write(rows)
        if self._writer.bytes >= _RUN_BYTES:
            self.close()

    def close(self) -> None:
        """End the run that is being written, if there is one, and put it."""
        if self._writer is None:
            return
        self._writer.close()
        self.refs.append(self._writer.facts.ref(self._batch.put("run", "parquet", self._path), self._bucket))
        self._writer = None
        self._path.unlink()


def merge_changes(shop: Workshop, timeline: int, pieces: Sequence[Piece]) -> Entry:
    """Make one of neighbouring pieces that hold the changes of all buckets."""
    vault = shop.vault
    first, last = pieces[0].first_lsn, pieces[-1].last_lsn
    with shop.batch(timeline, first, last) as batch:
        runs = _Runs(batch, shop.scratch, None)
        for run in (run for piece in pieces for run in piece.runs):
            vault.check_object(run.object)  # what is merged is signed anew
        sources = [open_run(vault.store, run).pieces(_PIECE_BYTES) for piece in pieces for run in piece.runs]
        for block in merged(sources, whole_keys=False):
            runs.write(block.sorted_rows())
            reach("merge.read")
        runs.close()
        reach("merge.put")
        level = 1 + max(level_of(piece) for piece in pieces)
        schema = vault.index.schema_at(Cut(timeline, last)).version
        entry = vault.append(Merge(timeline, "changes", None, level, first, last, schema, tuple(runs.refs)))
        reach("merge.ledger")
        batch.done()
    return entry


def merge_image(
    shop: Workshop, cut: Cut, buckets: Sequence[int], stopping: Callable[[], bool] = lambda: False
) -> ImageMerge:
    """An image of the first of `buckets`, as many as fill a run together, as of `cut`. BucketFailed.

    With `stopping` it ends after the bucket that it is at."""
    vault = shop.vault
    seen = len(vault.index.images)
    schema = vault.index.schema_at(cut).version
    taken: list[int] = []
    refs: list[RunRef] = []
    small = _Small()
    with shop.batch(cut.timeline, cut.lsn, cut.lsn) as batch:
        for bucket in buckets:
            runs = _Runs(batch, shop.scratch, bucket)
            try:
                _take_bucket(_image_rows(vault, cut, bucket, schema), bucket, small, runs)
            except (IntegrityError, GapError) as error:
                runs.close()
                _abandon(vault, batch, [*refs, *runs.refs])
                raise BucketFailed(bucket) from error
            refs += runs.refs
            taken.append(bucket)
            reach("merge.read")
            if small.bytes >= _SHARED_BYTES or sum(run.object.bytes for run in refs) >= _RUN_BYTES or stopping():
                break
        refs += small.put(batch, shop.scratch)
        reach("merge.put")
        merge = Merge(cut.timeline, "image", tuple(taken), 1, cut.lsn, cut.lsn, schema, tuple(refs))
        entry = _append_unless_stale(vault, merge, seen)
        if entry is None:
            _abandon(vault, batch, refs)
            return ImageMerge(tuple(taken), None)
        reach("merge.ledger")
        batch.done()
    return ImageMerge(tuple(taken), entry)


class _Small:
    """Buckets that share a run."""

    def __init__(self) -> None:
        self.bytes = 0
        self._tables: list[pa.Table] = []
        self._buckets: list[int] = []

    def add(self, bucket: int, tables: list[pa.Table], size: int) -> None:
        if tables:
            self._tables += tables
            self._buckets.append(bucket)
            self.bytes += size

    def put(self, batch: Batch, scratch: Path) -> list[RunRef]:
        if not self._tables:
            return []
        runs = _Runs(batch, scratch, self._buckets[0] if len(self._buckets) == 1 else None)
        runs.write(sort_rows(pa.concat_tables(self._tables)))
        runs.close()
        return runs.refs


def _take_bucket(tables: Iterator[pa.Table], bucket: int, small: _Small, runs: _Runs) -> None:
    held: list[pa.Table] = []
    size = 0
    for table in tables:
        held.append(table)
        size += table.nbytes
        if size > _SMALL_BYTES:
            break
    else:
        small.add(bucket, held, size)
        return
    for table in held:
        runs.write(table)
    held.clear()
    for table in tables:
        runs.write(table)
    runs.close()


def _image_rows(vault: Vault, cut: Cut, bucket: int, schema: int) -> Iterator[pa.Table]:
    """The bucket's rows at the cut as an image holds them, keyed as the structure there says."""
    scope = Scope.of_bucket(vault, cut, bucket)
    wanted = scope.target.keys()
    exact = scope.exact(scope.target) & wanted
    structure = scope.structure()
    plain = (f.table() for f in fold(merged(scope.sources(wanted - exact)), structure, scope.lookup))
    replayed: Iterator[pa.Table] = iter(())
    if exact:
        replayed = replay(merged(scope.sources(exact)), structure, scope.lookup)
    for rows in _interleaved(plain, replayed):
        yield _as_image(rows, cut, schema)


def _interleaved(plain: Iterable[pa.Table], replayed: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Both in order. Each of `replayed` is one table of one tenant, which `plain` does not have."""
    ahead = next(replayed, None)
    for table in plain:
        rest = table
        while ahead is not None and (at := rows_before(rest, identity_of(ahead, 0))) < rest.num_rows:
            if at:
                yield rest.slice(0, at)
            yield ahead
            rest = rest.slice(at)
            ahead = next(replayed, None)
        yield rest
    if ahead is not None:
        yield ahead
        yield from replayed


def _as_image(rows: pa.Table, cut: Cut, schema: int) -> pa.Table:
    count = rows.num_rows
    made = {
        "timeline": pa.array(np.full(count, cut.timeline, np.int32)),
        "lsn": pa.array(np.full(count, cut.lsn, np.int64)),
        "seq": pa.array(np.zeros(count, np.int64)),
        "op": op_column(np.full(count, INSERT)),
        "schema": pa.array(np.full(count, schema, np.int32)),
    }
    columns = []
    for field in RUN_SCHEMA:
        if field.name in rows.column_names:
            columns.append(rows[field.name].cast(field.type))
        else:
            columns.append(made[field.name] if field.name in made else pa.nulls(count, field.type))
    return pa.Table.from_arrays(columns, schema=RUN_SCHEMA)


def _append_unless_stale(vault: Vault, merge: Merge, seen: int) -> Entry | None:
    """Add the entry; None if after the first `seen` images one came in that the merge should have been based on.

    Readers pass over merged images that are older than such an image, by their number in the ledger."""
    cut = Cut(merge.timeline, merge.last_lsn)
    while True:
        vault.refresh()
        if any(Cut(image.timeline, image.lsn) <= cut for image in vault.index.images[seen:]):
            return None
        try:
            return vault.append(merge, number=vault.index.head + 1)
        except Overtaken:
            continue


def _abandon(vault: Vault, batch: Batch, refs: Sequence[RunRef]) -> None:
    if refs:
        vault.append(Abandoned(tuple(run.object for run in refs)))
    batch.done()
