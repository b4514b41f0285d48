"""Orders of the past out of lines, with the moments at which things happened: what `past.tell` makes rows of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall.bookkeeping import day_of
from ballast.mall.ids import derived
from ballast.mall.imports import values
from ballast.mall.imports.columns import OF_ORDER
from ballast.mall.imports.grouping import Group
from ballast.mall.past import GoneBack, Goods, Past
from ballast.mall.quoting import Address
from ballast.mall.rules.levels import Level
from ballast.mall.rules.money import allocate
from ballast.mall.rules.numbers import order_number
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.states import Event, Status
from ballast.mall.told import Told, tell
from ballast.mall.visitors import read_login

_MOST_FEN = 10**15
_MOST_PIECES = 1_000_000
_STATUSES = {
    "paid": "paid", "shipped": "shipped", "received": "received", "closed": "closed", "cancelled": "cancelled",
    "待发货": "paid", "已付款": "paid", "已发货": "shipped", "待收货": "shipped", "已收货": "received", "已完成": "closed",
    "交易成功": "closed", "已取消": "cancelled", "已关闭": "cancelled", "交易关闭": "cancelled",
}  # fmt: skip
_DELIVERIES = {"ship": "ship", "pickup": "pickup", "快递": "ship", "自提": "pickup"}


class Piece(msgspec.Struct, frozen=True):
    """Goods of a line, as they were called where the order was made."""

    product_code: str
    sku_code: str
    name: str
    options: tuple[str, ...]
    price_fen: int
    quantity: int
    discount_fen: int


class Member(msgspec.Struct, frozen=True):
    """By what a member is known: his phone, his mail address, or a number that the shop gave him."""

    key: str
    phone: str | None
    email: str | None


class Brought(msgspec.Struct, frozen=True):
    """An order as its lines say it; moments as `past.Past` wants them."""

    code: str
    status: Status
    placed_at: datetime
    life: dict[str, Any]
    refunded_fen: int
    refunded_at: datetime | None
    member: Member | None
    buyer_name: str
    buyer_phone: str
    address: Address | None
    shipping_fen: int
    payment_code: str
    note: str
    pieces: tuple[Piece, ...]

    @property
    def items_fen(self) -> int:
        """At the prices of the lines."""
        return sum(one.price_fen * one.quantity for one in self.pieces)

    @property
    def total_fen(self) -> int:
        """What was paid, or was to be."""
        return self.items_fen - sum(one.discount_fen for one in self.pieces) + self.shipping_fen


class Known(msgspec.Struct, frozen=True):
    """What a shop has, for a batch of orders."""

    there: dict[str, tuple[int, int]]
    """Orders by their code: what their goods cost, and how many lines they have."""
    taken: set[str]
    """Order numbers."""
    goods: dict[tuple[str, str], Goods]
    """By the codes of product and SKU; of a product as such with "" for the SKU. Only names and ids are of use."""
    members: dict[str, UUID]
    newcomers: frozenset[str]
    """Members that the shop does not have yet."""
    points_per_yuan: int
    levels: tuple[Level, ...]


def read(group: Group, now: datetime) -> Brought:
    """An order. Refused: a cell cannot be read, lines contradict each other, or it cannot have been so."""
    first = group.lines[0].cells
    pieces: list[Piece] = []
    for line in group.lines:
        if line is not group.lines[0]:
            for column in OF_ORDER:
                said = line.cells.get(column, "")
                if said and said != first.get(column, ""):
                    raise _at(
                        line.number, f"{column}: it is not what the order's first line says.", "Make them the same."
                    )
        try:
            pieces.append(_piece(line.cells))
        except Refused as error:
            raise _at(line.number, error.what, error.do) from None
    status = Status(values.choice(first, "status", _STATUSES))
    delivery = values.choice(first, "delivery", _DELIVERIES, default="ship")
    name, phone = values.text(first, "buyer_name", 60), values.text(first, "buyer_phone", 40)
    address = None
    if delivery == "ship":
        address = Address(
            name, phone, *(values.text(first, one, 200) for one in ("province", "city", "district", "street"))
        )
    placed_at = values.moment(first, "placed_at", now, needed=True)
    assert placed_at is not None
    refunded_fen = values.yuan(first, "refunded_yuan") or 0
    order = Brought(
        code=values.code(first, "order", needed=True),
        status=status,
        placed_at=placed_at,
        life=_life(first, status, placed_at, refunded_fen, now),
        refunded_fen=refunded_fen,
        refunded_at=values.moment(first, "refunded_at", now)
        or (values.moment(first, "cancelled_at", now) if status == Status.CANCELLED else None),
        member=_member(values.code(first, "member")),
        buyer_name=name,
        buyer_phone=phone,
        address=address,
        shipping_fen=values.yuan(first, "shipping_yuan") or 0,
        payment_code=values.code(first, "payment_code"),
        note=values.text(first, "note", 500),
        pieces=tuple(pieces),
    )
    if order.items_fen + order.shipping_fen > _MOST_FEN:
        raise Refused("import.amount", "The order costs more than any can.", "Correct prices and quantities.")
    return order


def past(shop_id: UUID, order: Brought, known: Known, customer_id: UUID | None) -> tuple[Past, Told]:
    """The order and what its life has left. Refused: it cannot have been so."""
    order_id = derived(order.placed_at, shop_id, "order", order.code)
    owner = customer_id or derived(order.placed_at, shop_id, "guest", order.buyer_phone or order.code)
    day = day_of(order.placed_at)
    number = next(one for one in (order_number(order_id, day, n) for n in range(100)) if one not in known.taken)
    whole = order.life.get("paid_at") is not None and 0 < order.refunded_fen == order.total_fen
    life = dict(order.life)
    if whole and order.status == Status.CLOSED:
        life["closed_at"] = None  # by the refund
    found = Past(
        order_id=order_id,
        number=number,
        source="import",
        owner_id=owner,
        customer_id=customer_id,
        external_code=order.code,
        goods=tuple(_goods(one, known) for one in order.pieces),
        placed_at=order.placed_at,
        pay_by=order.placed_at,
        buyer_name=order.buyer_name,
        buyer_phone=order.buyer_phone,
        address=order.address,
        shipping_fen=order.shipping_fen,
        note=order.note,
        provider_code=order.payment_code or None,
        points_per_yuan=known.points_per_yuan,
        back=_back(order, whole),
        **life,
    )
    told = tell(found)
    if told.life.status != order.status:
        raise Refused(
            "import.status",
            f"status: with what is said of it the order would be {told.life.status}, not {order.status}.",
            "An order whose money went back whole is closed, or, if nothing was sent, cancelled.",
        )
    return found, told


def numbers(shop_id: UUID, order: Brought) -> list[str]:
    """Numbers that the order may get: the first, if nobody has it."""
    order_id = derived(order.placed_at, shop_id, "order", order.code)
    return [order_number(order_id, day_of(order.placed_at), attempt) for attempt in range(2)]


def _life(
    cells: Mapping[str, str], status: Status, placed_at: datetime, refunded_fen: int, now: datetime
) -> dict[str, Any]:
    """The moments of the order. One that must have come and is not told is that of the step before."""
    told = {
        one: values.moment(cells, one, now)
        for one in ("paid_at", "shipped_at", "received_at", "closed_at", "cancelled_at")
    }
    if status == Status.CANCELLED:
        for one in ("shipped_at", "received_at", "closed_at"):
            if told[one]:
                raise values.refused(
                    one, "a cancelled order was never sent.", "Leave it empty, or give another status."
                )
        if told["paid_at"] and not refunded_fen:
            raise values.refused("refunded_yuan", "it was paid and cancelled.", "Write what went back.")
        if refunded_fen:
            return {"paid_at": told["paid_at"] or placed_at}
        return {"cancelled_at": told["cancelled_at"] or placed_at, "cancelled_by": Event.CANCEL_BY_MERCHANT}
    if told["cancelled_at"]:
        raise values.refused("cancelled_at", f"the order is {status}.", "Leave it empty, or write cancelled.")
    steps = ("paid_at", "shipped_at", "received_at", "closed_at")
    reached = (Status.PAID, Status.SHIPPED, Status.RECEIVED, Status.CLOSED).index(status)
    life: dict[str, Any] = {}
    before = placed_at
    for n, step in enumerate(steps):
        at = told[step]
        if n > reached:
            if at:
                raise values.refused(step, f"the order is {status}.", "Leave it empty, or give a later status.")
            continue
        if at and at < before:
            raise values.refused(step, "it is before what must have come first.", "Correct one of the times.")
        before = life[step] = at or before
    life["carrier"] = values.text(cells, "carrier", 60)
    life["tracking"] = values.code(cells, "tracking")
    return life


def _back(order: Brought, whole: bool) -> tuple[GoneBack, ...]:
    """What went back, on the lines in proportion to what they cost; what is more than they cost is shipping."""
    if not order.refunded_fen:
        return ()
    totals = [one.price_fen * one.quantity - one.discount_fen for one in order.pieces]
    goods_fen = min(order.refunded_fen, sum(totals))
    parts = allocate(goods_fen, totals) if goods_fen else (0,) * len(totals)
    lines = tuple(
        (n, one.quantity if whole else 0, fen)
        for n, (one, fen) in enumerate(zip(order.pieces, parts, strict=True), 1)
        if whole or fen
    )
    moments = [at for at in order.life.values() if isinstance(at, datetime)]
    at = order.refunded_at or max(moments, default=order.placed_at)
    return (GoneBack(at, lines, order.refunded_fen - goods_fen, decided_at=at, succeeded_at=at, reason="import"),)


def _goods(piece: Piece, known: Known) -> Goods:
    here = known.goods.get((piece.product_code, piece.sku_code)) or known.goods.get((piece.product_code, ""))
    return Goods(
        title=piece.name,
        quantity=piece.quantity,
        list_fen=piece.price_fen,
        price_fen=piece.price_fen,
        discount_fen=piece.discount_fen,
        title_en=here.title_en if here and here.title == piece.name else "",
        options=piece.options or (here.options if here else ()),
        picture=here.picture if here else None,
        product_id=here.product_id if here else None,
        sku_id=here.sku_id if here else None,
    )


def _piece(cells: Mapping[str, str]) -> Piece:
    price = values.yuan(cells, "price_yuan", needed=True)
    quantity = values.whole(cells, "quantity", 1, _MOST_PIECES)
    discount = values.yuan(cells, "discount_yuan") or 0
    if quantity is None:
        raise values.refused("quantity", "it is empty.", "Fill it.")
    assert price is not None
    if discount > price * quantity:
        raise values.refused("discount_yuan", "it is more than the line costs.", "Correct it.")
    options = values.text(cells, "options", 200)
    return Piece(
        values.code(cells, "product_code"),
        values.code(cells, "sku_code"),
        values.text(cells, "product_name", 200, needed=True),
        tuple(one.strip() for one in options.split(";") if one.strip()),
        price,
        quantity,
        discount,
    )


def _member(written: str) -> Member | None:
    if not written:
        return None
    try:
        phone, email = read_login(written)
    except Refused:
        return Member(written, None, None)
    return Member(phone or email or written, phone, email)


def _at(number: int, what: str, do: str) -> Refused:
    return Refused("import.line", f"Line {number}: {what}", do, line=number)


def members_of(orders: Sequence[Brought]) -> dict[str, tuple[Member, str, datetime]]:
    """Members by key, with the name and the moment of their first order here."""
    found: dict[str, tuple[Member, str, datetime]] = {}
    for one in orders:
        if one.member:
            before = found.get(one.member.key)
            if before is None or one.placed_at < before[2]:
                found[one.member.key] = one.member, one.buyer_name, one.placed_at
    return found
