"""A product's SKU matrix: every combination of its options' values, and what becomes of the SKUs when options change.

A SKU is what it is by the ids of its values, not by their names or order: renaming and sorting touch no SKU, and so neither
its stock nor the orders that name it. A value that comes back brings back its SKUs.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from uuid import UUID

import msgspec

from ballast.mall.rules.refused import Refused

MOST_OPTIONS = 3
MOST_SKUS = 600
_LONGEST_NAME = 40

Choice = tuple[UUID, ...]
"""The ids of a value of each option, in the order of the options; () for a product without options."""


class Value(msgspec.Struct, frozen=True):
    """One value of an option: red."""

    id: UUID
    name: str


class Option(msgspec.Struct, frozen=True):
    """What a shopper chooses by: colour."""

    id: UUID
    name: str
    values: tuple[Value, ...]


class Sku(msgspec.Struct, frozen=True):
    """A SKU that is there, offered or not: for each option, by its id, the id of its value."""

    id: UUID
    chosen: dict[UUID, UUID]
    offered: bool = True


class Changes(msgspec.Struct, frozen=True):
    """What has to be done to the SKUs of a product. Every combination of the matrix is in `kept` or `added`."""

    kept: dict[UUID, Choice]
    """SKU → its combination now; one that was not offered is offered again."""
    added: tuple[Choice, ...]
    """Combinations for which a SKU is to be made."""
    retired: tuple[UUID, ...]
    """SKUs that are no longer offered; never deleted, orders name them."""


def matrix(options: Sequence[Option]) -> tuple[Choice, ...]:
    """All combinations, the last option changing fastest. Refused: too many, doubled or empty names."""
    if len(options) > MOST_OPTIONS:
        raise Refused(
            "sku.too_many_options",
            f"A product has {len(options)} options.",
            f"At most {MOST_OPTIONS} are possible.",
            most=MOST_OPTIONS,
        )
    _check_names([option.name for option in options], "options")
    for option in options:
        if not option.values:
            raise Refused(
                "sku.no_value",
                f"The option {option.name!r} has no value.",
                "Give it one, or remove it.",
                name=option.name,
            )
        _check_names([value.name for value in option.values], option.name)
    count = prod(len(option.values) for option in options)
    if count > MOST_SKUS:
        raise Refused(
            "sku.too_many",
            f"These options make {count} SKUs.",
            f"At most {MOST_SKUS} are possible: split the product.",
            count=count,
            most=MOST_SKUS,
        )
    return tuple(product(*([value.id for value in option.values] for option in options)))


def reconcile(skus: Sequence[Sku], options: Sequence[Option]) -> Changes:
    """What becomes of `skus` (all that the product ever had) under these options.

    An option that is new gives its first value to the SKUs that are there. Where an option goes and several SKUs become
    one combination, the first of those offered keeps it."""
    wanted = matrix(options)
    free = set(wanted)
    kept: dict[UUID, Choice] = {}
    for sku in sorted(skus, key=lambda sku: not sku.offered):
        choice = _choice(sku.chosen, options)
        if choice in free:
            free.remove(choice)
            kept[sku.id] = choice
    retired = tuple(sku.id for sku in skus if sku.offered and sku.id not in kept)
    return Changes(kept, tuple(choice for choice in wanted if choice in free), retired)


def _choice(chosen: Mapping[UUID, UUID], options: Sequence[Option]) -> Choice:
    return tuple(chosen.get(option.id, option.values[0].id) for option in options)


def _check_names(names: Sequence[str], of: str) -> None:
    seen: set[str] = set()
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        if not plain or len(name) > _LONGEST_NAME:
            raise Refused(
                "sku.bad_name",
                f"{name!r} (of {of}) is no name.",
                f"Write 1 to {_LONGEST_NAME} characters.",
                name=name,
                of=of,
            )
        if plain in seen:
            raise Refused(
                "sku.name_twice", f"{name!r} is there twice (of {of}).", "Give each its own name.", name=name, of=of
            )
        seen.add(plain)
