"""Grants wishes with production's help: `python -m ballast.vault.imager --config ballast.toml`, run when some are pending.

One look at production serves them all: a snapshot whose position is known, under which rows, structure and sequences are
read. What is read there can only be told to the vault once the sealer has sealed past that position, since it is the sealer
that knows which schema version holds at it. Killed anywhere, the wishes are still there, and it begins again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ballast.errors import BallastError, IntegrityError, StoreError
from ballast.postgres import read_catalog
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import catalogfile, config, standing, wish
from ballast.vault.batch import Batch
from ballast.vault.catalogfile import CatalogRead
from ballast.vault.dump import same_scripts, take_dump
from ballast.vault.durable import keep_private
from ballast.vault.failpoints import reach
from ballast.vault.health import only_one
from ballast.vault.image import read_sequences, take_image
from ballast.vault.lineage import Families
from ballast.vault.logbook import Logbook
from ballast.vault.marker import read_marker
from ballast.vault.records import Cut, Image, ObjectRef, Relation, SchemaDump
from ballast.vault.registry import key_of_table
from ballast.vault.renumbering import numberings_of, renumbered_all
from ballast.vault.tables import TableFacts, tables_of
from ballast.vault.vault import Vault
from ballast.vault.wish import Wish

LOCK_FILE = "imager.lock"
_WAIT_FOR_SEALER_S = 180.0
_LOOK_EVERY_S = 0.5


class NotYet(BallastError):
    """Something must happen first; the wish stays and is tried again."""


class Imager:
    """One round: everything that is wished for now."""

    def __init__(self, settings: config.Config, log: Logbook) -> None:
        self._settings, self._log = settings, log
        self._vault = Vault.open(settings.vault, state_dir=settings.state_dir)
        self._timeline = self._vault.index.newest_timeline

    def round(self) -> None:
        """Grant what can be granted. NotYet, StoreError, psycopg.Error: all else is as it was."""
        self._serve_catalog()
        if not any(w.kind != "catalog" for w in self._wishes()):
            return
        self._wait_until_used()
        wishes = [w for w in self._wishes() if w.kind != "catalog"]
        with snapshot_at_cut(self._settings.dsn) as (conn, lsn):
            self._refuse_half_recovered(conn)
            self._wait_for_sealer(lsn)
            wishes = [w for w in wishes if self._is_told(w, lsn)]
            images = [w for w in wishes if w.kind == "image"]
            cut = Cut(self._timeline, lsn)
            relations = self._vault.relations_at(cut)
            seen = renumbered_all(tables_of(read_catalog(conn)), numberings_of(relations.values()))
            tables = {t.oid: t for t in seen}
            unlogged = {r.oid for r in relations.values() if r.oid in tables and tables[r.oid].persistence == "u"}
            # Of these tables nothing is recorded after the image either: their gap lasts. One of the whole database is
            # closed all the same: such a table has a gap of its own.
            later = [w for w in images if w.oids is not None and unlogged.intersection(w.oids)]
            images, wishes = ([w for w in some if w not in later] for some in (images, wishes))
            if images:
                self._image(conn, cut, images, relations.values(), tables)
                self._grant(images, lsn)
                wishes = [w for w in wishes if w not in images]
            version = self._vault.index.schema_at(cut).version
            dump = self._vault.index.dump_at(cut)
            if dump is None or dump.version != version or any(w.kind == "dump" for w in wishes):
                self._dump(conn, cut, version, dump)
        self._grant(wishes, lsn)
        if later:
            names = sorted(tables[oid].qualified for oid in unlogged)
            raise NotYet(
                f"UNLOGGED, so that an image would not close their gap: {', '.join(names[:5])}.",
                "ALTER TABLE … SET LOGGED.",
            )

    def _grant(self, wishes: Sequence[Wish], lsn: int) -> None:
        for done in wishes:
            wish.granted(self._settings.state_dir, done)
            self._log.info("granted", kind=done.kind, reason=done.reason, lsn=lsn, wish=done.id)

    def _wishes(self) -> list[Wish]:
        """What may be granted now; those of a former timeline are dropped."""
        wishes = [w for w in wish.pending(self._settings.state_dir) if w.kind in wish.FOR_IMAGER and not w.held]
        for stale in [w for w in wishes if w.timeline != self._timeline]:
            wish.granted(self._settings.state_dir, stale)
            wishes.remove(stale)
        return wishes

    def _refuse_half_recovered(self, conn: psycopg.Connection[Any]) -> None:
        """NotYet while rows that the parent timeline has are still being put back into this database.

        An image would say of every tenant that is not back yet that it has no rows, and a dump would hold what keeps them from
        being written to meanwhile."""
        marker = read_marker(conn)
        begun = self._vault.index.timelines[self._timeline]
        if marker is not None and not marker.finished and marker.recovery == begun.recovery:
            raise NotYet(
                "Tenants still come back to this database: images and dumps are taken when all are there.",
                "Until the recovery has finished, a gap lasts.",
            )

    def _serve_catalog(self) -> None:
        """Read the catalog for the sealer, which goes on meanwhile, and wait for nobody."""
        asked = [w for w in self._wishes() if w.kind == "catalog"]
        if not asked:
            return
        with snapshot_at_cut(self._settings.dsn) as (conn, lsn):
            found = CatalogRead(lsn, tuple(tables_of(read_catalog(conn))), self._timeline)
        catalogfile.leave(self._settings.state_dir, found)
        for done in asked:
            wish.granted(self._settings.state_dir, done)
        self._log.info("catalog_read", lsn=lsn, tables=len(found.tables))

    def _wait_until_used(self) -> None:
        """An image is of use only after the sealer knows the tables as the catalog has them."""
        deadline = time.monotonic() + _WAIT_FOR_SEALER_S
        while catalogfile.is_there(self._settings.state_dir):
            if time.monotonic() > deadline:
                raise NotYet("The sealer has not used what was read in the catalog.", "It is tried again.")
            time.sleep(_LOOK_EVERY_S)
            self._serve_catalog()

    def _is_told(self, asked: Wish, lsn: int) -> bool:
        """Whether its gap is in the ledger already (the sealer writes it), and the snapshot comes after it."""
        if asked.from_lsn is None:
            return True
        return asked.id in self._vault.index.gaps and max(asked.from_lsn, asked.to_lsn or 0) <= lsn

    def _wait_for_sealer(self, lsn: int) -> None:
        deadline = time.monotonic() + _WAIT_FOR_SEALER_S
        while True:
            self._vault.refresh()
            segments = self._vault.index.segments_of(self._timeline)
            if segments and segments[-1].last_lsn >= lsn:
                return
            if time.monotonic() > deadline:
                raise NotYet("The sealer has not come so far yet.", "It is tried again.")
            time.sleep(_LOOK_EVERY_S)

    def _image(
        self,
        conn: psycopg.Connection[Any],
        cut: Cut,
        wishes: Sequence[Wish],
        known: Any,
        tables: dict[int, TableFacts],
    ) -> None:
        oids = None if any(w.oids is None for w in wishes) else {oid for w in wishes for oid in w.oids or ()}
        relations = [r for r in known if oids is None or r.oid in oids]
        if oids is not None:
            relations = _with_children(relations, known)
        self._agree(relations, tables, whole=oids is None, wanted=oids or set())
        relations = [r for r in relations if r.oid in tables]
        state, schema = self._settings.state_dir, self._vault.index.schema_at(cut).version
        scratch = state / "scratch" / "image"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        with Batch(self._vault.store, state, "image", cut.timeline, cut.lsn, cut.lsn) as batch:
            taken = take_image(
                conn, relations, timeline=cut.timeline, lsn=cut.lsn, schema=schema,
                buckets=self._vault.index.genesis.buckets, batch=batch, scratch=scratch, known=known,
            )  # fmt: skip
            reach("imager.taken")
            numbers = None if oids is None else tuple(sorted(r.number for r in relations))
            reason = "; ".join(dict.fromkeys(w.reason for w in wishes))
            self._vault.append(Image(cut.timeline, cut.lsn, schema, numbers, taken.runs, read_sequences(conn), reason))
            batch.done()
        reach("imager.ledger")
        shutil.rmtree(scratch, ignore_errors=True)
        for asked in wishes:
            gap = self._vault.index.gaps.get(asked.id)
            if gap is not None and gap.to_lsn is None:
                self._vault.append(msgspec.structs.replace(gap, to_lsn=cut.lsn))
                self._log.info("gap_closed", gap_id=gap.gap_id, from_lsn=gap.from_lsn, to_lsn=cut.lsn)
        self._log.info("imaged", lsn=cut.lsn, rows=taken.rows, tables=len(relations), reason=reason)

    def _agree(
        self, relations: Sequence[Relation], tables: dict[int, TableFacts], *, whole: bool, wanted: set[int]
    ) -> None:
        """The vault must know the tables as the snapshot shows them; else the catalog is to be read first."""
        known = {r.oid for r in relations}
        new = [t for t in tables.values() if t.holds_rows and t.persistence == "p" and t.oid not in known]
        differing = [r.qualified for r in relations if r.oid in tables and not _agrees(r, tables[r.oid])]
        missing = [t.qualified for t in new if whole or t.oid in wanted]
        if differing or missing:
            wish.leave(
                self._settings.state_dir, "catalog", self._timeline, "an image found tables otherwise", id="catalog"
            )
            raise NotYet(
                f"Production has tables otherwise than the vault knows them: {', '.join((differing + missing)[:5])}.",
                "The catalog is read first.",
            )

    def _dump(self, conn: psycopg.Connection[Any], cut: Cut, version: int, last: SchemaDump | None) -> None:
        """Keep what the structure is. A script that says the same as that of the last dump is not stored again."""
        stood = standing.standing(conn)  # before roles are dumped, which belong to no snapshot
        (snapshot,) = conn.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        server = conn.info.server_version
        taken = take_dump(self._settings.dsn, snapshot, server // 10000, publication=self._settings.publication)
        state = self._settings.state_dir
        kept = (None, None, None) if last is None else (last.pre_data, last.post_data, last.roles)
        with Batch(self._vault.store, state, "dump", cut.timeline, cut.lsn, cut.lsn) as batch:
            pre, post, roles = (
                ref if ref is not None and self._says(ref, script) else batch.put("dump", "sql", script)
                for ref, script in zip(kept, (taken.pre_data, taken.post_data, taken.roles), strict=True)
            )
            now = SchemaDump(cut.timeline, cut.lsn, version, pre, post, roles, server)
            is_new = last is None or msgspec.structs.replace(now, timeline=last.timeline, lsn=last.lsn) != last
            if is_new:
                self._vault.append(now)
            batch.done()
        standing.note(state, self._timeline, stood)
        self._log.info("dumped", lsn=cut.lsn, version=version, is_new=is_new)

    def _says(self, kept: ObjectRef, script: bytes) -> bool:
        """Whether it says the same. One that is damaged or not there any more says nothing: another takes its place."""
        try:
            return same_scripts([self._vault.read_object(kept)], [script])
        except (StoreError, IntegrityError):
            return False


def _with_children(relations: Sequence[Relation], known: Any) -> list[Relation]:
    """With those whose rows belong to whom these belong to: their tenants may have changed with them."""
    families = Families(known)
    numbers = {r.number for r in relations}
    for relation in relations:
        if relation.oid in families.parents:
            numbers.update(families.children_of(relation.oid))
    return [r for r in known if r.number in numbers]


def _agrees(relation: Relation, table: TableFacts) -> bool:
    stored = {c.attnum: c.name for c in table.columns if not c.generated}
    names = {c.attnum: c.name for c in relation.columns}
    return (
        (relation.schema, relation.name) == (table.schema, table.name)
        and {attnum: names[attnum] for attnum in relation.row_columns} == stored
        and relation.key == key_of_table(table)
    )


def main() -> None:
    """`python -m ballast.vault.imager`: exit code 0 when nothing is left to do, 1 when it must be tried again."""
    keep_private()
    parser = argparse.ArgumentParser(prog="python -m ballast.vault.imager")
    parser.add_argument("--config", type=Path, required=True)
    settings = config.load(parser.parse_args().config)
    log = Logbook("imager")
    try:
        with only_one(settings.state_dir, LOCK_FILE):
            Imager(settings, log).round()
    except (NotYet, StoreError) as error:
        log.warning("not_yet", reason=error)
        sys.exit(1)
    except (BallastError, psycopg.Error, OSError) as error:
        log.error("image_failed", reason=error if isinstance(error, BallastError) else str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
