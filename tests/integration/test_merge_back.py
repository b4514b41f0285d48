"""What tenants produced elsewhere is merged into a real database: each item once, in order, and what is refused is kept."""

import json
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.recovery import (
    CannotApply,
    DrillRequest,
    MergeError,
    MergeItem,
    Request,
    drill,
    merge,
    refusals,
    restore,
    retry,
    settle,
)
from ballast.vault.config import Tenants
from tests.fix_postgres import Database
from tests.fix_protected import Protected

pytestmark = pytest.mark.any_version

TABLES = (
    "CREATE TABLE stock (shop text, sku text, n int NOT NULL CHECK (n >= 0), PRIMARY KEY (shop, sku))",
    "CREATE TABLE orders (shop text, no text, sku text, n int, at bigserial, PRIMARY KEY (shop, no),"
    " FOREIGN KEY (shop, sku) REFERENCES stock DEFERRABLE INITIALLY DEFERRED)",
    "INSERT INTO stock SELECT 's' || g, 'tea', 5 FROM generate_series(1, 6) g",
)
BEGUN = datetime(2026, 3, 1, 10, 55, tzinfo=UTC)


def order(shop: str, number: int, *, sku: str = "tea", n: int = 1) -> MergeItem:
    return MergeItem(shop, f"o{number}", "order", {"sku": sku, "n": n}, BEGUN + timedelta(seconds=number))


def take_order(conn: psycopg.Connection[Any], item: MergeItem) -> None:
    """An application's rules: a closed shop takes none, and stock must be there."""
    if item.payload["n"] > 100:
        raise CannotApply("nobody orders so much")
    if item.payload["sku"] == "tea":
        conn.execute("UPDATE stock SET n = n - %s WHERE shop = %s AND sku = 'tea'", [item.payload["n"], item.tenant])
    conn.execute(
        "INSERT INTO orders (shop, no, sku, n) VALUES (%s, %s, %s, %s)",
        [item.tenant, item.key, item.payload["sku"], item.payload["n"]],
    )


@pytest.fixture
def shops(pg: Database) -> Database:
    pg.run(*TABLES)
    return pg


def counts(db: Database) -> tuple[int, int, int]:
    """Orders, applied, exceptions."""
    (row,) = db.query(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM ballast_merge.applied),"
        " (SELECT count(*) FROM ballast_merge.exception)"
    )
    return row  # type: ignore[return-value]


def test_each_item_is_applied_once_and_called_again_nothing_twice(shops: Database) -> None:
    items = [order(f"s{s}", n) for n in range(4) for s in range(1, 7)]
    first = merge(shops.dsn, items, take_order, jobs=3)
    assert (first.applied, first.already, first.complete) == (24, 0, True)
    again = merge(shops.dsn, [*items, *items], take_order, jobs=3)
    assert (again.applied, again.already, again.complete) == (0, 48, True)
    assert counts(shops) == (24, 24, 0)
    assert {n for (n,) in shops.query("SELECT n FROM stock")} == {1}
    # In the order in which each tenant's were given.
    for shop in ("s1", "s6"):
        assert [no for (no,) in shops.query("SELECT no FROM orders WHERE shop = %s ORDER BY at", shop)] == [
            "o0", "o1", "o2", "o3",
        ]  # fmt: skip


def test_what_is_refused_is_kept_with_its_reason_and_the_others_go_on(shops: Database) -> None:
    items = [order("s1", 1, n=500), order("s1", 2), order("s2", 1, n=9), order("s2", 2, sku="gold"), order("s2", 3)]
    report = merge(shops.dsn, items, take_order)
    assert (report.applied, report.open, report.complete) == (2, 0, False)
    by_key = {(r.tenant, r.key): r for r in report.refused}
    assert by_key["s1", "o1"].reason == "nobody orders so much"
    assert by_key["s1", "o1"].sqlstate is None
    assert 'violates check constraint "stock_n_check"' in by_key["s2", "o1"].reason
    assert by_key["s2", "o1"].sqlstate == "23514"
    assert "foreign key" in by_key["s2", "o2"].reason, "one that only COMMIT would have refused"
    assert by_key["s2", "o2"].item == items[3], "whole, to be tried again"
    assert counts(shops) == (2, 2, 3)
    again = merge(shops.dsn, items, take_order)
    assert (again.applied, again.already, again.refused, again.open) == (0, 2, (), 3)
    assert not again.complete
    assert counts(shops) == (2, 2, 3)


