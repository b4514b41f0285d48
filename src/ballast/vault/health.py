"""The recorder's state as others see it: small JSON files in the state folder, replaced whole, and one lock.

recorder.lock    held (flock) by the one recorder of this state folder while it lives
recorder.json    `RecorderHealth`, written every second; older than a few seconds means: not running, or stuck
sealer.json      `SealerHealth`, written by the sealer
gap.json         `PendingGap`: found, and not yet in the vault; acknowledging waits for whoever writes it there
server.json      `ServerSeen`: which of the server's own timelines was recorded last
verified.json    `Verified`: the last `ballast verify` that knew of this folder
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from ballast.errors import ConfigError
from ballast.vault.durable import make_folder

RECORDER_FILE = "recorder.json"
SEALER_FILE = "sealer.json"
NONCE_VARIABLE = "BALLAST_RECORDER"
"""Names the recorder that started it to its sealer (in the environment)."""
GAP_FILE = "gap.json"
SERVER_FILE = "server.json"
VERIFIED_FILE = "verified.json"
LOCK_FILE = "recorder.lock"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

State = Literal[
    "starting",  # the spool is made whole, the vault is asked where to begin
    "connecting",  # no stream; see `reason`
    "catching_up",  # streaming what was committed while nobody recorded
    "recording",
    "blind",  # somebody has made the stream incomplete; see `reason`
    "gap",  # the server has thrown away what was not recorded yet; a new image is due
    "spool_full",  # no room on the disk, or the limit is reached
    "slot_lost",  # the slot is missing or invalidated
    "fork",  # the server is another one, or lacks commits that were recorded: ended, somebody must decide
    "stopped",
]

PROTECTING: frozenset[State] = frozenset({"recording", "catching_up"})
"""States in which commits reach the spool."""


class RecorderHealth(msgspec.Struct, frozen=True):
    """What `status` shows of the recorder. LSNs are numbers, 0 where there is none yet; times are ISO, UTC."""

    pid: int
    state: State
    since: str
    """When it came into this state."""
    written_at: str
    reason: str = ""
    """Why it is in a state that is none of `PROTECTING`, and what to do."""
    timeline: int = 0
    acknowledge: str = ""
    durable_lsn: int = 0
    """Everything before it is fsynced here."""
    received_lsn: int = 0
    acknowledged_lsn: int = 0
    """What production was told."""
    last_commit_at: str | None = None
    """Commit time (production's clock) of the newest recorded commit."""
    lag_bytes: int | None = None
    """WAL that production has written and the recorder has not yet; None: unknown."""
    spool_files: int = 0
    spool_bytes: int = 0
    batches: int = 0
    """Since this process started; so are the following."""
    commits: int = 0
    reconnects: int = 0
    commits_per_s: float = 0.0
    """Over the last second."""
    armed: bool = False
    """Whether production waits for this recorder: RPO 0 while it is."""
    not_armed_because: str = ""
    exposed_since: str | None = None
    """Commits have not been waiting for any recorder since then …"""
    exposed_lsn: int | None = None
    """… and from this position on: they can be lost with production until it is armed again."""
    slot_held_bytes: int | None = None
    """WAL that production keeps for the slot."""
    slot_limit_bytes: int | None = None
    """How much it may keep (max_slot_wal_keep_size); None: no limit, it keeps all."""
    alarms: tuple[str, ...] = ()


SealerState = Literal["sealing", "waiting", "store_away", "fenced", "stuck", "stopped"]


class SealerHealth(msgspec.Struct, frozen=True):
    """What `status` shows of the sealer, which turns closed spool files into segments."""

    pid: int
    state: SealerState
    written_at: str
    reason: str
    """Why it is in a state other than sealing and waiting, and what to do."""
    timeline: int
    sealed_lsn: int
    """Everything before it is in the vault."""
    segments: int
    """Since this process started; so are the rows."""
    rows: int
    waiting_files: int
    """Closed spool files that are not in the vault yet."""
    waiting_bytes: int
    trouble_since: str | None = None
    """Since when it is in a state in which nothing reaches the vault; None: it is in none."""
    started_by: str = ""
    """The nonce of the recorder whose child it is: what another one left behind says nothing of this one's stream."""


class PendingGap(msgspec.Struct, frozen=True):
    """The server no longer has what lies between these cuts, and neither has the vault."""

    timeline: int
    from_lsn: int
    to_lsn: int
    reason: str
    detected_at: str


class ServerSeen(msgspec.Struct, frozen=True):
    """The timeline (PostgreSQL's own number, as in WAL file names) of the server that was recorded last."""

    timeline: int


class Verified(msgspec.Struct, frozen=True):
    """What the last walk through the vault found."""

    at: str
    vault: str
    """Its URL."""
    sound: bool
    faults: int
    entries: int
    deep: bool
    """Whether the order of rows and the sums of merges were looked at too."""


def now_iso() -> str:
    """This moment as state files and ledger entries spell it: ISO, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


T = TypeVar("T", bound=msgspec.Struct)


def write_state(folder: Path, name: str, value: msgspec.Struct) -> None:
    """Replace a state file at once. Not synced: after a power cut it may be the former one, or none."""
    content, staged = msgspec.json.encode(value), folder / f".{name}.{os.getpid()}"
    try:
        staged.write_bytes(content)
        staged.replace(folder / name)
    except OSError as error:
        staged.unlink(missing_ok=True)
        if error.errno not in NO_ROOM or not (folder / name).exists():
            raise
        _overwrite(folder / name, content)


def _overwrite(path: Path, content: bytes) -> None:
    """Where the disk is full: into the block that the file has. It is then that people look what the matter is."""
    with path.open("r+b", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, len(content))  # where there is no room for it, nothing is changed
        file.write(content.ljust(path.stat().st_size))


def read_state(folder: Path, name: str, kind: type[T]) -> T | None:
    """The state file's content; None where there is none or it was not written by this version."""
    try:
        return msgspec.json.decode((folder / name).read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


@contextlib.contextmanager
def only_one(folder: Path, lock_file: str = LOCK_FILE) -> Iterator[None]:
    """Be the only recorder of this state folder; ConfigError if another one lives."""
    for _ in range(10):  # somebody may just be looking whether it is held
        lock = _lock(folder, lock_file)
        if lock is not None:
            break
        time.sleep(0.02)
    if lock is None:
        other = read_state(folder, RECORDER_FILE, RecorderHealth)
        who = f" (process {other.pid})" if other is not None else ""
        raise ConfigError(
            f"Another recorder{who} works with the state folder {folder}.",
            "Stop it first. A second recorder needs a state_dir and a slot of its own.",
        )
    try:
        yield
    finally:
        os.close(lock)


def is_held(folder: Path, lock_file: str = LOCK_FILE) -> bool:
    """Whether the process that holds this lock lives."""
    if not (folder / lock_file).exists():
        return False
    lock = _lock(folder, lock_file)
    if lock is None:
        return True
    os.close(lock)
    return False


def _lock(folder: Path, name: str) -> int | None:
    make_folder(folder)
    # Not inherited by children: a sealer that outlives the recorder must not keep the next recorder out.
    lock = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock
