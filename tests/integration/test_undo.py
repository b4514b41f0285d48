"""One transaction is undone on a recorded server: for all tenants that it touched, unless later changes stand in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ballast.errors import BallastError, ConfigError, GapError, RestoreError
from ballast.recovery.reversal import OnConflict
from ballast.recovery.rewound import Rewound
from ballast.recovery.undo import Undoing, undo
from ballast.vault.config import Tenants
from ballast.vault.history import history
from tests.fix_postgres import Connection, Database
from tests.fix_protected import Protected, table_rows
from tests.kept import Contents, contents

pytestmark = pytest.mark.any_version

TABLES = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text)",
    "CREATE TABLE item (shop int REFERENCES shop, id int, price numeric(9,2), body text,"
    " dear bool GENERATED ALWAYS AS (price > 100) STORED, PRIMARY KEY (shop, id))",
    "CREATE TABLE part (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, item_shop int, item_id int, n int,"
    " FOREIGN KEY (item_shop, item_id) REFERENCES item ON DELETE CASCADE)",
    "CREATE TABLE car (id int PRIMARY KEY, shop int, plate text)",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (shop int, said text)",
    "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(1, 6) g",
    "INSERT INTO item SELECT s, g, g, repeat(md5(g::text), 300) FROM generate_series(1, 6) s, generate_series(1, 9) g",
    "INSERT INTO part (item_shop, item_id, n) SELECT shop, id, 1 FROM item, generate_series(1, 3)",
    "INSERT INTO car SELECT g, g % 6 + 1, 'plate ' || g FROM generate_series(1, 12) g",
    "INSERT INTO word VALUES ('a', 'b'), ('c', 'd')",
    "INSERT INTO log SELECT g % 6 + 1, 'same' FROM generate_series(1, 30) g",
)
SHOPS = Tenants(column="shop", shared=("public.word",), tables={"public.part": "item_shop"})


def start(
    db: Database, new_protected: Callable[..., Protected], counters: tuple[str, ...] = (), **record: object
) -> Protected:
    db.run(*TABLES)
    protected = new_protected(db, msgspec.structs.replace(SHOPS, counters=counters), **record)
    protected.protect()
    protected.start()
    return protected


def rows_of(db: Database) -> Contents:
    """Of the application's tables."""
    return contents(db, but=("canary", "setting"))


def together(db: Database, *statements: str) -> int:
    """All in one transaction; its number."""
    with db.connect(autocommit=False) as conn:
        for statement in statements:
            conn.execute(statement.encode())
        xid = _xid(conn)
        conn.commit()
    return xid


def _xid(conn: Connection) -> int:
    row = conn.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def undone(protected: Protected, xid: int | str, on_conflict: OnConflict = "refuse", **asked: object) -> Rewound:
    protected.sealed(protected.look().cut)
    return undo(protected.vault(), protected.db.dsn, Undoing((str(xid),), on_conflict, **asked))  # type: ignore[arg-type]


def counts(found: Rewound) -> dict[str, tuple[int, int, int]]:
    return {table.table: (table.comes_back, table.changes, table.goes) for table in found.tables}


DAMAGE = (
    "DELETE FROM item WHERE shop IN (2, 3) AND id % 2 = 0",  # with their parts
    "UPDATE item SET price = price + 100 WHERE id % 3 = 0",  # leaves the large value alone
    "UPDATE item SET id = id + 100 WHERE shop = 4 AND id = 1",
    "INSERT INTO item (shop, id, price) VALUES (5, 50, 1)",
    "INSERT INTO part (item_shop, item_id, n) VALUES (5, 50, 7)",
    "UPDATE car SET shop = 6 WHERE id = 1",
    "UPDATE word SET said = NULL WHERE code = 'a'",
    "DELETE FROM log WHERE ctid = (SELECT min(ctid) FROM log)",
    "INSERT INTO log VALUES (3, 'new'), (3, 'same')",
)


