"""Which orders came about by rows that were wrong for a while and were put back: what a shop has to look at once more.

Somebody set prices to nothing, and shoppers bought at them; an address was swapped, and a parcel went there. The rows are as they
were again, and what was agreed meanwhile is not touched by that. Which of it was agreed by what was wrong is found by
value: a line at the very price that was wrong, an order to the very address. So an order at a price that the shop itself made
meanwhile is none of these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from ballast.mall.rules.breakdown import Breakdown

Cause = Literal["sent", "address", "price", "promotion", "level", "shipping"]
"""A parcel left for a swapped address; an order is to go to one; a price was wrong; terms of a coupon, a reduction or a
limited-time price were; the member's level (or the levels' discounts) was; what shipping costs was. The most urgent first."""
Values = Mapping[str, str | None]
"""A row, as texts that the database prints; by column."""

_ADDRESS = ("name", "phone", "province", "city", "district", "street")
_TERMS = {
    "coupon": (
        "amount_fen",
        "percent_bp",
        "cap_fen",
        "threshold_fen",
        "scope",
        "per_customer",
        "starts_at",
        "ends_at",
        "stopped_at",
    ),
    "full_reduction": ("tiers", "scope", "starts_at", "ends_at", "stopped_at"),
    "limited_price": ("sku_id", "price_fen", "quota", "per_customer", "starts_at", "ends_at", "stopped_at"),
}
"""What of a promotion decides what an order costs; the rest only counts."""
_IDS = {"coupon": "coupon_id", "full_reduction": "promotion_id", "limited_price": "promotion_id"}


class Changed(msgspec.Struct, frozen=True):
    """A row that was changed and is put back."""

    table: str
    """Without its schema."""
    before: Values | None
    """None: it was not there."""
    wrong: Values | None
    """None: it was removed."""


class Line(msgspec.Struct, frozen=True):
    """Of an order. `list_fen`: the price of one piece before any promotion."""

    line: int
    sku_id: UUID | None
    title: str
    title_en: str
    quantity: int
    list_fen: int


class Placed(msgspec.Struct, frozen=True):
    """An order of that time, or one that a changed row is about."""

    order_id: UUID
    number: str
    owner_id: UUID
    customer_id: UUID | None
    delivery: str
    address: dict[str, Any] | None
    breakdown: Breakdown | None
    lines: tuple[Line, ...]
    placed_at: datetime
    sent_at: datetime | None
    """When a parcel of it left, in that time."""
    placed_then: bool
    """It was placed in that time."""


class WrongLine(msgspec.Struct, frozen=True):
    """A line at a price that was wrong."""

    line: int
    title: str
    title_en: str
    quantity: int
    charged_fen: int
    """List price of one piece as it was sold."""
    right_fen: int | None
    """As it should have been; None: it was not for sale."""


class Questioned(msgspec.Struct, frozen=True):
    """An order that the shop has to look at, and why."""

    order_id: UUID
    number: str
    owner_id: UUID
    causes: tuple[Cause, ...]
    """The most urgent first."""
    lines: tuple[WrongLine, ...] = ()
    wrong_address: dict[str, str] | None = None
    right_address: dict[str, str] | None = None
    """None: not known, or the address was right."""

    @property
    def short_fen(self) -> int:
        """By how much its list prices were too low."""
        return sum((one.right_fen - one.charged_fen) * one.quantity for one in self.lines if one.right_fen is not None)


def questioned(changed: Sequence[Changed], placed: Iterable[Placed]) -> tuple[Questioned, ...]:
    """Which of these orders came about by what was wrong. `changed`: of one shop, the oldest change first."""
    wrong = _Wrong(changed)
    return tuple(found for order in placed if (found := wrong.judge(order)) is not None)


def orders_named(changed: Iterable[Changed]) -> tuple[UUID, ...]:
    """Orders whose own address was changed."""
    return tuple({UUID(one.before["order_id"] or "") for one in changed if _is_readdressed(one) and one.before})


class _Wrong:
    """What was wrong, arranged for asking."""

    def __init__(self, changed: Sequence[Changed]) -> None:
        self._prices: dict[UUID, dict[int, int | None]] = {}
        self._promotions: set[UUID] = set()
        self._levels: set[UUID] = set()
        self._all_levels = self._shipping = False
        self._addresses: dict[UUID, list[tuple[dict[str, str], dict[str, str] | None]]] = {}
        self._readdressed: dict[UUID, tuple[dict[str, str], dict[str, str] | None]] = {}
        for one in changed:
            self._take(one)

    def _take(self, one: Changed) -> None:
        wrong, before = one.wrong, one.before
        if one.table in _TERMS and wrong is not None and _differ(one, _TERMS[one.table]):
            self._promotions.add(_id(wrong, _IDS[one.table]))
        elif one.table == "shipping" and _differ(one, ("rules", "is_default")):
            self._shipping = True
        elif one.table == "shop" and _differ(one, ("levels",)):
            self._all_levels = True
        elif wrong is None:
            return
        elif one.table == "sku" and _differ(one, ("price_fen",)):
            prices = self._prices.setdefault(_id(wrong, "sku_id"), {})
            right = _fen(before)
            # Set wrong twice, it was right before the first time.
            prices[_fen(wrong) or 0] = prices.get(right, right) if right is not None else None
        elif one.table == "customer" and before is not None and _differ(one, ("level",)):
            self._levels.add(_id(wrong, "customer_id"))
        elif one.table == "address" and _differ(one, _ADDRESS):
            addresses = self._addresses.setdefault(_id(wrong, "customer_id"), [])
            right_one = _address(before) if before is not None else None
            addresses.append((_address(wrong), next((r for w, r in addresses if w == right_one), right_one)))
        elif _is_readdressed(one):
            order_id = _id(wrong, "order_id")
            first = self._readdressed[order_id][1] if order_id in self._readdressed else _of_json(before)
            self._readdressed[order_id] = (_of_json(wrong) or {}, first)

    def judge(self, order: Placed) -> Questioned | None:
        """What is to be said of an order; None: nothing."""
        wrong_address, right_address = self._address(order)
        causes: set[Cause] = set()
        if wrong_address is not None:
            causes.add("sent" if order.sent_at is not None else "address")
        lines = self._lines(order) if order.placed_then else ()
        if lines:
            causes.add("price")
        if order.placed_then and order.breakdown is not None:
            causes |= self._of_breakdown(order, order.breakdown)
        if not causes:
            return None
        ordered = tuple(cause for cause in _ORDER if cause in causes)
        return Questioned(order.order_id, order.number, order.owner_id, ordered, lines, wrong_address, right_address)

    def _lines(self, order: Placed) -> tuple[WrongLine, ...]:
        return tuple(
            WrongLine(x.line, x.title, x.title_en, x.quantity, x.list_fen, self._prices[x.sku_id][x.list_fen])
            for x in order.lines
            if x.sku_id is not None and x.list_fen in self._prices.get(x.sku_id, {})
        )

    def _of_breakdown(self, order: Placed, breakdown: Breakdown) -> set[Cause]:
        causes: set[Cause] = set()
        used = {use.promotion_id for line in breakdown.lines for use in line.limited}
        used |= {line.reduction_id for line in breakdown.lines if line.reduction_id is not None}
        used |= {breakdown.coupon_id} if breakdown.coupon_id is not None else set()
        if used & self._promotions:
            causes.add("promotion")
        if order.customer_id is not None and (self._all_levels or order.customer_id in self._levels):
            causes.add("level")
        if self._shipping and order.delivery == "ship":
            causes.add("shipping")
        return causes

    def _address(self, order: Placed) -> tuple[dict[str, str] | None, dict[str, str] | None]:
        stands = _six(order.address) if order.address is not None else None
        if order.order_id in self._readdressed:
            wrong, right = self._readdressed[order.order_id]
            # One that was put back in time needs nothing more.
            return (wrong, right) if stands == wrong or order.sent_at is not None else (None, None)
        if order.placed_then and order.customer_id is not None:
            for wrong, right in self._addresses.get(order.customer_id, ()):
                if stands == wrong:
                    return wrong, right
        return None, None


_ORDER: tuple[Cause, ...] = ("sent", "address", "price", "promotion", "level", "shipping")


def _differ(one: Changed, columns: Iterable[str]) -> bool:
    if one.before is None or one.wrong is None:
        return True
    return any(one.before.get(name) != one.wrong.get(name) for name in columns)


def _is_readdressed(one: Changed) -> bool:
    return one.table == "orders" and one.before is not None and one.wrong is not None and _differ(one, ("address",))


def _id(values: Values, column: str) -> UUID:
    return UUID(values[column] or "")


def _fen(values: Values | None) -> int | None:
    return None if values is None else int(values["price_fen"] or 0)


def _address(values: Values) -> dict[str, str]:
    return {name: values.get(name) or "" for name in _ADDRESS}


def _of_json(values: Values | None) -> dict[str, str] | None:
    text = values.get("address") if values is not None else None
    return _six(msgspec.json.decode(text)) if text else None


def _six(address: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(address.get(name) or "") for name in _ADDRESS}
