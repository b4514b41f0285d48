"""The database is away for longer than the pools try by themselves: it is found again when it is back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.mall.arrivals import buys
from ballast.mall.db import Busy, Database
from ballast.mall.doors import Doors
from ballast.mall.ids import new_id
from tests.fix_mall import MallDatabase


def test_a_database_that_was_away_for_long_is_found_again_though_more_asked_than_may_wait(
    mall_database: MallDatabase, tmp_path: Path
) -> None:
    there, sockets = conninfo_to_dict(mall_database.dsn)["host"], tmp_path / "sockets"
    settings = mall_database.settings(
        app_dsn=make_conninfo(mall_database.dsn, host=str(sockets), user="mall_app"), max_waiting=3
    )

    async def ask(db: Database) -> None:
        async with db.directory() as connection:
            await connection.execute("SELECT 1")

    async def story() -> None:
        db = Database(settings)
        await db.open()
        try:
            for _ in range(3):  # two seconds each: longer than they try
                refused = await asyncio.gather(*(ask(db) for _ in range(5)), return_exceptions=True)
                assert [type(one) for one in refused] == [Busy] * 5
            sockets.symlink_to(str(there))
            until = time.monotonic() + 30
            while True:
                try:
                    return await ask(db)
                except Busy:
                    assert time.monotonic() < until, "it is back, and nobody looks"
        finally:
            await db.close()

    asyncio.run(story())


def test_of_those_who_want_a_connection_so_many_wait_and_the_others_are_told_at_once(
    mall_database: MallDatabase,
) -> None:
    settings = mall_database.settings(pool_size=1, max_waiting=2)

    async def story() -> None:
        db = Database(settings)
        await db.open()
        try:
            async with db.directory():
                waiting = [asyncio.create_task(_directory(db)) for _ in range(2)]
                await asyncio.sleep(0)
                with pytest.raises(Busy, match="2 requests wait"):
                    await _directory(db)
            await asyncio.gather(*waiting)
        finally:
            await db.close()

    asyncio.run(story())


async def _directory(db: Database) -> None:
    async with db.directory():
        pass


_ENSURE = """
CREATE SCHEMA IF NOT EXISTS ballast;
CREATE FUNCTION ballast.ensure_tenant(tenant text, patience interval) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('ballast.urgent', true) <> 'on' THEN
        PERFORM pg_advisory_xact_lock_shared(4711);
    END IF;
    RETURN true;
END $$;
GRANT USAGE ON SCHEMA ballast TO PUBLIC;
"""


def test_who_buys_waits_neither_for_those_who_look_around_nor_for_those_who_asked_for_the_same_shop(
    mall_database: MallDatabase,
) -> None:
    async def story() -> None:
        doors = Doors(mall_database.settings())
        await doors.open()
        shops = [new_id() for _ in range(30)]
        try:
            lookers = [asyncio.create_task(doors.arrivals.of(shop)) for shop in shops]
            await asyncio.sleep(0.3)
            buys.set(True)
            await asyncio.gather(*(doors.arrivals.of(shop) for shop in shops[-4:]))
            assert not any(one.done() for one in lookers[:-4])
            held.execute("SELECT pg_advisory_unlock(4711)")
            await asyncio.gather(*lookers)
        finally:
            await doors.close()

    with psycopg.connect(mall_database.dsn, autocommit=True) as held:
        held.execute(_ENSURE)
        held.execute("SELECT pg_advisory_lock(4711)")
        asyncio.run(story())
