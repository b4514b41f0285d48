"""A recovered server is protected without an image of what was put back; its history goes on from its parent's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from ballast.errors import ConfigError
from ballast.recovery import Request, restore
from ballast.recovery.transaction import find_transaction
from ballast.vault.config import Tenants
from ballast.vault.history import history
from ballast.vault.moment import show
from ballast.vault.protect import ProtectionError
from ballast.vault.records import Cut
from tests.fix_descent import Recovered
from tests.fix_postgres import Database, NewServer
from tests.fix_protected import Look, Protected, assert_equal, table_rows, vault_rows

pytestmark = pytest.mark.any_version

SHOPS = Tenants(column="shop", shared=("public.word",))
TABLES = (
    "CREATE TABLE shop (shop int PRIMARY KEY, name text)",
    # Columns that are gone leave holes in the numbers of the others, which a server made anew does not have.
    "CREATE TABLE item (gone int, shop int REFERENCES shop, also_gone int, id bigserial, body text, PRIMARY KEY (shop, id))",
    "ALTER TABLE item DROP COLUMN gone",
    "ALTER TABLE item DROP COLUMN also_gone",
    "CREATE TABLE part (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, item_shop int, item_id bigint, n int,"
    " FOREIGN KEY (item_shop, item_id) REFERENCES item ON DELETE CASCADE)",
    "CREATE TABLE word (code text PRIMARY KEY, said text)",
    "CREATE TABLE log (shop int, said text)",
    "INSERT INTO shop SELECT g, 'Shop ' || g FROM generate_series(1, 6) g",
    "INSERT INTO item (shop, body) SELECT s, repeat(md5(g::text), g * 30) FROM generate_series(1, 6) s, generate_series(1, 9) g",
    "INSERT INTO part (item_shop, item_id, n) SELECT shop, id, 1 FROM item, generate_series(1, 3)",
    "INSERT INTO word VALUES ('a', 'b')",
    "INSERT INTO log SELECT g % 6 + 1, 'same' FROM generate_series(1, 30) g",
)
CHANGES = (
    "UPDATE part SET n = n + 1 WHERE item_id % 2 = 0",
    "DELETE FROM log WHERE ctid = '(0,3)'",
    "UPDATE word SET said = 'c'",
    "INSERT INTO item (shop, body) VALUES (2, 'before the loss')",
)
OTHER_NUMBERS = """
DO $$ BEGIN
    CREATE TEMP TABLE burnt (n int);
    FOR i IN 1..5000 LOOP
        BEGIN INSERT INTO burnt VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP;
END $$
"""
"""A server's next transaction gets a number that none of the lost one had."""


@contextmanager
def lost(
    own_server: NewServer, new_protected: Callable[..., Protected], major: int, *changes: str
) -> Iterator[tuple[Protected, Look, Database]]:
    """A database that was recorded and is gone, the last look at it, and an empty server."""
    first, second = own_server(major=major), own_server(major=major)
    first.start()
    db = Database(first, major, "postgres")
    db.run(*TABLES)
    protected = new_protected(db, SHOPS)
    try:
        protected.protect()
        protected.start()
        db.run(*(changes or CHANGES))
        look = protected.look()
        protected.sealed(look.cut)
        protected.wishes_granted()
        protected.stop()
        first.discard()
        second.start()
        yield protected, look, Database(second, major, "postgres")
    finally:
        protected.end()


def images(protected: Protected, timeline: int) -> list[tuple[int, ...] | None]:
    return [image.relations for image in protected.vault().index.images if image.timeline == timeline]


def rows_of(look_rows: dict[str, list[bytes]], shop: str) -> dict[str, list[bytes]]:
    """Those of one tenant in tables with its column."""
    at = {"public.shop": 0, "public.item": 0, "public.log": 0}
    return {
        table: [line for line in look_rows[table] if line.split(b"\t")[column].decode() == shop]
        for table, column in at.items()
    }


def with_colour(rows: dict[str, list[bytes]]) -> dict[str, list[bytes]]:
    return {**rows, "public.item": [line + b"\tred" for line in rows["public.item"]]}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("major", [16, 18])
