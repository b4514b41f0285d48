"""What must be done to live rows so that some transactions have not happened, and where later changes stand in the way.

Pure. The record says what each row was just before a transaction and just after it. A live row that still is what the
transaction made of it goes back to what it was before. One that already is as before needs nothing. Any other was
changed since: that is a conflict, and only who asks can say what is to become of it. Of several transactions the newest is
reversed first, and what that leaves is what the next one finds.

Most conflicts are none to a person: a price was set to nothing, and since then somebody mended the title; stock was edited,
and since then three pieces were sold. `merged` keeps both: a column that still is as the transaction left it goes back, one
that it did not touch or that was changed since stays, and a counter goes back by as much as the transaction moved it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Literal

import msgspec

from ballast.postgres.copytext import NULL
from ballast.recovery.difference import Change, Difference, Standing, difference, fields_of
from ballast.vault.layout import key_of

OnConflict = Literal["refuse", "skip", "merge", "force"]
"""Rows that later changes touched: nothing is done at all; they stay as they are; what both did is kept apart where that is
possible, and they stay as they are where not; they become what they were before the transaction all the same."""


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
    """A row that is no longer what the transactions made of it."""

    line: bytes
    """A row with its key."""
    before: bytes | None
    """As it was before the first of them; None: there was none."""
    made: bytes | None
    """As the last of them left it; None: it removed it."""
    found: bytes | None
    """As it stands; None: there is none."""
    merged: bytes | None
    """What `merged` makes of it; None: nothing."""
    becomes: bytes | None
    """As it will stand."""


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
    done: Sequence[Iterable[Effect]],
    standing: Iterable[Standing],
    key: Sequence[int],
    on_conflict: OnConflict,
    counters: Collection[int] = (),
    barred: Collection[bytes] = (),
) -> Reversal:
    """How transactions are reversed among the rows that stand (at least those under the keys of `done`).

    Of a table without a key a row that came and is no longer there is a conflict, too: it may stand there changed, and
    nothing tells which it is.

    Args:
        done: what each transaction did, the newest first.
        counters: positions of fields that count, see `merged`.
        barred: rows that merging must not lead to.
    """
    rows = _Rows(standing, key)
    back: list[bytes] = []
    changes: list[Change] = []
    gone: list[Standing] = []
    conflicts: list[Conflict] = []
    already = 0
    for chain in _chains(done, key):
        before, made, line = chain[-1].before, chain[0].after, chain[0].line
        found = rows.take(line, made, before)
        row = found.line if found is not None else None
        if key and row == before != made:
            already += 1
            continue
        becomes, clean = _reversed(chain, row)
        if not clean:
            possible = _possible(chain, row, counters, barred)
            merging = becomes if possible is None else possible
            becomes = {"refuse": row, "skip": becomes, "merge": merging, "force": before}[on_conflict]
            conflicts.append(Conflict(line, before, made, row, possible if possible != row else None, becomes))
        if found is None:
            back += [becomes] if becomes is not None else []
        elif becomes is None:
            gone.append(found)
        elif becomes != row:
            changes.append(Change(found, becomes))
    return Reversal(Difference(tuple(back), tuple(changes), tuple(gone)), tuple(conflicts), already)


def merged(effect: Effect, row: bytes | None, counters: Collection[int]) -> bytes | None:
    """The row as it stands without what the transaction did to it, and with what was done to it since: a column that was changed
    since, and is no counter, stays. None: the transaction made the row or removed it.

    `counters`: positions of fields to which the application adds and from which it subtracts. If somebody has set one since to a
    number that he counted himself, the outcome is off by what the transaction had added: nothing in the row tells."""
    if effect.before is None or effect.after is None or row is None:
        return None
    fields = fields_of(row)
    threes = zip(fields_of(effect.before), fields_of(effect.after), list(fields), strict=True)
    for position, (before, after, found) in enumerate(threes):
        if before == after:
            continue
        if found == after:
            fields[position] = before
        elif position in counters:
            fields[position] = _counted_back(before, after, found) or found
    return b"\t".join(fields) + b"\n"


def _counted_back(before: bytes, after: bytes, found: bytes) -> bytes | None:
    if NULL in (before, after, found):
        return None
    try:
        was, made, now = (Decimal(field.decode()) for field in (before, after, found))
    except (InvalidOperation, UnicodeDecodeError):
        return None
    number = now - (made - was)
    return format(number, "f").encode() if number.is_finite() else None


def _possible(
    chain: Sequence[Effect], row: bytes | None, counters: Collection[int], barred: Collection[bytes]
) -> bytes | None:
    """What merging makes of the row, which may be what it is; None: nothing can be kept apart. Counters stay where the table
    would refuse the row else, and those that are what they were before all of it: they have been put right."""
    first = chain[-1].before
    if first is None or row is None:
        return None
    was, now = fields_of(first), fields_of(row)
    for counted in ([position for position in counters if was[position] != now[position]], ()):
        kept, _ = _reversed(chain, row, counted)
        if kept is None or kept == row or kept not in barred:
            return kept
    return None


def _reversed(
    chain: Sequence[Effect], row: bytes | None, counters: Collection[int] | None = None
) -> tuple[bytes | None, bool]:
    """The row after the reversal of each effect, and whether each found what it had made. One that did not is left out or,
    with `counters`, merged if it can be."""
    clean = True
    for effect in chain:
        if row == effect.after:
            row = effect.before
            continue
        clean = False
        if counters is not None:
            kept = merged(effect, row, counters)
            row = row if kept is None else kept
    return row, clean


def _chains(done: Sequence[Iterable[Effect]], key: Sequence[int]) -> Iterator[Sequence[Effect]]:
    """What was done to each row, the newest first. Without a key each effect is by itself, unless a later transaction has taken
    back just that: then neither counts."""
    if key:
        by_key: defaultdict[bytes, list[Effect]] = defaultdict(list)
        for effects_of_one in done:
            for effect in effects_of_one:
                by_key[key_of(effect.line, key)].append(effect)
        yield from by_key.values()
        return
    left: defaultdict[tuple[bytes | None, bytes | None], int] = defaultdict(int)
    for effects_of_one in reversed(done):
        for effect in effects_of_one:
            opposite = (effect.after, effect.before)
            if left[opposite]:
                left[opposite] -= 1
            else:
                left[effect.before, effect.after] += 1
    for (before, after), times in left.items():
        yield from [(Effect(before, after),)] * times


class _Rows:
    """Live rows, each to be taken once."""

    def __init__(self, standing: Iterable[Standing], key: Sequence[int]) -> None:
        self._key = key
        self._rows: defaultdict[bytes, list[Standing]] = defaultdict(list)
        for row in standing:
            self._rows[key_of(row.line, key)].append(row)

    def take(self, line: bytes, made: bytes | None, before: bytes | None) -> Standing | None:
        """The row under the key of `line`, the one that was `made` where there are several; None: there is none."""
        if not self._key and made is None:
            return None  # equal rows of others are not this one
        rows = self._rows.get(key_of(line, self._key), [])
        for wanted in (made, before):
            for row in rows:
                if row.line == wanted:
                    rows.remove(row)
                    return row
        return rows.pop() if rows else None
