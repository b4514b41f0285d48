"""Closed spool files become a segment: decoded, sorted, put into the store, told to the ledger, dropped.

Everything is decided by what the ledger holds: a process that was killed anywhere begins the same files again, and finds what
it had done by then. Relations get their numbers here and nowhere else, so schema versions are written here too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ballast.errors import BallastError
from ballast.postgres.tuples import split_messages
from ballast.vault import catalogfile, setaside, transactions, wish
from ballast.vault.batch import Batch
from ballast.vault.catalogfile import CatalogRead
from ballast.vault.config import Config
from ballast.vault.durable import replace_file
from ballast.vault.failpoints import reach
from ballast.vault.health import now_iso
from ballast.vault.lineage import Families, Lineage
from ballast.vault.logbook import Logbook
from ballast.vault.origin import recorded_until
from ballast.vault.records import Cut, Gap, Relation, RunRef, SchemaVersion, Segment
from ballast.vault.registry import Registry
from ballast.vault.relearn import relearn
from ballast.vault.run import sort_rows, write_run
from ballast.vault.segment import Doubt, Reader, Structure
from ballast.vault.spoolfiles import header, iter_chunks, last_cut, remove, whole_cut
from ballast.vault.token import read_tokens
from ballast.vault.vault import Vault

CHUNK_BYTES = 4 << 20
_APART_FILES = 2
"""Where no more than these wait, a large transaction has a segment of its own; where many do, they come one after the other, and
each of them would be a segment."""
IDLE_BYTES = 64 << 10
OWN_FILE = "own.json"
LINEAGE_FILE = "lineage.db"
_ROW_KINDS = np.isin(np.arange(256), list(b"IUD"))
_OTHER_KINDS = np.isin(np.arange(256), list(b"TM"))


class Stretch(NamedTuple):
    """Closed spool files that become one segment: they follow each other without a hole."""

    files: tuple[Path, ...]
    first_lsn: int
    gap_from: int | None
    """Where the record ends before them, if that is not where they begin."""
    bytes: int
    is_wanted: bool = False
    """A large transaction comes after them, and waits until they are sealed."""
    is_large: bool = False
    """They begin with a large transaction."""


class Sealing:
    """The place in the history up to which the vault is written, and how it goes on from there."""

    def __init__(self, vault: Vault, settings: Config, log: Logbook) -> None:
        self.vault, self._settings, self._log = vault, settings, log
        self._state = settings.state_dir
        self._scratch = self._state / "scratch"
        self._scratch.mkdir(parents=True, exist_ok=True)
        for left in self._scratch.glob("seal-*"):
            left.unlink()
        index = vault.index
        self.timeline = index.newest_timeline
        self.sealed_lsn = recorded_until(index, self.timeline)
        self._own = _read_own(self._state)
        self.lineage = Lineage(self._state / LINEAGE_FILE)
        version = index.schema_at(Cut(self.timeline, self.sealed_lsn))
        relations = vault.schema(version.version)
        self._version = version.version
        self.registry = Registry(settings.tenants, relations.values(), highest=self._highest_number(version.version))
        self._catalog_from = self.sealed_lsn
        """A catalog of an earlier cut is of no use: the stream has said more since, or not enough (or nobody knows)."""
        self.catalog_wanted = False
        """The stream did not say enough: the imager is asked what production's catalog says."""
        self._catalog: CatalogRead | None = None
        self._inbox = catalogfile.Inbox(self._state)
        self._foreign: set[str] = set()
        self.segments = self.rows = 0
        if Families(relations.values()) and self.lineage.cut != Cut(self.timeline, self.sealed_lsn):
            self._log.info("lineage_made_anew", lsn=self.sealed_lsn)
            relearn(vault, Cut(self.timeline, self.sealed_lsn), relations.values(), self.lineage)

    def _highest_number(self, upto: int) -> int:
        """The highest relation number ever given up to this version: a crash may have left versions that come again."""
        versions = [s for s in self.vault.index.schemas.values() if s.version <= upto]
        return max((n for s in versions for n in self.vault.schema(s.version)), default=0)

    # What there is to do

    def next_stretch(self, files: Iterable[Path]) -> Stretch | None:
        """The oldest files that are not in the vault yet, as many as make a segment. Drops those that are."""
        chosen: list[Path] = []
        first, gap_from, at, size, is_wanted, is_large = 0, None, self.sealed_lsn, 0, False, False
        files = list(files)
        for number, path in enumerate(files):
            if setaside.timeline_of(path) != self.timeline:
                if path.name not in self._foreign:
                    self._foreign.add(path.name)
                    self._log.warning("spool_of_another_timeline", file=path.name, recorded=self.timeline)
                continue
            try:
                told = header(path)
                if chosen and told.apart and len(files) - number <= _APART_FILES:
                    is_wanted = True
                    break  # nobody who wants what comes before it waits for it
                end = whole_cut(path)
                problem = (
                    "it begins before the end of what is sealed"
                    if told.start_lsn < at and end > self.sealed_lsn
                    else ""
                )
            except BallastError as error:
                if not setaside.is_damage(path, error):
                    raise
                problem = error.what
            if problem and chosen:
                break  # what comes before it is sealed first
            if problem:
                self._set_aside(path, problem)
                continue
            if end <= self.sealed_lsn:
                remove(path)
                continue
            hole = told.gap_from is not None or told.start_lsn > at
            if chosen and (hole or size >= self._settings.record.seal_bytes):
                break
            if not chosen:
                first, gap_from, is_large = told.start_lsn, (at if hole else None), told.apart
            chosen.append(path)
            at, size = end, size + path.stat().st_size
        return Stretch(tuple(chosen), first, gap_from, size, is_wanted, is_large) if chosen else None

    def _set_aside(self, path: Path, problem: str) -> None:
        """A file that cannot be read must not keep those after it from the vault: its commits become a gap, which a new
        image closes."""
        to_lsn = setaside.next_start(path)
        lost = to_lsn is None or to_lsn > self.sealed_lsn
        if lost:  # otherwise the vault has what was in it
            # Its name is that of the hole before the next file, so that it is one gap only.
            name = f"hole-{self.timeline}-{self.sealed_lsn:X}-{to_lsn or 0:X}"
            reason = "a file of the recorder's spool was damaged before it was sealed"
            wish.leave(self._state, "image", self.timeline, reason, from_lsn=self.sealed_lsn, to_lsn=to_lsn, id=name)
            self.announce()
            self._catalog_from = max(self._catalog_from, to_lsn or self.sealed_lsn)
            self._wish_catalog()
        kept = setaside.move(path, self._state)
        self._log.alarm(
            "spool_file_damaged", file=str(kept), reason=problem, from_lsn=self.sealed_lsn if lost else None, to_lsn=to_lsn,
            message="commits in it are not in the vault: a gap is written down, and a new image is taken" if lost else "",
            do="see whether the recorder's disk is sound; keep the file: parts of it may still be read",
        )  # fmt: skip

    def is_idle(self, stretch: Stretch) -> bool:
        """Whether nothing but our own canary is in it; sealing it soon would only make the ledger long."""
        if (
            stretch.bytes > IDLE_BYTES + len(stretch.files) * (2 << 20)
            or stretch.gap_from is not None
            or stretch.is_wanted
        ):
            return False
        return all(self._only_ours(path) for path in stretch.files)

    def _only_ours(self, path: Path) -> bool:
        for chunk in iter_chunks(path, CHUNK_BYTES):
            if len(chunk.payload) > IDLE_BYTES:
                return False
            starts, _, kinds = split_messages(chunk.payload)
            if _OTHER_KINDS[kinds].any():
                return False
            for at in starts[_ROW_KINDS[kinds]].tolist():
                if int.from_bytes(chunk.payload[at + 1 : at + 5]) not in self._own:
                    return False
        return True

    # Doing it

    def seal(self, stretch: Stretch) -> Segment:
        """Put the stretch into the vault and drop its files. StoreError: nothing has changed, try again."""
        if stretch.gap_from is not None:
            self._tell_hole(stretch.gap_from, stretch.first_lsn)
        last = last_cut(stretch.files[-1])
        registry, lineage = self.registry.copy(), self.lineage
        lineage.forget_fresh()
        with Batch(self.vault.store, self._state, "segment", self.timeline, stretch.first_lsn, last) as batch:
            work = _Work(self, batch, registry, stretch.first_lsn)
            if self._catalog is not None and self._catalog.lsn <= stretch.first_lsn:
                work.read_catalog(self._catalog)
            reader = self._read(stretch, work, registry)
            body = work.segment(reader, last)
            self._leave_wishes(work, reader)
            if Families(registry.relations):
                lineage.commit(Cut(self.timeline, last))
            _write_own(self._state, self._own)
            reach("sealer.run_put")
            for version in work.versions:
                if version.version not in self.vault.index.schemas:
                    self.vault.append(version)
            self.vault.append(body)
            batch.done()
        reach("sealer.ledger")
        self._advance(work, reader, registry, body)
        for path in stretch.files:
            remove(path)
        reach("sealer.spool_dropped")
        return body

    def _read(self, stretch: Stretch, work: _Work, registry: Registry) -> Reader:
        reader = Reader(
            registry, work.version, self.lineage, timeline=self.timeline, own=self._own,
            on_rows=work.on_rows, on_structure=work.on_structure, tokens=read_tokens(self._state),
        )  # fmt: skip
        for path in stretch.files:
            for chunk in iter_chunks(path, CHUNK_BYTES):
                reader.feed(chunk.payload)
        work.transactions = reader.finish()
        self._tell_strange(reader)
        reach("sealer.decoded")
        return reader

    def _tell_strange(self, reader: Reader) -> None:
        if reader.forged:
            self._log.alarm(
                "forged_message", first_lsn=reader.forged[0], count=len(reader.forged),
                message="somebody wrote into the stream in Ballast's name, without our token or outside of a transaction; "
                "it was not believed",
                do="if nobody did, the token in ballast.setting was changed: run `ballast protect` again",
            )  # fmt: skip
        if reader.unreadable:
            self._log.alarm("unreadable_message", reason=reader.unreadable, do="run `ballast protect` again")

    def _advance(self, work: _Work, reader: Reader, registry: Registry, body: Segment) -> None:
        self.registry, self._version = registry, work.version
        self.sealed_lsn = body.last_lsn
        self.segments += 1
        self.rows += body.changes
        if work.read_at is not None:
            self._drop_catalog()
        if work.structure_lsn:
            self._catalog_from = work.structure_lsn + 1
        if reader.incomplete:
            self._catalog_from, self.catalog_wanted = body.last_lsn, True
        if self._catalog is not None and self._catalog.lsn < self._catalog_from:
            self._drop_catalog()
            self.catalog_wanted = True

    def see_to_catalog(self) -> None:
        """Ask for the catalog where the stream did not say enough, and take what was read."""
        found = self._inbox.look()
        if found is not None:
            self.take_catalog(found)
        if self.catalog_wanted:
            self._wish_catalog()
            self.catalog_wanted = False

    def take_catalog(self, found: CatalogRead) -> None:
        """What was asked for; it counts from the first segment that begins after it."""
        if found.timeline not in (0, self.timeline) or found.lsn < self._catalog_from:
            self._inbox.done()
            self.catalog_wanted = True
            return
        self._catalog, self.catalog_wanted = found, False
        self._log.info("catalog_taken", lsn=found.lsn, tables=len(found.tables))

    def _wish_catalog(self) -> None:
        reason = "the stream did not say enough of the structure"
        wish.leave(self._state, "catalog", self.timeline, reason, id=catalogfile.WISH_ID)

    def _drop_catalog(self) -> None:
        self._catalog = None
        self._inbox.done()

    # Gaps and wishes

    def announce(self) -> None:
        """Write the gaps of wishes that are new into the ledger."""
        for asked in wish.pending(self._state):
            if asked.from_lsn is None or asked.id in self.vault.index.gaps or asked.timeline != self.timeline:
                continue
            gap = Gap(
                asked.id, asked.timeline, asked.from_lsn, None, self._numbers(asked.oids), asked.reason, asked.wished_at
            )
            self.vault.append(gap)
            self._log.alarm("coverage_gap", gap_id=gap.gap_id, from_lsn=gap.from_lsn, reason=gap.reason)

    def _numbers(self, oids: Iterable[int] | None) -> tuple[int, ...] | None:
        if oids is None:
            return None
        found = (self.registry.by_oid(oid) for oid in oids)
        return tuple(relation.number for relation in found if relation is not None)

    def _tell_hole(self, from_lsn: int, to_lsn: int) -> None:
        """Between what is sealed and the first file there is nothing: a gap that only a new image closes."""
        for gap in self.vault.index.gaps.values():
            told = gap.timeline == self.timeline and gap.relations is None and gap.from_lsn <= from_lsn
            if told and (gap.to_lsn is None or gap.to_lsn >= to_lsn):
                return
        wish.leave(
            self._state, "image", self.timeline, "the server had not kept what was not recorded yet",
            from_lsn=from_lsn, to_lsn=to_lsn, id=f"hole-{self.timeline}-{from_lsn:X}-{to_lsn:X}",
        )  # fmt: skip
        self.announce()

    def _leave_wishes(self, work: _Work, reader: Reader) -> None:
        """Before the segment is in the ledger: a crash in between only asks again, under the same name."""
        for doubt in [*work.doubts, *reader.doubts]:
            name = hashlib.sha256(repr((self.timeline, doubt)).encode()).hexdigest()[:16]
            oids = [r.oid for r in (*self.registry.relations, *work.registry.relations) if r.number in doubt.relations]
            wish.leave(self._state, "image", self.timeline, doubt.reason, oids=set(oids), from_lsn=doubt.lsn, id=name)
            if name not in self.vault.index.gaps:
                self.vault.append(
                    Gap(name, self.timeline, doubt.lsn, None, tuple(sorted(doubt.relations)), doubt.reason, now_iso())
                )
                self._log.alarm("coverage_gap", gap_id=name, from_lsn=doubt.lsn, reason=doubt.reason)
        if reader.incomplete:
            self._wish_catalog()
        if work.versions:
            wish.leave(self._state, "dump", self.timeline, work.versions[-1].reason, id=f"dump-{work.version}")
        for table in work.undeclared:
            self._log.alarm(
                "undeclared_table", table=table, message="nobody has said whose rows it holds: they are kept as shared",
                do="name its tenant in ballast.toml and run `ballast protect` again",
            )  # fmt: skip


