"""`recording`: a database whose changes a real recorder process records, and what it wrote down.

The recorder runs as `ballast record` does, in a process of its own that tests may kill; only the sealer is left out,
so that what was recorded stays in the spool and can be looked at.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.postgres import pgoutput
from ballast.postgres.lsn import parse_lsn
from ballast.vault import config, frames, health
from ballast.vault.arming import StandbyRecord, read_record
from ballast.vault.config import Config, Record
from ballast.vault.health import RecorderHealth
from ballast.vault.records import Genesis, Timeline
from ballast.vault.signing import KEY_FILE, create_key
from ballast.vault.spoolfiles import listed
from ballast.vault.token import settle_token
from ballast.vault.vault import Vault
from tests.fix_postgres import Connection, Database

_RECORD = """
import sys
from pathlib import Path
from ballast.vault.recorder import Recorder
from ballast.errors import BallastError
try:
    Recorder(Path(sys.argv[1]), sealing=sys.argv[2] == "True").run()
except BallastError as error:
    sys.exit(str(error))
"""

TOKEN = "0123456789abcdef" * 2
_UNWAITED = "-c synchronous_commit=local"


class Recording:
    """A database with a table `t (id, body)`, a slot, a publication, a vault with its first timeline."""

    sealing = False
    """Whether the recorder runs with its sealer and the others; what was recorded does not stay in the spool then."""

    def __init__(self, db: Database, folder: Path, **record: Any) -> None:
        self.db, self.folder = db, folder
        self.config_path = folder / "ballast.toml"
        self.config = Config(
            dsn=db.dsn, vault=str(folder / "vault"), state_dir=folder / "state", record=Record(**record)
        )
        self.slot = self.config.slot
        self.log_path = folder / "recorder.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        self.protect()
        config.write(self.config, self.config_path)

    def protect(self) -> None:
        """What `ballast protect` leaves behind, as far as the recorder cares."""
        self.db.run("CREATE TABLE t (id bigint PRIMARY KEY, body text)")
        self.publish()
        ((lsn,),) = self.db.query(
            "SELECT lsn FROM pg_create_logical_replication_slot(%s, 'pgoutput')", self.config.slot
        )
        ((system,),) = self.db.query("SELECT system_identifier::text FROM pg_control_system()")
        self.config.state_dir.mkdir()
        settle_token(self.config.state_dir, TOKEN)
        key = create_key(self.config.state_dir / KEY_FILE)
        vault = Vault.create(
            self.config.vault, Genesis(1, "test-vault", key.public, 16, "tests"), state_dir=self.config.state_dir
        )
        vault.append(
            Timeline(1, system, self.db.name, self.db.major * 10000, self.config.slot, "ballast", parse_lsn(lsn))
        )

    def publish(self) -> None:
        """What must be there before the slot."""
        self.db.run("CREATE PUBLICATION ballast FOR ALL TABLES WITH (publish_via_partition_root = false)")

    def configure(self, **record: Any) -> None:
        """Change settings of [record]; they hold from the next start."""
        self.config = msgspec.structs.replace(self.config, record=msgspec.structs.replace(self.config.record, **record))
        config.write(self.config, self.config_path)

    # The process

    def start(self, *, fail: str = "", until: str | None = "recording", limits: str = "") -> None:
        """Start the recorder and wait for a state. `fail` is its BALLAST_FAIL; `limits` a shell command before it."""
        env = {**os.environ, "BALLAST_FAIL": fail}
        command = [sys.executable, "-c", _RECORD, str(self.config_path), str(self.sealing)]
        if limits:
            command = ["/bin/bash", "-c", f'{limits}; exec "$@"', "bash", *command]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        self.started.append(self.process)
        if until is not None:
            self.wait_for(until)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(30)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """A crash of the recorder."""
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(30)

    def died(self, timeout_s: float = 30.0) -> int:
        """Wait for it to end by itself; the exit code (negative: the signal)."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    @property
    def health(self) -> RecorderHealth:
        """What the recorder last said of itself; state "starting" before that."""
        found = health.read_state(self.config.state_dir, health.RECORDER_FILE, RecorderHealth)
        if found is None or self.process is None or found.pid != self.process.pid:
            return RecorderHealth(0, "starting", "", "")
        return found

    @property
    def standby(self) -> StandbyRecord:
        """Its part in synchronous_standby_names."""
        return read_record(self.config.state_dir)

    def wait_for(self, state: str, timeout_s: float = 30.0) -> RecorderHealth:
        """Until it is in that state."""
        self.until(lambda: self.health.state == state, f"state {state}", timeout_s)
        return self.health

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
        """Until a condition holds; fails with the recorder's log."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s:g} s for {what}; {self.health}\n{self.log_path.read_text()[-4000:]}")
            time.sleep(0.05)

    def armed(self) -> None:
        """Until production waits for it."""
        self.until(lambda: self.health.armed and self.sync_state() in ("sync", "quorum"), "it to be armed")

    def log(self, event: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        lines = []
        for line in self.log_path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return [line for line in lines if line["event"] == event]

    # Production

    def session(self, **options: Any) -> Connection:
        """A connection of an application: its commits wait."""
        return self.db.connect(**options)

    def admin(self) -> Connection:
        """A connection that waits for nobody."""
        return self.db.connect(options=_UNWAITED)

    def sync_state(self) -> str | None:
        """As pg_stat_replication has it."""
        with psycopg.connect(self.db.dsn, autocommit=True, options=_UNWAITED) as conn:
            row = conn.execute(
                "SELECT sync_state FROM pg_stat_replication WHERE application_name = %s", (self.slot,)
            ).fetchone()
        return row[0] if row else None

    def standby_names(self) -> str:
        """The setting, as a new session sees it."""
        ((names,),) = self.db.query("SHOW synchronous_standby_names")
        return str(names)

    # What was recorded

    def commits(self) -> list[list[int]]:
        """The ids inserted into `t`, for each whole transaction in the spool, in order."""
        found = []
        names: dict[int, str] = {}
        for payload in self.payloads():
            ids: list[int] = []
            inside = False
            for _, message in frames.messages(payload):
                decoded = pgoutput.decode(message)
                if isinstance(decoded, pgoutput.Begin):
                    assert not inside, "a transaction begins inside another"
                    ids, inside = [], True
                elif isinstance(decoded, pgoutput.Relation):
                    names[decoded.oid] = decoded.name
                elif isinstance(decoded, pgoutput.Insert) and names[decoded.oid] == "t":
                    assert isinstance(decoded.new[0], bytes)
                    ids.append(int(decoded.new[0]))
                elif isinstance(decoded, pgoutput.Commit):
                    assert inside, "a transaction ends that did not begin"
                    found.append(ids)
                    inside = False
            assert not inside, "a file ends inside a transaction"
        return found

    def ids(self) -> set[int]:
        """All of them; fails if one was recorded twice."""
        every = [i for ids in self.commits() for i in ids]
        assert len(every) == len(set(every)), "recorded twice"
        return set(every)

    def payloads(self) -> Iterator[bytes]:
        """Each file's messages up to its last whole commit; files must follow each other without a hole."""
        files = listed(self.config.spool_dir, "spool") + listed(self.config.spool_dir, "open")
        at = None
        for _, path in sorted(files):
            with path.open("rb") as file:
                head, start, seed = frames.read_header(file)
                assert at is None or head.start_lsn == at or head.gap_from == at, f"{path} does not follow"
                at, whole, rest = head.start_lsn, b"", b""
                for frame in frames.read_frames(file, start, seed, path.stat().st_size):
                    rest += frame.payload
                    if frame.committed:
                        at, whole, rest = frame.end_lsn, whole + rest, b""
            yield whole


