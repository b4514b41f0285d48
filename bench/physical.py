"""Beside a physical backup of the same database, at several sizes: total loss to the first tenant served, and one tenant of the
moment T back in a live server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from psycopg import sql

from ballast import recovery
from ballast.postgres import EmbeddedServer, connect, tool
from ballast.recovery.reached import reached
from ballast.vault import Vault, config
from bench import platform, reviews
from bench.basebackup import PhysicalBackup, carry
from bench.recover import Loss
from bench.results_file import keep
from bench.setting import Setting, folder_bytes, setting, stop, until_synchronous

_TABLES = (*platform.TABLES, "reviews")
_TENANT_BYTES = 1_830_000
"""What a shop of 500 rows and its reviews take in the server, indexes included."""
_ROOM = 4.5
"""Production, base backup and a restored copy at once, WAL and vault: so many times the database at most."""
_CLIENTS, _BEFORE, _AFTER = 4, 1_000, 250
"""Orders of each client between the base backup and the moment T, and after it."""
_WARM_TIMES = 10
_DAMAGE = (
    "DELETE FROM public.payments WHERE shop_id = {}",
    "DELETE FROM public.order_lines WHERE shop_id = {}",
    "DELETE FROM public.orders WHERE shop_id = {}",
    "DELETE FROM public.reviews WHERE shop_id = {}",
    "UPDATE public.skus SET price_fen = 0 WHERE shop_id = {}",
)

T = TypeVar("T")
Sums = dict[str, tuple[object, ...]]

FIRST = "total loss to the first tenant served"
ALL = "total loss to all tenants back"
ONE = "one tenant of the moment T, in the live server"
WARM = "the same in a process that runs"
TAKEN = "first image, base backup"
STORED = "on disk, archived WAL not counted"


@dataclass(slots=True)
class Measured:
    """One size: seconds of each measure (of STORED: bytes), a round each."""

    gigabytes: float
    tenants: int
    rows: int
    ours: dict[str, list[float]] = field(default_factory=dict)
    theirs: dict[str, list[float]] = field(default_factory=dict)

    def note(self, measure: str, ours: float | None = None, theirs: float | None = None) -> None:
        """Another round."""
        for kept, figure in ((self.ours, ours), (self.theirs, theirs)):
            if figure is not None:
                kept.setdefault(measure, []).append(figure)

    def medians(self, measure: str) -> tuple[float, float]:
        """Ours, theirs."""
        return statistics.median(self.ours[measure]), statistics.median(self.theirs[measure])


class Both:
    """One database under both protections, and what is asked of them."""

    def __init__(self, here: Setting, tenants: int) -> None:
        self._here, self._shop = here, tenants // 2
        self._production = here.server(
            "production", max_wal_size="2GB", shared_buffers="512MB", maintenance_work_mem="512MB"
        )
        dsn = self._production.dsn()
        started = time.monotonic()
        rows = platform.build(dsn, tenants, large_every=tenants + 1) + tenants * reviews.A_SHOP
        reviews.add(dsn, tenants)
        with connect(dsn) as conn:
            conn.execute("CHECKPOINT")
            size = conn.execute("SELECT pg_database_size(current_database())").fetchone()
        assert size is not None
        self.measured = Measured(size[0] / 1e9, tenants, rows)
        print(f"{size[0] / 1e9:.2f} GB, {rows:,} rows built in {time.monotonic() - started:.0f} s", flush=True)
        self._backup = PhysicalBackup(here, self._production)
        os.sync()
        self._config, took = timed(lambda: here.protect(dsn, "shop_id", "vault"))
        self._vault = here.folder / "vault"
        self.measured.note(TAKEN, took, self._backup.taken_s)
        self.measured.note(STORED, folder_bytes(self._vault), folder_bytes(self._backup.base))
        self._recorder = here.record(self._config)
        until_synchronous(dsn, config.load(self._config).slot)

    def write(self) -> None:
        """Orders come in, the moment T passes, more orders come."""
        self._orders(_BEFORE)
        time.sleep(0.2)
        with connect(self._production.dsn()) as conn:
            row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        assert isinstance(row[0], datetime)
        self._moment = row[0]
        self._then = sums(self._production, self._shop)
        time.sleep(0.2)
        self._orders(_AFTER)

    def _orders(self, each: int) -> None:
        subprocess.run(
            [
                str(tool("pgbench", 18)), "-n", "-M", "prepared", "-c", str(_CLIENTS), "-j", "1", "-t", str(each),
                "-D", f"tenants={self.measured.tenants}", "-f", str(Path(__file__).parent / "order.pgbench"),
                "-d", self._production.dsn(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip

    def bring_back_one(self, rounds: int) -> None:
        """A damaged shop as it was at the moment T, in the server that goes on: ours and theirs in turn."""
        dsn, shop, at = self._production.dsn(), str(self._shop), self._moment.isoformat()
        vault = Vault.open(str(self._vault))
        resolved = reached(vault, at, dsn=dsn, state_dir=self._here.folder / "vault-state")
        self._backup.until_received()
        for n in range(rounds):
            theirs = self._repaired(lambda n=n: self._by_copy(f"beside{n}"))  # type: ignore[misc]
            self._here_gone(f"beside{n}")
            ours = self._repaired(
                lambda: self._here.ballast(
                    "restore", "--vault", str(self._vault), "--into", dsn, "--tenant", shop, "--at", at, "--replace"
                )
            )
            self._say(ONE, ours, theirs)
            self.measured.note(WARM, theirs=theirs)
        request = recovery.Request(tenants=(shop,), replace=True)
        for turn in range(-2, _WARM_TIMES):
            seconds = self._repaired(lambda: recovery.restore(vault, resolved, dsn, request))
            if turn >= 0:
                self.measured.note(WARM, ours=seconds)

    def _by_copy(self, name: str) -> None:
        self._beside = self._backup.restore(name, until=self._moment)
        carry(self._beside, self._production, _TABLES, self._shop)

    def _here_gone(self, name: str) -> None:
        self._beside.discard()
        shutil.rmtree(self._here.folder / name, ignore_errors=True)

    def _repaired(self, repair: Callable[[], object]) -> float:
        """Seconds of one repair of the damaged shop, after which it must be what it was."""
        with connect(self._production.dsn()) as conn, conn.transaction():
            for statement in _DAMAGE:
                conn.execute(sql.SQL(statement).format(self._shop))
        if sums(self._production, self._shop) == self._then:
            raise SystemExit("the damage changed nothing: there is nothing to measure")
        _, seconds = timed(repair)
        equal(sums(self._production, self._shop), self._then, "one tenant of the moment T")
        return seconds

    def lose(self, rounds: int) -> None:
        """The server and its folder are gone; a new one serves the shop, ours and theirs in turn, as of the last commit."""
        self._backup.until_received()
        last = sums(self._production, self._shop)
        self._production.discard()
        _, sealed_s = timed(lambda: stop(self._recorder))
        print(f"what the recorder held was sealed in {sealed_s:.1f} s", flush=True)
        for n in range(rounds):
            copy, theirs = timed(lambda n=n: self._served(f"copy{n}"))  # type: ignore[misc]
            equal(sums(copy, self._shop), last, FIRST)
            copy.discard()
            shutil.rmtree(self._here.folder / f"copy{n}", ignore_errors=True)
            os.sync()
            loss = Loss(self._here, self._vault, f"lost{n}")
            try:
                ours = sealed_s + loss.until_served(self._shop)
                equal(sums(loss.server, self._shop), last, FIRST)
                if n == rounds - 1:
                    self.measured.note(ALL, ours=sealed_s + loss.until_all().ended)
            finally:
                loss.process.terminate()
                loss.process.wait(60)
                loss.end()
            self._say(FIRST, ours, theirs)
            self.measured.note(ALL, theirs=theirs)

    def _served(self, name: str) -> EmbeddedServer:
        server = self._backup.restore(name)
        with connect(server.dsn()) as conn:
            conn.execute(
                "SELECT * FROM public.products WHERE shop_id = %s ORDER BY id LIMIT 20", [self._shop]
            ).fetchall()
        return server

    def _say(self, measure: str, ours: float, theirs: float) -> None:
        self.measured.note(measure, ours, theirs)
        print(f"{measure}: ballast {ours:.2f} s, physical {theirs:.2f} s", flush=True)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gave, and seconds; what others have written before is on the disk when it begins."""
    os.sync()
    started = time.monotonic()
    done = work()
    return done, time.monotonic() - started


