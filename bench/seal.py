"""Sealing: row changes a second that one core turns from spool files into segments of the vault.

The changes are TPC-B transactions (three updates, one insert each), recorded by the real recorder without a sealer. Then
the sealer's code runs alone, pinned to one core. The baseline is reading the same spool files and splitting them
into messages, on the same core, right before.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psycopg

from ballast.postgres import tool
from ballast.vault import config, health
from ballast.vault.spoolfiles import closed_files, iter_chunks
from bench.results_file import keep
from bench.setting import setting

_TRANSACTIONS = 100_000
_LOAD = """
CREATE PROCEDURE load(transactions int) LANGUAGE plpgsql AS $body$
DECLARE d int; a int; b int;
BEGIN
    FOR n IN 1..transactions LOOP
        b := 1 + n % 10; a := (b - 1) * 100000 + 1 + (n * 7919) % 100000; d := n % 5000;
        UPDATE pgbench_accounts SET abalance = abalance + d WHERE aid = a;
        UPDATE pgbench_tellers SET tbalance = tbalance + d WHERE tid = (b - 1) * 10 + 1 + n % 10;
        UPDATE pgbench_branches SET bbalance = bbalance + d WHERE bid = b;
        INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, b, a, d, now());
        COMMIT;
    END LOOP;
END $body$
"""
_RECORD = """
import sys
from pathlib import Path
from ballast.vault.recorder import Recorder
Recorder(Path(sys.argv[1]), sealing=False).run()
"""


def alone(config_path: Path) -> None:
    """Seals all that the spool has; prints changes and seconds of every segment but the first (which warms up)."""
    from ballast.vault.logbook import Logbook
    from ballast.vault.sealing import Sealing
    from ballast.vault.vault import Vault

    os.sched_setaffinity(0, {0})
    settings = config.load(config_path)
    files = closed_files(settings.spool_dir)
    started = time.perf_counter()
    size = sum(len(chunk.payload) for path in files for chunk in iter_chunks(path, 4 << 20))
    read_s = time.perf_counter() - started
    vault = Vault.open(settings.vault, state_dir=settings.state_dir)
    sealing = Sealing(vault, settings, Logbook("bench"))
    figures = []
    while (stretch := sealing.next_stretch(closed_files(settings.spool_dir))) is not None:
        started = time.perf_counter()
        changes = sealing.seal(stretch).changes
        figures.append((changes, time.perf_counter() - started))
    print(size, read_s)
    for changes, seconds in figures[1:]:
        print(changes, seconds)


def main() -> int:
    """Measure; exit code 1 below 60,000 changes a second."""
    if sys.argv[1:2] == ["--alone"]:
        alone(Path(sys.argv[2]))
        return 0
    with setting() as here:
        server = here.server("production", max_wal_size="4GB")
        subprocess.run(
            [str(tool("pgbench", 18)), "-i", "-q", "-s", "10", "-d", server.dsn()],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        path = here.protect(server.dsn(), "bid", "vault")
        settings = config.load(path)
        # Several segments, so that the first can be left out: it loads what the others find in place.
        settings = msgspec.structs.replace(
            settings, record=msgspec.structs.replace(settings.record, seal_bytes=16 << 20)
        )
        config.write(settings, path)
        recorder = here.start([sys.executable, "-c", _RECORD, str(path)], "recorder.log")
        with psycopg.connect(server.dsn(), autocommit=True) as conn:
            conn.execute("SET synchronous_commit = local")
            conn.execute(_LOAD)
            conn.execute(f"CALL load({_TRANSACTIONS})")  # type: ignore[arg-type]
            (lsn,) = conn.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint").fetchone() or (0,)
        while True:
            seen = health.read_state(settings.state_dir, health.RECORDER_FILE, health.RecorderHealth)
            if seen is not None and seen.durable_lsn >= lsn:
                break
            time.sleep(0.5)
        recorder.terminate()
        recorder.wait(60)
        done = subprocess.run(
            [sys.executable, "-m", "bench.seal", "--alone", str(path)], capture_output=True, text=True, check=True
        )
    lines = [line.split() for line in done.stdout.splitlines()]
    size, read_s = int(lines[0][0]), float(lines[0][1])
    rates = [int(changes) / float(seconds) for changes, seconds in lines[1:] if int(changes)]
    changes = sum(int(line[0]) for line in lines[1:])
    seconds = sum(float(line[1]) for line in lines[1:])
    rate = changes / seconds
    keep(
        "seal", "make bench (python -m bench seal)", ("measure", "figure"),
        [
            ("row changes a second, one core", f"{rate:,.0f}"),
            ("slowest and fastest segment", f"{min(rates):,.0f} … {max(rates):,.0f} (median {statistics.median(rates):,.0f})"),
            ("changes, segments", f"{changes:,}, {len(rates)}"),
            ("reading the same spool only", f"{size / read_s / 1e6:,.0f} MB/s, {size / 1e6:,.0f} MB"),
            ("reach", "60,000"),
        ],
    )  # fmt: skip
    return 0 if rate >= 60_000 else 1


if __name__ == "__main__":
    sys.exit(main())
