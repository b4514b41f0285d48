"""A shop's categories: a tree of two levels, as the storefront shows it, in the merchant's order."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.product_record import Deed
from ballast.mall.products import note
from ballast.mall.rules.product_lines import plain_step
from ballast.mall.rules.refused import Refused

_SQL = queries.load("categories")
MOST = 500


class Category(msgspec.Struct, frozen=True):
    """A category; `products`: how many are in it."""

    category_id: UUID
    parent_id: UUID | None
    name: str
    name_en: str
    picture: str | None
    visible: bool
    products: int


class Written(msgspec.Struct, frozen=True):
    """What is said about a category."""

    name: str
    name_en: str = ""
    parent_id: UUID | None = None
    visible: bool = True


class Branch(msgspec.Struct, frozen=True):
    """A category of the first level and those below it."""

    top: Category
    below: tuple[Category, ...]


async def all_of(connection: Connection) -> tuple[Category, ...]:
    """Every category, in the shop's order."""
    return tuple(Category(**row) for row in await (await connection.execute(_SQL.all)).fetchall())


def tree(found: Sequence[Category]) -> tuple[Branch, ...]:
    """As it is shown. Whose parent is not of the first level (imports) stands on the first level itself."""
    tops = [one for one in found if _is_top(one, found)]
    return tuple(Branch(top, tuple(one for one in found if one.parent_id == top.category_id)) for top in tops)


async def one_at_a_time(connection: Connection) -> None:
    """Nobody else changes the tree until this transaction ends. Comes after `products.one_at_a_time`, before any row."""
    await connection.execute(_SQL.one_at_a_time)


async def add(connection: Connection, category_id: UUID, written: Written, deed: Deed) -> None:
    """A new category, after its sisters. One that was made by the same form before stays as it is."""
    await one_at_a_time(connection)
    found = await all_of(connection)
    if len(found) >= MOST:
        raise Refused("category.many", f"The shop has {MOST} categories.", "Remove some first.", most=MOST)
    _check(written, found, None)
    row = await (
        await connection.execute(_SQL.add, {**msgspec.structs.asdict(written), "category_id": category_id})
    ).fetchone()
    if row:
        await note(connection, deed, "category.made", category_id, name=written.name)


async def change(connection: Connection, category_id: UUID, written: Written, deed: Deed) -> None:
    """Another name, another place in the tree, shown or not."""
    await one_at_a_time(connection)
    found = await all_of(connection)
    _check(written, found, _one(found, category_id))
    await connection.execute(_SQL.change, {**msgspec.structs.asdict(written), "category_id": category_id})
    await note(connection, deed, "category.changed", category_id, name=written.name, visible=written.visible)


async def move(connection: Connection, category_id: UUID, by: int, deed: Deed) -> None:
    """So many places up (negative) or down among its sisters; not beyond the ends."""
    await one_at_a_time(connection)
    found = await all_of(connection)
    moved = _one(found, category_id)
    sisters = [one.category_id for one in found if one.parent_id == moved.parent_id]
    at = sisters.index(category_id)
    sisters.insert(max(0, min(len(sisters) - 1, at + by)), sisters.pop(at))
    await connection.execute(_SQL.order, {"categories": sisters, "positions": list(range(len(sisters)))})
    await note(connection, deed, "category.moved", category_id, name=moved.name)


async def remove(connection: Connection, category_id: UUID, deed: Deed) -> None:
    """Take a category away; its products stay in the shop. Refused while others stand below it."""
    await one_at_a_time(connection)
    found = await all_of(connection)
    gone = _one(found, category_id)
    if any(one.parent_id == category_id for one in found):
        raise Refused(
            "category.has_below",
            f"There are categories below {gone.name!r}.",
            "Move or remove them first.",
            name=gone.name,
        )
    await connection.execute(_SQL.empty, {"category_id": category_id})
    await connection.execute(_SQL.remove, {"category_id": category_id})
    await note(connection, deed, "category.removed", category_id, name=gone.name, products=gone.products)


async def of_path(connection: Connection, path: Sequence[str], deed: Deed) -> UUID:
    """The category that these names (`plain_step`) lead to, the outer one first; made where it is not there yet."""
    if len(path) > 2:
        raise Refused("category.deep", f"{' > '.join(path)!r} has more than two levels.", "Write two at most.")
    found = await all_of(connection)
    parent: UUID | None = None
    for name in map(plain_step, path):
        here = next(
            (one.category_id for one in found if one.parent_id == parent and plain_step(one.name) == name), None
        )
        if here is None:
            here = new_id()
            await add(connection, here, Written(name, parent_id=parent), deed)
        parent = here
    if parent is None:
        raise Refused("category.name", "The category has no name.", "Give it one.")
    return parent


def _check(written: Written, found: Sequence[Category], itself: Category | None) -> None:
    if not 0 < len(written.name) <= 40 or len(written.name_en) > 60:
        raise Refused("category.name", "A category's name has 1 to 40 characters.", "Write a shorter one.")
    if written.parent_id is None:
        return
    parent = next((one for one in found if one.category_id == written.parent_id), None)
    if parent is None:
        raise Refused("category.unknown", "The shop has no such category.", "Reload the page.")
    below_itself = itself and any(one.parent_id == itself.category_id for one in found)
    if parent.parent_id is not None or parent is itself or below_itself:
        raise Refused(
            "category.level",
            "Categories have two levels, and none stands below itself.",
            "Choose one of the first level.",
        )


def _one(found: Sequence[Category], category_id: UUID) -> Category:
    for one in found:
        if one.category_id == category_id:
            return one
    raise Refused("category.unknown", "The shop has no such category.", "Reload the page.")


def _is_top(one: Category, found: Sequence[Category]) -> bool:
    parent = next((other for other in found if other.category_id == one.parent_id), None)
    return parent is None or parent.parent_id is not None
