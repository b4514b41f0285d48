"""Two databases that were one: what shops accept on the one is written down as in a lifeboat, and comes home to the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ballast.mall import checkout, exceptions, stock
from ballast.mall.checkout import Wanted
from ballast.mall.db import Connection, Database
from ballast.mall.deed_kinds import Callback, Checkout, PaymentBegun
from ballast.mall.deeds import Deed, Journal
from ballast.mall.homecoming import take_in
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.recovery import MergeItem, MergeReport, merge
from tests.fix_mall import MallDatabase, Shop
from tests.integration.mall.ordering import HOME

T = TypeVar("T")
_names = count(1)

WRITTEN = (
    "visitor", "customer", "address", "reset_code", "cart_line", "coupon", "coupon_claim", "limited_price", "orders", "order_line", "order_event", "payment",
    "payment_callback", "refund", "posting", "points_entry", "stock", "stock_movement", "idempotency", "outbox",
)  # fmt: skip
"""What shoppers' deeds write to."""
_OF_ITSELF = ("event_id", "movement_id", "entry_id", "seen_at", "expires_at")
"""Ids that nobody was told, made anew; and when a browser was seen last, which need not be kept."""


class Journalled(Database):
    """A database each of whose transactions is written down. One that has written and noted nothing fails."""

    deeds: list[tuple[UUID, Deed]]

    @contextlib.asynccontextmanager
    async def shop(self, shop_id: UUID) -> AsyncIterator[Connection]:
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


async def kept_apart(connection: Connection, owner: Owner, skus: Sequence[UUID], *, paid: bool = True) -> UUID:
    """An order of two pieces each that was accepted elsewhere, paid there, and is sold out here; its id."""
    now = datetime.now(UTC)
    journal = Journal()
    connection.journal = journal  # type: ignore[attr-defined]
    async with connection.transaction(force_rollback=True):
        wanted = [Wanted(sku, 2) for sku in skus]
        await checkout.place(connection, owner, wanted, key=str(new_id()), address=HOME, shown_fen=None, now=now)
    del connection.journal  # type: ignore[attr-defined]
    (deed,) = journal.deeds
    order: Checkout = deed.payload
    short = stock.OutOfStock(dict.fromkeys(skus, 0))
    await exceptions.keep(connection, deed.key, deed.kind, order, short, now)
    total, payment = order.quote.total_fen, new_id()
    begun = PaymentBegun(order.order_id, owner.id, payment, "sandbox", total, now)
    await exceptions.follow(connection, f"payment_begun:{payment}", "payment_begun", begun, now)
    if paid:
        told = Callback(
            order.order_id, "sandbox", str(payment), "payment.succeeded", payment, f"p-{payment}", total, "{}", now
        )
        await exceptions.follow(connection, f"callback:sandbox:{payment}", "callback", told, now)
    return order.order_id


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
