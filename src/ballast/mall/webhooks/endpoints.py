"""The addresses that a shop registers: made, changed, turned off, removed; their secrets; the log of what was sent to them.

A secret is shown when it is made and never again; kept sealed (`signature.safe`). All functions run in the shop's transaction.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from ballast.mall import audit
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused
from ballast.mall.safe import Safe
from ballast.mall.webhooks import signature
from ballast.mall.webhooks.reach import NotReached, is_public, where

_SQL = load("webhooks")

KINDS = (
    "order.placed",
    "order.paid",
    "order.partly_shipped",
    "order.shipped",
    "order.received",
    "order.closed",
    "order.cancelled",
    "order.refunded",
    "order.excepted",
    "refund.requested",
    "refund.approved",
    "refund.refused",
    "refund.withdrawn",
    "refund.returned",
    "refund.succeeded",
    "refund.failed",
    "payment.sent_back",
    "payment.amount_differs",
)
"""What there is to hear of."""
MOST = 10
OLD_SECRET_HOLDS = timedelta(hours=24)
_LONGEST_URL = 500


class Webhook(msgspec.Struct, frozen=True):
    """An address. Its secret is not here."""

    webhook_id: UUID
    url: str
    kinds: tuple[str, ...]
    active: bool
    failing_since: datetime | None
    stopped_at: datetime | None
    """When we turned it off, since nobody answered."""
    created_at: datetime
    waiting: int


class Delivery(msgspec.Struct, frozen=True):
    """A message to one webhook, and what came of it."""

    delivery_id: UUID
    event_id: UUID
    """What the receiver knows it by: `webhook-id`."""
    kind: str
    status: str
    attempts: int
    next_at: datetime | None
    answer_status: int | None
    answer_excerpt: str
    """How the answer began, or why there was none."""
    created_at: datetime
    updated_at: datetime


class Registered(msgspec.Struct, frozen=True):
    """A webhook's id, and its secret: the only time that it is seen."""

    webhook_id: UUID
    secret: str


async def webhooks(connection: Connection) -> list[Webhook]:
    """The shop's, the oldest first."""
    return msgspec.convert(await (await connection.execute(_SQL.all_of)).fetchall(), list[Webhook])


async def webhook(connection: Connection, webhook_id: UUID) -> Webhook:
    """One of them, locked. Refused where the shop has none of this id."""
    row = await (await connection.execute(_SQL.one, {"webhook_id": webhook_id})).fetchone()
    if row is None:
        raise Refused("webhook.unknown", f"There is no webhook {webhook_id}.", "Look at the list.")
    return msgspec.convert(row, Webhook)


async def register(
    connection: Connection,
    shop_id: UUID,
    url: str,
    kinds: Collection[str],
    by: By,
    now: datetime,
    *,
    safe: Safe,
    private: bool = False,
) -> Registered:
    """A new one, its secret sealed in `safe`. `private`: see `reach.post`.

    Refused for an address that cannot be called, and beyond `MOST`."""
    address, chosen = _address(url, private), _kinds(kinds)
    await connection.execute(_SQL.one_at_a_time)
    if len(await webhooks(connection)) >= MOST:
        raise Refused("webhook.most", f"A shop has at most {MOST} webhooks.", "Remove one.", most=MOST)
    made = Registered(new_id(), _new_secret())
    sealed = safe.seal(made.secret)
    values = {"webhook_id": made.webhook_id, "url": address, "secret": sealed, "kinds": chosen, "now": now}
    await connection.execute(_SQL.add, values)
    await audit.note_in_shop(
        connection, by, "webhook.added", now, shop_id=shop_id, subject=address, kinds=" ".join(chosen)
    )
    return made


async def change(
    connection: Connection,
    shop_id: UUID,
    webhook_id: UUID,
    url: str,
    kinds: Collection[str],
    by: By,
    now: datetime,
    *,
    private: bool = False,
) -> None:
    """Another address, other events. What waits is sent to the new address."""
    before = await webhook(connection, webhook_id)
    address, chosen = _address(url, private), _kinds(kinds)
    await connection.execute(_SQL.change, {"webhook_id": webhook_id, "url": address, "kinds": chosen})
    await audit.note_in_shop(
        connection,
        by,
        "webhook.changed",
        now,
        shop_id=shop_id,
        subject=address,
        before=before.url,
        kinds=" ".join(chosen),
    )


