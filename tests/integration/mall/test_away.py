"""The database is away for longer than the pools try by themselves: it is found again when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

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
CREATE OR REPLACE FUNCTION ballast.ensure_tenant(tenant text, patience interval) RETURNS boolean LANGUAGE plpgsql AS $$
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


def test_nobody_is_taken_for_back_in_another_database_that_stands_under_the_same_name(
    mall_database: MallDatabase,
) -> None:
    shop, name = new_id(), str(conninfo_to_dict(mall_database.dsn)["dbname"])

    async def story() -> None:
        doors = Doors(mall_database.settings())
        await doors.open()
        try:
            await doors.arrivals.of(shop)
            async with doors.app.one() as connection:  # its plans are kept: it must have been asked for
                row = await (await connection.execute("SHOW plan_cache_mode")).fetchone()
                assert row == {"plan_cache_mode": "auto"}
            with _another(mall_database.dsn, name):
                await _asked_for(doors, shop)
        finally:
            await doors.close()

    mall_database.run(_ENSURE)
    asyncio.run(story())


async def _asked_for(doors: Doors, shop: UUID) -> None:
    """Returns when the server was asked for it, which has no such function."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            async with doors.identity.one() as connection:
                await connection.execute("SELECT 1")
            await doors.arrivals.of(shop)
        except (psycopg.errors.UndefinedFunction, psycopg.errors.InvalidSchemaName):
            return
        except (Busy, psycopg.Error):
            pass
        await asyncio.sleep(0.1)
    raise AssertionError("it is taken for back")


@contextlib.contextmanager
def _another(dsn: str, name: str) -> Iterator[None]:
    """An empty database stands in the place of that one."""
    with psycopg.connect(make_conninfo(dsn, dbname="template1"), autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        conn.execute(f"ALTER DATABASE {name} RENAME TO {name}_before".encode())
        try:
            conn.execute(f"CREATE DATABASE {name}".encode())
            yield
        finally:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            conn.execute(f"ALTER DATABASE {name}_before RENAME TO {name}".encode())
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
