"""What a replay shows while it runs: on a terminal a live picture, into a file or pipe plain lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ballast.continuity.course import Course
from ballast.demo.visits import Pulse
from ballast.demo.watching import ORDER, Log, Moment
from ballast.demo.words import MOMENTS
from ballast.supervise import Note

_SPARKS = " ▁▂▃▄▅▆▇█"
_SPAN_S = 45
_PLAIN_EVERY_S = 5
_COURSE = {
    "home": "shops are at home",
    "launching": "the lifeboat is launched",
    "afloat": "shops are in the lifeboat; the new server is prepared",
    "returning": "shops come home",
}
_COLOUR = {"ready": "green", "done": "green", "starting": "yellow", "waiting": "yellow", "resting": "red"}


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How it is just now."""

    at: float
    pulse: Pulse
    shut: int
    inside: int
    orders: int
    note: Note | None
    course: Course
    log: Log
    shops: int
    base: str


class Screen:
    """Shows it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_live = console.is_terminal
        self.every_s: float = 0.5 if self._is_live else _PLAIN_EVERY_S
        self._live: Live | None = None
        self._begun = time.monotonic()
        self._progress = ""

    def tell(self, what: str, *, bad: bool = False) -> None:
        """Something happens."""
        stamp = datetime.now().strftime("%H:%M:%S")
        self._console.print(Text.assemble((f"{stamp} ", "dim"), (what, "bold red" if bad else "")))

    def progress(self, what: str) -> None:
        """How far something is that takes a while; said when it changes, and not too often."""
        if what != self._progress and time.monotonic() - self._begun >= 5.0:
            self._progress, self._begun = what, time.monotonic()
            self.tell(f"  {what}")

    def moment(self, moment: Moment, log: Log) -> None:
        """One of the moments that the replay waits for."""
        since = log.since_loss(moment)
        after = f": {since:.2f} s after the {'loss' if 'lost' in log.at else 'deed'}" if since else ""
        self.tell(f"{MOMENTS[moment][1]}{after}", bad=moment in ("lost", "changed"))

    def show(self, state: State) -> None:
        """As it is now."""
        if not self._is_live:
            self.tell(_line(state))
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(_picture(state), refresh=True)

    def close(self) -> None:
        """Nothing is shown any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def _line(state: State) -> str:
    views = sum(state.pulse.done("view", state.at, _PLAIN_EVERY_S)) / _PLAIN_EVERY_S
    orders = sum(state.pulse.done("order", state.at, _PLAIN_EVERY_S)) / _PLAIN_EVERY_S
    wrong = sum(state.pulse.wrong(state.at, _PLAIN_EVERY_S))
    return (
        f"  {state.shops - state.shut} of {state.shops} shops open, {views:.0f} views/s, {orders:.1f} orders/s,"
        f" {wrong} errors, {state.inside} inside; {_COURSE[state.course.mode]}{_home(state)}"
    )


def _home(state: State) -> str:
    return f" ({len(state.course.back)} of {state.shops})" if state.course.mode == "returning" else ""


def _picture(state: State) -> Panel:
    orders, views = state.pulse.done("order", state.at, _SPAN_S), state.pulse.done("view", state.at, _SPAN_S)
    wrong = state.pulse.wrong(state.at, _SPAN_S)
    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    open_ = state.shops - state.shut
    rows.add_row("shops open", Text(f"{open_} of {state.shops}", "green" if not state.shut else "red"), "")
    for name, counts, colour in (
        ("orders a second", orders, "cyan"), ("views a second", views, "cyan"), ("errors a second", wrong, "red"),
    ):  # fmt: skip
        rows.add_row(name, f"{sum(counts[-5:]) / 5:.1f}", Text(sparks(counts), colour))
    rows.add_row("orders taken", f"{state.orders:,}", f"{state.inside} shoppers inside")
    now = Text(f"{_COURSE[state.course.mode]}{_home(state)}", "bold")
    return Panel(
        Group(rows, now, Text(), _parts(state.note), Text(), _timeline(state.log)),
        title="the replay of 23 February 2020",
        subtitle=state.base,
    )


def _parts(note: Note | None) -> Text:
    text = Text()
    for part in note.parts if note else ():
        again = f" ×{part.restarts}" if part.restarts else ""
        text.append(f"● {part.name}{again}   ", _COLOUR.get(part.phase, "dim"))
    return text


def _timeline(log: Log) -> Table:
    table = Table.grid(padding=(0, 2))
    for moment in sorted(log.at, key=lambda one: (log.at[one], ORDER.index(one))):
        table.add_row(f"{log.since_loss(moment):7.2f} s", MOMENTS[moment][1])
    return table


def sparks(counts: Sequence[int]) -> str:
    """One character a number."""
    most = max(counts, default=0) or 1
    return "".join(_SPARKS[round(one / most * (len(_SPARKS) - 1))] for one in counts)
