"""What a side branch changed, row by row, and what becomes of it on a server that went on without it. Pure.

Three versions of a row decide: at the fork, at the branch's end, and on the server now. Where the server has it as at the
fork, nobody has touched it since, and the branch's version is put in its place. Everything else is a conflict, which only a
person can settle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec
from psycopg import sql

from ballast.postgres.copytext import split_row
from ballast.recovery.target import Place

What = Literal["added", "changed", "removed"]
Verdict = Literal["put back", "there already", "conflict"]


class LostRow(msgspec.Struct, frozen=True):
    """A row that the branch left otherwise than the fork had it: COPY lines without their newline, None for no row."""

    key: bytes
    before: bytes | None
    after: bytes | None

    @property
    def what(self) -> What:
        """What the branch did to it."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


def lost_rows(base: Mapping[bytes, bytes], tip: Mapping[bytes, bytes]) -> Iterator[LostRow]:
    """The rows that differ between fork and end; both map key to line."""
    for key in sorted(base.keys() | tip.keys()):
        before, after = base.get(key), tip.get(key)
        if before != after:
            yield LostRow(key, before, after)


def verdict(row: LostRow, here: bytes | None) -> Verdict:
    """`here`: the line that the server has under the key now."""
    if here == row.after:
        return "there already"
    return "put back" if here == row.before else "conflict"


def in_turn(rows: Iterable[LostRow]) -> list[LostRow]:
    """In an order in which no unique value is taken twice by rows of different keys, as far as that can be had."""
    turn = {"removed": 0, "changed": 1, "added": 2}
    return sorted(rows, key=lambda row: turn[row.what])


def statement(place: Place, key: tuple[int, ...], row: LostRow) -> sql.Composed:
    """The one that puts it back. `key`: attnums of the relation's key."""
    at = {attnum: i for i, attnum in enumerate(place.relation.row_columns)}
    whose = [at[attnum] for attnum in key]
    if row.before is None:
        assert row.after is not None
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            place.name,
            sql.SQL(", ").join(map(sql.Identifier, place.columns)),
            sql.SQL(", ").join(_literal(field) for field in split_row(row.after)),
        )
    before = split_row(row.before)
    condition = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(place.columns[i]), _literal(before[i])) for i in whose
    )
    if row.after is None:
        return sql.SQL("DELETE FROM {} WHERE {}").format(place.only, condition)
    changed = [
        sql.SQL("{} = {}").format(sql.Identifier(place.columns[i]), _literal(new))
        for i, (old, new) in enumerate(zip(before, split_row(row.after), strict=True))
        if old != new
    ]
    return sql.SQL("UPDATE {} SET {} WHERE {}").format(place.only, sql.SQL(", ").join(changed), condition)


def _literal(field: bytes | None) -> sql.Literal:
    return sql.Literal(None if field is None else field.decode())
