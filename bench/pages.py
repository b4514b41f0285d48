"""Product pages and lists of a shop of 1,000 products, beside a handler that returns a constant of the same size; and whether ten
times the shops make them slower. Two servers, loaded in turn, so that both see the same machine in the same minutes."""

from __future__ import annotations

import argparse
import statistics
import sys
import urllib.request
from typing import Any

from bench.mall import PRODUCT, Load, Mall, Sizes, free_port, made_id, serve, wrk
from bench.results_file import keep
from bench.setting import Setting, setting

_REACH, _GROWTH = 0.25, 1.15
_CONNECTIONS = 16
_MEASURED = 20
"""Shops of 1,000 products with three SKUs each; the load is on the first one, or on all of them."""
_LUA = """
math.randomseed(os.time())
local shops, products = %d, %d
function request()
  local s, p = math.random(1, shops), math.random(1, products)
  return wrk.format("GET", %s)
end
"""
_PRODUCT = 'string.format("/s/s%d/products/00000006-0000-7000-8000-%012x", s, s * 10000 + p)'
_LIST = 'string.format("/s/s%d/products?after=%d.00000006-0000-7000-8000-%012x", s, p - p % 20, s * 10000 + p - p % 20)'
_CONSTANT = "function request() return wrk.format('GET', '/') end"


def size_of(url: str) -> int:
    """Bytes of a page."""
    with urllib.request.urlopen(url) as answer:
        return len(answer.read())


def main() -> int:
    """Measure; exit code 1 where a figure is not reached."""
    parser = argparse.ArgumentParser(prog="bench.pages")
    parser.add_argument("--small", action="store_true", help="to try it out")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    shops, elsewhere, seconds, rounds = (50, 20, 3, 1) if options.small else (1_000, 100, 5, options.rounds)
    with setting() as here:
        few = Mall(here, Sizes(shops, _MEASURED, 1_000, elsewhere), "few")
        many = Mall(here, Sizes(shops * 10, _MEASURED, 1_000, elsewhere), "many")
        with few.web(options.workers) as url, many.web(options.workers) as url_many:
            page = size_of(f"{url}/s/s1/products/{made_id(PRODUCT, 10001)}")
            with serve(
                here, "bench.mall_app:constant", free_port(), options.workers, {"BENCH_SIZE": str(page)}
            ) as plain:
                found = [_round(here, plain, url, url_many, seconds) for _ in range(rounds)]
    return _report(found, shops, page)


def _round(here: Setting, plain: str, few: str, many: str, seconds: float) -> dict[str, Load]:
    made: dict[str, Load] = {}

    def load(name: str, url: str, script: str) -> None:
        wrk(url, 3, _CONNECTIONS, script, here)
        made[name] = wrk(url, seconds, _CONNECTIONS, script, here)
        if made[name].bad:
            raise SystemExit(f"{name}: {made[name].bad} answers were no pages")

    load("constant", plain, _CONSTANT)
    for kind, path in (("product", _PRODUCT), ("list", _LIST)):
        load(kind, few, _LUA % (1, 1_000, path))
        load(f"{kind}, many", many, _LUA % (1, 1_000, path))
        load(f"{kind}, cold", few, _LUA % (_MEASURED, 1_000, path))
        load(f"{kind}, cold, many", many, _LUA % (_MEASURED, 1_000, path))
    return made


def _report(found: list[dict[str, Load]], shops: int, page: int) -> int:
    def middle(name: str, of: str) -> float:
        return float(statistics.median(getattr(one[name], of) for one in found))

    constant = middle("constant", "per_second")
    rows: list[tuple[Any, ...]] = [
        (
            "constant",
            f"{constant:,.0f}",
            f"{middle('constant', 'p50_ms'):.1f} ms",
            f"{middle('constant', 'p99_ms'):.1f} ms",
            "",
            "",
            "",
        )
    ]
    reached = True
    for name, said in (
        ("product", "product page"),
        ("list", "product list"),
        ("product, cold", f"product page, {_MEASURED} shops"),
        ("list, cold", f"product list, {_MEASURED} shops"),
    ):
        ratio = statistics.median(one[name].per_second / one["constant"].per_second for one in found)
        growth = statistics.median(one[f"{name}, many"].p50_ms / one[name].p50_ms for one in found)
        growth99 = statistics.median(one[f"{name}, many"].p99_ms / one[name].p99_ms for one in found)
        p50, p99 = (f"{middle(name, of):.1f} ms" for of in ("p50_ms", "p99_ms"))
        rows.append(
            (said, f"{middle(name, 'per_second'):,.0f}", p50, p99, f"{ratio:.2f}", f"{growth:.2f}", f"{growth99:.2f}")
        )
        reached = reached and growth <= _GROWTH and (ratio >= _REACH or "cold" in name)
    rows.append(("reach", "", "", "", f"{_REACH:.2f}", f"{_GROWTH:.2f}", ""))
    columns = (
        "page",
        "a second",
        "p50",
        "p99",
        "against the constant",
        f"p50, {shops * 10:,} to {shops:,} shops",
        "p99",
    )
    command = "make bench (python -m bench pages)"
    keep("pages", command, columns, rows, connections=_CONNECTIONS, page_bytes=page)
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
