"""A product as a shop's own software wants it: made whole, or changed in part, in one transaction.

A SKU is named by its options, the texts of a value of each; a product without options has one SKU, named by none. A combination
of values that is not named is there and not offered. Stock is set where a SKU is made; afterwards it has a version of its own
(`stock`): what is counted is not what a product's page said.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from ballast.mall import categories, products, stock
from ballast.mall.db import Connection
from ballast.mall.product_record import Deed, Facts, Product, Sku, Status, Terms
from ballast.mall.rules import specs
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec, SpecValue


class WantedValue(msgspec.Struct, frozen=True):
    """One value that can be chosen: red."""

    value: str
    value_en: str = ""


class WantedOption(msgspec.Struct, frozen=True):
    """One thing to choose by: colour."""

    name: str
    values: tuple[WantedValue, ...]
    name_en: str = ""


class WantedSku(msgspec.Struct, frozen=True):
    """A SKU by its options; what is left out stays as it is (of a new one: nothing crossed out, no weight, no code, no stock,
    offered)."""

    options: tuple[str, ...] = ()
    price_fen: int | UnsetType = UNSET
    compare_at_fen: int | UnsetType | None = UNSET
    weight_g: int | UnsetType = UNSET
    code: str | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    stock: int | UnsetType = UNSET


class Wanted(msgspec.Struct, frozen=True):
    """What of a product is to be so; what is left out stays."""

    facts: Facts | UnsetType = UNSET
    options: tuple[WantedOption, ...] | UnsetType = UNSET
    skus: tuple[WantedSku, ...] = ()
    pictures: tuple[str, ...] | UnsetType = UNSET
    status: Status | UnsetType = UNSET


async def make(connection: Connection, product_id: UUID, facts: Facts, wanted: Wanted, deed: Deed) -> Product:
    """A new product with its SKUs.

    Raises:
        Refused: `sku.needed` (none is named), `sku.price_needed`, `sku.unknown_options`, `sku.twice`, `category.unknown`,
            `shipping.unknown`; what `products.make`, `set_pictures` and `set_status` refuse.
    """
    await _known(connection, facts)
    matrix = _matrix(wanted.options or (), ())
    texts = specs.texts(matrix)
    by_text = _by_text(wanted.skus, texts)
    if not by_text:
        raise Refused("sku.needed", "The product has no SKU.", "Name one at least, with its price.")
    each = [_first(by_text.get(text) or wanted.skus[0]) for text in texts]
    pieces = [_number(by_text[text].stock, 0) if text in by_text else 0 for text in texts]
    await products.make(connection, product_id, facts, matrix, each, deed, pieces=pieces)
    made = await _get(connection, product_id)
    idle = {
        one.sku_id: _as_it_is(one)
        for one in made.skus
        if (said := by_text.get(one.options)) is None or said.active is False
    }
    if idle:
        await products.set_terms(connection, product_id, None, idle, frozenset(), deed)
    if wanted.pictures:
        await products.set_pictures(connection, product_id, None, wanted.pictures, deed)
    return await _stand(connection, product_id, wanted.status, deed)


async def change(connection: Connection, product_id: UUID, wanted: Wanted, deed: Deed) -> Product:
    """Change what is given. The caller holds the product (`products.hold`) and, for a status other than archived, has waited
    for his turn before that (`products.one_at_a_time`).

    Raises:
        Refused: as `make`; `sku.stock_by_itself` (the stock of a SKU that was there).
    """
    was = await _get(connection, product_id)
    if wanted.facts is not UNSET and wanted.facts != was.facts:
        await _known(connection, wanted.facts)
        await products.change(connection, product_id, None, wanted.facts, deed)
    matrix = was.specs if wanted.options is UNSET else _matrix(wanted.options, was.specs)
    by_text = _by_text(wanted.skus, specs.texts(matrix))
    if matrix != was.specs:
        await products.set_options(connection, product_id, None, matrix, Terms(was.max_price_fen), deed)
    await _skus(connection, was, by_text, deed)
    if wanted.pictures is not UNSET and wanted.pictures != was.pictures:
        await products.set_pictures(connection, product_id, None, wanted.pictures, deed)
    return await _stand(connection, product_id, wanted.status, deed)


async def change_sku(connection: Connection, product_id: UUID, sku_id: UUID, wanted: WantedSku, deed: Deed) -> Product:
    """Change what is given of one SKU, which the product has or had. As `change`. Refused: `sku.unknown`."""
    was = await _get(connection, product_id)
    sku = next((one for one in was.skus if one.sku_id == sku_id), None)
    if sku is None:
        raise Refused("sku.unknown", f"The product has no SKU {sku_id}.", "Look at the product.")
    offered = sku.active if wanted.active is UNSET else wanted.active
    if offered and not specs.fits(was.specs, sku.options):
        raise Refused("sku.unknown_options", "The product has not these options any more.", "Change its options.")
    terms = {sku_id: _merged(wanted, sku)}
    await products.set_terms(connection, product_id, None, terms, frozenset(terms if offered else ()), deed)
    return await _get(connection, product_id)


async def _skus(connection: Connection, was: Product, by_text: dict[tuple[str, ...], WantedSku], deed: Deed) -> None:
    before = {one.sku_id for one in was.skus}
    now = await _get(connection, was.product_id)
    terms: dict[UUID, Terms] = {}
    offered: set[UUID] = set()
    first: dict[UUID, int] = {}
    for sku in now.skus:
        said = by_text.get(sku.options)
        new = sku.sku_id not in before
        if said is None:
            if new and sku.active:
                terms[sku.sku_id] = _as_it_is(sku)
            continue
        if said.stock is not UNSET:
            if not new:
                raise Refused("sku.stock_by_itself", "The SKU has a stock already.", "Change its stock by itself.")
            first[sku.sku_id] = said.stock
        terms[sku.sku_id] = _first(said) if new else _merged(said, sku)
        if said.active is True or (said.active is UNSET and sku.active):
            offered.add(sku.sku_id)
    if any(terms.get(one.sku_id, _as_it_is(one)) != _as_it_is(one) for one in now.skus) or any(
        (one.sku_id in offered) != one.active for one in now.skus if one.sku_id in terms
    ):
        await products.set_terms(connection, was.product_id, None, terms, frozenset(offered), deed)
    await stock.receive(
        connection, {sku: n for sku, n in first.items() if n}, actor=deed.by.login, now=deed.now, reason=""
    )


async def _stand(connection: Connection, product_id: UUID, status: Status | UnsetType, deed: Deed) -> Product:
    if status is not UNSET:
        await products.set_status(connection, [product_id], status, deed)
    return await _get(connection, product_id)


async def _get(connection: Connection, product_id: UUID) -> Product:
    found = await products.get(connection, product_id)
    if found is None:
        raise products.unknown()
    return found


async def _known(connection: Connection, facts: Facts) -> None:
    """Forms leave out what is gone; software is told."""
    there = {one.category_id for one in await categories.all_of(connection)} if facts.categories else set()
    if not there.issuperset(facts.categories):
        raise Refused("category.unknown", "The shop has not all of these categories.", "Look at the list.")
    ways = {one.shipping_id for one in await products.shippings(connection)} if facts.shipping_id else set()
    if facts.shipping_id and facts.shipping_id not in ways:
        raise Refused("shipping.unknown", "The shop has no such way of sending.", "Look at the list.")


def _matrix(wanted: Sequence[WantedOption], was: Sequence[Spec]) -> tuple[Spec, ...]:
    """Options and values under their names keep their ids, and with these their SKUs."""
    before = {one.name: one for one in was}
    taken = [one.id for one in was]
    found: list[Spec] = []
    for option in wanted:
        known = before.get(option.name)
        option_id = known.id if known else specs.option_id(option.name, [*taken, *(one.id for one in found)])
        ids = {one.value: one.id for one in known.values} if known else {}
        values: list[SpecValue] = []
        for value in option.values:
            others = [*ids.values(), *(one.id for one in values)]
            value_id = ids.get(value.value) or specs.value_id(option_id, value.value, others)
            values.append(SpecValue(value_id, value.value, value.value_en))
        found.append(Spec(option_id, option.name, option.name_en, tuple(values)))
    specs.check(found)
    return tuple(found)


def _by_text(wanted: Sequence[WantedSku], texts: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], WantedSku]:
    known = set(texts)
    found: dict[tuple[str, ...], WantedSku] = {}
    for one in wanted:
        if one.options not in known:
            raise Refused(
                "sku.unknown_options",
                f"{list(one.options)} is no combination of the product's options.",
                "Name a value of each option, in their order.",
            )
        if one.options in found:
            raise Refused("sku.twice", f"The SKU {list(one.options)} is named twice.", "Name it once.")
        found[one.options] = one
    return found


def _first(said: WantedSku) -> Terms:
    if said.price_fen is UNSET:
        raise Refused("sku.price_needed", "A new SKU has no price.", "Give it one.")
    return Terms(
        said.price_fen,
        None if said.compare_at_fen is UNSET else said.compare_at_fen,
        _number(said.weight_g, 0),
        "" if said.code is UNSET else said.code,
    )


def _merged(said: WantedSku, sku: Sku) -> Terms:
    return Terms(
        _number(said.price_fen, sku.price_fen),
        sku.compare_at_fen if said.compare_at_fen is UNSET else said.compare_at_fen,
        _number(said.weight_g, sku.weight_g),
        sku.code if said.code is UNSET else said.code,
    )


def _as_it_is(sku: Sku) -> Terms:
    return Terms(sku.price_fen, sku.compare_at_fen, sku.weight_g, sku.code)


def _number(said: int | UnsetType, missing: int) -> int:
    return missing if said is UNSET else said
