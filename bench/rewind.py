"""Rewinding one live tenant of 2,000 rows of which 50 changed, beside putting all of its rows back with `restore --replace`;
and what the others notice of it."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from ballast import recovery
from ballast.postgres import connect
from ballast.recovery.rewind import Rewinding, rewind
from ballast.vault import Resolved, Vault, config
from bench import rewind_beside
from bench.platform import build
from bench.results_file import keep
from bench.setting import Setting, setting, until_synchronous

_LARGE_EVERY = 50
_REACH_S = 0.100
_DAMAGE = (
    "UPDATE public.skus SET stock = stock + 1 WHERE shop_id = {0} AND id <= 20",
    "UPDATE public.orders SET state = 'refunded' WHERE shop_id = {0} AND id <= 10",
    "DELETE FROM public.payments WHERE shop_id = {0} AND id IN (SELECT id FROM public.payments WHERE shop_id = {0} LIMIT 10)",
    "INSERT INTO public.customers SELECT {0}, 900000000 + n, 'new', '', 0, now() FROM generate_series(1, 10) n",
)


class Platform:
    """A server of `tenants` shops that is recorded, so that each commit waits for the recorder."""

    def __init__(self, here: Setting, tenants: int) -> None:
        self.tenants = tenants
        self.dsn = here.server("production", max_wal_size="8GB", shared_buffers="512MB").dsn()
        self.rows = build(self.dsn, tenants, large_every=_LARGE_EVERY)
        file = here.protect(self.dsn, "shop_id", "vault")
        self.vault = Vault.open(str(here.folder / "vault"))
        self.then: Resolved = self.vault.resolve(None)
        here.record(file)
        until_synchronous(self.dsn, config.load(file).slot)

    def damage(self, shop: int) -> int:
        """Changes 50 rows of a shop; how many rows it has."""
        with connect(self.dsn) as conn, conn.transaction():
            for statement in _DAMAGE:
                conn.execute(statement.format(shop))  # type: ignore[arg-type]
            row = conn.execute(_count(), {"shop": shop}).fetchone()  # type: ignore[arg-type]
        return int(row[0]) if row else 0

    def damage_again(self, shop: int) -> None:
        """The changes of a shop that is damaged already, or rewound: its own rows only, as often as wanted."""
        with connect(self.dsn) as conn, conn.transaction():
            for statement in _DAMAGE[:2]:
                conn.execute(statement.format(shop))  # type: ignore[arg-type]

    def rewind(self, shop: int) -> int:
        """How many rows it wrote."""
        found = rewind(self.vault, self.then, self.dsn, Rewinding(str(shop)))
        if not found.done:
            raise SystemExit(f"shop {shop} was not rewound")
        return found.rows

    def look(self, shop: int) -> int:
        """A dry run; how many rows would be written."""
        return rewind(self.vault, self.then, self.dsn, Rewinding(str(shop), dry_run=True)).rows

    def replace(self, shop: int) -> int:
        """All rows of the shop put back; how many."""
        request = recovery.Request(tenants=(str(shop),), replace=True)
        report = recovery.restore(self.vault, self.then, self.dsn, request)
        if not report.proven:
            raise SystemExit(f"shop {shop} is not proven equal")
        return report.rows


def _count() -> str:
    tables = ("payments", "order_lines", "orders", "customers", "skus", "products", "categories")
    return "SELECT " + " + ".join(f"(SELECT count(*) FROM public.{table} WHERE shop_id = %(shop)s)" for table in tables)


def measure(platform: Platform, times: int) -> tuple[list[tuple[object, ...]], bool]:
    """The three in turn, each on a shop that was just damaged; warm."""
    ways: dict[str, Callable[[int], int]] = {
        "rewind": platform.rewind,
        "rewind --dry-run": platform.look,
        "restore --replace": platform.replace,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    wrote = dict.fromkeys(ways, 0)
    shops = list(range(_LARGE_EVERY, platform.tenants + 1, _LARGE_EVERY))
    rows = 0
    for turn in range(-3, times):
        shop = shops[turn % len(shops)]
        for name, way in ways.items():
            rows = platform.damage(shop)
            started = time.perf_counter()
            wrote[name] = way(shop)
            if turn >= 0:
                taken[name].append(time.perf_counter() - started)
            if name == "rewind --dry-run":
                platform.rewind(shop)
    p50 = {name: statistics.median(seconds) for name, seconds in taken.items()}
    table: list[tuple[object, ...]] = [
        (
            name,
            f"{rows:,}",
            f"{wrote[name]:,}",
            f"{p50[name] * 1e3:.0f} ms",
            f"{sorted(seconds)[int(times * 0.95)] * 1e3:.0f} ms",
            f"{_REACH_S * 1e3:.0f} ms" if name == "rewind" else "",
        )
        for name, seconds in taken.items()
    ]
    return table, p50["rewind"] <= _REACH_S


def main() -> int:
    """Measure; exit code 1 where the figure is not reached."""
    parser = argparse.ArgumentParser(prog="bench.rewind")
    parser.add_argument("--tenants", type=int, default=2_000)
    parser.add_argument("--times", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each look at the others")
    options = parser.parse_args()
    with setting() as here:
        platform = Platform(here, options.tenants)
        table, reached = measure(platform, options.times)
        columns = ("measure", "rows of the tenant", "rows written", "p50", "p95", "reach")
        command = "make bench (python -m bench rewind)"
        keep("rewind", command, columns, table, rows_in_all=platform.rows, tenants=options.tenants)
        shops = list(range(_LARGE_EVERY, options.tenants + 1, _LARGE_EVERY))
        beside = rewind_beside.measure(platform, options.seconds, shops)
        columns_beside = ("measure", "times", "transactions", "failed", "p50", "p99", "p99 beside alone")
        keep(
            "rewind_beside",
            command,
            columns_beside,
            beside,
            clients=4,
            rows_in_all=platform.rows,
            tenants=options.tenants,
        )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
