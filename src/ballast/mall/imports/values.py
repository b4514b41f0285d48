"""What a cell says: a moment, money, a number, a code. Refused, in words, where it cannot be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

from ballast.mall.rules.money import parse_yuan
from ballast.mall.rules.refused import Refused

CHINA = ZoneInfo("Asia/Shanghai")
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_AS_EXCEL = re.compile(r"(\d{4})[/-](\d{1,2})[/-](\d{1,2})(?:[ T](\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_SHORTENED = re.compile(r"\d(?:\.\d+)?[Ee]\+\d+")
_RUNS = ("=", "+", "-", "@")


def refused(column: str, what: str, do: str) -> Refused:
    """Of a cell."""
    return Refused("import.cell", f"{column}: {what}", do, column=column)


def text(cells: Mapping[str, str], column: str, most: int, *, needed: bool = False) -> str:
    """A text of at most so many characters. An apostrophe that keeps a spreadsheet from running it is taken away."""
    found = cells.get(column, "")
    if found[:1] == "'" and found[1:2] in _RUNS:
        found = found[1:]
    if needed and not found:
        raise refused(column, "it is empty.", "Fill it.")
    if len(found) > most:
        raise refused(column, f"it has {len(found)} characters.", f"At most {most} are possible.")
    return found


def code(cells: Mapping[str, str], column: str, *, needed: bool = False) -> str:
    """A number or code of somebody else's, as it is."""
    found = text(cells, column, 64, needed=needed)
    if _SHORTENED.fullmatch(found):
        raise refused(
            column,
            f"{found} is what a spreadsheet makes of a long number.",
            "Format the column as text and save it again.",
        )
    return found


def yuan(cells: Mapping[str, str], column: str, *, needed: bool = False) -> int | None:
    """An amount in fen; None: the cell is empty."""
    found = cells.get(column, "")
    if not found:
        if needed:
            raise refused(column, "it is empty.", "Fill it.")
        return None
    try:
        return parse_yuan(found)
    except Refused as error:
        raise refused(column, error.what, error.do) from None


def whole(cells: Mapping[str, str], column: str, least: int, most: int) -> int | None:
    """A whole number in these bounds; None: the cell is empty."""
    found = cells.get(column, "")
    if not found:
        return None
    if not (found.isascii() and found.isdecimal() and len(found) < 12 and least <= int(found) <= most):
        raise refused(column, f"{found[:40]!r} is no whole number from {least} to {most}.", "Correct it.")
    return int(found)


def moment(cells: Mapping[str, str], column: str, now: datetime | None, *, needed: bool = False) -> datetime | None:
    """A moment, of Asia/Shanghai where it names no zone; not after `now`. None: the cell is empty."""
    found = cells.get(column, "")
    if not found:
        if needed:
            raise refused(column, "it is empty.", "Fill it.")
        return None
    at = _read(found)
    if at is None:
        raise refused(
            column, f"{found[:40]!r} is no time.", "Write it like 2026-03-01 18:55:00 or 2026-03-01T10:55:00Z."
        )
    if at < _EARLIEST or (now is not None and at > now):
        raise refused(column, f"{found} is {'to come' if at > _EARLIEST else 'too long ago'}.", "Correct it.")
    return at


@lru_cache(maxsize=4096)
def _read(written: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        found = _AS_EXCEL.fullmatch(written)
        if not found:
            return None
        year, month, day, hour, minute, second = (int(one or 0) for one in found.groups())
        try:
            at = datetime(year, month, day, hour, minute, second)
        except ValueError:
            return None
    try:
        return (at if at.tzinfo else at.replace(tzinfo=CHINA)).astimezone(UTC)
    except (OverflowError, ValueError):
        return None


def choice(cells: Mapping[str, str], column: str, known: Mapping[str, str], default: str = "") -> str:
    """One of these words, in either language. `known`: word → what it means."""
    found = cells.get(column, "").lower()
    if not found and default:
        return default
    if found not in known:
        raise refused(column, f"{found[:40]!r} is none of what is possible.", f"Write one of: {', '.join(known)}.")
    return known[found]
