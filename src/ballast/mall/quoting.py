"""What an order would cost now: goods and promises are read, `rules.pricing` decides. Two statements, one row of promises.

`checkout` has the face; this is the reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall import queries, terms
from ballast.mall.db import Connection
from ballast.mall.owner import Owner
from ballast.mall.rules import coupons, pricing
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.discounts import Line
from ballast.mall.rules.levels import Level
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.shipping import Destination

Delivery = Literal["ship", "pickup"]
MOST_LINES = 100


class Wanted(msgspec.Struct, frozen=True):
    """So many pieces of a SKU."""

    sku_id: UUID
    quantity: int


class Address(msgspec.Struct, frozen=True):
    """Where an order goes, and who takes it there. For a pick-up name and phone are enough."""

    name: str = ""
    phone: str = ""
    province: str = ""
    city: str = ""
    district: str = ""
    street: str = ""


class QuotedLine(msgspec.Struct, frozen=True):
    """Goods of a quote, as a page shows them; what they cost stands in the breakdown's line of the same place."""

    sku_id: UUID
    product_id: UUID
    title: str
    title_en: str
    options: list[str]
    picture: str | None
    quantity: int
    price_fen: int
    """List price of one piece."""
    free: int
    """Pieces that can be bought now."""


class Quote(msgspec.Struct, frozen=True):
    """What an order costs now, and how that comes about."""

    lines: tuple[QuotedLine, ...]
    breakdown: Breakdown
    coupon_reason: str | None = None
    """Why the chosen coupon cannot be used at all (`rules.coupons.CouponReason`); where it merely does nothing here, the
    breakdown's `coupon_refusal` says why."""

    @property
    def total_fen(self) -> int:
        """What is to be paid: give it to `checkout.place` as what was shown."""
        return self.breakdown.total_fen

    @property
    def short(self) -> dict[UUID, int]:
        """SKUs of which fewer are free than asked, and how many are."""
        return {line.sku_id: line.free for line in self.lines if line.free < line.quantity}


class Read(msgspec.Struct, frozen=True):
    """A quote, and what placing the order needs besides."""

    quote: Quote
    pay_within_s: int
    taken: list[str]
    """Of the order numbers that were asked for."""


async def read(
    connection: Connection,
    owner: Owner,
    wanted: Sequence[Wanted],
    *,
    address: Address | None,
    delivery: Delivery,
    claim_id: UUID | None,
    now: datetime,
    numbers: Sequence[str] = (),
    placing: bool = False,
) -> Read:
    """Read and work out. `placing`: orders of this shopper that could use up a limit for each customer wait for each other.

    Raises:
        Refused: as `checkout.quote`.
    """
    pieces = _merged(wanted)
    text = queries.load("checkout")
    # Both are sent before either is read: in a pipeline that is one round trip.
    goods = await connection.execute(text.goods, {"skus": list(pieces)})
    promised = await connection.execute(
        text.terms,
        {
            "skus": list(pieces),
            "customer_id": owner.customer_id,
            "claim_id": claim_id,
            "numbers": list(numbers),
            "now": now,
        },
    )
    rows = {row["sku_id"]: row for row in await goods.fetchall()}
    promise = await promised.fetchone()
    if promise is None or promise["shop_status"] != "open":
        raise Refused("shop.not_open", "The shop takes no orders now.", "Come back later.")
    if gone := [sku for sku in pieces if sku not in rows or not rows[sku]["on_sale"]]:
        raise Refused(
            "checkout.not_on_sale",
            f"No longer on sale: SKU {', '.join(map(str, gone))}.",
            "Take it out of the cart.",
            count=len(gone),
        )
    limited = _list(promise["limited"], terms.StoredLimited)
    bought = await _bought(connection, owner, limited, placing)
    coupon, reason = _coupon(promise["coupon"], claim_id, owner, now)
    breakdown = pricing.quote(
        [_line(rows[sku], quantity) for sku, quantity in pieces.items()],
        limited=terms.limited_prices(limited, bought),
        reductions=[one.reduction() for one in _list(promise["reductions"], terms.StoredReduction)],
        coupon=coupon,
        level=_level(promise),
        to=_destination(address, delivery),
        now=now,
    )
    lines = tuple(_quoted(rows[sku], quantity) for sku, quantity in pieces.items())
    return Read(Quote(lines, breakdown, reason), promise["pay_within_s"], promise["taken"])


def _merged(wanted: Sequence[Wanted]) -> dict[UUID, int]:
    pieces: dict[UUID, int] = {}
    for one in wanted:
        pieces[one.sku_id] = pieces.get(one.sku_id, 0) + one.quantity
    if not pieces or len(pieces) > MOST_LINES:
        raise Refused(
            "checkout.lines", f"An order has 1 to {MOST_LINES} lines.", "Order less at once.", most=MOST_LINES
        )
    if any(not 1 <= quantity <= 999 for quantity in pieces.values()):
        raise Refused("checkout.quantity", "An order takes 1 to 999 pieces of a SKU.", "Correct it.", most=999)
    return pieces


def _line(row: dict[str, Any], quantity: int) -> Line:
    return Line(
        row["sku_id"],
        row["product_id"],
        quantity,
        row["price_fen"],
        frozenset(row["categories"]),
        row["weight_g"],
        terms.template(row["shipping_id"], row["shipping_name"], row["shipping_rules"]),
    )


def _quoted(row: dict[str, Any], quantity: int) -> QuotedLine:
    return QuotedLine(
        row["sku_id"],
        row["product_id"],
        row["title"],
        row["title_en"],
        row["options"],
        row["picture"],
        quantity,
        row["price_fen"],
        row["free"],
    )


async def _bought(
    connection: Connection, owner: Owner, limited: Sequence[terms.StoredLimited], placing: bool
) -> dict[UUID, int]:
    counted = [str(one.promotion_id) for one in limited if one.per_customer is not None]
    if not counted:
        return {}
    text = queries.load("checkout")
    if placing:
        await connection.execute(text.one_at_a_time, {"owner_id": owner.id})
    cursor = await connection.execute(text.bought, {"owner_id": owner.id, "promotions": counted})
    return {row["promotion_id"]: row["pieces"] for row in await cursor.fetchall()}


def _coupon(
    stored: str | None, claim_id: UUID | None, owner: Owner, now: datetime
) -> tuple[Any, coupons.CouponReason | None]:
    if claim_id is None:
        return None, None
    if stored is None:
        return None, coupons.CouponReason.NOT_YOURS
    found = msgspec.json.decode(stored, type=terms.StoredCoupon)
    coupon = found.coupon()
    reason = coupons.why_not_use(coupon, found.claim(), owner.id, now)
    return (None, reason) if reason else (coupon.terms, None)


def _level(promise: dict[str, Any]) -> Level | None:
    if not promise["level"]:
        return None
    levels = terms.levels(_list(promise["levels"], terms.StoredLevel), promise["points_per_yuan"])
    return levels[min(promise["level"], len(levels)) - 1] if levels else None


def _destination(address: Address | None, delivery: Delivery) -> Destination:
    if delivery == "pickup":
        return Destination("pickup")
    return Destination("delivery", (address.province or None) if address else None)


_T = Any


def _list(text: str | None, kind: _T) -> Any:
    return msgspec.json.decode(text, type=tuple[kind, ...]) if text else ()
