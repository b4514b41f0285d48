"""Replays that never ran: everything as it is to be, and changed for each test where it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from ballast.continuity.course import Course
from ballast.demo.ledger import Edited, Found, Numbered, Ordered, Paid
from ballast.demo.outcome import Drilled, Outcome
from ballast.demo.proof import AtTheEnd
from ballast.demo.undoing import Undone
from ballast.demo.visits import Visit
from ballast.demo.wanted import Wanted
from ballast.demo.watching import Log

LOST = 1_000_030.0
START, UNTIL = LOST - 30, LOST + 50
ALL_HOME = LOST + 40
SHOPS = ("tea", "wear", "books")


def an_id(number: int) -> str:
    return str(UUID(int=number))


def view(shop: str, sent_at: float, *, good: bool = True, took_s: float = 0.03, **changes: Any) -> Visit:
    what = "" if good else "GET /: HTTP 503"
    return Visit(shop, "view", sent_at, took_s, 200 if good else 503, good, good, what)._replace(**changes)


def ordered(number: int, at: float, shop: str = "tea") -> Ordered:
    lines = ((an_id(900 + number % 5), 1),)
    return Ordered(
        shop=shop,
        at=at,
        sent_at=at - 0.05,
        order_id=an_id(number),
        mark=f"replay-1-{number}",
        lines=lines,
        total_fen=990,
    )


def found(promise: Ordered, **changes: Any) -> Found:
    there = Found(
        order_id=promise.order_id, shop=promise.shop, number=f"{int(promise.order_id[-6:], 16):018}", mark=promise.mark,
        lines=promise.lines, total_fen=promise.total_fen, paid_fen=promise.total_fen, status="paid", payments=1,
    )  # fmt: skip
    return msgspec.structs.replace(there, **changes)


def course(**changes: Any) -> Course:
    return msgspec.structs.replace(Course(), **changes)


def a_log() -> Log:
    """Shops come home one after the other in the last second before all are."""
    log = Log()
    log.note("lost", LOST)
    log.note("first_order", LOST + 0.4)
    log.follow(course(number=1, mode="launching"), LOST + 0.2)
    log.follow(course(number=2, mode="afloat", lifeboat="host=boat"), LOST + 0.7)
    for at in range(len(SHOPS)):
        back = frozenset(an_id(n) for n in range(at + 1))
        log.follow(course(number=3, mode="returning", lifeboat="host=boat", back=back), ALL_HOME - 3 + at)
    log.follow(course(number=4), ALL_HOME)
    return log


def a_replay(**changes: Any) -> Outcome:
    """One in which every promise is kept: a page of each shop each second, an order each second."""
    seconds = range(int(UNTIL - START))
    visits = [view(shop, START + s + n / 10) for s in seconds for n, shop in enumerate(SHOPS)]
    promises: list[Any] = []
    for s in seconds:
        promise = ordered(s + 1, START + s + 0.55, SHOPS[s % 3])
        visits.append(view(promise.shop, promise.sent_at, kind="order", status=303))
        number = f"{int(promise.order_id[-6:], 16):018}"
        promises += [
            promise,
            Numbered(shop=promise.shop, at=promise.at, sent_at=promise.at, order_id=promise.order_id, number=number),
            Paid(shop=promise.shop, at=promise.at + 1, sent_at=promise.at, order_id=promise.order_id),
        ]
    promises.append(Edited(shop="tea", at=START, sent_at=START, sku_id=an_id(900), code="R-1"))
    stood = {an_id(n): {"category": (4, f"{n}")} for n in range(len(SHOPS))}
    end = AtTheEnd(
        orders=tuple(found(one) for one in promises if isinstance(one, Ordered)),
        codes={an_id(900): "R-1"}, excepted=frozenset(), exceptions=0, merged={"checkout": 39, "callback": 39},
        standing=dict(stood), stock_wrong=0, books_wrong=0, cheap=(), unbooked=(),
    )  # fmt: skip
    made = Outcome(
        wanted=Wanted(shops=len(SHOPS), report=Path("replay.html")), started_at=START - 60, took_s=150.0, log=a_log(),
        visits=tuple(visits), promises=tuple(promises), ids={shop: an_id(n) for n, shop in enumerate(SHOPS)},
        before=(START, LOST), until=UNTIL, gave_up={}, saved=1, refused=3, deleted_rows=12_345, killed=(), not_up=(),
        stood=stood, end=end, end_problem="",
        drilled=Drilled(True, shops=len(SHOPS), rows=1_000, tables=50),
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def undone(**changes: Any) -> Outcome:
    """One in which data was changed, and undone: an order that came in meanwhile is before its merchant."""
    log = Log()
    for moment, after_s in (("changed", 0.0), ("found", 7.0), ("undone", 10.0), ("reviewed", 12.0)):
        log.note(moment, LOST + after_s)  # type: ignore[arg-type]
    made = a_replay(
        wanted=Wanted(shops=len(SHOPS), how="changes", report=Path("replay.html")), log=log, hit=1, changed_rows=40,
        undone=Undone(("1/0/5F0A9C8",), 1, 39, 1, 1),
    )  # fmt: skip
    cheap = an_id(33)
    return msgspec.structs.replace(
        changed_end(made, cheap=(cheap,), excepted=frozenset({cheap}), exceptions=1), **changes
    )


def changed_end(outcome: Outcome, **changes: Any) -> Outcome:
    """The same with another end."""
    assert outcome.end is not None
    return msgspec.structs.replace(outcome, end=msgspec.structs.replace(outcome.end, **changes))
