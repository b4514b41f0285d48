"""Total loss to the first tenant served; first visits while all are brought back; all of them, beside a plain full restore."""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psycopg

from ballast.postgres import EmbeddedServer
from bench.platform import build
from bench.results_file import keep
from bench.setting import Setting, setting

_VISIT_EVERY_S = 0.05
_ALL_BACK = b'"stage":"foreign keys'
"""What the command says next when the last tenant is back."""
_OPEN_S, _OPEN_RATIO, _P50_S, _P99_S, _ALL_RATIO = 5.0, 1.3, 0.150, 0.800, 1.3


def platform(here: Setting, tenants: int, large_every: int) -> Path:
    """The vault of a platform that is lost as soon as it was imaged."""
    server = here.server(
        f"production{tenants}", max_wal_size="8GB", shared_buffers="512MB", maintenance_work_mem="512MB"
    )
    rows = build(server.dsn(), tenants, large_every=large_every)
    here.protect(server.dsn(), "shop_id", f"vault{tenants}")
    server.discard()
    print(f"{tenants:,} tenants, {rows:,} rows in the vault", flush=True)
    return here.folder / f"vault{tenants}"


class Back(NamedTuple):
    """Seconds from the loss."""

    all: float
    """until every tenant was back, read back equal to the record, and served"""
    ended: float
    """until the foreign keys were validated too, the gate was gone, and the command had ended"""


class Loss:
    """A new server, and `ballast recover` into it, from the moment on at which everything is gone."""

    def __init__(self, here: Setting, vault: Path, name: str) -> None:
        self.begun_at = time.monotonic()
        self.server = fresh(here, name)
        self.log = (here.folder / f"{name}.json").open("wb")
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ballast.cli",
                "recover",
                "--json",
                "--vault",
                str(vault),
                "--into",
                self.server.dsn(),
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    @property
    def elapsed_s(self) -> float:
        """Since the loss."""
        return time.monotonic() - self.begun_at

    def until_served(self, shop: int) -> float:
        """Seconds from the loss until this shop was read whole: as an application does that knows nothing but the DSN."""
        with psycopg.connect(self.server.dsn(), autocommit=True) as conn:
            while not visit(conn, shop):
                if self.process.poll() is not None:
                    raise SystemExit(f"recover ended: {Path(self.log.name).read_text()}")
                time.sleep(0.005)
        return self.elapsed_s

    def until_all(self) -> Back:
        """Waits until the command has ended."""
        all_back = None
        while self.process.poll() is None:
            if all_back is None and _ALL_BACK in Path(self.log.name).read_bytes():
                all_back = self.elapsed_s
            time.sleep(0.02)
        if self.process.wait() or all_back is None:
            raise SystemExit(f"recover failed: {Path(self.log.name).read_text()[-2000:]}")
        return Back(all_back, self.elapsed_s)

    def report(self) -> dict[str, object]:
        """What the command said at last."""
        last: dict[str, dict[str, object]] = json.loads(Path(self.log.name).read_bytes().splitlines()[-1])
        return last["report"]

    def end(self) -> None:
        """Take the server away."""
        self.log.close()
        self.server.discard()


def visit(conn: psycopg.Connection[tuple[object, ...]], shop: int) -> bool:
    """One request of a shop's page; False: nobody can be served yet."""
    try:
        with conn.transaction():
            conn.execute("SELECT ballast.ensure_tenant(%s)", (str(shop),))
            conn.execute("SELECT * FROM products WHERE shop_id = %s ORDER BY id LIMIT 20", (shop,)).fetchall()
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedTable):
        return False
    return True


def fresh(here: Setting, name: str, **more: str) -> EmbeddedServer:
    """A server with the settings of all that are measured, started; empty, unless its data folder is there already."""
    return here.server(name, max_wal_size="8GB", shared_buffers="512MB", maintenance_work_mem="512MB", **more)


