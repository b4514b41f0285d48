"""The way of an incident: what happened, when to go back to, the rewind beside everybody's writes, and back again."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from ballast.errors import ConfigError
from ballast.recovery.changes import Asked, Changes, changes
from ballast.recovery.rewind import Rewinder, Rewinding
from ballast.vault.history import history
from ballast.vault.moment import show
from tests.commands import ballast
from tests.fix_postgres import Database
from tests.fix_protected import Protected
from tests.integration.test_undo import rows_of, start, together
from tests.kept import Contents

pytestmark = pytest.mark.any_version


def command(protected: Protected, *arguments: str, code: int = 0) -> Any:
    with contextlib.chdir(protected.folder):
        done = ballast(*arguments, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def printed(protected: Protected, *arguments: str) -> str:
    with contextlib.chdir(protected.folder):
        done = ballast(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def told(protected: Protected, **asked: Any) -> Changes:
    protected.sealed(protected.look().cut)
    return changes(protected.vault(), Asked(**asked))


def of(found: Contents, shop: bytes) -> Contents:
    """The rows of one shop."""
    column = {"public.part": 1, "public.car": 1}
    return {
        table: [line for line in lines if line.split(b"\t")[column.get(table, 0)] == shop]
        for table, lines in found.items()
        if table != "public.word"
    }


ACTOR = "SELECT pg_logical_emit_message(true, 'ballast.actor', 'import job')"


def test_from_what_happened_to_the_rewind_and_back(pg: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg, new_protected)
    pg.run("INSERT INTO item SELECT s, 500 + s, 1 FROM generate_series(1, 6) s", "UPDATE word SET said = 'x'")
    good = rows_of(pg)
    moment = datetime.now(UTC)
    worst = together(pg, ACTOR, "DELETE FROM item WHERE shop = 3", "UPDATE shop SET name = 'oops' WHERE shop = 3")
    pg.run("DELETE FROM log WHERE shop = 3 AND ctid = (SELECT min(ctid) FROM log WHERE shop = 3)")
    pg.run("UPDATE item SET price = 9 WHERE shop = 4", "INSERT INTO word VALUES ('new', 'n')")
    damaged = rows_of(pg)

    # It waits until the vault has a commit past the moment.
    shown = command(protected, "rewind", "--tenant", "3", "--at", moment.isoformat(), "--dry-run")["rewind"]
    assert not shown["done"]
    found = command(protected, "changes", "--vault", protected.config.vault, "--tenant", "3")
    (first, *_) = found["transactions"]
    assert (first["xid"], first["actor"]) == (worst, "import job")
    assert (first["deleted"], first["updated"], first["inserted"]) == (37, 1, 0)
    proposal = found["proposal"]
    assert proposal["at"] == first["position"]
    assert proposal["why"] == f"just before transaction {worst} by import job, which deleted 27 rows of public.part"
    text = printed(protected, "changes", "--vault", protected.config.vault, "--tenant", "3")
    assert f"to go back to {proposal['at']}, {proposal['why']}:" in text
    text = printed(protected, "rewind", "--tenant", "3", "--at", proposal["at"], "--dry-run")
    assert "changes     shop=3   name: oops → Shop 3" in text
    assert "dry run: nothing was changed" in text
    assert rows_of(pg) == damaged

    done = command(
        protected, "rewind", "--tenant", "3", "--at", proposal["at"], "--by", "lin", "--reason", "the import was wrong"
    )["rewind"]
    assert done["done"]
    assert done["tables"] == shown["tables"]
    now = rows_of(pg)
    assert of(now, b"3") == of(good, b"3")
    for shop in (b"1", b"2", b"4", b"5", b"6"):
        assert of(now, shop) == of(damaged, shop)
    assert now["public.word"] == damaged["public.word"]

    protected.sealed(protected.look().cut)
    (*_, last) = history(protected.vault(), "shop", ["3"], tenant="3").versions
    assert (last.what, last.xid) == ("update", done["xid"])
    assert last.actor == f"lin, rewinding tenant 3 to {proposal['at']}: the import was wrong"
    assert [(c.column, c.before, c.after) for c in last.changed] == [("name", "oops", "Shop 3")]

    # To before the rewind, and to before that.
    back = command(protected, "rewind", "--tenant", "3", "--at", done["before"])["rewind"]
    assert back["done"]
    assert rows_of(pg) == damaged
    again = command(protected, "undo", "--transaction", str(back["xid"]))["undo"]
    assert again["done"]
    assert of(rows_of(pg), b"3") == of(good, b"3")
    protected.verified()


def test_the_others_write_on_and_lose_nothing(pg: Database, new_protected: Callable[..., Protected]) -> None:
    """Each rewind of shop 3 is exact, while clients of the other shops write, refer to the same shared rows, and never fail."""
    protected = start(pg, new_protected)
    pg.run("ALTER TABLE car ADD word text REFERENCES word", "UPDATE car SET word = 'a'")
    cut = protected.look().cut
    protected.sealed(cut)
    good = of(rows_of(pg), b"3")
    vault, stop = protected.vault(), threading.Event()
    acknowledged: dict[int, set[int]] = {1: set(), 2: set(), 4: set()}
    failed: list[psycopg.Error] = []

    def write(shop: int) -> None:
        number = shop * 1_000_000
        try:
            with psycopg.connect(pg.dsn, autocommit=True) as conn:
                while not stop.is_set():
                    number += 1
                    with conn.transaction():
                        conn.execute("INSERT INTO item (shop, id, price) VALUES (%s, %s, 1)", (shop, number))
                        conn.execute("INSERT INTO part (item_shop, item_id, n) VALUES (%s, %s, 1)", (shop, number))
                        conn.execute("INSERT INTO car VALUES (%s, %s, '', 'a')", (number, shop))
                        conn.execute("UPDATE word SET said = %s WHERE code = 'c'", (str(number),))
                    acknowledged[shop].add(number)
        except psycopg.Error as error:
            failed.append(error)

    clients = [threading.Thread(target=write, args=(shop,)) for shop in acknowledged]
    for client in clients:
        client.start()
    try:
        with Rewinder(vault, pg.dsn) as rewinder:
            for _ in range(12):
                pg.run("DELETE FROM car WHERE shop = 3", "UPDATE item SET price = 77 WHERE shop = 3 AND id > 5")
                pg.run("DELETE FROM item WHERE shop = 3 AND id < 4", "INSERT INTO log VALUES (3, 'more')")
                assert rewinder.rewind(vault.resolve(show(cut)), Rewinding("3")).done
                assert of(rows_of(pg), b"3") == good
                time.sleep(0.05)
    finally:
        stop.set()
        for client in clients:
            client.join(60)
    assert not failed
    for shop, numbers in acknowledged.items():
        assert len(numbers) > 20
        held = {int(row[0]) for row in pg.query("SELECT id FROM item WHERE shop = %s AND id > 1000000", shop)}
        assert numbers <= held


def test_the_newest_minute_is_not_lost_for_want_of_sealing(
    pg18: Database, new_protected: Callable[..., Protected]
) -> None:
    """The vault ends before the moment asked for: the rewind waits for it instead of going back further than asked."""
    protected = start(pg18, new_protected, seal_after_s=4)
    protected.sealed(protected.look().cut)
    pg18.run("INSERT INTO item (shop, id, price) VALUES (3, 700, 7)")
    moment = datetime.now(UTC)
    pg18.run("DELETE FROM item WHERE shop = 3 AND id = 1")
    command(protected, "rewind", "--tenant", "3", "--at", moment.isoformat())
    assert pg18.query("SELECT id FROM item WHERE shop = 3 AND id IN (1, 700) ORDER BY id") == [(1,), (700,)]
    refused = command(protected, "rewind", "--tenant", "3", "--at", "newest", code=2)
    assert "not the newest" in refused["what"]


def test_what_happened(pg18: Database, new_protected: Callable[..., Protected]) -> None:
    protected = start(pg18, new_protected)
    begin = protected.look().cut
    deleted = together(pg18, ACTOR, "DELETE FROM part WHERE item_shop = 2", "INSERT INTO log VALUES (2, 'y'), (2, 'z')")
    truncated = together(pg18, "TRUNCATE log")
    updated = together(pg18, "UPDATE item SET price = 5 WHERE shop = 2")
    together(pg18, "UPDATE word SET said = 'q' WHERE code = 'a'")
    dropped = together(pg18, "DROP TABLE part")
    together(pg18, "INSERT INTO shop VALUES (9, 'new')")

    found = told(protected, since=show(begin))
    harm = [(t.xid, t.deleted, t.updated, t.inserted) for t in found.transactions]
    assert harm[:4] == [(dropped, 135, 0, 0), (truncated, 32, 0, 0), (deleted, 27, 0, 2), (updated, 0, 9, 0)]
    assert [h[1:] for h in harm[4:]] == [(0, 1, 0), (0, 0, 1)]
    assert found.transactions[0].tables[0].how == "dropped"
    assert found.transactions[1].tables[0].how == "truncated"
    assert found.transactions[1].tag is None
    by_actor = {s.actor: (s.transactions, s.deleted, s.updated, s.inserted) for s in found.by_actor}
    assert by_actor == {"import job": (1, 27, 0, 2), None: (5, 167, 10, 1)}
    by_table = {t.table: (t.deleted, t.updated, t.inserted) for t in found.by_table}
    assert by_table["public.part"] == (162, 0, 0)
    assert by_table["public.log"] == (32, 0, 2)
    assert found.proposal is not None
    assert found.proposal.at == found.transactions[0].position

    mine = told(protected, since=show(begin), tenant="2")
    assert [(t.xid, t.deleted, t.updated) for t in mine.transactions] == [
        (deleted, 27, 0),
        (updated, 0, 9),
        (truncated, 7, 0),
    ]
    assert mine.proposal is not None
    assert mine.proposal.at == mine.transactions[0].position
    assert mine.undo == (mine.transactions[0].position,)
    assert [(t.tenants, t.hit) for t in mine.transactions[:2]] == [(1, ("2",))] * 2
    only = told(protected, since=show(begin), tables=("log",), limit=1)
    assert ([t.xid for t in only.transactions], only.left_out) == ([truncated], 1)
    before = told(protected, since=show(begin), until=found.transactions[2].position)
    assert not before.transactions
    assert before.proposal is None
    with pytest.raises(ConfigError, match="never seen tenant"):
        told(protected, tenant="nobody")
    with pytest.raises(ConfigError, match="no table"):
        told(protected, tables=("nothing",))
    with pytest.raises(ConfigError, match="comes after"):
        told(protected, since=found.until, until=show(begin))
