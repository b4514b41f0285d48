"""What was sold in a seeded shop over the last ninety days: orders in every state, priced by the rules and told by `past`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.bookkeeping import day_of
from ballast.mall.ids import derived, part_of
from ballast.mall.past import GoneBack, Goods, Past, Told, tell
from ballast.mall.rules import levels, pricing
from ballast.mall.rules.breakdown import Breakdown
from ballast.mall.rules.discounts import CouponTerms, Line
from ballast.mall.rules.numbers import order_number
from ballast.mall.rules.refunding import PaidLine, RefundState, worth_fen
from ballast.mall.rules.shipping import Destination
from ballast.mall.rules.states import Event, Status
from ballast.mall.seed.goods import Item, Range
from ballast.mall.seed.people import Person, person
from ballast.mall.seed.promises import LEVELS, Promises
from ballast.mall.seed.words import words
from ballast.mall.terms import StoredLevel
from ballast.mall.terms import levels as levels_of

T = TypeVar("T")
OVER = timedelta(days=90)
PAY_WITHIN = timedelta(minutes=30)
POINTS_PER_YUAN = 1
_CLOSED_AFTER = timedelta(days=7)
_RECEIVED_AFTER = timedelta(days=10)
_MEMBERS = 0.7
_BY_HOUR = (1, 1, 1, 1, 1, 1, 2, 4, 6, 8, 9, 9, 8, 7, 7, 8, 8, 8, 9, 12, 14, 14, 9, 4)
"""How busy each hour of a day in China is."""


class Sales(msgspec.Struct, frozen=True):
    """Rows of all that was sold, and what it did to goods and people."""

    rows: list[tables.Row]
    products: Sequence[tables.Product]
    """As before, with how many of each were sold."""
    paid: list[Past]
    """Orders whose money came through the provider."""


class _Stock:
    """How the pieces of a SKU came and went."""

    def __init__(self) -> None:
        self.sold = self.reserved = 0
        self.moves: list[tables.StockMovement] = []

    def move(self, kind: str, on_hand: int, reserved: int, sku_id: UUID, order: Past, n: int, at: datetime) -> None:
        self.sold -= on_hand
        self.reserved += reserved
        self.moves.append(
            tables.StockMovement(
                part_of(order.order_id, n), sku_id, kind, on_hand, reserved, order.order_id, "seed", "", at
            )
        )


def make(
    rng: Random,
    shop_id: UUID,
    goods: Range,
    promises: Promises,
    count: int,
    customer_password: str,
    now: datetime,
) -> Sales:
    """`count` orders. `customer_password`: the hash of the demo customer's (the first member's) password."""
    on_sale = {one.product_id for one in goods.products if one.status == "on_sale"}
    offered = [one for one in goods.items if one.sku.product_id in on_sale]
    members = [person(rng, shop_id, n, True, now) for n in range(1, max(3, count * 2 // 5) + 1)]
    guests = [person(rng, shop_id, n, False, now) for n in range(1, count // 4 + 2)]
    stock = {one.sku.sku_id: _Stock() for one in goods.items}
    sold: dict[UUID, int] = {}
    spent = dict.fromkeys((one.owner_id for one in members), 0)
    points = dict(spent)
    claims: dict[UUID, tables.CouponClaim] = {}
    rows: list[tables.Row] = []
    paid: list[Past] = []
    numbers: set[str] = set()
    for n in range(count if offered else 0):
        buyer = _one(rng, members if rng.random() < _MEMBERS else guests)
        placed_at = _moment(rng, n, count, now)
        coupon = promises.terms if buyer.member and buyer.owner_id not in claims and rng.random() < 0.3 else None
        order, used = _order(rng, shop_id, n, buyer, offered, promises, coupon, placed_at, now, numbers)
        told = tell(order)
        rows += told.rows
        if order.paid_at:
            paid.append(order)
        if used is not None:
            # Of an order that was cancelled the coupon is back in its owner's hands.
            kept = told.life.status != Status.CANCELLED
            claims[buyer.owner_id] = msgspec.structs.replace(
                used, order_id=order.order_id if kept else None, used_at=placed_at if kept else None
            )
        if buyer.member:
            spent[buyer.owner_id] += told.spent_fen
            points[buyer.owner_id] += told.points
        _move(order, told, stock, sold)
    rows += _people(rng, members, spent, points, customer_password)
    rows += _coupons(rng, promises, members, claims, now)
    rows += _stock(rng, shop_id, goods.items, stock, now)
    products = [
        msgspec.structs.replace(one, sold=sold[one.product_id]) if one.product_id in sold else one
        for one in goods.products
    ]
    return Sales(rows, products, paid)


def visits(rng: Random, days: int, now: datetime) -> list[tables.VisitHour]:
    """Who came, hour by hour."""
    popular = 0.5 + 3 * rng.random()
    last = now.replace(minute=0, second=0, microsecond=0)
    found = []
    for back in range(days * 24):
        hour = last - timedelta(hours=back)
        busy = _BY_HOUR[(hour.hour + 8) % 24]
        views = int(busy * popular * (0.5 + rng.random()))
        if views > 2:
            visitors = max(1, views // 3)
            found.append(tables.VisitHour(hour, views, visitors, visitors // 3, visitors // 6))
    return found


def _one(rng: Random, of: Sequence[T]) -> T:
    return of[int(rng.random() * len(of))]


def _moment(rng: Random, n: int, count: int, now: datetime) -> datetime:
    """Spread over the ninety days, more of them lately, at the hours at which people buy; the last few within the hour."""
    if n >= count - max(1, count // 50):
        return now - timedelta(minutes=1 + 25 * rng.random())
    lately: float = rng.random() ** 0.7
    day = now - OVER * (1 - lately)
    hour = rng.choices(range(24), _BY_HOUR)[0]
    at = day.replace(minute=int(rng.random() * 60), second=int(rng.random() * 60), microsecond=0)
    at += timedelta(hours=(hour - 8 - at.hour) % 24)
    return min(at, now - timedelta(minutes=40))


def _order(
    rng: Random,
    shop_id: UUID,
    n: int,
    buyer: Person,
    offered: Sequence[Item],
    promises: Promises,
    coupon: CouponTerms | None,
    placed_at: datetime,
    now: datetime,
    numbers: set[str],
) -> tuple[Past, tables.CouponClaim | None]:
    order_id = derived(placed_at, shop_id, "order", n)
    # Some goods sell much better than others.
    chosen = {
        item.sku.sku_id: (item, 1 + int(rng.random() * 1.4))
        for item in (offered[int(rng.random() ** 2 * len(offered))] for _ in range(1 + int(rng.random() ** 2 * 3)))
    }
    breakdown = pricing.quote(
        [
            Line(
                item.sku.sku_id,
                item.sku.product_id,
                quantity,
                item.sku.price_fen,
                item.categories,
                item.sku.weight_g,
                promises.template,
            )
            for item, quantity in chosen.values()
        ],
        reductions=(promises.reduction,),
        coupon=coupon,
        to=Destination("delivery", buyer.address.province),
        now=placed_at,
    )
    used = None
    if coupon is not None and breakdown.coupon_id is not None:
        used = tables.CouponClaim(
            part_of(buyer.owner_id, 2),
            coupon.id,
            buyer.owner_id,
            max(buyer.since, placed_at - timedelta(days=1)),
            None,
            None,
        )
    goods = tuple(
        _goods(item, quantity, price.total_fen)
        for (item, quantity), price in zip(chosen.values(), breakdown.lines, strict=True)
    )
    return (
        Past(
            order_id=order_id,
            number=_number(order_id, placed_at, numbers),
            source="web",
            owner_id=buyer.owner_id,
            customer_id=buyer.owner_id if buyer.member else None,
            goods=goods,
            placed_at=placed_at,
            pay_by=placed_at + PAY_WITHIN,
            buyer_name=buyer.address.name,
            buyer_phone=buyer.address.phone,
            address=buyer.address,
            shipping_fen=breakdown.shipping.fee_fen,
            breakdown=breakdown,
            coupon_claim_id=used.claim_id if used else None,
            note=_one(rng, words().notes),
            provider="sandbox",
            provider_code=f"seed-{order_id.hex}",
            points_per_yuan=POINTS_PER_YUAN,
            **_life(rng, goods, breakdown, placed_at, now),
        ),
        used,
    )


def _goods(item: Item, quantity: int, total_fen: int) -> Goods:
    return Goods(
        item.title,
        quantity,
        item.sku.price_fen,
        item.sku.price_fen,
        item.sku.price_fen * quantity - total_fen,
        item.title_en,
        tuple(item.sku.options),
        item.picture,
        item.sku.product_id,
        item.sku.sku_id,
    )


def _number(order_id: UUID, placed_at: datetime, numbers: set[str]) -> str:
    for attempt in range(100):
        number = order_number(order_id, day_of(placed_at), attempt)
        if number not in numbers:
            break
    numbers.add(number)
    return number


def _life(
    rng: Random, goods: Sequence[Goods], breakdown: Breakdown, placed_at: datetime, now: datetime
) -> dict[str, Any]:
    """What happened to it, as far as its time has come."""
    chance = rng.random()
    if chance < 0.1:
        if placed_at + PAY_WITHIN >= now:
            return {}
        if chance < 0.02:
            at = placed_at + timedelta(minutes=1 + 20 * rng.random())
            return {"cancelled_at": at, "cancelled_by": Event.CANCEL_BY_SHOPPER}
        return {"cancelled_at": placed_at + PAY_WITHIN}
    paid_at = placed_at + timedelta(seconds=20 + 500 * rng.random())
    if paid_at >= now:
        return {}
    life: dict[str, Any] = {"paid_at": paid_at}
    if chance < 0.13:
        back_at = paid_at + timedelta(hours=1 + 3 * rng.random())
        if back_at < now:
            everything = tuple((n, one.quantity, one.total_fen) for n, one in enumerate(goods, 1))
            life["back"] = (_gone_back(rng, everything, breakdown.shipping.fee_fen, paid_at, back_at),)
        return life
    shipped_at = paid_at + timedelta(hours=4 + 40 * rng.random())
    if shipped_at >= now:
        return life
    life |= {
        "shipped_at": shipped_at,
        "carrier": _one(rng, words().carriers),
        "tracking": f"SF{int(rng.random() * 10**13):013}",
    }
    by_hand = rng.random() < 0.6
    received_at = shipped_at + (timedelta(days=1 + 5 * rng.random()) if by_hand else _RECEIVED_AFTER)
    if received_at >= now:
        return life
    life |= {"received_at": received_at, "by_hand": by_hand}
    closed_at = received_at + _CLOSED_AFTER
    asked_at = received_at + timedelta(hours=1 + 80 * rng.random())
    line = 1 + int(rng.random() * len(goods))
    one = goods[line - 1]
    piece = ((line, 1, worth_fen(PaidLine(UUID(int=line), one.quantity, one.total_fen), 1)),)
    # Of those that can still be decided about there are few: so that every shop has some, more of them are asked for.
    if chance < (0.35 if closed_at >= now else 0.2) and asked_at < now and piece[0][2]:
        if closed_at >= now:
            life["back"] = (
                GoneBack(asked_at, piece, status=RefundState.REQUESTED, reason=_one(rng, words().complaints)),
            )
            return life
        if chance < 0.17:
            life["back"] = (_gone_back(rng, piece, 0, asked_at, asked_at + timedelta(hours=1 + 20 * rng.random())),)
            if (
                one.total_fen == sum(each.total_fen for each in goods) + breakdown.shipping.fee_fen
                and one.quantity == 1
            ):
                return life  # all of it is back: that closes it
        else:
            life["back"] = (
                GoneBack(
                    asked_at,
                    piece,
                    status=RefundState.REFUSED,
                    decided_at=asked_at + timedelta(hours=6),
                    reason=_one(rng, words().complaints),
                    answer=_one(rng, words().refusals),
                ),
            )
    if closed_at < now:
        life["closed_at"] = closed_at
    return life


def _gone_back(
    rng: Random, lines: tuple[tuple[int, int, int], ...], shipping_fen: int, asked_at: datetime, at: datetime
) -> GoneBack:
    return GoneBack(
        asked_at,
        lines,
        shipping_fen,
        RefundState.SUCCEEDED,
        decided_at=asked_at + (at - asked_at) / 2,
        succeeded_at=at,
        reason=_one(rng, words().complaints),
        answer=_one(rng, words().answers),
    )


def _move(order: Past, told: Told, stock: dict[UUID, _Stock], sold: dict[UUID, int]) -> None:
    cancelled = next((row for row in told.rows if isinstance(row, tables.Order)), None)
    for n, one in enumerate(order.goods):
        if one.sku_id is None or one.product_id is None:
            continue
        level, count, number = stock[one.sku_id], one.quantity, n * 4
        level.move("reserve", 0, count, one.sku_id, order, number + 1, order.placed_at)
        if told.sold and order.paid_at:
            level.move("sell", -count, -count, one.sku_id, order, number + 2, order.paid_at)
            sold[one.product_id] = sold.get(one.product_id, 0) + count
        elif not told.reserved and cancelled and cancelled.cancelled_at:
            level.move("release", 0, -count, one.sku_id, order, number + 3, cancelled.cancelled_at)
        if back := told.never_left.get(n + 1):
            at = order.back[0].succeeded_at or order.placed_at
            level.move("return", back, 0, one.sku_id, order, number + 4, at)


def _people(
    rng: Random, members: Sequence[Person], spent: dict[UUID, int], points: dict[UUID, int], password: str
) -> list[tables.Row]:
    known = levels_of([StoredLevel(**one) for one in LEVELS], POINTS_PER_YUAN)
    rows: list[tables.Row] = []
    for n, one in enumerate(members):
        level = levels.level_at(known, spent[one.owner_id])
        rows.append(
            tables.Customer(
                customer_id=one.owner_id,
                phone=one.address.phone,
                email=None,
                name=one.address.name,
                password_hash=password if n == 0 else None,
                level=level.id.int if level else 0,
                points=points[one.owner_id],
                spent_fen=spent[one.owner_id],
                external_code=None,
                created_at=one.since,
            )
        )
        rows.append(
            tables.AddressRow(
                address_id=part_of(one.owner_id, 1),
                customer_id=one.owner_id,
                is_default=True,
                **msgspec.structs.asdict(one.address),
            )
        )
    return rows


def _coupons(
    rng: Random, promises: Promises, members: Sequence[Person], claims: dict[UUID, tables.CouponClaim], now: datetime
) -> list[tables.Row]:
    """Some have claimed a coupon that they have not used yet."""
    for one in members:
        if one.owner_id not in claims and rng.random() < 0.3:
            claims[one.owner_id] = tables.CouponClaim(
                part_of(one.owner_id, 2),
                promises.terms.id,
                one.owner_id,
                now - timedelta(days=rng.random()),
                None,
                None,
            )
    used = sum(1 for claim in claims.values() if claim.order_id)
    first = msgspec.structs.replace(promises.coupons[0], claimed=len(claims), used=used)
    return [first, promises.coupons[1], *claims.values()]


def _stock(
    rng: Random, shop_id: UUID, items: Sequence[Item], stock: dict[UUID, _Stock], now: datetime
) -> list[tables.Row]:
    """What was received at first: all that was sold, and what is left."""
    rows: list[tables.Row] = []
    received_at = now - timedelta(days=95)
    for item in items:
        sku_id = item.sku.sku_id
        level = stock[sku_id]
        left = level.reserved + (int(rng.random() * 200) if rng.random() > 0.03 else 0)
        received = level.sold + left
        rows.append(tables.Stock(sku_id, left, level.reserved))
        if received:
            first = derived(received_at, shop_id, "received", sku_id)
            rows.append(tables.StockMovement(first, sku_id, "receive", received, 0, None, "seed", "", received_at))
        rows += level.moves
    return rows
