"""What speaks against protecting a server, what the owner should know, and what will be changed on it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from ballast.postgres import Catalog, ServerFacts
from ballast.vault.tables import TableFacts
from ballast.vault.tenancy import TenantMap, needed_columns

OLDEST = 16
_SMALL_KEEP_BYTES = 1 << 30
_NAMES_SHOWN = 8


class Finding(msgspec.Struct, frozen=True):
    """Something about the server, and what to do about it."""

    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.do}".rstrip()


class IdentityChange(msgspec.Struct, frozen=True):
    """A replica identity that will be set, so that every DELETE tells the tenant and no write is refused."""

    table: str
    was: str
    to: str
    why: str


class Unprotected(msgspec.Struct, frozen=True):
    """Something in the database that the vault will not hold, or not as rows of tables are held."""

    kind: str
    names: tuple[str, ...]
    """Empty where there are only numbers of them."""
    note: str


class SlotFound(msgspec.Struct, frozen=True):
    """A slot of the name that is wanted."""

    plugin: str | None
    database: str | None
    active_pid: int | None
    lost: bool | None


class PublicationFound(msgspec.Struct, frozen=True):
    """A publication of the name that is wanted."""

    all_tables: bool
    owned: bool


class Around(msgspec.Struct, frozen=True):
    """The row of `examine.sql`."""

    foreign_tables: tuple[str, ...]
    materialized_views: tuple[str, ...]
    not_owned: tuple[str, ...]
    hidden: tuple[str, ...]
    overrides: tuple[str, ...]
    may_make_synchronous: bool
    installed: bool
    publication: PublicationFound | None
    slot: SlotFound | None
    writing_long: tuple[str, ...]
    prepared: tuple[str, ...]
    subscriptions: tuple[str, ...] = ()
    encoding: str = "UTF8"
    citus: bool = False
    strangers: tuple[str, str] | None = None
    """Something in the schema `ballast` that is not this role's, and whose it is."""


class Wanted(msgspec.Struct, frozen=True):
    """What protection would be like."""

    slot: str
    publication: str
    acknowledge: Literal["spool", "store", "off"]
    known: bool = False
    """This state folder has protected a database before: what has our names is ours."""


def version_problem(version_num: int) -> Finding | None:
    """Servers that are too old are not asked anything else."""
    if version_num // 10000 >= OLDEST:
        return None
    return Finding(
        f"The server is PostgreSQL {version_num // 10000}; Ballast protects {OLDEST} and newer.",
        "Upgrade the server (pg_upgrade keeps the data); older ones cannot leave restored rows out of the stream.",
    )


def problems_of(facts: ServerFacts, around: Around, wanted: Wanted, mapping: TenantMap) -> Iterator[Finding]:
    """Whatever must be settled before anything is changed."""
    if facts.in_recovery:
        yield Finding("The server is a standby.", "Give the DSN of the primary; a standby takes no slot of this kind.")
    if facts.wal_level != "logical":
        yield Finding(
            f"wal_level is {facts.wal_level}, and changes are only decoded with logical.",
            "As superuser: ALTER SYSTEM SET wal_level = 'logical'; then restart the server.",
        )
    if around.slot is None and facts.used_replication_slots >= facts.max_replication_slots:
        yield Finding(
            f"All {facts.max_replication_slots} replication slots are taken.",
            "Raise max_replication_slots (needs a restart), or drop slots that nobody reads.",
        )
    if facts.used_wal_senders >= facts.max_wal_senders:
        yield Finding(
            f"All {facts.max_wal_senders} WAL senders are in use.", "Raise max_wal_senders (needs a restart)."
        )
    if around.encoding == "SQL_ASCII":
        yield Finding(
            f"Database {facts.database} is encoded in SQL_ASCII: it may hold bytes of which nobody can tell which characters"
            " they are, and one such row would stop the stream of changes.",
            "Move it into a database with ENCODING 'UTF8' (pg_dump --encoding with the true one, then restore it there).",
        )
    yield from _rights(facts, around, wanted)
    if around.publication is not None and not around.installed and not wanted.known:
        yield Finding(
            f"There is a publication {wanted.publication} already, and it is not Ballast's.",
            "Choose another name with --publication.",
        )
    slot = around.slot
    if slot is not None and (slot.plugin, slot.database) != ("pgoutput", facts.database):
        yield Finding(
            f"There is a slot {wanted.slot} already ({slot.plugin or 'physical'}, database {slot.database or '-'}).",
            "Choose another name with --slot, such as ballast_2; or, if that database is not needed any more (the one that was"
            " lost, recovered beside it), take its protection off first: ballast unprotect.",
        )
    for problem in mapping.problems:
        yield Finding(problem.what, problem.do)


