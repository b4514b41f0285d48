"""Lines that belong together: those of one product, of one order. They follow each other in the file."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ballast.mall.imports.columns import Kind
from ballast.mall.imports.reading import Line

MOST_OF_ONE = 600
"""As many SKUs as a product may have; no order has so many lines."""


class Group(msgspec.Struct, frozen=True):
    """Lines of one product or order. `wrong`: the number of a line for which it cannot be taken, and why."""

    shop: str
    code: str
    lines: tuple[Line, ...]
    wrong: tuple[int, str] | None = None

    @property
    def numbers(self) -> list[int]:
        """Of its lines."""
        return [line.number for line in self.lines]


def groups(lines: Iterator[Line], kind: Kind) -> Iterator[Group]:
    """The groups of a file, in its order. A line that does not say what it belongs to may belong to what stands before it or
    after it: neither is taken, since an order without one of its lines would be wrong for ever."""
    column = "product_code" if kind == "products" else "order"
    held: list[Line] = []
    name = ("", "")
    wrong: tuple[int, str] | None = None
    for line in lines:
        here = line.cells.get("shop", ""), line.cells.get(column, "")
        if not all(here):
            if held:
                yield Group(*name, tuple(held), wrong or _beside(line))
            held, wrong = [], _beside(line)
            yield Group(
                *here, (line,), (line.number, line.wrong or f"{column if here[0] else 'shop'}: it is empty. Fill it.")
            )
            continue
        if here != name and held:
            yield Group(*name, tuple(held), wrong)
            held, wrong = [], None
        name = here
        if line.wrong and wrong is None:
            wrong = line.number, line.wrong
        if len(held) < MOST_OF_ONE:
            held.append(line)
        else:
            wrong = held[0].number, f"It goes on for more than {MOST_OF_ONE} lines. Split it."
    if held:
        yield Group(*name, tuple(held), wrong)


def _beside(line: Line) -> tuple[int, str]:
    return line.number, "That line beside it does not say what it belongs to. Mend it first."
