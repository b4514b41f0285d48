"""What was sold in a seeded shop over the last ninety days: orders in every state, priced by the rules and told by `told`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import msgspec

from ballast.mall import tables
from ballast.mall.bookkeeping import day_of
from ballast.mall.ids import derived, part_of
from ballast.mall.past import Goods, Past
from ballast.mall.rules import levels, pricing
from ballast.mall.rules.discounts import CouponTerms, Line
from ballast.mall.rules.numbers import order_number
from ballast.mall.rules.shipping import Destination
from ballast.mall.rules.states import Status
from ballast.mall.seed.goods import Item, Range
from ballast.mall.seed.lives import PAY_WITHIN, life, moment, one_of
from ballast.mall.seed.people import Person, person
from ballast.mall.seed.promises import LEVELS, Promises
from ballast.mall.seed.words import words
from ballast.mall.terms import StoredLevel
from ballast.mall.terms import levels as levels_of
from ballast.mall.told import Told, tell

POINTS_PER_YUAN = 1
_MEMBERS = 0.7


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
        buyer = one_of(rng, members if rng.random() < _MEMBERS else guests)
        placed_at = moment(rng, n, count, now)
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
            note=one_of(rng, words().notes),
            provider="sandbox",
            provider_code=f"seed-{order_id.hex}",
            points_per_yuan=POINTS_PER_YUAN,
            **life(rng, goods, breakdown, placed_at, now),
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
