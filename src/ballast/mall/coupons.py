"""Shoppers and coupons: what a shop offers, taking one, what one has.

Who takes a coupon holds its row, so that takers of one come one after the other: its stock and what one customer may have are
never passed. `checkout` locks the same row after the quotas and before the stock; here it is the only one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import deeds
from ballast.mall.db import Connection
from ballast.mall.deed_kinds import CouponTaken
from ballast.mall.owner import Owner
from ballast.mall.queries import load
from ballast.mall.rules.coupons import Coupon, CouponReason, CouponStatus, why_not_take
from ballast.mall.rules.discounts import CouponTerms, Period
from ballast.mall.rules.refused import Refused
from ballast.mall.terms import StoredScope

_SQL = load("coupons")


class Offer(msgspec.Struct, frozen=True):
    """A coupon as it is offered to somebody. `why_not`: why he cannot take one (more); None: he can."""

    coupon_id: UUID
    name: str
    name_en: str
    amount_fen: int | None
    percent_bp: int | None
    cap_fen: int | None
    threshold_fen: int
    scope: StoredScope
    per_customer: int
    left: int | None
    """None: any number."""
    starts_at: datetime
    ends_at: datetime
    taken: int
    why_not: CouponReason | None


class Held(msgspec.Struct, frozen=True):
    """A coupon that somebody took."""

    claim_id: UUID
    name: str
    name_en: str
    amount_fen: int | None
    percent_bp: int | None
    cap_fen: int | None
    threshold_fen: int
    scope: StoredScope
    starts_at: datetime
    ends_at: datetime
    used_at: datetime | None

    def state(self, now: datetime) -> str:
        """`used`, `over`, `ahead` or `good`: keys of texts."""
        if self.used_at:
            return "used"
        period = Period(self.starts_at, self.ends_at)
        return "over" if period.over(now) else "ahead" if period.ahead(now) else "good"


async def offered(connection: Connection, owner: Owner | None, now: datetime) -> tuple[Offer, ...]:
    """What can be taken now, and what will be within a week. `owner` None: a browser that is nobody yet."""
    cursor = await connection.execute(_SQL.offered, {"owner_id": owner.id if owner else None, "now": now})
    return tuple(_offer(row, now) for row in await cursor.fetchall())


async def held(connection: Connection, owner: Owner, now: datetime) -> tuple[Held, ...]:
    """His coupons, the good ones first."""
    cursor = await connection.execute(_SQL.held, {"owner_id": owner.id, "now": now})
    return tuple(msgspec.convert(_read(row), Held) for row in await cursor.fetchall())


async def take(
    connection: Connection,
    owner: Owner,
    claim_id: UUID,
    now: datetime,
    *,
    coupon_id: UUID | None = None,
    code: str = "",
) -> UUID:
    """Take a coupon that is offered, or the one of a code. Returns the claim's id.

    Args:
        claim_id: made for the form: the same one sent twice takes one coupon.

    Raises:
        Refused: `coupon.not_offered`, `coupon.not_yet`, `coupon.over`, `coupon.has_enough`, `coupon.gone`.
    """
    cursor = await connection.execute(_SQL.to_take, {"coupon_id": coupon_id, "code": code.strip() or None})
    row = await cursor.fetchone()
    if row is None:
        raise _refused(CouponReason.NOT_OFFERED)
    asked = {"claim_id": claim_id, "coupon_id": row["coupon_id"], "owner_id": owner.id, "now": now}
    before = await (await connection.execute(_SQL.claimed_before, asked)).fetchone()
    if before is not None:
        if before["coupon_id"] != row["coupon_id"]:
            raise Refused("idempotency.differs", "This form was used for another coupon.", "Reload the page.")
        deeds.of_no_weight(connection)
        return claim_id
    taken = await (await connection.execute(_SQL.taken, asked)).fetchone()
    if reason := why_not_take(_coupon(row), taken["taken"] if taken else 0, now):
        raise _refused(reason)
    if await (await connection.execute(_SQL.claim, asked)).fetchone() is None:
        raise Refused("idempotency.differs", "This form was used by somebody else.", "Reload the page.")
    await connection.execute(_SQL.count_claim, asked)
    deeds.note(connection, "coupon_taken", CouponTaken(owner, claim_id, coupon_id, code, now), key=str(claim_id))
    return claim_id


async def is_taken(connection: Connection, claim_id: UUID) -> bool:
    """Whether somebody has this claim."""
    return await (await connection.execute(_SQL.is_taken, {"claim_id": claim_id})).fetchone() is not None


def _offer(row: dict[str, Any], now: datetime) -> Offer:
    found = _read(row)
    reason = why_not_take(_coupon(row), row["taken"], now)
    return msgspec.convert({**found, "left": row["left_over"], "why_not": reason}, Offer)


def _read(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "scope": msgspec.json.decode(row["scope"], type=StoredScope)}


def _coupon(row: dict[str, Any]) -> Coupon:
    terms = CouponTerms(
        row["coupon_id"],
        row["name"],
        row["amount_fen"] or 0,
        row["percent_bp"] or 0,
        row["cap_fen"],
        row["threshold_fen"],
    )
    return Coupon(
        terms,
        CouponStatus.PAUSED if row["stopped_at"] else CouponStatus.ACTIVE,
        Period(row["starts_at"], row["ends_at"]),
        row["left_over"],
        row["per_customer"],
    )


def _refused(reason: CouponReason) -> Refused:
    return Refused(reason.value, f"The coupon cannot be taken: {reason.value}.", "Look at the offers.")
