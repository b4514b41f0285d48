"""`ballast unprotect`: takes everything of ours off the server, in an order in which no step can hurt. Idempotent."""

from __future__ import annotations

from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast.errors import ProtectionError
from ballast.vault import arming, examine, health, publication, server, undertaking
from ballast.vault.config import Config
from ballast.vault.fingerprint import BASELINE_FILE
from ballast.vault.settle import drop_slot
from ballast.vault.slot import read_slot
from ballast.vault.standby import read_standbys

_OTHERS = """
SELECT slot_name FROM pg_replication_slots
 WHERE slot_name LIKE 'ballast%%' AND slot_name <> %s AND plugin = 'pgoutput' AND database = current_database()
   AND NOT temporary ORDER BY 1
"""


class Undone(msgspec.Struct, frozen=True):
    """What was done, a line each; nothing where nothing was left."""

    steps: tuple[str, ...]
    left_for: tuple[str, ...] = ()
    """Slots of other recorders, which need the schema, triggers, identities and publication that were left."""


def unprotect(settings: Config, dsn: str) -> Undone:
    """Leave nothing on the server. The vault and ballast.toml stay. ProtectionError while a recorder runs."""
    if health.is_held(settings.state_dir):
        raise ProtectionError(
            f"A recorder works with {settings.state_dir}.", "Stop it first (SIGTERM), so that it seals what it holds."
        )
    steps: list[str] = []
    with examine.session(dsn) as conn:
        server.refuse_strangers(conn)
        _refuse_anothers(conn, settings)
        others = _names(conn, settings.slot)
        if read_standbys(conn, settings.slot).names(settings.slot):
            arming.disarm(conn, settings.state_dir, settings.slot, "unprotected")
            steps.append("commits no longer wait for the recorder")
        if not others:
            steps += _event_triggers(conn)
            if _is_ours(conn) and publication.remove(conn, settings.publication):
                steps.append(f"publication {settings.publication} dropped")
        steps += _slot(conn, settings.slot)
        if not others:
            for changed in server.changed_identities(conn):
                steps.append(f"replica identity of {server.restore_identity(conn, changed)}")
            if _is_ours(conn):
                server.remove(conn)
                steps.append("schema ballast dropped")
    return Undone(tuple(steps), others)


def _refuse_anothers(conn: psycopg.Connection[Any], settings: Config) -> None:
    """Before the first step: a slot that is read, or was made from another state folder, is another recorder's."""
    slot = read_slot(conn, settings.slot)
    if slot is None:
        return
    if slot.active:
        raise ProtectionError(
            f"Somebody reads the slot {settings.slot}: a recorder works somewhere else. Nothing was changed.",
            "Stop that recorder, and run unprotect where it ran.",
        )
    here = (settings.state_dir / BASELINE_FILE).exists() or undertaking.read(settings.state_dir) is not None
    if not here:
        raise ProtectionError(
            f"The slot {settings.slot} was not made from {settings.state_dir}: another recorder's protection hangs on it."
            " Nothing was changed.",
            "Run unprotect with the settings that protect was run with; if they are lost:"
            f" SELECT pg_drop_replication_slot('{settings.slot}'); and then this again.",
        )


def _event_triggers(conn: psycopg.Connection[Any]) -> list[str]:
    with conn.cursor(row_factory=tuple_row) as cursor:
        there = cursor.execute(
            "SELECT count(*) FROM pg_event_trigger WHERE evtname = ANY (%s)", (list(server.EVENT_TRIGGERS),)
        ).fetchone()
    if there is None or not there[0]:
        return []
    server.remove_event_triggers(conn)
    return ["event triggers dropped"]


def _slot(conn: psycopg.Connection[Any], slot: str) -> list[str]:
    if read_slot(conn, slot) is None:
        return []
    drop_slot(conn, slot)
    return [f"replication slot {slot} dropped"]


def _is_ours(conn: psycopg.Connection[Any]) -> bool:
    """Whether protection was ever set up here: the schema goes last of all."""
    with conn.cursor(row_factory=tuple_row) as cursor:
        row = cursor.execute("SELECT to_regnamespace('ballast') IS NOT NULL").fetchone()
    return bool(row and row[0])


def _names(conn: psycopg.Connection[Any], slot: str) -> tuple[str, ...]:
    with conn.cursor(row_factory=tuple_row) as cursor:
        return tuple(name for (name,) in cursor.execute(_OTHERS, (slot,)))
