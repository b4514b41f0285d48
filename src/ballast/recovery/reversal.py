"""What must be done to live rows so that one transaction has not happened, and where later changes stand in the way.

Pure. The record says what each row was just before the transaction and just after it. A live row that still is what the
transaction made of it goes back to what it was before. One that already is as before needs nothing. Any other was
changed since: that is a conflict, and only who asks can say what is to become of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from ballast.recovery.difference import Change, Difference, Standing, difference
from ballast.vault.layout import key_of

OnConflict = Literal["refuse", "skip", "force"]
"""Rows that later changes touched: nothing is done at all; they stay as they are; they become what they were before the
transaction all the same."""


class Effect(msgspec.Struct, frozen=True):
    """What the transaction did to one row: None is no row."""

    before: bytes | None
    after: bytes | None

    @property
    def line(self) -> bytes:
        """The row before or, where there was none, after."""
        line = self.before if self.before is not None else self.after
        assert line is not None
        return line


class Conflict(msgspec.Struct, frozen=True):
    """A row that is no longer what the transaction made of it."""

    effect: Effect
    found: bytes | None
    """The row as it stands; None: there is none."""


class Reversal(msgspec.Struct, frozen=True):
    """What is to be done to one table, and what stands in the way."""

    difference: Difference
    conflicts: tuple[Conflict, ...]
    already: int
    """Rows that are as they were before the transaction, whoever saw to that."""


def effects(before: Iterable[bytes], after: Iterable[bytes], key: Sequence[int]) -> tuple[Effect, ...]:
    """What the transaction did to the rows of a table (of one tenant, or several), from all rows before and after.

    `key` as in `difference`; a row whose key changed is one that went and one that came."""
    found = difference(before, (Standing(b"", line) for line in after), key)
    return (
        *(Effect(None, row.line) for row in found.gone),
        *(Effect(change.line, change.standing.line) for change in found.changes),
        *(Effect(line, None) for line in found.back),
    )


def joined(parts: Iterable[Effect], key: Sequence[int]) -> tuple[Effect, ...]:
    """Effects found tenant by tenant as those of all together: a row that went from one to another is one, and stays."""
    if not key:
        return tuple(parts)
    whole: dict[bytes, Effect] = {}
    for effect in parts:
        name = key_of(effect.line, key)
        other = whole.get(name)
        if other is not None:
            effect = Effect(
                other.before if effect.before is None else effect.before,
                other.after if effect.after is None else effect.after,
            )
        whole[name] = effect
    return tuple(effect for effect in whole.values() if effect.before != effect.after)


def reversal(
    done: Iterable[Effect], standing: Iterable[Standing], key: Sequence[int], on_conflict: OnConflict
) -> Reversal:
    """How `done` is reversed among the rows that stand (at least those under the keys of `done`).

    With "refuse" conflicts are only told; with "skip" their rows are left alone; with "force" they become what they
    were before. Of a table without a key a row that came and is no longer there is a conflict, too: it may stand there
    changed, and nothing tells which it is."""
    rows = _Rows(standing, key)
    back: list[bytes] = []
    changes: list[Change] = []
    gone: list[Standing] = []
    conflicts: list[Conflict] = []
    already = 0
    for effect in done:
        found = rows.take(effect)
        is_after = found.line == effect.after if found is not None else effect.after is None
        is_before = found.line == effect.before if found is not None else effect.before is None
        if not is_after:
            if is_before and key:
                already += 1
                continue
            conflicts.append(Conflict(effect, found.line if found is not None else None))
            if on_conflict != "force":
                continue
        if effect.before is None:
            gone += [found] if found is not None else []
        elif found is None:
            back.append(effect.before)
        else:
            changes.append(Change(found, effect.before))
    return Reversal(Difference(tuple(back), tuple(changes), tuple(gone)), tuple(conflicts), already)


class _Rows:
    """Live rows, each to be taken once."""

    def __init__(self, standing: Iterable[Standing], key: Sequence[int]) -> None:
        self._key = key
        self._rows: defaultdict[bytes, list[Standing]] = defaultdict(list)
        for row in standing:
            self._rows[key_of(row.line, key)].append(row)

    def take(self, effect: Effect) -> Standing | None:
        """The row that the effect is about, the one that it made where there are several; None: there is none."""
        if not self._key and effect.after is None:
            return None  # equal rows of others are not this one
        rows = self._rows.get(key_of(effect.line, self._key), [])
        for wanted in (effect.after, effect.before):
            for row in rows:
                if row.line == wanted:
                    rows.remove(row)
                    return row
        return rows.pop() if rows else None
