"""``/merchant/<slug>/settings``: what the shop says of itself, and how long it waits."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency

from ballast.mall import pick, shop_settings
from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.shop_settings import ShopSettings
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.typed import filled, whole

_TEXTS = (
    "name",
    "name_en",
    "intro",
    "intro_en",
    "notice",
    "notice_en",
    "service_phone",
    "pickup_address",
    "return_address",
)


@get("/settings", opt=needs(Permission.EDIT_SETTINGS))
async def settings_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """As they are."""
    return await _page(request, shop_visit, db, None)


@post("/settings", opt=needs(Permission.EDIT_SETTINGS))
async def save_settings(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[Any]:
    """As they are wanted."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        await shop_settings.write(connection, shop_visit.shop.shop_id, _read(sent), shop_visit.by, shop_visit.visit.now)

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _page(request, shop_visit, db, sent, error),
        f"{root(shop_visit)}/settings?said=saved",
    )


def _read(sent: Form) -> ShopSettings:
    return ShopSettings(
        **{name: sent.text(name, 600) for name in _TEXTS},
        logo_picture=sent.text("logo_picture") or None,
        language="en" if sent.text("language") == "en" else "zh",
        theme_colour=sent.text("theme_colour").lower(),
        pay_within_s=whole(sent, "pay_minutes") * 60,
        receive_within_s=whole(sent, "receive_days") * 86_400,
        version=whole(sent, "version"),
    )


async def _page(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    sent: Form | None,
    refused: Refused | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await shop_settings.read(connection)
        pictures = await pick.pictures(connection)
    shown = sent or filled(
        {
            **{name: getattr(found, name) for name in _TEXTS},
            "logo_picture": found.logo_picture,
            "language": found.language,
            "theme_colour": found.theme_colour,
            "pay_minutes": found.pay_within_s // 60,
            "receive_days": found.receive_within_s // 86_400,
            "version": found.version,
        }
    )
    return merchant_page(request, "shop/settings.html", shop_visit, refused, sent=shown, pictures=pictures)


HANDLERS = [settings_page, save_settings]
