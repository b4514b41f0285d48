"""Shops as the platform has them: opened, suspended, reopened, closed; their addresses; found again. As mall_platform.

A shop that is closed has a grace period and then is closed; nothing of it is deleted before or after.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec
import psycopg

from ballast.mall import audit, links
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules.blocks import Notice, Page, ProductList, page_to_json
from ballast.mall.rules.numbers import parse_order_number
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.shipping import Rate
from ballast.mall.rules.standing import Move, Standing, moved, standing

_SQL = load("platform")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"(?=.{4,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_TRIAL = timedelta(days=30)
A_PAGE = 25


class Opening(msgspec.Struct, frozen=True):
    """A shop that is to be."""

    slug: str
    name: str
    industry: str
    plan: str
    name_en: str = ""
    host: str = ""
    language: Literal["zh", "en"] = "zh"
    intro: str = ""
    intro_en: str = ""
    service_phone: str = ""
    pickup_address: str = ""
    theme_colour: str = "#07c160"
    points_per_yuan: int = 1
    opened_at: datetime | None = None
    """None: now"""
    service_until: datetime | None = None
    """None: a month's trial"""
    owner: UUID | None = None
    """the account that owns it; None: by invitation"""
    shop_id: UUID | None = None
    """None: a new one is made"""


class Opened(msgspec.Struct, frozen=True):
    """A shop that is, and the token of its first owner's invitation ("" where it has an owner)."""

    shop_id: UUID
    owner_token: str


class ShopLine(msgspec.Struct, frozen=True):
    """A shop's line of the directory."""

    shop_id: UUID
    slug: str
    name: str
    status: str
    status_reason: str
    industry: str
    plan: str
    service_until: datetime
    closing_at: datetime | None
    opened_at: datetime

    def standing(self, now: datetime) -> Standing:
        """How it stands."""
        return standing(self.status, self.service_until, self.closing_at, now)


class Wanted(msgspec.Struct, frozen=True):
    """Which shops a list shows; empty: all. `ending_days`: whose service ends within so many days, or has ended."""

    text: str = ""
    status: str = ""
    plan: str = ""
    industry: str = ""
    ending_days: int | None = None


class OrderLine(msgspec.Struct, frozen=True):
    """An order that was looked for by its number, and whose it is."""

    shop_id: UUID
    slug: str
    name: str
    order_id: UUID
    number: str
    status: str
    total_fen: int
    placed_at: datetime


async def open_shop(connection: Connection, asked: Opening, by: By, now: datetime) -> Opened:
    """A shop with what it needs to sell: address, default shipping (free, everywhere), a home page, a month's trial, its
    first owner or an invitation to him. All of it or nothing, by the caller's transaction.

    Raises:
        Refused: the slug or host is taken or has a wrong form, or there is no name.
    """
    slug, name = asked.slug.strip().lower(), asked.name.strip()
    if not _SLUG.fullmatch(slug):
        raise Refused("shop.slug", f"{slug!r} cannot be a shop's address.", "Take a to z, 0 to 9 and -, at most 40.")
    if not 1 <= len(name) <= 60 or len(asked.name_en.strip()) > 60:
        raise Refused("shop.name", "A shop's name has 1 to 60 characters.")
    shop_id = asked.shop_id or new_id()
    values = {
        "shop_id": shop_id,
        "slug": slug,
        "name": name,
        "name_en": asked.name_en.strip(),
        "industry": asked.industry,
        "plan": asked.plan,
        "language": asked.language,
        "intro": asked.intro,
        "intro_en": asked.intro_en,
        "service_phone": asked.service_phone,
        "pickup_address": asked.pickup_address,
        "theme_colour": asked.theme_colour,
        "points_per_yuan": asked.points_per_yuan,
        "service_until": asked.service_until or now + _TRIAL,
        "opened_at": asked.opened_at or now,
        "owner": asked.owner,
        "now": now,
    }
    try:
        added = await (await connection.execute(_SQL.add_to_directory, values)).fetchone()
    except psycopg.errors.ForeignKeyViolation as error:
        raise Refused("terms.unknown", "There is no such plan or industry.", "Choose one of the list.") from error
    if added is None:
        raise Refused("shop.slug_taken", f"Another shop has the address {slug!r}.", "Take another.", slug=slug)
    await connection.execute(_SQL.add_shop, values)
    await connection.execute(
        _SQL.add_shipping,
        {
            "shop_id": shop_id,
            "shipping_id": new_id(),
            "name": "全国包邮" if asked.language == "zh" else "Free everywhere",
            "rules": _free_shipping(),
        },
    )
    await connection.execute(
        _SQL.add_home_page,
        {
            "shop_id": shop_id,
            "page_id": new_id(),
            "title": "首页",
            "title_en": "Home",
            "blocks": _home_page(asked.language),
            "now": now,
        },
    )
    await audit.note(connection, by, "shop.opened", now, shop_id=shop_id, subject=slug, plan=asked.plan)
    if asked.host.strip():
        await add_host(connection, shop_id, asked.host, by, now)
    if asked.owner is not None:
        await connection.execute(_SQL.add_owner, values)
        return Opened(shop_id, "")
    return Opened(shop_id, await links.invite(connection, shop_id, "owner", now))


