"""What honest transactions did while others deleted rows is done again on what was restored to before the deletion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pytest

from ballast.recovery import (
    Later,
    MergeItem,
    MergeReport,
    Request,
    Span,
    again_by,
    later,
    merge,
    open_for,
    refusals,
    restore,
    retry,
    settle,
    take_in,
    try_again,
)  # fmt: skip
from ballast.recovery.later import Redone
from ballast.vault.moment import show
from tests.fix_postgres import Database
from tests.fix_protected import Protected
from tests.integration.test_undo import TABLES, rows_of, start, together
from tests.kept import Contents

pytestmark = pytest.mark.any_version

HONEST = (
    ("INSERT INTO item VALUES (1, 50, 5, E'a\\tb\\\\')", "INSERT INTO part (item_shop, item_id, n) VALUES (1, 50, 2)"),
    ("UPDATE item SET price = price - 1 WHERE shop = 1 AND id = 50",),
    ("UPDATE item SET price = price - 1 WHERE shop = 2 AND id = 3",),
    ("UPDATE item SET price = NULL WHERE shop = 2 AND id = 3",),
    ("DELETE FROM part WHERE id = 1", "INSERT INTO log VALUES (1, 'new'), (1, 'same')"),
    ("INSERT INTO word VALUES ('e', 'f')", "UPDATE word SET said = 'z' WHERE code = 'a'"),
    ("INSERT INTO log VALUES (3, 'same'), (NULL, 'nobody''s')",),
    ("INSERT INTO shop VALUES (9, 'Nine')", "INSERT INTO item VALUES (9, 1, 1, 'x')"),
    ("UPDATE car SET plate = 'honest', id = 99 WHERE id = 5",),
)
DEED = (
    "DELETE FROM log",
    "DELETE FROM car WHERE shop = 4",
    "DELETE FROM part WHERE item_shop > 2",
    "DELETE FROM item WHERE shop > 2 AND id < 8",
    "DELETE FROM car WHERE id <> 5",
)


def brought_in(target: Database, found: Later) -> MergeReport:
    return merge(target.dsn, [item for items in found.of.values() for item in items], take_in)


def application(db: Database) -> Contents:
    return {table: rows for table, rows in rows_of(db).items() if table.startswith("public.")}


def test_each_row_is_as_if_nobody_had_deleted_anything(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg18, new_protected)
    since = protected.look().cut
    for number, statements in enumerate(HONEST):
        together(pg18, *statements)
        if number < len(DEED):
            together(pg18, DEED[number])
    protected.sealed(protected.look().cut)
    vault, target, meant = protected.vault(), pg18.another(), pg18.another()
    restore(vault, vault.resolve(show(since)), target.dsn, Request())
    meant.run(*TABLES)
    for statements in HONEST:
        together(meant, *statements)

    found = later(vault, (Span(show(since)),))
    assert found.unclear == ()
    assert (found.transactions, found.deletions) == (len(HONEST), len(DEED))
    target.run("CREATE SCHEMA ballast", "CREATE TABLE ballast.setting (name text PRIMARY KEY, value jsonb NOT NULL)")
    for _ in range(2):  # whoever called it was killed before he could note it
        assert open_for(target.dsn, found) == ()
    report = brought_in(target, found)
    assert (report.refused, report.applied) == ((), sum(map(len, found.of.values())))
    assert application(target) == application(meant)
    again = brought_in(target, found)
    assert (again.applied, again.already) == (0, report.applied)
    assert application(target) == application(meant)
    target.run("INSERT INTO part (item_shop, item_id, n) VALUES (1, 50, 3)")  # the sequence is past what came


def test_in_a_lifeboat_whose_sentinel_was_killed_shared_rows_come_once(pg18: Database) -> None:
    """Nothing of a protection is there, and whoever brought them in did not come to note it."""
    pg18.run("CREATE TABLE said (what text)")
    row: dict[str, str | None] = {"what": "once"}
    change = Redone("public", "said", "I", row, row, keyless=True)
    payload = {"position": "1/0/5", "changes": [msgspec.to_builtins(change)]}
    found = Later(shared=(MergeItem("(shared)", "recorded:1/0/5", "ballast.recorded", payload, datetime.now(UTC)),))
    for _ in range(2):
        assert open_for(pg18.dsn, found) == ()
    assert pg18.query("SELECT what FROM said") == [("once",)]


def test_what_was_made_anew_is_added_up_and_what_cannot_be_done_is_kept_with_the_reason(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    since = protected.look().cut
    together(pg18, "DELETE FROM part", "DELETE FROM item WHERE id < 5")
    together(pg18, "INSERT INTO item VALUES (2, 3, 10, 'again')")
    together(pg18, "UPDATE item SET price = price - 4 WHERE shop = 2 AND id = 3")
    unclear = together(pg18, "DELETE FROM car WHERE shop = 1", "INSERT INTO item VALUES (5, 60, 1, 'left out')")
    together(pg18, "INSERT INTO part (item_shop, item_id, n) VALUES (5, 60, 1)", "INSERT INTO log VALUES (5, 'x')")
    together(pg18, "UPDATE item SET price = 2 WHERE shop = 5 AND id = 60")
    together(pg18, "INSERT INTO log VALUES (5, 'later')")
    together(pg18, "UPDATE item SET price = price - 2, body = 'changed' WHERE shop = 3 AND id = 7")
    together(pg18, "UPDATE item SET price = price - 1 WHERE shop = 3 AND id = 7")
    protected.sealed(protected.look().cut)
    vault, target = protected.vault(), pg18.another()
    restore(vault, vault.resolve(show(since)), target.dsn, Request())

    found = later(vault, (Span(show(since)),), ("public.item.price",))
    assert len(found.unclear) == 1
    assert unclear
    assert open_for(target.dsn, found) == ()
    target.run("UPDATE item SET price = price - 3 WHERE shop = 3 AND id = 7")  # before it comes in: as in a lifeboat
    report = brought_in(target, found)
    assert target.query("SELECT price, body FROM item WHERE shop = 3 AND id = 7") == [(1, "changed")]
    assert target.query("SELECT price, body FROM item WHERE shop = 2 AND id = 3") == [(9, "again")]  # 3 + 10 - 4
    reasons = [(refusal.tenant, refusal.reason) for refusal in report.refused]
    assert reasons == [
        ("5", "a row would be without its parent: public.part part_item_shop_item_id_fkey"),
        ("5", "public.item has no row (shop = 5, id = 60), which it changed"),
    ]
    assert target.query("SELECT said FROM log WHERE shop = 5 AND said <> 'same'") == [("later",)], "all or nothing"
    assert '"n": "1"' in refusals(target.dsn, tenant="5")[0].payload.replace('":"', '": "')
    # Where home went back once more these are among what could not be merged: they are no application's.
    target.run("INSERT INTO item VALUES (5, 60, 1, 'there')")
    again, items = again_by(
        None, [*(refusal.item for refusal in report.refused), MergeItem("5", "a", "x", {}, datetime.now(UTC))]
    )
    assert try_again(target.dsn, items, again).applied == len(items) == 2
    only = later(vault, (Span(show(since), tenant="2"),))
    assert (set(only.of), only.shared, only.transactions) == ({"2"}, (), 2)


def test_what_was_merged_and_could_not_be_done_is_tried_again(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    """By the database's refusal, or the application keeps it; but for what somebody has settled. What came for what is kept
    finds it."""
    pg18.run("CREATE TABLE apart (shop int, said text PRIMARY KEY, paid int NOT NULL DEFAULT 0)")
    protected = start(pg18, new_protected)
    merge(pg18.dsn, [], handler)  # the register is there before
    since = protected.look().cut
    together(pg18, "DELETE FROM part", "DELETE FROM item WHERE shop = 2")
    at = datetime(2026, 1, 1, 12, 30, 0, 120_000, tzinfo=UTC)
    items = [
        MergeItem("2", "a", "part", {"id": 3, "n": 7}, at),
        MergeItem("2", "b", "log", {"said": "done then"}, at),
        MergeItem("2", "c", "keep", {"said": "kept then", "id": 3}, at),
        MergeItem("2", "d", "keep", {"said": "kept still", "id": 99}, at),
        MergeItem("2", "e", "part", {"id": 4, "n": 8}, at),
    ]
    report = merge(pg18.dsn, items, handler)
    assert (report.applied, len(report.refused)) == (3, 2)
    assert settle(pg18.dsn, "2", "e", "paid back") == 1
    assert len(retry(pg18.dsn, handler).refused) == 1
    together(pg18, "UPDATE apart SET paid = 1 WHERE said = 'kept then'")
    protected.sealed(protected.look().cut)
    vault, target = protected.vault(), pg18.another()
    restore(vault, vault.resolve(show(since)), target.dsn, Request())

    found = later(vault, (Span(show(since)),))
    assert found.refused["2"] == (items[0], items[2], items[3])
    assert open_for(target.dsn, found) == ()
    assert brought_in(target, found).refused == ()
    for applied in (2, 0):  # whoever called it was killed before he could note it
        again = try_again(target.dsn, found.refused["2"], handler)
        assert (again.applied, again.refused, again.open) == (applied, (), 1)
    assert target.query("SELECT item_id, n FROM part WHERE item_shop = 2 AND n > 6") == [(3, 7)]
    assert target.query("SELECT said FROM log WHERE said LIKE '% then%' ORDER BY 1") == [
        ("done then",),
        ("kept then, 1",),
    ]
    assert target.query("SELECT said FROM apart") == [("kept still",)]
    assert refusals(target.dsn) == []
    assert merge(target.dsn, items, handler).already == 4


def handler(conn: psycopg.Connection[Any], item: MergeItem) -> Any:
    """Gives something in any case: only True says that it is kept."""
    said = item.payload
    if item.kind == "part":
        return conn.execute("INSERT INTO part (item_shop, item_id, n) VALUES (2, %s, %s)", (said["id"], said["n"]))
    if item.kind == "log":
        return conn.execute("INSERT INTO log VALUES (2, %s)", (said["said"],))
    if not conn.execute("SELECT FROM item WHERE shop = 2 AND id = %s", (said["id"],)).rowcount:
        conn.execute("INSERT INTO apart VALUES (2, %s) ON CONFLICT DO NOTHING", (said["said"],))
        return True
    row = conn.execute("DELETE FROM apart WHERE said = %s RETURNING paid", (said["said"],)).fetchone()
    return conn.execute("INSERT INTO log VALUES (2, %s)", (f"{said['said']}, {row[0] if row else None}",))


def test_what_the_sentinel_put_back_is_neither_done_again_nor_told_as_unclear(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    since = protected.look().cut
    said = (
        "SELECT pg_logical_emit_message(true, 'ballast.actor', 'ballast sentinel, rewinding tenant 1 to 1/0/1: gone')"
    )
    together(pg18, said, "DELETE FROM car WHERE shop = 1", "UPDATE item SET price = 1 WHERE shop = 1 AND id = 3")
    together(pg18, "INSERT INTO log VALUES (1, 'honest')")
    protected.sealed(protected.look().cut)

    found = later(protected.vault(), (Span(show(since), tenant="1"),))
    assert (found.unclear, found.deletions, found.transactions) == ((), 0, 1)
