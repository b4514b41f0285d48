"""`protected`: a database under protection as its owner has it: `protect`, a recorder with its sealer, the vault.

What a test asks for is nearly always the same: change rows and structure, remember what production showed at some cuts,
and hold the vault's answer for those cuts beside it.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from ballast.postgres import read_catalog
from ballast.postgres.snapshot import snapshot_at_cut
from ballast.vault import catalogfile, config, health, verify, wish
from ballast.vault.config import Config, Record, Tenants
from ballast.vault.health import RecorderHealth, SealerHealth
from ballast.vault.order import bytes_of
from ballast.vault.protect import Outcome, protect
from ballast.vault.read import rows
from ballast.vault.records import SHARED_BUCKET, ByColumn, Cut, Relation
from ballast.vault.tables import UNRECORDED
from ballast.vault.vault import Vault
from tests.fix_postgres import Connection, Database

BUCKETS = 64
Rows = dict[str, list[bytes]]
"""Table (`schema.name`) to its sorted COPY lines."""


class Silent:
    """A watcher of `protect` that shows nothing."""

    def say(self, line: str) -> None:
        pass

    def begin(self, stage: str, rows: int) -> None:
        pass

    def advance(self, rows: int) -> None:
        pass


class Look(msgspec.Struct, frozen=True):
    """What production showed at a cut."""

    cut: Cut
    rows: Rows


class Protected:
    """A database, its vault and its recorder."""

    def __init__(
        self, db: Database, folder: Path, tenants: Tenants, *, vault: str | None = None, **record: Any
    ) -> None:
        self.db, self.folder = db, folder
        self.config_path = folder / "ballast.toml"
        settings = {"seal_after_s": 0.3, "check_every_s": 1.0, **record}
        self.config = Config(
            dsn=db.dsn, vault=vault or str(folder / "vault"), state_dir=folder / "state", tenants=tenants,
            record=Record(**settings),
        )  # fmt: skip
        config.write(self.config, self.config_path)
        self.log_path = folder / "recorder.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.started: list[subprocess.Popen[bytes]] = []

    def protect(self) -> Outcome:
        """`ballast protect`, with fewer buckets than a vault of thousands of tenants has: each look reads all of them."""
        with pytest.MonkeyPatch.context() as fewer:
            fewer.setattr("ballast.vault.protect.BUCKETS", BUCKETS)
            return protect(self.config, self.config_path, self.config.dsn, Silent())

    # The recorder

    def start(self, *, fail: str = "", armed: bool = True) -> None:
        """`ballast record`; returns when production waits for it."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ballast.vault.recorder", "--config", str(self.config_path)],
                env={**os.environ, "BALLAST_FAIL": fail}, stdout=log, stderr=log,
            )  # fmt: skip
        self.started.append(self.process)
        if armed:
            self.until(lambda: self.health.state == "recording" and self.health.armed, "the recorder to be armed")

    def stop(self) -> None:
        """SIGTERM: everything recorded is in the vault afterwards."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(120) == 0, self.tail()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def end(self) -> None:
        """Kill whatever lives."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()

    @property
    def health(self) -> RecorderHealth:
        """What the running recorder says of itself."""
        found = health.read_state(self.config.state_dir, health.RECORDER_FILE, RecorderHealth)
        if found is None or self.process is None or found.pid != self.process.pid:
            return RecorderHealth(0, "starting", "", "")
        return found

    @property
    def sealed_lsn(self) -> int:
        """How far the sealer says that it has come."""
        found = health.read_state(self.config.state_dir, health.SEALER_FILE, SealerHealth)
        return found.sealed_lsn if found is not None else 0

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
        """Until a condition holds; fails with the recorder's log."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited {timeout_s:g} s for {what}; {self.health}\n{self.tail()}")
            time.sleep(0.05)

    def sealed(self, cut: Cut) -> None:
        """Until the vault holds everything before the cut."""
        if self.sealed_lsn < cut.lsn:
            wish.leave(self.config.state_dir, "seal", cut.timeline, "a test looks", to_lsn=cut.lsn)
        self.until(lambda: self.sealed_lsn >= cut.lsn, f"{cut} to be sealed")

    def wishes_granted(self) -> None:
        """Until nothing is wished for any more."""
        state = self.config.state_dir
        self.until(lambda: not wish.pending(state) and not catalogfile.is_there(state), "wishes to be granted", 90)

    def tail(self) -> str:
        """The end of its log."""
        return self.log_path.read_text()[-4000:] if self.log_path.exists() else "no log"

    # Production

    def session(self) -> Connection:
        """A connection of the application."""
        return self.db.connect()

    def look(self) -> Look:
        """What production shows now, and at which cut that is."""
        with snapshot_at_cut(self.db.dsn) as (conn, lsn):
            return Look(Cut(self.timeline, lsn), table_rows(conn))

    @property
    def timeline(self) -> int:
        """The newest timeline."""
        return self.vault().index.newest_timeline

    # The vault

    def vault(self) -> Vault:
        """Opened anew."""
        return Vault.open(self.config.vault)

    def verified(self) -> None:
        """`ballast verify` finds nothing."""
        report = verify.verify(self.vault())
        assert not report.faults, report.faults


def table_rows(conn: psycopg.Connection[Any]) -> Rows:
    """Every logged table's rows, without generated columns."""
    found: Rows = {}
    for table in read_catalog(conn).tables:
        if table.kind != "r" or table.schema in UNRECORDED or table.persistence != "p":
            continue
        columns = sorted((c for c in table.columns if not c.generated), key=lambda c: c.attnum)
        query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT").format(
            sql.SQL(", ").join(sql.Identifier(c.name) for c in columns), sql.Identifier(table.schema, table.name)
        )
        with conn.cursor().copy(query) as copy:
            found[f"{table.schema}.{table.name}"] = sorted(b"".join(bytes(block) for block in copy).splitlines())
    return found


