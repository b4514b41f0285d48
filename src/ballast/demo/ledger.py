"""What shoppers and merchants were promised, written down at the moment they heard it, and held beside what is there at the end.

Each line of the file is one promise as JSON, in the file before the shopper goes on. `compare` is pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec


class Promise(msgspec.Struct, frozen=True, kw_only=True, tag_field="promise"):
    """Something that was acknowledged. Times are seconds since 1970."""

    shop: str
    """Its slug."""
    at: float
    sent_at: float
    """When it was asked for."""


class Ordered(Promise, frozen=True, kw_only=True, tag="ordered"):
    """The shop took an order: its answer led to the order's page."""

    order_id: str
    mark: str
    """Of this one attempt; it stands in the order's note, whoever copies that order."""
    lines: tuple[tuple[str, int], ...]
    """SKU, pieces."""
    total_fen: int
    """As the shopper was shown it and agreed to it."""


class Numbered(Promise, frozen=True, kw_only=True, tag="numbered"):
    """The shopper saw his order's number."""

    order_id: str
    number: str


class Paid(Promise, frozen=True, kw_only=True, tag="paid"):
    """The shop showed his order as paid."""

    order_id: str


class Edited(Promise, frozen=True, kw_only=True, tag="edited"):
    """A merchant was told that what he changed is saved."""

    sku_id: str
    code: str


class Asked(Promise, frozen=True, kw_only=True, tag="asked"):
    """A merchant has asked for a change: no promise yet, and it may be there all the same where its answer was not heard."""

    sku_id: str
    code: str


AnyPromise = Ordered | Numbered | Paid | Edited | Asked


class Ledger:
    """The promises of a run, in memory and in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)
        self.promises: list[AnyPromise] = []
        self.orders = 0
        """That were acknowledged."""

    def note(self, promise: AnyPromise) -> None:
        """This was heard."""
        self._file.write(msgspec.json.encode(promise) + b"\n")
        self.promises.append(promise)
        self.orders += isinstance(promise, Ordered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read(path: Path) -> list[AnyPromise]:
    """The promises in a file; a last line that was broken off was promised to nobody."""
    lines = path.read_bytes().splitlines(keepends=True)
    return [msgspec.json.decode(line, type=AnyPromise) for line in lines if line.endswith(b"\n")]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An order of a shopper of ours as the database has it at the end."""

    order_id: str
    shop: str
    number: str
    mark: str
    lines: tuple[tuple[str, int], ...]
    total_fen: int
    paid_fen: int
    status: str
    payments: int
    """That succeeded and were due."""


Fate = Literal["lost", "doubled", "changed", "unpaid", "paid_twice", "edit_lost"]


class Broken(msgspec.Struct, frozen=True):
    """A promise that was not kept, in words."""

    fate: Fate
    what: str


class Compared(msgspec.Struct, frozen=True):
    """What became of the promises."""

    acknowledged: int
    """Orders."""
    paid: int
    """Orders that were shown as paid."""
    edited: int
    kept: int
    """Orders that are there."""
    excepted: int
    """Orders that the merchant has before him as an exception."""
    unheard: int
    """Orders that are there, and whose shopper never got the answer: he asks again and is told."""
    broken: tuple[Broken, ...]

    def count(self, *fates: Fate) -> int:
        """How many promises were broken that way."""
        return sum(1 for one in self.broken if one.fate in fates)


def compare(
    promises: Iterable[AnyPromise], found: Iterable[Found], excepted: Iterable[str], codes: Mapping[str, str]
) -> Compared:
    """Hold what was promised beside what is there.

    Args:
        found: every order whose note has a mark of ours.
        excepted: ids of orders that are among the exceptions.
        codes: of each SKU that a merchant changed, the code that it has.
    """
    promises, found, excepted = list(promises), list(found), set(excepted)
    ordered = {one.order_id: one for one in promises if isinstance(one, Ordered)}
    numbers = {one.order_id: one.number for one in promises if isinstance(one, Numbered)}
    paid = {one.order_id for one in promises if isinstance(one, Paid)}
    edits = {one.sku_id: one for one in promises if isinstance(one, Edited)}  # the last one counts
    asked = {(one.sku_id, one.code): one.sent_at for one in promises if isinstance(one, Asked)}
    there = {one.order_id: one for one in found}
    broken: list[Broken] = []
    for order_id, promise in ordered.items():
        known = there.get(order_id)
        if known is None:
            if order_id not in excepted:
                broken.append(Broken("lost", f"order {order_id} of {promise.shop} is not there"))
            continue
        broken += [Broken("changed", f"order {order_id} of {promise.shop}: {why}") for why in _changes(promise, known)]
        number = numbers.get(order_id, known.number)
        if number != known.number:
            broken.append(Broken("changed", f"order {order_id} was number {number} and is {known.number}"))
    for order_id in paid:
        known = there.get(order_id)
        if known is not None and known.paid_fen != known.total_fen:
            broken.append(Broken("unpaid", f"order {order_id} of {known.shop} was paid, and is {known.status}"))
        if known is None and order_id not in excepted and order_id not in ordered:
            broken.append(Broken("lost", f"order {order_id} was paid and is not there"))
    broken += [
        Broken("paid_twice", f"order {one.order_id} of {one.shop} has {one.payments} payments")
        for one in found
        if one.payments > 1
    ]
    broken += _doubled(found)
    broken += [
        Broken("edit_lost", f"SKU {sku} of {edit.shop} was given the code {edit.code} and has {codes.get(sku)}")
        for sku, edit in edits.items()
        if codes.get(sku) != edit.code and asked.get((sku, codes.get(sku, "")), 0.0) <= edit.sent_at
    ]
    return Compared(
        acknowledged=len(ordered),
        paid=len(paid),
        edited=sum(1 for one in promises if isinstance(one, Edited)),
        kept=len(ordered.keys() & there.keys()),
        excepted=len((ordered.keys() & excepted) - there.keys()),
        unheard=len(there.keys() - ordered.keys()),
        broken=tuple(broken),
    )


def _changes(promise: Ordered, known: Found) -> list[str]:
    pairs = {
        "shop": (promise.shop, known.shop),
        "goods": (sorted(promise.lines), sorted(known.lines)),
        "total": (promise.total_fen, known.total_fen),
    }
    return [f"its {name} was {was} and is {now}" for name, (was, now) in pairs.items() if was != now]


def _doubled(found: list[Found]) -> list[Broken]:
    marks = Counter(one.mark for one in found)
    numbers = Counter((one.shop, one.number) for one in found)
    return [
        *(Broken("doubled", f"the order {mark} is there {times} times") for mark, times in marks.items() if times > 1),
        *(
            Broken("doubled", f"{times} orders of {shop} have the number {number}")
            for (shop, number), times in numbers.items()
            if times > 1
        ),
    ]
