"""An import that is killed, anywhere, goes on by being run again, and ends where one that was not killed ends. However long the
files are, it holds a small part of them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fix_mall import MallDatabase
from tests.integration.mall.bringing import (
    ORDER,
    PRODUCT,
    SHOP,
    books_balance,
    child_environment,
    stock_adds_up,
    written,
)

_MEASURED = """
import json, resource, sys
from ballast.cli.app import commands
try:
    commands("mall")(sys.argv[1:])
except SystemExit as end:
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, end.code]), file=sys.stderr)
"""


def _start(database: MallDatabase, folder: Path, files: dict[str, Path]) -> subprocess.Popen[str]:
    arguments = [one for kind, path in files.items() for one in (f"--{kind}", str(path))]
    return subprocess.Popen(
        [sys.executable, "-c", _MEASURED, "mall", "import", *arguments, "--bad", str(folder / "bad.csv"),
         "--invitations", str(folder / "invitations.tsv"), "--config", str(folder / "none.toml"), "--json"],
        env=child_environment(database),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _ended(process: subprocess.Popen[str]) -> tuple[dict[str, dict[str, int]], int]:
    """What it counted, and its greatest size in KiB."""
    out, err = process.communicate(timeout=240)
    peak, code = json.loads(err.splitlines()[-1])
    assert code == 0, err
    return json.loads(out), peak


def _count(database: MallDatabase, table: str) -> int:
    return int(database.run(f"SELECT count(*) FROM mall.{table}")[0][0])


def test_killed_anywhere_it_goes_on_where_it_was(mall_database: MallDatabase, tmp_path: Path) -> None:
    slugs = ["a", "b", "c"]
    orders = 2400
    files = {
        "shops": written(tmp_path / "shops.csv", "shops", [{**SHOP, "shop": slug} for slug in slugs]),
        "products": written(
            tmp_path / "products.csv",
            "products",
            [{**PRODUCT, "shop": slug, "product_code": f"T{n}"} for slug in slugs for n in range(300)],
        ),
        "orders": written(
            tmp_path / "orders.csv",
            "orders",
            [
                {**ORDER, "shop": slugs[n % 3], "order": f"E{n}", "member": f"M{n % 50}", "product_code": f"T{line}"}
                for n in range(orders)
                for line in range(1 + n % 2)
            ],
        ),
    }
    # Each is killed when one more table has begun to fill.
    for table, least in (("product", 1), ("orders", 1), ("orders", orders // 2)):
        process = _start(mall_database, tmp_path, files)
        until = time.monotonic() + 60
        while _count(mall_database, table) < least and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.kill()
        process.communicate()
        assert process.returncode == -9, f"it was done before it could be killed at {table}"
    assert 0 < _count(mall_database, "orders") < orders
    counted, _ = _ended(_start(mall_database, tmp_path, files))
    assert counted["orders"]["brought"] + counted["orders"]["there"] == orders
    assert 0 < counted["orders"]["there"] < orders

    assert (_count(mall_database, "product"), _count(mall_database, "orders")) == (900, orders)
    assert _count(mall_database, "order_line") == orders + orders // 2
    assert _count(mall_database, "posting") == 2 * orders
    assert mall_database.run("SELECT count(*), sum(spent_fen), sum(points) FROM mall.customer") == [
        (150, 10000 * (orders + orders // 2), 100 * (orders + orders // 2))
    ]
    assert mall_database.run("SELECT sum(points) FROM mall.points_entry") == [(100 * (orders + orders // 2),)]
    assert mall_database.run("SELECT sum(sold) FROM mall.product") == [(orders + orders // 2,)]
    books_balance(mall_database)
    stock_adds_up(mall_database)


@pytest.mark.slow
def test_a_hundred_thousand_lines_take_no_more_memory_than_a_few(mall_database: MallDatabase, tmp_path: Path) -> None:
    shops = written(tmp_path / "shops.csv", "shops", [{**SHOP, "shop": "long"}])

    def peak(orders: int, each: int) -> int:
        head = list(ORDER)
        path = tmp_path / f"orders{orders}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            for n in range(orders):
                line = [*{**ORDER, "shop": "long", "order": f"L{n}", "buyer_name": f"顾客{n}"}.values()]
                writer.writerows([line] * each)
        counted, kib = _ended(_start(mall_database, tmp_path, {"shops": shops, "orders": path}))
        assert counted["orders"]["lines"] == orders * each
        return kib

    few = peak(40, 100)
    many = peak(1000, 100)
    assert many - few < 20 * 1024, (few, many)
    assert mall_database.run(
        "SELECT count(*) FROM mall.order_line l JOIN mall.directory USING (shop_id) WHERE slug = 'long'"
    ) == [(100_000,)]
    books_balance(mall_database)
