"""Shops out of lines: opened as the platform opens them, with their own moments and owners."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec

from ballast.mall import platform, queries
from ballast.mall.accounts import login_from
from ballast.mall.db import Connection
from ballast.mall.imports import values
from ballast.mall.imports.bringing import BY
from ballast.mall.platform import Opening

_SQL = queries.load("imports")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LANGUAGES = {"zh": "zh", "en": "en", "中文": "zh", "英文": "en"}


def read(cells: Mapping[str, str], now: datetime) -> tuple[Opening, str]:
    """A shop that is to be, and its owner's login ("" where it names none). Refused: a cell cannot be read."""
    colour = values.text(cells, "theme_colour", 7).lower() or "#07c160"
    if not _COLOUR.fullmatch(colour):
        raise values.refused("theme_colour", f"{colour!r} is no colour.", "Write it like #07c160.")
    points = values.whole(cells, "points_per_yuan", 0, 100)
    login = values.text(cells, "owner_login", 100)
    opening = Opening(
        slug=values.text(cells, "shop", 40, needed=True).lower(),
        name=values.text(cells, "name_zh", 60, needed=True),
        industry=values.text(cells, "industry", 40, needed=True),
        plan=values.text(cells, "plan", 40, needed=True),
        name_en=values.text(cells, "name_en", 60),
        host=values.text(cells, "host", 253),
        language="en" if values.choice(cells, "language", _LANGUAGES, default="zh") == "en" else "zh",
        intro=values.text(cells, "intro_zh", 500),
        intro_en=values.text(cells, "intro_en", 500),
        service_phone=values.text(cells, "service_phone", 40),
        pickup_address=values.text(cells, "pickup_address", 200),
        theme_colour=colour,
        points_per_yuan=1 if points is None else points,
        opened_at=values.moment(cells, "opened_at", now),
        service_until=values.moment(cells, "service_until", None),
    )
    return opening, login_from(login) if login else ""


async def bring(connection: Connection, opening: Opening, login: str, now: datetime) -> str | None:
    """Open the shop, as mall_platform.

    Returns:
        The token of its owner's invitation, "" where the login's account owns it from now on; None: the shop is there.

    Raises:
        Refused: as `platform.open_shop`.
    """
    there = await connection.execute(_SQL.shops, {"slugs": [opening.slug]})
    if await there.fetchone() is not None:
        return None
    account = await connection.execute(_SQL.account, {"login": login})
    row = await account.fetchone()
    asked = msgspec.structs.replace(opening, owner=row["account_id"] if row else None)
    return (await platform.open_shop(connection, asked, BY, now)).owner_token
