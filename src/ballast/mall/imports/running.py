"""A whole run: shops first, then products, then orders, each file from its beginning to its end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec

from ballast.mall import queries
from ballast.mall.db import Database
from ballast.mall.imports import bringing, shops
from ballast.mall.imports.columns import Kind
from ballast.mall.imports.grouping import Group, groups
from ballast.mall.imports.reading import Line, lines
from ballast.mall.imports.report import Bad, Count
from ballast.mall.rules.refused import Refused

_SQL = queries.load("imports")
_LINES_AT_ONCE = 2_000
"""Held in memory at most, of all shops together; as many lines as one transaction writes."""

Watch = Callable[[Kind, int], None]
"""Is told how many bytes of a file are done."""


class Files(msgspec.Struct, frozen=True):
    """What is to be brought; None: nothing of the kind."""

    shops: Path | None = None
    products: Path | None = None
    orders: Path | None = None


class Imported(msgspec.Struct, frozen=True):
    """What became of the files. `invited`: owners that were invited by links in the invitations' file."""

    shops: Count
    products: Count
    orders: Count
    invited: int

    @property
    def bad(self) -> int:
        """Bad lines of all files."""
        return self.shops.bad + self.products.bad + self.orders.bad


async def run(
    db: Database,
    files: Files,
    *,
    bad: Path,
    invitations: Path,
    base_url: str,
    now: datetime | None = None,
    watch: Watch = lambda kind, done: None,
) -> Imported:
    """Bring what the files hold.

    Args:
        bad: bad lines are written there, if there are any.
        invitations: links for owners without an account are added there; only its owner may read it.
        base_url: of those links.

    Raises:
        UnreadableFile: a file is not what it should be; nothing of it was brought.
        psycopg.OperationalError: the database went away: what was committed stays, run it again.
    """
    now = now or datetime.now(UTC)
    counts = {kind: Count() for kind in ("shops", "products", "orders")}
    with Bad(bad) as report:
        invited = 0
        if files.shops:
            invited = await _shops(
                db, files.shops, counts["shops"], report, _Invitations(invitations, base_url), now, watch
            )
        if files.products:
            await _grouped(
                db, files.products, "products", bringing.bring_products, counts["products"], report, now, watch
            )
        if files.orders:
            await _grouped(db, files.orders, "orders", bringing.bring_orders, counts["orders"], report, now, watch)
    return Imported(counts["shops"], counts["products"], counts["orders"], invited)


class _Invitations:
    """Links that are shown once: what the database keeps of them is a hash."""

    def __init__(self, path: Path, base_url: str) -> None:
        self._path = path
        self._base = base_url.rstrip("/")

    def add(self, slug: str, login: str, token: str) -> None:
        """Durable before the shop is: a link that is not there when its shop is would be lost."""
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(opened, f"{slug}\t{login}\t{self._base}/link/{token}\n".encode())
            os.fsync(opened)
        finally:
            os.close(opened)


async def _shops(
    db: Database, path: Path, count: Count, report: Bad, invitations: _Invitations, now: datetime, watch: Watch
) -> int:
    invited = 0
    for line in lines(path, "shops"):
        count.lines += 1
        slug = line.cells.get("shop", "")
        try:
            if line.wrong:
                raise Refused("import.line", line.wrong)
            opening, login = shops.read(line.cells, now)
            async with db.platform() as connection:
                token = await shops.bring(connection, opening, login, now)
                if token:
                    invitations.add(opening.slug, login, token)
            if token is None:
                count.there += 1
            else:
                count.brought += 1
                invited += bool(token)
        except Refused as error:
            count.bad += 1
            report.note("shops", [line.number], slug, str(error))
        watch("shops", line.at_bytes)
    return invited


async def _grouped(
    db: Database,
    path: Path,
    kind: Kind,
    work: bringing.Bring,
    count: Count,
    report: Bad,
    now: datetime,
    watch: Watch,
) -> None:
    ids: dict[str, UUID | None] = {}
    for batch in _batches(groups(_counted(lines(path, kind), count), kind)):
        await _resolve(db, ids, {slug for slug in batch if slug not in ids})
        for slug, of_shop in batch.items():
            shop_id = ids[slug]
            good = [group for group in of_shop if group.wrong is None] if shop_id else []
            for group in of_shop:
                if group.wrong is not None:
                    number, reason = group.wrong
                    _refuse(
                        report, kind, count, group, reason if [number] == group.numbers else f"Line {number}: {reason}"
                    )
                elif shop_id is None:
                    _refuse(report, kind, count, group, f"There is no shop {slug!r}. Bring it first, with --shops.")
            if shop_id and good:
                done = await bringing.bring(db, work, shop_id, good, now)
                count.brought += done.brought
                count.there += done.there
                for group, reason in done.bad:
                    _refuse(report, kind, count, group, reason)
        watch(kind, max(group.lines[-1].at_bytes for of_shop in batch.values() for group in of_shop))


def _batches(found: Iterator[Group]) -> Iterator[dict[str, list[Group]]]:
    """Groups by shop, as many as are held at once."""
    held: dict[str, list[Group]] = {}
    size = 0
    for group in found:
        held.setdefault(group.shop.lower(), []).append(group)
        size += len(group.lines)
        if size >= _LINES_AT_ONCE:
            yield held
            held, size = {}, 0
    if held:
        yield held


def _counted(found: Iterator[Line], count: Count) -> Iterator[Line]:
    for line in found:
        count.lines += 1
        yield line


async def _resolve(db: Database, ids: dict[str, UUID | None], wanted: set[str]) -> None:
    if not wanted:
        return
    async with db.directory() as connection:
        cursor = await connection.execute(_SQL.shops, {"slugs": list(wanted)})
        found = {row["slug"]: row["shop_id"] for row in await cursor.fetchall()}
    ids |= {slug: found.get(slug) for slug in wanted}


def _refuse(report: Bad, kind: Kind, count: Count, group: Group, reason: str) -> None:
    count.bad += len(group.lines)
    report.note(kind, group.numbers, group.code or group.shop, reason)