def _rights(facts: ServerFacts, around: Around, wanted: Wanted) -> Iterator[Finding]:
    role = f'"{facts.role}"'
    if not facts.may_replicate:
        yield Finding(f"Role {facts.role} may not replicate.", f"As superuser: ALTER ROLE {role} REPLICATION;")
    if not facts.can_create_in_database:
        yield Finding(
            f"Role {facts.role} may not create a schema or a publication in database {facts.database}.",
            f'As superuser: GRANT CREATE ON DATABASE "{facts.database}" TO {role};',
        )
    if around.not_owned:
        yield Finding(
            f"Role {facts.role} does not own {listed(around.not_owned)}: it can neither publish them nor set their"
            " replica identity.",
            f"Run this as their owner or as superuser, or: GRANT <owner> TO {role};",
        )
    if around.hidden:
        yield Finding(
            f"Row-level security hides rows of {listed(around.hidden)} from role {facts.role}: the image would lack them.",
            f"As superuser: ALTER ROLE {role} BYPASSRLS;",
        )
    if around.strangers is not None:
        what, owner = around.strangers
        yield Finding(
            f"In the schema ballast, {what} belongs to role {owner}.",
            "If that role protects this database, run this as that role, or let it run `ballast unprotect` first. If not,"
            " nobody knows what it has put there: look at it, then DROP SCHEMA ballast CASCADE.",
        )
    if around.publication is not None and around.installed and not around.publication.owned:
        yield Finding(
            f"The publication {wanted.publication} belongs to another role.", "Run this as that role or as superuser."
        )


def warnings_of(facts: ServerFacts, around: Around, wanted: Wanted) -> Iterator[Finding]:
    """What does not prevent protection, and weakens it or production."""
    keep = facts.max_slot_wal_keep_size_bytes
    if keep < 0:
        yield Finding(
            "max_slot_wal_keep_size is -1: a recorder that stays away long enough fills production's disk.",
            "Set it to what the disk can spare, such as ALTER SYSTEM SET max_slot_wal_keep_size = '50GB';",
        )
    elif keep < _SMALL_KEEP_BYTES:
        yield Finding(
            f"max_slot_wal_keep_size is {keep >> 20} MB: a recorder that is away while more WAL than that is written"
            " loses its slot, which leaves a gap.",
            "Raise it to what the disk can spare.",
        )
    if facts.idle_replication_slot_timeout_s:
        yield Finding(
            f"idle_replication_slot_timeout is {facts.idle_replication_slot_timeout_s} s: a recorder that is away for"
            " longer loses its slot, which leaves a gap.",
            "Set it to 0.",
        )
    if around.slot is None and facts.max_replication_slots - facts.used_replication_slots < 2:
        yield Finding(
            "Only one replication slot is free, and later images need one for a moment as well.",
            "Raise max_replication_slots by 2 at the next restart.",
        )
    if wanted.acknowledge != "off":
        yield from _synchronous(facts, around)
    if around.subscriptions:
        yield Finding(
            f"Rows that a logical subscription brings ({', '.join(around.subscriptions)}) are not recorded: they carry another"
            " server's replication origin.",
            "Protect the server that they come from; this database's vault will lack them.",
        )
    if not facts.is_superuser:
        yield Finding(
            f"Role {facts.role} is no superuser: it may not create event triggers, nor publish tables that do not exist"
            " yet. Changes of structure are noticed by the next changed row; new tables must be added.",
            "Run `ballast protect` again after creating tables, or run it as superuser.",
        )
    if around.encoding not in ("UTF8", "SQL_ASCII"):
        yield Finding(
            f"Database {facts.database} is encoded in {around.encoding}, and the vault holds UTF-8: a value that has no"
            " equivalent there would stop the stream of changes.",
            "Move it into a database with ENCODING 'UTF8', or make sure that only valid characters are written.",
        )
    if not facts.fsync or not facts.full_page_writes:
        yield Finding(
            "fsync or full_page_writes is off: a crash of the server's machine may damage its data.", "Switch them on."
        )
    if around.writing_long:
        yield Finding(
            f"A new slot waits for transactions under way: {listed(around.writing_long)}.", "End them, or be patient."
        )
    if around.prepared:
        yield Finding(
            f"A new slot waits for prepared transactions: {listed(around.prepared)}.", "Commit them or roll them back."
        )