def sums(server: EmbeddedServer, shop: int) -> Sums:
    """Rows and sum of hashes of a shop in each table."""
    found: Sums = {}
    with connect(server.dsn()) as conn:
        for table in _TABLES:
            query = "SELECT count(*), sum(hashtextextended(t::text, 0)) FROM public.{} t WHERE shop_id = {}"
            found[table] = conn.execute(sql.SQL(query).format(sql.Identifier(table), shop)).fetchone() or ()
    return found


def equal(found: Sums, expected: Sums, what: str) -> None:
    """Ends the measurement where a result is wrong: its time would mean nothing."""
    if found != expected:
        wrong = {table: (found[table], expected[table]) for table in _TABLES if found[table] != expected[table]}
        raise SystemExit(f"{what}: not what it must be (found, expected): {wrong}")


def table_of(every: Sequence[Measured]) -> list[tuple[object, ...]]:
    """A row a size and measure, then what each further gigabyte costs."""
    rows: list[tuple[object, ...]] = []
    for one in every:
        name = f"{one.gigabytes:.2f} GB, {one.tenants:,} tenants, {one.rows / 1e6:.1f} million rows"
        for measure in (FIRST, ALL, ONE, WARM, TAKEN):
            ours, theirs = one.medians(measure)
            rows.append((name, measure, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.1f}"))
            name = ""
        ours, theirs = one.medians(STORED)
        rows.append(("", STORED, f"{ours / 1e6:,.0f} MB", f"{theirs / 1e6:,.0f} MB", f"{theirs / ours:.1f}"))
    if len(every) > 1:
        sizes, name = [one.gigabytes for one in every], "each further GB"
        for measure in (FIRST, ALL, ONE, WARM):
            slopes = [statistics.linear_regression(sizes, figures).slope for figures in _by_side(every, measure)]
            rows.append((name, measure, f"{slopes[0]:+.2f} s", f"{slopes[1]:+.2f} s", ""))
            name = ""
    return rows


def _by_side(every: Sequence[Measured], measure: str) -> tuple[list[float], list[float]]:
    medians = [one.medians(measure) for one in every]
    return [ours for ours, _ in medians], [theirs for _, theirs in medians]


def main() -> int:
    """Measure; exit code 1 where the physical backup was faster in one of the two measures."""
    parser = argparse.ArgumentParser(prog="bench.physical")
    parser.add_argument("--sizes", default="0.5,1,5", help="gigabytes of the database, e.g. 0.5,1,5")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    sizes = [float(size) for size in options.sizes.split(",")]
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    if free < max(sizes) * _ROOM + 2:
        parser.error(
            f"{max(sizes)} GB need {max(sizes) * _ROOM + 2:.0f} GB of room in {tempfile.gettempdir()}: {free:.0f} GB are free"
        )
    every = []
    for size in sizes:
        with setting() as here:
            both = Both(here, max(2, round(size * 1e9 / _TENANT_BYTES)))
            both.write()
            both.bring_back_one(options.rounds)
            both.lose(options.rounds)
            every.append(both.measured)
    keep(
        "physical",
        f"python -m bench physical --sizes {options.sizes} --rounds {options.rounds}",
        ("database", "measure", "ballast", "pg_basebackup and WAL", "factor"),
        table_of(every),
        rounds=[{"gigabytes": one.gigabytes, "ballast": one.ours, "physical": one.theirs} for one in every],
    )
    ahead = all(ours < theirs for one in every for ours, theirs in map(one.medians, (FIRST, ONE)))
    return 0 if ahead else 1


if __name__ == "__main__":
    sys.exit(main())
