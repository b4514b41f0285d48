"""A replay as it went, and which of its promises were kept. Pure."""

from __future__ import annotations

from collections import Counter

import msgspec

from ballast.demo import visits as of
from ballast.demo.killer import Killed
from ballast.demo.ledger import AnyPromise, Compared, Ordered, compare
from ballast.demo.proof import AtTheEnd, Standing
from ballast.demo.undoing import Undone
from ballast.demo.visits import Visit, Window
from ballast.demo.wanted import Victim, Wanted
from ballast.demo.watching import Log

GRACE_S = 1.0
"""So long after the loss a shopper may meet an error."""
FIRST_ORDER_S, ALL_HOME_S = 1.0, 60.0
SHOPS_IN_TIME = 300
"""`ALL_HOME_S` is promised for so many shops."""
PACE = 0.95
"""Of what was served before the loss, at least so much."""
_MOST_SAMPLES = 8
KILL_GRACE_S = 2.0
"""After a process that answers shoppers was killed, beside the time until it is back."""


class Drilled(msgspec.Struct, frozen=True):
    """Every shop restored from the record on a server of its own, and held beside the database."""

    equal: bool
    shops: int = 0
    rows: int = 0
    tables: int = 0
    differences: int = 0
    why: str = ""
    """What differs, or why it could not be looked at."""


class Claim(msgspec.Struct, frozen=True):
    """One promise. `kept` None: not judged in this run, with the reason in `seen`."""

    name: str
    kept: bool | None
    seen: dict[str, object]
    """What was seen, for the text of this name."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured."""

    before: Window
    incident: Window
    """From the loss until all were home, or until nobody waited any more."""
    orders_before: float
    """A second."""
    orders_during: float
    views_before: float
    views_during: float
    views: int
    """Pages that were shown, in all."""
    errors: int
    """After the grace."""
    errors_at_first: int
    """Within it."""
    error_samples: tuple[str, ...]
    merchant_errors: int
    closed_minutes: float
    """Of all shops together."""
    closed_shops: int
    away_orders: int
    """Acknowledged while the shop's database was away."""
    away_kept: int
    """Of them: in the database now."""
    away_excepted: int
    first_order_s: float | None
    first_visits: tuple[tuple[float, float], ...]
    """Of each shop after the loss: seconds since the loss, and what it took."""
    first_visit_p50_s: float | None
    first_visit_p99_s: float | None
    view_p50_s: float | None
    view_p99_s: float | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    wanted: Wanted
    started_at: float
    took_s: float
    log: Log
    visits: tuple[Visit, ...]
    promises: tuple[AnyPromise, ...]
    ids: dict[str, str]
    """Slug to the shop's id."""
    before: Window
    until: float
    """When the last shopper had come."""
    gave_up: dict[str, int]
    saved: int
    refused: int
    """Merchants' changes that were saved; that could not be made just then."""
    deleted_rows: int
    killed: tuple[Killed, ...]
    not_up: tuple[Window, ...]
    """When the web face was not there."""
    stood: Standing
    """Before the loss."""
    end: AtTheEnd | None
    """None: the database could not be asked."""
    end_problem: str
    drilled: Drilled
    hit: int = 0
    """Shops whose data was changed."""
    changed_rows: int = 0
    undone: Undone | None = None
    """None: nothing was changed."""


def excused(outcome: Outcome) -> list[Window]:
    """When shoppers had to meet errors, since somebody had killed the very process that answered them."""
    if not any(one.victim is Victim.WEB for one in outcome.killed):
        return []
    found = []
    for one in outcome.killed:
        if one.victim is Victim.WEB:
            down = [until for start, until in outcome.not_up if start - KILL_GRACE_S <= one.at <= until]
            found.append((one.at - 0.5, max([one.at, *down]) + KILL_GRACE_S))
    return of.merged(found)


def is_taken_after(one: Ordered, lost: float, afloat: float | None) -> bool:
    """Whether an order was taken after the loss: it was sent after it, or answered when home could not have answered any more."""
    return one.sent_at >= lost or (afloat is not None and one.at >= afloat)


def figures(outcome: Outcome) -> Figures:
    """Work them out."""
    log, seen = outcome.log, outcome.visits
    lost = outcome.until if log.begun is None else log.begun
    incident = (lost, log.at.get("all_home", log.at.get("reviewed", outcome.until)))
    without = excused(outcome)
    wrong = of.errors(seen, (lost, float("inf")), without)
    late = [one for one in wrong if one.sent_at > lost + GRACE_S or one.at > lost + GRACE_S]
    closed = of.closed(
        (one for one in seen if one.at >= lost + GRACE_S or one.good or one.at < lost), outcome.until, without
    )
    ordered = [one for one in outcome.promises if isinstance(one, Ordered)]
    away = [one for one in ordered if log.was_away(outcome.ids.get(one.shop, ""), one.at)]
    there = {one.order_id for one in outcome.end.orders} if outcome.end else set()
    excepted = outcome.end.excepted if outcome.end else frozenset()
    firsts = of.first_visits(seen, lost)
    took = [one.took_s for one in firsts]
    other = [one.took_s for one in seen if one.kind == "view" and one.done and outcome.before[0] <= one.at < lost]
    after = [one.at for one in ordered if is_taken_after(one, lost, log.at.get("afloat"))]
    return Figures(
        before=outcome.before,
        incident=incident,
        orders_before=of.rate(seen, "order", outcome.before),
        orders_during=of.rate(seen, "order", incident, without),
        views_before=of.rate(seen, "view", outcome.before),
        views_during=of.rate(seen, "view", incident, without),
        views=sum(1 for one in seen if one.kind == "view" and one.done),
        errors=len(late),
        errors_at_first=len(wrong) - len(late),
        error_samples=tuple(_samples(late)),
        merchant_errors=sum(1 for one in seen if one.kind == "merchant" and not one.good),
        closed_minutes=of.closed_minutes(closed),
        closed_shops=len(closed),
        away_orders=len(away),
        away_kept=sum(1 for one in away if one.order_id in there),
        away_excepted=sum(1 for one in away if one.order_id in excepted and one.order_id not in there),
        first_order_s=min(after) - lost if after else None,
        first_visits=tuple((one.sent_at - lost, one.took_s) for one in firsts),
        first_visit_p50_s=of.quantile(took, 0.5),
        first_visit_p99_s=of.quantile(took, 0.99),
        view_p50_s=of.quantile(other, 0.5),
        view_p99_s=of.quantile(other, 0.99),
    )


