"""`ballast up`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ballast.cli import options
from ballast.cli.output import err, out, show_json, show_table
from ballast.supervise import Note, look

_COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")


def up(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            envvar="BALLAST_CONFIG",
            show_default=False,
            help="The settings. Default: ballast.toml here, or in the folder that --folder names. Made when there are none.",
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            show_default=False,
            help="Where everything is kept: server, vault, pictures, logs. Default: ballast-data beside the settings.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at. Default: 127.0.0.1", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="Of the web pages. Default: 8000", show_default=False)
    ] = None,
    sandbox_port: Annotated[
        int | None,
        typer.Option(
            "--sandbox-port", help="Of the sandbox payment provider; 0: none. Default: 8001", show_default=False
        ),
    ] = None,
    seed_shops: Annotated[
        int,
        typer.Option(
            "--seed-shops", min=0, help="Make so many plausible shops, once, to look at. Never beside real ones."
        ),
    ] = 0,
    seed_orders: Annotated[int, typer.Option("--seed-orders", min=0, help="Orders that each of them has had.")] = 100,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all that the parts say.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Tell how a platform that runs is; start nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Run the whole platform: database server, recorder, web pages, worker, sandbox payment provider.

    The first time all is set up and protected; a link for the first operator is printed. A part that dies is started again.
    Ctrl-C (SIGTERM) stops everything in order, a second one at once. Settings: \\[up], \\[mall] and the vault's own keys in
    ballast.toml, or BALLAST_UP_…, BALLAST_MALL_…, BALLAST_DSN and BALLAST_VAULT in the environment.

    [bold]Examples[/bold]

      ballast up

      ballast up --folder /srv/mall --host 0.0.0.0 --port 80

      ballast up --status
    """
    from ballast.up import platform as platforms

    if status:
        show_status(platforms.places(config, folder)[1], as_json=as_json)
        return
    from ballast.up.demo import Shops
    from ballast.up.run import run

    said = {"host": host, "port": port, "sandbox_port": sandbox_port}
    shops = Shops(seed_shops, seed_orders) if seed_shops else None
    code = run(platforms.resolve(config, folder, said), Shown(), shops=shops, everything=verbose)
    if code:
        raise typer.Exit(code)


class Shown:
    """Shows lines with the time and whose they are."""

    def __init__(self) -> None:
        self._colours: dict[str, str] = {"up": "bold"}

    def __call__(self, who: str, text: str, bad: bool) -> None:
        colour = self._colours.setdefault(who, _COLOURS[(len(self._colours) - 1) % len(_COLOURS)])
        if who == "up" and (not text or text.startswith("  ")):  # a table
            out.print(Text(text))
            return
        stamp = datetime.now().strftime("%H:%M:%S")
        line = Text.assemble((f"{stamp} ", "dim"), (f"{who:<9}", colour), (text, "red" if bad else ""))
        out.print(line)


def show_status(folder: Path, *, as_json: bool) -> None:
    """How the platform in this folder is. Exit code 0: all parts are there; 1: not."""
    found = look(folder)
    if as_json:
        show_json(
            {
                "folder": folder,
                "running": found is not None,
                "all_up": found is not None and found.all_up,
                "platform": found,
            }
        )
    elif found is None:
        err.print(f"nothing runs on the folder {folder}: `ballast up` starts it", markup=False)
    else:
        _show(found)
    if found is None or not found.all_up:
        raise typer.Exit(1)


def _show(found: Note) -> None:
    state = "stopping" if found.stopping else "all parts are up" if found.all_up else "not all parts are up"
    out.print(f"{state}; process {found.pid}, since {found.since}")
    show_table(
        "",
        ("part", "state", "since", "process", "started again", "ended before", "log"),
        [
            (p.name, p.phase, p.since, p.pid or "", p.restarts or "", p.ended if p.restarts else "", p.log)
            for p in found.parts
        ],
    )