def _synchronous(facts: ServerFacts, around: Around) -> Iterator[Finding]:
    if not around.may_make_synchronous:
        yield Finding(
            f"Role {facts.role} may not make production wait for the recorder: the newest commits can be lost with it.",
            f'As superuser: GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO "{facts.role}"; GRANT EXECUTE'
            f' ON FUNCTION pg_reload_conf() TO "{facts.role}"; or protect with --acknowledge off.',
        )
    if facts.synchronous_commit in ("off", "local"):
        yield Finding(
            f"synchronous_commit is {facts.synchronous_commit}: commits are confirmed before the recorder has them.",
            "Set it to on.",
        )
    if around.overrides:
        yield Finding(
            f"Some sessions do not wait for the recorder: {listed(around.overrides)}.",
            "Take these settings back (ALTER ROLE … RESET synchronous_commit), or accept that their newest commits can be"
            " lost.",
        )


def unprotected_of(catalog: Catalog, around: Around, large_objects: int) -> Iterator[Unprotected]:
    """What the stream of changes does not carry."""
    unlogged = tuple(f"{t.schema}.{t.name}" for t in catalog.tables if t.persistence == "u" and t.schema != "ballast")
    if unlogged:
        yield Unprotected("unlogged tables", unlogged, "not in the WAL: restored empty; ALTER TABLE … SET LOGGED helps")
    if large_objects:
        yield Unprotected(
            "large objects",
            (),
            f"{large_objects:,} of them, not in the stream: keep them in bytea columns or back them up",
        )
    if around.foreign_tables:
        yield Unprotected("foreign tables", around.foreign_tables, "their rows lie on another server")
    if around.materialized_views:
        yield Unprotected("materialized views", around.materialized_views, "rebuilt from their query, not recorded")
    by_extension = tuple(f"{t.schema}.{t.name} ({t.extension})" for t in catalog.tables if t.extension)
    if by_extension:
        yield Unprotected("tables of extensions", by_extension, "kept as shared, restored only on demand")
    if catalog.sequences:
        yield Unprotected("unused values of sequences", (), "after a restore a sequence may skip some numbers")


def identity_change(table: TableFacts, needed: Sequence[int]) -> IdentityChange | None:
    """What `ballast.settle_identity` (server.sql) will set on this table; None if it stays as it is."""
    if not table.holds_rows or table.persistence != "p" or table.replica_identity == "f":
        return None
    usable = [i for i in table.unique_indexes or () if set(needed) <= set(i.columns)]
    now, current = table.replica_identity, table.identity_columns
    if current and any(i.columns == current for i in usable):
        return None
    if not current:
        why = "it has none: UPDATE and DELETE would be refused once it is published"
    else:
        why = f"a DELETE must carry {', '.join(table.names(needed))}"
    best = min(usable, key=lambda i: (i.columns != table.primary_key, len(i.columns), i.name), default=None)
    if best is None:
        to = "FULL"
        why += ", and no unique index on NOT NULL columns has it" if current or needed else ""
    else:
        to = "DEFAULT" if best.columns == table.primary_key else f"USING INDEX {best.name}"
    was = {"d": "DEFAULT", "n": "NOTHING", "i": "an index"}.get(now, now)
    return IdentityChange(table.qualified, was, to, why)


def identity_changes(mapping: TenantMap) -> tuple[IdentityChange, ...]:
    """All that will be set, by table."""
    rules: Mapping[int, object] = mapping.rules
    found = (
        identity_change(a.table, needed_columns(a.table, mapping.rules[a.table.oid]))
        for a in mapping.answers
        if a.table.oid in rules
    )
    return tuple(change for change in found if change is not None)


def needs_of(mapping: TenantMap) -> dict[str, tuple[str, ...]]:
    """`schema.table` → columns that a DELETE must carry, as the event triggers want it; partitions follow their root."""
    return {
        a.table.qualified: a.table.names(needed_columns(a.table, mapping.rules[a.table.oid]))
        for a in mapping.answers
        if a.table.oid in mapping.rules and not a.table.is_partition
    }


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
