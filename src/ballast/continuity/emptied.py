"""When one tenant's rows began to go, as the record has it: the last moment at which it was whole.

Rows are deleted every day, and many of them at once by a merchant who tidies up: none of that empties a shop. What counts is how
the rows of each table fell to nothing or nearly so, and stayed so until now. Tables that fell one shortly after another fell by
one deed. It may have begun with a table that others have filled again since, as that of the orders: whatever took rows shortly
before counts as its beginning. Of the two mistakes this is the harmless one: what others did after the moment is brought in
again, and what was taken before it does not come back. But only where hardly anything is left of what there was then, what was
added since not counted; what looks otherwise a person must judge.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from ballast.continuity.wipes import TOGETHER
from ballast.errors import BallastError
from ballast.recovery.changes import Asked, changes
from ballast.recovery.later import OURS
from ballast.recovery.ranking import Summary, TableCount
from ballast.recovery.rewind import put_back_to
from ballast.vault import Vault, read_rows, tenant_known
from ballast.vault.moment import cut_of
from ballast.vault.records import Cut
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
        if _place(one).timeline
        == newest.cut.timeline  # before that all was recovered, and what came since would not come back
    ]
    return emptied_again(transactions, {name: rows for name, rows in left.items() if not name.startswith(own)}, tenant)


def emptied_since(vault: Vault, tenant: str, since: str) -> bool:
    """Whether all rows of one who was put back just after the position `since` went once more. BallastError."""
    later = changes(vault, Asked(tenant=tenant, since=since, limit=0)).transactions if since else ()
    if not any(_gained(one) < 0 for one in later):
        return False  # as nearly always, and it costs little
    found = tenant_emptied(vault, tenant)
    return found is not None and bool(found.at)


def emptied_again(transactions: Sequence[Summary], left: Mapping[str, int], tenant: str) -> Emptied | None:
    """As `emptied`, of a tenant who may have been put back among these transactions: what was before that is over. But for one
    whom the sentinel put back, and who is hit again while he comes back or shortly after: he goes back to where he was put, since
    not all that is brought in again was there yet."""
    moments = [put_back_to(one.actor, tenant) for one in transactions]
    last = max((place for place, at in enumerate(moments) if at), default=-1)
    since = transactions[last + 1 :]
    found = emptied(since, left)
    ours = [one for one in transactions[max(0, last) :] if one.actor is not None and one.actor.startswith(OURS)]
    if found is None or not found.at or last < 0 or transactions[last] not in ours:
        return found
    first = next(one for one in since if one.position == found.at)
    if _apart(ours[-1], first) > TOGETHER or cut_of(moments[last]).timeline != cut_of(found.at).timeline:
        return found
    return msgspec.structs.replace(found, at=moments[last])


def emptied(transactions: Sequence[Summary], left: Mapping[str, int]) -> Emptied | None:
    """The same, of one tenant's transactions, the first one first, after which so many rows of each table are `left`. Pure."""
    falls = _falls(transactions, left)
    known = all(table.counted for one in transactions for table in one.tables)
    if known and not falls:
        return None
    total = sum(left.values())
    before = [total] * (len(transactions) + 1)
    for place in range(len(transactions) - 1, -1, -1):
        before[place] = before[place + 1] - _gained(transactions[place])
    deed = _deed(transactions, falls)
    if not deed or not known:
        return Emptied("", before[0] if known else None, total)
    first = _beginning(transactions, min(deed))
    if _survivors(transactions[first:], left) > _NEARLY_NOTHING * before[first]:
        return Emptied("", before[0], total)
    return Emptied(transactions[first].position, before[first], total)


def _survivors(transactions: Sequence[Summary], left: Mapping[str, int]) -> int:
    """Rows that were there before these transactions, at least: what one table was given and lost again says nothing of
    others."""
    added: Counter[str] = Counter()
    for one in transactions:
        for table in one.tables:
            added[table.table] += max(0, _grown(table))
    return sum(max(0, rows - added[name]) for name, rows in left.items())


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
            continue
        if _gained(transactions[place]) >= 0:  # an order that empties a cart empties no shop
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


def _beginning(transactions: Sequence[Summary], core: int) -> int:
    """Place of the first transaction that took rows shortly before that at `core`, or `core`."""
    near = (
        place
        for place, one in enumerate(transactions[:core])
        if _gained(one) < 0 and _apart(one, transactions[core]) <= TOGETHER
    )
    return next(near, core)


def _gained(one: Summary) -> int:
    return sum(map(_grown, one.tables))


def _grown(table: TableCount) -> int:
    return table.inserted - table.deleted


def _apart(earlier: Summary, later: Summary) -> timedelta:
    started: datetime | None = earlier.committed_at
    if started is None or later.committed_at is None:
        return timedelta(0)
    return later.committed_at - started


def _place(one: Summary) -> Cut:
    return cut_of(one.position)
