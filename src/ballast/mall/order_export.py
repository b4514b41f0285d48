"""Orders as an XLSX, a row for each line of an order; what belongs to the whole order stands on its first line, so that columns
add up. Read by a cursor on the server and written row by row, so that memory is the same for any number of them.

What somebody typed is written as text and never as a formula; what would look like one is marked as text for whatever opens
the file next. An order's number is text as well: it has more digits than a number of a spreadsheet holds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import xlsxwriter

from ballast.mall import fulfilment, queries
from ballast.mall.db import Busy, Connection
from ballast.mall.fulfilment import Filter
from ballast.mall.quoting import Address
from ballast.mall.rules import masking
from ballast.mall.rules.carriers import carrier_name

_CHINA = ZoneInfo("Asia/Shanghai")
_BATCH = 500
_ROWS_A_SHEET = 1_000_000
_LONGEST = 32_767
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_LIKE_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_one_at_a_time = asyncio.Semaphore(1)

Kind = Literal["text", "fen", "number", "time"]
COLUMNS: tuple[tuple[str, Kind, int], ...] = (
    ("number", "text", 20),
    ("placed_at", "time", 17),
    ("status", "text", 12),
    ("refund_status", "text", 12),
    ("delivery", "text", 10),
    ("source", "text", 8),
    ("buyer_name", "text", 12),
    ("buyer_phone", "text", 14),
    ("province", "text", 12),
    ("city", "text", 12),
    ("district", "text", 12),
    ("street", "text", 30),
    ("title", "text", 36),
    ("options", "text", 18),
    ("sku_code", "text", 14),
    ("price_fen", "fen", 10),
    ("quantity", "number", 8),
    ("line_discount_fen", "fen", 10),
    ("line_total_fen", "fen", 10),
    ("shipped_quantity", "number", 8),
    ("refunded_quantity", "number", 8),
    ("line_refunded_fen", "fen", 10),
    ("items_fen", "fen", 10),
    ("discount_fen", "fen", 10),
    ("shipping_fen", "fen", 10),
    ("total_fen", "fen", 10),
    ("paid_fen", "fen", 10),
    ("refunded_fen", "fen", 10),
    ("paid_at", "time", 17),
    ("shipped_at", "time", 17),
    ("received_at", "time", 17),
    ("parcels", "text", 28),
    ("note", "text", 30),
    ("merchant_note", "text", 30),
)
"""Name (of its heading's text, too), what it holds, and its width in characters."""
_ONCE = frozenset(name for name, kind, _ in COLUMNS if kind == "fen" and not name.startswith(("price", "line_")))
"""Amounts of the whole order."""


class Wanted(msgspec.Struct, frozen=True):
    """What a file holds. `say`: the text of a heading ("column.number") or a value ("status.paid", "delivery.ship")."""

    orders: Filter
    language: Literal["zh", "en"]
    masked: bool
    """Names, phone numbers and streets are not legible."""
    say: Callable[[str], str]


async def write(connection: Connection, wanted: Wanted, file: IO[bytes]) -> int:
    """Write the orders into `file`. Returns how many rows there are, the headings aside.

    Raises:
        Busy: another one is being written by this process.
    """
    if _one_at_a_time.locked():
        raise Busy("another export is being written", "Try again when it is done.")
    async with _one_at_a_time:
        book = _Book(wanted, file)
        async with connection.cursor(name="export") as cursor:
            asked = await fulfilment.searched(connection, wanted.orders)
            await cursor.execute(queries.load("fulfilment").export, asked.parameters())
            while rows := await cursor.fetchmany(_BATCH):
                await asyncio.to_thread(book.add, rows)
        await asyncio.to_thread(book.close)
    return book.rows


class _Book:
    def __init__(self, wanted: Wanted, file: IO[bytes]) -> None:
        self.rows = 0
        self._wanted = wanted
        self._last: object = None
        options = {
            "constant_memory": True,
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        self._book = xlsxwriter.Workbook(file, options)
        self._formats = {
            "fen": self._book.add_format({"num_format": "#,##0.00"}),
            "time": self._book.add_format({"num_format": "yyyy-mm-dd hh:mm"}),
            "head": self._book.add_format({"bold": True}),
            "quoted": self._book.add_format({"quote_prefix": True}),
        }
        self._sheet = self._new_sheet()
        self._row = 1

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for row in rows:
            if self._row > _ROWS_A_SHEET:
                self._sheet, self._row = self._new_sheet(), 1
            first = row["order_id"] != self._last
            self._last = row["order_id"]
            values = self._values(row)
            for column, (name, kind, _) in enumerate(COLUMNS):
                value = values[name]
                if value is None or value == "" or (name in _ONCE and not first):
                    continue
                self._cell(self._row, column, kind, value)
            self._row += 1
            self.rows += 1

    def close(self) -> None:
        self._book.close()

    def _new_sheet(self) -> Any:
        sheet = self._book.add_worksheet()
        for column, (name, _, width) in enumerate(COLUMNS):
            sheet.set_column(column, column, width)
            sheet.write_string(0, column, self._wanted.say(f"column.{name}"), self._formats["head"])
        sheet.freeze_panes(1, 1)
        return sheet

    def _cell(self, row: int, column: int, kind: Kind, value: Any) -> None:
        match kind:
            case "text":
                text = _NO_XML.sub("", str(value))[:_LONGEST]
                quoted = self._formats["quoted"] if text.startswith(_LIKE_A_FORMULA) else None
                self._sheet.write_string(row, column, text, quoted)
            case "fen":
                self._sheet.write_number(row, column, value / 100, self._formats["fen"])
            case "number":
                self._sheet.write_number(row, column, value)
            case "time":
                self._sheet.write_datetime(row, column, _clock(value), self._formats["time"])

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        say, language, masked = self._wanted.say, self._wanted.language, self._wanted.masked
        place = msgspec.json.decode(row["address"], type=Address) if row["address"] else Address()
        parcels = msgspec.json.decode(row["parcels"], type=list[tuple[str, str]]) if row["parcels"] else []
        return {
            **row,
            "status": say(f"status.{row['status']}"),
            "refund_status": say(f"refund_status.{row['refund_status']}"),
            "delivery": say(f"delivery.{row['delivery']}"),
            "source": say(f"source.{row['source']}"),
            "buyer_name": masking.name(row["buyer_name"]) if masked else row["buyer_name"],
            "buyer_phone": masking.phone(row["buyer_phone"]) if masked else row["buyer_phone"],
            "province": place.province,
            "city": place.city,
            "district": place.district,
            "street": masking.street(place.street) if masked else place.street,
            "title": row["title_en"] if language == "en" and row["title_en"] else row["title"],
            "parcels": "; ".join(f"{carrier_name(code, language)} {number}".strip() for code, number in parcels),
            "note": masking.text(row["note"]) if masked else row["note"],
        }


def _clock(moment: datetime) -> datetime:
    """What a clock in China showed: a spreadsheet knows no time zones."""
    return moment.astimezone(_CHINA).replace(tzinfo=None)