def test_tenants_come_back_while_others_write(
    own_server: NewServer, new_protected: Callable[..., Protected], major: int
) -> None:
    with lost(own_server, new_protected, major) as (protected, before, to):
        moment = datetime.now(UTC)
        to.run(OTHER_NUMBERS)
        recovered = Recovered(protected, to)
        recovered.structure()
        recovered.shared("word")
        recovered.back("1")
        outcome = recovered.protect()
        assert (outcome.did, outcome.timeline, outcome.rows) == ("another timeline", 2, 0)
        assert images(protected, 2) == []
        begun = protected.vault().index.timelines[2]
        assert (begun.parent, begun.fork_lsn) == (before.cut.timeline, recovered.resolved.cut.lsn)

        protected.start()
        recovered.back("2")
        to.run(
            "INSERT INTO item (shop, body) VALUES (1, 'after'), (2, 'after')",
            "UPDATE item SET id = id WHERE shop = 1",  # large values are not in the stream: they are the parent's
            "DELETE FROM item WHERE shop = 2 AND body = 'before the loss'",
            "DELETE FROM log WHERE ctid IN (SELECT min(ctid) FROM log WHERE shop = 1)",
            "UPDATE part SET n = 100 WHERE item_shop = 1",
            "ALTER TABLE item ADD COLUMN colour text DEFAULT 'red'",
            "UPDATE item SET colour = 'blue' WHERE shop = 1 AND id < 4",
            "INSERT INTO part (item_shop, item_id, n) SELECT shop, id, 7 FROM item WHERE shop = 1",
        )
        look = protected.look()
        protected.sealed(look.cut)
        vault = protected.vault()
        now = vault_rows(vault, look.cut)
        (segment,) = vault.index.segments_of(1)[:1]
        numbers = vault.transactions(segment)
        assert numbers is not None
        xid = str(numbers["xid"][0].as_py())
        with pytest.raises(ConfigError, match="timeline 2 has no transaction") as not_this_one:
            find_transaction(vault, xid)  # a new one of that number may be yet to come
        (position,) = re.findall(r"its position, (1/\S+)\.", str(not_this_one.value))
        assert str(find_transaction(vault, position)[0].xid) == xid
        for shop in ("1", "2"):
            assert rows_of(now, shop) == rows_of(look.rows, shop), "a tenant that is back is what it is on the server"
        for shop in ("3", "4", "5", "6"):
            assert not rows_of(look.rows, shop)["public.item"]
            assert rows_of(now, shop) == with_colour(rows_of(before.rows, shop)), (
                "one that is not is what its parent says"
            )
        assert now["public.word"] == before.rows["public.word"]
        assert len(now["public.part"]) == len(before.rows["public.part"]) + len(rows_of(now, "1")["public.item"])

        # Everybody is back, and the record is what the server shows, without an image.
        recovered.back("3", "4", "5", "6")
        recovered.finished()
        to.run("UPDATE shop SET name = 'here again' WHERE shop = 6")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        assert images(protected, 2) == []
        protected.verified()
        # Before the loss, and across it.
        assert_equal(protected.vault(), before)
        then = protected.vault().resolve(moment.isoformat())
        assert then.exact
        third = own_server(major=major)
        third.start()  # on the second, commits wait for the recorder
        scratch = Database(third, major, "postgres")
        assert restore(protected.vault(), then, scratch.dsn, Request()).proven
        assert table_rows(scratch.connect()) == before.rows, "the moment before the loss, asked for by its time"
        versions = history(protected.vault(), "shop", ["6"], tenant="6").versions
        assert [(v.timeline, v.what) for v in versions] == [(1, "image"), (2, "update")]
        assert protected.protect().did == "already protected"


