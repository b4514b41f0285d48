"""Bringing our objects on production to what protection needs: each step finds what is there, and can be done again."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from ballast.errors import ProtectionError
from ballast.postgres import read_catalog, replication
from ballast.postgres.refusals import ReplicationError
from ballast.vault import examine, publication, server, undertaking
from ballast.vault.checks import Wanted, listed, needs_of
from ballast.vault.config import Config
from ballast.vault.failpoints import reach
from ballast.vault.fingerprint import BASELINE_FILE
from ballast.vault.slot import read_slot
from ballast.vault.tables import OWN_SCHEMA, tables_of
from ballast.vault.tenancy import TenantMap, resolve_rules
from ballast.vault.token import settle_token
from ballast.vault.vault import Vault

_SLOT_WAITS_S = 300.0
_SLOT_FREE_S = 10.0
_ATTEMPTS = 5

Say = Callable[[str], None]


def wanted_of(settings: Config) -> Wanted:
    """What `examine` must know of the settings."""
    known = (settings.state_dir / BASELINE_FILE).exists()
    return Wanted(settings.slot, settings.publication, settings.record.acknowledge, known)


def everything(conn: psycopg.Connection[Any], settings: Config, *, for_all: bool, say: Say) -> None:
    """All but the slot. `for_all`: this role may publish all tables at once.

    Event triggers come first, since they settle what is created from then on; identities before the publication: of a
    table that is published without one, the application's UPDATE and DELETE would be refused."""
    needs = needs_of(mapping_now(conn, settings))
    server.install(conn, settings.tenants.column, needs, partial(settle_token, settings.state_dir))
    reach("protect.installed")
    refused = server.install_event_triggers(conn)
    if refused is not None:
        say(f"no event triggers: {refused}")
    reach("protect.triggers")
    identities(conn, say)
    done = publication.settle(conn, settings.publication, tables_of(read_catalog(conn)), for_all=for_all)
    if done is not None:
        say(done)
    reach("protect.published")


def mapping_now(conn: psycopg.Connection[Any], settings: Config) -> TenantMap:
    """Whose rows are in the tables that there are now; ProtectionError where nobody can tell."""
    mapping = resolve_rules(tables_of(read_catalog(conn)), settings.tenants)
    for problem in mapping.problems:
        raise ProtectionError(problem.what, problem.do)
    return mapping


def identities(conn: psycopg.Connection[Any], say: Say) -> int:
    """Set the replica identities that need it; how many."""
    changed = 0
    for table in tables_of(read_catalog(conn), but=(OWN_SCHEMA,)):
        if not table.holds_rows or table.persistence != "p":
            continue
        done = server.settle_identity(conn, table.oid, table.qualified)
        if done is not None:
            changed += 1
            say(f"{table.qualified}: REPLICA IDENTITY {done}")
            reach("protect.identity")
    return changed


def create_slot(
    stream: replication.Replication, conn: psycopg.Connection[Any], settings: Config, say: Say
) -> replication.Slot:
    """The slot, with a snapshot in which every table can be written to.

    Making it waits for transactions under way, and these may have created tables that nobody has settled."""
    say(f"slot {settings.slot} is made; it waits for transactions that write now")
    for _ in range(_ATTEMPTS):
        try:
            slot = stream.create_slot(settings.slot, timeout_s=_SLOT_WAITS_S)
        except ReplicationError as error:
            around = examine.read_around(conn, wanted_of(settings))
            waits = (*around.writing_long, *around.prepared)
            if not waits:
                raise
            raise ProtectionError(
                f"The slot cannot be made while transactions are under way: {listed(waits)}.",
                "End them, then run the command again.",
            ) from error
        if not identities(conn, say):
            return slot
        stream.drop_slot(slot.name)
    raise ProtectionError(
        "Tables are created faster than they can be settled.", "Run the command again when that is over."
    )


def clear_slot(conn: psycopg.Connection[Any], settings: Config, vault: Vault, identity: replication.Identity) -> None:
    """No slot of our name is left. ProtectionError for one that this state folder knows nothing of."""
    if refuse_foreign_slot(conn, settings, vault, identity):
        drop_slot(conn, settings.slot)


def refuse_foreign_slot(
    conn: psycopg.Connection[Any], settings: Config, vault: Vault, identity: replication.Identity
) -> bool:
    """Whether there is a slot of our name; ProtectionError for one that this state folder knows nothing of."""
    slot = settings.slot
    if read_slot(conn, slot) is None:
        return False
    begun = undertaking.read(settings.state_dir)
    ours = {(t.slot, t.system_identifier) for t in vault.index.timelines.values()}
    if begun is not None:
        ours.add((begun.slot, begun.system_identifier))
    if (slot, identity.system_identifier) not in ours:
        raise ProtectionError(
            f"There is a slot {slot} already, which was not made from {settings.state_dir}: another Ballast may record this"
            " database.",
            f"Choose another name with --slot; if nobody needs it: SELECT pg_drop_replication_slot('{slot}');",
        )
    return True


def drop_slot(conn: psycopg.Connection[Any], slot: str) -> None:
    """Drop a slot, waiting a little for a reader that is just going. ProtectionError while somebody reads it."""
    deadline = time.monotonic() + _SLOT_FREE_S
    while True:
        try:
            conn.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
            return
        except psycopg.errors.UndefinedObject:
            return
        except psycopg.errors.ObjectInUse as error:
            if time.monotonic() > deadline:
                raise ProtectionError(
                    f"Somebody reads the slot {slot}: {error.diag.message_primary}.",
                    "Stop that recorder, then run the command again; or choose another name with --slot.",
                ) from error
        time.sleep(0.2)