async def turn(connection: Connection, shop_id: UUID, webhook_id: UUID, on: bool, by: By, now: datetime) -> None:
    """On, or off: then what waits is given up. Turned on again, the log's button sends it."""
    found = await webhook(connection, webhook_id)
    values = {"webhook_id": webhook_id, "stopped_at": None, "now": now}
    if on:
        await connection.execute(_SQL.turn_on, values)
    else:
        await connection.execute(_SQL.turn_off, values)
        await connection.execute(_SQL.drop_waiting, values)
    action = "webhook.turned_on" if on else "webhook.turned_off"
    await audit.note_in_shop(connection, by, action, now, shop_id=shop_id, subject=found.url)


async def remove(connection: Connection, shop_id: UUID, webhook_id: UUID, by: By, now: datetime) -> None:
    """It is told nothing any more."""
    found = await webhook(connection, webhook_id)
    await connection.execute(_SQL.remove, {"webhook_id": webhook_id, "now": now})
    await connection.execute(_SQL.drop_waiting, {"webhook_id": webhook_id, "now": now})
    await audit.note_in_shop(connection, by, "webhook.removed", now, shop_id=shop_id, subject=found.url)


async def rotate(connection: Connection, shop_id: UUID, webhook_id: UUID, by: By, now: datetime, *, safe: Safe) -> str:
    """A new secret. For `OLD_SECRET_HOLDS` both sign, so that the receiver can take it over without a gap."""
    found = await webhook(connection, webhook_id)
    secret = _new_secret()
    values = {"webhook_id": webhook_id, "secret": safe.seal(secret), "old_until": now + OLD_SECRET_HOLDS}
    await connection.execute(_SQL.rotate, values)
    await audit.note_in_shop(connection, by, "webhook.rotated", now, shop_id=shop_id, subject=found.url)
    return secret


async def log(
    connection: Connection, webhook_id: UUID, *, before: UUID | None = None, most: int = 50
) -> list[Delivery]:
    """What was sent to a webhook, newest event first; `before`: an event's id."""
    values = {"webhook_id": webhook_id, "before": before, "most": most}
    return msgspec.convert(await (await connection.execute(_SQL.log, values)).fetchall(), list[Delivery])


async def redeliver(
    connection: Connection, shop_id: UUID, webhook_id: UUID, delivery_id: UUID, by: By, now: datetime
) -> None:
    """Send it now, whatever came of it before, under the id that it has."""
    found = await webhook(connection, webhook_id)
    if not found.active:
        raise Refused("webhook.off", "The webhook is turned off.", "Turn it on first.")
    values = {"webhook_id": webhook_id, "delivery_id": delivery_id, "now": now}
    row = await (await connection.execute(_SQL.again, values)).fetchone()
    if row is None:
        raise Refused("webhook.unknown", f"There is no message {delivery_id}.", "Look at the log.")
    await audit.note_in_shop(
        connection,
        by,
        "webhook.redelivered",
        now,
        shop_id=shop_id,
        subject=found.url,
        event=str(row["event_id"]),
    )


def _new_secret() -> str:
    return signature.secret_of(secrets.token_bytes(signature.KEY_BYTES))


def _address(typed: str, private: bool) -> str:
    """Refused at once where it can never be called; what a name leads to is looked at when it is called."""
    url = typed.strip()
    try:
        to = where(url, private=private)
        plain_ip = _ip(to.host)
        if plain_ip and not private and not is_public(plain_ip):
            raise NotReached(f"{plain_ip} is no public address.", "Use a public address.")
    except NotReached as error:
        raise Refused("webhook.url", error.what, error.do) from error
    if len(url) > _LONGEST_URL:
        raise Refused("webhook.url", f"An address has at most {_LONGEST_URL} characters.")
    return url


def _ip(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ""


def _kinds(asked: Collection[str]) -> list[str]:
    chosen = [kind for kind in KINDS if kind in asked]
    if not chosen or len(chosen) < len(set(asked)):
        raise Refused("webhook.kinds", "A webhook hears of one kind of event at least, and of known ones.", "Choose.")
    return chosen
