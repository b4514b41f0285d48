"""The rows of one tenant's table that bear a key: from images and changes, run by run, with only those rows kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import GapError
from ballast.vault.buckets import bucket_of
from ballast.vault.plan import Stretch, may_hold, tile
from ballast.vault.records import Merge, Relation, RunRef, Segment
from ballast.vault.rowkey import Key
from ballast.vault.run import Run, open_run
from ballast.vault.story import Event, Place, fields_of, key_numbers
from ballast.vault.tablename import Table
from ballast.vault.vault import Vault

_READERS = 8


class _Source(msgspec.Struct, frozen=True):
    """A run, and the stretch of it to be read."""

    run: RunRef
    timeline: int
    from_lsn: int
    to_lsn: int
    image: bool

    @property
    def place_from(self) -> Place:
        return (self.timeline, self.from_lsn, 0)


class RowSearch:
    """Looks for rows of `table` of one tenant (None: shared) in the history `chain`."""

    def __init__(self, vault: Vault, chain: Sequence[Stretch], table: Table, tenant: str | None) -> None:
        self._vault, self._chain, self._table, self._tenant = vault, chain, table, tenant

    def rows(
        self, key: Key, until: Place, only: tuple[int, ...] | None = None
    ) -> tuple[list[Event], dict[tuple[int, ...], set[bytes]]]:
        """Every row under the key, and by the columns of other keys those keys under which rows show its values.

        `only`: rows of the time when these columns were the key."""
        events: list[Event] = []
        others: dict[tuple[int, ...], set[bytes]] = {}
        sources = [source for source in self._sources() if source.place_from < until]
        with ThreadPoolExecutor(_READERS) as pool:
            for found, former in pool.map(lambda source: self._read(source, key, only), sources):
                events += [event for event in found if event.place < until and not _own_delete(event, until)]
                for numbers, keys in former.items():
                    others.setdefault(numbers, set()).update(keys)
        return events, others

    def _sources(self) -> Iterator[_Source]:
        index, numbers = self._vault.index, set(self._table.relations)
        bucket = bucket_of(self._tenant, index.genesis.buckets)
        for part in self._chain:
            for image in index.images:
                if image.timeline == part.timeline and image.lsn <= part.to_lsn:
                    for run in image.runs:
                        if may_hold(run, self._tenant) and numbers.intersection(run.relations):
                            yield _Source(run, part.timeline, image.lsn, image.lsn + 1, True)
            for piece, begin, end in _pieces(index.segments_of(part.timeline), index.merges, part, bucket):
                for run in piece.runs:
                    mine = run.bucket in (None, bucket) and may_hold(run, self._tenant)
                    if mine and numbers.intersection(run.relations):
                        yield _Source(run, part.timeline, begin, end, False)

    def _read(
        self, source: _Source, key: Key, only: tuple[int, ...] | None
    ) -> tuple[list[Event], dict[tuple[int, ...], set[bytes]]]:
        events: list[Event] = []
        others: dict[tuple[int, ...], set[bytes]] = {}
        what: Any = "image" if source.image else "row"
        self._vault.check_object(source.run.object)
        run = open_run(self._vault.store, source.run)
        forms = {
            version: self._vault.schema(version[1])[version[0]]
            for version in run.facts.versions
            if version[0] in self._table.relations
        }
        for rows in run.slices({self._tenant}, self._table.relations):
            within = pc.and_(pc.greater_equal(rows["lsn"], source.from_lsn), pc.less(rows["lsn"], source.to_lsn))
            for (number, schema), form in forms.items():
                mine = pc.and_(pc.equal(rows["relation"], number), pc.equal(rows["schema"], schema))
                part = rows.filter(pc.and_(within, mine))
                columns = key_numbers(form)
                if not part.num_rows or (only is not None and columns != only):
                    continue
                if (under := key.under(form)) is not None:
                    picked = part.filter(pc.equal(part["key"], pa.scalar(under, pa.large_binary())))
                else:
                    showing = [_line_shows(line, form, key) for line in _lines(part, form)]
                    picked = part.filter(pa.array(showing, pa.bool_()))
                    if only is None:
                        others.setdefault(columns, set()).update(picked["key"].to_pylist())
                        continue
                for row in picked.to_pylist():
                    events.append(Event((row["timeline"], row["lsn"], row["seq"]), what, form, schema, row))
        return events if source.image else self._with_neighbours(run, events), others

    def _with_neighbours(self, run: Run, events: Sequence[Event]) -> list[Event]:
        """Inserts and deletes with the key of the row that may be the same one under its other key."""
        lsns = {e.place[1] for e in events if e.row is not None and e.row["op"] in "ID" and e.form.key}
        if not lsns:
            return list(events)
        beside: dict[tuple[int, int, int, bool], bytes] = {}
        columns = ("lsn", "seq", "op", "key")
        for rows in run.slices({self._tenant}, self._table.relations, columns=columns):
            for row in rows.filter(pc.is_in(rows["lsn"], pa.array(lsns, pa.int64()))).to_pylist():
                beside[row["relation"], row["lsn"], row["seq"], row["op"] == "D"] = row["key"]
        return [_with_neighbour(event, beside) for event in events]


def _pieces(
    segments: Sequence[Segment], merges: Iterable[Merge], part: Stretch, bucket: int
) -> list[tuple[Segment | Merge, int, int]]:
    """What holds the changes of a stretch: merged changes where there are some, for they hold every change."""
    lasts = [s.last_lsn for s in segments]
    if not lasts:
        return []
    whole = Stretch(part.timeline, max(part.from_lsn, segments[0].first_lsn), min(part.to_lsn, lasts[-1]))
    merged = [m for m in merges if (m.timeline, m.kind) == (part.timeline, "changes") and m.holds(bucket)]
    try:
        return tile(whole, [*segments, *merged], bucket)
    except GapError:  # a hole: what there is on either side still counts
        return [(s, s.first_lsn, min(s.last_lsn, part.to_lsn)) for s in segments if s.first_lsn < part.to_lsn]


def _with_neighbour(event: Event, beside: Mapping[tuple[int, int, int, bool], bytes]) -> Event:
    if event.row is None or event.row["op"] not in "ID" or not event.form.key:
        return event
    _, lsn, seq = event.place
    deleted = event.row["op"] == "D"
    for other in (seq, seq + 1) if deleted else (seq, seq - 1):
        key = beside.get((event.form.number, lsn, other, not deleted))
        if key is not None and key != event.row["key"]:
            return msgspec.structs.replace(event, beside=key)
    return event


def _own_delete(event: Event, until: Place) -> bool:
    """Whether this is the delete that belongs to a patch at `until` that changed the row's key."""
    if event.row is None or event.row["op"] != "D" or event.place[:2] != until[:2]:
        return False
    return event.place[2] in (until[2] - 1, until[2])


def _lines(rows: pa.Table, form: Relation) -> list[bytes]:
    """Lines to look into; of deletes only those of tables without a key show the row."""
    return [
        row or (b"" if form.key else key)
        for row, key in zip(*(rows[n].to_pylist() for n in ("row", "key")), strict=True)
    ]


def _line_shows(line: bytes, form: Relation, key: Key) -> bool:
    return bool(line) and key.matches(fields_of(line, form))
