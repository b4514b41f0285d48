"""`new_pipeline`: a protected database under load, and the whole way from a commit to the vault, which tests break.

Clients write down each id that was acknowledged to them. Every insert of theirs also changes, moves and deletes rows of
other tables (a trigger does), so that what is compared in the end is more than inserts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil  # type: ignore[import-untyped,unused-ignore]
import pytest

from ballast.vault import config, health, verify
from ballast.vault.batch import intended
from ballast.vault.config import Tenants
from ballast.vault.records import Cut
from tests.fix_postgres import Database
from tests.fix_protected import Look, Protected, assert_equal, vault_rows
from tests.fix_recorder import Clients

SHOPS = Tenants(column="shop", shared=("public.seen",))
# `t` has no key: a change that came into the vault twice shows there as two rows.
TABLES = (
    "CREATE TABLE t (id bigint, body text, shop int NOT NULL DEFAULT (random() * 7)::int)",
    "CREATE TABLE item (shop int, id int, n int NOT NULL DEFAULT 1, body text, PRIMARY KEY (shop, id))",
    "CREATE TABLE seen (shard int PRIMARY KEY, times bigint NOT NULL)",
    "INSERT INTO item SELECT g % 5, g, 1, 'there from the beginning' FROM generate_series(1, 200) g",
    """CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE mine int := NEW.id / 1000000; which int := NEW.id % 20;
    BEGIN
        IF NEW.id % 7 = 0 THEN
            DELETE FROM item WHERE shop = mine + 100 AND id = which;
            UPDATE item SET shop = mine + 100 WHERE shop = mine AND id = which;
        ELSE
            INSERT INTO item VALUES (mine, which, 1, NEW.body)
                ON CONFLICT (shop, id) DO UPDATE SET n = item.n + 1, body = EXCLUDED.body;
        END IF;
        INSERT INTO seen VALUES (mine, 1) ON CONFLICT (shard) DO UPDATE SET times = seen.times + 1;
        RETURN NULL;
    END $$""",
    "CREATE TRIGGER busy AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION busy()",
)


class Pipeline(Protected):
    """`Protected` with the tables above and with what it takes to break it."""

    def clients(self, count: int = 4, *, body_bytes: int = 300) -> Clients:
        """Sessions that write until they are stopped, some twenty times a second each."""
        return Clients(self.db.dsn, count, pause_s=0.04, body_bytes=body_bytes)

    def children(self, module: str) -> list[psutil.Process]:
        """The recorder's living children that run this module of the vault."""
        assert self.process is not None
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if f"ballast.vault.{module}" in child.cmdline():
                        found.append(child)
        return found

    def kill_child(self, module: str) -> bool:
        """SIGKILL; whether there was one."""
        for child in self.children(module):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
                return True
        return False

    def at_work(self, module: str, timeout_s: float) -> None:
        """Until such a child has something in hand (not only its libraries to load), for so long at most."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and not self._has_in_hand(module):
            time.sleep(0.01)

    def _has_in_hand(self, module: str) -> bool:
        state = self.config.state_dir
        if module == "sealer":
            found = health.read_state(state, health.SEALER_FILE, health.SealerHealth)
            return found is not None and found.state == "sealing" and psutil.pid_exists(found.pid)
        folder = state / ("merge" if module == "merge" else "scratch/image")
        return folder.exists() and bool(self.children(module))  # looking through all processes costs more

    def lines(self, **wanted: object) -> list[dict[str, Any]]:
        """The log's lines with these fields, of all processes."""
        return [line for line in log_lines(self.log_path) if wanted.items() <= line.items()]

    def deaths(self, child: str) -> int:
        """How often a child was killed."""
        return len([line for line in self.lines(event="child_ended", child=child) if line["exit_code"] == -9])

    def ids(self, cut: Cut) -> Counter[int]:
        """The ids of `t` in the vault, and how often each is there."""
        return Counter(int(line.split(b"\t")[0]) for line in vault_rows(self.vault(), cut)["public.t"])

    def check(self, acknowledged: set[int], *, at_least: int = 50) -> Look:
        """The promise: what was acknowledged is in the vault once, all is as production has it, and the vault is sound.

        The recorder must run."""
        assert len(acknowledged) >= at_least
        look = self.look()
        self.sealed(look.cut)
        self.check_vault(acknowledged, look)
        return look

    def check_vault(self, acknowledged: set[int], look: Look) -> None:
        """The same of what is sealed."""
        ids = self.ids(look.cut)
        assert not acknowledged - ids.keys(), "acknowledged, and not in the vault"
        assert not [i for i, times in ids.items() if times > 1], "in the vault twice"
        vault = self.vault()
        assert_equal(vault, look)
        assert not vault.index.gaps
        report = verify.verify(vault, state_dir=self.config.state_dir)
        assert not report.faults, report.faults

    def check_nothing_is_left(self) -> None:
        """After an orderly end: no spool file waits, no batch is unaccounted for."""
        assert not list(self.config.spool_dir.glob("*.spool"))
        assert intended(self.config.state_dir) == set()


def log_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that are JSON."""
    import json

    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def peak_bytes(pid: int) -> int:
    """The most memory that a living process has had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Until it holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def new_pipeline(open_folder: Path) -> Iterator[Callable[..., Pipeline]]:
    """Makes a `Pipeline`, protected but not recorded yet: `new_pipeline(pg18, seal_after_s=0.1)`."""
    made: list[Pipeline] = []

    def new(db: Database, *tables: str, vault: str | None = None, **record: Any) -> Pipeline:
        db.run(*(tables or TABLES))
        folder = open_folder / f"pipeline{len(made)}"
        folder.mkdir()
        tenants = SHOPS if not tables else Tenants(column="shop")
        made.append(Pipeline(db, folder, tenants, vault=vault, **record))
        made[-1].protect()
        return made[-1]

    yield new
    for pipeline in made:
        record = msgspec.structs.replace(pipeline.config.record, on_recorder_loss="wait")  # watchdogs see it and end
        config.write(msgspec.structs.replace(pipeline.config, record=record), pipeline.config_path)
        pipeline.end()
