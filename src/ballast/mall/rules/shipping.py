"""What sending costs: by region, for the first so much and then for every further so much, by weight or by piece.

Several templates in one order: what each costs for its own lines, added up. Free from an amount on: the amount of all
goods of the order, after every discount. Picking up costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal
from uuid import UUID

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """What a template asks in some provinces. Amounts in grams or pieces, as the template's `unit` says."""

    provinces: tuple[str, ...]
    """Codes as in the order's address; none: all that no other rate of the template names."""
    first: int
    first_fen: int
    extra: int
    """Every further so much, begun or whole, costs `extra_fen`."""
    extra_fen: int
    free_from_fen: int | None = None
    """From this amount of goods on nothing is asked; None: never."""

    def __post_init__(self) -> None:
        if self.first < 1 or self.extra < 1:
            raise ValueError("A shipping rate counts by at least one gram or piece.")
        if min(self.first_fen, self.extra_fen, self.free_from_fen or 0) < 0:
            raise ValueError("A shipping rate asks for no negative amount.")


class Template(msgspec.Struct, frozen=True):
    """How a shop sends some of its products."""

    id: UUID
    name: str
    unit: Literal["weight", "piece"]
    rates: tuple[Rate, ...]

    def __post_init__(self) -> None:
        named = [province for rate in self.rates for province in rate.provinces or ("",)]
        if len(named) != len(set(named)):
            raise ValueError(f"The shipping template {self.name!r} names a province, or the rest of them, twice.")

    def rate_for(self, province: str) -> Rate | None:
        """The rate that holds there; None: it is not served."""
        rest = None
        for rate in self.rates:
            if province in rate.provinces:
                return rate
            if not rate.provinces:
                rest = rate
        return rest


class Parcel(msgspec.Struct, frozen=True):
    """A line of an order, as sending sees it. `template` None: it is always sent free."""

    sku_id: UUID
    template: Template | None
    quantity: int
    weight_g: int
    """Of all its pieces."""


class Destination(msgspec.Struct, frozen=True):
    """Where an order goes. `province` None: not known yet (a cart before its address)."""

    kind: Literal["delivery", "pickup"] = "delivery"
    province: str | None = None


class Fee(msgspec.Struct, frozen=True):
    """What sending costs. An order can be made only if it is `known` and nothing is `unserved`."""

    fee_fen: int
    known: bool = True
    unserved: tuple[UUID, ...] = ()
    """SKUs that are not sent to there; they are not in the fee."""


class Tariff:
    """What is asked for these parcels there, worked out once, for any amount of goods."""

    def __init__(self, parcels: Iterable[Parcel], to: Destination) -> None:
        self._asked: list[tuple[int, int | None]] = []
        unserved: list[UUID] = []
        self._known = True
        if to.kind == "pickup":
            parcels = ()
        amounts: dict[UUID, tuple[Rate, int]] = {}
        for parcel in parcels:
            if parcel.template is None:
                continue
            if to.province is None:
                self._known = False
                continue
            rate = parcel.template.rate_for(to.province)
            if rate is None:
                unserved.append(parcel.sku_id)
                continue
            amount = parcel.weight_g if parcel.template.unit == "weight" else parcel.quantity
            amounts[parcel.template.id] = rate, amounts.get(parcel.template.id, (rate, 0))[1] + amount
        self._asked = [(rate_fen(rate, amount), rate.free_from_fen) for rate, amount in amounts.values()]
        self._unserved = tuple(sorted(unserved))

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Amounts of goods from which on it costs less."""
        return tuple(free for fee, free in self._asked if fee and free is not None)

    def fee(self, goods_fen: int) -> Fee:
        """What is asked when the goods cost `goods_fen` after all discounts."""
        due = sum(fee for fee, free in self._asked if free is None or goods_fen < free)
        return Fee(due, self._known, self._unserved)


def rate_fen(rate: Rate, amount: int) -> int:
    """What `amount` grams or pieces cost by one rate, 0 or a negative amount counting as the first."""
    beyond = max(0, amount - rate.first)
    return rate.first_fen + -(-beyond // rate.extra) * rate.extra_fen
