"""Restoring one tenant out of 10,000 and out of 100; everything, beside `pg_restore -j2`; the vault's size, beside a dump's."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ballast import recovery
from ballast.postgres import EmbeddedServer, connect, tool
from ballast.vault import Vault
from bench.platform import TABLES, build
from bench.results_file import keep
from bench.setting import Setting, folder_bytes, setting


class Platform:
    """A protected server of `tenants` shops, and its vault."""

    def __init__(self, here: Setting, tenants: int, large_every: int) -> None:
        self.tenants, self.large_every = tenants, large_every
        self.server = here.server(
            f"production{tenants}", max_wal_size="8GB", shared_buffers="512MB", maintenance_work_mem="512MB"
        )
        started = time.monotonic()
        self.rows = build(self.server.dsn(), tenants, large_every=large_every)
        print(f"{tenants:,} tenants, {self.rows:,} rows built in {time.monotonic() - started:.0f} s", flush=True)
        self.dump = here.folder / f"dump{tenants}"
        started = time.monotonic()
        subprocess.run(
            [str(tool("pg_dump", 18)), "-Fd", "-Z", "gzip:1", "-f", str(self.dump), "-d", self.server.dsn()], check=True
        )
        self.dump_s = time.monotonic() - started
        started = time.monotonic()
        here.protect(self.server.dsn(), "shop_id", f"vault{tenants}")
        self.image_s = time.monotonic() - started
        self.folder = here.folder / f"vault{tenants}"
        self.vault = Vault.open(str(self.folder))
        print(f"protected in {self.image_s:.0f} s", flush=True)

    def restore_one(self, shop: int) -> tuple[float, int]:
        """Seconds and rows of one shop put back, after it was deleted."""
        with connect(self.server.dsn()) as conn, conn.transaction():
            for table in reversed(TABLES):
                conn.execute(f"DELETE FROM public.{table} WHERE shop_id = %s", [shop])  # type: ignore[arg-type]
        started = time.perf_counter()
        report = recovery.restore(
            self.vault, self.vault.resolve(None), self.server.dsn(), recovery.Request(tenants=(str(shop),))
        )
        seconds = time.perf_counter() - started
        if not report.proven:
            raise SystemExit(f"shop {shop} is not proven equal")
        return seconds, report.rows

    def large_shops(self, count: int) -> list[int]:
        """Shops of about 2,000 rows."""
        every = range(self.large_every, self.tenants + 1, self.large_every)
        return [every[i % len(every)] for i in range(count)]


def one(big: Platform, small: Platform, times: int) -> tuple[list[tuple[object, ...]], bool]:
    """In turn out of the large and the small vault, warm."""
    for platform in (big, small):
        for shop in platform.large_shops(3):
            platform.restore_one(shop)
    taken: dict[Platform, list[float]] = {big: [], small: []}
    rows = {big: 0, small: 0}
    for a, b in zip(big.large_shops(times), small.large_shops(times), strict=True):
        for platform, shop in ((big, a), (small, b)):
            seconds, rows[platform] = platform.restore_one(shop)
            taken[platform].append(seconds)
    p50 = {p: statistics.median(taken[p]) for p in (big, small)}
    p95 = {p: sorted(taken[p])[int(times * 0.95)] for p in (big, small)}
    ratio = p50[big] / p50[small]
    table: list[tuple[object, ...]] = [
        (f"out of {p.tenants:,} tenants", f"{rows[p]:,}", f"{p50[p] * 1e3:.0f} ms", f"{p95[p] * 1e3:.0f} ms")
        for p in (big, small)
    ]
    table += [("ratio", "", f"{ratio:.2f}", ""), ("reach", "", "60 ms, 1.50", "")]
    return table, p50[big] <= 0.060 and ratio <= 1.5


def everything(here: Setting, big: Platform) -> tuple[list[tuple[object, ...]], bool]:
    """Both into a fresh server, its set-up included."""
    rounds = []
    for n in (1, 2):
        rounds.append((_by_pg_restore(here, big.dump, f"peer{n}"), _by_ballast(here, big, f"fresh{n}")))
    theirs = statistics.median(r[0] for r in rounds)
    mine = statistics.median(r[1] for r in rounds)
    size, dump_size = folder_bytes(big.folder), folder_bytes(big.dump)
    dumped = f"pg_dump -Fd -Z gzip:1: {dump_size / 1e6:.0f} MB"
    image_ratio = f"{big.image_s / big.dump_s:.2f}"
    table: list[tuple[object, ...]] = [
        ("everything", f"{mine:.1f} s", f"pg_restore -j2: {theirs:.1f} s", f"{mine / theirs:.2f}", "1.10"),
        ("each round", ", ".join(f"{r[1]:.1f}" for r in rounds), ", ".join(f"{r[0]:.1f}" for r in rounds), "", ""),
        ("vault size after the first image", f"{size / 1e6:.0f} MB", dumped, f"{size / dump_size:.2f}", "1.00"),
        ("protect, first image included", f"{big.image_s:.1f} s", f"pg_dump: {big.dump_s:.1f} s", image_ratio, ""),
    ]  # fmt: skip
    return table, mine / theirs <= 1.1 and size <= dump_size


def _fresh(here: Setting, name: str) -> EmbeddedServer:
    return here.server(name, max_wal_size="8GB", shared_buffers="512MB", maintenance_work_mem="512MB")


def _by_pg_restore(here: Setting, dump: Path, name: str) -> float:
    started = time.monotonic()
    server = _fresh(here, name)
    subprocess.run([str(tool("pg_restore", 18)), "-j2", "--no-owner", "-d", server.dsn(), str(dump)], check=True)
    seconds = time.monotonic() - started
    server.discard()
    return seconds


def _by_ballast(here: Setting, big: Platform, name: str) -> float:
    started = time.monotonic()
    server = _fresh(here, name)
    here.ballast("restore", "--vault", str(big.folder), "--into", server.dsn(), "--jobs", "2")
    seconds = time.monotonic() - started
    server.discard()
    return seconds


def main() -> int:
    """Measure; exit code 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(prog="bench.restore")
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--only", choices=("one", "all"))
    options = parser.parse_args()
    good = True
    with setting() as here:
        big = Platform(here, options.tenants, 200)
        if options.only != "all":
            small = Platform(here, 100, 10)
            table, reached = one(big, small, options.times)
            keep("restore_one", "make bench (python -m bench restore)", ("one tenant", "rows", "p50", "p95"), table)
            good = good and reached
        if options.only != "one":
            table, reached = everything(here, big)
            keep(
                "restore_all",
                "make bench (python -m bench restore)",
                ("measure", "ballast", "peer", "ratio", "reach"),
                table,
            )
            good = good and reached
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
