"""From a cart to an order: what it costs (`quote`), and placing it (`place`), once however often it is asked.

`place` is one transaction of its caller (`Database.shop`) and two statements: the first takes the idempotency key and reads
goods and promises, the second writes the order with its lines and its event, the outbox, and reserves the stock; quotas and
the coupon, where there are any, one each in between. Whoever catches an error does so outside of the transaction: what was
done before it must not be kept.

Rows that many want are taken in the last statement, so that they are held for as short as can be; always quotas, then coupon,
then stock, as everywhere, so that no two transactions wait for each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from ballast.mall import effects, queries, stock
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.owner import Owner
from ballast.mall.payments import pay_nothing
from ballast.mall.quoting import Address, Claim, Delivery, Quote, QuotedLine, Read, Room, Used, Wanted, read
from ballast.mall.rules.breakdown import Breakdown, LinePrice
from ballast.mall.rules.numbers import order_number
from ballast.mall.rules.refused import Refused

__all__ = [
    "Address",
    "Delivery",
    "Placed",
    "PriceChanged",
    "Quote",
    "QuotedLine",
    "Room",
    "Wanted",
    "place",
    "quote",
]

Source = Literal["web", "api", "intake"]
CHINA = ZoneInfo("Asia/Shanghai")
_ATTEMPTS = 2
_SCOPE = "order"


class PriceChanged(Refused):
    """The order costs something else than what the shopper saw. `quote`: what it costs now; show it and ask again."""

    def __init__(self, quote: Quote, shown_fen: int) -> None:
        super().__init__(
            "checkout.price_changed",
            f"The order costs {quote.total_fen} fen, not {shown_fen} fen.",
            "Look at the new price and order again.",
            total_fen=quote.total_fen,
            shown_fen=shown_fen,
        )
        self.quote = quote


class Placed(msgspec.Struct, frozen=True):
    """An order that was placed, now or (`repeated`) by an earlier request with the same key."""

    order_id: UUID
    number: str
    total_fen: int
    pay_by: datetime
    repeated: bool = False


async def quote(
    connection: Connection,
    owner: Owner,
    lines: Sequence[Wanted],
    *,
    address: Address | None = None,
    delivery: Delivery = "ship",
    claim_id: UUID | None = None,
    now: datetime,
) -> Quote:
    """What these goods cost this shopper now, with all promotions, and what is short.

    Args:
        address: None while it is not known: then `breakdown.shipping.known` may be false.
        claim_id: the coupon that he chose.

    Raises:
        Refused: `checkout.lines`, `checkout.quantity`, `checkout.not_on_sale`, `shop.not_open`.
    """
    found = await read(connection, owner, lines, address=address, delivery=delivery, claim_id=claim_id, now=now)
    return found.quote


async def place(
    connection: Connection,
    owner: Owner,
    lines: Sequence[Wanted],
    *,
    key: str,
    address: Address,
    delivery: Delivery = "ship",
    claim_id: UUID | None = None,
    note: str = "",
    shown_fen: int | None,
    now: datetime,
    order_id: UUID | None = None,
    source: Source = "web",
    room: Room | None = None,
) -> Placed:
    """Place an order: its goods are reserved until `pay_by`. The same key with the same request gives the same order.

    Args:
        key: the idempotency key, of this shopper (1 to 200 characters).
        shown_fen: the total that the shopper agreed to; None accepts any.
        order_id: where it was made before, as for an order taken while the database was away.
        now: when it was placed; `pay_by` counts from it.
        room: how many orders may wait for payment; None: any number.

    Raises:
        PriceChanged: with the new quote.
        stock.OutOfStock: with what is left.
        Refused: as `quote`; `checkout.address`, `checkout.unserved`, `checkout.coupon` (the reason in its params),
            `checkout.many_unpaid`, `checkout.many_unpaid_here`, `checkout.gone_meanwhile` (a quota or the coupon was used up by
            another order at this moment: quote again),
            `idempotency.differs` (the key was used for something else).
    """
    made = order_id or new_id()
    _check(address, delivery)
    asked = _hash(owner, lines, address, delivery, claim_id, note, order_id)
    text = queries.load("checkout")
    day = now.astimezone(CHINA).date()
    numbers = [order_number(made, day, attempt) for attempt in range(_ATTEMPTS)]
    claim = Claim(f"{_SCOPE}:{owner.id}", key, asked, f'{{"order_id":"{made}"}}')
    try:
        found = await read(
            connection,
            owner,
            lines,
            address=address,
            delivery=delivery,
            claim_id=claim_id,
            now=now,
            numbers=numbers,
            claim=claim,
            room=room,
        )
    except Used:
        return await _earlier(connection, claim)
    _accept(found.quote, shown_fen)
    number = next((one for one in numbers if one not in found.taken), numbers[0])
    pay_by = now + timedelta(seconds=found.pay_within_s)
    await _use_promises(connection, owner, made, found.quote.breakdown, claim_id, now)
    pieces = {line.sku_id: line.quantity for line in found.quote.lines}
    cursor = await connection.execute(
        text.record,
        _record(owner, found, made, number, pay_by, address, delivery, claim_id, note, source, room, now),
    )
    await stock.all_changed(connection, pieces, cursor)
    if found.quote.total_fen == 0:
        await pay_nothing(connection, made, now)
    return Placed(made, number, found.quote.total_fen, pay_by)


def _check(address: Address, delivery: Delivery) -> None:
    needed = [address.name, address.phone]
    if delivery == "ship":
        needed += [address.province, address.street]
    if not all(one.strip() for one in needed):
        raise Refused("checkout.address", "Something of the address is missing.", "Fill it in.")


def _accept(found: Quote, shown_fen: int | None) -> None:
    if found.coupon_reason:
        raise Refused(
            "checkout.coupon",
            f"The coupon cannot be used: {found.coupon_reason}.",
            "Choose another or none.",
            reason=found.coupon_reason,
        )
    if not found.breakdown.orderable:
        raise Refused("checkout.unserved", "Some of it is not sent to there.", "Choose another address or pick it up.")
    if shown_fen is not None and shown_fen != found.total_fen:
        raise PriceChanged(found, shown_fen)
    if found.short:
        raise stock.OutOfStock(found.short)


async def _earlier(connection: Connection, claim: Claim) -> Placed:
    cursor = await connection.execute(queries.load("checkout").answered, {"scope": claim.scope, "key": claim.key})
    row = await cursor.fetchone()
    if row is None or row["request_hash"] != claim.request_hash:
        raise Refused("idempotency.differs", "This key was used for another request.", "Take a new key.")
    order_id = UUID(msgspec.json.decode(row["answer"])["order_id"])
    cursor = await connection.execute(queries.load("orders").placed, {"order_id": order_id})
    placed = await cursor.fetchone()
    if placed is None:
        raise Refused("order.unknown", f"There is no order {order_id}.", "Look at the list of orders.")
    return Placed(order_id, placed["number"], placed["total_fen"], placed["pay_by"], repeated=True)


async def _use_promises(
    connection: Connection, owner: Owner, order_id: UUID, breakdown: Breakdown, claim_id: UUID | None, now: datetime
) -> None:
    text = queries.load("checkout")
    if uses := effects.limited_uses(breakdown):
        cursor = await connection.execute(text.use_limited, {"promotions": list(uses), "pieces": list(uses.values())})
        if len(await cursor.fetchall()) < len(uses):
            raise Refused("checkout.gone_meanwhile", "A limited-time price has run out just now.", "Look again.")
    if claim_id and breakdown.coupon_id:
        cursor = await connection.execute(
            text.use_coupon, {"claim_id": claim_id, "owners": [owner.id], "order_id": order_id, "now": now}
        )
        if await cursor.fetchone() is None:
            raise Refused("checkout.gone_meanwhile", "Another order has just used the coupon.", "Look again.")


def _record(
    owner: Owner,
    found: Read,
    order_id: UUID,
    number: str,
    pay_by: datetime,
    address: Address,
    delivery: Delivery,
    claim_id: UUID | None,
    note: str,
    source: Source,
    room: Room | None,
    now: datetime,
) -> dict[str, object]:
    breakdown = found.quote.breakdown
    lines = [
        _order_line(n, line, price)
        for n, (line, price) in enumerate(zip(found.quote.lines, breakdown.lines, strict=True), 1)
    ]
    return {
        "order_id": order_id,
        "number": number,
        "customer_id": owner.customer_id,
        "owner_id": owner.id,
        "buyer_name": address.name,
        "buyer_phone": address.phone,
        "delivery": delivery,
        "address": msgspec.json.encode(address).decode() if delivery == "ship" else None,
        "items_fen": breakdown.list_fen,
        "discount_fen": breakdown.discount_fen,
        "shipping_fen": breakdown.shipping.fee_fen,
        "total_fen": breakdown.total_fen,
        "breakdown": msgspec.json.encode(breakdown).decode(),
        "claim_id": claim_id if breakdown.coupon_id else None,
        "note": note[:500],
        "source": source,
        "placed_from": room.placed_from if room else None,
        "now": now,
        "pay_by": pay_by,
        "lines": msgspec.json.encode(lines).decode(),
        "event_id": new_id(),
        "actor": owner.actor,
        "body": msgspec.json.encode(
            {"order_id": order_id, "number": number, "status": "pending_payment", "total_fen": breakdown.total_fen}
        ).decode(),
        "skus": [line.sku_id for line in found.quote.lines],
        "pieces": [line.quantity for line in found.quote.lines],
        "movements": [new_id() for _ in found.quote.lines],
    }


def _order_line(n: int, line: QuotedLine, price: LinePrice) -> dict[str, object]:
    """A price of one piece that is whole fen: what cannot be divided is in the line's discount."""
    reduced = price.list_fen - price.limited_off_fen - price.member_off_fen
    each = -(-reduced // line.quantity)
    return {
        "line": n,
        "product_id": line.product_id,
        "sku_id": line.sku_id,
        "title": line.title,
        "title_en": line.title_en,
        "options": line.options,
        "picture": line.picture,
        "list_fen": line.price_fen,
        "price_fen": each,
        "quantity": line.quantity,
        "discount_fen": each * line.quantity - price.total_fen,
        "total_fen": price.total_fen,
        "limited_price_id": price.limited[0].promotion_id if price.limited else None,
    }


def _hash(*asked: object) -> bytes:
    return hashlib.sha256(msgspec.json.encode(asked)).digest()
