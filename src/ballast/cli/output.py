"""How commands show results and errors: tables and bars for people, one JSON document for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ballast.errors import BallastError

_UNWRAPPED = 1000


def _console(stream: TextIO) -> Console:
    """Into files, pipes and mails nothing is cut or wrapped: what is cut is always what mattered."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else _UNWRAPPED
    return Console(stderr=stream is sys.stderr, highlight=False, soft_wrap=True, width=width)


out = _console(sys.stdout)
err = _console(sys.stderr)


def show_json(document: Any) -> None:
    """Prints one JSON document, and nothing else, on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2).decode() + "\n")


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table; every cell is text as it is, never markup."""
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    out.print(table)


def show_error(error: BallastError, *, as_json: bool) -> None:
    """What happened, to what, and what to do next."""
    if as_json:
        show_json({"error": type(error).__name__, "what": error.what, "do": error.do})
        return
    err.print(Text.assemble(("error: ", "bold red"), error.what))
    if error.do:
        err.print(Text.assemble(("  do: ", "bold"), error.do))


class Bars:
    """A `recovery.Watcher` that draws a bar a stage, with rate and time left; silent when not on a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("rows"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=err,
            disable=quiet,
            transient=False,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def begin(self, stage: str, rows: int) -> None:
        """A new stage of `rows` rows (0: not known)."""
        self._finish()
        self._task = self._progress.add_task(stage, total=rows or None, rate="")

    def advance(self, rows: int) -> None:
        """`rows` more are done."""
        if self._task is None:
            return
        self._progress.advance(self._task, rows)
        speed = self._progress.tasks[self._task].speed
        if speed:
            self._progress.update(self._task, rate=f"{speed:,.0f}/s")

    def describe(self, stage: str) -> None:
        """Other words for the stage under way."""
        if self._task is not None:
            self._progress.update(self._task, description=stage)

    def _finish(self) -> None:
        if self._task is not None:
            task = self._progress.tasks[self._task]
            self._progress.update(self._task, total=task.completed or 1, completed=task.completed or 1)
