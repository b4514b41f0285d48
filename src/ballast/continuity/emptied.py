"""When one tenant's rows began to go, as the record has it: the last moment at which it was whole.

Rows are deleted every day, and many of them at once by a merchant who tidies up: none of that empties a shop. What counts is how
the rows of each table fell to nothing or nearly so, and stayed so until now. Tables that fell one shortly after another fell by
one deed, and the tenant goes back to just before the first of them; but only where hardly anything is left of the whole. What
looks otherwise a person must judge: whoever goes back too far loses what was ordered since.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ballast.continuity.wipes import TOGETHER
from ballast.errors import BallastError
from ballast.recovery.changes import Asked, changes
from ballast.recovery.ranking import Summary, TableCount
from ballast.vault import Vault, read_rows, tenant_known
from ballast.vault.tables import MERGE_SCHEMA

_BACK = timedelta(minutes=15)
_NEARLY_NOTHING = 0.1
"""Of what there was."""


class Emptied(msgspec.Struct, frozen=True):
    """What became of a tenant from whom rows were taken."""

    at: str
    """Position just before its rows began to go; "": no moment can be told, a person must say it."""
    had: int | None
    """Rows at that moment; where none can be told, at the beginning of what was looked through. None: the record does not tell,
    as of a table that was truncated."""
    left: int

    @property
    def told(self) -> str:
        """How many rows there are, and were, for people."""
        there = f"{self.left:,} rows now"
        return f"{self.had:,} rows then, {there}" if self.had is not None and self.had > self.left else there


class _Fall(msgspec.Struct, frozen=True):
    """Of one table: places of the transactions that emptied it, the first one first."""

    places: tuple[int, ...]


def tenant_emptied(vault: Vault, tenant: str) -> Emptied | None:
    """As the record of the last minutes has it; None: no table of it was emptied. BallastError."""
    if not tenant_known(vault, tenant):
        return None
    newest = vault.resolve(None)
    since = None if newest.committed_at is None else (newest.committed_at - _BACK).isoformat()
    try:
        found = changes(vault, Asked(tenant=tenant, since=since, limit=0))
    except BallastError:  # the vault is younger
        found = changes(vault, Asked(tenant=tenant, limit=0))
    left: Counter[str] = Counter()
    for chunk in read_rows(vault, newest.cut, tenant=tenant):
        left[f"{chunk.relation.root_schema}.{chunk.relation.root_name}"] += chunk.rows
    own = f"{MERGE_SCHEMA}."  # nobody who empties a shop empties the register of what was merged
    transactions = [
        msgspec.structs.replace(one, tables=tuple(t for t in one.tables if not t.table.startswith(own)))
        for one in sorted(found.transactions, key=_place)
        if _place(one)[0]
        == newest.cut.timeline  # before that all was recovered, and what came since would not come back
    ]
    return emptied(transactions, {name: rows for name, rows in left.items() if not name.startswith(own)})


def emptied(transactions: Sequence[Summary], left: Mapping[str, int]) -> Emptied | None:
    """The same, of one tenant's transactions, the first one first, after which so many rows of each table are `left`. Pure."""
    falls = _falls(transactions, left)
    known = all(table.counted for one in transactions for table in one.tables)
    if known and not falls:
        return None
    total = sum(left.values())
    before = [total] * (len(transactions) + 1)
    for place in range(len(transactions) - 1, -1, -1):
        before[place] = before[place + 1] - sum(map(_grown, transactions[place].tables))
    deed = _deed(transactions, falls)
    if not deed or not known or total > _NEARLY_NOTHING * before[min(deed)]:
        return Emptied("", before[0] if known else None, total)
    first = min(deed)
    return Emptied(transactions[first].position, before[first], total)


def _falls(transactions: Sequence[Summary], left: Mapping[str, int]) -> list[_Fall]:
    changed: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, one in enumerate(transactions):
        for table in one.tables:
            changed[table.table].append((place, _grown(table)))
    found = [_fall(transactions, steps, left.get(name, 0)) for name, steps in changed.items()]
    return [fall for fall in found if fall is not None]


def _fall(transactions: Sequence[Summary], steps: Sequence[tuple[int, int]], left: int) -> _Fall | None:
    """Of one table, from (place, rows gained): backwards as long as there was more, and it was not long before."""
    rows, top = left, left
    places: list[int] = []
    for place, grown in reversed(steps):
        rows -= grown
        if grown >= 0:
            if places and rows <= _NEARLY_NOTHING * top:
                break  # it was empty before and was put back there: what emptied it then is another deed
            continue
        if sum(map(_grown, transactions[place].tables)) >= 0:  # an order that empties a cart empties no shop
            if not places:
                return None
            continue
        if places and _apart(transactions[place], transactions[places[-1]]) > TOGETHER:
            break
        if rows > top:
            top = rows
            places.append(place)
    return _Fall(tuple(reversed(places))) if places and left <= _NEARLY_NOTHING * top else None


def _deed(transactions: Sequence[Summary], falls: Sequence[_Fall]) -> set[int]:
    """Places of the transactions by which the last table fell, and those that fell shortly before it."""
    deed: set[int] = set()
    for fall in sorted(falls, key=lambda fall: fall.places[-1], reverse=True):
        if deed and _apart(transactions[fall.places[-1]], transactions[min(deed)]) > TOGETHER:
            break
        deed.update(fall.places)
    return deed


def _grown(table: TableCount) -> int:
    return table.inserted - table.deleted


def _apart(earlier: Summary, later: Summary) -> timedelta:
    started: datetime | None = earlier.committed_at
    if started is None or later.committed_at is None:
        return timedelta(0)
    return later.committed_at - started


def _place(one: Summary) -> tuple[int, ...]:
    timeline, high, low = one.position.split("/")
    return int(timeline), int(high, 16), int(low, 16)
