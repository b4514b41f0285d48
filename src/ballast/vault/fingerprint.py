"""What capture rests on at the server, and how it was when all was well. The query is in `fingerprint.sql`.

A logical replication stream says nothing of what it leaves out. So everything that decides what comes through it is read from
the server's catalog at short intervals and set beside what stood there when the database was protected: the baseline, a file
of the recorder's. What a difference means is said in differences.py.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.rows import tuple_row

from ballast.errors import ConfigError
from ballast.postgres.lsn import parse_lsn
from ballast.vault.durable import replace_file

QUERY = files("ballast.vault").joinpath("fingerprint.sql").read_text()
"""Takes `publication` and `slot`; gives one row with one JSON document, a `Fingerprint`."""

BASELINE_FILE = "fingerprint.json"
"""In the state folder; `protect` writes it, the guardian keeps it up to date."""


class Publication(msgspec.Struct, frozen=True):
    """The row of pg_publication."""

    oid: int
    xmin: str
    all_tables: bool
    operations: str
    via_root: bool


class TableMark(msgspec.Struct, frozen=True):
    """What of a table decides whether and how its changes come through."""

    name: str
    persistence: str
    replica_identity: str
    identity_index: int | None
    file: int | None
    """Number of the file that holds it: another one means that it was rewritten or truncated."""


class TriggerMark(msgspec.Struct, frozen=True):
    """An event trigger of ours."""

    enabled: str
    xmin: str
    function: str
    event: str
    tags: str


class SlotMark(msgspec.Struct, frozen=True):
    """The replication slot."""

    plugin: str
    database: str
    wal_status: str
    confirmed_flush: str | None
    restart: str | None
    active: bool
    held_bytes: int | None


class Fingerprint(msgspec.Struct, frozen=True):
    """The state of everything that capture rests on, in one snapshot."""

    system_identifier: str
    publication: Publication | None
    published: dict[str, str]
    tables: dict[str, TableMark]
    event_triggers: dict[str, TriggerMark]
    slot: SlotMark | None
    settings: dict[str, str]
    """As new sessions have them, unless an override says otherwise."""
    overrides: dict[str, str]
    """`role@database setting` → value; `*` stands for every role, or every database."""
    lsn: str
    """How far the server's WAL was written: what this shows was committed before it."""

    @property
    def position(self) -> int:
        """`lsn` as a number."""
        return parse_lsn(self.lsn)


class Incident(msgspec.Struct, frozen=True):
    """Capture is broken, and not yet whole again."""

    since: str
    reason: str
    from_lsn: int
    oids: tuple[int, ...] | None
    """Tables concerned; None: all."""
    wishes: tuple[str, ...]
    """Held until capture is whole again."""


class Baseline(msgspec.Struct, frozen=True):
    """Content of `BASELINE_FILE`: how it should be, and until when it is known to have been so."""

    fingerprint: Fingerprint
    good_lsn: int
    """Everything up to this cut came through."""
    incident: Incident | None = None


def take_fingerprint(conn: psycopg.Connection[Any], publication: str, slot: str) -> Fingerprint:
    """How the server is now."""
    with conn.cursor(row_factory=tuple_row, binary=False) as cursor:
        row = cursor.execute(QUERY.encode(), {"publication": publication, "slot": slot}).fetchone()
    assert row is not None
    return msgspec.json.decode(row[0], type=Fingerprint)


def write_baseline(state_dir: Path, baseline: Baseline | Fingerprint) -> None:
    """Durably. A `Fingerprint` alone (of `protect`, or of an owner who accepts what is now): known good up to its LSN."""
    if isinstance(baseline, Fingerprint):
        baseline = Baseline(baseline, baseline.position)
    replace_file(state_dir / BASELINE_FILE, msgspec.json.encode(baseline))


def replace_baseline(state_dir: Path, was: Baseline, now: Baseline) -> None:
    """`now` in the place of `was`, unless `protect` has written another one meanwhile: then that one holds."""
    if read_baseline(state_dir) == was:
        write_baseline(state_dir, now)


def read_baseline(state_dir: Path) -> Baseline | None:
    """None: this database was never protected, or the file is gone. ConfigError for one that cannot be read."""
    path = state_dir / BASELINE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}.", "Run `ballast protect` again: it writes a new one."
        ) from None
