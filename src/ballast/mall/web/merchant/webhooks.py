"""``/merchant/<slug>/webhooks``: addresses that are told what happens in the shop, and the log of what was sent to each."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from ballast.mall.db import Connection, Database
from ballast.mall.rules.permissions import Permission
from ballast.mall.rules.refused import Refused
from ballast.mall.settings import Settings
from ballast.mall.web.address import with_query
from ballast.mall.web.deed import deed
from ballast.mall.web.forms import Form, form
from ballast.mall.web.guard import ShopVisit, needs
from ballast.mall.web.merchant.frame import merchant_page, root
from ballast.mall.web.merchant.typed import filled
from ballast.mall.webhooks import endpoints, signature
from ballast.mall.webhooks.schedule import MOST_ATTEMPTS

_A_PAGE = 50
WebhookDeed = Literal["change", "on", "off", "remove"]


@get("/webhooks", opt=needs(Permission.EDIT_KEYS))
async def webhooks_page(
    request: Request[Any, Any, Any], shop_visit: NamedDependency[ShopVisit], db: NamedDependency[Database]
) -> Response[str]:
    """All of them, and the form of a new one."""
    return await _list(request, shop_visit, db, filled({"kind": ["order.paid", "refund.requested"]}))


@post("/webhooks", status_code=200, opt=needs(Permission.EDIT_KEYS))
async def add_webhook(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """A new one; its secret is shown on this answer alone."""
    sent = await form(request)
    try:
        async with db.shop(shop_visit.shop.shop_id) as connection:
            made = await endpoints.register(
                connection,
                shop_visit.shop.shop_id,
                sent.text("url", 600),
                sent.texts("kind"),
                shop_visit.by,
                shop_visit.visit.now,
                safe=signature.safe(settings.secret),
                private=settings.private_webhooks,
            )
    except Refused as error:
        return await _list(request, shop_visit, db, sent, error)
    return _secret(request, shop_visit, made.webhook_id, sent.text("url", 600), made.secret)


@get("/webhooks/{webhook_id:uuid}", opt=needs(Permission.EDIT_KEYS))
async def webhook_page(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    webhook_id: FromPath[UUID],
    db: NamedDependency[Database],
    before: FromQuery[UUID | None] = None,
) -> Response[str]:
    """One of them, with the log of its messages."""
    return await _one(request, shop_visit, db, webhook_id, before=before)


@post("/webhooks/{webhook_id:uuid}/rotate", status_code=200, opt=needs(Permission.EDIT_KEYS))
async def rotate(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    webhook_id: FromPath[UUID],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """A new secret, shown on this answer alone; the one before signs too for a day."""
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await endpoints.webhook(connection, webhook_id)
        secret = await endpoints.rotate(
            connection,
            shop_visit.shop.shop_id,
            webhook_id,
            shop_visit.by,
            shop_visit.visit.now,
            safe=signature.safe(settings.secret),
        )
    return _secret(request, shop_visit, webhook_id, found.url, secret, rotated=True)


@post("/webhooks/{webhook_id:uuid}/{what:str}", opt=needs(Permission.EDIT_KEYS))
async def change_webhook(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    webhook_id: FromPath[UUID],
    what: FromPath[WebhookDeed],
    db: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    """Another address or other events; on; off; gone."""
    sent = await form(request)

    async def work(connection: Connection) -> None:
        shop_id, by, now = shop_visit.shop.shop_id, shop_visit.by, shop_visit.visit.now
        match what:
            case "change":
                await endpoints.change(
                    connection,
                    shop_id,
                    webhook_id,
                    sent.text("url", 600),
                    sent.texts("kind"),
                    by,
                    now,
                    private=settings.private_webhooks,
                )
            case "remove":
                await endpoints.remove(connection, shop_id, webhook_id, by, now)
            case _:
                await endpoints.turn(connection, shop_id, webhook_id, what == "on", by, now)

    to = "" if what == "remove" else f"/{webhook_id}"
    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _one(request, shop_visit, db, webhook_id, sent, error),
        f"{root(shop_visit)}/webhooks{to}?said=saved",
    )


@post("/webhooks/{webhook_id:uuid}/messages/{delivery_id:uuid}/again", opt=needs(Permission.EDIT_KEYS))
async def redeliver(
    request: Request[Any, Any, Any],
    shop_visit: NamedDependency[ShopVisit],
    webhook_id: FromPath[UUID],
    delivery_id: FromPath[UUID],
    db: NamedDependency[Database],
) -> Response[Any]:
    """Send a message once more, under the id that it has."""

    async def work(connection: Connection) -> None:
        await endpoints.redeliver(
            connection, shop_visit.shop.shop_id, webhook_id, delivery_id, shop_visit.by, shop_visit.visit.now
        )

    return await deed(
        db.shop(shop_visit.shop.shop_id),
        work,
        lambda error: _one(request, shop_visit, db, webhook_id, None, error),
        f"{root(shop_visit)}/webhooks/{webhook_id}?said=redelivered",
    )


async def _list(
    request: Request[Any, Any, Any], shop_visit: ShopVisit, db: Database, sent: Form, refused: Refused | None = None
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await endpoints.webhooks(connection)
    return merchant_page(
        request, "shop/webhooks.html", shop_visit, refused, webhooks=found, sent=sent, kinds=endpoints.KINDS
    )


async def _one(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    db: Database,
    webhook_id: UUID,
    sent: Form | None = None,
    refused: Refused | None = None,
    before: UUID | None = None,
) -> Response[str]:
    async with db.shop(shop_visit.shop.shop_id) as connection:
        found = await endpoints.webhook(connection, webhook_id)
        messages = await endpoints.log(connection, webhook_id, before=before, most=_A_PAGE + 1)
    shown = sent if sent and sent.text("url") else filled({"url": found.url, "kind": list(found.kinds)})
    return merchant_page(
        request,
        "shop/webhook.html",
        shop_visit,
        refused,
        webhook=found,
        sent=shown,
        kinds=endpoints.KINDS,
        messages=messages[:_A_PAGE],
        older=with_query(request, before=str(messages[_A_PAGE - 1].event_id)) if len(messages) > _A_PAGE else "",
        most_attempts=MOST_ATTEMPTS,
    )


def _secret(
    request: Request[Any, Any, Any],
    shop_visit: ShopVisit,
    webhook_id: UUID,
    url: str,
    secret: str,
    rotated: bool = False,
) -> Response[str]:
    return merchant_page(
        request,
        "shop/webhook_secret.html",
        shop_visit,
        webhook_id=webhook_id,
        url=url,
        secret=secret,
        rotated=rotated,
    )


HANDLERS = [webhooks_page, add_webhook, webhook_page, rotate, change_webhook, redeliver]
