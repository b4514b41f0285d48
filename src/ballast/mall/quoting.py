"""What an order would cost now: goods and promises are read on one way, `rules.pricing` decides.

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
from ballast.mall.round_trips import gather
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


class Claim(msgspec.Struct, frozen=True):
    """The idempotency key of a write, and what is answered where it comes again."""

    scope: str
    key: str
    request_hash: bytes
    answer: str


class Room(msgspec.Struct, frozen=True):
    """How many orders may wait for payment at once: each keeps goods from all others. 0: any number."""

    of_owner: int
    from_there: int
    placed_from: bytes
    """Names the network address for this shop (`attempts.bucket`)."""


class Used(Exception):
    """The key was used before: the answer is there already."""


class Goods(msgspec.Struct, frozen=True):
    """A SKU as it is offered now."""

    sku_id: UUID
    product_id: UUID
    price_fen: int
    weight_g: int
    options: list[str]
    on_sale: bool
    title: str
    title_en: str
    picture: str | None
    free: int
    shipping_id: UUID | None
    shipping_name: str | None
    shipping_rules: str | None
    categories: tuple[UUID, ...]


class Read(msgspec.Struct, frozen=True):
    """A quote, and what placing the order needs besides."""

    quote: Quote
    pay_within_s: int
    receive_within_s: int
    points_per_yuan: int
    taken: list[str]
    """Of the order numbers that were asked for."""
    also: dict[str, Any] | None = None
    """What else was asked for."""


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
    claim: Claim | None = None,
    room: Room | None = None,
    also: tuple[str, dict[str, Any]] | None = None,
) -> Read:
    """Read and work out.

    Args:
        also: a statement that goes along; its first row is in `Read.also`.
        room: where it is to be placed, and there is a limit.
        numbers: that an order can have, where one is to be placed.
        claim: … with this key: it is taken before anything is read, and orders of this shopper that could
            use up a limit for each customer wait for each other.

    Raises:
        Used: the key is not new. Refused: as `checkout.quote`.
    """
    pieces = _merged(wanted)
    text = queries.load("checkout")
    asked: list[tuple[str, dict[str, Any]]] = [
        (text.offer, {"skus": list(pieces), "customer_id": owner.customer_id, "now": now})
    ]
    if numbers:
        asked.insert(0, (text.begin, _begun(owner, now, numbers, claim, room)))
    if claim_id:
        asked.append((text.coupon, {"claim_id": claim_id}))
    if also:
        asked.append(also)
    found = [await one.fetchone() for one in await gather(connection, *asked)]
    there = found.pop(0) if numbers else None
    besides = found.pop() if also else None
    if claim and there and not there["claimed"]:
        raise Used
    offer = found[0]
    if offer is None or offer["shop_status"] != "open":
        raise Refused("shop.not_open", "The shop takes no orders now.", "Come back later.")
    if room and there:
        _refuse_many(room, there["unpaid_of_owner"], there["unpaid_from_there"])
    goods = {one.sku_id: one for one in _list(offer["goods"], Goods)}
    if gone := [sku for sku in pieces if sku not in goods or not goods[sku].on_sale]:
        raise Refused(
            "checkout.not_on_sale",
            f"No longer on sale: SKU {', '.join(map(str, gone))}.",
            "Take it out of the cart.",
            count=len(gone),
        )
    limited = _list(offer["limited"], terms.StoredLimited)
    bought = await _bought(connection, owner, limited, claim is not None)
    held = found[1] if claim_id else None
    coupon, reason = _coupon(held["coupon"] if held else None, claim_id, owner, now)
    breakdown = pricing.quote(
        [_line(goods[sku], quantity) for sku, quantity in pieces.items()],
        limited=terms.limited_prices(limited, bought),
        reductions=[one.reduction() for one in _list(offer["reductions"], terms.StoredReduction)],
        coupon=coupon,
        level=_level(offer),
        to=_destination(address, delivery),
        now=now,
    )
    lines = tuple(_quoted(goods[sku], quantity) for sku, quantity in pieces.items())
    return Read(
        Quote(lines, breakdown, reason),
        offer["pay_within_s"],
        offer["receive_within_s"],
        offer["points_per_yuan"],
        there["taken"] if there else [],
        besides,
    )


def _begun(
    owner: Owner, now: datetime, numbers: Sequence[str], claim: Claim | None, room: Room | None
) -> dict[str, Any]:
    return {
        "scope": claim.scope if claim else None,
        "key": claim.key if claim else None,
        "request_hash": claim.request_hash if claim else None,
        "answer": claim.answer if claim else None,
        "now": now,
        "numbers": list(numbers),
        "owner_id": owner.id if room else None,
        "most_of_owner": room.of_owner if room else 0,
        "placed_from": room.placed_from if room else None,
        "most_from_there": room.from_there if room else 0,
    }


def _refuse_many(room: Room, of_owner: int, from_there: int) -> None:
    # Orders at the same moment do not see each other: a few more than the limit may come to be.
    if room.of_owner and of_owner >= room.of_owner:
        raise Refused(
            "checkout.many_unpaid",
            f"{of_owner} orders of this shopper wait for payment already.",
            "Pay or cancel one of them first.",
            most=room.of_owner,
        )
    if room.from_there and from_there >= room.from_there:
        raise Refused(
            "checkout.many_unpaid_here",
            f"{from_there} orders from this network address wait for payment already.",
            "Try again when some of them are paid or over.",
            most=room.from_there,
        )


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


def _line(one: Goods, quantity: int) -> Line:
    return Line(
        one.sku_id,
        one.product_id,
        quantity,
        one.price_fen,
        frozenset(one.categories),
        one.weight_g,
        terms.template(one.shipping_id, one.shipping_name, one.shipping_rules),
    )


def _quoted(one: Goods, quantity: int) -> QuotedLine:
    return QuotedLine(
        one.sku_id,
        one.product_id,
        one.title,
        one.title_en,
        one.options,
        one.picture,
        quantity,
        one.price_fen,
        one.free,
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