@pytest.mark.timeout(240)
def test_a_second_loss_in_the_middle_of_the_first_recovery(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        recovered = Recovered(protected, to)
        recovered.structure()
        recovered.shared("word")
        assert recovered.protect().timeline == 2
        protected.start()
        recovered.back("1", "2")
        to.run("UPDATE shop SET name = 'new' WHERE shop = 1", "INSERT INTO item (shop, body) VALUES (2, 'new')")
        look = protected.look()
        protected.sealed(look.cut)
        protected.wishes_granted()
        protected.stop()
        to.server.discard()

        third = own_server(major=18)
        third.start()
        again = Recovered(protected, Database(third, 18, "postgres"))
        assert again.resolved.cut.timeline == 2
        again.everything()
        found = table_rows(again.to.connect())
        for shop in ("1", "2"):
            assert rows_of(found, shop) == rows_of(look.rows, shop)
        for shop in ("3", "4", "5", "6"):
            assert rows_of(found, shop) == rows_of(before.rows, shop)
        outcome = again.protect()
        assert (outcome.timeline, outcome.rows, images(protected, 3)) == (3, 0, [])
        protected.start()
        again.to.run("DELETE FROM item WHERE shop = 3")
        last = protected.look()
        protected.sealed(last.cut)
        protected.stop()
        assert_equal(protected.vault(), last)
        assert [part.timeline for part in protected.vault().index.chain(last.cut)] == [1, 2, 3]
        assert_equal(protected.vault(), before)
        protected.verified()


@pytest.mark.timeout(240)
def test_what_was_written_before_the_slot_is_imaged_and_told_as_a_gap(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        recovered = Recovered(protected, to)
        recovered.everything()
        to.run(
            "UPDATE word SET said = 'written unseen'",
            "ALTER TABLE log ADD COLUMN at int",
            "CREATE TABLE later (shop int PRIMARY KEY)",
        )
        outcome = recovered.protect()
        vault = protected.vault()
        names = {r.number: r.name for r in vault.relations_at(Cut(2, vault.index.recorded_until(2))).values()}
        (relations,) = images(protected, 2)
        assert relations is not None
        assert {names[n] for n in relations} == {"word", "log", "later"}
        assert outcome.rows == len(before.rows["public.word"]) + len(before.rows["public.log"])
        (gap,) = vault.index.gaps.values()
        assert (gap.timeline, gap.relations, gap.to_lsn) == (2, relations, vault.index.timelines[2].start_lsn)
        between = vault.resolve(to.query("SELECT finished_at FROM ballast_recovery.origin")[0][0].isoformat())
        assert between.gaps == (gap,), "a moment in between is not exact"
        protected.start()
        to.run("INSERT INTO log VALUES (1, 'x', 2)", "UPDATE shop SET name = 'y'")
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        vault = protected.vault()
        assert_equal(vault, look)
        assert vault.resolve(show(look.cut)).exact
        protected.verified()


@pytest.mark.timeout(240)
def test_a_tenant_that_wrote_too_early_keeps_an_unfinished_recovery_from_going_on_unseen(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, _, to):
        recovered = Recovered(protected, to)
        recovered.structure()
        recovered.back("1", "2")
        to.run("UPDATE shop SET name = 'too early' WHERE shop = 2")
        with pytest.raises(ProtectionError, match=r"tenant '2' in public\.shop"):
            recovered.protect()
        assert max(protected.vault().index.timelines) == 1
        recovered.back("3", "4", "5", "6")
        recovered.shared("word")
        recovered.finished()
        outcome = recovered.protect()
        assert (outcome.timeline, outcome.rows) == (2, 6), "the one table that differs is imaged"
        look = protected.look()
        assert vault_rows(protected.vault(), Cut(2, protected.vault().index.recorded_until(2))) == look.rows
        protected.verified()


def test_without_origins_an_image_is_taken_and_old_moments_still_answer(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    with lost(own_server, new_protected, 18) as (protected, before, to):
        recovered = Recovered(protected, to)
        recovered.structure()
        report = restore(recovered.vault, recovered.resolved, to.dsn, Request(tenants=("1",)))
        assert report.proven
        recovered.protect()
        assert images(protected, 2) == [None]
        protected.start()
        restore(recovered.vault, recovered.resolved, to.dsn, Request(tenants=("2",)))
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        assert_equal(protected.vault(), look)
        assert_equal(protected.vault(), before)
        protected.verified()


@pytest.mark.timeout(240)
def test_no_image_is_taken_while_tenants_still_come_back(
    own_server: NewServer, new_protected: Callable[..., Protected]
) -> None:
    """It would say of those that are not back that they have no rows. The gap lasts until the recovery has finished."""
    with lost(own_server, new_protected, 18) as (protected, _, to):
        recovered = Recovered(protected, to)
        recovered.structure()
        recovered.shared("word")
        recovered.back("1")
        recovered.protect()
        protected.start()
        to.run(
            "ALTER TABLE item ALTER COLUMN body TYPE varchar(100000)", "INSERT INTO log VALUES (1, 'something to seal')"
        )
        protected.until(lambda: "Tenants still come back" in protected.tail(), "the imager to refuse")
        assert images(protected, 2) == []
        (gap,) = protected.vault().index.gaps.values()
        assert gap.to_lsn is None
        recovered.back("2", "3", "4", "5", "6")
        recovered.finished()
        protected.wishes_granted()
        assert len(images(protected, 2)) == 1
        look = protected.look()
        protected.sealed(look.cut)
        protected.stop()
        vault = protected.vault()
        assert_equal(vault, look)
        assert vault.resolve(show(look.cut)).exact
        protected.verified()
