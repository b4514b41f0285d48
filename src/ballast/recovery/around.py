"""What stands around the rows, held side by side: policies, triggers, constraints, indexes, columns, views, functions, rights.

A restored platform that has every row and lacks a policy lets one shop read another's. Each side says what it has as lines
(around.sql), and equal is what has the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files
from typing import Any, Literal

import msgspec
import psycopg

from ballast.postgres import connect
from ballast.vault.standing import structure

Kind = Literal[
    "row-level security",
    "policy",
    "trigger",
    "rule",
    "event trigger",
    "constraint",
    "index",
    "column",
    "view",
    "function",
    "owner",
    "rights",
    "role",
    "membership",
    "setting",
]

_LINES = files("ballast.recovery").joinpath("around.sql").read_text(encoding="utf-8")
_LONG = 200
"""Characters of a definition that a person still reads in a line."""
_FOREIGN_KEY, _NOT_NULL = "FOREIGN KEY", "NOT NULL"
_PRINTED = frozenset(("rule", "view", "function"))
"""Kinds with whole queries, which versions print otherwise."""
# `x IN ('a', 'b')` of a varchar is printed as a cast of the array; read back, it is one of each element.
_ELEMENT = r"'(?:[^']|'')*'::[a-z ]+(?:\(\d+\))?"
_CAST_ARRAY = re.compile(rf"\(ARRAY\[({_ELEMENT}(?:, {_ELEMENT})*)\]\)::([a-z ]+)\[\]")


class Line(msgspec.Struct, frozen=True):
    """One thing that stands there."""

    kind: Kind
    what: str
    """For people, and what is the same thing on the other side."""
    table: str
    """`schema.name` of the table or view that it is of; "" for none."""
    definition: str | None
    """None: nothing is said of it, and any other is as good."""
    state: str = ""
    """Valid, enabled, and their like; of settings their values, which are shown to nobody."""


class Unlike(msgspec.Struct, frozen=True):
    """What is not the same on both sides."""

    kind: Kind
    what: str
    """For people, in a sentence."""
    table: str
    is_fault: bool = True
    """False: to be said, and no difference between what was recorded and restored."""


def lines(conn: psycopg.Connection[Any]) -> list[Line]:
    """What one side has. On production: the sooner after the snapshot the better (`is_steady`)."""
    return [Line(*row) for row in conn.execute(_LINES.encode())]


def is_steady(conn: psycopg.Connection[Any], dsn: str) -> bool:
    """Whether the structure is still what the snapshot of `conn` shows. PostgreSQL prints definitions as they are now,
    whatever snapshot asks for them: what was printed before this says True is of the snapshot."""
    with connect(dsn) as now:
        return structure(now) == structure(conn)


def unlike(
    production: Collection[Line], restored: Collection[Line], *, sampled: bool, same_major: bool
) -> list[Unlike]:
    """Each thing that is not the same. `sampled`: not all tenants were restored. `same_major`: both print definitions alike.

    Where a table itself is missing that is found elsewhere, and nothing is said of what stood around it."""
    theirs, ours = ({(line.kind, line.what): line for line in side} for side in (production, restored))
    on_both = {line.table for line in production} & {line.table for line in restored} | {""}
    found = []
    for at in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(at), ours.get(at)
        either = there or here
        assert either is not None
        if either.definition is None or (here or either).definition is None:
            continue
        if there is None or here is None:
            # From 18 on NOT NULL is a constraint of its own.
            is_of_the_version = not same_major and either.definition.startswith(_NOT_NULL)
            if is_of_the_version or (either.table not in on_both and either.kind != "view"):
                continue
            if either.kind == "role":
                continue  # that one has no rights and no part in anything is said by the lines of those
            where = (
                "is on production and was not restored" if here is None else "was restored, and is not on production"
            )
            found.append(Unlike(either.kind, f"{either.what} {where}", either.table))
        else:
            found += _compared(there, here, sampled=sampled, same_major=same_major)
    return found


def _compared(there: Line, here: Line, *, sampled: bool, same_major: bool) -> list[Unlike]:
    a, b = _as_read_back(there.definition or ""), _as_read_back(here.definition or "")
    if not same_major and there.kind == "rights":
        a, b = _without_new(a), _without_new(b)
    if a != b:
        said = f"is {a or 'nothing'} on production, and {b or 'nothing'} restored"
        if max(len(a), len(b)) > _LONG:
            said = "is defined otherwise on production than restored"
        if not same_major and there.kind in _PRINTED:
            said += "; these are two versions of PostgreSQL, which may print the same otherwise"
            return [Unlike(there.kind, f"{there.what} {said}", there.table, is_fault=False)]
        return [Unlike(there.kind, f"{there.what} {said}", there.table)]
    if there.state == here.state:
        return []
    if there.kind == "setting":
        return [Unlike(there.kind, f"{there.what} ({a}) have other values on production than restored", there.table)]
    if sampled and b.startswith(_FOREIGN_KEY):
        said = f"is {here.state} here: it leads to rows of tenants that are not in the sample"
        return [Unlike(there.kind, f"{there.what} {said}", there.table, is_fault=False)]
    return [Unlike(there.kind, f"{there.what} is {there.state} on production, and {here.state} restored", there.table)]


def _without_new(rights: str) -> str:
    """MAINTAIN came with 17."""
    return ", ".join(right for right in rights.split(", ") if not right.startswith("MAINTAIN"))


def _as_read_back(definition: str) -> str:
    def cast_each(array: re.Match[str]) -> str:
        elements = re.findall(_ELEMENT, array[1])
        return f"ARRAY[{', '.join(f'({element})::{array[2]}' for element in elements)}]"

    return _CAST_ARRAY.sub(cast_each, definition)
