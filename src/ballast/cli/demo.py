"""`ballast demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ballast.cli.output import out
from ballast.demo.wanted import How, Victim, Wanted

_DEFAULT = Wanted()


def demo(
    shops: Annotated[int, typer.Option("--shops", min=1, max=100_000, help="How many.")] = _DEFAULT.shops,
    how: Annotated[
        How,
        typer.Option(
            "--how",
            help="What the engineer does: `rows`, `files`, or `both`, two seconds apart; or `changes`: he takes nothing away, and"
            " prices, addresses and stock of every third shop are wrong.",
        ),
    ] = _DEFAULT.how,
    seed: Annotated[int, typer.Option("--seed", min=1, help="Of all chances: the same one repeats a run.")] = 1,
    before: Annotated[
        float, typer.Option("--before", min=5, help="Seconds that shoppers come before the loss.")
    ] = _DEFAULT.before_s,
    after: Annotated[
        float, typer.Option("--after", min=0, help="Seconds that they go on coming when all shops are home.")
    ] = _DEFAULT.after_s,
    orders: Annotated[float, typer.Option("--orders", min=0.1, help="Orders a second.")] = _DEFAULT.orders_per_s,
    views: Annotated[
        float, typer.Option("--views", min=0, help="Page views a second, those on the way to an order included.")
    ] = _DEFAULT.views_per_s,
    kill: Annotated[
        list[Victim] | None,
        typer.Option(
            "--kill",
            help="SIGKILL to one of these at a random moment shortly before or after the loss; what is about speed is then shown"
            " and not judged. May be given several times.",
            show_default=False,
        ),
    ] = None,
    kills: Annotated[int, typer.Option("--kills", min=1, help="How many are killed, where any are.")] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65534,
            help="Of the shops' pages; the payment provider has the next one. Default: 8000, or one that is free",
            show_default=False,
        ),
    ] = None,
    patience: Annotated[
        float,
        typer.Option("--patience", min=1, help="Seconds after which shops that are not back are taken for lost."),
    ] = _DEFAULT.patience_s,
    report: Annotated[Path, typer.Option("--report", help="The report, as a page for a browser.")] = _DEFAULT.report,
    json: Annotated[
        Path | None, typer.Option("--json", help="What became of each promise, for programs.", show_default=False)
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform's folder, for a look at it.")] = False,
) -> None:
    """Replay the loss of a whole platform: shops, live shoppers, the database destroyed, and every promise counted afterwards.

    A platform of seeded shops runs in a folder of its own, with shoppers who browse, order and pay, and merchants who edit. Then
    every row is deleted and the server removed. The report tells what became of each order that was acknowledged, how long shops
    were closed, and how fast they came back. Exit code 1 when a promise was broken. Takes about three minutes; nothing is left.

    [bold]Examples[/bold]

      ballast demo

      ballast demo --shops 50 --how rows --report /tmp/replay.html

      ballast demo --kill sentinel --kill restorer --kills 3 --seed 7
    """
    from ballast.demo import replay
    from ballast.demo.report import document, page, terminal
    from ballast.demo.screen import Screen

    wanted = Wanted(
        shops=shops, how=how, seed=seed, before_s=before, after_s=after, orders_per_s=orders, views_per_s=views,
        kill=tuple(kill or ()), kills=kills, port=port, patience_s=patience,
        report=report, keep=keep,
    )  # fmt: skip
    outcome = replay.run(wanted, Screen(out))
    judged = terminal.show(outcome, out)
    page.write(outcome, wanted.report)
    if json is not None:
        json.write_bytes(document.of(outcome))
    out.print(f"report: {wanted.report}", markup=False)
    if not judged:
        raise typer.Exit(1)
