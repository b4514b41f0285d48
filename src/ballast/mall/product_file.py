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

from ballast.mall import categories, product_list, products, queries
from ballast.mall.db import Connection, Database
from ballast.mall.product_from_lines import apply
from ballast.mall.product_record import Deed, Product
from ballast.mall.rules import product_lines, specs
from ballast.mall.rules.money import plain_yuan
from ballast.mall.rules.product_lines import COLUMNS, Line, Said, guarded
from ballast.mall.rules.refused import Refused

MOST_LINES = 20_000
"""A minute or so of work; what is larger is for ``ballast mall import``."""
_MOST_TOLD = 500
_AT_A_TIME = 50
"""Products in one transaction."""


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
                now_there, what = await apply(connection, lines, was, deed)
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
