"""What protection costs a busy server: TPC-B with 16 clients, a synchronous recorder that seals, beside the same with
`pg_receivewal --synchronous` as the synchronous standby.

Two servers of one build, loaded in turn (the other one idles), so that both see the same machine in the same minutes.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys

from ballast.postgres import EmbeddedServer, connect, tool
from bench.results_file import keep
from bench.setting import Setting, setting, until_synchronous

CLIENTS = 16


def load(server: EmbeddedServer, seconds: int) -> tuple[float, float]:
    """(transactions a second, mean latency in ms)."""
    done = subprocess.run(
        [str(tool("pgbench", 18)), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds), "-d", server.dsn()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    latency = re.search(r"latency average = ([\d.]+)", done.stdout)
    if tps is None or latency is None:
        raise SystemExit(done.stdout + done.stderr)
    return float(tps[1]), float(latency[1])


def build(here: Setting, name: str, scale: int, **settings: str) -> EmbeddedServer:
    """A filled server."""
    server = here.server(name, max_wal_size="8GB", checkpoint_timeout="30min", shared_buffers="512MB", **settings)
    subprocess.run(
        [str(tool("pgbench", 18)), "-i", "-q", "-s", str(scale), "-d", server.dsn()],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return server


def main() -> int:
    """Measure; exit code 1 where the ratio is below 0.8."""
    parser = argparse.ArgumentParser(prog="bench.tpcb")
    parser.add_argument("--scale", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with setting() as here:
        peer = build(here, "peer", options.scale)
        archive = here.folder / "archive"
        archive.mkdir()
        receive = [str(tool("pg_receivewal", 18)), "-D", str(archive), "--synchronous"]
        here.start([*receive, "-d", f"{peer.dsn()} application_name=receivewal"], "receivewal.log")
        with connect(peer.dsn()) as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'receivewal'")
            conn.execute("SELECT pg_reload_conf()")
        ours = build(here, "ours", options.scale)
        config = here.protect(ours.dsn(), "bid", "vault")
        here.record(config)
        until_synchronous(peer.dsn(), "receivewal")
        until_synchronous(ours.dsn(), "ballast")
        for server in (peer, ours):
            load(server, 5)
        rounds = [(load(peer, options.seconds), load(ours, options.seconds)) for _ in range(options.rounds)]
        bare = load_without(ours, options.seconds)
    ratios = [mine[0] / theirs[0] for theirs, mine in rounds]
    ratio = statistics.median(ratios)
    keep(
        "tpcb", "make bench (python -m bench tpcb)", ("round", "pg_receivewal tps", "ballast tps", "ratio", "ms, ms"),
        [
            *(
                (n, f"{theirs[0]:,.0f}", f"{mine[0]:,.0f}", f"{mine[0] / theirs[0]:.2f}", f"{theirs[1]:.2f}, {mine[1]:.2f}")
                for n, (theirs, mine) in enumerate(rounds, 1)
            ),
            ("median", "", "", f"{ratio:.2f}", ""),
            ("same, nobody waits", "", f"{bare:,.0f}", "", ""),
            ("reach", "", "", "0.80", ""),
        ],
    )  # fmt: skip
    return 0 if ratio >= 0.8 else 1


def load_without(server: EmbeddedServer, seconds: int) -> float:
    """The protected server while its commits wait for nobody (the recorder still reads), for what waiting costs."""
    options = "options='-c synchronous_commit=local'"
    done = subprocess.run(
        [
            str(tool("pgbench", 18)), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(seconds),
            "-d", f"{server.dsn()} {options}",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    return float(tps[1]) if tps else 0.0


if __name__ == "__main__":
    sys.exit(main())
