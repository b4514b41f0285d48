"""Products from a file and into one (`rules.product_lines`), however many: read and written piece by piece.

A product is known by its code, a SKU by its own code or its options: the same file again changes nothing. A line that is
wrong is told and left out, the others go on. The file is worked through in transactions of a few products, so that nobody
waits long; what was done before a failure is done, and the file can be sent again.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO
from uuid import UUID

import msgspec

from ballast.mall import categories, product_list, products, queries, richtext, stock
from ballast.mall.db import Connection, Database
from ballast.mall.ids import new_id
from ballast.mall.product_record import Deed, Facts, Product, Sku, Terms
from ballast.mall.rules import product_lines, specs
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.product_lines import COLUMNS, Line, Said, guarded, plain
from ballast.mall.rules.refused import Refused
from ballast.mall.rules.specs import Spec, SpecValue

MOST_LINES = 20_000
"""A minute or so of work; what is larger is for ``ballast mall import``."""
_MOST_TOLD = 500
_AT_A_TIME = 50
"""Products in one transaction."""
_REASON = "CSV"


@dataclass(frozen=True)
class Bad:
    """A line that was left out, and why. The first of a file has number 1."""

    line: int
    refused: Refused


@dataclass
class Outcome:
    """What became of a file. Products are counted, but for `lines` and `bad_lines`."""

    lines: int = 0
    made: int = 0
    changed: int = 0
    same: int = 0
    bad_lines: int = 0
    bad: list[Bad] = field(default_factory=list)
    """The first of them."""

    def refuse(self, line: int, refused: Refused) -> None:
        """A line is left out."""
        self.bad_lines += 1
        if len(self.bad) < _MOST_TOLD:
            self.bad.append(Bad(line, refused))


class _OnlyLooking(Exception):
    """Leaves a transaction in which nothing is to be kept."""


async def take(db: Database, deed: Deed, file: IO[bytes], *, only_look: bool = False) -> Outcome:
    """Products of a file into the shop.

    Args:
        file: CSV as UTF-8, or as a Chinese Excel writes it (GB 18030).
        only_look: everything is done, and taken back.

    Raises:
        Refused: it is no such file (`csv.unreadable`, `csv.no_column`, `csv.column`).
    """
    outcome = Outcome()
    groups = _products_of(_rows(file, outcome), outcome)
    while batch := list(itertools.islice(groups, _AT_A_TIME)):
        try:
            async with db.shop(deed.shop_id) as connection:
                await _take(connection, batch, deed, outcome)
                if only_look:
                    raise _OnlyLooking
        except _OnlyLooking:
            continue
    if not only_look:
        async with db.shop(deed.shop_id) as connection:
            await products.note(
                connection,
                deed,
                "products.imported",
                "",
                made=outcome.made,
                changed=outcome.changed,
                bad=outcome.bad_lines,
            )
    return outcome


async def written(db: Database, shop_id: UUID, wanted: product_list.Wanted) -> AsyncIterator[bytes]:
    """The products that a list shows, as a file: UTF-8 with the mark by which Excel knows it. No connection is held while
    a reader takes its time."""
    yield "\ufeff".encode() + _csv([COLUMNS])
    after = ""
    while True:
        async with db.shop(shop_id) as connection:
            page = await product_list.listed(connection, wanted, after, 200)
            found = await products.of_ids(connection, [row.product_id for row in page.rows])
            names = _paths(await categories.all_of(connection))
        lines = [line for row in page.rows if row.product_id in found for line in _lines(found[row.product_id], names)]
        yield _csv(lines)
        if page.after is None:
            return
        after = page.after


def template() -> bytes:
    """An empty file with two lines that show how."""
    options = "颜色|Colour=红|Red;尺码|Size="
    first = ("T-100", "纯棉T恤", "Cotton tee", "女装>上衣", "draft")
    shown = [_cells(*first, f"T-100-R-{size}", options + size, 5900, 7900, 30) for size in ("S", "M")]
    return "\ufeff".encode() + _csv([COLUMNS, *shown])


def _rows(file: IO[bytes], outcome: Outcome) -> Iterator[tuple[int, Line]]:
    text = io.TextIOWrapper(file, encoding=_encoding(file), newline="")
    reader = csv.reader(text, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise Refused("csv.unreadable", "The file is empty.", "Begin with the template.")
        product_lines.check_header(header)
        names = [one.strip().lower() for one in header]
        while True:
            number = reader.line_num + 1
            cells = next(reader, None)
            if cells is None:
                return
            if not any(cell.strip() for cell in cells):
                continue
            outcome.lines += 1
            if outcome.lines > MOST_LINES:
                outcome.refuse(
                    number,
                    Refused("csv.long", f"The file has more than {MOST_LINES} lines.", "Split it.", most=MOST_LINES),
                )
                return
            if len(cells) > len(names):
                outcome.refuse(
                    number, Refused("csv.cells", "The line has more cells than the first one.", "Quote its commas.")
                )
                continue
            try:
                yield number, product_lines.read(dict(zip(names, cells, strict=False)))
            except Refused as refused:
                outcome.refuse(number, refused)
    except (csv.Error, UnicodeError) as error:
        raise Refused("csv.unreadable", f"The file is no CSV: {error}.", "Save it as CSV, UTF-8.") from error
    finally:
        text.detach()


def _encoding(file: IO[bytes]) -> str:
    decoder = io.TextIOWrapper(file, encoding="utf-8", errors="strict")
    try:
        while decoder.read(1 << 16):
            pass
        return "utf-8-sig"
    except UnicodeDecodeError:
        return "gb18030"
    finally:
        decoder.detach()
        file.seek(0)


def _products_of(rows: Iterator[tuple[int, Line]], outcome: Outcome) -> Iterator[list[tuple[int, Line]]]:
    """The lines of a product that stand together; a product has no more SKUs than a matrix can have."""
    for _, group in itertools.groupby(rows, key=lambda row: row[1].product_code):
        yield list(itertools.islice(group, 601))


async def _take(connection: Connection, batch: Sequence[list[tuple[int, Line]]], deed: Deed, outcome: Outcome) -> None:
    # Before any row is held, as everywhere: else two transactions could wait for each other.
    await products.one_at_a_time(connection)
    await categories.one_at_a_time(connection)
    known = await _of_codes(connection, [group[0][1].product_code for group in batch])
    for group in batch:
        lines = [line for _, line in group]
        try:
            async with connection.transaction():
                # Read anew: a line above may have changed it.
                product_id = known.get(lines[0].product_code)
                was = await products.get(connection, product_id) if product_id else None
                now_there, what = await _apply(connection, lines, was, deed)
        except Refused as refused:
            for number, _ in group:
                outcome.refuse(number, refused)
            continue
        known[lines[0].product_code] = now_there
        setattr(outcome, what, getattr(outcome, what) + 1)


async def _of_codes(connection: Connection, codes: Sequence[str]) -> dict[str, UUID]:
    """Products by their codes, or by their ids, which stand in a file for those that have no code."""
    cursor = await connection.execute(queries.load("products").of_codes, {"codes": list(codes)})
    found = {row["external_code"]: row["product_id"] for row in await cursor.fetchall()}
    by_id = {code: read for code in codes if code not in found and (read := _uuid(code))}
    there = await products.of_ids(connection, list(by_id.values())) if by_id else {}
    return found | {code: one for code, one in by_id.items() if one in there}


async def _apply(connection: Connection, lines: Sequence[Line], was: Product | None, deed: Deed) -> tuple[UUID, str]:
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


def _lines(product: Product, names: dict[UUID, str]) -> Iterator[tuple[str, ...]]:
    facts = product.facts
    english = {value.value: value.value_en for spec in product.specs for value in spec.values}
    for sku in product.offered or [one for one in product.skus if specs.fits(product.specs, one.options)]:
        pairs = zip(product.specs, sku.options, strict=False)
        yield _cells(
            facts.external_code or str(product.product_id),
            facts.title,
            facts.title_en,
            ";".join(names[one] for one in facts.categories if one in names),
            product.status,
            sku.code,
            product_lines.written_options(
                [(Said(spec.name, spec.name_en), Said(text, english.get(text, ""))) for spec, text in pairs]
            ),
            sku.price_fen,
            sku.compare_at_fen,
            sku.on_hand,
            sku.weight_g,
            facts.description,
        )


def _cells(
    code: str,
    name: str,
    name_en: str,
    category: str,
    status: str,
    sku_code: str,
    options: str,
    price_fen: int,
    list_price_fen: int | None,
    pieces: int,
    weight_g: int = 0,
    description: str = "",
) -> tuple[str, ...]:
    prices = (plain_yuan(price_fen), "" if list_price_fen is None else plain_yuan(list_price_fen))
    texts = (code, name, name_en, category, status, sku_code, options)
    return (*(guarded(one) for one in texts), *prices, str(pieces), str(weight_g), guarded(description))


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


def _paths(found: Sequence[categories.Category]) -> dict[UUID, str]:
    by_id = {one.category_id: one for one in found}
    return {
        one.category_id: ">".join(
            product_lines.plain_step(part.name)
            for part in (by_id.get(one.parent_id) if one.parent_id else None, one)
            if part
        )
        for one in found
    }


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
