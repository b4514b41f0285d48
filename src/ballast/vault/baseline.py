"""The vault's picture of a database at one cut, from which its recording goes on: structure, dump, mapping and image.

All of it is read under the snapshot that comes with the new slot, so it holds exactly the commits that the slot will
not send. Objects are put first; the ledger entries that name them are decided on at the end and come back as a list.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import psycopg
from psycopg import sql

from ballast.postgres import connect, read_catalog
from ballast.postgres.replication import Identity, Slot
from ballast.vault.batch import Batch
from ballast.vault.carryover import Carried
from ballast.vault.config import Config
from ballast.vault.dump import take_dump
from ballast.vault.failpoints import reach
from ballast.vault.fingerprint import Fingerprint, take_fingerprint
from ballast.vault.health import now_iso
from ballast.vault.image import Taken, read_sequences, take_image
from ballast.vault.inheritance import going_on_from, imaged_anew, missed, wish_for_later
from ballast.vault.records import (
    Body,
    Gap,
    Image,
    Mapping,
    Relation,
    SchemaDump,
    SchemaVersion,
    Timeline,
)
from ballast.vault.registry import Registry
from ballast.vault.renumbering import numberings_of, renumbered_all
from ballast.vault.situation import Situation
from ballast.vault.standing import Standing, standing
from ballast.vault.tables import TableFacts, tables_of
from ballast.vault.tenancy import TenantMap, resolve_rules
from ballast.vault.vault import Vault
from ballast.vault.wish import Wish


class Watcher(Protocol):
    """Is told how far it has come."""

    def say(self, line: str) -> None: ...
    def begin(self, stage: str, rows: int) -> None: ...
    def advance(self, rows: int) -> None: ...


class Place(msgspec.Struct, frozen=True):
    """Where in the vault's history the baseline stands."""

    situation: Situation
    identity: Identity
    slot: Slot
    server_version: int
    wishes: tuple[Wish, ...]
    """Pending ones of the timeline that goes on: the baseline grants them."""

    @property
    def timeline(self) -> int:
        """The timeline that is recorded from here on."""
        return self.situation.timeline + (self.situation.kind != "rebase")

    @property
    def lsn(self) -> int:
        """The cut."""
        return self.slot.consistent_point


class Baseline(msgspec.Struct, frozen=True):
    """What was put, and is to be told."""

    bodies: tuple[Body, ...]
    """Entries for the ledger, in this order."""
    image: Taken
    fingerprint: Fingerprint
    dumped: Standing | None
    """What was dumped; None: nothing."""


def take(
    dsn: str, settings: Config, vault: Vault, place: Place, batch: Batch, watch: Watcher, expected_rows: int
) -> Baseline:
    """Put the objects and decide on the entries."""
    why, descent = place.situation.kind, place.situation.descent
    reason = {"begin": "protect", "fork": "another server is protected"}.get(why, "protect: recording begins anew")
    if descent is not None:
        reason = f"a {descent.how} server is protected"
    assert place.slot.snapshot_name is not None
    with _inside(dsn, place.slot.snapshot_name) as conn:
        tables = tables_of(read_catalog(conn))
        mapping = resolve_rules(tables, settings.tenants)
        going_on = going_on_from(vault, place, tables, settings.tenants)
        registry = known_relations(vault, settings, place, tables, going_on)
        registry.read(tables, reason)
        imaged: dict[int, str] | None = None
        if going_on is not None:
            imaged = imaged_anew(conn, vault, descent, registry.relations, going_on, watch, expected_rows)
            wish_for_later(settings, vault, place, registry.relations)
        version = max(vault.index.schemas, default=0) + 1
        schema = SchemaVersion(
            version, place.timeline, place.lsn, 0, batch.put("relations", "json", registry.encode()), reason
        )
        dumps: list[SchemaDump] = []
        dumped = None
        # While tenants come back, the structure is the parent's, with what keeps them from being written to meanwhile.
        if descent is None or descent.finished:
            watch.say("structure and roles are dumped")
            dumped = standing(conn)
            dumps.append(_dump(dsn, settings, place, version, batch))
        reach("protect.dumped")
        taken, image = Taken((), 0, 0), None
        if imaged is None or imaged:
            watch.begin("image", expected_rows)
            wanted = [r for r in registry.relations if imaged is None or r.number in imaged]
            whole = len(wanted) == len(registry.relations)
            taken = _image(conn, settings, vault, place, wanted, registry.relations, version, batch, watch)
            numbers = None if whole else tuple(r.number for r in wanted)
            image = Image(place.timeline, place.lsn, version, numbers, taken.runs, read_sequences(conn), reason)
        seen = take_fingerprint(conn, settings.publication, settings.slot)
        noted = note_mapping(seen, settings, mapping, place.timeline, batch)
    bodies: list[Body] = [
        schema,
        *dumps,
        noted,
        *(gaps(vault, place) if descent is None else missed(place, descent, registry.relations, imaged)),
        *([] if image is None else [image]),
    ]
    if why != "rebase":
        # Last of all: where there is no timeline yet, a recorder refuses to start.
        bodies.append(
            Timeline(
                place.timeline, place.identity.system_identifier, place.identity.database, place.server_version,
                settings.slot, settings.publication, place.lsn,
                parent=descent.parent.timeline if descent is not None else None,
                fork_lsn=descent.parent.lsn if descent is not None else None,
                recovery=descent.recovery if descent is not None else None,
            )
        )  # fmt: skip
    return Baseline(tuple(bodies), taken, seen, dumped)


