"""The home page and the free pages (小程序官网) as they are edited: a draft of blocks, and what was published of it.

Every change names the version that its editor saw. Of two who change one page at once the second is told, and nobody's work is
lost unseen. Shoppers see what was published last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from ballast.mall import audit, pick
from ballast.mall.audit import By
from ballast.mall.db import Connection
from ballast.mall.ids import new_id
from ballast.mall.queries import load
from ballast.mall.rules import blocks
from ballast.mall.rules.blocks import AnyBlock
from ballast.mall.rules.refused import Refused

_SQL = load("pages")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?")
_PICTURE = re.compile(r"/pictures/([0-9a-f-]{36})/([0-9a-f]{64})")
MOST_BLOCKS = 60


class PageLine(msgspec.Struct, frozen=True):
    """A page in the list of them."""

    page_id: UUID
    slug: str
    """Empty: the home page."""
    title: str
    title_en: str
    in_menu: bool
    position: int
    version: int
    published_at: datetime | None
    updated_at: datetime
    is_published: bool
    has_changes: bool
    """The draft is not what is seen."""


class Draft(PageLine, frozen=True):
    """A page with its draft."""

    blocks: tuple[AnyBlock, ...]

    def block(self, block_id: UUID) -> AnyBlock:
        """One of them. Refused where it is not there (any more)."""
        for one in self.blocks:
            if one.id == block_id:
                return one
        raise Refused("page.no_block", f"The page has no block {block_id}.", "Reload the page.")


class About(msgspec.Struct, frozen=True):
    """What a page is called and where it stands."""

    title: str
    title_en: str = ""
    in_menu: bool = False
    position: int = 0


async def pages(connection: Connection) -> list[PageLine]:
    """The home page, then the others."""
    return msgspec.convert(await (await connection.execute(_SQL.all_of)).fetchall(), list[PageLine])


async def draft(connection: Connection, page_id: UUID) -> Draft:
    """A page as it is edited. Refused where the shop has none of this id. A draft that cannot be read is shown empty."""
    row: dict[str, Any] | None = await (await connection.execute(_SQL.one, {"page_id": page_id})).fetchone()
    if row is None:
        raise Refused("page.unknown", f"There is no page {page_id}.", "Look at the list.")
    written = row.pop("draft")
    try:
        read = blocks.page_from_json(written if written.startswith("{") else f'{{"blocks":{written}}}').blocks
    except Refused:
        read = ()
    return Draft(**row, blocks=read)


async def add(connection: Connection, shop_id: UUID, slug: str, about: About, by: By, now: datetime) -> UUID:
    """A new free page (or the home page, slug "", where a shop has none), not published; its id."""
    if slug and not _SLUG.fullmatch(slug):
        raise Refused("page.slug", f"{slug!r} cannot be a page's address.", "Take a to z, 0 to 9 and -.")
    _check(about)
    values = {**msgspec.structs.asdict(about), "page_id": new_id(), "slug": slug, "draft": '{"blocks":[]}', "now": now}
    row = await (await connection.execute(_SQL.add, values)).fetchone()
    if row is None:
        raise Refused("page.slug_taken", f"The shop has a page {slug!r}.", "Take another address.", slug=slug)
    await audit.note_in_shop(connection, by, "page.added", now, shop_id=shop_id, subject=slug)
    page_id: UUID = row["page_id"]
    return page_id


async def describe(
    connection: Connection, shop_id: UUID, page_id: UUID, version: int, about: About, by: By, now: datetime
) -> None:
    """Another title or place."""
    _check(about)
    values = {**msgspec.structs.asdict(about), "page_id": page_id, "version": version, "now": now}
    await _change(connection, _SQL.describe, values)
    await audit.note_in_shop(connection, by, "page.described", now, shop_id=shop_id, subject=about.title)


async def put_block(
    connection: Connection, shop_id: UUID, page_id: UUID, version: int, block: AnyBlock, by: By, now: datetime
) -> None:
    """A block in the place of the one of its id, or at the end. Its pictures must be the shop's own."""
    await _own_pictures(connection, shop_id, block)

    def changed(there: tuple[AnyBlock, ...]) -> Sequence[AnyBlock]:
        if any(one.id == block.id for one in there):
            return [block if one.id == block.id else one for one in there]
        return [*there, block]

    await _edit(connection, page_id, version, changed, now)
    await audit.note_in_shop(connection, by, "page.edited", now, shop_id=shop_id, subject=str(page_id))


async def remove_block(
    connection: Connection, shop_id: UUID, page_id: UUID, version: int, block_id: UUID, by: By, now: datetime
) -> None:
    """Without that block."""
    await _edit(connection, page_id, version, lambda there: [one for one in there if one.id != block_id], now)
    await audit.note_in_shop(connection, by, "page.edited", now, shop_id=shop_id, subject=str(page_id))


