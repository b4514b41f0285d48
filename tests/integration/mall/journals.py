"""Two databases that were one: what shops accept on the one is written down as in a lifeboat, and comes home to the other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.mall.db import Connection, Database
from ballast.mall.deeds import Deed, Journal
from ballast.mall.homecoming import take_in
from ballast.recovery import MergeItem, MergeReport, merge
from tests.fix_mall import MallDatabase, Shop

T = TypeVar("T")
_names = count(1)

WRITTEN = (
    "visitor", "customer", "cart_line", "coupon", "coupon_claim", "limited_price", "orders", "order_line", "order_event", "payment",
    "payment_callback", "refund", "posting", "points_entry", "stock", "stock_movement", "idempotency", "outbox",
)  # fmt: skip
"""What shoppers' deeds write to."""
_OF_ITSELF = ("event_id", "movement_id", "entry_id", "seen_at", "expires_at")
"""Ids that nobody was told, made anew; and when a browser was seen last, which need not be kept."""


class Journalled(Database):
    """A database each of whose transactions is written down. One that has written and noted nothing fails."""

    deeds: list[tuple[UUID, Deed]]

    @contextlib.asynccontextmanager
    async def shop(self, shop_id: UUID, *, pipelined: bool = False) -> AsyncIterator[Connection]:
        """As `Database.shop`, where somebody listens."""
        journal = Journal()
        async with super().shop(shop_id) as connection:
            connection.journal = journal  # type: ignore[attr-defined]
            try:
                yield connection
            finally:
                del connection.journal  # type: ignore[attr-defined]
            row = await (
                await connection.execute("SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote")
            ).fetchone()
            assert row is not None
            if row["wrote"]:
                assert journal.deeds or journal.of_no_weight, "a change that would be lost"
        self.all_deeds().extend((shop_id, deed) for deed in journal.deeds)

    @classmethod
    def all_deeds(cls) -> list[tuple[UUID, Deed]]:
        """What was noted, in that order."""
        return cls.deeds


def listening() -> type[Journalled]:
    """A database class of a test's own, with an empty journal."""
    return type("Listening", (Journalled,), {"deeds": []})


def afloat(kind: type[Journalled], shop: Shop, act: Callable[[Connection], Awaitable[T]]) -> T:
    """What `act` gives, in a transaction of the shop that is written down."""
    import asyncio

    async def run() -> T:
        db = kind(shop.database.settings())
        await db.open()
        try:
            async with db.shop(shop.shop_id) as connection:
                return await act(connection)
        finally:
            await db.close()

    return asyncio.run(run())


def items(noted: Sequence[tuple[UUID, Deed]]) -> list[MergeItem]:
    """As they come out of an intake: through JSON."""
    return [
        MergeItem(
            str(shop_id), deed.key, deed.kind, msgspec.json.decode(msgspec.json.encode(deed.payload)), datetime.now(UTC)
        )
        for shop_id, deed in noted
    ]


def come_home(to: MallDatabase, noted: Sequence[tuple[UUID, Deed]]) -> MergeReport:
    """What was accepted is merged into this database."""
    return merge(to.dsn, items(noted), take_in)


@contextlib.contextmanager
def twin(of: MallDatabase) -> Iterator[MallDatabase]:
    """Another database that begins as this one is now."""
    name = f"twin_{next(_names)}_{conninfo_to_dict(of.dsn)['dbname']}"
    with psycopg.connect(make_conninfo(of.dsn, dbname="postgres"), autocommit=True) as connection:
        template = sql.Identifier(str(conninfo_to_dict(of.dsn)["dbname"]))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), template))
        try:
            yield MallDatabase(make_conninfo(of.dsn, dbname=name), of.secret)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def rows(database: MallDatabase, shop: Shop) -> dict[str, list[str]]:
    """What deeds have made in a shop, table by table, without what is made anew each time."""
    return {
        table: sorted(
            json.dumps(row, sort_keys=True)
            for (row,) in database.run(
                f"SELECT to_jsonb(t) - %s::text[] FROM mall.{table} t WHERE shop_id = %s",
                list(_OF_ITSELF),
                shop.shop_id,
            )
        )
        for table in WRITTEN
    }


def kinds(noted: Sequence[tuple[UUID, Deed]]) -> list[str]:
    """Of what kinds they are."""
    return [deed.kind for _, deed in noted]


def plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(value))
