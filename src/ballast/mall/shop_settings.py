"""What a shop says of itself, and how long it waits: its settings, changed as a whole by whoever saw them last."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from ballast.mall import audit, pick
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("shop_settings")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LONGEST = {
    "name": 60,
    "name_en": 60,
    "intro": 500,
    "intro_en": 500,
    "notice": 200,
    "notice_en": 200,
    "service_phone": 40,
    "pickup_address": 200,
    "return_address": 300,
}


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them. Times in seconds."""

    name: str
    name_en: str = ""
    intro: str = ""
    intro_en: str = ""
    notice: str = ""
    """One line at the top of the storefront."""
    notice_en: str = ""
    logo_picture: str | None = None
    service_phone: str = ""
    language: Literal["zh", "en"] = "zh"
    """What a shopper reads who prefers neither."""
    theme_colour: str = "#07c160"
    pay_within_s: int = 1800
    """An order that is not paid in that time is cancelled."""
    receive_within_s: int = 864_000
    """An order is taken as received so long after it left."""
    pickup_address: str = ""
    return_address: str = ""
    """Where goods go back to."""
    version: int = 0


async def read(connection: Connection) -> ShopSettings:
    """As they are."""
    row = await (await connection.execute(_SQL.read)).fetchone()
    if row is None:
        raise Refused("shop.unknown", "There is no such shop.")
    return msgspec.convert(row, ShopSettings)


async def write(connection: Connection, shop_id: UUID, wanted: ShopSettings, by: By, now: datetime) -> None:
    """As they are wanted, if nobody else has changed them since (`version`).

    Raises:
        Refused: `settings.changed`, or a value is out of its range.
    """
    before = await read(connection)
    _check(wanted)
    if wanted.logo_picture and await pick.missing_pictures(connection, [wanted.logo_picture]):
        raise Refused("page.picture", "The logo is no picture of this shop.", "Choose one of the list.")
    row = await (await connection.execute(_SQL.write, {**msgspec.structs.asdict(wanted), "now": now})).fetchone()
    if row is None:
        raise Refused("settings.changed", "Somebody else has changed the settings meanwhile.", "Reload the page.")
    await connection.execute(_SQL.rename, {"name": wanted.name})
    changed = [
        name
        for name in wanted.__struct_fields__
        if name != "version" and getattr(before, name) != getattr(wanted, name)
    ]
    await audit.note_in_shop(
        connection, by, "settings.changed", now, shop_id=shop_id, subject=wanted.name, changed=" ".join(changed)
    )


def _check(wanted: ShopSettings) -> None:
    if not wanted.name:
        raise Refused("shop.name", "A shop's name has 1 to 60 characters.")
    for name, longest in _LONGEST.items():
        if len(getattr(wanted, name)) > longest:
            raise Refused("settings.long", f"{name} has at most {longest} characters.", "Shorten it.", most=longest)
    if not _COLOUR.fullmatch(wanted.theme_colour):
        raise Refused("settings.colour", "A colour is written #07c160.")
    if not 60 <= wanted.pay_within_s <= 604_800:
        raise Refused("settings.pay_within", "The time to pay is between 1 minute and 7 days.")
    if not 86_400 <= wanted.receive_within_s <= 90 * 86_400:
        raise Refused("settings.receive_within", "The time to receive is between 1 and 90 days.")