async def invite_owner(connection: Connection, shop_id: UUID, by: By, now: datetime) -> str:
    """The token of another invitation to own a shop: the first was lost, or its owner is gone."""
    await audit.note(connection, by, "shop.owner_invited", now, shop_id=shop_id)
    return await links.invite(connection, shop_id, "owner", now)


async def suspend(connection: Connection, shop_id: UUID, reason: str, by: By, now: datetime) -> None:
    """Sells nothing until it is reopened; its staff look and change nothing."""
    await _move(connection, shop_id, "suspend", reason, None, by, now)


async def reopen(connection: Connection, shop_id: UUID, reason: str, by: By, now: datetime) -> None:
    """As before it was suspended or closed."""
    await _move(connection, shop_id, "reopen", reason, None, by, now)


async def close(connection: Connection, shop_id: UUID, reason: str, grace_days: int, by: By, now: datetime) -> None:
    """Closed after so many days, until when it can be looked at. Nothing is deleted."""
    if not 1 <= grace_days <= 365:
        raise Refused("shop.grace", "A grace period has 1 to 365 days.")
    await _move(connection, shop_id, "close", reason, now + timedelta(days=grace_days), by, now)


async def close_due(connection: Connection, now: datetime) -> list[UUID]:
    """For a job: notes of shops whose grace period is over that they are closed; their ids."""
    closed = [row["shop_id"] for row in await (await connection.execute(_SQL.close_due, {"now": now})).fetchall()]
    for shop_id in closed:
        await audit.note(connection, By(None, ""), "shop.closed", now, shop_id=shop_id)
    return closed


async def add_host(connection: Connection, shop_id: UUID, typed: str, by: By, now: datetime) -> None:
    """The shop is reached by that host name as well. Refused where another has it."""
    host = typed.strip().lower().rstrip(".")
    if not _HOST.fullmatch(host):
        raise Refused("host.form", f"{host!r} is no host name.", "Write it such as shop.example.com.")
    if await (await connection.execute(_SQL.add_host, {"host": host, "shop_id": shop_id})).fetchone() is None:
        raise Refused("host.taken", f"The host name {host} leads to a shop already.", "Remove it there.", host=host)
    await audit.note(connection, by, "shop.host_added", now, shop_id=shop_id, subject=host)


async def remove_host(connection: Connection, shop_id: UUID, host: str, by: By, now: datetime) -> None:
    """The host name leads there no more."""
    if await (await connection.execute(_SQL.remove_host, {"host": host, "shop_id": shop_id})).fetchone() is not None:
        await audit.note(connection, by, "shop.host_removed", now, shop_id=shop_id, subject=host)


