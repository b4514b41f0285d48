"""What `ballast mall review` does: undone changes of the record, shop by shop, become questions about the orders of that time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
from rich.text import Text

from ballast.cli.output import out, show_table
from ballast.mall import queries
from ballast.mall import review as reviews
from ballast.mall.db import Database
from ballast.mall.rules.reviewing import Changed, Questioned
from ballast.mall.settings import Settings
from ballast.recovery.damage import Damage, damage
from ballast.vault import Vault
from ballast.vault import config as configuration

_SCHEMA = "mall."


class Reviewed(msgspec.Struct, frozen=True):
    """What was found in one shop."""

    shop_id: str
    slug: str
    """Its address; empty: there is no such shop any more."""
    orders: tuple[Questioned, ...]
    new: int
    """So many are exceptions only now."""
    still_wrong: int
    """Prices that are not put back."""


async def review(
    vault: Vault,
    mall: Settings,
    transactions: Sequence[str],
    tenants: Sequence[str] | None,
    until: datetime | None,
    *,
    dry_run: bool,
) -> tuple[Reviewed, ...]:
    """Look at each shop that the transactions changed and, unless `dry_run`, make its orders of that time exceptions."""
    done = damage(vault, transactions, tenants)
    now = datetime.now(UTC)
    end = until.astimezone() if until is not None else now
    db = Database(mall)
    await db.open()
    try:
        return tuple([await _shop(db, shop, done, end, now, dry_run=dry_run) for shop in _shops(done)])
    finally:
        await db.close()


def _shops(done: Damage) -> list[str]:
    return sorted({row.tenant for row in done.rows if row.tenant is not None and row.table.startswith(_SCHEMA)})


async def _shop(db: Database, shop: str, done: Damage, until: datetime, now: datetime, *, dry_run: bool) -> Reviewed:
    changed = [
        Changed(row.table.removeprefix(_SCHEMA), row.before, row.after) for row in done.rows if row.tenant == shop
    ]
    async with db.shop(UUID(shop)) as connection:
        known = await (await connection.execute(queries.load("review").slug)).fetchone()
        found = await reviews.look(connection, changed, since=done.since, until=until)
        wrong = await reviews.still_wrong(connection, changed)
        new = 0 if dry_run or known is None else await reviews.question(connection, found, done.transactions[0], now)
    return Reviewed(shop, known["slug"] if known else "", found, new, wrong)


def show(found: Sequence[Reviewed], *, dry_run: bool, base_url: str) -> None:
    """For people."""
    rows = [
        (one.slug or one.shop_id, order.number, ", ".join(order.causes), f"{order.short_fen / 100:,.2f}")
        for one in found
        for order in one.orders
    ]
    if rows:
        show_table("orders that came about by what was wrong", ("shop", "order", "causes", "too little, yuan"), rows)
    new = sum(one.new for one in found)
    out.print(
        f"{len(rows):,} orders in {sum(bool(one.orders) for one in found):,} of {len(found):,} shops"
        + (" (dry run: nothing was written)" if dry_run else f"; {new:,} are exceptions now that were none before")
    )
    if not dry_run:
        for one in found:
            if one.orders:
                out.print(f"  {base_url.rstrip('/')}/merchant/{one.slug}/exceptions", markup=False)
    if wrong := sum(one.still_wrong for one in found):
        out.print(
            Text(f"{wrong:,} prices still are as they were set wrong: undo that first, then run this again", "yellow")
        )


def of_settings(config: Path) -> Vault:
    """The vault that the settings name."""
    settings = configuration.load(config)
    return Vault.open(settings.vault, key=settings.key)
