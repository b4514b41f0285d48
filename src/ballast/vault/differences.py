"""What it means that the server is no longer what it was when it was protected. Pure: fingerprints in, differences out.

No difference is harmless by default; what the stream itself explains (a TRUNCATE, a message of the event triggers) is handed in.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from ballast.vault.fingerprint import Fingerprint, Publication, TableMark

Kind = Literal[
    "server",
    "publication",
    "coverage",
    "persistence",
    "identity",
    "rewrite",
    "unannounced",
    "event_trigger",
    "slot",
    "canary",
    "setting",
    "override",
]


class Difference(msgspec.Struct, frozen=True):
    """One way in which the server is no longer what it was when it was protected."""

    kind: Kind
    subject: str
    was: str
    now: str
    meaning: str
    relations: tuple[str, ...] | None = ()
    """oids of the tables whose changes may be missing; None: all of them; (): none, only promises are weaker."""

    @property
    def blinds(self) -> bool:
        """True when changes may be missing from the record because of this."""
        return self.relations is None or bool(self.relations)

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.subject}: {self.was} → {self.now}: {self.meaning}"


_SAFE = {
    "wal_level": ("logical",),
    "synchronous_commit": ("on", "remote_write", "remote_apply"),
    "fsync": ("on",),
    "full_page_writes": ("on",),
    "event_triggers": ("on",),
    "session_replication_role": ("origin",),
}
_RISK = {
    "synchronous_commit": "commits are confirmed to clients before the recorder has them",
    "event_triggers": "event triggers do not fire: changes of structure are not announced",
    "session_replication_role": "triggers and foreign keys of the application do not fire (ours do)",
    "wal_level": "changes are not decoded after the next restart",
    "fsync": "a crash of the server's machine may lose what it confirmed",
    "full_page_writes": "a crash of the server's machine may damage its data",
}


class Told(msgspec.Struct, frozen=True):
    """What the stream itself has said of tables lately, by oid: no surprise where the catalog shows it too."""

    rewritten: AbstractSet[str] = frozenset()
    """Truncated, or announced as rewritten (the sealer has them imaged)."""
    described: AbstractSet[str] = frozenset()
    """Created, altered or dropped, and described."""


NOTHING_TOLD = Told()


def compare(was: Fingerprint, now: Fingerprint, told: Told = NOTHING_TOLD) -> list[Difference]:
    """Every difference that matters, the gravest first."""
    return [
        *_server(was, now),
        *_publication(was, now),
        *_slot(was, now),
        *_triggers(was, now),
        *_tables(was, now, told),
        *_settings(was, now),
        *_overrides(was, now),
    ]


def compare_apart_from_tables(was: Fingerprint, now: Fingerprint) -> list[Difference]:
    """The differences that nothing in the stream could explain, so that nobody need wait for the stream to judge them."""
    every = frozenset({*was.tables, *now.tables})
    return compare(was, now, Told(every, every))


def settled(was: Fingerprint, now: Fingerprint, oids: AbstractSet[str] | None) -> Fingerprint:
    """`was` with what nobody can bring back: version numbers of what is there again as it was, and the files of the tables
    that are imaged again (`oids`; None: all). What still differs from it is still broken."""
    publication, published = was.publication, dict(was.published)
    if publication is not None and now.publication is not None:
        publication = msgspec.structs.replace(publication, oid=now.publication.oid, xmin=now.publication.xmin)
    for name, entry in now.published.items():
        if name not in published or _definition(published[name]) == _definition(entry):
            published[name] = entry
    tables = dict(was.tables)
    for oid in {*was.tables, *now.tables} if oids is None else oids:
        before, after = was.tables.get(oid), now.tables.get(oid)
        if after is None:
            tables.pop(oid, None)
        elif before is None:
            tables[oid] = after
        else:
            persistence = "p" if before.persistence == "p" else after.persistence
            identity = before if after.replica_identity == "n" else after
            tables[oid] = msgspec.structs.replace(
                after, persistence=persistence,
                replica_identity=identity.replica_identity, identity_index=identity.identity_index,
            )  # fmt: skip
    triggers = {
        name: msgspec.structs.replace(mark, xmin=now.event_triggers[name].xmin) if name in now.event_triggers else mark
        for name, mark in was.event_triggers.items()
    }
    return msgspec.structs.replace(
        was,
        publication=publication,
        published=published,
        tables=tables,
        event_triggers=triggers,
        slot=now.slot or was.slot,
    )


def _server(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    if was.system_identifier != now.system_identifier:
        yield Difference(
            "server", "system identifier", was.system_identifier, now.system_identifier, "this is another server", None
        )


def _publication(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    if was.publication is None:
        return
    if now.publication is None:
        yield Difference("publication", "publication", "there", "gone", "no change of any table comes through", None)
    elif was.publication.oid != now.publication.oid:
        yield Difference(
            "publication", "publication", "the one of protect", "another of that name",
            "changes made while there was none did not come through", None,
        )  # fmt: skip
    elif was.publication != now.publication:
        yield Difference(
            "publication", "publication options", _options(was.publication), _options(now.publication),
            "it was altered: operations or tables may have been left out, even if it looks the same again", None,
        )  # fmt: skip


def _options(publication: Publication) -> str:
    tables = "all tables" if publication.all_tables else "listed tables"
    return f"{tables}, {publication.operations}, via_root={publication.via_root}, version {publication.xmin}"


def _slot(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    if was.slot is None:
        return
    if now.slot is None:
        yield Difference(
            "slot", "slot", "there", "gone", "changes since the last one received are lost to the record", None
        )
    elif now.slot.wal_status == "lost":
        yield Difference(
            "slot", "slot", was.slot.wal_status, "lost", "the server threw away WAL that was not yet read", None
        )
    elif (was.slot.plugin, was.slot.database) != (now.slot.plugin, now.slot.database):
        yield Difference(
            "slot", "slot", f"{was.slot.plugin} on {was.slot.database}", f"{now.slot.plugin} on {now.slot.database}",
            "it was made anew: what happened in between is not in it", None,
        )  # fmt: skip


def _triggers(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    for name, before in was.event_triggers.items():
        after = now.event_triggers.get(name)
        if after == before:
            continue
        state = "gone" if after is None else "disabled" if after.enabled == "D" else "altered"
        yield Difference(
            "event_trigger", name, "enabled", state,
            "changes of structure, and rewrites of tables, may have passed unannounced", None,
        )  # fmt: skip


def _tables(was: Fingerprint, now: Fingerprint, told: Told) -> Iterator[Difference]:
    for oid, after in now.tables.items():
        before = was.tables.get(oid)
        if after.persistence == "u":
            yield from _unlogged(oid, before, after)
            continue
        yield from _coverage(was, now, oid, before, after)
        if before is None:
            if oid not in told.described and was.event_triggers:
                yield Difference(
                    "unannounced", after.name, "not there", "there",
                    "a table that nobody announced: rows may have been put into it before it was recorded", (oid,),
                )  # fmt: skip
            continue
        if (before.replica_identity, before.identity_index) != (after.replica_identity, after.identity_index) and (
            oid not in told.described or after.replica_identity == "n"
        ):
            yield Difference(
                "identity", after.name, before.replica_identity, after.replica_identity,
                "updates and deletes may come without what tells their row and tenant", (oid,),
            )  # fmt: skip
        if before.file != after.file and oid not in told.rewritten:
            yield Difference(
                "rewrite", after.name, f"file {before.file}", f"file {after.file}",
                "it was rewritten and nothing in the stream says why (VACUUM FULL, CLUSTER, or a stay as UNLOGGED unseen)",
                (oid,),
            )  # fmt: skip
    for oid, before in was.tables.items():
        if oid not in now.tables and oid not in told.described and was.event_triggers and before.persistence == "p":
            yield Difference(
                "unannounced", before.name, "there", "gone", "it was dropped and nobody announced it", (oid,)
            )


def _unlogged(oid: str, before: TableMark | None, after: TableMark) -> Iterator[Difference]:
    if before is None:
        yield Difference("persistence", after.name, "not there", "UNLOGGED", "a new table that cannot be protected")
    elif before.persistence != "u":
        yield Difference(
            "persistence", after.name, "logged", "UNLOGGED",
            "its changes are not in the WAL, and a crash empties it; "
            f"SET synchronous_commit = local; ALTER TABLE {after.name} SET LOGGED; ends it", (oid,),
        )  # fmt: skip


def _coverage(
    was: Fingerprint, now: Fingerprint, oid: str, before: TableMark | None, after: TableMark
) -> Iterator[Difference]:
    if now.publication is None:
        return  # said already
    entry = now.published.get(after.name)
    if entry is None:
        if not now.publication.all_tables and (before is None or before.name in was.published):
            yield Difference(
                "coverage", after.name, "published", "not published", "its changes do not come through", (oid,)
            )
        return
    former = was.published.get(before.name) if before is not None else None
    if former is None or former == entry:
        return
    again = _definition(former) == _definition(entry)
    yield Difference(
        "coverage", after.name, "published", "taken out and put back" if again else "filtered",
        "what happened meanwhile did not come through" if again else "a row filter or column list leaves changes out", (oid,),
    )  # fmt: skip


def _definition(entry: str) -> str:
    """Without the number that it got when it was put into the publication."""
    return entry.partition("#")[0]


def _settings(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    for name, safe in _SAFE.items():
        value = now.settings.get(name)
        if value is not None and value not in safe and was.settings.get(name) in safe:
            yield Difference("setting", name, was.settings[name], value, _RISK[name])


def _overrides(was: Fingerprint, now: Fingerprint) -> Iterator[Difference]:
    for subject, value in now.overrides.items():
        name = subject.rsplit(" ", 1)[-1]
        if value not in _SAFE[name] and was.overrides.get(subject) != value:
            yield Difference("override", subject, was.overrides.get(subject, "not set"), value, _RISK[name])
