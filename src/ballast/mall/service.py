"""What shops pay for, and until when they are served: plans, industries, subscriptions, extensions. As mall_platform.

An extension is service beyond what was paid for, such as a compensation. Its key makes it happen once, whoever repeats it;
`extend_services` takes thousands in one go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from ballast.mall import audit
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.queries import load
from ballast.mall.rules.refused import Refused

_SQL = load("service")
_CODE = re.compile(r"[a-z0-9][a-z0-9_]{0,29}")


class Plan(msgspec.Struct, frozen=True):
    """What a shop may take. `rank`: the lowest come back first after a loss. `shops`: how many have it."""

    code: str
    name_zh: str
    name_en: str
    month_fen: int
    max_products: int
    max_staff: int
    rank: int
    offered: bool
    max_pictures_mb: int
    """Of all pictures together, in their widest size."""
    shops: int = 0


class Industry(msgspec.Struct, frozen=True):
    """`margin_bp`: its average marginal contribution margin, in hundredths of a percent of revenue."""

    code: str
    name_zh: str
    name_en: str
    margin_bp: int
    shops: int = 0


class Subscription(msgspec.Struct, frozen=True):
    """A time that was paid for."""

    subscription_id: UUID
    plan: str
    starts_at: datetime
    ends_at: datetime
    paid_fen: int
    created_at: datetime


class Given(msgspec.Struct, frozen=True):
    """An extension that was given."""

    extension_key: str
    days: int
    reason: str
    until_before: datetime
    until_after: datetime
    given_by: str
    given_at: datetime


class Extension(msgspec.Struct, frozen=True):
    """An extension that is to be given."""

    shop_id: UUID
    key: str
    days: int
    reason: str


class Extended(msgspec.Struct, frozen=True):
    """What became of it. `now_given` False: it was given before, under the same key. `until`: its service's end by it."""

    shop_id: UUID
    now_given: bool
    days: int
    until: datetime


async def plans(connection: Connection) -> list[Plan]:
    """All plans, the first to come back first."""
    return msgspec.convert(await (await connection.execute(_SQL.plans)).fetchall(), list[Plan])


async def set_plan(connection: Connection, plan: Plan, by: By, now: datetime) -> None:
    """A new plan, or a known one changed; shops keep what they have paid."""
    _named(plan.code, plan.name_zh, plan.name_en)
    if plan.month_fen < 0 or plan.max_products < 1 or min(plan.max_staff, plan.max_pictures_mb) < 1:
        raise Refused(
            "plan.numbers", "A plan's price is not negative, and it allows one product, one member of staff and 1 MB."
        )
    await connection.execute(_SQL.set_plan, msgspec.structs.asdict(plan))
    await audit.note(connection, by, "plan.set", now, subject=plan.code, month_fen=plan.month_fen, offered=plan.offered)


async def industries(connection: Connection) -> list[Industry]:
    """All industries."""
    return msgspec.convert(await (await connection.execute(_SQL.industries)).fetchall(), list[Industry])


async def set_industry(connection: Connection, industry: Industry, by: By, now: datetime) -> None:
    """A new industry, or a known one changed."""
    _named(industry.code, industry.name_zh, industry.name_en)
    if not 0 <= industry.margin_bp <= 10000:
        raise Refused("industry.margin", "A margin has 0 to 100 percent.")
    await connection.execute(_SQL.set_industry, msgspec.structs.asdict(industry))
    await audit.note(connection, by, "industry.set", now, subject=industry.code, margin_bp=industry.margin_bp)


