"""Every version of a row that the vault holds: from images and changes, never from merged images, which hide versions.

The table's name leads to relations: the table that bears it now, and those that bore it to their end. In each of them the row
is found by its key. Where the key's columns were chosen anew in the meantime, the rows of the time before are those
whose values ended where the later history begins. A patch that changed key or tenant leads to the row under its
former key, and its versions come first.

Reading is by slices of one tenant, run by run; only rows of the wanted key are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ballast.errors import ConfigError
from ballast.postgres.lsn import format_lsn
from ballast.vault.plan import Stretch
from ballast.vault.records import Cut, Gap, Segment
from ballast.vault.rowkey import Key, key_in
from ballast.vault.rowsearch import RowSearch
from ballast.vault.story import Event, Place, Row, RowVersion, Story
from ballast.vault.tablename import Phase, Table, tables_named
from ballast.vault.vault import Vault

_FOLLOWED = 50
"""Changes of key followed back, one behind the other."""
_END: Place = (1 << 31, 0, 0)


class Inexact(msgspec.Struct, frozen=True):
    """A stretch in which versions of the row may be missing or wrong."""

    from_position: str
    to_position: str | None
    """None: it lasts."""
    reason: str


class History(msgspec.Struct, frozen=True):
    """All versions of a row, the oldest first."""

    table: str
    tenant: str | None
    key: dict[str, str | None]
    versions: tuple[RowVersion, ...]
    left_out: int
    """Older versions that the limit left out."""
    inexact: tuple[Inexact, ...]
    until: str
    """The position up to which the vault holds the history."""


def history(
    vault: Vault, table: str, key: Sequence[str], *, tenant: str | None, timeline: int | None = None, limit: int = 0
) -> History:
    """What became of one row of `tenant` (None: shared), on `timeline` (None: the newest) and those it comes from.

    `table`: `name` or `schema.name`; `key`: see `rowkey`. `limit`: only so many of the newest versions, 0: all.
    ConfigError for a table, key or tenant that is not there, or a table without a key."""
    index = vault.index
    number = index.newest_timeline if timeline is None else timeline
    until = Cut(number, index.recorded_until(number))
    chain = index.chain(until)
    tables = tables_named(vault, chain, table)
    present = tables[-1]
    wanted = key_in(present.last, key, tenant)
    told: dict[Any, RowVersion] = {}
    for life in tables:
        own = wanted if life is present else _same_spelling(life, key, tenant)
        if own is not None:
            # A row that left the key and came back leads to versions that were told already.
            told |= {_identity(v): v for v in _Teller(vault, chain, life, tenant).tell(own, _END)[0]}
    if not told:
        raise _unknown(present, wanted, tenant)
    versions = sorted(told.values(), key=lambda v: (v.timeline, v.lsn, v.seq))
    kept = versions[-limit:] if limit else versions
    numbers = {relation for life in tables for relation in life.relations}
    return History(
        present.name,
        tenant,
        wanted.texts(present.last),
        tuple(_with_transactions(vault, kept)),
        len(told) - len(kept),
        tuple(_inexact(chain, index.gaps.values(), numbers)),
        f"{until.timeline}/{format_lsn(until.lsn)}",
    )


class _Teller:
    """Tells of rows of one table of one tenant."""

    def __init__(self, vault: Vault, chain: Sequence[Stretch], table: Table, tenant: str | None) -> None:
        self._vault, self._chain, self._table, self._tenant = vault, chain, table, tenant
        self._search = RowSearch(vault, chain, table, tenant)
        self._followed = 0

    def tell(self, key: Key, until: Place) -> tuple[list[RowVersion], Row | None]:
        """The versions of the row before `until`, and the row as it then was."""
        rows, others = self._search.rows(key, until)
        marks = [event for event in self._table.marks(self._vault, self._chain) if event.place < until]
        versions: list[RowVersion] = []
        row: Row | None = None
        for phase in self._table.phases:
            if set(phase.numbers) == set(key.numbers):
                story = Story(self._tenant, self._before, row)
                story.tell(event for event in [*rows, *marks] if event.schema in phase.versions)
                told, row = story.versions, story.row
            else:
                told, row = self._under_another_key(key, phase, others.get(phase.numbers, set()), row, marks, until)
            versions += told
        return versions, row

    def _before(self, patch: Mapping[str, Any]) -> tuple[list[RowVersion], Row | None]:
        """The row from which a patch with another key or tenant comes, in its last life."""
        self._followed += 1
        if self._followed > _FOLLOWED:
            return [], None
        form = self._vault.schema(patch["schema"])[patch["relation"]]
        place = (patch["timeline"], patch["lsn"], patch["seq"])
        teller = _Teller(self._vault, self._chain, self._table, patch["before_tenant"])
        teller._followed = self._followed
        versions, row = teller.tell(Key.of(patch["before_key"], form), place)
        last_end = max((i for i, version in enumerate(versions) if version.values is None), default=-1)
        return versions[last_end + 1 :], row

    def _under_another_key(
        self, key: Key, phase: Phase, keys: set[bytes], row: Row | None, marks: Sequence[Event], until: Place
    ) -> tuple[list[RowVersion], Row | None]:
        """What became, under a key of other columns, of `row`, and of rows that ended with the wanted values.

        Also the row that has them when the phase ends."""
        found: list[RowVersion] = []
        here: Row | None = None
        kept = _key_of(row, phase) if row is not None else None
        for former in sorted(keys | {kept} if kept is not None else keys) if phase.numbers else [b""]:
            # Without a key all lines that show the wanted values are the row.
            former_key = Key(phase.numbers, former) if phase.numbers else key
            begun = row if former == kept or not phase.numbers else None
            story = Story(self._tenant, self._before, begun)
            events = [*self._search.rows(former_key, until, only=phase.numbers)[0], *marks]
            story.tell(event for event in events if event.schema in phase.versions)
            begin = 0
            for end, last in [*story.ends, (len(story.versions), story.row)]:
                shows = last is not None and key.matches(last.fields)
                if shows or (begin == 0 and begun is not None):
                    found += story.versions[begin:end]
                here = last if shows and last is story.row else here
                begin = end
        return sorted(found, key=lambda v: (v.timeline, v.lsn, v.seq)), here


def _key_of(row: Row, phase: Phase) -> bytes | None:
    """The key of a row in a phase; None where it lacks a column."""
    fields = [row.fields.get(number) for number in phase.numbers]
    return None if None in fields else b"\t".join(field for field in fields if field is not None)


def _identity(version: RowVersion) -> Any:
    key = tuple(version.key.items())
    return version.timeline, version.lsn, version.seq, version.what, version.relation, version.tenant, key


def _same_spelling(table: Table, key: Sequence[str], tenant: str | None) -> Key | None:
    """The key in a former table of that name; None where it cannot be meant."""
    try:
        return key_in(table.last, key, tenant)
    except ConfigError:
        return None


def _inexact(chain: Sequence[Stretch], gaps: Iterable[Gap], numbers: set[int]) -> Iterator[Inexact]:
    ends = {part.timeline: part.to_lsn for part in chain}
    for gap in sorted(gaps, key=lambda gap: (gap.timeline, gap.from_lsn)):
        concerned = gap.relations is None or numbers.intersection(gap.relations)
        if concerned and gap.from_lsn < ends.get(gap.timeline, 0):
            to = None if gap.to_lsn is None else f"{gap.timeline}/{format_lsn(gap.to_lsn)}"
            yield Inexact(f"{gap.timeline}/{format_lsn(gap.from_lsn)}", to, gap.reason)


def _with_transactions(vault: Vault, versions: Iterable[RowVersion]) -> Iterator[RowVersion]:
    """The versions with what is known of their transactions; each segment's table is read once, and not kept."""
    held: tuple[Segment, dict[int, dict[str, Any]]] | None = None
    listed = list(versions)
    for version in listed:
        segment = _segment_of(vault, version)
        if segment is None or segment.transactions is None:
            yield version
            continue
        if held is None or held[0] is not segment:
            held = (segment, _transactions(vault, segment, {v.lsn for v in listed}))
        known = held[1].get(version.lsn, {})
        yield msgspec.structs.replace(
            version,
            xid=known.get("xid"),
            actor=known.get("actor"),
            tag=known.get("tag"),
            committed_at=known.get("committed_at", version.committed_at),
        )