def compared(outcome: Outcome) -> Compared | None:
    """What became of the promises; None where the database could not be asked."""
    end = outcome.end
    return None if end is None else compare(outcome.promises, end.orders, end.excepted, end.codes)


def claims(outcome: Outcome, found: Figures, kept: Compared | None) -> list[Claim]:
    """Every promise. While somebody kills, what is about speed is shown and not judged."""
    wanted, killing = outcome.wanted, bool(outcome.killed or outcome.wanted.kill)
    judged = []
    if kept is None or outcome.end is None:
        judged.append(Claim("unasked", False, {"why": outcome.end_problem}))
    else:
        end = outcome.end
        wrong_money = kept.count("unpaid", "paid_twice") + len(end.unbooked)
        judged += [
            Claim(
                "lost",
                # Where nothing was acknowledged nothing is proven; while somebody kills, that may be so.
                None if killing and not kept.acknowledged else not kept.count("lost") and kept.acknowledged > 0,
                {"acknowledged": kept.acknowledged, "lost": kept.count("lost"), "excepted": kept.excepted},
            ),
            Claim("doubled", not kept.count("doubled"), {"doubled": kept.count("doubled"), "unheard": kept.unheard}),
            Claim("changed", not kept.count("changed"), {"changed": kept.count("changed")}),
            Claim("money", not wrong_money, {"paid": kept.paid, "wrong": wrong_money}),
            Claim("edits", not kept.count("edit_lost"), {"edited": kept.edited, "lost": kept.count("edit_lost")}),
            Claim(
                "books",
                not (end.stock_wrong or end.books_wrong),
                {"stock": end.stock_wrong, "books": end.books_wrong},
            ),
        ]
    drilled = outcome.drilled
    judged += [
        Claim(
            "closed", None if killing else found.closed_minutes == 0,
            {"minutes": found.closed_minutes, "shops": found.closed_shops},
        ),
        Claim("errors", None if killing else found.errors == 0, {"errors": found.errors, "first": found.errors_at_first}),
        _pace("views", found.views_before, found.views_during, killing=killing),
        _pace("orders", found.orders_before, found.orders_during, killing=killing),
        *(_undone(outcome) if wanted.how == "changes" else _back(outcome, found, killing=killing)),
        Claim(
            "equal", drilled.equal and drilled.shops >= wanted.shops,
            {"shops": drilled.shops, "rows": drilled.rows, "tables": drilled.tables, "why": drilled.why},
        ),
        _whole(outcome),
    ]  # fmt: skip
    return judged


def _back(outcome: Outcome, found: Figures, *, killing: bool) -> list[Claim]:
    all_home, first = outcome.log.since_loss("all_home"), found.first_order_s
    in_time = all_home is not None and (
        all_home <= ALL_HOME_S or killing or outcome.wanted.shops > SHOPS_IN_TIME
    )  # who is not home at all has broken it, whatever was killed
    in_a_second = None if killing else first is not None and first <= FIRST_ORDER_S
    return [
        Claim("first_order", in_a_second, {"seconds": first}),
        Claim("all_home", in_time, {"seconds": all_home, "shops": outcome.wanted.shops}),
    ]


def _undone(outcome: Outcome) -> list[Claim]:
    undone, end = outcome.undone or Undone(problem="nothing was changed"), outcome.end
    cheap = set(end.cheap) if end else set()
    missed = cheap - end.excepted if end else set()
    told = {
        "shops": outcome.hit, "changed": outcome.changed_rows, "rows": undone.rows, "why": undone.problem,
        "seconds": outcome.log.since_loss("undone"),
    }  # fmt: skip
    return [
        Claim("undone", not undone.problem and undone.tenants == outcome.hit > 0, told),
        Claim("reviewed", not missed and not undone.problem, {"cheap": len(cheap), "missed": len(missed)}),
    ]


def all_kept(judged: list[Claim]) -> bool:
    """Whether no promise was broken."""
    return all(claim.kept is not False for claim in judged)


def _whole(outcome: Outcome) -> Claim:
    now = outcome.end.standing if outcome.end else {}
    other = [shop for shop, stood in outcome.stood.items() if now.get(shop) != stood]
    rows = sum(count for tables in outcome.stood.values() for count, _ in tables.values())
    kept = bool(outcome.stood) and not other
    return Claim("whole", kept, {"shops": len(outcome.stood), "rows": rows, "other": len(other)})


def _pace(name: str, before: float, during: float, *, killing: bool) -> Claim:
    share = during / before if before else 0.0
    return Claim(name, None if killing else share >= PACE, {"before": before, "during": during, "share": share})


def _samples(wrong: list[Visit]) -> list[str]:
    """The commonest, with how often."""
    counts = Counter(one.what for one in wrong)
    return [f"{times} × {what}" for what, times in counts.most_common(_MOST_SAMPLES)]
