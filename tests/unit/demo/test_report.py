"""The report: a page that needs nothing beside itself, in both languages; plots that show what they are given."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import msgspec
import pytest
from rich.console import Console

from ballast.demo.outcome import Drilled
from ballast.demo.report import plots
from ballast.demo.report.page import render
from ballast.demo.report.terminal import show
from ballast.demo.report.texts import PAGE
from ballast.demo.words import CLAIMS, MOMENTS
from tests.unit.demo.replayed import LOST, a_replay, changed_end, undone, view

GOOD = a_replay()


def test_the_page_stands_alone() -> None:
    page = render(GOOD)
    assert not re.search(r'(?:src|href)="|url\(|@import|<script|https?://', page)


def test_the_page_is_well_formed() -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "input", "rect", "line", "path", "circle"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in ("rect", "line", "path", "circle"):
                assert self.open.pop() == tag

    reader = Reader()
    reader.feed(render(GOOD))
    assert reader.open == []


def test_every_text_is_there_in_both_languages() -> None:
    page = render(GOOD)
    assert page.count('class="zh"') == page.count('class="en"') > 60
    for pair in (*PAGE.values(), *MOMENTS.values(), *(one[0] for one in CLAIMS.values())):
        assert all(pair), pair


def test_the_page_says_that_all_was_kept_or_what_was_not() -> None:
    assert PAGE["kept"][1] in render(GOOD)
    page = render(changed_end(GOOD, orders=GOOD.end.orders[1:]))  # type: ignore[union-attr]
    assert PAGE["kept"][1] not in page
    assert GOOD.end is not None
    assert GOOD.end.orders[0].order_id in page


def test_what_comes_from_outside_is_no_markup() -> None:
    page = render(msgspec.structs.replace(GOOD, drilled=Drilled(False, why="<b>x</b>")))
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_a_replay_without_a_loss_and_without_a_database_is_written_down_as_well() -> None:
    gone = a_replay(visits=(), promises=(), end=None, end_problem="refused", stood={}, drilled=Drilled(False))
    assert "refused" in render(gone)


def test_a_replay_in_which_data_was_changed_is_written_down_as_well() -> None:
    page = render(undone())
    assert MOMENTS["undone"][1] in page
    assert PAGE["card.cheap"][0] in page
    assert PAGE["card.first"][0] not in page
    written = io.StringIO()
    assert show(undone(), Console(file=written, width=200)) is True
    assert "40 rows of 1 shops were changed, 39 went back, after 10.00 s" in written.getvalue()


def test_the_terminal_tells_each_promise_and_gives_the_verdict() -> None:
    written = io.StringIO()
    assert show(GOOD, Console(file=written, width=200)) is True
    assert "every promise was kept" in written.getvalue()
    written = io.StringIO()
    wrong = msgspec.structs.replace(GOOD, visits=(*GOOD.visits, view("tea", LOST + 9, good=False)))
    assert show(wrong, Console(file=written, width=200)) is False
    assert "--seed 1" in written.getvalue()
    assert "1 × GET /: HTTP 503" in written.getvalue()


@pytest.mark.parametrize(("span", "step"), [(1.0, 0.2), (6.0, 1.0), (80.0, 20.0), (300.0, 50.0), (0.0, 1.0)])
def test_ticks_are_round_and_few(span: float, step: float) -> None:
    assert plots.step_of(span) == pytest.approx(step)


def test_values_are_drawn_between_the_ends() -> None:
    y = plots.upwards(300.0)
    assert y.at(0) == plots.HEIGHT - plots.BOTTOM
    assert y.at(300) == plots.TOP
    assert y.at(9_999) == plots.TOP
    log = plots.upwards(900.0, 30.0, log=True)
    assert [label for _, label in log.ticks()] == ["10", "100", "1000"]


def test_stairs_hold_their_value_until_the_next() -> None:
    x, y = plots.across(0.0, 10.0), plots.upwards(2.0)
    line = plots.stairs("back", [(0.0, 0.0), (5.0, 1.0), (10.0, 2.0)], x, y)
    assert line.path.count("L") == 6
    assert f"L{x.at(5):g} {y.at(0):g} L{x.at(5):g} {y.at(1):g}" in line.path