async def move_block(
    connection: Connection,
    shop_id: UUID,
    page_id: UUID,
    version: int,
    block_id: UUID,
    by_places: int,
    by: By,
    now: datetime,
) -> None:
    """A block so many places down (up where it is negative), to the end at most."""

    def changed(there: tuple[AnyBlock, ...]) -> Sequence[AnyBlock]:
        order = [one.id for one in there]
        if block_id not in order:
            raise Refused("page.no_block", f"The page has no block {block_id}.", "Reload the page.")
        others = [one for one in there if one.id != block_id]
        place = min(max(0, order.index(block_id) + by_places), len(others))
        return [*others[:place], there[order.index(block_id)], *others[place:]]

    await _edit(connection, page_id, version, changed, now)
    await audit.note_in_shop(connection, by, "page.edited", now, shop_id=shop_id, subject=str(page_id))


async def order_blocks(
    connection: Connection, shop_id: UUID, page_id: UUID, version: int, order: Sequence[UUID], by: By, now: datetime
) -> None:
    """The same blocks in another order. Refused where it names others, or not all."""

    def changed(there: tuple[AnyBlock, ...]) -> Sequence[AnyBlock]:
        known = {one.id: one for one in there}
        if sorted(known) != sorted(order):
            raise Refused("page.changed", "The page's blocks are others by now.", "Reload the page.")
        return [known[one] for one in order]

    await _edit(connection, page_id, version, changed, now)
    await audit.note_in_shop(connection, by, "page.edited", now, shop_id=shop_id, subject=str(page_id))


async def publish(connection: Connection, shop_id: UUID, page_id: UUID, version: int, by: By, now: datetime) -> None:
    """What is seen is the draft, if it is still the one that its editor saw."""
    await _change(connection, _SQL.publish, {"page_id": page_id, "version": version, "now": now})
    await audit.note_in_shop(connection, by, "page.published", now, shop_id=shop_id, subject=str(page_id))


async def hide(connection: Connection, shop_id: UUID, page_id: UUID, version: int, by: By, now: datetime) -> None:
    """A free page is not seen any more. The home page stays."""
    await _change(connection, _SQL.hide, {"page_id": page_id, "version": version, "now": now})
    await audit.note_in_shop(connection, by, "page.hidden", now, shop_id=shop_id, subject=str(page_id))


async def remove(connection: Connection, shop_id: UUID, page_id: UUID, version: int, by: By, now: datetime) -> None:
    """A free page is gone, draft and all. The home page stays."""
    row = await _change(connection, _SQL.remove, {"page_id": page_id, "version": version})
    await audit.note_in_shop(connection, by, "page.removed", now, shop_id=shop_id, subject=row["title"])


async def _edit(
    connection: Connection,
    page_id: UUID,
    version: int,
    change: Callable[[tuple[AnyBlock, ...]], Sequence[AnyBlock]],
    now: datetime,
) -> None:
    there = await draft(connection, page_id)
    if there.version != version:
        raise _changed()
    made = tuple(change(there.blocks))
    if len(made) > MOST_BLOCKS:
        raise Refused("page.most", f"A page has at most {MOST_BLOCKS} blocks.", "Remove some.", most=MOST_BLOCKS)
    written = blocks.page_to_json(blocks.Page(made))
    blocks.page_from_json(written)  # what is kept can be read: it is not too large
    await _change(
        connection, _SQL.write, {"page_id": page_id, "version": version, "draft": written.decode(), "now": now}
    )


async def _change(connection: Connection, statement: str, values: dict[str, object]) -> dict[str, Any]:
    row: dict[str, Any] | None = await (await connection.execute(statement.encode(), values)).fetchone()
    if row is None:
        await draft(connection, values["page_id"])  # type: ignore[arg-type]
        raise _changed()
    return row


async def _own_pictures(connection: Connection, shop_id: UUID, block: AnyBlock) -> None:
    names = []
    for url in _pictures_in(block):
        found = _PICTURE.fullmatch(url)
        if not found or found[1] != str(shop_id):
            raise Refused("page.picture", f"{url[:100]!r} is no picture of this shop.", "Choose one of the list.")
        names.append(found[2])
    if await pick.missing_pictures(connection, names):
        raise Refused("page.picture", "A picture is not there.", "Choose one of the list.")


def _pictures_in(block: AnyBlock) -> Iterator[str]:
    match block:
        case blocks.Banner():
            yield from (one.picture for one in block.slides)
        case blocks.Grid():
            yield from (one.picture for one in block.cells)
        case blocks.Picture():
            yield block.slide.picture
        case blocks.VideoLink() if block.poster:
            yield block.poster
        case _:
            return


def _changed() -> Refused:
    return Refused("page.changed", "Somebody else has changed the page meanwhile.", "Reload it, and change it again.")


def _check(about: About) -> None:
    if not 1 <= len(about.title) <= 60 or len(about.title_en) > 60:
        raise Refused("page.title", "A page's title has 1 to 60 characters.")
    if abs(about.position) > 10_000:
        raise Refused("page.title", "A page's place is a number up to 10000.")