async def subscribe(
    connection: Connection,
    shop_id: UUID,
    subscription_id: UUID,
    plan: str,
    months: int,
    paid_fen: int,
    by: By,
    now: datetime,
) -> datetime:
    """So many months of a plan, after what the shop is served for already; until when that is. The same id changes nothing
    a second time."""
    if not 1 <= months <= 60 or paid_fen < 0:
        raise Refused("subscription.numbers", "A subscription has 1 to 60 months, and its price is not negative.")
    row = await (await connection.execute(_SQL.hold, {"shop_id": shop_id})).fetchone()
    if row is None:
        raise Refused("shop.unknown", f"There is no shop {shop_id}.")
    until: datetime = row["service_until"]
    values = {
        "shop_id": shop_id,
        "subscription_id": subscription_id,
        "plan": plan,
        "starts_at": max(until, now),
        "months": months,
        "paid_fen": paid_fen,
        "now": now,
    }
    try:
        added = await (await connection.execute(_SQL.add_subscription, values)).fetchone()
    except psycopg.errors.ForeignKeyViolation as error:
        raise Refused("terms.unknown", f"There is no plan {plan!r}.", "Choose one of the list.") from error
    if added is None:
        return until
    until = added["ends_at"]
    await connection.execute(_SQL.serve_until, {"shop_id": shop_id, "plan": plan, "until": until})
    await audit.note(
        connection, by, "shop.subscribed", now, shop_id=shop_id, subject=plan, months=months, paid_fen=paid_fen
    )
    return until


async def extend_service(
    connection: Connection, shop_id: UUID, key: str, days: int, reason: str, by: By, now: datetime
) -> Extended:
    """Service beyond what was paid for, once for each key.

    Raises:
        Refused: no such shop; no reason; the key stands for another number of days.
    """
    done = await extend_services(connection, [Extension(shop_id, key, days, reason)], by, now)
    if not done:
        raise Refused("shop.unknown", f"There is no shop {shop_id}.")
    if done[0].days != days:
        raise Refused(
            "extension.key",
            f"The extension {key!r} of shop {shop_id} was given with {done[0].days} days.",
            "Take another key for another extension.",
            days=done[0].days,
        )
    return done[0]


async def extend_services(connection: Connection, asked: Sequence[Extension], by: By, now: datetime) -> list[Extended]:
    """Many extensions, in one transaction and few round trips. A shop that does not exist is left out of the answer; one
    that has the key already is answered with what was given then."""
    for one in asked:
        if not 1 <= one.days <= 3660 or not 1 <= len(one.key) <= 200 or not one.reason.strip():
            raise Refused("extension.form", "An extension has a key, a reason and 1 to 3660 days.")
    await connection.execute(_SQL.hold_all, {"shop_ids": [one.shop_id for one in asked]})
    found: list[Extended] = []
    async with connection.cursor() as cursor:
        values = [
            {**msgspec.structs.asdict(one), "reason": one.reason.strip(), "given_by": by.login, "now": now}
            for one in asked
        ]
        await cursor.executemany(_SQL.extend, values, returning=True)
        while values:
            found += msgspec.convert(await cursor.fetchall(), list[Extended])
            if not cursor.nextset():
                break
    given = [one for one in found if one.now_given]
    for done in given if len(asked) == 1 else []:
        await audit.note(
            connection,
            by,
            "shop.extended",
            now,
            shop_id=done.shop_id,
            subject=asked[0].key,
            days=done.days,
            reason=asked[0].reason,
        )
    if len(asked) > 1:  # each shop's line is its extension; the record says that there was a batch
        await audit.note(connection, by, "shops.extended", now, asked=len(asked), given=len(given))
    return found


async def subscriptions(connection: Connection, shop_id: UUID) -> list[Subscription]:
    """What a shop has paid for, the latest first."""
    cursor = await connection.execute(_SQL.subscriptions, {"shop_id": shop_id})
    return msgspec.convert(await cursor.fetchall(), list[Subscription])


async def extensions(connection: Connection, shop_id: UUID) -> list[Given]:
    """What a shop was given, the latest first."""
    cursor = await connection.execute(_SQL.extensions, {"shop_id": shop_id})
    return msgspec.convert(await cursor.fetchall(), list[Given])


def _named(code: str, name_zh: str, name_en: str) -> None:
    if not _CODE.fullmatch(code):
        raise Refused("code.form", f"{code!r} cannot be a code.", "Take a to z, 0 to 9 and _, at most 30.")
    if not (1 <= len(name_zh.strip()) <= 40 and 1 <= len(name_en.strip()) <= 40):
        raise Refused("names.both", "A name is needed in Chinese and in English, 40 characters each at most.")