def test_refused_items_are_tried_again_or_settled(shops: Database) -> None:
    merge(shops.dsn, [order("s1", 1, n=9), order("s2", 1, n=9), order("s1", 2, sku="gold")], take_order)
    shops.run("UPDATE stock SET n = 50 WHERE shop = 's1'")
    report = retry(shops.dsn, take_order)
    assert (report.applied, len(report.refused)) == (1, 2)
    assert [(r.tenant, r.key, r.attempts) for r in refusals(shops.dsn)] == [("s2", "o1", 2), ("s1", "o2", 2)]
    done = refusals(shops.dsn, tenant="s1", key="o1", settled=True)[0]
    assert done.settlement == "applied when it was tried again"
    assert settle(shops.dsn, "s2", "o1", "money given back by hand", by="lin") == 1
    assert settle(shops.dsn, "s2", "o1", "again", by="lin") == 0
    kept = refusals(shops.dsn, tenant="s2", settled=True)[0]
    assert (kept.settled_by, kept.settlement) == ("lin", "money given back by hand")
    shops.run("UPDATE stock SET n = 50")
    last = retry(shops.dsn, take_order, tenant="s2")
    assert (last.applied, last.complete) == (0, True), "what is settled is not tried again"
    told = merge(shops.dsn, [order("s2", 1, n=9)], take_order)
    assert (told.settled, told.applied, told.complete) == (1, 0, True)


def test_one_key_for_two_things_is_refused_and_kept(shops: Database) -> None:
    first = merge(shops.dsn, [order("s1", 1), order("s1", 1, n=2), order("s2", 1)], take_order)
    assert (first.applied, len(first.refused)) == (2, 1)
    assert "another item with this key was applied" in first.refused[0].reason
    assert counts(shops)[:2] == (2, 2)
    assert merge(shops.dsn, [order("s1", 1, n=2)], take_order).open == 1


def test_a_handlers_own_mistake_stops_and_leaves_nothing_of_its_item(shops: Database) -> None:
    def broken(conn: psycopg.Connection[Any], item: MergeItem) -> None:
        take_order(conn, item)
        if item.key == "o3":
            raise KeyError("colour")

    items = [order("s1", n) for n in range(1, 6)]
    with pytest.raises(MergeError, match=r"item 'o3' .* of tenant 's1': KeyError: 'colour'"):
        merge(shops.dsn, items, broken)
    assert counts(shops) == (2, 2, 0)
    assert merge(shops.dsn, items, take_order).applied == 3
    assert counts(shops) == (5, 5, 0)


@pytest.mark.parametrize("how", ["COMMIT", "ROLLBACK", "method", "rollback"])
def test_a_handler_may_not_end_the_transaction(shops: Database, how: str) -> None:
    def ending(conn: psycopg.Connection[Any], item: MergeItem) -> None:
        take_order(conn, item)
        if how == "method":
            conn.commit()
        elif how == "rollback":
            raise psycopg.Rollback
        else:
            conn.execute(how)

    with pytest.raises(MergeError, match="'o1'"):
        merge(shops.dsn, [order("s1", 1), order("s1", 2)], ending)
    orders, applied, kept = counts(shops)
    assert orders == applied, "what it did and that it did it stay together even then"
    assert kept == 0


def test_a_bad_line_in_the_middle_stops_the_others_and_is_raised(shops: Database) -> None:
    def items() -> Iterable[MergeItem]:
        for n in range(1, 4):
            yield order("s1", n)
        raise MergeError("line 4 is no item")

    with pytest.raises(MergeError, match="line 4"):
        merge(shops.dsn, items(), take_order)
    merge(shops.dsn, [order("s1", n) for n in range(1, 4)], take_order)
    assert counts(shops) == (3, 3, 0)


def test_deadlocks_are_tried_again(shops: Database) -> None:
    """Two tenants whose handlers lock the same two rows in opposite order."""
    one, other = "a", next(name for name in "bcdef" if zlib.crc32(name.encode()) % 2 != zlib.crc32(b"a") % 2)
    meet = threading.Barrier(2, timeout=20)
    met: set[str] = set()

    def crossing(conn: psycopg.Connection[Any], item: MergeItem) -> None:
        for number, shop in enumerate(["s5", "s6"] if item.tenant == one else ["s6", "s5"]):
            conn.execute("UPDATE stock SET n = n - 1 WHERE shop = %s", [shop])
            if number == 0 and item.tenant not in met:
                met.add(item.tenant)
                meet.wait()

    items = [MergeItem(tenant, "k", "cross", None, BEGUN) for tenant in (one, other)]
    assert merge(shops.dsn, items, crossing, jobs=2).applied == 2
    assert shops.query("SELECT n FROM stock WHERE shop IN ('s5', 's6')") == [(3,), (3,)]