def vault_rows(vault: Vault, cut: Cut, *, tenant: str | None = None, of_tenant: bool = False) -> Rows:
    """The vault's rows at the cut by table: of all tenants bucket by bucket, or of one tenant (None: the shared ones)."""
    found: Rows = {relation.qualified: [] for relation in vault.relations_at(cut).values()}
    if of_tenant:
        chunks = [rows(vault, cut, tenant=tenant)]
    else:
        chunks = [rows(vault, cut, bucket=b) for b in (SHARED_BUCKET, *range(vault.index.genesis.buckets))]
    for chunk in (chunk for part in chunks for chunk in part):
        data, offsets = bytes_of(chunk.lines)
        lines = data[offsets[0] : offsets[-1]].tobytes().splitlines()
        found.setdefault(chunk.relation.qualified, []).extend(lines)
    return {name: sorted(lines) for name, lines in found.items()}


def assert_equal(vault: Vault, look: Look, *, but: Collection[str] = ()) -> None:
    """The vault at the look's cut is what production showed: all rows by bucket, and each tenant's alone."""
    whole = vault_rows(vault, look.cut)
    for table, expected in look.rows.items():
        if table not in but:
            assert whole.get(table, []) == expected, f"{table} at {look.cut}"
    assert {t for t, lines in whole.items() if lines} <= look.rows.keys(), "tables that production does not have"
    relations = {r.qualified: r for r in vault.relations_at(look.cut).values()}
    by_column = {
        t: r for t, r in relations.items() if isinstance(r.tenant, ByColumn) and t in look.rows and t not in but
    }
    names = {name for table, relation in by_column.items() for name in tenants_in(look.rows[table], relation)}
    for name in sorted(names, key=lambda n: n or "")[:8]:
        alone = vault_rows(vault, look.cut, tenant=name, of_tenant=True)
        for table, relation in by_column.items():
            expected = [line for line in look.rows[table] if tenant_of(line, relation) == name]
            assert alone[table] == expected, f"{table} of tenant {name!r} at {look.cut}"


def tenants_in(lines: Collection[bytes], relation: Relation) -> set[str | None]:
    """Every tenant among the lines."""
    return {tenant_of(line, relation) for line in lines}


def tenant_of(line: bytes, relation: Relation) -> str | None:
    """The tenant column's text."""
    assert isinstance(relation.tenant, ByColumn)
    value = line.split(b"\t")[relation.row_columns.index(relation.tenant.attnum)]
    if value == b"\\N":
        return None
    for escaped, char in ((b"\\t", b"\t"), (b"\\n", b"\n"), (b"\\\\", b"\\")):
        value = value.replace(escaped, char)
    return value.decode()


@pytest.fixture
def new_protected(open_folder: Path) -> Iterator[Callable[..., Protected]]:
    """Makes a `Protected`: `new_protected(pg18, Tenants(column="shop"))`; the schema must be there before `protect()`."""
    made: list[Protected] = []

    def new(db: Database, tenants: Tenants, **record: Any) -> Protected:
        folder = open_folder / f"protected{len(made)}"
        folder.mkdir()
        made.append(Protected(db, folder, tenants, **record))
        return made[-1]

    yield new
    for protected in made:
        protected.end()
