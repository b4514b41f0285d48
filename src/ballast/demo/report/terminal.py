"""The report on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ballast.demo.outcome import Claim, Figures, Outcome, all_kept, claims, compared, figures
from ballast.demo.watching import ORDER
from ballast.demo.words import MOMENTS, claim, seconds


def show(outcome: Outcome, console: Console) -> bool:
    """All of it. Whether every promise was kept."""
    found, kept = figures(outcome), compared(outcome)
    judged = claims(outcome, found, kept)
    console.print()
    _timeline(outcome, console)
    console.print()
    table = _table()
    for name, value in _figures(outcome, found):
        table.add_row(name, value)
    console.print(table)
    console.print()
    _claims(judged, console)
    for one in kept.broken[:10] if kept else ():
        console.print(Text(f"  {one.what}", "red"))
    for sample in found.error_samples:
        console.print(Text(f"  {sample}", "red"))
    broken = [one for one in judged if one.kept is False]
    if broken:
        again = f"--seed {outcome.wanted.seed}"
        console.print(Text(f"{len(broken)} promises were broken ({again} repeats the run)", "bold red"), soft_wrap=True)
    else:
        console.print(Text("every promise was kept", "bold green"))
    return all_kept(judged)


def _timeline(outcome: Outcome, console: Console) -> None:
    table = _table()
    events = [(outcome.log.since_loss(moment), MOMENTS[moment][1]) for moment in ORDER]
    lost = outcome.log.begun or 0.0
    events += [(one.at - lost, f"SIGKILL to {one.victim}") for one in outcome.killed]
    for since, what in sorted((since, what) for since, what in events if since is not None):
        table.add_row(f"{since:7.2f} s", what)
    console.print(table)


def _figures(outcome: Outcome, found: Figures) -> list[tuple[str, str]]:
    end, (start, until) = outcome.end, found.incident
    merged = sum(end.merged.values()) if end else 0
    return [
        ("rows deleted", f"{outcome.deleted_rows:,}"),
        ("pages shown, in all", f"{found.views:,}"),
        ("orders taken while the database was away", f"{found.away_orders:,}"),
        (
            "  of them merged; in exception",
            f"{found.away_kept:,}; {found.away_excepted:,} ({merged:,} deeds were merged)",
        ),
        (
            "first page of a shop after the loss",
            f"p50 {_ms(found.first_visit_p50_s)}, p99 {_ms(found.first_visit_p99_s)} of {len(found.first_visits):,} shops",
        ),
        ("a page before the loss", f"p50 {_ms(found.view_p50_s)}, p99 {_ms(found.view_p99_s)}"),
        ("merchants' changes", f"{outcome.saved:,} saved, {outcome.refused:,} not possible just then"),
        ("the incident lasted", seconds(until - start, "en")),
        ("the replay lasted", f"{outcome.took_s:.0f} s"),
    ]


def _claims(judged: list[Claim], console: Console) -> None:
    table = _table()
    marks = {True: Text("kept", "green"), False: Text("BROKEN", "bold red"), None: Text("shown", "dim")}
    for one in judged:
        promised, seen = claim(one.name, one.seen, "en")
        table.add_row(marks[one.kept], promised, seen)
    console.print(table)


def _table() -> Table:
    return Table(show_header=False, box=None, pad_edge=False)


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value * 1e3:.0f} ms"
