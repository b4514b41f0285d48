"""The report as a page: one file, nothing beside it, Chinese and English, readable on a phone and on paper."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ballast import __version__
from ballast.demo import visits as of
from ballast.demo.outcome import Claim, Figures, Outcome, claims, compared, figures
from ballast.demo.report import plots
from ballast.demo.report.plots import Band, Plot
from ballast.demo.report.texts import PAGE, PEERS
from ballast.demo.watching import ORDER
from ballast.demo.words import MOMENTS, claim, seconds

_OVER_S = 5
"""Orders of so many seconds are shown together: a few a second make no line."""
_MOST_SAMPLES = 12


def write(outcome: Outcome, path: Path) -> None:
    """Into this file; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(outcome), encoding="utf-8")


def render(outcome: Outcome) -> str:
    """The page."""
    jinja = Environment(
        loader=PackageLoader("ballast.demo.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found, kept = figures(outcome), compared(outcome)
    judged = claims(outcome, found, kept)
    return jinja.get_template("page.html").render(
        t=PAGE,
        wanted=outcome.wanted,
        version=__version__,
        at=datetime.fromtimestamp(outcome.started_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=f"{os.cpu_count()} × {platform.machine()}, {platform.system()} {platform.release().partition('-')[0]}",
        took_s=outcome.took_s,
        broken=sum(1 for one in judged if one.kept is False),
        claims=[(one.kept, claim(one.name, one.seen, "zh"), claim(one.name, one.seen, "en")) for one in judged],
        cards=_cards(outcome, found, judged),
        timeline=_timeline(outcome),
        plots=_plots(outcome, found),
        figures=_figures(outcome, found),
        peers=_peers(outcome, found, judged),
        samples=[*(one.what for one in kept.broken)][:_MOST_SAMPLES] + list(found.error_samples) if kept else [],
        frame=plots,
    )


def _cards(outcome: Outcome, found: Figures, judged: list[Claim]) -> list[tuple[str, str, str, bool | None]]:
    """Name, figure, unit, whether it is as promised."""
    seen = {one.name: one for one in judged}

    def of_claim(name: str, key: str) -> tuple[str, bool | None]:
        one = seen.get(name)
        return ("–", False) if one is None else (f"{one.seen[key]:,}", one.kept)

    lost, doubled = of_claim("lost", "lost"), of_claim("doubled", "doubled")
    undone = "undone" in seen
    last = (
        [
            ("away", f"{found.away_orders:,}", "", None),
            ("first", _short(found.first_order_s), "s", seen["first_order"].kept),
            ("all", _short(outcome.log.since_loss("all_home")), "s", seen["all_home"].kept),
        ]
        if not undone
        else [
            ("cheap", of_claim("reviewed", "cheap")[0], "", None),
            ("found", _short(outcome.log.since_loss("found")), "s", None),
            ("undone", _short(outcome.log.since_loss("undone")), "s", seen["undone"].kept),
        ]
    )
    return [
        ("closed", f"{found.closed_minutes:.1f}".removesuffix(".0"), "min", seen["closed"].kept),
        ("lost", lost[0], "", lost[1]),
        ("doubled", doubled[0], "", doubled[1]),
        *last,
    ]


def _timeline(outcome: Outcome) -> list[tuple[str, str, str, str]]:
    """Seconds since the loss, kind, what in both languages."""
    lost = outcome.log.begun or 0.0
    events: list[tuple[float, str, str, str]] = []
    for moment in ORDER:
        since = outcome.log.since_loss(moment)
        if since is not None:
            kind = "bad" if moment in ("lost", "struck", "changed") else "good"
            events.append((since, kind, *MOMENTS[moment]))
    events += [(one.at - lost, "bad", f"SIGKILL：{one.victim}", f"SIGKILL to {one.victim}") for one in outcome.killed]
    return [(f"{since:.2f}", kind, zh, en) for since, kind, zh, en in sorted(events)]


def _plots(outcome: Outcome, found: Figures) -> list[Plot]:
    lost = outcome.until if outcome.log.begun is None else outcome.log.begun
    start, until = outcome.before[0], outcome.until
    x = plots.across(start - lost, until - lost)
    bands = _bands(outcome, x, until - lost)
    seen = outcome.visits
    middle = [start - lost + n + 0.5 for n in range(max(1, int(until - start)))]

    def counted(counts: list[float]) -> list[plots.Point]:
        return list(zip(middle, counts, strict=False))

    orders = [float(n) for n in of.per_second(seen, "order", start, until)]
    views = [float(n) for n in of.per_second(seen, "view", start, until)]
    wrong = [0.0] * len(middle)
    for one in of.errors(seen, (start, until)):
        wrong[min(len(wrong) - 1, int(one.at - start))] += 1
    y_orders = plots.upwards(1.05 * max([*orders, 1.0]))
    y_views = plots.upwards(1.05 * max([*views, *wrong, 1.0]))
    home = sorted(at - lost for at in outcome.log.home_since.values())
    all_home = outcome.log.since_loss("all_home")
    back: list[plots.Point] = [(0.0, 0.0), *((at, float(n)) for n, at in enumerate(home, 1))]
    if all_home is not None:
        back.append((all_home, float(outcome.wanted.shops)))
    back.append((max(until - lost, back[-1][0]), back[-1][1]))
    y_back = plots.upwards(float(outcome.wanted.shops))
    took = [(at, max(1.0, s * 1e3)) for at, s in found.first_visits]
    y_took = plots.upwards(max([s for _, s in took] or [100.0]), min([s for _, s in took] or [10.0]), log=True)
    x_after = plots.across(0.0, max(1.0, until - lost))
    after = _bands(outcome, x_after, until - lost)
    return [
        Plot(
            "orders", x, y_orders,
            (
                plots.curve("faint", counted(orders), x, y_orders),
                plots.curve("orders", counted(plots.smooth(orders, _OVER_S)), x, y_orders),
            ), bands,
        ),
        Plot(
            "views", x, y_views,
            (
                plots.curve("views", counted(plots.smooth(views, 3)), x, y_views),
                plots.curve("errors", counted(wrong), x, y_views, area=True),
            ), bands,
        ),
        Plot("back", x_after, y_back, (plots.stairs("back", back, x_after, y_back),), after),
        Plot("first", x_after, y_took, (plots.dots("first", took, x_after, y_took),), after),
    ]  # fmt: skip


def _bands(outcome: Outcome, x: plots.Axis, until: float) -> tuple[Band, ...]:
    """While the database was away, and while shops came home."""
    if "lost" not in outcome.log.at:
        return ()
    opened = outcome.log.since_loss("home_open")
    over = outcome.log.since_loss("all_home") or until
    spans = [("away", 0.0, over if opened is None else opened)]
    if opened is not None:
        spans.append(("returning", opened, over))
    return tuple(Band(kind, x.at(a), round(x.at(b) - x.at(a), 1)) for kind, a, b in spans)


def _figures(outcome: Outcome, found: Figures) -> list[tuple[str, str, str]]:
    """Name, and the figure in both languages."""
    merged = sum(outcome.end.merged.values()) if outcome.end else 0
    exceptions = outcome.end.exceptions if outcome.end else 0

    def span(value: float | None) -> tuple[str, str]:
        return seconds(value, "zh"), seconds(value, "en")

    def same(text: str) -> tuple[str, str]:
        return text, text

    rows = [
        ("server", span(outcome.log.since_loss("home_open"))),
        ("first_home", span(outcome.log.since_loss("first_home"))),
        ("merged", same(f"{found.away_kept:,} / {found.away_orders:,}")),
        ("excepted", same(f"{found.away_excepted:,}")),
        ("deeds", same(f"{merged:,} / {exceptions:,}")),
        ("first_visit", same(f"p50 {_ms(found.first_visit_p50_s)}, p99 {_ms(found.first_visit_p99_s)}")),
        ("page_before", same(f"p50 {_ms(found.view_p50_s)}, p99 {_ms(found.view_p99_s)}")),
        ("pages", same(f"{found.views:,}")),
        ("changes", same(f"{outcome.saved:,} / {outcome.refused:,}")),
        ("deleted", same(f"{outcome.deleted_rows:,}")),
    ]
    return [(name, *pair) for name, pair in rows]


def _peers(outcome: Outcome, found: Figures, judged: list[Claim]) -> list[tuple[bool, tuple[tuple[str, str], ...]]]:
    """The table beside other losses; whether a row is ours, and its cells in both languages."""
    seen = {one.name: one.seen for one in judged}
    lost = seen.get("lost", {}).get("lost", "–")
    all_home = outcome.log.since_loss("all_home")
    ours = (
        (f"本次重演：{outcome.wanted.shops} 家店铺", f"this replay: {outcome.wanted.shops} shops"),
        (f"{found.closed_minutes:.1f} 分钟", f"{found.closed_minutes:.1f} minutes"),
        (seconds(all_home, "zh"), seconds(all_home, "en")),
        (f"{lost} 单", f"{lost} orders"),
        (f"{found.away_orders:,} 单", f"{found.away_orders:,} orders"),
    )
    return [*((False, row) for row in PEERS), (True, ours)]


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value * 1e3:.0f} ms"
