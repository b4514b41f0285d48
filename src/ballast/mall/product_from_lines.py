"""A product as the lines of a file say it: made, or changed as far as the lines say something else.

A SKU is known by its options, a line without options by its SKU's code. What a line leaves empty stays as it is; a
combination of options that no line names and that came with new values is there and not offered.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from ballast.mall import categories, products, richtext, stock
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.product_record import Deed, Facts, Product, Sku, Terms
from ballast.mall.rules import specs
from ballast.mall.rules.product_lines import Line, Said, plain
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec, SpecValue

_REASON = "CSV"


async def apply(connection: Connection, lines: Sequence[Line], was: Product | None, deed: Deed) -> tuple[UUID, str]:
    """A product as its lines say it; its id, and what that was: made, changed or same."""
    first = lines[0]
    facts = await _facts(connection, first, was, deed)
    matrix = _matrix(lines, was)
    by_text = _by_text(lines, matrix, was)
    what = "same"
    if was is None:
        what, product_id = "made", new_id()
        texts = specs.texts(matrix)
        await products.make(
            connection,
            product_id,
            facts,
            matrix,
            [_terms(by_text.get(text, first), None) for text in texts],
            deed,
            pieces=[by_text[text].stock or 0 if text in by_text else 0 for text in texts],
        )
    else:
        product_id = was.product_id
        if facts != was.facts:
            await products.change(connection, product_id, None, facts, deed)
            what = "changed"
        if matrix != was.specs:
            await products.set_options(connection, product_id, None, matrix, _terms(first, None), deed)
            what = "changed"
    now = await products.get(connection, product_id)
    assert now is not None
    if await _skus(connection, was, now, by_text, deed) and what == "same":
        what = "changed"
    if first.status and now.status != first.status:
        await products.set_status(connection, [product_id], first.status, deed)
        what = what if was is None else "changed"
    return product_id, what


async def _skus(
    connection: Connection,
    was: Product | None,
    now: Product,
    by_text: dict[tuple[str, ...], Line],
    deed: Deed,
) -> bool:
    """Terms and stock of the SKUs; whether anything was to be done."""
    before = {one.sku_id: one for one in was.skus} if was else {}
    terms: dict[UUID, Terms] = {}
    offered = set()
    changed = False
    for sku in now.skus:
        line = by_text.get(sku.options)
        if line is None:
            # A combination that the file does not name and that came with its values is not offered.
            if sku.active and sku.sku_id not in before:
                terms[sku.sku_id] = _as_it_is(sku)
            continue
        wanted = _terms(line, sku)
        if wanted != _as_it_is(sku) or not sku.active:
            terms[sku.sku_id] = wanted
            offered.add(sku.sku_id)
        if line.stock is not None and line.stock != sku.on_hand:
            changed = True
            await stock.adjust(connection, sku.sku_id, line.stock, actor=deed.by.login, now=deed.now, reason=_REASON)
    if terms:
        await products.set_terms(connection, now.product_id, None, terms, frozenset(offered), deed)
    return changed or bool(terms)


async def _facts(connection: Connection, line: Line, was: Product | None, deed: Deed) -> Facts:
    facts = was.facts if was else Facts("", external_code=line.product_code)
    changes: dict[str, object] = {"title": line.name.zh}
    if line.name.en:
        changes["title_en"] = line.name.en
    if line.description is not None:
        changes["description"] = richtext.clean(line.description)
    if line.categories is not None:
        found = [await categories.of_path(connection, path, deed) for path in line.categories]
        # In the order in which they are stored, so that the same is equal.
        changes["categories"] = facts.categories if set(found) == set(facts.categories) else tuple(dict.fromkeys(found))
    return msgspec.structs.replace(facts, **changes)


def _matrix(lines: Sequence[Line], was: Product | None) -> tuple[Spec, ...]:
    """The product's options with the values that the lines bring."""
    wanted = next((line.options for line in lines if line.options), ())
    names = [option.zh for option, _ in wanted]
    if any(line.options and [option.zh for option, _ in line.options] != names for line in lines):
        raise Refused(
            "csv.mixed", "The lines of the product have different options.", "Give all of them the same, in one order."
        )
    if was and (names and [plain(one.name) for one in was.specs] != [plain(one) for one in names]):
        raise Refused(
            "csv.other_options",
            "The product has other options in the shop.",
            "Change them on its page, or give the product another code.",
        )
    if was:
        matrix = list(was.specs)
    else:
        matrix = []
        for option, _ in wanted:
            matrix.append(Spec(specs.option_id(option.zh, [one.id for one in matrix]), option.zh, option.en))
    for line in lines:
        for n, (_, value) in enumerate(line.options):
            matrix[n] = _with(matrix[n], value)
    return tuple(matrix)


def _with(spec: Spec, value: Said) -> Spec:
    for n, one in enumerate(spec.values):
        if plain(one.value) == plain(value.zh):
            if not value.en or value.en == plain(one.value_en):
                return spec
            values = (*spec.values[:n], msgspec.structs.replace(one, value_en=value.en), *spec.values[n + 1 :])
            return msgspec.structs.replace(spec, values=values)
    added = SpecValue(specs.value_id(spec.id, value.zh, [one.id for one in spec.values]), value.zh, value.en)
    return msgspec.structs.replace(spec, values=(*spec.values, added))


def _by_text(lines: Sequence[Line], matrix: Sequence[Spec], was: Product | None) -> dict[tuple[str, ...], Line]:
    """Lines by the texts of their SKU. A line without options names its SKU by its code, or is the only one."""
    codes = {one.code: one.options for one in was.skus if one.code and one.active} if was else {}
    found: dict[tuple[str, ...], Line] = {}
    for line in lines:
        if line.options:
            text = tuple(_value(spec, value.zh) for spec, (_, value) in zip(matrix, line.options, strict=True))
        else:
            text = codes.get(line.sku_code, ())
        if len(text) != len(matrix):
            raise Refused("csv.which", "A line does not say which SKU it is.", "Write its options or its SKU's code.")
        if line.options and codes.get(line.sku_code, text) != text:
            raise Refused(
                "csv.sku_code",
                f"The SKU {line.sku_code!r} has other options in the shop.",
                "Correct the code or the options.",
                code=line.sku_code,
            )
        if text in found:
            raise Refused("csv.twice", "Two lines are the same SKU of a product.", "Take one out.")
        found[text] = line
    return found


def _value(spec: Spec, name: str) -> str:
    return next(one.value for one in spec.values if plain(one.value) == plain(name))


def _terms(line: Line, sku: Sku | None) -> Terms:
    """What a line says of a SKU; what it leaves out stays."""
    weight_g = line.weight_g if line.weight_g is not None else sku.weight_g if sku else 0
    compare_at = line.list_price_fen
    if compare_at is None and sku and sku.compare_at_fen and sku.compare_at_fen > line.price_fen:
        compare_at = sku.compare_at_fen
    return Terms(line.price_fen, compare_at, weight_g, line.sku_code or (sku.code if sku else ""))


def _as_it_is(sku: Sku) -> Terms:
    return Terms(sku.price_fen, sku.compare_at_fen, sku.weight_g, sku.code)
