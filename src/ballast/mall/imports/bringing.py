"""A batch of products or orders into a shop: looked at, those that are there left out, the others written in one transaction.

What is there is known by its code, and a product or an order is in the shop whole or not at all. So a run that was killed
anywhere goes on by being run again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from ballast.mall import audit, queries, tables
from ballast.mall.audit import By
from ballast.mall.db import Connection, Database
from ballast.mall.ids import derived
from ballast.mall.imports import orders, products
from ballast.mall.imports.grouping import Group
from ballast.mall.past import Goods
from ballast.mall.rules import levels
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredLevel
from ballast.mall.terms import levels as levels_of

_SQL = queries.load("imports")
BY = By(None, "import")
"""Who did it, in a shop's record: nobody who signed in."""


class Done(msgspec.Struct, frozen=True):
    """What became of a batch."""

    brought: int
    there: int
    bad: tuple[tuple[Group, str], ...] = ()


Bring = Callable[[Connection, UUID, Sequence[Group], datetime], Awaitable[Done]]


async def bring(db: Database, work: Bring, shop_id: UUID, batch: Sequence[Group], now: datetime) -> Done:
    """A batch in one transaction. Where the database refuses something that we did not foresee, each group by itself: one that
    cannot be written keeps none of the others out."""
    try:
        async with db.shop(shop_id) as connection:
            await connection.execute(_SQL.one_at_a_time)
            done = await work(connection, shop_id, batch, now)
            if done.brought:
                kind = "products" if work is bring_products else "orders"
                await audit.note_in_shop(
                    connection, BY, "data.imported", now, shop_id=shop_id, subject=kind, brought=done.brought
                )
            return done
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        if len(batch) == 1:
            said = error.diag.message_primary or str(error)
            return Done(0, 0, ((batch[0], f"The database does not take it: {said}."),))
    parts = [await bring(db, work, shop_id, [group], now) for group in batch]
    return Done(
        sum(one.brought for one in parts),
        sum(one.there for one in parts),
        tuple(bad for one in parts for bad in one.bad),
    )


async def bring_products(connection: Connection, shop_id: UUID, batch: Sequence[Group], now: datetime) -> Done:
    """Products."""
    known = await products.shelf(connection, [group.code for group in batch])
    rows = tables.Rows()
    brought = there = 0
    bad: list[tuple[Group, str]] = []
    for group in batch:
        try:
            found = products.read(group, now)
            if found.code in known.there:
                _same_skus(found, known)
                there += 1
            else:
                rows.add(*products.rows_of(shop_id, found, known, now))
                brought += 1
        except Refused as error:
            bad.append((group, str(error)))
    await rows.write(connection)
    return Done(brought, there, tuple(bad))


async def bring_orders(connection: Connection, shop_id: UUID, batch: Sequence[Group], now: datetime) -> Done:
    """Orders."""
    bad: list[tuple[Group, str]] = []
    read: list[tuple[Group, orders.Brought]] = []
    for group in batch:
        try:
            read.append((group, orders.read(group, now)))
        except Refused as error:
            bad.append((group, str(error)))
    known = await _known(connection, shop_id, [order for _, order in read])
    rows = tables.Rows()
    newcomers: set[str] = set()
    earned: dict[UUID, tuple[int, int]] = {}
    sold: dict[UUID, int] = {}
    brought = there = 0
    for group, order in read:
        try:
            if order.code in known.there:
                _same_order(order, known)
                there += 1
                continue
            key = order.member.key if order.member else None
            past, told = orders.past(shop_id, order, known, known.members[key] if key else None)
        except Refused as error:
            bad.append((group, str(error)))
            continue
        known.there[order.code] = order.items_fen, len(order.pieces)
        known.taken.add(past.number)
        rows.add(*told.rows)
        brought += 1
        if key and past.customer_id:
            newcomers.add(key)
            spent, points = earned.get(past.customer_id, (0, 0))
            earned[past.customer_id] = spent + told.spent_fen, points + told.points
        if told.sold:
            for one in past.goods:
                if one.product_id:
                    sold[one.product_id] = sold.get(one.product_id, 0) + one.quantity
    rows.add(*_new_members(read, known, newcomers))
    await rows.write(connection)
    await _settle(connection, known, earned)
    if sold:
        await connection.execute(
            queries.load("orders").count_sold, {"products": list(sold), "pieces": list(sold.values())}
        )
    return Done(brought, there, tuple(bad))


