"""The lines of a product file: a line a SKU, a product's code in each; what `ballast` writes, it reads again.

    product_code,name_zh,name_en,category,status,sku_code,options,price_yuan,list_price_yuan,stock,weight_g,description
    T-100,纯棉T恤,Cotton tee,女装>上衣,on_sale,T-100-R-S,颜色|Colour=红|Red;尺码|Size=S,59.00,79.00,30,200,<p>…</p>

Spreadsheets run what begins with one of ``= + - @``; such a text is written with an apostrophe before it, which is taken away
when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused

COLUMNS = (
    "product_code", "name_zh", "name_en", "category", "status", "sku_code", "options", "price_yuan", "list_price_yuan", "stock",
    "weight_g", "description",
)  # fmt: skip
_NEEDED = ("product_code", "name_zh", "price_yuan")
_STATUSES = ("draft", "on_sale", "off_sale", "archived")
# The full-width ones too: a spreadsheet with a Chinese keyboard takes them for the others.
_RUNS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")


class Said(msgspec.Struct, frozen=True):
    """A text in both languages; the English one may be empty."""

    zh: str
    en: str = ""


class Line(msgspec.Struct, frozen=True):
    """One SKU of a product, as a line says it. None: the line leaves it as it is."""

    product_code: str
    name: Said
    categories: tuple[tuple[str, ...], ...] | None
    status: str | None
    sku_code: str
    options: tuple[tuple[Said, Said], ...]
    """Option and value."""
    price_fen: int
    list_price_fen: int | None
    stock: int | None
    weight_g: int | None
    description: str | None


def check_header(header: Sequence[str]) -> None:
    """Refused: a column is missing that must be there, one is not known, or is there twice."""
    names = [one.strip().lower() for one in header]
    for name in _NEEDED:
        if name not in names:
            raise Refused(
                "csv.no_column", f"The file has no column {name}.", "Begin with the template's first line.", name=name
            )
    for name in names:
        if name not in COLUMNS or names.count(name) > 1:
            raise Refused(
                "csv.column",
                f"The file has a column {name!r} that is not known, or is there twice.",
                f"Known are: {', '.join(COLUMNS)}.",
                name=name[:60],
            )


def read(cells: Mapping[str, str]) -> Line:
    """A line. Refused: it cannot be read."""
    text = {name: unguarded(cells.get(name, "").replace("\x00", "").strip()) for name in COLUMNS}
    for name in _NEEDED:
        if not text[name]:
            raise Refused("csv.empty", f"The column {name} is empty.", "Fill it.", name=name)
    if text["status"] and text["status"] not in _STATUSES:
        raise Refused(
            "csv.status", f"{text['status']!r} is no status.", f"Write one of: {', '.join(_STATUSES)}.",
            status=text["status"][:60],
        )  # fmt: skip
    return Line(
        product_code=text["product_code"],
        name=Said(text["name_zh"], text["name_en"]),
        categories=_paths(text["category"]) if text["category"] else None,
        status=text["status"] or None,
        sku_code=text["sku_code"],
        options=_options(text["options"]),
        price_fen=parse_yuan(text["price_yuan"]),
        list_price_fen=parse_yuan(text["list_price_yuan"]) if text["list_price_yuan"] else None,
        stock=_number("stock", text["stock"]),
        weight_g=_number("weight_g", text["weight_g"]),
        description=text["description"] or None,
    )


def written_options(options: Sequence[tuple[Said, Said]]) -> str:
    """Options of a SKU as `read` reads them."""
    return ";".join(f"{_said(option)}={_said(value)}" for option, value in options)


def guarded(text: str) -> str:
    """A text that no spreadsheet runs."""
    return f"'{text}" if text.startswith(_RUNS) or (text.lstrip("'").startswith(_RUNS) and text[:1] == "'") else text


def unguarded(text: str) -> str:
    """What `guarded` was given."""
    return text[1:] if text[:1] == "'" and text.lstrip("'").startswith(_RUNS) else text


def plain_step(name: str) -> str:
    """A category's name as a path can have it."""
    return plain(name).replace(">", "＞")


def _paths(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(part.strip() for part in path.split(">") if part.strip()) for path in text.split(";") if path.strip(" >")
    )


def _options(text: str) -> tuple[tuple[Said, Said], ...]:
    found = []
    for pair in text.split(";"):
        if not pair.strip():
            continue
        option, sign, value = pair.partition("=")
        if not sign or not option.strip() or not value.strip():
            raise Refused(
                "csv.options", f"The options {text!r} cannot be read.",
                "Write them like 颜色|Colour=红|Red;尺码|Size=S.", options=text[:60],
            )  # fmt: skip
        found.append((_read_said(option), _read_said(value)))
    return tuple(found)


def _number(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise Refused(
            "csv.number", f"{text!r} in {name} is no whole number.", "Write one like 30.", name=name, text=text[:60]
        )
    return int(text)


def _said(text: Said) -> str:
    return f"{plain(text.zh)}|{plain(text.en)}" if text.en else plain(text.zh)


def plain(text: str) -> str:
    """A name as a line can have it: what parts the pairs becomes the full-width sign, which looks the same to people."""
    return text.translate({ord(";"): "；", ord("="): "＝", ord("|"): "｜"})


def _read_said(text: str) -> Said:
    zh, _, en = text.partition("|")
    return Said(zh.strip(), en.strip())
