"""`ballast mall …`: data into the mall, and orders that came about by data that was wrong."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import psycopg
import typer
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from ballast.cli import options
from ballast.cli.output import err, out, show_json, show_table
from ballast.errors import ConfigError
from ballast.mall import imports
from ballast.mall.db import Database
from ballast.mall.settings import Settings
from ballast.up.platform import mall_settings

_TIMES = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]
SOME_BAD = 3
"""The exit code of an import that has brought all but some bad lines."""
group = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", help="The mall: bring data in, make plausible shops, review orders."
)


class Kind(StrEnum):
    """Of which file a template is wanted."""

    SHOPS = "shops"
    PRODUCTS = "products"
    ORDERS = "orders"


def _file(option: str, what: str) -> typer.models.OptionInfo:
    found: typer.models.OptionInfo = typer.Option(
        option, help=what, exists=True, dir_okay=False, readable=True, show_default=False
    )
    return found


@group.command("import")
def bring(
    shops: Annotated[Path | None, _file("--shops", "Shops to be opened (CSV).")] = None,
    products: Annotated[Path | None, _file("--products", "Their products with SKUs and stock (CSV).")] = None,
    orders: Annotated[Path | None, _file("--orders", "The orders that they have had (CSV).")] = None,
    bad: Annotated[
        Path, typer.Option("--bad", help="Lines that could not be brought, with number and reason, go there.")
    ] = Path("bad-lines.csv"),
    invitations: Annotated[
        Path, typer.Option("--invitations", help="Links for owners who have no account yet are added to that file.")
    ] = Path("invitations.tsv"),
    template: Annotated[
        Kind | None,
        typer.Option("--template", help="Print such a file with an example line, and do nothing.", show_default=False),
    ] = None,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    as_json: options.Json = False,
) -> None:
    """Bring shops, products and past orders into the mall.

    What is there already is left as it is: interrupted, the same command goes on where it stopped. A product or an order is
    brought whole or not at all. Exit code 0: all is in. 3: all but the bad lines, which are in the file of --bad; mend them in
    the original and run it again. 1: it was broken off; run it again.

    [bold]Examples[/bold]

      ballast mall import --template orders > orders.csv

      ballast mall import --shops shops.csv --products products.csv --orders orders.csv --bad bad.csv
    """
    if template is not None:
        sys.stdout.buffer.write(imports.template(template.value))
        sys.stdout.buffer.flush()
        return
    files = imports.Files(shops, products, orders)
    named: dict[imports.Kind, Path] = {kind: path for kind in imports.COLUMNS if (path := getattr(files, kind))}
    if not named:
        raise ConfigError("Nothing to bring was named.", "Give --shops, --products or --orders.")
    mall = _settings(config)
    with _bars(named, quiet=as_json or not err.is_terminal) as watch:
        result = asyncio.run(_bring(mall, files, bad, invitations, watch))
    if as_json:
        show_json(result)
    else:
        _show(result, list(named), bad, invitations)
    if result.bad:
        raise typer.Exit(SOME_BAD)


@group.command("seed")
def plant(
    shops: Annotated[int, typer.Option("--shops", min=1, max=1_000_000, help="How many shops.")] = 10,
    orders: Annotated[
        int,
        typer.Option("--orders", min=0, max=1_000_000, help="How many orders each has had in the last ninety days."),
    ] = 50,
    products: Annotated[int, typer.Option("--products", min=1, max=100_000, help="How many products each sells.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=1, help="Another one makes other shops beside these.")] = 1,
    pictures: Annotated[
        int, typer.Option("--pictures", min=0, help="So many of the shops get pictures, from the first on.")
    ] = 20,
    password: Annotated[
        str | None,
        typer.Option(
            "--password",
            envvar="BALLAST_MALL_SEED_PASSWORD",
            help="Of the merchant's account and the demo customers. Default: one is made up and shown once.",
            show_default=False,
        ),
    ] = None,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    as_json: options.Json = False,
) -> None:
    """Make plausible shops: goods, prices, promotions, customers, ninety days of orders. For trying out, never beside real ones.

    The same call makes the same shops, and a shop that is there is left as it is: interrupted, run it again.

    [bold]Example[/bold]

      ballast mall seed --shops 100 --orders 50 --products 40
    """
    from ballast.mall import seed as seeding

    mall = _settings(config)
    columns = (
        TextColumn("shops"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeft(),
    )
    with Progress(*columns, console=err, disable=as_json or not err.is_terminal) as progress:
        task = progress.add_task("shops", total=shops)
        seeded = seeding.seed(
            mall,
            shops=shops,
            orders=orders,
            products=products,
            seed=seed,
            pictures=pictures,
            password=password,
            watch=lambda done: progress.update(task, completed=done),
        )
    if as_json:
        show_json(msgspec.structs.asdict(seeded))
        return
    out.print(f"{seeded.shops:,} shops made, {seeded.there:,} were there; {seeded.rows:,} rows")
    first = seeded.slugs[0]
    out.print(f"a shop: {mall.base_url.rstrip('/')}/s/{first}/   its merchant: {mall.base_url.rstrip('/')}/merchant")
    if seeded.password is None:
        out.print(f"sign in as {seeded.login}; its password is the one of the first run")
    else:
        out.print(f"sign in as {seeded.login} (merchant) or, in a shop, {seeded.phone} (customer)", markup=False)
        out.print(f"password of both: {seeded.password}", markup=False)


@group.command("review")
def review(
    transaction: Annotated[
        list[str],
        typer.Option(
            "--transaction",
            help="What was undone (number or position); several times: all of them.",
            show_default=False,
        ),
    ],
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", help="Only this shop (its id); several times.", show_default=False)
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", help="When it was undone. Default: now.", formats=_TIMES, show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the orders.")] = False,
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    as_json: options.Json = False,
) -> None:
    """After `ballast undo`: orders that came about by what was wrong become exceptions, for their shops to decide.

    Orders at a price that was wrong, by a promotion's terms that were, to an address that was swapped, and parcels that left for
    one. Shops see them under Exceptions: let it stand, put the address right, give the money back. Run again, it adds what is
    new. Exit code 1: some prices still are as they were set wrong, so that more such orders may come.

    [bold]Example[/bold]

      ballast mall review --transaction 81734 --transaction 81740
    """
    from ballast.cli import reviewing

    mall = _settings(config)
    vault = reviewing.of_settings(config)
    found = asyncio.run(reviewing.review(vault, mall, transaction, tenant, until, dry_run=dry_run))
    if as_json:
        show_json(found)
    else:
        reviewing.show(found, dry_run=dry_run, base_url=mall.base_url)
    if any(shop.still_wrong for shop in found):
        raise typer.Exit(1)


def _settings(config: Path) -> Settings:
    found = mall_settings(config)
    # The pools would try for some time and then say that they are busy.
    psycopg.connect(found.app_dsn, connect_timeout=5).close()
    return found


async def _bring(
    mall: Settings, files: imports.Files, bad: Path, invitations: Path, watch: imports.Watch
) -> imports.Imported:
    db = Database(mall)
    await db.open()
    try:
        return await imports.run(db, files, bad=bad, invitations=invitations, base_url=mall.base_url, watch=watch)
    finally:
        await db.close()


@contextmanager
def _bars(files: dict[imports.Kind, Path], *, quiet: bool) -> Iterator[imports.Watch]:
    """A bar a file, by its bytes."""
    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeLeft(),
    )
    with Progress(*columns, console=err, disable=quiet) as progress:
        tasks = {kind: progress.add_task(kind, total=path.stat().st_size) for kind, path in files.items()}
        yield lambda kind, done: progress.update(tasks[kind], completed=done)


def _show(result: imports.Imported, kinds: list[str], bad: Path, invitations: Path) -> None:
    counts = {kind: count for kind, count in msgspec.structs.asdict(result).items() if kind in kinds}
    show_table(
        "",
        ("file", "lines", "brought", "already there", "bad lines"),
        [
            (kind, f"{one.lines:,}", f"{one.brought:,}", f"{one.there:,}", f"{one.bad:,}")
            for kind, one in counts.items()
        ],
    )
    if result.invited:
        out.print(f"{result.invited:,} owners are invited: send them their links of {invitations}", markup=False)
    if result.bad:
        out.print(f"{result.bad:,} bad lines: see {bad}, mend them in the original, run it again", markup=False)
