"""Who buys in a seeded shop: names, numbers and addresses put together by chance."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random
from uuid import UUID

import msgspec

from ballast.mall.ids import derived
from ballast.mall.quoting import Address
from ballast.mall.seed.words import words

DEMO_PHONE = "19900000001"
"""By this number somebody can log in at each seeded shop."""


class Person(msgspec.Struct, frozen=True):
    """A member (`customer_id` is his id), or a guest (of whom the shop knows only the visit)."""

    owner_id: UUID
    member: bool
    address: Address
    since: datetime


def person(rng: Random, shop_id: UUID, number: int, member: bool, now: datetime) -> Person:
    """The `number`-th (from 1) of a shop."""
    known = words()
    since = now - timedelta(days=95 + 200 * rng.random())
    province, city, district = known.places[int(rng.random() * len(known.places))]
    street = known.streets[int(rng.random() * len(known.streets))]
    house, block, door = (1 + int(rng.random() * most) for most in (300, 20, 30))
    place = f"{street}{house}号{block}栋{door}0{1 + int(rng.random() * 4)}"
    surname = known.surnames[int(rng.random() * len(known.surnames))]
    given = known.given[int(rng.random() * len(known.given))]
    phone = f"1990{number if member else 5_000_000 + number:07}"
    address = Address(surname + given, phone, province, city, district, place)
    return Person(derived(since, shop_id, "customer" if member else "guest", number), member, address, since)
