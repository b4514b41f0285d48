"""The command line's entry: collects the commands and turns errors into messages and exit codes."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Annotated

import psycopg
import typer

from ballast import __version__
from ballast.cli.output import err, show_error
from ballast.cli.unforeseen import put_into_words
from ballast.errors import BallastError, UsageError
from ballast.vault.durable import keep_private

_COMMANDS = {
    "up": "up",
    "protect": "protect",
    "unprotect": "protect",
    "record": "record",
    "status": "status",
    "recover": "recover",
    "restore": "restore",
    "rewind": "rewind",
    "undo": "undo",
    "changes": "changes",
    "history": "history",
    "branches": "branch",
    "branch": "branch",
    "verify": "verify",
    "drill": "drill",
    "merge": "merge",
    "demo": "demo",
}
"""Each command, and the module whose function of that name it is."""
_GROUPS = {"mall": "mall"}
"""Each group of commands, and the module whose `group` it is."""


def commands(called: str | None = None) -> typer.Typer:
    """The command line. With the name of a command, only that one: loading the others is most of what a start costs."""
    app = typer.Typer(
        name="ballast",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Ballast keeps every committed change of a multi-tenant PostgreSQL database by tenant, "
        "so that any tenant, or all of them, comes back as of any moment.",
        epilog="A first tour: `ballast protect`, `ballast record`, `ballast status`, then `ballast restore`. "
        "Each command's --help has an example.",
    )
    app.callback()(common)
    wanted = {called} if called in _COMMANDS or called in _GROUPS else {*_COMMANDS, *_GROUPS}
    for name in (one for one in _COMMANDS if one in wanted):
        app.command(name)(getattr(import_module(f"ballast.cli.{_COMMANDS[name]}"), name))
    for name in (one for one in _GROUPS if one in wanted):
        app.add_typer(import_module(f"ballast.cli.{_GROUPS[name]}").group, name=name)
    return app


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ballast {__version__}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What holds for every command."""


def exit_code(error: BallastError) -> int:
    """2: a wrong call; 1: it was right, and what it asked for is not done."""
    return 2 if isinstance(error, UsageError) else 1


def main() -> None:
    """Runs the command line. Exit code 0: done; 1: not done, with a message; 2: a wrong call; 130: interrupted."""
    as_json = "--json" in sys.argv
    keep_private()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy has threads for linear algebra, of which there is none
    try:
        commands(sys.argv[1] if len(sys.argv) > 1 else None)()
    except BallastError as error:
        show_error(error, as_json=as_json)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        err.print("interrupted: what was committed stays, and the same command goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; Python must not complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (psycopg.Error, OSError) as error:
        show_error(put_into_words(error, sys.argv[1:]), as_json=as_json)
        sys.exit(1)
