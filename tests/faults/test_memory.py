"""A million-row transaction, and 200 MB of one tenant, pass with little memory: recorder, sealer, merge and restore.

What is measured is the most that each process ever had (VmHWM), read from outside while it lives.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped,unused-ignore]
import psycopg
import pytest

from ballast.vault import wish
from ballast.vault.verify import verify
from tests.fix_pipeline import Pipeline, peak_bytes
from tests.fix_postgres import Database

New = Callable[..., Pipeline]

LIMIT = {"recorder": 60, "sealer": 340, "imager": 340, "merge": 640, "restore": 800}
"""MB. Recorder and sealer are held to what was promised, 400 MB for the two of them; a merge and a
restore read many runs side by side, each a row group or so, and must not need the tenant's size either."""
TABLE = "CREATE TABLE big (shop int, id int, body text, n int NOT NULL DEFAULT 0, PRIMARY KEY (shop, id))"
MODULES = ("recorder", "sealer", "merge", "imager", "restore")


class Peaks:
    """The most memory of every process below this one that runs a part of Ballast."""

    def __init__(self) -> None:
        self.bytes = dict.fromkeys(MODULES, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        # The kernel keeps the most: looking seldom misses nothing of who lives for seconds, and looking costs.
        while not self._stop.wait(0.2):
            for process in psutil.Process().children(recursive=True):
                try:
                    words = process.cmdline()
                    peak = peak_bytes(process.pid)
                except (psutil.Error, OSError, AssertionError):
                    continue
                for module in MODULES:
                    if f"ballast.vault.{module}" in words or (module == "restore" and words[3:4] == ["restore"]):
                        self.bytes[module] = max(self.bytes[module], peak)

    def end(self) -> dict[str, int]:
        """In MB."""
        self._stop.set()
        self._thread.join()
        return {module: found >> 20 for module, found in self.bytes.items() if found}


def restored(pipeline: Pipeline, tenant: str) -> tuple[Database, float]:
    """`ballast restore` of one tenant into a database of its own, and how many seconds it took."""
    to = pipeline.db.another()
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ballast.cli", "restore", "--vault", pipeline.config.vault, "--into", to.dsn, "--tenant", tenant],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return to, time.monotonic() - began


def digest(dsn: str, tenant: str) -> tuple[object, ...] | None:
    """Rows of a tenant and a sum over all their values."""
    with psycopg.connect(dsn, options="-c synchronous_commit=local") as conn:
        return conn.execute(
            "SELECT count(*), sum(hashtextextended(ROW(big.*)::text, 0)) FROM big WHERE shop = %s", (tenant,)
        ).fetchone()


def pass_through(pipeline: Pipeline, *statements: str) -> float:
    """Each in a transaction of its own; seconds until all is in the vault."""
    began = time.monotonic()
    with pipeline.session() as conn:
        for statement in statements:
            conn.execute(statement.encode())
    with psycopg.connect(pipeline.db.dsn) as conn:
        row = conn.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    pipeline.until(lambda: pipeline.health.durable_lsn >= row[0], "it to be recorded", 120)
    wish.leave(pipeline.config.state_dir, "seal", pipeline.timeline, "a test looks", to_lsn=row[0])
    pipeline.until(lambda: pipeline.sealed_lsn >= row[0], "it to be sealed", 180)
    return time.monotonic() - began


def in_bounds(peaks: dict[str, int], record_property: Callable[[str, object], None], **seconds: float) -> None:
    """Each as promised, and told to whoever reads the results."""
    for name, value in {
        **{f"{m}_mb": mb for m, mb in peaks.items()},
        **{n: round(s, 1) for n, s in seconds.items()},
    }.items():
        record_property(name, value)
    print("\nmost memory (MB):", peaks, "seconds:", {name: round(value, 1) for name, value in seconds.items()})
    assert {"recorder", "sealer", "restore"} <= peaks.keys()
    assert not {module: peak for module, peak in peaks.items() if peak >= LIMIT[module]}


@pytest.mark.timeout(420)
def test_a_transaction_of_a_million_rows(
    pg18: Database, new_pipeline: New, record_property: Callable[[str, object], None]
) -> None:
    pipeline = new_pipeline(pg18, TABLE, seal_after_s=1.0)
    peaks = Peaks()
    pipeline.start()
    sealing_s = pass_through(
        pipeline,
        "INSERT INTO big SELECT g % 50, g, 'row ' || g FROM generate_series(1, 1000000) g",
        "UPDATE big SET n = n + 1 WHERE shop < 10",
        "DELETE FROM big WHERE shop = 49",
    )
    to, restore_s = restored(pipeline, "7")
    assert digest(to.dsn, "7") == digest(pg18.dsn, "7")
    pipeline.stop()
    in_bounds(peaks.end(), record_property, sealing_s=sealing_s, restore_s=restore_s)
    report = verify(pipeline.vault(), state_dir=pipeline.config.state_dir)
    assert not report.faults
    assert report.counts["rows"] >= 1_220_000


@pytest.mark.deep
@pytest.mark.timeout(420)
@pytest.mark.parametrize("transactions", [1, 40])
def test_two_hundred_megabytes_of_one_tenant(
    pg18: Database, new_pipeline: New, record_property: Callable[[str, object], None], transactions: int
) -> None:
    """Texts that hardly compress; in one transaction or many, which are then merged."""
    pipeline = new_pipeline(pg18, TABLE, seal_after_s=1.0, merge_every_s=2.0)
    rows = 200_000 // transactions
    text = "(SELECT string_agg(md5(g::text || h), '') FROM generate_series(1, 32) h)"
    statements = [
        f"INSERT INTO big SELECT 1, g, {text} FROM generate_series({n * rows + 1}, {(n + 1) * rows}) g"
        for n in range(transactions)
    ]
    peaks = Peaks()
    pipeline.start()
    sealing_s = pass_through(
        pipeline, *statements, "INSERT INTO big SELECT g, 0, 'other' FROM generate_series(2, 50) g"
    )
    if transactions > 1:
        pipeline.until(lambda: pipeline.lines(event="merged"), "a merge", 120)
    else:
        wish.leave(pipeline.config.state_dir, "image", pipeline.timeline, "a test wishes for one")
        pipeline.until(lambda: pipeline.lines(event="imaged"), "an image", 120)
    to, restore_s = restored(pipeline, "1")
    assert digest(to.dsn, "1") == digest(pg18.dsn, "1")
    pipeline.stop()
    in_bounds(peaks.end(), record_property, sealing_s=sealing_s, restore_s=restore_s)
