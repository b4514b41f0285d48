"""Making production wait for the recorder, and letting it go: ALTER SYSTEM, and a record of when which held.

`standby.json` in the state folder remembers what `synchronous_standby_names` was before, so that it can be put back,
and every stretch in which production went on without a recorder ("exposed": what was committed then was not yet
safe, and is, once the recorder has caught up). The recorder and its watchdog both write it, in turn, under a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg import sql

from ballast.errors import ProtectionError
from ballast.postgres import session
from ballast.vault.durable import make_folder, replace_file
from ballast.vault.health import now_iso, read_state
from ballast.vault.standby import Standbys, add, named, read_standbys, remove

STANDBY_FILE = "standby.json"
_LOCK_FILE = "standby.lock"
_KEPT = 200
_TAKES_EFFECT_S = 10.0


class Exposure(msgspec.Struct, frozen=True):
    """A stretch in which commits did not wait for a recorder. Times are ISO, UTC."""

    since: str
    from_lsn: int
    why: str
    until: str | None = None
    to_lsn: int | None = None


class StandbyRecord(msgspec.Struct, frozen=True):
    """Content of `standby.json`."""

    armed: bool = False
    ours: str = ""
    """The setting as we wrote it."""
    former: str = ""
    """The setting before."""
    former_by_alter_system: bool = False
    armed_at: str | None = None
    armed_lsn: int = 0
    exposed: Exposure | None = None
    """The stretch that lasts now; None: none does, or production never waited yet."""
    past: tuple[Exposure, ...] = ()


class NotAllowed(ProtectionError):
    """The role may not change the setting."""


def read_record(state_dir: Path) -> StandbyRecord:
    """What is known of this recorder's part in the setting."""
    return read_state(state_dir, STANDBY_FILE, StandbyRecord) or StandbyRecord()


def control_connection(dsn: str, name: str) -> psycopg.Connection[Any]:
    """A session that never waits for a standby, nor long for anything else."""
    conn = session.connect(
        dsn, application_name=name, connect_timeout=5, tcp_user_timeout=10_000, options="-c synchronous_commit=off"
    )
    conn.execute("SET statement_timeout = '10s'")
    return conn


def arm(conn: psycopg.Connection[Any], state_dir: Path, slot: str) -> StandbyRecord:
    """Have production's commits wait for this recorder; closes the stretch of exposure. Call when it has caught up.

    NotAllowed, or ProtectionError where the present setting leaves no way."""
    with _turn(state_dir):
        now = read_standbys(conn, slot)
        record = read_record(state_dir)
        if not now.waits_for(slot):
            wanted = add(now.setting, slot, now.recorders)
            _set(conn, wanted, slot)
            record = msgspec.structs.replace(
                record, ours=wanted, former=now.setting, former_by_alter_system=now.by_alter_system
            )
        at, lsn = now_iso(), read_standbys(conn, slot).server_lsn
        past = record.past
        if record.exposed is not None:
            past = (*past, msgspec.structs.replace(record.exposed, until=at, to_lsn=lsn))[-_KEPT:]
        record = msgspec.structs.replace(record, armed=True, armed_at=at, armed_lsn=lsn, exposed=None, past=past)
        _write(state_dir, record)
        return record


def disarm(conn: psycopg.Connection[Any], state_dir: Path, slot: str, why: str) -> StandbyRecord:
    """Let production's commits go on without this recorder. The former setting comes back, unless somebody has
    changed it since: then only this recorder's name goes."""
    with _turn(state_dir):
        now = read_standbys(conn, slot)
        record = read_record(state_dir)
        if now.names(slot):
            back: str | None = remove(now.setting, slot)
            if now.setting == record.ours and back == record.former and not record.former_by_alter_system:
                back = None
            _set(conn, back, slot)
            if named(read_standbys(conn, slot).setting, slot):  # it stands in a file of the owner's as well
                _set(conn, remove(now.setting, slot), slot)
        record = _exposed(record, now, why)
        _write(state_dir, record)
        return record


def note_disarmed(state_dir: Path, now: Standbys, why: str) -> StandbyRecord:
    """Somebody else took the name out of the setting: write down since when."""
    with _turn(state_dir):
        record = _exposed(read_record(state_dir), now, why)
        _write(state_dir, record)
        return record


def begin_anew(state_dir: Path) -> None:
    """Another server has taken production's place, in whose setting nobody has put anything yet."""
    with _turn(state_dir):
        record = read_record(state_dir)
        _write(state_dir, StandbyRecord(past=record.past))


def _exposed(record: StandbyRecord, now: Standbys, why: str) -> StandbyRecord:
    if not record.armed or record.exposed is not None:
        return msgspec.structs.replace(record, armed=False)
    # Commits that were waiting are let go as well: everything after the last acknowledgement.
    from_lsn = now.confirmed_flush if now.confirmed_flush is not None else now.server_lsn
    return msgspec.structs.replace(record, armed=False, exposed=Exposure(now_iso(), from_lsn, why))


def _set(conn: psycopg.Connection[Any], value: str | None, slot: str) -> None:
    """ALTER SYSTEM, reload, and wait until it holds. None: RESET."""
    command = sql.SQL("ALTER SYSTEM RESET synchronous_standby_names")
    if value is not None:
        command = sql.SQL("ALTER SYSTEM SET synchronous_standby_names = {}").format(sql.Literal(value))  # type: ignore[assignment]
    before = read_standbys(conn, slot).setting
    try:
        conn.execute(command)
        conn.execute("SELECT pg_reload_conf()")
    except psycopg.errors.InsufficientPrivilege as error:
        role = conn.info.user
        raise NotAllowed(
            f"The role {role} may not set synchronous_standby_names: {str(error).strip()}.",
            f'As superuser: GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO "{role}"; GRANT EXECUTE ON '
            f'FUNCTION pg_reload_conf() TO "{role}"; or set it by hand, or record with acknowledge = "off".',
        ) from error
    deadline = time.monotonic() + _TAKES_EFFECT_S
    while (now := read_standbys(conn, slot).setting) != value:
        if value is None and now != before:
            return
        if time.monotonic() > deadline:
            if value is None:
                return  # the same as before, from a file
            raise ProtectionError(
                f"synchronous_standby_names was set to {value!r} but stays {now!r}.",
                "Look into the server's log: another place of its configuration may win, or be wrong.",
            )
        time.sleep(0.02)


def _write(state_dir: Path, record: StandbyRecord) -> None:
    replace_file(state_dir / STANDBY_FILE, msgspec.json.encode(record))


@contextlib.contextmanager
def _turn(state_dir: Path) -> Iterator[None]:
    make_folder(state_dir)
    lock = os.open(state_dir / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