class Clients:
    """Sessions that insert ids, each its own range, and write down every one whose commit was acknowledged.

    Each waits for `pause_s` after a commit: hundreds of commits a second are load enough, and what was written is read back
    in the end. `body_bytes` is the length of the longest row's text; who wants to fill a disk asks for long ones.
    """

    def __init__(
        self, dsn: str, count: int, *, first: int = 1_000_000, pause_s: float = 0.01, body_bytes: int = 300
    ) -> None:
        self._dsn, self._first, self._pause_s, self._body_bytes = dsn, first, pause_s, body_bytes
        self._stop = threading.Event()
        self.acknowledged: set[int] = set()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self, number: int) -> None:
        following = self._first * (number + 1)
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as conn:
                    while not self._stop.is_set():
                        following += 1  # an id whose fate is unknown is not used again
                        length = following * 7919 % self._body_bytes  # of all lengths from the first on
                        conn.execute("INSERT INTO t VALUES (%s, repeat('x', %s))", (following, length))
                        self.acknowledged.add(following)
                        self._stop.wait(self._pause_s)
            except psycopg.Error:
                time.sleep(0.05)

    def stop(self) -> set[int]:
        """What was acknowledged. Somebody must be there to let waiting commits go."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a commit hangs"
        return self.acknowledged


@pytest.fixture
def new_recording(open_folder: Path) -> Iterator[Callable[..., Recording]]:
    """Makes a `Recording` on a database: `new_recording(pg18, acknowledge="off")`."""
    made: list[Recording] = []

    def new(db: Database, **record: Any) -> Recording:
        folder = open_folder / f"recording{len(made)}"
        folder.mkdir()
        made.append(Recording(db, folder, **record))
        return made[-1]

    yield new
    for recording in made:
        recording.configure(on_recorder_loss="wait")  # watchdogs see it and end
        for process in recording.started:
            if process.poll() is None:
                process.kill()
                process.wait()