class Visitors:
    """A first visit of a random shop every so often; only shops that were not back when they were asked for count."""

    def __init__(self, dsn: str, tenants: int) -> None:
        self._dsn = dsn
        self._shops = random.Random(1).sample(range(1, tenants + 1), tenants)
        self._over = threading.Event()
        self.taken: list[float] = []
        self.came = 0
        self._threads = [threading.Thread(target=self._come, args=(n,)) for n in range(4)]

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _come(self, number: int) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            for shop in self._shops[number :: len(self._threads)]:
                if self._over.wait(_VISIT_EVERY_S * len(self._threads)) or not self._visit(conn, shop):
                    return

    def _visit(self, conn: psycopg.Connection[tuple[object, ...]], shop: int) -> bool:
        try:
            missing = conn.execute(
                "SELECT back_at IS NULL FROM ballast_recovery.tenant WHERE tenant = %s", (str(shop),)
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return False
        started = time.perf_counter()
        served = visit(conn, shop)
        if served:
            self.came += 1
            if missing == (True,):
                self.taken.append(time.perf_counter() - started)
        return served


def main() -> int:
    """Measure; exit code 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(prog="bench.recover")
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vaults", type=Path, help="a folder with vaults of an earlier run")
    options = parser.parse_args()
    with setting() as here:
        if options.vaults is not None:
            big, small = options.vaults / f"vault{options.tenants}", options.vaults / "vault100"
        else:
            big, small = platform(here, options.tenants, 200), platform(here, 100, 10)
        return measure(here, big, small, options.tenants, options.rounds)


def measure(here: Setting, big: Path, small: Path, tenants: int, rounds: int) -> int:
    """All measures, in turn."""
    first: dict[str, list[float]] = {"big": [], "small": []}
    alone: list[Back] = []
    visited: list[Back] = []
    plain, taken, came = [], [], 0
    for n in range(rounds):
        loss = Loss(here, small, f"small{n}")
        first["small"].append(loss.until_served(57))
        loss.until_all()
        loss.end()
        loss = Loss(here, big, f"visited{n}")
        first["big"].append(loss.until_served(tenants // 2))
        with Visitors(loss.server.dsn(), tenants) as visitors:
            visited.append(loss.until_all())
        taken += visitors.taken
        came += visitors.came
        loss.end()
        loss = Loss(here, big, f"alone{n}")
        first["big"].append(loss.until_served(tenants // 2))
        alone.append(loss.until_all())
        loss.end()
        started = time.monotonic()
        server = fresh(here, f"plain{n}")
        here.ballast("restore", "--vault", str(big), "--into", server.dsn(), "--jobs", "2")
        plain.append(time.monotonic() - started)
        server.discard()
        print(
            f"round {n + 1}: first {first}, visited {visited[-1]}, alone {alone[-1]}, plain {plain[-1]:.1f}",
            flush=True,
        )
    big_s, small_s = statistics.median(first["big"]), statistics.median(first["small"])
    p50, p99 = statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]
    plain_s, visited_s, ended_s = map(
        statistics.median, (plain, [one.all for one in visited], [one.ended for one in visited])
    )
    alone_s, alone_ended_s = map(statistics.median, ([one.all for one in alone], [one.ended for one in alone]))
    rows: list[tuple[object, ...]] = [
        (f"loss to first tenant served, {tenants:,} tenants", f"{big_s:.2f} s", f"{_OPEN_S:.0f} s"),
        ("the same with 100 tenants", f"{small_s:.2f} s", ""),
        ("ratio", f"{big_s / small_s:.2f}", f"{_OPEN_RATIO:.2f}"),
        (
            f"first visit of a tenant not yet back, p50 of {len(taken):,}",
            f"{p50 * 1e3:.0f} ms",
            f"{_P50_S * 1e3:.0f} ms",
        ),
        ("… p99", f"{p99 * 1e3:.0f} ms", f"{_P99_S * 1e3:.0f} ms"),
        (f"all back while visitors come ({came / rounds:,.0f} a round)", f"{visited_s:.1f} s", ""),
        ("… and the command's end: foreign keys validated, gate gone", f"{ended_s:.1f} s", ""),
        ("all back, nobody comes", f"{alone_s:.1f} s", ""),
        ("… and the command's end", f"{alone_ended_s:.1f} s", ""),
        ("plain full restore (`ballast restore`)", f"{plain_s:.1f} s", ""),
        ("all back with visitors, against it", f"{visited_s / plain_s:.2f}", f"{_ALL_RATIO:.2f}"),
        ("… to the command's end, against it", f"{ended_s / plain_s:.2f}", ""),
        ("all back without, against it", f"{alone_s / plain_s:.2f}", ""),
    ]
    keep("recover", "make bench (python -m bench recover)", ("measure", "figure", "reach"), rows)
    reached = big_s <= _OPEN_S and big_s / small_s <= _OPEN_RATIO and p50 <= _P50_S and p99 <= _P99_S
    return 0 if reached and visited_s / plain_s <= _ALL_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
