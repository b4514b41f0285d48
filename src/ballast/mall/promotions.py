"""What a merchant promises: coupons, full reductions (满减) and limited-time prices (限时折扣), each with a period, each
stoppable at once.

Of a coupon that was given out, what it is worth is never changed: it can be given out no more (`stop`), and a new one made.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import audit
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules.discounts import CouponTerms, FullReduction, Period, Tier
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredScope, StoredTier

_SQL = load("promotions")
State = Literal["ahead", "running", "over", "stopped"]
Kind = Literal["coupon", "reduction", "limited"]
MOST_TIERS = 5


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What every promotion has."""

    name: str
    name_en: str = ""
    starts_at: datetime
    ends_at: datetime


class NewCoupon(Named, frozen=True, kw_only=True):
    """A coupon as it is made: it takes off `amount_fen`, or `percent_bp` basis points and at most `cap_fen`."""

    amount_fen: int | None = None
    percent_bp: int | None = None
    cap_fen: int | None = None
    threshold_fen: int = 0
    scope: StoredScope = StoredScope()
    per_customer: int = 1
    stock: int | None = None
    """None: any number."""
    code: str = ""
    """Empty: it is offered to all; else to those who know the code."""


class MadeCoupon(NewCoupon, frozen=True, kw_only=True):
    """A coupon that is there."""

    coupon_id: UUID
    claimed: int
    used: int
    stopped_at: datetime | None


class NewReduction(Named, frozen=True, kw_only=True):
    """A full reduction as it is made."""

    tiers: tuple[StoredTier, ...]
    scope: StoredScope = StoredScope()


class MadeReduction(NewReduction, frozen=True, kw_only=True):
    """One that is there."""

    promotion_id: UUID
    stopped_at: datetime | None


def state(starts_at: datetime, ends_at: datetime, stopped_at: datetime | None, now: datetime) -> State:
    """How a promotion stands."""
    period = Period(starts_at, ends_at)
    if period.over(now):
        return "over"
    if stopped_at:
        return "stopped"
    return "ahead" if period.ahead(now) else "running"


async def coupons(connection: Connection, *, before: UUID | None = None, most: int = 50) -> list[MadeCoupon]:
    """The shop's, newest first."""
    cursor = await connection.execute(_SQL.coupons, {"before": before, "most": most})
    return [_coupon(row) for row in await cursor.fetchall()]


async def coupon(connection: Connection, coupon_id: UUID) -> MadeCoupon:
    """One of them, locked. Refused where the shop has none of this id."""
    row = await (await connection.execute(_SQL.coupon, {"coupon_id": coupon_id})).fetchone()
    if row is None:
        raise unknown(coupon_id)
    return _coupon(row)


async def add_coupon(connection: Connection, shop_id: UUID, made: NewCoupon, by: By, now: datetime) -> UUID:
    """A new one; its id."""
    check(made)
    coupon_id = new_id()
    try:
        CouponTerms(coupon_id, made.name, made.amount_fen or 0, made.percent_bp or 0, made.cap_fen, made.threshold_fen)
    except ValueError as error:
        raise Refused("coupon.worth", str(error), "Give an amount, or a share between 0.01 % and 100 %.") from error
    _numbers(made.per_customer, made.stock, 0)
    values = {
        **msgspec.structs.asdict(made),
        "coupon_id": coupon_id,
        "code": made.code or None,
        "kind": "fixed" if made.amount_fen else "percent",
        "amount_fen": made.amount_fen or None,
        "percent_bp": made.percent_bp or None,
        "scope": await _scope(connection, made.scope),
    }
    if await (await connection.execute(_SQL.add_coupon, values)).fetchone() is None:
        raise Refused("coupon.code_taken", f"Another coupon has the code {made.code}.", "Take another.")
    await audit.note_in_shop(connection, by, "coupon.made", now, shop_id=shop_id, subject=made.name)
    return coupon_id


async def change_coupon(
    connection: Connection,
    shop_id: UUID,
    coupon_id: UUID,
    *,
    name: str,
    name_en: str,
    per_customer: int,
    stock: int | None,
    ends_at: datetime,
    by: By,
    now: datetime,
) -> None:
    """Another name, number or end. Not fewer than were taken."""
    before = await coupon(connection, coupon_id)
    check(Named(name=name, name_en=name_en, starts_at=before.starts_at, ends_at=ends_at))
    _numbers(per_customer, stock, before.claimed)
    values = {
        "coupon_id": coupon_id,
        "name": name,
        "name_en": name_en,
        "per_customer": per_customer,
        "stock": stock,
        "ends_at": ends_at,
    }
    await connection.execute(_SQL.change_coupon, values)
    await audit.note_in_shop(
        connection, by, "coupon.changed", now, shop_id=shop_id, subject=name, stock=stock, ends_at=ends_at.isoformat()
    )


