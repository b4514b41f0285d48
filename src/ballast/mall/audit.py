"""The record of what people did: lines that are added in the transaction of the deed, and never changed.

No role of the application may update or delete them (``migrations``). A line says who, what, to what and from which address;
never a password, a token or a secret. What the platform does to a shop stands in the shop's own record as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load

_SQL = load("audit")
PLATFORM = "platform"
"""The actor that a shop's record names where an operator did it."""


class By(msgspec.Struct, frozen=True):
    """Who does something, and from where."""

    account_id: UUID | None
    login: str
    address: str = ""


class Line(msgspec.Struct, frozen=True):
    """A line as it is read."""

    audit_id: UUID
    actor: str
    action: str
    shop_id: UUID | None
    slug: str
    subject: str
    detail: str
    """JSON"""
    address: str
    at: datetime


async def note(
    connection: Connection,
    by: By,
    action: str,
    now: datetime,
    *,
    shop_id: UUID | None = None,
    subject: str = "",
    **detail: str | int | bool | None,
) -> None:
    """A line of the platform's record, and of the shop's where the deed is about one. As mall_identity or mall_platform."""
    values = _values(by, action, now, shop_id, subject, detail)
    await connection.execute(_SQL.add_to_platform, values)
    if shop_id is not None:
        # Which operator it was is the platform's own affair.
        await connection.execute(
            _SQL.add_to_shop, {**values, "audit_id": new_id(), "actor": PLATFORM, "account_id": None, "address": ""}
        )


async def note_in_shop(
    connection: Connection,
    by: By,
    action: str,
    now: datetime,
    *,
    shop_id: UUID,
    subject: str = "",
    **detail: str | int | bool | None,
) -> None:
    """A line of a shop's record: what its own staff did."""
    await connection.execute(
        _SQL.add_to_shop, {**_values(by, action, now, shop_id, subject, detail), "actor": by.login or "?"}
    )


async def platform_lines(
    connection: Connection, *, shop_id: UUID | None = None, action: str = "", before: UUID | None = None, most: int = 50
) -> list[Line]:
    """The platform's record, newest first; `action` is how an action begins."""
    cursor = await connection.execute(
        _SQL.of_platform, {"shop_id": shop_id, "action": action, "before": before, "most": most}
    )
    return msgspec.convert(await cursor.fetchall(), list[Line])


async def shop_lines(
    connection: Connection,
    shop_id: UUID,
    *,
    action: str = "",
    actor: str = "",
    before: UUID | None = None,
    most: int = 50,
) -> list[Line]:
    """A shop's record, newest first; `action` is how an action begins, `actor` a login."""
    values = {"shop_id": shop_id, "action": action, "actor": actor, "before": before, "most": most}
    cursor = await connection.execute(_SQL.of_shop, values)
    return msgspec.convert(await cursor.fetchall(), list[Line])


def _values(
    by: By, action: str, now: datetime, shop_id: UUID | None, subject: str, detail: Mapping[str, object]
) -> dict[str, object]:
    return {
        "audit_id": new_id(),
        "account_id": by.account_id,
        "action": action,
        "shop_id": shop_id,
        "subject": subject,
        "detail": json.dumps(detail, ensure_ascii=False),
        "address": by.address,
        "at": now,
    }