def _segment_of(vault: Vault, version: RowVersion) -> Segment | None:
    if version.what in ("image", "absent"):
        return None
    segments = vault.index.segments_of(version.timeline)
    at = int(np.searchsorted([s.first_lsn for s in segments], version.lsn, side="right")) - 1
    return segments[at] if at >= 0 and version.lsn < segments[at].last_lsn else None


def _transactions(vault: Vault, segment: Segment, lsns: set[int]) -> dict[int, dict[str, Any]]:
    assert segment.transactions is not None
    table = pq.read_table(pa.BufferReader(vault.read_object(segment.transactions)))
    picked = table.filter(pc.is_in(table["lsn"], pa.array(sorted(lsns), pa.int64())))
    return {row["lsn"]: row for row in picked.to_pylist()}


def _unknown(table: Table, key: Key, tenant: str | None) -> ConfigError:
    shown = ", ".join(f"{name} = {value}" for name, value in key.texts(table.last).items())
    whose = "among the shared rows" if tenant is None else f"of tenant {tenant!r}"
    return ConfigError(
        f"The vault knows no row of {table.name} with {shown} {whose}.",
        "Values are spelled as psql shows them (times in UTC)."
        + (" Is the row a tenant's? Name it with --tenant." if tenant is None else " Is it another tenant's?"),
    )
