"""Checkouts a second through the API, beside the same statements driven by pgbench. Each has all of the machine in turn: that is
for the database server, the web processes and what makes the load.

A checkout: the idempotency key is taken, goods, promotions and shipping are read and priced, stock is reserved, order, line,
event and outbox are written, in one transaction that is on disk before the answer.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time

from psycopg.conninfo import make_conninfo

from ballast.postgres import tool
from bench import checkout_sql
from bench.mall import SKU, Mall, Sizes, made_id, wrk
from bench.results_file import keep
from bench.setting import setting

_REACH = 0.4
_ADDRESS = (
    '"address":{"name":"林小姐","phone":"13800000000","province":"广东省","city":"深圳市","district":"南山区",'
    '"street":"科技园路 1 号"}'
)
_LUA = """
local S, P, run, n = %d, %d, "%s", 0
math.randomseed(os.time())
function request()
  local s, p, k = math.random(1, S), math.random(1, P), math.random(0, 2)
  n = n + 1
  local sku = string.format("%%08x-0000-7000-8000-%%012x", 16 + k, s * 10000 + p)
  local headers = {["Content-Type"] = "application/json", ["Idempotency-Key"] = run .. n,
    ["Authorization"] = "Bearer guest-" .. s .. "-" .. math.random(0, 9)}
  return wrk.format("POST", "/api/v1/shops/s" .. s .. "/orders", headers,
    '{"lines":[{"sku_id":"' .. sku .. '","quantity":1}],"agreed_fen":' .. (1800 + p * 7 %% 5000 + k * 500) .. ',%s}')
end
"""


def body(s: int, p: int, k: int) -> bytes:
    """An order of one piece of a SKU of mall.sql: of shop s the product p in its size k."""
    sku = made_id(SKU + k, s * 10_000 + p)
    lines = f'"lines":[{{"sku_id":"{sku}","quantity":1}}],"agreed_fen":{1_800 + p * 7 % 5_000 + k * 500}'
    return f"{{{lines},{_ADDRESS}}}".encode()


def by_pgbench(mall: Mall, options: list[str], clients: int, seconds: float) -> float:
    """Transactions a second."""
    done = subprocess.run(
        [
            str(tool("pgbench", 18)), "-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", f"{seconds:.0f}", *options,
            # As the service's connections have it (ballast.mall.db).
            make_conninfo(mall.settings.app_dsn, options="-c random_page_cost=1.1"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    tps = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode or tps is None or "failed" in done.stderr:
        raise SystemExit(f"pgbench failed:\n{done.stdout}\n{done.stderr[-3000:]}")
    return float(tps[1])


def main() -> int:
    """Measure; exit code 1 where the ratio is below 0.4."""
    parser = argparse.ArgumentParser(prog="bench.checkout")
    parser.add_argument("--small", action="store_true", help="to try it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    seconds, rounds = (4, 1) if options.small else (10, options.rounds)
    sizes = Sizes(100, 100, 20, 0) if options.small else Sizes(1_000, 1_000, 20, 0)
    with setting() as here:
        mall = Mall(here, sizes)
        bench = checkout_sql.write(mall, here.folder)
        found = []
        with mall.web(options.workers) as url:
            for n in range(-1, rounds):
                peer = by_pgbench(mall, bench, options.clients, seconds if n >= 0 else 2)
                before = mall.one("SELECT count(*) FROM mall.orders")
                lua = _LUA % (sizes.measured, sizes.products, f"{n}-{time.time()}-", _ADDRESS)
                load = wrk(url, seconds if n >= 0 else 3, options.clients, lua, here)
                placed = mall.one("SELECT count(*) FROM mall.orders") - before
                if load.bad or not 0 <= placed - load.answers <= options.clients:
                    raise SystemExit(f"{load.bad} checkouts were refused; {placed} orders of {load.answers} answers")
                if n >= 0:
                    found.append((peer, load))
    ratio = statistics.median(load.per_second / peer for peer, load in found)
    rows = [
        (
            n,
            f"{peer:,.0f}",
            f"{load.per_second:,.0f}",
            f"{load.per_second / peer:.2f}",
            f"{load.p50_ms:.1f} ms",
            f"{load.p99_ms:.1f} ms",
        )
        for n, (peer, load) in enumerate(found, 1)
    ]
    columns = ("round", "pgbench tps", "checkouts a second", "ratio", "p50", "p99")
    rows += [("median", "", "", f"{ratio:.2f}", "", ""), ("reach", "", "", f"{_REACH:.2f}", "", "")]
    keep("checkout", "make bench (python -m bench checkout)", columns, rows, shops=sizes.shops, clients=options.clients)
    return 0 if ratio >= _REACH else 1


if __name__ == "__main__":
    sys.exit(main())