def test_all_that_a_transaction_did_is_undone_and_nothing_else(
    pg: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg, new_protected)
    pg.run("UPDATE part SET item_id = NULL WHERE item_shop = 4 AND item_id = 1")
    before = rows_of(pg)
    xid = together(pg, *DAMAGE)
    damaged = rows_of(pg)
    later = ("INSERT INTO item (shop, id, price) VALUES (2, 70, 1)", "UPDATE car SET plate = 'new' WHERE id = 2")
    pg.run(*later)
    with_later = rows_of(pg)

    shown = undone(protected, xid, dry_run=True)
    assert not shown.done
    assert rows_of(pg) == with_later
    found = undone(protected, xid, by="lin", reason="a bad script")
    assert found.done
    assert not found.conflicts
    assert counts(found) == counts(shown)
    assert counts(found)["public.car"] == (0, 1, 0)
    pg.run("DELETE FROM item WHERE id = 70", "UPDATE car SET plate = 'plate 2' WHERE id = 2")
    assert rows_of(pg) == before

    # It is a change like any other: recorded with who and why, and undone itself.
    protected.sealed(protected.look().cut)
    (*_, last) = history(protected.vault(), "word", ["a"], tenant=None).versions
    assert last.actor is not None
    assert last.actor.startswith(f"lin, undoing transaction {xid} (1/")
    assert last.actor.endswith("): a bad script")
    assert (last.what, last.xid) == ("update", found.xid)
    assert found.xid is not None
    assert undone(protected, found.xid).done
    assert rows_of(pg) == damaged
    protected.verified()


