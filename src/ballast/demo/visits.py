"""What shoppers and merchants met: one line a request, and what follows from many of them. Pure.

Moments are seconds since 1970. A request belongs to the second in which its answer was complete.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Kind = Literal["view", "order", "form", "payment", "merchant"]
"""A page of a shop that was looked at; an order's placing; another form of a shop; the provider's pages; a merchant's pages."""
OF_SHOPS: frozenset[Kind] = frozenset({"view", "order", "form"})
Window = tuple[float, float]
"""From, until."""


class Visit(NamedTuple):
    """One request."""

    shop: str
    kind: Kind
    sent_at: float
    took_s: float
    status: int
    """Of the answer; 0: there was none."""
    good: bool
    """It was answered as it should have been. A refusal by a rule (sold out, a new price) is an answer, too."""
    done: bool
    """What was wanted was there: the page, the order."""
    what: str = ""
    """Where it was not good: which page, and what came instead."""

    @property
    def at(self) -> float:
        """When it was answered."""
        return self.sent_at + self.took_s


class Pulse:
    """How many there were in each second, counted as they come: looking costs no more the longer a run lasts."""

    def __init__(self) -> None:
        self._done: Counter[tuple[Kind, int]] = Counter()
        self._wrong: Counter[int] = Counter()

    def count(self, one: Visit) -> None:
        """One more."""
        second = int(one.at)
        if one.done:
            self._done[one.kind, second] += 1
        if not one.good:
            self._wrong[second] += 1

    def done(self, kind: Kind, now: float, seconds: int) -> list[int]:
        """Of each of the last whole seconds, the newest last."""
        return [self._done[kind, second] for second in range(int(now) - seconds, int(now))]

    def wrong(self, now: float, seconds: int) -> list[int]:
        """The same of those of all kinds that were not good."""
        return [self._wrong[second] for second in range(int(now) - seconds, int(now))]


def per_second(visits: Iterable[Visit], kind: Kind, start: float, until: float) -> list[int]:
    """How many were done in each second from `start` on."""
    counts = [0] * max(0, math.ceil(until - start))
    for one in visits:
        if one.kind == kind and one.done and start <= one.at < start + len(counts):
            counts[int(one.at - start)] += 1
    return counts


def rate(visits: Iterable[Visit], kind: Kind, window: Window, without: Sequence[Window] = ()) -> float:
    """How many a second were done in it, leaving out the windows `without`."""
    start, until = window
    left_s = until - start - sum(max(0.0, min(until, b) - max(start, a)) for a, b in merged(without))
    count = sum(
        1 for one in visits if one.kind == kind and one.done and start <= one.at < until and not _in(one.at, without)
    )
    return count / left_s if left_s > 0 else 0.0


def errors(visits: Iterable[Visit], window: Window, without: Sequence[Window] = ()) -> list[Visit]:
    """What shops showed there and should not have."""
    start, until = window
    return [
        one
        for one in visits
        if one.kind in OF_SHOPS and not one.good and start <= one.at < until and not _touches(one, without)
    ]


def closed(visits: Iterable[Visit], until: float, without: Sequence[Window] = ()) -> dict[str, list[Window]]:
    """When each shop was closed: from a request of it that failed to the next that did not, a second at least. Between two of
    them nobody asked, and the worse is taken for true."""
    open_since: dict[str, float] = {}
    spans: dict[str, list[Window]] = {}
    for one in sorted((one for one in visits if one.kind in OF_SHOPS), key=lambda one: one.at):
        if not one.good and not _touches(one, without):
            open_since.setdefault(one.shop, one.at)
        elif one.good and one.shop in open_since:
            began = open_since.pop(one.shop)
            spans.setdefault(one.shop, []).append((began, max(one.at, began + 1.0)))
    for shop, began in open_since.items():
        spans.setdefault(shop, []).append((began, max(until, began + 1.0)))
    return spans


def closed_minutes(spans: dict[str, list[Window]]) -> float:
    """Of all shops together."""
    return sum(until - start for each in spans.values() for start, until in merged(each)) / 60


def first_visits(visits: Iterable[Visit], since: float) -> list[Visit]:
    """Of each shop the first page that somebody asked for after that moment and got."""
    found: dict[str, Visit] = {}
    for one in sorted((one for one in visits if one.kind == "view" and one.done), key=lambda one: one.sent_at):
        if one.sent_at >= since:
            found.setdefault(one.shop, one)
    return list(found.values())


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that so large a share does not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same time without overlaps, in order."""
    found: list[Window] = []
    for start, until in sorted(windows):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((start, until))
    return found


def _in(at: float, windows: Sequence[Window]) -> bool:
    return any(start <= at < until for start, until in windows)


def _touches(one: Visit, windows: Sequence[Window]) -> bool:
    return any(one.sent_at < until and one.at >= start for start, until in windows)
