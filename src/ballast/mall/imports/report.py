"""What became of the lines: counted, the bad ones written down with number and reason."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import TextIO

import msgspec

from ballast.mall.imports.columns import Kind


class Count(msgspec.Struct):
    """Of one file. Shops, products or orders; `bad` counts lines."""

    brought: int = 0
    there: int = 0
    """brought by an earlier run, or made by somebody since"""
    bad: int = 0
    lines: int = 0


class Bad:
    """The file of bad lines. It is there only if there is one; what an earlier run left is replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        path.unlink(missing_ok=True)

    def __enter__(self) -> Bad:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, kind: Kind, numbers: Iterable[int], subject: str, reason: str) -> None:
        """These lines of that file are bad, for one reason."""
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8-sig", newline="")
            csv.writer(self._file).writerow(("file", "line", "about", "reason"))
        csv.writer(self._file).writerows((kind, number, subject, reason) for number in numbers)
        self._file.flush()