def test_later_changes_to_the_same_rows_are_refused_skipped_or_forced(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    before = rows_of(pg18)
    xid = together(
        pg18,
        "UPDATE word SET said = 'x'",
        "DELETE FROM car WHERE id IN (3, 4)",
        "INSERT INTO shop VALUES (7, 'new'), (8, 'new'), (9, 'new')",
        "INSERT INTO log VALUES (7, 'came')",
    )
    pg18.run(
        "UPDATE word SET said = 'later' WHERE code = 'a'",
        "INSERT INTO car VALUES (3, 1, 'another'), (4, 5, 'plate 4')",  # 4 is again what it was
        "UPDATE shop SET name = 'renamed' WHERE shop = 8",
        "DELETE FROM shop WHERE shop = 9",
        "UPDATE log SET said = 'went' WHERE said = 'came'",
    )
    now = rows_of(pg18)
    with pytest.raises(RestoreError, match=r"later changes touched 4 of the rows .*id = 3") as told:
        undone(protected, xid)
    assert "--on-conflict skip" in told.value.do
    assert rows_of(pg18) == now
    shown = undone(protected, xid, dry_run=True)
    touched = {(left.table, tuple(left.key.values())) for left in shown.conflicts}
    assert touched == {("public.word", ("a",)), ("public.car", ("3",)), ("public.shop", ("8",)), ("public.log", ())}
    assert shown.already == 2
    called = [sys.executable, "-m", "ballast.cli", "undo", "--transaction", str(xid), "--dry-run"]
    printed = subprocess.run(called, cwd=protected.folder, capture_output=True, text=True, check=False, timeout=60)
    assert printed.returncode == 1, printed.stderr
    assert "later changes touched 4 of the rows, so the undo would be refused" in printed.stdout
    assert (
        "public.shop shop=8: there was none; the transaction made it shop=8, name=new; now it is shop=8, name=renamed"
        in printed.stdout
    )
    assert rows_of(pg18) == now

    assert counts(undone(protected, xid, "skip")) == {"public.word": (0, 1, 0), "public.shop": (0, 0, 1)}
    assert pg18.query("SELECT * FROM word ORDER BY code") == [("a", "later"), ("c", "d")]
    assert pg18.query("SELECT name FROM shop WHERE shop > 6") == [("renamed",)]
    assert counts(undone(protected, xid, "force")) == {
        "public.word": (0, 1, 0),
        "public.car": (0, 1, 0),
        "public.shop": (0, 0, 1),
    }
    pg18.run("DELETE FROM log WHERE said = 'went'")
    assert rows_of(pg18) == before


def test_what_was_done_since_is_kept_beside_the_undo(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    """Two transactions are undone as one; columns and counters that honest ones changed since are kept."""
    pg18.run(
        "CREATE TABLE stock (shop int, id int PRIMARY KEY, n int, held int NOT NULL DEFAULT 0, note text, CHECK (held <= n))",
        "INSERT INTO stock VALUES (1, 1, 40, 0, 'a'), (2, 2, 5, 0, 'b'), (3, 3, 9, 0, 'c'), (4, 4, 9, 0, 'd'), (4, 5, 1, 0, 'e')",
    )
    protected = start(pg18, new_protected, counters=("public.stock.n",))
    raised = together(pg18, "UPDATE stock SET n = n + 500, note = 'x'")
    noted = together(pg18, "UPDATE stock SET note = 'y' WHERE shop < 3", "DELETE FROM stock WHERE id = 5")
    pg18.run(
        "UPDATE stock SET n = n - 3 WHERE id = 1",
        "UPDATE stock SET n = n - 300, held = 200 WHERE id = 2",  # more than there was
        "UPDATE stock SET note = 'mine' WHERE id = 3",
    )
    protected.sealed(protected.look().cut)
    both = (str(raised), str(noted))

    def again(**asked: Any) -> Rewound:
        done = Undoing(both, counters=("public.stock.n",), **asked)
        return undo(protected.vault(), pg18.dsn, done, state_dir=protected.config.state_dir)

    with pytest.raises(RestoreError, match=r"touched 3 of the rows that transactions .* changed") as told:
        again()
    assert "(3 of these rows)" in told.value.do
    with pytest.raises(ConfigError, match="Nothing of tenant '9'"):
        again(tenants=("9",))
    assert counts(again(tenants=("4",))) == {"public.stock": (1, 1, 0)}
    assert pg18.query("SELECT id, n, note FROM stock WHERE shop = 4 ORDER BY id") == [(4, 9, "d"), (5, 1, "e")]
    found = again(on_conflict="merge")
    assert pg18.query("SELECT id, n, held, note FROM stock WHERE shop < 4 ORDER BY id") == [
        (1, 37, 0, "a"),
        (2, 205, 200, "b"),  # the note alone: the table would refuse the number
        (3, 9, 0, "mine"),
    ]
    assert [(t.tenant, t.put_back, t.merged, t.left) for t in found.by_tenant] == [(n, 0, 1, 0) for n in "123"]
    # Once is enough: what counts does not go back again, whatever was done since. Unless that undo is undone.
    pg18.run("UPDATE stock SET n = n + 1 WHERE id IN (1, 4)")
    assert not again(on_conflict="merge").done
    assert found.xid is not None
    protected.sealed(protected.look().cut)
    undone(protected, found.xid, "skip")
    assert pg18.query("SELECT n, note FROM stock WHERE id IN (3, 4) ORDER BY id") == [(509, "mine"), (10, "d")]
    assert counts(again(on_conflict="merge")) == {"public.stock": (0, 2, 0)}
    assert pg18.query("SELECT id, n, note FROM stock WHERE id IN (2, 3) ORDER BY id") == [(2, 205, "b"), (3, 9, "mine")]
    protected.verified()


def test_a_truncate_is_undone_for_everybody(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg18, new_protected)
    before = rows_of(pg18)
    xid = together(
        pg18,
        "INSERT INTO log VALUES (1, 'before the end')",
        "TRUNCATE log, item CASCADE",
        "INSERT INTO log VALUES (3, 'x')",
    )
    pg18.run("INSERT INTO log VALUES (4, 'later')")
    found = undone(protected, xid)
    assert counts(found) == {"public.log": (30, 0, 1), "public.item": (54, 0, 0), "public.part": (162, 0, 0)}
    pg18.run("DELETE FROM log WHERE said = 'later'")
    assert rows_of(pg18) == before


def test_a_transaction_over_many_tenants(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    """More than are read one by one, and a table whose rows find their tenant through a parent."""
    pg18.run(*TABLES)
    pg18.run(
        "CREATE TABLE note (id serial PRIMARY KEY, item_shop int, item_id int, body text,"
        " FOREIGN KEY (item_shop, item_id) REFERENCES item)",
        "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(100, 199) g",
        "INSERT INTO item SELECT g, 1, 1, 'only' FROM generate_series(100, 199) g",
        "INSERT INTO note (item_shop, item_id, body) SELECT shop, id, 'n' FROM item",
    )
    protected = new_protected(pg18, SHOPS)
    protected.protect()
    protected.start()
    before = rows_of(pg18)
    xid = together(
        pg18,
        "UPDATE shop SET name = 'x'",
        "DELETE FROM note WHERE id % 2 = 0",
        "UPDATE note SET body = 'x' WHERE id % 3 = 0",
        "INSERT INTO log SELECT shop, 'came' FROM shop",
        "UPDATE car SET shop = 100 + id",
    )
    pg18.run("INSERT INTO log VALUES (150, 'later')")
    found = undone(protected, xid)
    assert counts(found)["public.shop"] == (0, 106, 0)
    assert counts(found)["public.car"] == (0, 12, 0)
    assert counts(found)["public.log"] == (0, 0, 106)
    pg18.run("DELETE FROM log WHERE said = 'later'")
    assert rows_of(pg18) == before


def test_foreign_keys_hold_or_nothing_is_undone(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg18, new_protected)
    xid = together(pg18, "INSERT INTO item (shop, id, price) VALUES (1, 50, 1)")
    deleted = together(pg18, "DELETE FROM item WHERE shop = 2 AND id = 3")
    pg18.run("INSERT INTO part (item_shop, item_id, n) VALUES (1, 50, 1)")
    pg18.run("DELETE FROM item WHERE shop = 2", "DELETE FROM shop WHERE shop = 2")
    before = rows_of(pg18)
    with pytest.raises(RestoreError, match=r"would lose its parent in public\.item.*public\.part.*,1,50,1"):
        undone(protected, xid)
    with pytest.raises(RestoreError, match=r"without its parent in public\.shop.*item_shop_fkey.*shop=2"):
        undone(protected, deleted)
    assert rows_of(pg18) == before


def test_by_position_and_what_cannot_be_found(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg18, new_protected)
    before = rows_of(pg18)
    pg18.run("DELETE FROM word WHERE code = 'a'")
    protected.sealed(protected.look().cut)
    (*_, last) = history(protected.vault(), "word", ["a"], tenant=None).versions
    refused: list[tuple[str, type[BallastError]]] = [
        ("the last one", ConfigError),
        ("4000000000", GapError),
        ("1/0/1", GapError),
    ]
    for named, kind in refused:
        with pytest.raises(kind):
            undone(protected, named)
    assert undone(protected, last.position).done
    assert rows_of(pg18) == before
    again = undone(protected, last.position)
    assert not again.done
    assert again.already == 1


def test_a_dropped_table_is_refused_and_a_changed_structure_told(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    dropped = together(pg18, "DELETE FROM log", "DROP TABLE part")
    altered = together(pg18, "UPDATE word SET said = 'x'", "CREATE INDEX ON log (said)")
    with pytest.raises(RestoreError, match=r"dropped public\.part"):
        undone(protected, dropped)
    found = undone(protected, altered)
    assert any("CREATE INDEX" in warning for warning in found.warnings)
    assert pg18.query("SELECT said FROM word ORDER BY code") == [("b",), ("d",)]


def test_a_row_changed_back_by_hand_is_no_conflict_nor_is_another_name(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    protected = start(pg18, new_protected)
    xid = together(pg18, "UPDATE word SET said = 'x' WHERE code = 'a'")
    pg18.run("UPDATE word SET said = 'y' WHERE code = 'a'", "UPDATE word SET said = 'x' WHERE code = 'a'")
    pg18.run("ALTER TABLE word RENAME said TO told", "ALTER TABLE word RENAME TO words")
    assert undone(protected, xid).done
    with pg18.connect(options="-c search_path= -c TimeZone=UTC") as conn:
        assert table_rows(conn)["public.words"] == [b"a\tb", b"c\td"]
