"""Twice the checkouts that it can bear: what is served, what is shed and how, and how it is when they stop."""

from __future__ import annotations

import argparse
import random
import sys
import time

import uvloop

from bench.checkout import body
from bench.mall import Mall, Sizes
from bench.open_loop import Load, Make, Seen
from bench.results_file import keep
from bench.setting import setting

_REACH = 0.8


def checkouts(sizes: Sizes) -> Make:
    """Requests that place an order each."""
    chance, run = random.Random(5), str(time.time())

    def make(n: int) -> bytes:
        s, p = chance.randint(1, sizes.measured), chance.randint(1, sizes.products)
        sent = body(s, p, n % 3)
        head = (
            f"POST /api/v1/shops/s{s}/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Idempotency-Key: {run}-{n}\r\nAuthorization: Bearer guest-{s}-{n % 10}\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        return head.encode() + sent

    return make


async def measure(port: int, make: Make, seconds: float) -> tuple[Seen, Seen, Seen, Seen]:
    """(its best, what is borne at half of it, twice its best, half of it again)"""
    load = Load(port, make)
    try:
        await load.closed(16, seconds / 3)
        best = await load.closed(16, seconds)
        rate = best.count(201) / best.seconds
        before = await load.open(rate / 2, seconds / 2)
        over = await load.open(rate * 2, seconds * 1.5)
        after = await load.open(rate / 2, seconds / 2)
        return best, before, over, after
    finally:
        load.close()


def main() -> int:
    """Measure; exit code 1 where less than 0.8 of its best is served, or it does not recover."""
    parser = argparse.ArgumentParser(prog="bench.overload")
    parser.add_argument("--small", action="store_true", help="to try it out")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    seconds = 5.0 if options.small else 20.0
    sizes = Sizes(100, 100, 20, 0)
    with setting() as here:
        mall = Mall(here, sizes)
        with mall.web(options.workers):
            best, before, over, after = uvloop.run(measure(mall.port, checkouts(sizes), seconds))
    rate = best.count(201) / best.seconds
    rows = []
    for said, seen, offered in (
        ("its best: 16 at once, each after the other", best, ""),
        ("half of it", before, f"{rate / 2:,.0f}"),
        ("twice its best", over, f"{rate * 2:,.0f}"),
        ("half of it, right after", after, f"{rate / 2:,.0f}"),
    ):
        served, shed = seen.count(201) / seen.seconds, seen.count(503) / seen.seconds
        p50, p99 = (f"{seen.quantile_ms(share, 201):.0f} ms" for share in (0.5, 0.99))
        p99_shed = f"{seen.quantile_ms(0.99, 503):.0f} ms" if shed else ""
        rows.append((said, offered, f"{served:,.0f}", f"{shed:,.0f}", p50, p99, p99_shed))
    kept = over.count(201) / over.seconds / rate
    rows.append(("served under twice, of its best", "", f"{kept:.2f}", "", "", "", ""))
    rows.append(("reach", "", f"{_REACH:.2f}", "", "", "", ""))
    columns = ("load", "offered a second", "orders placed", "shed (503)", "p50", "p99", "p99 of a 503")
    keep("overload", "make bench (python -m bench overload)", columns, rows)
    seen_all = (best, before, over, after)
    strange = {status for one in seen_all for status in one.took if status not in (201, 503)}
    broken, silent = sum(one.broken for one in seen_all), sum(one.without_retry_after for one in seen_all)
    clean = not strange and not broken and not silent
    if not clean:
        print(f"other answers: {strange or 'none'}; broken connections: {broken}; 503 without Retry-After: {silent}")
    recovered = after.count(503) == 0 and after.quantile_ms(0.5, 201) <= 2 * before.quantile_ms(0.5, 201)
    return 0 if clean and recovered and kept >= _REACH else 1


if __name__ == "__main__":
    sys.exit(main())
