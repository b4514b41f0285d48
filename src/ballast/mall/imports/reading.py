"""A CSV file, however large, line by line: in the encoding that it has, with a reason for every line that cannot be read.

UTF-8 with or without mark, and GB 18030 as a Chinese Excel writes it. Which of the two is decided by the first lines that are
not plain ASCII; a line that is then not of that encoding is a bad line, and no reason to take the others for something else.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from ballast.errors import BallastError
from ballast.mall.imports.columns import COLUMNS, Kind

_LOOKED_AT = 200
"""So many lines that are not ASCII tell the encoding."""
_MOST_LINES = 2_000
"""A record that goes on for more lines has a quotation mark that is never closed."""
_UNCLOSED = "unclosed"


class UnreadableFile(BallastError):
    """The file as a whole cannot be what it should be."""


class Line(msgspec.Struct, frozen=True):
    """A record of the file. `number`: of its first line, the header is 1. `wrong`: why it cannot be read, else ""."""

    number: int
    cells: dict[str, str]
    wrong: str = ""
    at_bytes: int = 0
    """How far into the file it reaches."""


def encoding_of(path: Path) -> str:
    """`utf-8-sig` or `gb18030`.

    Raises:
        UnreadableFile: it is UTF-16.
    """
    with path.open("rb") as file:
        start = file.read(2)
        if start in (b"\xff\xfe", b"\xfe\xff"):
            raise UnreadableFile(f"{path} is UTF-16.", 'Save it as "CSV UTF-8".')
        file.seek(0)
        looked_at = list(islice((line for line in file if not line.isascii()), _LOOKED_AT))
    readable = sum(1 for line in looked_at if _is_utf8(line))
    return "utf-8-sig" if 2 * readable >= len(looked_at) else "gb18030"


def lines(path: Path, kind: Kind) -> Iterator[Line]:
    """The records of a file after its first line.

    Raises:
        UnreadableFile: it is empty, or its first line is not that of such a file.
    """
    encoding = encoding_of(path)
    with path.open("rb") as file:
        source = _Source(file, encoding)
        reader = csv.reader(source, strict=True)
        names = _names(path, kind, next(reader, None))
        while True:
            first = source.begin()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield Line(first, {}, _not_csv(error, first, source.number), source.bytes)
                continue
            if cells is None:
                return
            if any(cells):
                yield _line(names, cells, first, source)


class _Source:
    """The lines of a file as text, and where it is. An iterator, not a generator: it goes on after it has raised."""

    def __init__(self, file: Iterator[bytes], encoding: str) -> None:
        self._file = file
        self._encoding = encoding.removesuffix("-sig")
        self._first = 1
        self.number = 0
        self.bytes = 0
        self.broken: int | None = None
        """A line of the record that is not of the encoding."""

    def __iter__(self) -> _Source:
        return self

    def __next__(self) -> str:
        raw = next(self._file)
        if self.number == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        self.number += 1
        self.bytes += len(raw)
        if self.number - self._first >= _MOST_LINES:
            raise csv.Error(_UNCLOSED)
        try:
            return raw.decode(self._encoding)
        except UnicodeDecodeError:
            self.broken = self.number
            return raw.decode(self._encoding, "replace")

    def begin(self) -> int:
        """A new record begins; the number of its first line."""
        self._first = self.number + 1
        self.broken = None
        return self._first


def _line(names: Sequence[str], cells: Sequence[str], first: int, source: _Source) -> Line:
    found = {name: cell.strip() for name, cell in zip(names, cells, strict=False) if name}
    wrong = ""
    if source.broken is not None:
        wrong = f"Line {source.broken} is not in the encoding of the file. Write it anew."
    elif len(cells) != len(names):
        found = {}
        wrong = f"It has {len(cells)} cells, the first line of the file {len(names)}. Put cells with commas into quotation marks."
    elif any("\x00" in cell for cell in cells):
        wrong = "It has a character NUL. Remove it."
    return Line(first, found, wrong, source.bytes)


def _names(path: Path, kind: Kind, header: Sequence[str] | None) -> list[str]:
    """The names of the columns; "" for one that is left out (its name begins with #)."""
    if header is None:
        raise UnreadableFile(f"{path} is empty.", f"Begin with `ballast mall import --template {kind}`.")
    known = {one.name: one.name for one in COLUMNS[kind]} | {one.zh: one.name for one in COLUMNS[kind]}
    typed = [one.strip() for one in header]
    unknown = [one for one in typed if not one.startswith("#") and one.lower() not in known]
    if unknown:
        raise UnreadableFile(
            f"{path} has columns that are not known: {', '.join(map(repr, unknown))}.",
            f"Rename them, or begin their names with # to leave them out. Known are: {', '.join(c.name for c in COLUMNS[kind])}.",
        )
    names = ["" if one.startswith("#") else known[one.lower()] for one in typed]
    if twice := {one for one in names if one and names.count(one) > 1}:
        raise UnreadableFile(f"{path} has the column {min(twice)} twice.", "Remove one of them.")
    if missing := [one.name for one in COLUMNS[kind] if one.needed and one.name not in names]:
        raise UnreadableFile(
            f"{path} has no column {', '.join(missing)}.", f"See `ballast mall import --template {kind}`."
        )
    return names


def _not_csv(error: csv.Error, first: int, last: int) -> str:
    if any(part in str(error) for part in (_UNCLOSED, "field larger", "unexpected end")):
        return f"A quotation mark that is opened here is not closed; lines {first} to {last} were not read. Close it."
    return f"It is no line of a CSV file: {error}. Double the quotation marks inside of a cell."


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