class _Work:
    """What one stretch adds to the vault."""

    def __init__(self, sealing: Sealing, batch: Batch, registry: Registry, first_lsn: int) -> None:
        self._sealing, self._batch, self.registry = sealing, batch, registry
        self._first_lsn = first_lsn
        self._runs: list[RunRef] = []
        self.version = sealing._version
        self.versions: list[SchemaVersion] = []
        self.structure_lsn = 0
        self.read_at: int | None = None
        self.doubts: list[Doubt] = []
        self.undeclared: list[str] = []
        self.transactions: pa.Table | None = None

    def on_rows(self, rows: pa.Table) -> None:
        """A table of changes becomes a run."""
        path = self._sealing._scratch / f"seal-{len(self._runs)}.parquet"
        facts = write_run(path, sort_rows(rows))
        self._runs.append(facts.ref(self._batch.put("run", "parquet", path), None))
        path.unlink()

    def on_structure(self, structure: Structure) -> int:
        """The number of the version that begins there; the one that a killed process gave it, if there is."""
        data = self.registry.encode()
        digest = hashlib.sha256(data).hexdigest()
        index, timeline = self._sealing.vault.index, self._sealing.timeline
        self.structure_lsn = structure.lsn
        self.undeclared += structure.change.undeclared
        for known in index.schemas.values():
            here = (known.timeline, known.lsn, known.seq) == (timeline, structure.lsn, structure.seq)
            if here and known.relations.sha256 == digest:
                self.version = known.version
                self.versions.append(known)
                return known.version
        highest = max([*index.schemas, *(v.version for v in self.versions)], default=0)
        now = next((v for v in self.versions if v.version == self.version), index.schemas.get(self.version))
        ref = (
            now.relations
            if now is not None and now.relations.sha256 == digest
            else self._batch.put("relations", "json", data)
        )
        change = structure.change
        version = SchemaVersion(highest + 1, timeline, structure.lsn, structure.seq, ref, change.reason, change.command)
        self.versions.append(version)
        self.version = version.version
        return version.version

    def read_catalog(self, catalog: CatalogRead) -> None:
        """Between two commits: what the catalog says holds from here on."""
        change = self.registry.read(catalog.tables, "the catalog was read")
        self.read_at = catalog.lsn
        if change.changes_relations:
            self.on_structure(Structure(self._first_lsn, 0, change))
            self.structure_lsn = 0
        if change.rewritten:
            self.doubts.append(Doubt(self._first_lsn, change.rewritten, "found in the catalog, not in the stream"))

    def segment(self, reader: Reader, last: int) -> Segment:
        """The entry."""
        table, ref, first_at, last_at = self.transactions, None, None, None
        if table is not None and table.num_rows:
            ref = self._batch.put("transactions", "parquet", transactions.encode(table))
            first_at = table["committed_at"][0].as_py().isoformat(timespec="microseconds")
            last_at = pc.max(table["committed_at"]).as_py().isoformat(timespec="microseconds")
        return Segment(
            self._sealing.timeline, self._first_lsn, last, first_at, last_at, tuple(self._runs), ref,
            tuple(reader.truncations), tuple(reader.sequences.values()), reader.changes,
        )  # fmt: skip


def _read_own(state_dir: Path) -> set[int]:
    try:
        return msgspec.json.decode((state_dir / OWN_FILE).read_bytes(), type=set[int])
    except FileNotFoundError:
        return set()


def _write_own(state_dir: Path, own: set[int]) -> None:
    if own != _read_own(state_dir):
        replace_file(state_dir / OWN_FILE, msgspec.json.encode(sorted(own)))


def relations_by_oid(relations: Iterable[Relation]) -> dict[int, Relation]:
    """As the stream and the catalog name them."""
    return {relation.oid: relation for relation in relations}