async def set_industry(connection: Connection, shop_id: UUID, industry: str, by: By, now: datetime) -> None:
    """The industry by whose margin a compensation reckons."""
    values = {"shop_id": shop_id, "industry": industry}
    try:
        there = await (await connection.execute(_SQL.set_industry, values)).fetchone()
    except psycopg.errors.ForeignKeyViolation as error:
        raise Refused("terms.unknown", "There is no such plan or industry.", "Choose one of the list.") from error
    if there is None:
        raise _unknown(shop_id)
    await audit.note(connection, by, "shop.industry", now, shop_id=shop_id, subject=industry)


async def hosts(connection: Connection, shop_id: UUID) -> list[str]:
    """The host names that lead to a shop."""
    return [row["host"] for row in await (await connection.execute(_SQL.hosts, {"shop_id": shop_id})).fetchall()]


async def shop(connection: Connection, shop_id: UUID) -> ShopLine | None:
    """A shop's line."""
    row = await (await connection.execute(_SQL.one, {"shop_id": shop_id})).fetchone()
    return msgspec.convert(row, ShopLine) if row else None


async def shops(connection: Connection, wanted: Wanted, page: int, now: datetime) -> tuple[list[ShopLine], int]:
    """A page (from 1) of the shops that are wanted, the newest first, and how many there are in all."""
    values = {
        "like": _like(wanted.text),
        "exact": wanted.text.strip().lower(),
        "status": wanted.status,
        "plan": wanted.plan,
        "industry": wanted.industry,
        "until": None if wanted.ending_days is None else now + timedelta(days=wanted.ending_days),
        "most": A_PAGE,
        "skipped": (max(1, page) - 1) * A_PAGE,
    }
    rows = await (await connection.execute(_SQL.found, values)).fetchall()
    return msgspec.convert(rows, list[ShopLine]), rows[0]["matching"] if rows else 0


async def orders_by_number(connection: Connection, typed: str) -> list[OrderLine]:
    """Orders of any shop that have this number; none where it is no order number."""
    try:
        number = parse_order_number(typed)
    except Refused:
        return []
    cursor = await connection.execute(_SQL.orders_by_number, {"number": number})
    return msgspec.convert(await cursor.fetchall(), list[OrderLine])


async def _move(
    connection: Connection, shop_id: UUID, move: Move, reason: str, closing_at: datetime | None, by: By, now: datetime
) -> None:
    if not (reason := reason.strip()):
        raise Refused("shop.reason", "A reason is missing.", "Say why: the shop's owner reads it.")
    row = await (await connection.execute(_SQL.hold, {"shop_id": shop_id})).fetchone()
    if row is None:
        raise _unknown(shop_id)
    status = moved(row["status"], move)
    await connection.execute(
        _SQL.move,
        {
            "shop_id": shop_id,
            "status": status,
            "reason": None if move == "reopen" else reason,
            "closing_at": closing_at,
        },
    )
    await audit.note(connection, by, f"shop.{move}", now, shop_id=shop_id, reason=reason)


def _unknown(shop_id: UUID) -> Refused:
    return Refused("shop.unknown", f"There is no shop {shop_id}.")


def _like(text: str) -> str:
    """A pattern of texts that hold this one, whose own % and _ are meant as they stand."""
    text = text.strip().lower()
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%" if text else ""


def _free_shipping() -> str:
    rate = Rate(provinces=(), first=1, first_fen=0, extra=1, extra_fen=0)
    return msgspec.json.encode({"unit": "piece", "rates": [rate]}).decode()


def _home_page(language: str) -> str:
    welcome, newest = ("欢迎光临！", "新品上架") if language == "zh" else ("Welcome!", "New in")
    return page_to_json(
        Page((Notice(id=new_id(), text=welcome), ProductList(id=new_id(), source="newest", title=newest)))
    ).decode()
