"""How the rows of a table as they stand differ from those that should stand there: by key, or counted where there is none.

Pure: lines in, lines out. A line is a row as COPY prints it; equal lines are equal rows, so rows that need nothing are
found without looking into them. What is left is paired by key. A table without a key is a multiset: nothing pairs, and
two equal rows are two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from ballast.vault.layout import key_of


class Standing(NamedTuple):
    """A row as it stands in the server."""

    version: bytes
    """Names this version of the row and no other: see `livetable.py`."""
    line: bytes


class Change(NamedTuple):
    """A row that stays and is to be another."""

    standing: Standing
    line: bytes
    """As it should be."""


class Difference(msgspec.Struct, frozen=True):
    """What leads from the rows that stand to those that should."""

    back: tuple[bytes, ...] = ()
    """Rows to be put back."""
    changes: tuple[Change, ...] = ()
    gone: tuple[Standing, ...] = ()
    """Rows that must go."""
    same: tuple[bytes, ...] = ()
    """Rows that stand as they should."""

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.back or self.changes or self.gone)

    def without_changes(self) -> Difference:
        """The same with each change as a row that goes and one that comes."""
        return Difference(
            (*self.back, *(change.line for change in self.changes)),
            (),
            (*self.gone, *(change.standing for change in self.changes)),
            self.same,
        )


def difference(should: Iterable[bytes], standing: Iterable[Standing], key: Sequence[int]) -> Difference:
    """What to do to `standing` so that it is `should`. `key`: positions of the key's fields in a line; empty: no key.

    A key that several rows bear on either side (its constraint is gone) pairs as many as there are on both."""
    left: dict[bytes, Standing] = {}
    again: list[Standing] = []
    for row in standing:
        if left.setdefault(row.line, row) is not row:
            again.append(row)
    more: defaultdict[bytes, list[Standing]] = defaultdict(list)
    for row in again:
        more[row.line].append(row)
    same: list[bytes] = []
    missing: list[bytes] = []
    for line in should:
        if line in left:
            same.append(line)
            if again and more[line]:
                left[line] = more[line].pop()
            else:
                del left[line]
        else:
            missing.append(line)
    surplus = [*left.values(), *(row for rows in more.values() for row in rows)]
    if not key:
        return Difference(tuple(missing), (), tuple(surplus), tuple(same))
    by_key: defaultdict[bytes, list[Standing]] = defaultdict(list)
    for row in surplus:
        by_key[key_of(row.line, key)].append(row)
    back: list[bytes] = []
    changes: list[Change] = []
    for line in missing:
        rows = by_key.get(key_of(line, key))
        if rows:
            changes.append(Change(rows.pop(), line))
        else:
            back.append(line)
    gone = tuple(row for rows in by_key.values() for row in rows)
    return Difference(tuple(back), tuple(changes), gone, tuple(same))


def fields_of(line: bytes) -> list[bytes]:
    """The fields of a line, still escaped."""
    return line.removesuffix(b"\n").split(b"\t")


def moved(change: Change) -> list[int]:
    """Positions of the fields that a change changes."""
    pairs = zip(fields_of(change.standing.line), fields_of(change.line), strict=True)
    return [position for position, (before, after) in enumerate(pairs) if before != after]
