"""Which tenants the owner wants back first: from a file, or by a query over the shared tables that are back already."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ballast.errors import ConfigError
from ballast.recovery.copying import ServerRefused, in_servers_words


class Priority(msgspec.Struct, frozen=True):
    """One of the two, or neither."""

    file: Path | None = None
    """Lines `tenant rank`, also with a comma or a tab between; without ranks: the order of the lines."""
    query: str | None = None
    """SQL that gives tenant and rank."""


def read_file(path: Path) -> dict[str, float]:
    """Tenant to rank; 1 comes before 2. ConfigError with the line that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of priorities {path} cannot be read: {error}", "Check --priority.") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> dict[str, float]:
    """The same of a text; `name` is for messages."""
    ranks: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = _fields(line)
        if (
            not fields
            or fields[0].startswith("#")
            or (number == 1 and [f.lower() for f in fields] == ["tenant", "rank"])
        ):
            continue
        if len(fields) > 2:
            raise ConfigError(
                f"{name}, line {number}: {len(fields)} fields, where tenant and rank are expected: {line.strip()!r}",
                'Write one tenant and its rank a line, with a comma between; put a name with commas into "…".',
            )
        ranks.setdefault(fields[0], _number(fields[1], name, number) if len(fields) == 2 else float(number))
    return ranks


def ask(conn: psycopg.Connection[Any], query: str) -> dict[str, float]:
    """What the query gives; nothing that it changes is kept. ConfigError where it is no such query."""
    try:
        with in_servers_words(), conn.transaction(force_rollback=True):
            conn.execute("SET TRANSACTION READ ONLY")
            conn.execute('SET LOCAL search_path = "$user", public')
            rows = conn.execute(query.encode()).fetchall()
    except ServerRefused as refused:
        raise ConfigError(
            f"the query for priorities failed: {refused.what}",
            "It may ask the shared tables, which are back when it runs. Mend it and run the same command again: it goes on.",
        ) from refused
    except psycopg.ProgrammingError as error:
        raise ConfigError(f"the query for priorities gives no rows: {error}", "Write SELECT tenant, rank …") from error
    return _of_rows(rows)


def _of_rows(rows: Iterable[tuple[Any, ...]]) -> dict[str, float]:
    ranks: dict[str, float] = {}
    for place, row in enumerate(rows, 1):
        if len(row) > 2:
            raise ConfigError(f"the query for priorities gives {len(row)} columns", "Write SELECT tenant, rank …")
        if row[0] is not None:
            value = row[1] if len(row) == 2 else place
            ranks.setdefault(str(row[0]), float("inf") if value is None else _number(str(value), "the query", place))
    return ranks


def _fields(line: str) -> list[str]:
    if "," in line:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    return line.split()


def _number(text: str, name: str, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"{name}, line {line}: the rank {text!r} is no number",
            "1 comes back before 2; the order of lines counts without.",
        ) from None
