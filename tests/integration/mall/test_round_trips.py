"""What is put off travels with the next statement: in its order, in its transaction, with its errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from ballast.mall.db import Database
from ballast.mall.round_trips import ShopConnection, ending, gather, later
from tests.fix_mall import OpenShop, Shop

_NOTE = (
    "INSERT INTO mall.idempotency (shop_id, scope, key, request_hash, created_at)"
    " VALUES (mall.current_shop(), 'trip', %(key)s, '', now())"
)
_COUNT = "SELECT count(*)::integer AS notes FROM mall.idempotency WHERE scope = %(scope)s"


def _count(connection: Any) -> Awaitable[int]:
    async def count() -> int:
        row = await (await connection.execute(_COUNT, {"scope": "trip"})).fetchone()
        return int(row["notes"])

    return count()


def _with(shop: Shop, story: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        db = Database(shop.database.settings(pool_size=1))
        await db.open()
        try:
            await asyncio.wait_for(story(db), 60)
        finally:
            await db.close()

    asyncio.run(run())


def _notes(shop: Shop) -> int:
    query = "SELECT count(*) FROM mall.idempotency WHERE shop_id = %s AND scope = 'trip'"
    return int(shop.database.run(query, shop.shop_id)[0][0])


def test_what_was_put_off_is_done_before_what_is_read_and_with_the_commit(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            await later(connection, _NOTE, {"key": "a"})
            await later(connection, _NOTE, {"key": "b"})
            assert await _count(connection) == 2
            await later(connection, _NOTE, {"key": "c"})
        async with db.shop(shop.shop_id) as connection:
            first, second = await gather(connection, (_COUNT, {"scope": "trip"}), (_COUNT, {"scope": "none"}))
            assert [await first.fetchone(), await second.fetchall()] == [{"notes": 3}, [{"notes": 0}]]

    _with(shop, story)
    assert _notes(shop) == 3


def test_an_error_of_what_was_put_off_undoes_all_and_leaves_a_good_connection(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async def twice(read: bool) -> None:
            async with db.shop(shop.shop_id) as connection:
                await later(connection, _NOTE, {"key": "a"})
                await later(connection, _NOTE, {"key": "a"})
                if read:
                    await _count(connection)

        async def given_up() -> None:
            async with db.shop(shop.shop_id) as connection:
                await later(connection, _NOTE, {"key": "a"})
                raise ZeroDivisionError

        for read in (True, False):
            with pytest.raises(psycopg.errors.UniqueViolation):
                await twice(read)
        with pytest.raises(ZeroDivisionError):
            await given_up()
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 0
            # psycopg's own ways see what was put off, too.
            await later(connection, _NOTE, {"key": "a"})
            with contextlib.suppress(ZeroDivisionError):
                async with connection.transaction():
                    await connection.execute(_NOTE, {"key": "b"})
                    raise ZeroDivisionError
            assert await _count(connection) == 1

    _with(shop, story)
    assert _notes(shop) == 1


def test_the_last_statement_commits_and_one_more_is_a_transaction_of_the_same_shop(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            await later(connection, _NOTE, {"key": "a"})
            ending(connection)
            assert await _count(connection) == 1
            assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert _notes(shop) == 1
            await connection.execute(_NOTE, {"key": "b"})
            assert _notes(shop) == 1
            assert await _count(connection) == 2

    _with(shop, story)
    assert _notes(shop) == 2


def test_what_fails_at_the_commit_itself_is_not_kept_and_is_told(open_shop: OpenShop) -> None:
    shop = open_shop()
    shop.database.run(
        """
        CREATE FUNCTION mall.refused() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not at the end'; END $$;
        CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON mall.idempotency DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW WHEN (NEW.key = 'late') EXECUTE FUNCTION mall.refused()"""
    )

    async def on_one_way(db: Database) -> None:
        """Its end is the commit."""
        async with db.shop(shop.shop_id) as connection:
            ending(connection)
            await connection.execute(_NOTE, {"key": "late"})

    async def by_a_commit(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 0
            await later(connection, _NOTE, {"key": "late"})

    async def story(db: Database) -> None:
        for refused in (on_one_way, by_a_commit):
            with pytest.raises(psycopg.errors.RaiseException):
                await refused(db)
        async with db.shop(shop.shop_id) as connection:
            await later(connection, _NOTE, {"key": "a"})
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 1

    try:
        _with(shop, story)
    finally:
        shop.database.run("DROP TRIGGER refused ON mall.idempotency")
        shop.database.run("DROP FUNCTION mall.refused")
    assert _notes(shop) == 1


def test_lists_arrive_as_they_are(open_shop: OpenShop) -> None:
    shop = open_shop()
    ids = [UUID(int=n << 100) for n in range(3)]
    query = "SELECT %(ids)s::uuid[] AS ids, %(texts)s::text[] AS texts, %(numbers)s::bigint[] AS numbers"

    async def story(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            for given in (
                {"ids": ids, "texts": ["a,b", '"{}', ""], "numbers": [1, 1 << 40]},
                {"ids": [], "texts": [], "numbers": [None]},
                {"ids": [ids[1], None], "texts": [None, "null"], "numbers": [-1]},
            ):
                assert await (await connection.execute(query, given)).fetchone() == given
                # … and by psycopg's own way.
                assert await (await connection.execute(query, given, prepare=False)).fetchone() == given

    _with(shop, story)


def test_who_is_cancelled_while_he_waits_leaves_a_good_connection(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async def wait() -> None:
            async with db.shop(shop.shop_id) as connection:
                await later(connection, _NOTE, {"key": "a"})
                await connection.execute("SELECT pg_sleep(%(s)s)", {"s": 50})

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 0

    _with(shop, story)


def test_a_table_that_has_changed_costs_one_request_its_prepared_statement(open_shop: OpenShop) -> None:
    shop = open_shop()
    query = "SELECT i.* FROM mall.idempotency i WHERE scope = %(scope)s"

    async def story(db: Database) -> None:
        async def read() -> None:
            async with db.shop(shop.shop_id) as connection:
                assert isinstance(connection, ShopConnection)
                await connection.execute(query, {"scope": "trip"})

        await read()
        shop.database.run("ALTER TABLE mall.idempotency ADD COLUMN tried text")
        try:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                await read()
            await read()
        finally:
            shop.database.run("ALTER TABLE mall.idempotency DROP COLUMN tried")

    _with(shop, story)


def test_what_a_check_refuses_is_not_committed_with_whatever_it_came(open_shop: OpenShop) -> None:
    shop = open_shop()

    def some(rows: int) -> None:
        if not rows:
            raise LookupError

    async def story(db: Database) -> None:
        async def checked(scope: str, *, read: bool = False, end: bool = False, more: bool = False) -> int:
            async with db.shop(shop.shop_id) as connection:
                await later(
                    connection, "SELECT 1 FROM mall.idempotency WHERE scope = %(s)s LIMIT 1", {"s": scope}, some
                )
                if end:
                    ending(connection)
                await later(connection, _NOTE, {"key": "b" if scope == "trip" else "never"})
                found = await _count(connection) if read else -1
                if more:
                    await later(connection, _NOTE, {"key": "c"})
                return found

        for kind in ({}, {"read": True}, {"read": True, "end": True}):
            with pytest.raises(LookupError):
                await checked("nothing", **kind)  # type: ignore[arg-type]
        async with db.shop(shop.shop_id) as connection:
            await later(connection, _NOTE, {"key": "a"})
        assert await checked("trip", read=True, end=True, more=True) == 2
        # A statement that fails because of what was to be looked at says less than that.

        async def fails() -> None:
            async with db.shop(shop.shop_id) as connection:
                await later(connection, "SELECT 1 FROM mall.idempotency WHERE scope = 'nothing'", None, some)
                await connection.execute("SELECT 1 / 0")

        with pytest.raises(LookupError):
            await fails()

    _with(shop, story)
    assert _notes(shop) == 3


def test_who_stops_waiting_ends_what_was_under_way_and_leaves_a_good_connection(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async def sleep() -> None:
            async with db.shop(shop.shop_id) as connection:
                await later(connection, _NOTE, {"key": "a"})
                await connection.execute("SELECT pg_sleep(50)")

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(), 0.3)
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 0
            row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)%' AND state = 'active'"
        assert shop.database.run(f"{sleeping} AND pid <> pg_backend_pid()") == [(0,)]
        # It is the same connection, which was not lost.
        async with db.shop(shop.shop_id) as connection:
            assert row == await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()

    _with(shop, story)


def test_a_long_answer_and_a_long_statement_come_whole(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        sent = "x" * 8_000_000
        async with db.shop(shop.shop_id) as connection:
            cursor = await connection.execute("SELECT %(sent)s::text || %(sent)s::text AS long", {"sent": sent})
            assert await cursor.fetchone() == {"long": sent * 2}

    _with(shop, story)


def test_a_server_that_ends_an_idle_connection_is_not_noticed_by_the_next_call(open_shop: OpenShop) -> None:
    shop = open_shop()

    async def story(db: Database) -> None:
        async with db.shop(shop.shop_id) as connection:
            row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
        assert row is not None
        shop.database.run("SELECT pg_terminate_backend(%s)", row["pid"])
        await asyncio.sleep(0.3)
        async with db.shop(shop.shop_id) as connection:
            assert await _count(connection) == 0

    _with(shop, story)