async def reductions(connection: Connection, *, before: UUID | None = None, most: int = 50) -> list[MadeReduction]:
    """The shop's, newest first."""
    cursor = await connection.execute(_SQL.reductions, {"before": before, "most": most})
    return [_reduction(row) for row in await cursor.fetchall()]


async def running_reductions(connection: Connection, now: datetime) -> list[MadeReduction]:
    """Those that hold now, the one that ends first first."""
    cursor = await connection.execute(_SQL.running_reductions, {"now": now})
    return [_reduction(row) for row in await cursor.fetchall()]


async def add_reduction(connection: Connection, shop_id: UUID, made: NewReduction, by: By, now: datetime) -> UUID:
    """A new one; its id. Refused where more spent takes less off."""
    check(made)
    promotion_id = new_id()
    tiers = sorted(made.tiers, key=lambda tier: tier.from_fen)
    try:
        if not 1 <= len(tiers) <= MOST_TIERS or any(tier.off_fen > tier.from_fen for tier in tiers):
            raise ValueError(
                f"A full reduction has 1 to {MOST_TIERS} tiers, none of which takes off more than is spent."
            )
        FullReduction(promotion_id, made.name, tuple(Tier(tier.from_fen, tier.off_fen) for tier in tiers))
    except ValueError as error:
        raise Refused("reduction.tiers", str(error), "Correct the tiers.", most=MOST_TIERS) from error
    values = {
        **msgspec.structs.asdict(made),
        "promotion_id": promotion_id,
        "tiers": msgspec.json.encode(tiers).decode(),
        "scope": await _scope(connection, made.scope),
    }
    await connection.execute(_SQL.add_reduction, values)
    await audit.note_in_shop(connection, by, "reduction.made", now, shop_id=shop_id, subject=made.name)
    return promotion_id


async def stop(
    connection: Connection, shop_id: UUID, kind: Kind, promotion_id: UUID, on: bool, by: By, now: datetime
) -> None:
    """Stop a promotion at once, or (`on`) let it go on. A limited-time price goes on by `limited_prices.resume`, which looks
    for others of the same goods first."""
    statement = {"coupon": _SQL.stop_coupon, "reduction": _SQL.stop_reduction, "limited": _SQL.stop_limited}[kind]
    row = await (
        await connection.execute(statement, {"id": promotion_id, "stopped_at": None if on else now})
    ).fetchone()
    if row is None:
        raise unknown(promotion_id)
    action = f"{kind}.{'resumed' if on else 'stopped'}"
    await audit.note_in_shop(connection, by, action, now, shop_id=shop_id, subject=row["name"])


def check(made: Named) -> None:
    """Refused where it has no name or no period."""
    if not 1 <= len(made.name) <= 60 or len(made.name_en) > 60:
        raise Refused("promotion.name", "A promotion's name has 1 to 60 characters.")
    if made.ends_at <= made.starts_at:
        raise Refused("promotion.period", "A promotion ends after it begins.", "Correct the period.")


def unknown(promotion_id: UUID) -> Refused:
    """To be raised: the shop has no such promotion."""
    return Refused("promotion.unknown", f"There is no promotion {promotion_id}.", "Look at the list.")


def _numbers(per_customer: int, stock: int | None, claimed: int) -> None:
    if not 1 <= per_customer <= 1000:
        raise Refused("coupon.per_customer", "One customer may take 1 to 1000 of a coupon.")
    if stock is not None and not max(1, claimed) <= stock <= 10_000_000:
        raise Refused(
            "coupon.stock",
            f"{claimed} coupons are taken already; there cannot be fewer.",
            "Give a larger number, or stop it.",
            least=max(1, claimed),
        )


async def _scope(connection: Connection, scope: StoredScope) -> str:
    """As it is stored; Refused for goods that the shop does not have."""
    row: Any = await (
        await connection.execute(_SQL.known, {"products": list(scope.products), "categories": list(scope.categories)})
    ).fetchone()
    if set(row["products"]) != set(scope.products) or set(row["categories"]) != set(scope.categories):
        raise Refused("promotion.goods", "Some of these products or categories are not there.", "Choose again.")
    chosen: dict[str, Sequence[UUID]] = {"products": scope.products, "categories": scope.categories}
    return msgspec.json.encode({name: ids for name, ids in chosen.items() if ids}).decode()


def _coupon(row: dict[str, Any]) -> MadeCoupon:
    found = {**row, "scope": msgspec.json.decode(row["scope"]), "code": row["code"] or ""}
    return msgspec.convert(found, MadeCoupon)


def _reduction(row: dict[str, Any]) -> MadeReduction:
    found = {**row, "tiers": msgspec.json.decode(row["tiers"]), "scope": msgspec.json.decode(row["scope"])}
    return msgspec.convert(found, MadeReduction)