def known_relations(
    vault: Vault, settings: Config, place: Place, tables: Sequence[TableFacts], going_on: Carried | None
) -> Registry:
    """Tables that are still there keep their numbers; no number is ever given to another table."""
    index = vault.index
    highest = max((n for version in index.schemas for n in vault.schema(version)), default=0)
    if going_on is not None:
        return Registry(settings.tenants, going_on.relations, highest=highest)
    before: Sequence[Relation] = ()
    same_server = index.timelines and (
        index.timelines[index.newest_timeline].system_identifier == place.identity.system_identifier
    )
    if same_server and index.schemas:
        # A registry goes on with the rules that it knows, and those in ballast.toml may have changed.
        newest = vault.schema(max(index.schemas)).values()
        rules = resolve_rules(renumbered_all(tables, numberings_of(newest)), settings.tenants).rules
        before = [msgspec.structs.replace(r, tenant=rules.get(r.oid, r.tenant)) for r in newest]
    return Registry(settings.tenants, before, highest=highest)


def note_mapping(seen: Fingerprint, settings: Config, mapping: TenantMap, timeline: int, batch: Batch) -> Mapping:
    """What the owner said, and what the server looks like now."""
    ref = batch.put("fingerprint", "json", msgspec.json.encode(seen))
    return Mapping(timeline, settings.tenants.column, mapping.named(), ref)


def gaps(vault: Vault, place: Place) -> Iterator[Gap]:
    """What breaks off at the baseline, and every gap that its image closes."""
    if place.situation.kind != "rebase":
        return
    timeline, cut = place.timeline, place.lsn
    for gap in vault.index.gaps.values():
        if gap.timeline == timeline and gap.to_lsn is None:
            yield msgspec.structs.replace(gap, to_lsn=cut)
    for asked in place.wishes:
        if asked.from_lsn is not None and asked.id not in vault.index.gaps:
            yield Gap(asked.id, timeline, asked.from_lsn, cut, None, asked.reason, asked.wished_at)
    why = " ".join(place.situation.why)
    yield Gap(f"rebase-{cut:X}", timeline, place.situation.until, cut, None, why, now_iso())


def _dump(dsn: str, settings: Config, place: Place, version: int, batch: Batch) -> SchemaDump:
    assert place.slot.snapshot_name is not None
    major = place.server_version // 10000
    taken = take_dump(dsn, place.slot.snapshot_name, major, publication=settings.publication)
    pre, post, roles = (batch.put("dump", "sql", part) for part in (taken.pre_data, taken.post_data, taken.roles))
    return SchemaDump(place.timeline, place.lsn, version, pre, post, roles, place.server_version)


def _image(
    conn: psycopg.Connection[Any],
    settings: Config,
    vault: Vault,
    place: Place,
    relations: Sequence[Relation],
    known: Sequence[Relation],
    version: int,
    batch: Batch,
    watch: Watcher,
) -> Taken:
    scratch = settings.state_dir / "scratch" / "protect"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)

    def copied(table: str, rows: int) -> None:
        watch.advance(rows)
        reach("protect.copying")

    try:
        return take_image(
            conn, relations, timeline=place.timeline, lsn=place.lsn, schema=version,
            buckets=vault.index.genesis.buckets, batch=batch, scratch=scratch, lineage=None, known=known,
            progress=copied,
        )  # fmt: skip
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _inside(dsn: str, snapshot: str) -> Iterator[psycopg.Connection[Any]]:
    """A pinned session in the slot's snapshot."""
    with connect(dsn, application_name="ballast protect") as conn, conn.transaction(force_rollback=True):
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        conn.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        yield conn
