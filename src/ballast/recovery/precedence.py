"""Which tenants come back next: those asked for just now, then by rank, then the rest as the record can be read best.

Pure: no clock, no server. Whoever uses it from several threads holds a lock around each call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

_FIRST_WINDOW = 32
"""Ranked tenants that come back strictly in order of rank. The next 64 are put into the order of reading among
themselves, then 128, and so on: strict order throughout would read each part of the record once for every tenant in it."""
_MOST_TOGETHER = 16


class Precedence:
    """Hands out tenants to workers, each once.

    `groups`: those that can be read together, each group in the order in which the record holds them. `ranks`: 1 comes
    before 2; who has none comes after all that have one. `unit`: how many make one piece of work.
    """

    def __init__(self, groups: Sequence[Sequence[str]], ranks: Mapping[str, float], *, unit: int) -> None:
        place = {tenant: (number, at) for number, group in enumerate(groups) for at, tenant in enumerate(group)}
        self._group = {tenant: number for tenant, (number, _) in place.items()}
        self._waiting = dict.fromkeys(place)
        self._missing = dict.fromkeys(place)
        self._asked: dict[str, None] = {}
        self._hurried: dict[str, None] = {}
        ranked = sorted((tenant for tenant in place if tenant in ranks), key=lambda t: (ranks[t], place[t]))
        rest = [tenant for group in groups for tenant in group if tenant not in ranks]
        self._units = iter([*self._cut(_windows(ranked, place.__getitem__), unit), *self._cut([rest], unit)])

    def ask(self, tenant: str, *, urgent: bool = False) -> bool:
        """Somebody waits for it; `urgent`: before all others. Whether it is to be fetched now: it is missing, and nobody is at it
        or was told before."""
        if tenant not in self._waiting:
            return False
        if urgent:
            self._hurried[tenant] = None
        is_new = tenant not in self._asked
        self._asked[tenant] = None
        return is_new

    def next_asked(self, servers: int = 1) -> tuple[str, ...] | None:
        """The one that was asked for first; it is the caller's to bring back. Where more wait than `servers` can serve side
        by side, others that can be read together with it come along: reading ten takes hardly longer than one. Who is in a
        hurry comes before, and waits for nobody else."""
        asked = list(self._hurried or self._asked)
        most = min(_MOST_TOGETHER, max(1, len(asked) // servers))
        together = [tenant for tenant in asked if self._group[tenant] == self._group[asked[0]]][:most]
        self._take(together)
        return tuple(together) or None

    def next_unit(self) -> tuple[str, ...] | None:
        """The next piece of work, without those that are back, under way or asked for; None: nothing is left."""
        for unit in self._units:
            left = tuple(tenant for tenant in unit if tenant in self._waiting and tenant not in self._asked)
            if left:
                self._take(left)
                return left
        return None

    def back(self, tenants: Iterable[str]) -> None:
        """They are whole, or cannot be brought back: in either case nobody is to try again."""
        for tenant in tenants:
            self._missing.pop(tenant, None)

    def is_missing(self, tenant: str) -> bool:
        """Neither back nor given up."""
        return tenant in self._missing

    @property
    def asked(self) -> int:
        """Asked for, and nobody is at it yet."""
        return len(self._asked)

    @property
    def missing(self) -> int:
        """Not back yet."""
        return len(self._missing)

    def _take(self, tenants: Collection[str]) -> None:
        for tenant in tenants:
            self._waiting.pop(tenant, None)
            self._asked.pop(tenant, None)
            self._hurried.pop(tenant, None)

    def _cut(self, windows: Iterable[Sequence[str]], unit: int) -> Iterator[tuple[str, ...]]:
        """Units of tenants that can be read together, in order."""
        for window in windows:
            piece: list[str] = []
            for tenant in window:
                if piece and (len(piece) == unit or self._group[piece[-1]] != self._group[tenant]):
                    yield tuple(piece)
                    piece = []
                piece.append(tenant)
            if piece:
                yield tuple(piece)


def _windows(ranked: Sequence[str], place: Callable[[str], tuple[int, int]]) -> Iterator[list[str]]:
    """The first ones one by one, then ever larger windows, each in the order of reading."""
    for tenant in ranked[:_FIRST_WINDOW]:
        yield [tenant]
    at, size = _FIRST_WINDOW, 2 * _FIRST_WINDOW
    while at < len(ranked):
        yield sorted(ranked[at : at + size], key=place)
        at, size = at + size, 2 * size
