"""A product's options as they are stored (`mall.product.specs`), and what a change of them does to the texts of its SKUs.

`rules.skus` knows options and values by ids. They stand in the stored options; where they do not (imports, older data) they
follow from the names, so that the same names are the same values. A value that comes back under its name is the same
value again, and its SKU with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID, uuid5

import msgspec

from ballast.mall.rules.refused import Refused
from ballast.mall.rules.skus import Choice, Option, Sku, Value, matrix, reconcile

_NAMESPACE = UUID("6f1d1f6e-6c1c-5a2e-9c39-0f6d3a5f7c11")


class SpecValue(msgspec.Struct, frozen=True):
    """One value that can be chosen: red."""

    id: UUID
    value: str
    value_en: str = ""


class Spec(msgspec.Struct, frozen=True):
    """One thing to choose by: colour."""

    id: UUID
    name: str
    name_en: str = ""
    values: tuple[SpecValue, ...] = ()


class Had(msgspec.Struct, frozen=True):
    """A SKU that the product has, with the texts of its options, offered or not."""

    sku_id: UUID
    options: tuple[str, ...]
    active: bool


class Stays(msgspec.Struct, frozen=True):
    """A SKU of the matrix: its texts, its place and whether it is offered from now on."""

    sku_id: UUID
    options: tuple[str, ...]
    position: int
    active: bool


class Arranged(msgspec.Struct, frozen=True):
    """What has to be written."""

    stays: tuple[Stays, ...]
    added: tuple[tuple[tuple[str, ...], int], ...]
    """Texts and place of each new SKU."""
    retired: tuple[UUID, ...]
    aside: Mapping[UUID, tuple[str, ...]]
    """SKUs that are offered no longer and whose texts another one has now: what they are called instead."""


class _Raw(msgspec.Struct):
    name: str
    name_en: str = ""
    id: UUID | None = None
    values: list[_RawValue] = []


class _RawValue(msgspec.Struct):
    value: str
    value_en: str = ""
    id: UUID | None = None


def read(json: str) -> tuple[Spec, ...]:
    """Stored options, each option and value with its id."""
    found: list[Spec] = []
    for raw in msgspec.json.decode(json, type=list[_Raw]):
        option = raw.id or option_id(raw.name, [one.id for one in found])
        values: list[SpecValue] = []
        for one in raw.values:
            values.append(
                SpecValue(one.id or value_id(option, one.value, [v.id for v in values]), one.value, one.value_en)
            )
        found.append(Spec(option, raw.name, raw.name_en, tuple(values)))
    return tuple(found)


def written(specs: Sequence[Spec]) -> str:
    """As it is stored."""
    return msgspec.json.encode(specs).decode()


def option_id(name: str, taken: Collection[UUID]) -> UUID:
    """The id of an option that gets one now."""
    return _id(_NAMESPACE, name, taken)


def value_id(option: UUID, name: str, taken: Collection[UUID]) -> UUID:
    """The id of a value that gets one now: by its name, unless another value (which was renamed) has that."""
    return _id(option, name, taken)


def texts(specs: Sequence[Spec]) -> tuple[tuple[str, ...], ...]:
    """The texts of every SKU of the matrix, in its order. Refused as `skus.matrix` does."""
    names = _names(specs)
    return tuple(tuple(names[value] for value in choice) for choice in matrix(_options(specs)))


def fits(specs: Sequence[Spec], options: Sequence[str]) -> bool:
    """Whether these texts are a combination of the options' values."""
    return len(specs) == len(options) and all(
        any(value.value == text for value in spec.values) for spec, text in zip(specs, options, strict=True)
    )


def arrange(before: Sequence[Spec], now: Sequence[Spec], had: Sequence[Had]) -> Arranged:
    """What becomes of the SKUs of a product when its options change from `before` to `now`.

    A SKU that was taken from sale by itself, while its values were there, stays off sale; one that went with its value comes
    back with it."""
    options, names = _options(now), _names(now)
    readable, by_hand, others = [], set(), []
    for one in had:
        if len(one.options) != len(before):
            # Made when the product had other options; nothing says which values it would have now.
            others.append(one)
            continue
        chosen = {spec.id: _meant(spec, text) for spec, text in zip(before, one.options, strict=True)}
        readable.append(Sku(one.sku_id, chosen, one.active))
        if not one.active and fits(before, one.options):
            by_hand.add(one.sku_id)
    changes = reconcile(readable, options)
    place = {choice: n for n, choice in enumerate(matrix(options))}
    kept = dict(changes.kept)
    added = list(changes.added)
    _revive(had, kept, added, names)
    stays = tuple(
        Stays(sku_id, _text(choice, names), place[choice], sku_id not in by_hand) for sku_id, choice in kept.items()
    )
    taken = {one.options for one in stays} | {_text(choice, names) for choice in added}
    return Arranged(
        stays,
        tuple((_text(choice, names), place[choice]) for choice in added),
        (*changes.retired, *(one.sku_id for one in others if one.active and one.sku_id not in kept)),
        {
            one.sku_id: (*one.options, f"#{one.sku_id}")
            for one in had
            if one.sku_id not in kept and one.options in taken
        },
    )


def check(specs: Sequence[Spec]) -> None:
    """Refused: too many options, values or SKUs, names that are empty, too long or there twice."""
    matrix(_options(specs))
    for spec in specs:
        for name in (spec.name_en, *(value.value_en for value in spec.values)):
            if len(name) > 60:
                raise Refused("sku.long_english", f"{name!r} is too long.", "Write 60 characters at most.", name=name)


def _revive(had: Sequence[Had], kept: dict[UUID, Choice], added: list[Choice], names: Mapping[UUID, str]) -> None:
    """A new combination takes the SKU that had the very same texts once, whatever its values were called between."""
    idle = {one.options: one.sku_id for one in had if one.sku_id not in kept and not one.active}
    for choice in list(added):
        if sku_id := idle.get(_text(choice, names)):
            added.remove(choice)
            kept[sku_id] = choice


def _meant(spec: Spec, text: str) -> UUID:
    for value in spec.values:
        if value.value == text:
            return value.id
    return value_id(spec.id, text, [value.id for value in spec.values])


def _options(specs: Sequence[Spec]) -> tuple[Option, ...]:
    return tuple(Option(one.id, one.name, tuple(Value(value.id, value.value) for value in one.values)) for one in specs)


def _names(specs: Sequence[Spec]) -> dict[UUID, str]:
    return {value.id: value.value for spec in specs for value in spec.values}


def _text(choice: Choice, names: Mapping[UUID, str]) -> tuple[str, ...]:
    return tuple(names[one] for one in choice)


def _id(of: UUID, name: str, taken: Collection[UUID]) -> UUID:
    made = uuid5(of, name)
    while made in taken:
        made = uuid5(made, name)
    return made