def _same_skus(product: products.Brought, known: products.Shelf) -> None:
    if products.lacks(product, known.there[product.code][1]):
        raise Refused(
            "import.scattered",
            "A product of this code is there already, without these SKUs.",
            "All lines of a product follow each other in the file; SKUs are added to one that is there in the shop's own pages.",
        )


def _same_order(order: orders.Brought, known: orders.Known) -> None:
    if known.there[order.code] != (order.items_fen, len(order.pieces)):
        raise Refused(
            "import.scattered",
            "An order of this number is there already, with other lines or amounts; it stays as it is.",
            "All lines of an order follow each other in the file.",
        )


async def _known(connection: Connection, shop_id: UUID, read: Sequence[orders.Brought]) -> orders.Known:
    there = await connection.execute(_SQL.orders_there, {"codes": [one.code for one in read]})
    found = {row["external_code"]: (row["items_fen"], row["lines"]) for row in await there.fetchall()}
    numbers = [number for one in read if one.code not in found for number in orders.numbers(shop_id, one)]
    taken = await connection.execute(_SQL.numbers_taken, {"numbers": numbers})
    terms = await (await connection.execute(_SQL.terms)).fetchone()
    assert terms is not None
    members, newcomers = await _members(connection, shop_id, read)
    return orders.Known(
        there=found,
        taken={row["number"] for row in await taken.fetchall()},
        goods=await _goods(connection, read),
        members=members,
        newcomers=newcomers,
        points_per_yuan=terms["points_per_yuan"],
        levels=levels_of(msgspec.json.decode(terms["levels"], type=list[StoredLevel]), terms["points_per_yuan"]),
    )


async def _goods(connection: Connection, read: Sequence[orders.Brought]) -> dict[tuple[str, str], Goods]:
    codes = {piece.product_code for one in read for piece in one.pieces if piece.product_code}
    found: dict[tuple[str, str], Goods] = {}
    if not codes:
        return found
    several: set[str] = set()
    for row in await (await connection.execute(_SQL.goods, {"codes": sorted(codes)})).fetchall():
        sku = Goods(
            row["title"],
            1,
            0,
            0,
            0,
            row["title_en"],
            tuple(row["options"]),
            row["picture"],
            row["product_id"],
            row["sku_id"],
        )
        code = row["external_code"]
        if row["code"]:
            found[code, row["code"]] = sku
        if (code, "") in found:
            several.add(code)
        found[code, ""] = sku
    for code in several:
        # Which of several SKUs it was nobody knows.
        found[code, ""] = msgspec.structs.replace(found[code, ""], sku_id=None, options=())
    return found


async def _members(
    connection: Connection, shop_id: UUID, read: Sequence[orders.Brought]
) -> tuple[dict[str, UUID], frozenset[str]]:
    """Customers by their keys; those that the shop does not have, with the ids that they will have, are named besides."""
    wanted = orders.members_of(read)
    if not wanted:
        return {}, frozenset()
    newcomers = set(wanted)
    found = {key: derived(since, shop_id, "customer", key) for key, (_, _, since) in wanted.items()}
    cursor = await connection.execute(_SQL.members, {"keys": list(wanted)})
    for row in await cursor.fetchall():
        for name in ("email", "phone", "external_code"):
            if row[name] in found:
                found[row[name]] = row["customer_id"]
                newcomers.discard(row[name])
    return found, frozenset(newcomers)


def _new_members(
    read: Sequence[tuple[Group, orders.Brought]], known: orders.Known, wanted: set[str]
) -> list[tables.Row]:
    rows: list[tables.Row] = []
    for key, (member, name, since) in orders.members_of([one for _, one in read]).items():
        if key in wanted and key in known.newcomers:
            rows.append(
                tables.Customer(known.members[key], member.phone, member.email, name, None, 0, 0, 0, key, since)
            )
    return rows


async def _settle(connection: Connection, known: orders.Known, earned: dict[UUID, tuple[int, int]]) -> None:
    """What members have spent and earned by these orders, and so their levels."""
    changed = {one: sums for one, sums in earned.items() if any(sums)}
    if not changed:
        return
    cursor = await connection.execute(_SQL.hold_members, {"customers": list(changed)})
    spent = {row["customer_id"]: row["spent_fen"] + changed[row["customer_id"]][0] for row in await cursor.fetchall()}
    reached = {one: levels.level_at(known.levels, fen) for one, fen in spent.items()}
    await connection.execute(
        _SQL.settle_members,
        {
            "customers": list(spent),
            "spent": list(spent.values()),
            "levels": [level.id.int if level else 0 for level in reached.values()],
            "points": [changed[one][1] for one in spent],
        },
    )