def test_two_merges_at_once_apply_each_item_once(shops: Database) -> None:
    shops.run("UPDATE stock SET n = 1000")
    items = [order(f"s{s}", n) for n in range(40) for s in range(1, 7)]
    reports = []
    threads = [threading.Thread(target=lambda: reports.append(merge(shops.dsn, items, take_order))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sum(report.applied for report in reports) == 240
    assert counts(shops) == (240, 240, 0)
    for shop in range(1, 7):
        numbers = [
            int(no[1:]) for (no,) in shops.query("SELECT no FROM orders WHERE shop = %s ORDER BY at", f"s{shop}")
        ]
        assert numbers == sorted(numbers)


def test_somebody_elses_schema_is_not_trusted(shops: Database) -> None:
    shops.run("CREATE ROLE mallory", "CREATE SCHEMA ballast_merge AUTHORIZATION mallory")
    shops.run("CREATE ROLE plain LOGIN")
    with pytest.raises(MergeError, match="belongs to role mallory"):
        merge(shops.dsn_as("plain"), [order("s1", 1)], take_order)


def test_a_role_that_may_not_make_the_schema_is_told_so(shops: Database) -> None:
    shops.run("CREATE ROLE plain LOGIN")
    with pytest.raises(MergeError, match="may not make the schema ballast_merge"):
        merge(shops.dsn_as("plain"), [order("s1", 1)], take_order)


def ballast(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ballast.cli", "merge", *arguments],
        capture_output=True, text=True, timeout=60, cwd=cwd,
    )  # fmt: skip


def test_the_command(shops: Database, tmp_path: Path) -> None:
    (tmp_path / "shop_intake.py").write_text(
        "def take_in(conn, item):\n"
        "    conn.execute('UPDATE stock SET n = n - %s WHERE shop = %s', [item.payload['n'], item.tenant])\n"
    )
    lines = tmp_path / "intake.jsonl"
    lines.write_bytes(b"\n".join(map(msgspec.json.encode, [order("s1", 1), order("s1", 2, n=99), order("s2", 1)])))
    given = ("--into", shops.dsn, "--handler", "shop_intake:take_in")
    done = ballast(*given, "--from", str(lines), "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert (said["applied"], said["complete"], said["refused"][0]["key"]) == (2, False, "o2")
    listed = ballast("--into", shops.dsn, cwd=tmp_path)
    assert listed.returncode == 1
    assert "stock_n_check" in listed.stdout
    shops.run("UPDATE stock SET n = 100")
    assert ballast(*given, "--retry", cwd=tmp_path).returncode == 0
    assert "nothing is open" in ballast("--into", shops.dsn, cwd=tmp_path).stdout
    assert ballast(*given, "--from", str(lines), cwd=tmp_path).returncode == 0
    lines.write_bytes(lines.read_bytes() + b"\n" + msgspec.json.encode(order("s2", 2, n=999)))
    assert ballast(*given, "--from", str(lines), cwd=tmp_path).returncode == 1
    away = ("--into", shops.dsn, "--settle", "o2", "--tenant", "s2")
    assert ballast(*away, cwd=tmp_path).returncode == 1
    assert ballast(*away, "--reason", "by hand", cwd=tmp_path).returncode == 0
    assert ballast(*away, "--reason", "by hand", cwd=tmp_path).returncode == 1
    assert ballast(*given, "--from", str(lines), cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--handler", "nowhere:x"), "cannot be loaded"),
        (("--handler", "json:nothing"), "has no function nothing"),
        (("--handler", "json"), "names no function"),
        ((), "nobody is named"),
        (("--retry", "--handler", "json:loads"), "exclude each other"),
    ],
)
def test_a_wrong_call_applies_nothing(shops: Database, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    lines = tmp_path / "intake.jsonl"
    lines.write_bytes(msgspec.json.encode(order("s1", 1)))
    done = ballast("--into", shops.dsn, "--from", str(lines), *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert shops.query("SELECT to_regclass('ballast_merge.applied')") == [(None,)]


def test_a_line_that_is_no_item_is_found_before_anything_is_applied(shops: Database, tmp_path: Path) -> None:
    lines = tmp_path / "intake.jsonl"
    lines.write_bytes(msgspec.json.encode(order("s1", 1)) + b"\n{torn")
    done = ballast("--into", shops.dsn, "--from", str(lines), "--handler", "json:loads", cwd=tmp_path)
    assert done.returncode == 1
    assert "line 2 is no item" in done.stderr
    assert shops.query("SELECT to_regclass('ballast_merge.applied')") == [(None,)]


def test_in_a_protected_database_the_register_is_the_tenants_own(
    pg18: Database, new_protected: Callable[..., Protected], open_folder: Path
) -> None:
    pg18.run(*TABLES)
    protected = new_protected(pg18, Tenants(column="shop"))
    protected.protect()
    protected.start()
    assert refusals(pg18.dsn) == [], "which makes the register"
    items = [order(f"s{s}", n, n=1 if n else 500) for n in range(3) for s in range(1, 7)]
    assert merge(pg18.dsn, items, take_order).applied == 12
    drilled = drill(protected.config, DrillRequest(tenants=None, scratch=open_folder)).drilled
    assert drilled.equal, drilled.named
    vault, elsewhere = protected.vault(), pg18.another()
    restore(vault, vault.resolve(None), elsewhere.dsn, Request(tenants=("s1",)))
    again = merge(elsewhere.dsn, items[::6], take_order)
    assert (again.applied, again.already, again.open) == (0, 2, 1), "what it had applied came back with it"
    protected.kill()
    assert protected.protect().did == "already protected", "there is no question whose the register is"
