"""A shop's shipping templates: what sending costs by region. Each product has one, or the shop's default.

A template that orders were made by may change: an order keeps what it cost. One that no product uses any more is archived.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import audit, terms
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.shipping import Rate, Template

_SQL = load("shipping")
MOST = 50
MOST_RATES = 20

Unit = Literal["weight", "piece"]


class Stored(msgspec.Struct, frozen=True):
    """A template. Without rates nothing is asked anywhere."""

    shipping_id: UUID
    name: str
    is_default: bool
    used: int
    """Products that are sent by it by name."""
    unit: Unit
    rates: tuple[Rate, ...]


async def templates(connection: Connection) -> list[Stored]:
    """All that are in use, the default first."""
    return [_stored(row) for row in await (await connection.execute(_SQL.all_of)).fetchall()]


async def template(connection: Connection, shipping_id: UUID) -> Stored:
    """One of them. Refused where the shop has none of this id."""
    row = await (await connection.execute(_SQL.one, {"shipping_id": shipping_id})).fetchone()
    if row is None:
        raise Refused("shipping.unknown", f"There is no shipping template {shipping_id}.", "Look at the list.")
    return _stored(row)


async def save(
    connection: Connection,
    shop_id: UUID,
    shipping_id: UUID | None,
    name: str,
    unit: Unit,
    rates: Sequence[Rate],
    by: By,
    now: datetime,
) -> UUID:
    """A new one (`shipping_id` None) or another content of one; its id.

    Raises:
        Refused: no name, a province named twice, a number out of its range, or no such template.
    """
    made = shipping_id or new_id()
    if not 1 <= len(name) <= 60:
        raise Refused("shipping.name", "A shipping template's name has 1 to 60 characters.")
    if len(rates) > MOST_RATES:
        raise Refused("shipping.rates", f"A template has at most {MOST_RATES} rates.", most=MOST_RATES)
    try:
        Template(made, name, unit, tuple(rates))
    except ValueError as error:
        raise Refused("shipping.twice", str(error), "Name every province once.") from error
    written = msgspec.json.encode({"unit": unit, "rates": list(rates)}).decode() if rates else "[]"
    values = {"shipping_id": made, "name": name, "rules": written}
    await connection.execute(_SQL.one_at_a_time)
    if shipping_id is None:
        if len(await templates(connection)) >= MOST:
            raise Refused("shipping.most", f"A shop has at most {MOST} shipping templates.", most=MOST)
        await connection.execute(_SQL.add, values)
    elif await (await connection.execute(_SQL.change, values)).fetchone() is None:
        raise Refused("shipping.unknown", f"There is no shipping template {shipping_id}.", "Look at the list.")
    await audit.note_in_shop(connection, by, "shipping.saved", now, shop_id=shop_id, subject=name)
    return made


async def make_default(connection: Connection, shop_id: UUID, shipping_id: UUID, by: By, now: datetime) -> None:
    """Products without a template of their own are sent by it."""
    await connection.execute(_SQL.one_at_a_time)
    found = await template(connection, shipping_id)
    await connection.execute(_SQL.no_default)
    await connection.execute(_SQL.make_default, {"shipping_id": shipping_id})
    await audit.note_in_shop(connection, by, "shipping.default", now, shop_id=shop_id, subject=found.name)


async def archive(connection: Connection, shop_id: UUID, shipping_id: UUID, by: By, now: datetime) -> None:
    """No more to be chosen. Refused for the default, and for one that products are sent by."""
    await connection.execute(_SQL.one_at_a_time)
    found = await template(connection, shipping_id)
    if found.is_default or found.used:
        raise Refused(
            "shipping.used",
            f"{found.name!r} is the default, or {found.used} products are sent by it.",
            "Give those another first.",
            count=found.used,
        )
    await connection.execute(_SQL.archive, {"shipping_id": shipping_id, "now": now})
    await audit.note_in_shop(connection, by, "shipping.archived", now, shop_id=shop_id, subject=found.name)


def _stored(row: dict[str, Any]) -> Stored:
    rules = row["rules"]
    read = None if rules == "[]" else msgspec.json.decode(rules, type=terms.StoredShipping)
    return Stored(
        row["shipping_id"],
        row["name"],
        row["is_default"],
        row["used"],
        read.unit if read else "piece",
        read.rates if read else (),
    )
